//! Server processes under test: started in folders of their own, watched through /proc, ended by their id.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock;
use crate::driver::Endpoint;
use crate::measure::Watched;
use crate::process;

/// What a server says last before it serves.
const LISTENING: &str = "listening on ";

/// A running server. Dropping it ends the process, and so does the end of the thread that started it, however it
/// comes.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it said before it served.
    pub said: Vec<String>,
    /// From the start of the process until it listened.
    pub ready_after: Duration,
    _out: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts `program` with `arguments` and waits until it listens.
    pub fn start(program: &Path, arguments: &[String]) -> Result<Server> {
        Server::start_command(Command::new(program), program, arguments)
    }

    /// The same; what it logs is appended to a file.
    pub fn start_with_log(program: &Path, arguments: &[String], log: &Path) -> Result<Server> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.stderr(log);
        Server::start_command(command, program, arguments)
    }

    fn start_command(mut command: Command, program: &Path, arguments: &[String]) -> Result<Server> {
        let begun = clock::now_ns();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // SAFETY: between fork and exec only one system call is made, which allocates nothing.
        unsafe {
            command.pre_exec(|| {
                let kill = Some(Signal::KILL);
                rustix::process::set_parent_process_death_signal(kill).map_err(Into::into)
            });
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let out = child.stdout.take().context("the server's output")?;
        let mut lines = BufReader::new(out).lines();
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some(address) = line.strip_prefix(LISTENING) {
                let ready_after = Duration::from_nanos(clock::now_ns() - begun);
                let address = address.trim().parse().with_context(|| format!("in '{line}'"))?;
                return Ok(Server { child, address, said, ready_after, _out: lines });
            }
            said.push(line);
        }
        let status = child.wait()?;
        bail!("{} ended ({status}) before it served; it said:\n{}", program.display(), said.join("\n"))
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Memory of its own that is resident, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.status_bytes("RssAnon:")
    }

    /// The most that its resident memory was since [`Server::forget_peak`], its program's included, in bytes.
    pub fn resident_peak_bytes(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Its peak is what it has.
    pub fn forget_peak(&self) -> Result<()> {
        std::fs::write(self.proc("clear_refs"), "5").context("resetting the peak of its resident memory")
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib: u64 = line.with_context(|| format!("no {field}"))?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).context("process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop and waits. How long it took.
    pub fn stop(mut self) -> Result<Duration> {
        let begun = clock::now_ns();
        self.signal(Signal::TERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(Duration::from_nanos(clock::now_ns() - begun))
    }
}

impl Watched for Server {
    fn endpoint(&self) -> Endpoint {
        Endpoint::hedgerow(self.address)
    }

    fn cpu_ns(&self) -> Result<u64> {
        process::cpu_ns(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Which binary is the daemon's.
#[derive(Clone, Debug, clap::Args)]
pub struct DaemonBinary {
    /// The daemon's binary [default: hedgerowd beside this program]
    #[arg(long)]
    daemon: Option<PathBuf>,
}

impl DaemonBinary {
    /// Whether one was named.
    pub fn is_named(&self) -> bool {
        self.daemon.is_some()
    }

    /// The one that was named, or the one beside this program.
    pub fn path(&self) -> Result<PathBuf> {
        let path = match &self.daemon {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("hedgerowd"),
        };
        if !path.is_file() {
            bail!(
                "{} does not exist: build it (cargo build --release), or name it with --daemon",
                path.display()
            );
        }
        Ok(path)
    }
}

/// The daemon that is started, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct DaemonOptions {
    /// Its binary.
    #[command(flatten)]
    pub binary: DaemonBinary,
    /// More flags for the daemon
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_delimiter = ' ')]
    pub flags: Vec<String>,
}
