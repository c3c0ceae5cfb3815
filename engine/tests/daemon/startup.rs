//! Shards that cannot be used are named and set aside; with too few of them left a daemon does not start;
//! in no case is anything changed on them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hedgerow_client::messages::ShardState;
use hedgerow_client::{Client, Error};
use hedgerow_wire::checksum::crc32c;

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Setup, shard_stats};

const BLOCK: usize = 4096;
const LENGTHS: [usize; 4] = [10, 5000, 100_000, 3_000_000];

async fn store(client: &Client) {
    for len in LENGTHS {
        client.put(format!("{len}"), content(len as u64, len)).await.unwrap();
    }
}

async fn check(client: &Client, what: &str) {
    for len in LENGTHS {
        let read = client.get(format!("{len}")).await;
        let object = read.unwrap_or_else(|error| panic!("{what}: {len} bytes: {error}"));
        let object = object.unwrap_or_else(|| panic!("{what}: {len} bytes: gone"));
        assert_same(format!("{what}: {len} bytes"), &object.bytes, &content(len as u64, len));
    }
}

/// What can be wrong with a shard's file: what it is turned into, and what must be said of it.
type Spoiled = (&'static str, fn(&Path), &'static [&'static str]);

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Turns the file at `path` into one of `len` bytes that begins as it did, up to `kept` bytes.
fn beginning(path: &Path, kept: usize, len: u64) -> File {
    let mut bytes = vec![0; kept];
    open(path).read_exact_at(&mut bytes, 0).unwrap();
    fs::remove_file(path).unwrap();
    let file = open(path);
    file.write_all_at(&bytes, 0).unwrap();
    file.set_len(len).unwrap();
    file
}

fn change_superblocks(path: &Path, change: impl Fn(&mut [u8])) {
    let file = beginning(path, 1 << 20, 256 << 20);
    for copy in 0..3 {
        let mut block = vec![0; BLOCK];
        file.read_exact_at(&mut block, copy * BLOCK as u64).unwrap();
        change(&mut block);
        file.write_all_at(&block, copy * BLOCK as u64).unwrap();
    }
}

fn other_format(block: &mut [u8]) {
    if block.iter().all(|&byte| byte == 0) {
        return;
    }
    block[8..12].copy_from_slice(&2u32.to_le_bytes());
    block[12..16].fill(0);
    let checksum = crc32c(block);
    block[12..16].copy_from_slice(&checksum.to_le_bytes());
}

fn new_file(path: &Path, len: u64) -> File {
    fs::remove_file(path).unwrap();
    let file = open(path);
    file.set_len(len).unwrap();
    file
}

const SPOILED: &[Spoiled] = &[
    ("too small", |path| drop(new_file(path, 1 << 20)), &["too small", "1048576"]),
    ("tiny", |path| drop(new_file(path, 100)), &["too small"]),
    (
        "a folder",
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        &["cannot open it", "directory"],
    ),
    (
        "no file",
        |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/dev/null", path).unwrap();
        },
        &["neither a regular file nor a block device"],
    ),
    ("shorter than it was", |path| drop(beginning(path, 1 << 20, 200 << 20)), &["209715200", "268435456"]),
    (
        "without a whole superblock",
        |path| change_superblocks(path, |block| block[300] ^= 1),
        &["superblock", "checksum"],
    ),
    (
        "without a superblock's magic",
        |path| change_superblocks(path, |block| block[..8].fill(b'x')),
        &["not Hedgerow's"],
    ),
    ("of another format", |path| change_superblocks(path, other_format), &["format 2", "reads 1"]),
    (
        "a file system's",
        |path| new_file(path, 256 << 20).write_all_at(&[0x53, 0xef], 1080).unwrap(),
        &["not blank", "1080"],
    ),
    (
        "somebody's text",
        |path| new_file(path, 256 << 20).write_all_at(b"precious", 100_000).unwrap(),
        &["not blank", "100000"],
    ),
    (
        "another shard's",
        |path| {
            fs::remove_file(path).unwrap();
            let (other, file) = (open(&path.with_file_name("shard-4")), open(path));
            let mut bytes = vec![0; 1 << 20];
            other.read_exact_at(&mut bytes, 0).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            file.set_len(256 << 20).unwrap();
        },
        &["shard 4", "not 1"],
    ),
];

/// A file's beginning and length: what a daemon that looks at it must not change.
fn fingerprint(path: &Path) -> Option<(u64, u32)> {
    let meta = fs::metadata(path).unwrap();
    if !meta.is_file() {
        return None;
    }
    let mut bytes = vec![0; meta.len().min(1 << 20) as usize];
    File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    Some((meta.len(), crc32c(&bytes)))
}

async fn assert_set_aside(daemon: &Daemon, shard: u16, path: &Path, says: &[&str]) {
    let client = daemon.client().await;
    let stats = shard_stats(&client, shard).await;
    assert_eq!(stats.state, ShardState::SetAside);
    let line = daemon.said.iter().find(|line| line.contains("set aside")).unwrap();
    for text in says.iter().copied().chain([path.to_str().unwrap()]) {
        assert!(stats.reason.contains(text), "'{}' does not say '{text}'", stats.reason);
        assert!(line.contains(text), "'{line}' does not say '{text}'");
    }
}

#[tokio::test]
async fn a_shard_that_cannot_be_used_is_set_aside_and_left_alone() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    store(&daemon.client().await).await;
    daemon.stop();
    let (path, kept) = (setup.shard(1), setup.folder().join("kept"));
    for (what, spoil, says) in SPOILED {
        // The original stays what it is; what the daemon sees begins as a copy of it.
        fs::rename(&path, &kept).unwrap();
        let mut bytes = vec![0; 1 << 20];
        open(&kept).read_exact_at(&mut bytes, 0).unwrap();
        let copy = open(&path);
        copy.write_all_at(&bytes, 0).unwrap();
        copy.set_len(256 << 20).unwrap();
        spoil(&path);
        let before = fingerprint(&path);
        let daemon = setup.start();
        assert_set_aside(&daemon, 1, &path, says).await;
        let client = daemon.client().await;
        check(&client, what).await;
        store(&client).await;
        daemon.kill();
        assert_eq!(fingerprint(&path), before, "{what}: it was changed");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        fs::rename(&kept, &path).unwrap();
    }
    let daemon = setup.start();
    let client = daemon.client().await;
    assert!(!daemon.said("set aside"), "{:?}", daemon.said);
    check(&client, "put back").await;
}

#[tokio::test]
async fn with_too_few_shards_a_daemon_does_not_start_and_loses_nothing() {
    let setup = Setup::new("2+1").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    store(&client).await;
    daemon.stop();
    // The write quorum of 2+1 is two.
    for shard in [0, 2] {
        fs::rename(setup.shard(shard), setup.folder().join(format!("kept-{shard}"))).unwrap();
        let file = open(&setup.shard(shard));
        file.write_all_at(b"foreign", 0).unwrap();
        file.set_len(256 << 20).unwrap();
    }
    let failed = setup.try_start(&[]).err().expect("it does not start");
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    for text in ["only 1 of 3 shards", "2+1", "shard-0", "shard-2", "not Hedgerow's"] {
        assert!(failed.stderr.contains(text), "'{text}' is not in {}", failed.stderr);
    }
    for shard in [0, 2] {
        fs::rename(setup.folder().join(format!("kept-{shard}")), setup.shard(shard)).unwrap();
    }
    let daemon = setup.start();
    check(&daemon.client().await, "put back").await;
}

#[tokio::test]
async fn shards_of_another_daemon_or_another_code_are_refused() {
    let mut one = Setup::new("1+1");
    let daemon = one.start();
    daemon.client().await.put("of one", "one").await.unwrap();
    daemon.stop();
    let two = Setup::new("1+1");
    two.start().stop();
    fs::rename(two.shard(0), two.folder().join("kept")).unwrap();
    fs::copy(one.shard(0), two.shard(0)).unwrap();
    let daemon = two.start();
    assert_set_aside(&daemon, 0, &two.shard(0), &["belongs to daemon"]).await;
    // Half of the targets are not there to say that there is no such object.
    let of_one = daemon.client().await.get("of one").await;
    assert!(matches!(of_one, Ok(None) | Err(Error::Unavailable)), "{of_one:?}");
    daemon.kill();
    // The first one's id is gone: all of its shards are strangers.
    let id = one.data().join("daemon-id");
    fs::rename(&id, one.folder().join("id")).unwrap();
    let failed = one.try_start(&[]).err().expect("it does not start");
    assert!(failed.stderr.contains("belongs to daemon"), "{failed:?}");
    fs::write(&id, "0123").unwrap();
    let failed = one.try_start(&[]).err().expect("it does not start");
    assert!(failed.stderr.contains("daemon-id") && failed.stderr.contains("0123"), "{failed:?}");
    fs::rename(one.folder().join("id"), &id).unwrap();
    one.code = "2+0".parse().unwrap();
    let failed = one.try_start(&[]).err().expect("it does not start");
    assert!(failed.stderr.contains("formatted for 1 parity parts"), "{failed:?}");
    one.code = "1+1".parse().unwrap();
    let daemon = one.start();
    assert_eq!(daemon.client().await.get("of one").await.unwrap().unwrap().bytes, "one");
}

#[tokio::test]
async fn two_daemons_do_not_share_a_folder() {
    let setup = Setup::new("1+1");
    let mut daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", "first").await.unwrap();
    for _ in 0..3 {
        let failed = setup.try_start(&[]).err().expect("it does not start");
        assert_eq!(failed.status.code(), Some(1));
        assert!(failed.stderr.contains("another hedgerowd uses this folder"), "{failed:?}");
        assert!(failed.stderr.contains(setup.data().to_str().unwrap()), "{failed:?}");
    }
    assert!(daemon.alive());
    assert_eq!(client.get("object").await.unwrap().unwrap().bytes, "first");
    daemon.kill();
    // A lock dies with its process.
    let daemon = setup.start();
    assert_eq!(daemon.client().await.get("object").await.unwrap().unwrap().bytes, "first");
}
