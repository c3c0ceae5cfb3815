//! A real daemon in a temporary folder, and the tool to talk to it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The tool.
pub fn hedgerow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerow"));
    command.env_remove("HEDGEROW_SERVER").env_remove("HEDGEROWD").stdin(Stdio::null());
    command
}

/// The daemon's program, beside the tool. It belongs to another package, so cargo does not build it for
/// these tests.
pub fn hedgerowd() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_hedgerow")).parent().unwrap();
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

/// A running daemon; killed and its files removed when it is dropped.
pub struct Daemon {
    pub address: String,
    folder: TempDir,
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts one with a small code, and what `flags` add.
    pub fn start(flags: &[&str]) -> Daemon {
        Daemon::start_in(tempfile::tempdir().unwrap(), flags)
    }

    fn start_in(folder: TempDir, flags: &[&str]) -> Daemon {
        let mut child = Command::new(hedgerowd())
            .args(["--listen", "127.0.0.1:0", "--code", "2+1", "--shards", "3", "--shard-size", "256M"])
            .args(["--memory", "8M", "--cores", "1", "--data"])
            .arg(folder.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "hedgerowd ended before it listened");
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.trim().to_owned();
            }
        };
        Daemon { address, folder, child, _stdout: stdout }
    }

    /// Stops it cleanly; its files stay.
    pub fn stop(mut self) -> Stopped {
        signal(self.child.id(), "TERM");
        assert!(self.child.wait().unwrap().success());
        let empty = tempfile::tempdir().unwrap();
        Stopped { folder: std::mem::replace(&mut self.folder, empty) }
    }

    /// A shard's file.
    pub fn shard(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("shard-{number}"))
    }

    /// Runs the tool against this daemon.
    pub fn tool<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.tool_with(arguments, b"")
    }

    /// Runs the tool with `input` on its standard input.
    pub fn tool_with<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
        run(hedgerow().env("HEDGEROW_SERVER", &self.address).args(arguments), input)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files of a daemon that was stopped.
pub struct Stopped {
    folder: TempDir,
}

impl Stopped {
    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A shard's file.
    pub fn shard(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("shard-{number}"))
    }

    /// Starts the daemon again.
    pub fn start(self, flags: &[&str]) -> Daemon {
        Daemon::start_in(self.folder, flags)
    }
}

/// Sends a signal.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
    assert!(sent.unwrap().success());
}

/// What a run of the tool gave.
pub struct Ran {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    /// What it wrote, after it went well.
    pub fn done(self) -> Vec<u8> {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out.escape_ascii());
        self.out
    }

    /// The text that it wrote, after it went well.
    pub fn text(self) -> String {
        String::from_utf8(self.done()).unwrap()
    }

    /// The one JSON document that it wrote.
    pub fn json(self) -> Value {
        serde_json::from_slice(&self.done()).unwrap()
    }

    /// Checks how it failed: the exit code, and a part of what it said.
    #[track_caller]
    pub fn fails(&self, code: i32, message: &str) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert!(self.err.contains(message), "'{}' does not say '{message}'", self.err);
    }
}

/// Runs a command with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end without reading all of it.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Ran { code: status.code(), out: stdout, err: String::from_utf8(stderr).unwrap() }
}

/// `len` bytes that repeat nowhere.
pub fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut x = 0x9e37_79b9 ^ seed;
    let next = move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Reads all of a file.
pub fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
