//! A daemon of the demonstration's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::failure::Failure;
use crate::text;

/// Time that a daemon gets until it listens.
const START_MAX: Duration = Duration::from_secs(60);
/// Time that a killed daemon gets to be gone.
const END_MAX: Duration = Duration::from_secs(10);
/// How often it is looked after then.
const END_POLL: Duration = Duration::from_millis(2);

/// A running daemon; it is killed when this is dropped.
pub struct Daemon {
    /// Where it listens.
    pub address: String,
    child: Child,
    /// Kept open: what the daemon says later must have a place to go.
    _stdout: Option<BufReader<ChildStdout>>,
}

/// The daemon's program: what HEDGEROWD names, or the file beside this program.
pub fn program() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("HEDGEROWD") {
        return Ok(PathBuf::from(named));
    }
    let own = std::env::current_exe().map_err(|error| {
        Failure::local(format!("cannot find this program itself: {}", text::io_error(&error)))
    })?;
    let beside = own.with_file_name("hedgerowd");
    if beside.is_file() {
        return Ok(beside);
    }
    let message =
        format!("there is no {}: install hedgerowd there, or name it with HEDGEROWD", beside.display());
    Err(Failure::local(message))
}

impl Daemon {
    /// Starts `program` with its files in `folder` and waits until it listens.
    pub async fn start(program: &Path, folder: &Path, flags: &[&str]) -> Result<Daemon, Failure> {
        let log_path = folder.with_extension("log");
        let log = File::create(&log_path).map_err(|error| Failure::file("write", &log_path, &error))?;
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--allow-faults", "--data"])
            .arg(folder)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C at the terminal is for this program, which then ends the daemon.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::file("run", program, &error))?;
        let stdout = child.stdout.take().map(BufReader::new);
        let mut daemon = Daemon { address: String::new(), child, _stdout: stdout };
        match tokio::time::timeout(START_MAX, daemon.listening()).await {
            Ok(true) => Ok(daemon),
            Ok(false) => Err(did_not_start(program, &log_path)),
            Err(_) => Err(Failure::local(format!("{} did not listen in time", program.display()))),
        }
    }

    /// Reads until the line that says where it listens; false if it ends before.
    async fn listening(&mut self) -> bool {
        let Some(stdout) = &mut self._stdout else { return false };
        let mut lines = stdout.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(address) = line.strip_prefix("listening on ") {
                self.address = address.trim().to_owned();
                return true;
            }
        }
        false
    }
}

fn did_not_start(program: &Path, log: &Path) -> Failure {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let said = if said.trim().is_empty() { "it said nothing" } else { said.trim() };
    Failure::local(format!("{} did not start: {said}", program.display()))
}

impl Drop for Daemon {
    #[allow(clippy::disallowed_methods)] // nothing else can be done until the daemon is gone
    fn drop(&mut self) {
        // It may be gone already. Its folder is removed next, so it must not write there any more.
        let _ = self.child.start_kill();
        let polls = END_MAX.as_millis() / END_POLL.as_millis();
        for _ in 0..polls {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(END_POLL);
        }
    }
}
