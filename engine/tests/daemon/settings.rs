//! Settings that are wrong are named, with what would be right, before anything is touched.

use std::net::TcpListener;
use std::process::Command;

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Failed, Setup, counter, wait_complete};

/// Runs `hedgerowd` with these words; it must not come up.
fn fails(folder: &std::path::Path, words: &[&str]) -> Failed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerowd"));
    command.current_dir(folder).args(words);
    Daemon::launch(command, &folder.join("stderr")).err().unwrap_or_else(|| panic!("{words:?} were taken"))
}

#[test]
fn wrong_settings_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "code = \"4+2\"\nshard-sice = \"1G\"\n").unwrap();
    std::fs::write(folder.path().join("both.toml"), "shards = 6\nshard = [\"a\"]\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--code", "4"], &["--code = '4'", "4+2"]),
        (&["--code", "0+1"], &["--code = '0+1'"]),
        (&["--code", "200+56"], &["--code = '200+56'", "255"]),
        (&["--shards", "5"], &["--shards = '5'", "4+2"]),
        (&["--shards", "many"], &["--shards", "many"]),
        (&["--shard-size", "1M"], &["--shard-size = '1M'", "256M"]),
        (&["--shard-size", "big"], &["'big'", "512M"]),
        (&["--listen", "here"], &["--listen = 'here'", "127.0.0.1:7400"]),
        (&["--listen", "127.0.0.1:99999"], &["--listen", "99999"]),
        (&["--memory=-1"], &["--memory", "'-1'"]),
        (&["--memory", "100T"], &["--memory = '100T'", "this machine has", "for example"]),
        (&["--ack", "soon"], &["--ack = 'soon'", "written, synced or buffered"]),
        (&["--read-policy", "lucky"], &["--read-policy = 'lucky'", "hedged or all"]),
        (&["--cores", "9999"], &["--cores = '9999'"]),
        (&["--cores", "a-b"], &["--cores = 'a-b'"]),
        (&["--cores", "0,", "--coordinators", "1"], &["--coordinators = '1'", "fewer than the 1"]),
        (&["--min-part", "2M"], &["--min-part = '2M'", "16K"]),
        (&["--shard", "a", "--shard", "a"], &["--shard = 'a'", "twice"]),
        (&["--shard", "a", "--shard", "b"], &["--shard = 'a, b'", "at least so many"]),
        (&["--shard", "a", "--shards", "6"], &["--shard", "--shards", "cannot be used with"]),
        (&["--config", "both.toml"], &["both.toml", "'shards' and 'shard'"]),
        (&["--config", "missing.toml"], &["--config", "missing.toml", "cannot be read"]),
        (&["--config", "config.toml"], &["config.toml", "shard-sice"]),
        (&["--nonsense"], &["--nonsense"]),
    ];
    for (words, says) in cases {
        let failed = fails(folder.path(), words);
        assert_eq!(failed.status.code(), Some(2), "{words:?}: {failed:?}");
        for text in *says {
            assert!(failed.stderr.contains(text), "{words:?}: '{text}' is not in {}", failed.stderr);
        }
    }
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["both.toml", "config.toml", "stderr"]);
}

#[test]
fn an_address_that_cannot_be_listened_on_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // 192.0.2.0/24 is kept for documentation: no machine has an address of it.
    for (listen, says) in
        [(address.as_str(), "another process listens there"), ("192.0.2.1:7400", "ip address")]
    {
        let failed = fails(folder.path(), &["--code", "1+0", "--shards", "1", "--listen", listen]);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        for text in ["--listen", listen, says] {
            assert!(failed.stderr.contains(text), "'{text}' is not in {}", failed.stderr);
        }
    }
    assert!(!folder.path().join("hedgerow-data/shard-0").exists());
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    for data in ["file", "file/below", "/proc/nothing"] {
        let failed = fails(folder.path(), &["--data", data, "--listen", "127.0.0.1:0"]);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        assert!(failed.stderr.contains(data), "{failed:?}");
    }
}

/// There would be room for one of them.
#[test]
fn new_files_without_room_for_all_of_them_are_not_made() {
    let found = rustix::fs::statvfs(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let free_mib = (found.f_bavail * found.f_frsize) >> 20;
    let setup = Setup::new("1+1").shard_size(&format!("{}M", free_mib / 4 * 3));
    let failed = setup.try_start(&[]).err().expect("no room");
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    for text in ["shard-0", "shard-1", "free", "--shard-size", "--data"] {
        assert!(failed.stderr.contains(text), "'{text}' is not in {}", failed.stderr);
    }
    assert!(!setup.shard(0).exists() && !setup.shard(1).exists());
    setup.shard_size("256M").start().stop();
}

#[tokio::test]
async fn printed_settings_start_the_same_daemon() {
    let setup = Setup::new("1+1");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerowd"));
    let data = setup.data();
    command.args(["--print-config", "--code", "1+1", "--shards", "2", "--shard-size", "256M"]);
    command.args(["--listen", "127.0.0.1:0", "--memory", "1M", "--ack", "synced", "--data"]).arg(&data);
    let printed = command.output().unwrap();
    assert!(printed.status.success());
    assert!(!data.exists(), "printing makes nothing");
    let config = setup.folder().join("config.toml");
    std::fs::write(&config, &printed.stdout).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerowd"));
    command.arg("--config").arg(&config);
    let daemon = Daemon::launch(command, &setup.folder().join("stderr")).unwrap();
    assert!(daemon.said("code 1+1") && daemon.said("writes synced"), "{:?}", daemon.said);
    let client = daemon.client().await;
    client.put("object", "stored").await.unwrap();
    assert_eq!(client.get("object").await.unwrap().unwrap().bytes, "stored");
    daemon.stop();
}

#[tokio::test]
async fn indexes_are_made_for_small_objects_or_for_what_is_asked() {
    let setup = Setup::new("1+1");
    let shards = 2 * (256 << 20);
    let mut slots = Vec::new();
    // An index of another size is filled again from the devices, whatever the stop has left.
    for (mean, flags) in [(4352, &[][..]), (65_536, &["--mean-part", "64K"]), (4352, &[])] {
        let daemon = setup.try_start(flags).unwrap();
        assert!(daemon.said(&format!("indexes for parts of {mean} bytes")), "{:?}", daemon.said);
        let client = daemon.client().await;
        let found = counter(&client, "store_index_slots").await;
        assert!(found * 9 / 10 >= shards / mean, "{found} slots for parts of {mean} bytes");
        assert!(found * 9 / 10 <= shards / mean + 1024, "{found} slots for parts of {mean} bytes");
        if slots.is_empty() {
            client.put("object", "value").await.unwrap();
        }
        assert_eq!(client.get("object").await.unwrap().unwrap().bytes, "value");
        slots.push(found);
        daemon.stop();
    }
    assert!(slots[0] == slots[2] && slots[1] < slots[0] / 8, "{slots:?}");
}

#[tokio::test]
async fn a_port_can_be_taken_again_as_soon_as_its_daemon_has_ended() {
    let setup = Setup::new("1+0");
    let start = |listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerowd"));
        command.args([
            "--code",
            "1+0",
            "--shards",
            "1",
            "--shard-size",
            "256M",
            "--listen",
            listen,
            "--data",
        ]);
        command.arg(setup.data());
        Daemon::launch(command, &setup.folder().join("stderr")).unwrap()
    };
    let first = start("127.0.0.1:0");
    let address = first.address.to_string();
    // Connections that are open at the end must not keep the port.
    let client = first.client().await;
    client.put("object", "stored").await.unwrap();
    first.stop();
    let second = start(&address);
    assert_eq!(second.client().await.get("object").await.unwrap().unwrap().bytes, "stored");
    second.stop();
}

#[tokio::test]
async fn shards_are_added_one_at_a_time() {
    const LENGTHS: [usize; 4] = [10, 40_000, 300_000, 2_500_000];
    let setup = Setup::with_shards("2+2".parse().unwrap(), 6);
    let start = |shards: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerowd"));
        command.args([
            "--code",
            "2+2",
            "--shards",
            shards,
            "--shard-size",
            "256M",
            "--listen",
            "127.0.0.1:0",
        ]);
        command.args(["--memory", "0", "--cores", "1", "--data"]).arg(setup.data());
        Daemon::launch(command, &setup.folder().join("stderr"))
    };
    let object = |number: usize| content(number as u64, LENGTHS[number % LENGTHS.len()]);
    let daemon = start("4").unwrap();
    let client = daemon.client().await;
    for number in 0..40 {
        client.put(format!("{number}"), object(number)).await.unwrap();
    }
    for number in 0..40 {
        wait_complete(&client, &format!("{number}")).await;
    }
    daemon.stop();

    let failed = start("6").err().unwrap_or_else(|| panic!("two at once were taken"));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    for text in ["6 shards, and 4 at the last start", "2+2", "Start with 5 shards"] {
        assert!(failed.stderr.contains(text), "'{text}' is not in {}", failed.stderr);
    }
    assert!(!setup.shard(4).exists(), "nothing is made");

    for (shards, before) in [("5", 4), ("6", 5), ("5", 6)] {
        let daemon = start(shards).unwrap();
        let warning = format!("warning: {shards} shards, and {before} at the last start");
        assert!(daemon.said(&warning), "{:?}", daemon.said);
        let client = daemon.client().await;
        for number in 0..40 {
            let found = client.get(format!("{number}")).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("{shards} shards: {number} is gone"));
            assert_same(format!("{shards} shards: {number}"), &found.bytes, &object(number));
        }
        for number in 0..40 {
            wait_complete(&client, &format!("{number}")).await;
        }
        daemon.stop();
    }
    let daemon = start("5").unwrap();
    assert!(!daemon.said("at the last start"), "{:?}", daemon.said);
    daemon.stop();
}
