//! `hedgerow-perf` as a person runs it, against real servers: the daemon, and the peers that are installed.
#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The daemon's program, beside this one. It belongs to another package, so cargo does not build it for
/// these tests.
fn hedgerowd() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_hedgerow-perf")).parent().unwrap();
        let program = folder.join("hedgerowd");
        if !program.exists() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "-p", "hedgerow-engine", "--bin", "hedgerowd"]);
            if folder.file_name() == Some(OsStr::new("release")) {
                build.arg("--release");
            }
            assert!(build.status().unwrap().success(), "hedgerowd cannot be built");
        }
        program
    })
}

fn perf(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_hedgerow-perf")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}:\n{said}");
    output
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no JSON in {text}"));
    serde_json::from_str(line).unwrap()
}

/// Arguments that start a small daemon with its data in a folder.
fn daemon(folder: &Path) -> Vec<String> {
    let (folder, program) = (folder.display().to_string(), hedgerowd().display().to_string());
    ["--folder", &folder, "--daemon", &program, "--flags=--shard-size 256M --memory 16M", "--quiet", "--json"]
        .map(str::to_owned)
        .to_vec()
}

/// O_DIRECT is not there on every file system: the target folder has it.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn class<'a>(record: &'a Value, name: &str) -> &'a Value {
    let classes = record["outcome"]["classes"].as_array().unwrap();
    classes.iter().find(|class| class["class"] == name).unwrap_or_else(|| panic!("no {name} in {record}"))
}

#[test]
fn a_mix_against_a_daemon() {
    let folder = folder();
    let left = folder.path().join("left");
    let (out, hgrm) = (left.display().to_string(), folder.path().join("x.hgrm").display().to_string());
    let own = daemon(folder.path());
    let mut arguments: Vec<&str> = vec!["run"];
    arguments.extend(own.iter().map(String::as_str));
    arguments.extend(["--name", "mix", "--out", &out, "--hgrm", &hgrm, "--seconds", "1", "--warmup", "0"]);
    arguments.extend([
        "--preload",
        "--objects",
        "200",
        "--size",
        "4096:3,70000:1",
        "--check",
        "all",
        "--fill",
    ]);
    arguments.extend(["--mix", "get=6,range=2,put=1,delete=1", "--popularity", "zipf:0.9", "--rate", "500"]);
    arguments.extend(["--threads", "2", "--connections", "4"]);
    let record = json(&perf(&arguments));
    for name in ["get", "range", "put", "delete"] {
        let class = class(&record, name);
        assert!(class["ok"].as_u64().unwrap() > 0, "{class}");
        assert_eq!(class["wrong"], 0, "{class}");
    }
    assert!(std::fs::read_to_string(hgrm).unwrap().contains("#[Max"));
    // What was left makes a page.
    perf(&["report", &out]);
    let page = std::fs::read_to_string(left.join("report.html")).unwrap();
    assert!(page.contains("mix, 500/s") && page.contains("<svg"), "{page}");
}

#[test]
fn a_trace_against_a_daemon() {
    let folder = folder();
    let own = daemon(folder.path());
    let mut arguments: Vec<&str> = vec!["run", "--trace", "meta-storage-blocks", "--requests", "12"];
    arguments.extend(["--check", "all", "--deadline-ms", "30000", "--connections", "2", "--depth", "2"]);
    arguments.extend(own.iter().map(String::as_str));
    let record = json(&perf(&arguments));
    let classes = record["outcome"]["classes"].as_array().unwrap();
    let asked: Vec<&Value> = classes.iter().filter(|class| class["class"] != "fill").collect();
    let ok: u64 = asked.iter().map(|class| class["ok"].as_u64().unwrap()).sum();
    assert_eq!(ok, 12, "{record}");
    assert!(classes.iter().all(|class| class["wrong"] == 0), "{record}");
}

/// Peers that are installed, each by itself: that it starts, takes objects, and answers with them.
#[test]
fn peers_that_are_installed() {
    let folder = folder();
    for (peer, program) in [
        ("memcached", "memcached"),
        ("memcached-extstore", "memcached"),
        ("redis", "redis-server"),
        ("nginx", "nginx"),
    ] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            println!("skipped: {peer} is not installed");
            continue;
        }
        let place = folder.path().display().to_string();
        let figure = if peer == "memcached-extstore" { "device" } else { "memory" };
        let mut arguments = vec!["compare", "--peer", peer, "--figure", figure, "--size", "65536"];
        arguments.extend(["--rounds", "1", "--seconds", "0.2", "--sweep", "2x1,2x2", "--memory-mib", "64"]);
        arguments.extend(["--flash-mib", "1536", "--json", "--folder", &place]);
        let record = json(&perf(&arguments));
        let found = &record["peers"][0];
        assert_eq!(found["peer"], peer);
        assert!(found["per_second"]["median"].as_f64().unwrap() > 0.0, "{found}");
        assert_eq!(found["rounds"][0]["failed"].as_u64(), Some(0), "{peer}: {found}");
    }
}

/// Two systems with a healthy and a slow shard, a cold start and a failing shard: that faults strike, that no
/// byte is wrong, and that everything is left.
#[test]
fn scenarios_of_two_systems() {
    let folder = folder();
    let left = folder.path().join("left");
    let (out, place) = (left.display().to_string(), folder.path().display().to_string());
    let program = hedgerowd().display().to_string();
    let mut arguments = vec!["scenarios", "--quick", "--json", "--out", &out, "--folder", &place];
    arguments.extend(["--daemon", &program, "--system", "4+2 hedged", "--system", "k-of-k"]);
    arguments.extend([
        "--scenario",
        "delay 50 ms",
        "--scenario",
        "failing shard",
        "--scenario",
        "cold start",
    ]);
    arguments.extend(["--seconds", "2", "--rate", "100", "--objects", "64", "--memory-share", "0"]);
    let record = json(&perf(&arguments));
    let cells = record["cells"].as_array().unwrap();
    let names: Vec<(&str, &str)> = cells
        .iter()
        .map(|cell| (cell["system"].as_str().unwrap(), cell["scenario"].as_str().unwrap()))
        .collect();
    let scenarios = ["healthy", "delay 50 ms", "failing shard", "cold start"];
    let expected = ["4+2 hedged", "k-of-k"].map(|system| scenarios.map(|scenario| (system, scenario)));
    assert_eq!(names, expected.concat());
    for cell in cells {
        let faulty = cell["scenario"] == "delay 50 ms" || cell["scenario"] == "failing shard";
        assert_eq!(cell["fault_hits"].as_u64().unwrap() > 0, faulty, "{cell}");
        assert!(cell["answered"].as_u64().unwrap() > 0 && cell["part_reads"].as_u64().unwrap() > 0, "{cell}");
        assert_eq!((&cell["wrong"], &cell["missed"]), (&Value::from(0), &Value::from(0)), "{cell}");
        assert_eq!(cell["ready_after_ms"].is_f64(), cell["scenario"] == "cold start", "{cell}");
        assert_eq!(cell["bare"].is_object(), cell["scenario"] == "healthy", "{cell}");
        if cell["system"] == "k-of-k" {
            assert_eq!((&cell["hedges"], cell["code"].as_str()), (&Value::from(0), Some("4+0")), "{cell}");
        }
    }
    // Without a spare, what a failing shard has is not there.
    assert!(cells[6]["errors"].as_u64().unwrap() > 0, "{}", cells[6]);
    assert_eq!(std::fs::read_dir(&left).unwrap().count(), cells.len());
    perf(&["report", &out]);
    let page = std::fs::read_to_string(left.join("report.html")).unwrap();
    assert!(page.contains("Tail by scenario") && page.contains("failing shard"), "{page}");
}

/// Clients that mean no good, some hundred of each kind: the daemon's memory stays within what its limits allow, and a
/// client that behaves is served.
#[test]
fn hostile_clients_are_bounded() {
    let folder = folder();
    let (place, program) = (folder.path().display().to_string(), hedgerowd().display().to_string());
    let mut arguments = vec!["hostile", "--json", "--folder", &place, "--daemon", &program];
    arguments.extend(["--connections", "300", "--announced", "200", "--bodies", "20", "--readers", "30"]);
    arguments.extend(["--seconds", "1", "--rate", "50"]);
    let record = json(&perf(&arguments));
    let found = record["hostile"].as_array().unwrap();
    let held: Vec<u64> = found.iter().map(|found| found["held"].as_u64().unwrap()).collect();
    assert_eq!(held, [300, 200, 20, 30], "{record}");
    for found in found {
        assert!(found["peak_bytes"].as_u64() <= found["bound_bytes"].as_u64(), "{found}");
        let (answered, ok) = (found["beside"]["answered"].as_u64(), found["beside"]["ok"].as_u64());
        assert!(ok > Some(0) && ok == answered, "{found}");
    }
}

/// Arguments of a short chaos run, without a file system to mount.
fn chaos(folder: &Path, arguments: &[&str]) -> Output {
    let (place, program) = (folder.display().to_string(), hedgerowd().display().to_string());
    Command::new(env!("CARGO_BIN_EXE_hedgerow-perf"))
        .args(["chaos", "--no-mount", "--json", "--folder", &place, "--daemon", &program])
        .args(arguments)
        .output()
        .unwrap()
}

/// All kinds of harm once, in about twenty seconds.
#[test]
fn a_short_chaos_run_keeps_every_promise() {
    let folder = folder();
    let output = chaos(folder.path(), &["--minutes", "0.3", "--tolerate-late"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let found = json(&output);
    assert_eq!(found["violations"], serde_json::json!({}), "{found}");
    assert!(
        found["requests"].as_u64().unwrap() > 1000 && found["fault_hits"].as_u64().unwrap() > 0,
        "{found}"
    );
    for fault in found["faults"].as_array().unwrap() {
        let skipped = fault["fault"] == "file system full";
        assert_eq!(fault["episodes"], u64::from(!skipped), "{fault}");
        assert_eq!(fault["skipped"].is_string(), skipped, "{fault}");
    }
}

/// A generator whose record is at odds with what happened must say so: else the run above shows nothing.
#[test]
fn a_chaos_run_notices_what_is_planted() {
    for (plant, noticed) in [
        ("wrong", "wrong bytes"),
        ("old", "older than acknowledged"),
        ("lost", "acknowledged and lost"),
        ("late", "late answers"),
    ] {
        let folder = folder();
        // One delayed shard is all the harm that is done.
        let output = chaos(folder.path(), &["--minutes", "0.1", "--only", "3", "--plant", plant]);
        assert!(!output.status.success(), "{plant} went unnoticed");
        let found = json(&output);
        let violations = found["violations"].as_object().unwrap();
        assert!(violations.keys().any(|name| name.contains(noticed)), "{plant}: {found}");
    }
}
