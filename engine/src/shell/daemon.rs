//! Starts a daemon's cores, opens its shards, listens, and stops it all again.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use glommio::channels::shared_channel::{self, SharedReceiver, SharedSender};
use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares};
use hedgerow_wire::Version;

use super::clock;
use super::core::{Core, Shared};
use super::device::{self, DeviceError};
use super::identity::{self, Identity, IdentityError};
use super::limits::{
    DEVICE_BUFFER_BYTES, DEVICE_BUFFER_BYTES_MIN, LISTEN_BACKLOG, MAILBOX_MESSAGES, MESSAGES_IN_A_ROW_MAX,
    SPIN_RUNTIME,
};
use super::message::Message;
pub use super::opening::OpenedShard;
use super::opening::{open_shard, target};
use super::serving;
use super::settings::Settings;
use super::shard_count::{self, ShardCountError};
use super::sizing;
use super::turns;
use crate::codec::Codec;
use crate::coordinator::{Config, Coordinator};
use crate::memory::MemoryTier;
use crate::ring::{Ring, TargetSpec};

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It had another number of shards.
    #[error(transparent)]
    ShardCount(#[from] ShardCountError),
    /// Its address cannot be listened on.
    #[error("--listen = '{address}': {source}{}", listen_hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Too few of its shards can be opened.
    #[error("only {opened} of {shards} shards can be opened, code {code} needs {need}:\n  {}", reasons.join("\n  "))]
    Shards {
        /// Shards that can be opened.
        opened: usize,
        /// Shards that there are.
        shards: usize,
        /// The code.
        code: String,
        /// Shards that are needed to read anything at all.
        need: usize,
        /// What is wrong with the others.
        reasons: Vec<String>,
    },
    /// The runtime refused.
    #[error("core {core} cannot be started: {message}")]
    Runtime {
        /// Which core.
        core: usize,
        /// Why.
        message: String,
    },
}

/// What to do about an address that cannot be listened on.
fn listen_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => ": another process listens there: stop it, or choose another port",
        ErrorKind::AddrNotAvailable => {
            ": it is none of this machine's addresses ('ip address' lists them; 0.0.0.0 is all of them)"
        }
        ErrorKind::PermissionDenied => {
            ": ports below 1024 need the right to bind them (CAP_NET_BIND_SERVICE): choose a higher one"
        }
        _ => "",
    }
}

/// A shard's report after the attempt to open it.
struct Opened {
    shard: usize,
    result: Result<OpenedShard, String>,
}

/// A running daemon.
pub struct Daemon {
    shared: Arc<Shared>,
    cores: Vec<ExecutorJoinHandle<()>>,
    /// What opening each shard found.
    pub shards: Vec<Result<OpenedShard, String>>,
    /// Shards at its last start, if there was one.
    pub shards_before: Option<usize>,
    /// The codec's kernel.
    pub kernel: &'static str,
    _identity: Identity,
}

/// Stops a daemon.
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Tells it to finish what is under way and stop.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }
}

/// Starts a daemon; it listens when this returns.
pub fn start(settings: Settings) -> Result<Daemon, StartError> {
    let identity = identity::take(&settings.data)?;
    let shards_before = shard_count::check(&settings.data, settings.shards.len(), settings.code)?;
    let address = settings.listen;
    let refused = |source| StartError::Listen { address, source };
    let listener = listen(address).map_err(refused)?;
    // It listens already; this makes its backlog longer.
    rustix::net::listen(&listener, LISTEN_BACKLOG).map_err(|errno| refused(errno.into()))?;
    let address = listener.local_addr().map_err(refused)?;
    let prepared = device::prepare_all(&settings.shards);
    let device_bytes = prepared.iter().flatten().sum();
    let shared = Arc::new(share(settings, identity.daemon_id, address, device_bytes));
    let (reports, opened) = mpsc::channel();
    let go = Arc::new(OnceLock::new());
    let cores = spawn_cores(&shared, prepared, &reports, &go, listener)?;
    drop(reports);
    let mut shards: Vec<Option<Result<OpenedShard, String>>> = vec![None; shared.settings.shards.len()];
    for Opened { shard, result } in opened {
        shards[shard] = Some(result);
    }
    let never = || Err("its core ended before it was opened".to_owned());
    let shards: Vec<_> = shards.into_iter().map(|shard| shard.unwrap_or_else(never)).collect();
    let kernel = Codec::new().kernel();
    let daemon = Daemon { kernel, cores, shards, shards_before, shared, _identity: identity };
    daemon.check_shards()?;
    let highest = daemon.shards.iter().flatten().map(|shard| shard.highest).max();
    // Nobody else sets it.
    let _ = go.set(highest.unwrap_or(Version::ZERO));
    Ok(daemon)
}

/// How long an address may be in use by a daemon that has ended: the system closes the sockets of its
/// rings some time after the process is gone.
const LISTEN_PATIENCE: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods)] // no core runs yet
fn listen(address: SocketAddr) -> std::io::Result<StdListener> {
    let until = clock::timestamp() + LISTEN_PATIENCE;
    loop {
        match StdListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && clock::timestamp() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

fn share(settings: Settings, daemon_id: u128, address: SocketAddr, device_bytes: u64) -> Shared {
    let cores = settings.cores.len();
    let coordinators = settings.coordinators;
    // Dedicated coordinator cores come first; shards are dealt to the others in turn.
    let shard_cores =
        (0..settings.shards.len()).map(|shard| coordinators + shard % (cores - coordinators)).collect();
    let coordinator_cores =
        if coordinators == 0 { (0..cores).collect() } else { (0..coordinators).collect() };
    Shared {
        domains: failure_domains(&settings),
        mean_part_bytes: settings
            .mean_part_bytes
            .unwrap_or_else(|| sizing::default_mean_part_bytes(device_bytes, sizing::machine_memory_bytes())),
        daemon_id,
        shard_cores,
        coordinator_cores,
        stopping: AtomicBool::new(false),
        started: clock::timestamp(),
        address,
        reasons: OnceLock::new(),
        connections: AtomicUsize::new(0),
        drained: AtomicUsize::new(0),
        settings,
    }
}

/// Shards on one device share a failure domain: numbers the devices.
fn failure_domains(settings: &Settings) -> Vec<u32> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let device_of = |path: &PathBuf| {
        let existing = path
            .ancestors()
            .find_map(|p| std::fs::metadata(if p.as_os_str().is_empty() { ".".as_ref() } else { p }).ok());
        existing.map_or(0, |meta| if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() })
    };
    let devices: Vec<u64> = settings.shards.iter().map(|(path, _)| device_of(path)).collect();
    let mut known = devices.clone();
    known.sort_unstable();
    known.dedup();
    devices.iter().map(|device| known.binary_search(device).unwrap_or(0) as u32).collect()
}

type Ends = (Vec<Option<SharedSender<Message>>>, Vec<Option<SharedReceiver<Message>>>);

/// The channels between all ordered pairs of cores: for each core its senders and receivers.
fn channels(cores: usize) -> Vec<Ends> {
    let mut ends: Vec<Ends> = (0..cores)
        .map(|_| ((0..cores).map(|_| None).collect(), (0..cores).map(|_| None).collect()))
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (sender, receiver) = shared_channel::new_bounded(MAILBOX_MESSAGES);
            ends[from].0[to] = Some(sender);
            ends[to].1[from] = Some(receiver);
        }
    }
    ends
}

fn spawn_cores(
    shared: &Arc<Shared>,
    prepared: Vec<Result<u64, DeviceError>>,
    reports: &mpsc::Sender<Opened>,
    go: &Arc<OnceLock<Version>>,
    listener: StdListener,
) -> Result<Vec<ExecutorJoinHandle<()>>, StartError> {
    let mut prepared: Vec<_> = prepared.into_iter().map(Some).collect();
    let mut listener = Some(listener);
    let mut handles = Vec::new();
    for (id, (senders, receivers)) in channels(shared.settings.cores.len()).into_iter().enumerate() {
        let start = CoreStart {
            id,
            shared: shared.clone(),
            devices: (0..prepared.len())
                .filter(|&shard| shared.shard_cores[shard] == id)
                .filter_map(|shard| Some((shard, prepared[shard].take()?)))
                .collect(),
            senders,
            receivers,
            reports: reports.clone(),
            go: go.clone(),
            listener: listener.take(),
        };
        let builder = LocalExecutorBuilder::new(Placement::Fixed(shared.settings.cores[id]))
            .name(&format!("core-{id}"))
            .spin_before_park(SPIN_RUNTIME)
            .io_memory(if shared.shard_cores.contains(&id) {
                DEVICE_BUFFER_BYTES
            } else {
                DEVICE_BUFFER_BYTES_MIN
            })
            .ring_depth(1024);
        let handle = builder.spawn(move || start.run());
        let message = |error: glommio::GlommioError<()>| error.to_string();
        handles.push(handle.map_err(|error| StartError::Runtime { core: id, message: message(error) })?);
    }
    Ok(handles)
}

impl Daemon {
    fn check_shards(&self) -> Result<(), StartError> {
        let settings = &self.shared.settings;
        let reasons: Vec<String> = self.shards.iter().filter_map(|shard| shard.clone().err()).collect();
        let all: Vec<String> =
            self.shards.iter().map(|shard| shard.clone().err().unwrap_or_default()).collect();
        // Nobody else sets it.
        let _ = self.shared.reasons.set(all);
        let opened = self.shards.len() - reasons.len();
        if opened < settings.code.write_quorum() {
            self.shared.stopping.store(true, Ordering::Release);
            return Err(StartError::Shards {
                opened,
                shards: self.shards.len(),
                code: settings.code.to_string(),
                need: settings.code.write_quorum(),
                reasons,
            });
        }
        shard_count::note(&settings.data, settings.shards.len()).inspect_err(|_| {
            self.shared.stopping.store(true, Ordering::Release);
        })?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Mean size of a part that the indexes are made for, in bytes, and what all of them take.
    pub fn index_size(&self) -> (u64, u64) {
        let mean = self.shared.mean_part_bytes;
        let devices = self.shards.iter().flatten().map(|shard| shard.capacity_bytes).sum();
        (mean, sizing::index_bytes(devices, mean))
    }

    /// How it runs.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Failure domains among its shards.
    pub fn failure_domains(&self) -> usize {
        self.shared.domains.iter().max().map_or(0, |max| *max as usize + 1)
    }

    /// What stops it, for another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Waits until it has stopped. An error names a core that ended by a broken invariant.
    pub fn join(self) -> Result<(), String> {
        let mut failed = Vec::new();
        for (id, core) in self.cores.into_iter().enumerate() {
            if let Err(error) = core.join() {
                failed.push(format!("core {id}: {error}"));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

/// What a core needs to come up.
struct CoreStart {
    id: usize,
    shared: Arc<Shared>,
    devices: Vec<(usize, Result<u64, DeviceError>)>,
    senders: Vec<Option<SharedSender<Message>>>,
    receivers: Vec<Option<SharedReceiver<Message>>>,
    reports: mpsc::Sender<Opened>,
    go: Arc<OnceLock<Version>>,
    listener: Option<StdListener>,
}

impl CoreStart {
    async fn run(self) {
        let data_path =
            glommio::executor().create_task_queue(Shares::Static(1000), Latency::NotImportant, "data path");
        let core = self.build(data_path);
        turns::stay_awake(&core);
        core.spawn(turns::linger(core.clone()));
        for (peer, sender) in self.senders.into_iter().enumerate() {
            if let Some(sender) = sender {
                let outbox = core.outbox(peer).clone();
                core.spawn(async move { outbox.run(sender.connect().await).await });
            }
        }
        for (peer, receiver) in self.receivers.into_iter().enumerate() {
            if let Some(receiver) = receiver {
                core.spawn(receive(core.clone(), peer, receiver));
            }
        }
        for (shard, prepared) in self.devices {
            let result = match prepared {
                Ok(len) => open_shard(&core, shard, len).await,
                Err(error) => Err(error.to_string()),
            };
            // The other end waits for all reports, or has given up with an error of its own.
            let _ = self.reports.send(Opened { shard, result });
        }
        drop(self.reports);
        let highest = loop {
            if let Some(highest) = self.go.get() {
                break *highest;
            }
            if core.stopping() {
                return;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        };
        core.coordinator.borrow_mut().observe(highest);
        for shard in core.shards.borrow().values() {
            shard.raise_unknown(highest);
        }
        core.pump();
        core.spawn(core.clone().run_timer());
        if let Some(listener) = self.listener {
            core.spawn(serving::accept(core.clone(), listener));
        }
        serving::housekeeping(&core).await;
        serving::stop(&core).await;
    }

    fn build(&self, data_path: glommio::TaskQueueHandle) -> Rc<Core> {
        let shared = self.shared.clone();
        let settings = &shared.settings;
        let specs: Vec<TargetSpec> = (0..settings.shards.len())
            .map(|shard| TargetSpec { target: target(shard), domain: shared.domains[shard], weight: 1 })
            .collect();
        let config = Config { policy: settings.read_policy, ..Config::new(settings.code) };
        let seed = shared.daemon_id as u64 ^ clock::now().wall_us;
        let coordinator = Coordinator::new(config, Ring::new(&specs), self.id as u16, seed);
        let homes = shared.coordinator_cores.len() as u64;
        let share =
            if shared.coordinator_cores.contains(&self.id) { settings.memory_bytes / homes } else { 0 };
        let memory = MemoryTier::new(share, (share >> 15).max(64) as usize);
        Core::new(self.id, shared.clone(), Ring::new(&specs), coordinator, memory, data_path)
    }
}

async fn receive(core: Rc<Core>, peer: usize, receiver: SharedReceiver<Message>) {
    let receiver = receiver.connect().await;
    let mut in_a_row = 0;
    while let Some(message) = receiver.recv().await {
        core.receive(peer, message);
        core.pump();
        // A peer that never stops sending must not keep this core from its devices.
        in_a_row += 1;
        if in_a_row == MESSAGES_IN_A_ROW_MAX {
            in_a_row = 0;
            turns::turn().await;
        }
    }
}
