//! The tool against real daemons: what each command writes, and how it fails.

// A test that cannot go on fails where it stands.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use daemon::{Daemon, bytes, hedgerow, hedgerowd, read, run, signal};

#[test]
fn objects_come_and_go() {
    let daemon = Daemon::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cat.jpg");
    let content = bytes(100_000, 1);
    std::fs::write(&file, &content).unwrap();

    let put = daemon.tool(["put", "cat", file.to_str().unwrap()]).text();
    assert!(put.starts_with("cat: 97.7 KiB stored, version "), "{put}");
    assert_eq!(daemon.tool(["get", "cat"]).done(), content);

    let stat = daemon.tool(["stat", "cat", "--json"]).json();
    assert_eq!((stat["key"].as_str(), stat["object_len"].as_u64()), (Some("cat"), Some(100_000)));
    assert_eq!((stat["code"].as_str(), stat["kind"].as_str()), (Some("2+1"), Some("sole")));
    assert_eq!(stat["records"][0]["parts"].as_array().unwrap().len(), 3);
    let text = daemon.tool(["stat", "cat"]).text();
    for expected in [
        "key        cat\n",
        "100,000 bytes (97.7 KiB), 1 stripe",
        "2+1 (any 2 of 3 parts)",
        "never",
        "present",
    ] {
        assert!(text.contains(expected), "{text}");
    }

    let deleted = daemon.tool(["del", "cat"]).text();
    assert!(deleted.starts_with("cat: deleted, version "), "{deleted}");
    daemon.tool(["get", "cat"]).fails(1, "hedgerow: get cat: not found\n");
    daemon.tool(["stat", "cat"]).fails(1, "hedgerow: stat cat: not found\n");
    daemon.tool(["del", "cat"]).done();
}

#[test]
fn standard_input_and_ranges() {
    let daemon = Daemon::start(&[]);
    let content = bytes(3_500_000, 2);
    let put = daemon.tool_with(["put", "big", "-", "--json"], &content).json();
    assert_eq!(put["object_len"].as_u64(), Some(3_500_000));
    assert_eq!(daemon.tool(["get", "big"]).done(), content);
    for (range, expected) in [
        ("0-0", 0..1),
        ("0-99", 0..100),
        ("1048570-1048590", 1_048_570..1_048_591),
        ("3499990-", 3_499_990..3_500_000),
        ("3499990-9999999", 3_499_990..3_500_000),
        ("-17", 3_499_983..3_500_000),
        ("-9999999", 0..3_500_000),
    ] {
        let got = daemon.tool(["get", "big", "--range", range]).done();
        assert!(got == content[expected], "{range} gave {} bytes", got.len());
    }
    daemon.tool(["get", "big", "--range", "3500000-"]).fails(1, "which has 3500000 bytes");
    daemon.tool(["get", "big", "--range", "9-3"]).fails(2, "write 0-99, 100- or -100");
    daemon.tool(["get", "none", "--range", "-5"]).fails(1, "get none: not found");
    let stat = daemon.tool(["stat", "big"]).text();
    assert!(stat.contains("4 stripes") && stat.contains("head") && stat.contains("stripe 3"), "{stat}");

    daemon.tool_with(["put", "empty", "-"], b"").done();
    assert_eq!(daemon.tool(["get", "empty"]).done(), b"");
    assert_eq!(daemon.tool(["get", "empty", "--range", "-5"]).done(), b"");
}

#[test]
fn files_appear_when_they_are_whole() {
    let daemon = Daemon::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let content = bytes(200_000, 3);
    daemon.tool_with(["put", "k", "-"], &content).done();
    std::fs::write(&path, b"before").unwrap();
    daemon.tool(["get", "none", "-o", path.to_str().unwrap()]).fails(1, "not found");
    assert_eq!(read(&path), b"before");
    let got = daemon.tool(["get", "k", "-o", path.to_str().unwrap(), "--json"]).json();
    assert_eq!((got["object_len"].as_u64(), got["confirmed"].as_bool()), (Some(200_000), Some(true)));
    assert_eq!(read(&path), content);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    daemon.tool(["get", "k", "-o", "/dev/null"]).done();
    daemon
        .tool(["get", "k", "-o", "/nonexistent/out"])
        .fails(4, "cannot write /nonexistent/out: no such file");
    daemon.tool(["get", "k", "--json"]).fails(2, "-o FILE");
    daemon.tool(["put", "k", "/nonexistent"]).fails(4, "cannot read /nonexistent: no such file or directory");
    daemon.tool(["put", "k", "/"]).fails(4, "'hedgerow load' stores folders");
}

#[test]
fn conditions_and_odd_keys() {
    let daemon = Daemon::start(&[]);
    let first = daemon.tool_with(["put", "k", "-", "--if-absent", "--json"], b"one").json();
    let version = first["version"].as_str().unwrap();
    daemon
        .tool_with(["put", "k", "-", "--if-absent"], b"two")
        .fails(1, "put k: there is one already (version ");
    let second = daemon.tool_with(["put", "k", "-", "--if-version", version, "--json"], b"two").json();
    daemon
        .tool_with(["put", "k", "-", "--if-version", version], b"three")
        .fails(1, "the object's version is ");
    daemon.tool(["del", "k", "--if-version", version]).fails(1, "the object's version is ");
    assert_eq!(daemon.tool(["get", "k"]).done(), b"two");
    daemon.tool(["del", "k", "--if-version", second["version"].as_str().unwrap()]).done();
    daemon.tool_with(["put", "k", "-", "--if-version", "seven"], b"").fails(2, "'hedgerow stat' shows one");

    let key = std::ffi::OsStr::from_bytes(b"odd\xff\n");
    daemon.tool_with([std::ffi::OsStr::new("put"), key, "-".as_ref()], b"x").done();
    let stat = daemon.tool([std::ffi::OsStr::new("stat"), key, "--json".as_ref()]).json();
    assert_eq!((stat["key"].is_null(), stat["key_hex"].as_str()), (true, Some("6f6464ff0a")));
    daemon.tool(["get", ""]).fails(2, "a key has 1 to 1024 bytes, this one has 0");
    daemon.tool_with(["put", "ttl", "-", "--ttl", "1h", "--pinned", "--ack", "synced"], b"x").done();
    let stat = daemon.tool(["stat", "ttl", "--json"]).json();
    assert_eq!(stat["pinned"].as_bool(), Some(true));
    assert_eq!(stat["expires_ms"].as_u64().unwrap() - stat["created_ms"].as_u64().unwrap(), 3_600_000);
    // A namespace is another world.
    daemon.tool(["get", "ttl", "--namespace", "7"]).fails(1, "not found");
}

#[test]
fn a_folder_is_loaded() {
    let daemon = Daemon::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    for number in 0..40 {
        std::fs::write(root.join(format!("a/b/{number}")), bytes(number * 1000, number as u32)).unwrap();
    }
    let load = |extra: &[&str]| daemon.tool(["load", root.to_str().unwrap()].iter().chain(extra));
    let loaded = load(&["--prefix", "pre/", "--json"]).json();
    assert_eq!((loaded["files"].as_u64(), loaded["bytes"].as_u64()), (Some(40), Some(780_000)));
    for number in [0, 7, 39] {
        let got = daemon.tool(["get", &format!("pre/a/b/{number}")]).done();
        assert!(got == bytes(number * 1000, number as u32), "file {number}");
    }
    let text = load(&["--prefix", "pre/", "--if-absent"]).text();
    assert!(text.contains("0 files") && text.contains("40 left as they were"), "{text}");

    let large = std::fs::File::create(root.join("large")).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
    let failed = load(&[]);
    failed.fails(1, "load: 1 file not stored");
    assert!(failed.err.contains("large: larger than the limit of 67108864 bytes"), "{}", failed.err);
    assert!(String::from_utf8(failed.out).unwrap().starts_with("40 files (761.7 KiB) stored"));
    daemon.tool(["load", "/nonexistent"]).fails(4, "cannot read the folder /nonexistent: no such file");
}

#[test]
fn statistics_and_pings() {
    let daemon = Daemon::start(&[]);
    daemon.tool_with(["put", "k", "-"], &bytes(50_000, 4)).done();
    daemon.tool(["get", "k"]).done();
    let text = daemon.tool(["stats"]).text();
    for expected in ["hedgerowd ", "LATENCY", "SHARD", "serving", "COORDINATORS", "part writes"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(daemon.tool(["stats", "--all"]).text().lines().count() > text.lines().count());
    let stats = daemon.tool(["stats", "--json"]).json();
    assert_eq!(stats["shards"].as_array().unwrap().len(), 3);
    assert!(stats["counters"].as_array().unwrap().iter().any(|counter| counter["value"].as_u64() > Some(0)));

    let ping = daemon.tool(["ping", "--count", "5", "--json"]).json();
    assert_eq!((ping["pings"].as_u64(), ping["shards"].as_u64()), (Some(5), Some(3)));
    assert!(daemon.tool(["ping"]).text().contains(&format!("at {}, code 2+1: ", daemon.address)));
}

#[test]
fn faults_are_injected_listed_and_ended() {
    let daemon = Daemon::start(&["--allow-faults"]);
    assert_eq!(daemon.tool(["fault", "list"]).text(), "no fault is active\n");
    let inject =
        ["fault", "inject", "--shard", "1", "delay", "5ms", "--share", "50%", "--for", "5m", "--json"];
    let injected = daemon.tool(inject).json();
    let fault = &injected["faults"][0];
    assert_eq!((fault["fault"].as_str(), fault["delay_us"].as_u64()), (Some("delay"), Some(5_000)));
    assert_eq!((fault["shard"].as_u64(), fault["share_ppm"].as_u64()), (Some(1), Some(500_000)));
    daemon.tool(["fault", "inject", "--shard", "2", "damage"]).done();
    let list = daemon.tool(["fault", "list"]).text();
    assert!(list.contains("shard 1") && list.contains("delay 5 ms") && list.contains("50%"), "{list}");
    let id = injected["id"].as_u64().unwrap().to_string();
    assert!(!daemon.tool(["fault", "clear", &id]).text().contains("delay"));
    daemon.tool(["fault", "clear", &id]).fails(1, "there is no fault");
    assert_eq!(daemon.tool(["fault", "clear"]).text(), "no fault is active\n");

    daemon.tool(["fault", "inject", "--shard", "9", "error"]).fails(3, "there is no shard 9");
    let refused = |words: &str, why: &str| {
        daemon.tool(["fault", "inject"].into_iter().chain(words.split(' '))).fails(2, why);
    };
    refused("--shard 1 delay", "'delay' takes a time from 1us to 1m: for example '50ms'");
    refused("--shard 1 delay 2h", "1us to 1m");
    refused("--shard 1 delay 2ms 3ms", "1us to 1m");
    refused("--shard 1 delay-uniform 5ms 2ms", "the least and the most");
    refused("--shard 1 error 5ms", "'error' takes no amount");
    refused("--connections cut", "a number of bytes");
    refused("--connections full", "'full' does not strike connections");
    refused("--shard 1 cut 100", "'cut' does not strike shards");
    refused("--shard 1 fire", "invalid value 'fire'");
    refused("--shard 1 --connections error", "cannot be used with");
    refused("error", "required");
    refused("--peer localhost error", "invalid value 'localhost'");
    daemon.tool(["fault", "inject", "--shard", "1", "error", "--for", "1h"]).fails(2, "1ms to 10m");
    daemon.tool(["fault", "inject", "--shard", "1", "error", "--share", "0%"]).fails(2, "is no share");
}

/// What the table shows of a fault, and what JSON says of it beside its id, share, hits and time.
#[test]
fn faults_of_every_kind_are_shown() {
    let daemon = Daemon::start(&["--allow-faults"]);
    for (words, text, facts) in [
        (
            "--shard 1 delay-exponential 20ms",
            "delay-exponential 20 ms",
            json!({ "shard": 1, "delay_us": 20_000 }),
        ),
        (
            "--shard 1 delay-uniform 0 20ms",
            "delay-uniform 0 to 20 ms",
            json!({ "shard": 1, "min_us": 0, "max_us": 20_000 }),
        ),
        ("--shard 1 stall 2s", "stall 2 s", json!({ "shard": 1, "stall_ms": 2000 })),
        ("--shard 1 torn", "torn", json!({ "shard": 1 })),
        ("--shard 1 full", "full", json!({ "shard": 1 })),
        ("--connections vanish", "vanish", json!({ "connections": true })),
        ("--peer 192.0.2.1:0 damage", "damage", json!({ "peer": "192.0.2.1:0" })),
        ("--peer [::1]:80 cut 4096", "cut after 4.0 KiB", json!({ "peer": "[::1]:80", "after_bytes": 4096 })),
    ] {
        let arguments = || ["fault", "inject"].into_iter().chain(words.split(' '));
        let shown = daemon.tool(arguments()).text();
        assert!(shown.contains(text), "{words}: {shown}");
        daemon.tool(["fault", "clear"]).done();
        let shown = daemon.tool(arguments().chain(["--json"])).json();
        for (name, value) in facts.as_object().unwrap() {
            assert_eq!(&shown["faults"][0][name], value, "{words}: {shown}");
        }
        daemon.tool(["fault", "clear"]).done();
    }
}

#[test]
fn faults_must_be_allowed() {
    let daemon = Daemon::start(&[]);
    daemon.tool(["fault", "list"]).fails(3, "--allow-faults");
}

#[test]
fn damage_is_found_online_and_offline() {
    let daemon = Daemon::start(&[]);
    for number in 0..30 {
        daemon.tool_with(["put", &format!("object {number}"), "-"], &bytes(40_000, number)).done();
    }
    daemon.tool(["del", "object 3"]).done();
    let verified = daemon.tool(["verify"]).text();
    assert_eq!(verified.matches("nothing is damaged").count(), 3, "{verified}");
    let one = daemon.tool(["verify", "--shard", "1", "--json"]).json();
    assert_eq!((one["damaged"].as_u64(), one["shards"].as_array().unwrap().len()), (Some(0), 1));
    let fields = |found: &serde_json::Value| {
        let shard = &found["shards"][0];
        (shard["shard"].as_u64(), shard["path"].as_str().map(std::path::PathBuf::from))
    };
    assert_eq!(fields(&one), (Some(1), Some(daemon.shard(1))));
    daemon.tool(["verify", "--shard", "5"]).fails(2, "there is no shard 5");
    let shard = daemon.shard(0);
    let running = run(hedgerow().arg("verify").arg("--offline").arg(&shard), b"");
    running.fails(4, "a running daemon uses it");
    let text = run(hedgerow().arg("inspect").arg(&shard), b"").text();
    assert!(text.contains("in use by a running daemon"), "{text}");

    let stopped = daemon.stop();
    let shards: Vec<_> = (0..3).map(|number| stopped.shard(number)).collect();
    let verified = run(hedgerow().arg("verify").arg("--offline").args(&shards), b"").text();
    assert_eq!(verified.matches("nothing is damaged").count(), 3, "{verified}");
    let one = run(hedgerow().args(["verify", "--offline", "--json"]).arg(&shards[1]), b"").json();
    assert_eq!(fields(&one), (Some(1), Some(shards[1].clone())));
    the_pattern_for_all_shards_may_be_used(stopped.folder());

    let inspected = run(hedgerow().args(["inspect", "--parts", "--json"]).arg(&shards[0]), b"").json();
    assert_eq!(inspected["clean_stop"].as_bool(), Some(true));
    let parts = inspected["parts"].as_array().unwrap();
    let of = |key: &str| parts.iter().find(|part| part["key"] == key && part["kind"] == "sole").unwrap();
    let text = run(hedgerow().args(["inspect", "--parts"]).arg(&shards[0]), b"").text();
    assert!(text.contains("object 7") && text.contains("current") && !text.contains("damaged"), "{text}");

    let struck = [of("object 7"), of("object 9")];
    let place = |part: &serde_json::Value| {
        let slab = part["slab"].as_u64().unwrap();
        let slabs = inspected["slabs"].as_array().unwrap();
        let start = slabs.iter().find(|one| one["slab"].as_u64() == Some(slab)).unwrap();
        start["offset"].as_u64().unwrap() + part["offset"].as_u64().unwrap()
    };
    flip(&shards[0], place(struck[0]) + 1000);
    flip(&shards[0], place(struck[1]) + 60);
    let verified = run(hedgerow().arg("verify").arg("--offline").args(&shards), b"");
    verified.fails(1, "verify: damage in 2 places");
    let out = String::from_utf8(verified.out).unwrap();
    assert!(out.contains(" of object 7, version ") && out.contains("payload checksum"), "{out}");
    assert!(out.contains("part head checksum"), "{out}");

    let daemon = stopped.start(&[]);
    let verified = daemon.tool(["verify"]);
    verified.fails(1, "verify: damage in 2 places");
    assert_eq!(daemon.tool(["get", "object 7"]).done(), bytes(40_000, 7));
    assert_eq!(daemon.tool(["get", "object 9"]).done(), bytes(40_000, 9));
}

/// `shard-*` names the shards, and the snapshots that a clean stop leaves beside them.
fn the_pattern_for_all_shards_may_be_used(folder: &Path) {
    let named = |name: &std::ffi::OsStr| name.as_bytes().starts_with(b"shard-");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let (snapshots, shards): (Vec<_>, Vec<_>) = entries
        .filter(|entry| named(&entry.file_name()))
        .map(|entry| entry.path())
        .partition(|path| path.extension().is_some());
    assert_eq!((snapshots.len(), shards.len()), (3, 3));
    let ran = run(hedgerow().args(["verify", "--offline"]).args(&snapshots).args(&shards), b"");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.out.escape_ascii().to_string().matches("nothing is damaged").count(), 3);
    for path in &snapshots {
        let note = format!("hedgerow: {}: passed over, it is the index snapshot", path.display());
        assert!(ran.err.contains(&note), "{}", ran.err);
        run(hedgerow().arg("inspect").arg(path), b"").fails(4, "name the shard itself");
    }
    let ran = run(hedgerow().args(["verify", "--offline"]).args(&snapshots), b"");
    ran.fails(4, "none of these files is a shard");
}

fn flip(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn files_that_are_no_slab_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for (content, message) in
        [(vec![], "blank"), (vec![0; 1 << 20], "blank"), (bytes(1 << 20, 5), "not a slab file")]
    {
        std::fs::write(&path, content).unwrap();
        for command in [&["inspect"][..], &["verify", "--offline"]] {
            run(hedgerow().args(command).arg(&path), b"").fails(4, message);
        }
    }
    run(hedgerow().args(["inspect", "/nonexistent"]), b"").fails(4, "cannot read /nonexistent: no such file");
    run(hedgerow().args(["inspect", "/dev/zero"]), b"")
        .fails(4, "/dev/zero is neither a file nor a block device");
    run(hedgerow().args(["inspect", "/"]), b"").fails(4, "/ is a folder");
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = run(hedgerow().args(["ping", "--server", &address]), b"");
    let expected = format!(
        "hedgerow: cannot connect to {address}: connection refused (is hedgerowd running? start it with 'hedgerowd')\n"
    );
    assert_eq!((ran.code, ran.err), (Some(3), expected));
    run(hedgerow().args(["--server", "unix:/nonexistent", "ping"]), b"").fails(3, "unix:/nonexistent");
    // One that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ran = run(hedgerow().args(["ping", "--server", &address, "--deadline", "100ms"]), b"");
    ran.fails(3, "no answer within 100 ms");
}

#[test]
fn the_command_line_is_explained() {
    let help = run(hedgerow().arg("--help"), b"").text();
    let commands =
        ["put", "get", "del", "stat", "load", "stats", "fault", "ping", "inspect", "verify", "demo"];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let own = run(hedgerow().args([command, "--help"]), b"").text();
        assert!(own.contains(&format!("Usage: hedgerow {command}")), "{own}");
    }
    for expected in ["HEDGEROW_SERVER", "127.0.0.1:7400", "Exit codes:", "  3  the daemon cannot be reached"]
    {
        assert!(help.contains(expected), "{help}");
    }
    run(&mut hedgerow(), b"").fails(2, "Usage: hedgerow");
    run(hedgerow().arg("sing"), b"").fails(2, "unrecognized subcommand 'sing'");
    run(hedgerow().args(["ping", "--deadline", "5"]), b"").fails(2, "write for example 50ms");
    run(hedgerow().args(["ping", "--deadline", "2m"]), b"").fails(2, "at most 1 min");
    run(hedgerow().args(["verify", "--offline"]), b"").fails(2, "<FILE>");
    run(hedgerow().args(["verify", "shard-0"]), b"").fails(2, "--offline");
    run(hedgerow().args(["ping", "--server", "host:seven"]), b"").fails(2, "HOST:PORT");
    run(hedgerow().args(["put", "k", "-", "--ttl", "0s"]), b"").fails(2, "no time at all");
}

#[test]
fn a_closed_pipe_ends_the_tool_in_silence() {
    let daemon = Daemon::start(&[]);
    daemon.tool_with(["put", "big", "-"], &bytes(4 << 20, 6)).done();
    let mut get = hedgerow();
    get.env("HEDGEROW_SERVER", &daemon.address).args(["get", "big"]);
    let mut child = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(141), Vec::new()));
}

#[test]
fn a_signal_ends_a_put_that_waits_for_its_input() {
    let daemon = Daemon::start(&[]);
    let mut put = hedgerow();
    put.env("HEDGEROW_SERVER", &daemon.address).args(["put", "never", "-"]).stdin(Stdio::piped());
    let mut child = put.spawn().unwrap();
    // Held to the end: a wait would close it, and that is an end of the object.
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: once it is taken, the tool is reading.
    std::io::Write::write_all(&mut stdin, &bytes(1 << 20, 7)).unwrap();
    signal(child.id(), "TERM");
    let status = child.wait().unwrap();
    drop(stdin);
    // To a shell both are 143.
    assert!(status.code() == Some(143) || status.signal() == Some(15), "{status}");
    daemon.tool(["get", "never"]).fails(1, "not found");
}

#[test]
fn the_demonstration_runs_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = hedgerow();
    demo.env("HEDGEROWD", hedgerowd()).args([
        "demo",
        "--seconds",
        "1",
        "--rate",
        "50",
        "--objects",
        "60",
        "--json",
    ]);
    let report = run(demo.arg("--folder").arg(folder.path()), b"").json();
    let outcomes = report["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 6);
    for outcome in outcomes {
        assert_eq!(
            (outcome["reads"].as_u64(), outcome["wrong_bytes"].as_u64()),
            (Some(50), Some(0)),
            "{outcome}"
        );
        assert!(outcome["devices"] == "faulty" || outcome["misses"] == 0, "{outcome}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files are left");
    let missing = run(hedgerow().env("HEDGEROWD", "/nonexistent").arg("demo"), b"");
    missing.fails(4, "cannot run /nonexistent: no such file");
}

#[test]
fn an_interrupted_demonstration_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = hedgerow();
    demo.env("HEDGEROWD", hedgerowd()).args(["demo", "--folder"]).arg(folder.path());
    let mut child = demo.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    while entries() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(entries(), 0, "files are left");
}

#[test]
fn simulated_worlds_are_the_same_again() {
    let seed = || run(hedgerow().args(["sim", "--seed", "3", "--json"]), b"").json();
    let (first, second) = (seed(), seed());
    assert!(first["violation"].is_null(), "{first}");
    assert_eq!(first["trace_hash"].as_str().unwrap().len(), 16);
    assert_eq!(first, second);

    let many = run(hedgerow().args(["sim", "--seeds", "0..6", "--jobs", "2", "--json"]), b"").json();
    assert_eq!((many["worlds"].as_u64(), many["failed"].as_array().unwrap().len()), (Some(6), 0));
    assert!(many["amounts"]["part requests"].as_u64().unwrap() > 100, "{many}");
    run(hedgerow().args(["sim", "--seeds", "6..0"]), b"").fails(2, "is not FROM..TO");
}
