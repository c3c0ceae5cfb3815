//! Daemons as processes: started on a folder, spoken to, stopped, killed, started again.

use std::fmt::Display;
use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use hedgerow_client::messages::{
    Fault, FaultKind, FaultPlace, FaultRequest, PartState, ShardState, ShardStats, StatAnswer, StatsAnswer,
};
use hedgerow_client::{Client, Code, Request};
use tempfile::TempDir;

/// Only a hang takes so long.
pub const BOUND: Duration = Duration::from_secs(60);

/// Shards (of 256 MiB, their blocks allocated) that all tests together may have at a time.
const SHARDS_AT_A_TIME: usize = 24;

static SHARDS_FREE: (Mutex<usize>, Condvar) = (Mutex::new(SHARDS_AT_A_TIME), Condvar::new());

/// The right to have so many shards.
struct Ticket(usize);

impl Ticket {
    fn take(shards: usize) -> Ticket {
        let (free, more) = &SHARDS_FREE;
        let guard = free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = more.wait_while(guard, |free| *free < shards).unwrap_or_else(PoisonError::into_inner);
        *guard -= shards;
        Ticket(shards)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (free, more) = &SHARDS_FREE;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        more.notify_all();
    }
}

/// A folder for a daemon, and the flags that it is started with.
pub struct Setup {
    folder: TempDir,
    pub code: Code,
    pub shards: usize,
    cores: String,
    memory: String,
    shard_size: String,
    extra: Vec<String>,
    starts: AtomicUsize,
    _ticket: Ticket,
}

impl Setup {
    /// A folder for a daemon of this code with as many shards as it has parts, 256 MiB each; one core,
    /// no memory tier, faults allowed.
    pub fn new(code: &str) -> Setup {
        let code: Code = code.parse().unwrap();
        Setup::with_shards(code, code.n())
    }

    pub fn with_shards(code: Code, shards: usize) -> Setup {
        let ticket = Ticket::take(shards);
        let mut folder =
            tempfile::Builder::new().prefix("daemon-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        folder.disable_cleanup(std::env::var_os("HEDGEROW_KEEP").is_some());
        Setup {
            folder,
            code,
            shards,
            cores: one_core(),
            memory: "0".to_owned(),
            shard_size: "256M".to_owned(),
            extra: vec!["--allow-faults".to_owned()],
            starts: AtomicUsize::new(0),
            _ticket: ticket,
        }
    }

    /// With a memory tier.
    pub fn memory(mut self, bytes: &str) -> Setup {
        self.memory = bytes.to_owned();
        self
    }

    /// On two cores, if the machine has them.
    pub fn two_cores(mut self) -> Setup {
        self.cores = if machine_cores() > 1 { "0,1".to_owned() } else { "0,".to_owned() };
        self
    }

    /// With shards of another size.
    pub fn shard_size(mut self, bytes: &str) -> Setup {
        self.shard_size = bytes.to_owned();
        self
    }

    /// With another flag, or another value of one.
    pub fn flag(mut self, flag: &str) -> Setup {
        self.extra.push(flag.to_owned());
        self
    }

    /// Without the permission to inject faults.
    pub fn no_faults(mut self) -> Setup {
        self.extra.retain(|flag| flag != "--allow-faults");
        self
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The file of a shard.
    pub fn shard(&self, number: usize) -> PathBuf {
        self.data().join(format!("shard-{number}"))
    }

    /// The snapshots of indexes that a clean stop has left.
    pub fn snapshots(&self) -> usize {
        (0..self.shards).filter(|number| self.data().join(format!("shard-{number}.index")).exists()).count()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerowd"));
        command.arg("--data").arg(self.data());
        command.args(["--code", &self.code.to_string(), "--shards", &self.shards.to_string()]);
        command.args(["--shard-size", &self.shard_size, "--listen", "127.0.0.1:0"]);
        command.args(["--cores", &self.cores, "--memory", &self.memory]);
        command.args(&self.extra);
        command
    }

    /// Starts a daemon; it listens when this returns.
    #[track_caller]
    pub fn start(&self) -> Daemon {
        self.try_start(&[]).unwrap_or_else(|failed| panic!("it does not start: {failed:?}"))
    }

    /// Starts a daemon with further flags; an error is what it said before it ended.
    pub fn try_start(&self, flags: &[&str]) -> Result<Daemon, Failed> {
        let mut command = self.command();
        command.args(flags);
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        Daemon::launch(command, &self.folder.path().join(format!("stderr-{number}")))
    }
}

/// How many cores there are.
pub fn machine_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One core by its number; another one each time, so that daemons do not sit on each other.
fn one_core() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{},", NEXT.fetch_add(1, Ordering::Relaxed) % machine_cores())
}

/// What a daemon that did not start has left.
#[derive(Debug)]
pub struct Failed {
    pub status: ExitStatus,
    pub stderr: String,
}

/// What the last line begins with that a daemon writes when it starts.
const LISTENING: &str = "listening on ";

/// The lines of a daemon's standard output, until it listens or has ended.
fn said_until_it_listens(child: &mut Child) -> Vec<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    // Ends with the process, or with the receiver.
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut said: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(BOUND) {
            Ok(line) => said.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return said,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it neither listens nor ends, and has said {said:?}");
            }
        }
        if said.last().is_some_and(|line| line.starts_with(LISTENING)) {
            return said;
        }
    }
}

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    /// The lines of its standard output until it listened.
    pub said: Vec<String>,
    stderr: PathBuf,
}

impl Daemon {
    /// Runs a command line that is to become a daemon.
    pub fn launch(mut command: Command, stderr: &Path) -> Result<Daemon, Failed> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(stderr).unwrap());
        // SAFETY: between fork and exec only one system call is made, which allocates nothing.
        unsafe {
            // A test that is interrupted leaves no daemons behind.
            command.pre_exec(|| {
                let kill = Some(rustix::process::Signal::KILL);
                rustix::process::set_parent_process_death_signal(kill).map_err(Into::into)
            });
        }
        let mut child = command.spawn().unwrap();
        let said = said_until_it_listens(&mut child);
        let address = said.last().and_then(|line| line.strip_prefix(LISTENING)).map(|at| at.parse().unwrap());
        match address {
            Some(address) => Ok(Daemon { child, address, said, stderr: stderr.to_owned() }),
            None => {
                let status = child.wait().unwrap();
                Err(Failed { status, stderr: std::fs::read_to_string(stderr).unwrap() })
            }
        }
    }

    /// A client with a deadline that only a hang reaches.
    pub async fn client(&self) -> Client {
        Client::builder().deadline(Duration::from_secs(50)).connect(self.address.to_string()).await.unwrap()
    }

    /// Whether a line of its output holds `text`.
    pub fn said(&self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < BOUND, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and waits for its end, which must be a clean one.
    #[track_caller]
    pub fn stop(self) {
        self.terminate();
        let log = self.stderr.clone();
        let status = self.wait();
        assert!(status.success(), "{status}: {}", std::fs::read_to_string(log).unwrap());
    }

    /// Its resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") << 10
    }

    /// The most that its resident memory ever was, in bytes.
    pub fn resident_peak_bytes(&self) -> u64 {
        self.status_kib("VmHWM:") << 10
    }

    fn status_kib(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("the daemon's last words:\n{}", tail.join("\n"));
        }
        // It may have ended already; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `check` gives something, polling it; panics when it does not within [`BOUND`].
#[track_caller]
pub fn eventually<T, F: Future<Output = Option<T>>>(
    what: impl Display,
    mut check: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        loop {
            if let Some(value) = check().await {
                return value;
            }
            assert!(begun.elapsed() < BOUND, "{place}: waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Injects a fault into every operation of a shard.
pub async fn inject(client: &Client, shard: u16, kind: FaultKind, duration: Duration) -> u64 {
    inject_at(client, FaultPlace::Shard(shard), kind, Fault::SHARE_ALL_PPM, duration).await
}

/// Injects a fault into a share of what is done in a place.
pub async fn inject_at(
    client: &Client,
    place: FaultPlace,
    kind: FaultKind,
    share_ppm: u32,
    duration: Duration,
) -> u64 {
    let fault = Fault { place, kind, share_ppm, duration_ms: duration.as_millis() as u32 };
    client.fault(&FaultRequest::Inject(fault)).await.unwrap().id
}

/// A stall until it ends by itself.
pub fn stall(duration: Duration) -> FaultKind {
    FaultKind::Stall { stall_ms: duration.as_millis() as u32 }
}

/// Ends all faults, and waits until what they have held back is over.
pub async fn heal(client: &Client) {
    client.fault(&FaultRequest::ClearAll).await.unwrap();
    eventually("all shards serve and no device operation is under way", || async {
        let stats = client.stats().await.unwrap();
        let idle = |shard: &ShardStats| shard.in_flight == 0 && shard.state == ShardState::Serving;
        stats.shards.iter().all(idle).then_some(())
    })
    .await;
}

/// A counter of the daemon.
pub async fn counter(client: &Client, name: &str) -> u64 {
    counter_of(&client.stats().await.unwrap(), name)
}

#[track_caller]
pub fn counter_of(stats: &StatsAnswer, name: &str) -> u64 {
    let found = stats.counters.iter().find(|counter| counter.name == name);
    found.unwrap_or_else(|| panic!("there is no counter {name}")).value
}

/// What the daemon says of a shard.
pub async fn shard_stats(client: &Client, shard: u16) -> ShardStats {
    let stats = client.stats().await.unwrap();
    stats.shards.into_iter().find(|stats| stats.shard == shard).unwrap()
}

/// Whether every part of every record of an object is where it belongs.
pub fn complete(stat: &StatAnswer) -> bool {
    stat.records.iter().all(|record| {
        record.parts.len() >= record.code.n() && record.parts.iter().all(|p| p.state == PartState::Present)
    })
}

/// Waits until every part of an object is where it belongs.
pub async fn wait_complete(client: &Client, key: &str) {
    wait_complete_by(client, &client.request(), key).await;
}

/// The same, with reads of this kind: what is missing is found by those that ask for it.
pub async fn wait_complete_by(client: &Client, reads: &Request, key: &str) {
    let mut last = None;
    let begun = Instant::now();
    while begun.elapsed() < BOUND {
        // A read finds what is missing.
        let _ = reads.get(key).await;
        match client.stat(key).await {
            Ok(Some(stat)) if complete(&stat) => return,
            other => last = Some(other),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{key} is never complete: {last:#?}");
}
