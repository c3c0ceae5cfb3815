//! A real daemon for the tests of a service: on files of its own, harmed on purpose, gone with the test. Needs the
//! crate's feature `testing`, and the program `hedgerowd` (see [`program`]).
//!
//! ```no_run
//! use hedgerow_client::messages::{Fault, FaultKind, FaultPlace};
//! use hedgerow_client::testing::Daemon;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut daemon = Daemon::builder().start()?;
//! let cache = daemon.client().await?;
//! cache.put("greeting", "hello").await?;
//!
//! // One of the three devices is slow, then every second answer is lost.
//! daemon.fault(Fault::new(FaultPlace::Shard(0), FaultKind::Delay { delay_us: 50_000 })).await?;
//! assert!(cache.get("greeting").await?.is_some());
//! let lost = Fault::new(FaultPlace::Connections, FaultKind::Vanish);
//! daemon.fault(Fault { share_ppm: 500_000, ..lost }).await?;
//! daemon.clear_faults().await?;
//!
//! // It dies and comes back; what was acknowledged is there.
//! daemon.kill()?;
//! daemon.restart()?;
//! assert!(cache.get("greeting").await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! [`Builder::start`] and [`Daemon::restart`] block the thread until the daemon serves, some tenths of a second.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hedgerow_wire::Code;
use hedgerow_wire::messages::{Fault, FaultRequest};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use crate::{Client, Result};

/// How long a daemon may take until it serves.
const START_MAX: Duration = Duration::from_secs(60);
/// What the line begins with that it writes then.
const LISTENING: &str = "listening on ";

/// The daemon's program: what the environment variable `HEDGEROWD` names, or `hedgerowd` beside this program (of a
/// test: in the target folder), or in `PATH`.
///
/// # Errors
/// There is none.
pub fn program() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDGEROWD") {
        return Ok(PathBuf::from(named));
    }
    let own = std::env::current_exe()?;
    // Cargo puts tests into a folder below that of programs.
    let beside = own.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside.chain(std::env::split_paths(&path)).map(|folder| folder.join("hedgerowd"));
    found.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        let message =
            "there is no hedgerowd beside this program or in PATH: build it, or name it with HEDGEROWD";
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// How a daemon is to be.
#[derive(Clone, Debug)]
pub struct Builder {
    program: Option<PathBuf>,
    folder: PathBuf,
    flags: Flags,
}

/// Flags of the daemon, and their values.
type Flags = BTreeMap<String, String>;

impl Builder {
    /// This program instead of the one that [`program`] finds.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Builder {
        self.program = Some(program.into());
        self
    }

    /// Its files are in a folder within this one, instead of the system's for temporary files. The file system must
    /// know `O_DIRECT`, which tmpfs does not before Linux 6.6.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.folder = folder.into();
        self
    }

    /// Another code than 2+1, and as many shards as it has parts.
    pub fn code(self, code: Code) -> Builder {
        self.flag("--code", code.to_string()).flag("--shards", code.n().to_string())
    }

    /// A flag of the daemon's command line, or another value of one: `--memory`, `64M`.
    pub fn flag(mut self, name: impl Into<String>, value: impl Into<String>) -> Builder {
        self.flags.insert(name.into(), value.into());
        self
    }

    /// Starts the daemon; it serves when this returns.
    ///
    /// # Errors
    /// There is no program or no room for its files, or it ends before it serves; the error has its last words.
    pub fn start(self) -> io::Result<Daemon> {
        let program = self.program.map_or_else(program, Ok)?;
        let folder = tempfile::Builder::new().prefix("hedgerow-").tempdir_in(self.folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut daemon = Daemon { child: None, address, program, flags: self.flags, folder };
        daemon.restart()?;
        Ok(daemon)
    }
}

/// A daemon. Dropping it kills the process and removes its files.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    address: SocketAddr,
    program: PathBuf,
    flags: Flags,
    folder: TempDir,
}

impl Daemon {
    /// A daemon with one core, a code of 2+1, three shards of 256 MiB and no memory tier, which allows faults.
    pub fn builder() -> Builder {
        let flags = [
            ("--allow-faults", "true"),
            ("--code", "2+1"),
            ("--shards", "3"),
            ("--shard-size", "256M"),
            ("--memory", "0"),
            ("--cores", "1"),
        ];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Builder { program: None, folder: std::env::temp_dir(), flags }
    }

    /// Where it listens: a port that the system has chosen. It is the same one after [`Daemon::restart`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of a shard, to be harmed.
    pub fn shard(&self, number: u16) -> PathBuf {
        self.folder.path().join(format!("data/shard-{number}"))
    }

    /// What it has logged.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(self.folder.path().join("log"))
    }

    /// A client of it.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(self.address.to_string()).await
    }

    /// Injects a fault; the number to clear it by.
    ///
    /// # Errors
    /// It cannot be reached, or has no such place.
    pub async fn fault(&self, fault: Fault) -> Result<u64> {
        Ok(self.client().await?.fault(&FaultRequest::Inject(fault)).await?.id)
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn clear_faults(&self) -> Result<()> {
        self.client().await?.fault(&FaultRequest::ClearAll).await.map(drop)
    }

    /// SIGKILL, as a crash would end it. Its files stay.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Starts it on its files again, after a SIGKILL if it runs.
    ///
    /// # Errors
    /// It ends before it serves; the error has its last words.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        let log = self.folder.path().join("log");
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = Command::new(&self.program)
            .args(["--listen", &self.address.to_string(), "--data"])
            .arg(self.folder.path().join("data"))
            .args(self.flags.iter().map(|(name, value)| format!("{name}={value}")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let listens = listening(&mut child);
        self.child = Some(child);
        self.address = match listens {
            Some(address) => address,
            None => {
                self.kill()?;
                let message = format!("{} did not start: {}", self.program.display(), self.log()?);
                return Err(io::Error::other(message));
            }
        };
        Ok(())
    }

    /// SIGSTOP: it stands still when this returns, and its connections with it.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&self) -> io::Result<()> {
        let pid = self.signal(Signal::STOP)?;
        // Seen only: whoever waits for its end is to see that too.
        let wanted = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), wanted).map(drop)?;
        Ok(())
    }

    /// SIGCONT: it goes on.
    ///
    /// # Errors
    /// It does not run.
    pub fn cont(&self) -> io::Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    fn signal(&self, signal: Signal) -> io::Result<Pid> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("the daemon does not run"))?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal)?;
        Ok(pid)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.kill();
    }
}

/// Where a daemon that was started listens; nothing if it ends before, or takes too long.
fn listening(child: &mut Child) -> Option<SocketAddr> {
    let lines = BufReader::new(child.stdout.take()?).lines();
    let (sender, said) = mpsc::channel();
    // Reads until the daemon ends: what it writes later must go somewhere.
    std::thread::spawn(move || {
        for line in lines.map_while(io::Result::ok) {
            let _ = sender.send(line);
        }
    });
    loop {
        let line = said.recv_timeout(START_MAX).ok()?;
        if let Some(address) = line.strip_prefix(LISTENING) {
            return address.trim().parse().ok();
        }
    }
}
