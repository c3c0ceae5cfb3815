//! The daemons of a chaos run, and what is done to them: processes, files, file systems, memory, connections.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameHeader, Op};
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use hedgerow_wire::messages::{Fault, FaultKind, FaultPlace};
use rustix::process::Signal;

use super::connect::Place;
use super::disk::Disk;
use super::hog::Hog;
use super::load::Told;
use super::script::{Episode, FULL_SHARD, Harm};
use crate::pattern::Random;
use crate::process::{Cgroup, confined};
use crate::server::Server;
use crate::{clock, control};

/// Shards of each daemon.
pub const SHARDS: u16 = 6;
/// Where slabs begin: what stands before that says what the shard is.
const SLABS_AT: u64 = 1 << 20;
/// A file is overwritten in so many places.
const RUNS: usize = 32;
/// Bytes at each.
const RUN_BYTES: usize = 64 << 10;
/// Connections of a storm at a time.
const STORM: usize = 500;
/// Its connections are dropped after so long.
const GUST: Duration = Duration::from_millis(100);
/// What the daemon has beside what it uses when its memory is wanted by another process: more than it still grows
/// by in an episode, within its own bounds. The system ends who is there to be ended when there is none left, and
/// between two hogs that would be the daemon.
const SPARE_BYTES: u64 = 128 << 20;

/// What one episode came to.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Since when it recovers, in nanoseconds.
    pub from_ns: u64,
    /// The longest start until it listened.
    pub listening: Duration,
    /// Why nothing was done, if so.
    pub skipped: Option<String>,
}

/// One daemon.
pub struct Rig {
    number: usize,
    binary: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    cores: Vec<usize>,
    told: Sender<Told>,
    place: Place,
    random: Random,
    cgroup: Option<Cgroup>,
    disk: Result<Disk>,
    server: Option<Server>,
    /// Of the daemons that were killed.
    evicted: u64,
    fault_hits: u64,
}

/// How a daemon is to be.
pub struct Wanted {
    /// Its number.
    pub number: usize,
    /// Its binary.
    pub binary: PathBuf,
    /// A folder of its own.
    pub folder: PathBuf,
    /// Its flags, but for where its files lie and where it listens.
    pub flags: Vec<String>,
    /// Cores that it may use.
    pub cores: Vec<usize>,
    /// Bytes of each shard.
    pub shard_bytes: u64,
    /// A small file system for one of its shards.
    pub mount: bool,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Rig {
    /// Starts it.
    pub fn start(wanted: Wanted, told: Sender<Told>, place: Place) -> Result<Rig> {
        let folder = wanted.folder.join("data");
        std::fs::create_dir_all(&folder)?;
        let disk = match wanted.mount {
            true => Disk::new(&wanted.folder, wanted.shard_bytes, &folder.join(shard_name(FULL_SHARD))),
            false => Err(anyhow::anyhow!("not asked for")),
        };
        let name = format!("chaos-{}", wanted.number);
        let mut rig = Rig {
            number: wanted.number,
            binary: wanted.binary,
            folder,
            flags: wanted.flags,
            cores: wanted.cores,
            told,
            place,
            random: Random::new(wanted.seed ^ wanted.number as u64),
            // Without one, the memory of all is wanted by another process.
            cgroup: Cgroup::new(&name, i64::MAX as u64).ok(),
            disk,
            server: None,
            evicted: 0,
            fault_hits: 0,
        };
        rig.launch()?;
        Ok(rig)
    }

    fn tell(&self, told: Told) {
        // The generator may have ended with an error, which is what is reported then.
        let _ = self.told.send(told);
    }

    fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("the daemon is not running")
    }

    fn launch(&mut self) -> Result<Duration> {
        let mut arguments: Vec<String> =
            ["--data", &self.folder.to_string_lossy(), "--listen", "127.0.0.1:0", "--allow-faults"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(self.flags.iter().cloned());
        let log = self.folder.with_file_name("log");
        let start = || Server::start_with_log(&self.binary, &arguments, &log);
        let server = confined(&self.cores, self.cgroup.as_ref(), start)
            .with_context(|| format!("daemon {}; see {}", self.number, log.display()))?;
        let ready_after = server.ready_after;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.address);
        self.server = Some(server);
        self.tell(Told::Up(self.number));
        Ok(ready_after)
    }

    /// SIGKILL. When it was sent.
    fn kill(&mut self) -> Result<u64> {
        self.note_counters()?;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tell(Told::Down(self.number));
        let now = clock::now_ns();
        self.server.take().context("the daemon is not running")?.kill()?;
        Ok(now)
    }

    /// What a daemon that is about to be killed has counted.
    fn note_counters(&mut self) -> Result<()> {
        let stats = control::stats(self.server()?.address)?;
        self.evicted += control::counter(&stats, "store_slabs_evicted")?;
        self.fault_hits += control::counter(&stats, "fault_hits")?;
        Ok(())
    }

    /// Ends it, as it is meant to be ended. Slabs that were evicted, operations that were struck.
    pub fn stop(mut self) -> Result<(u64, u64)> {
        self.note_counters()?;
        self.tell(Told::Down(self.number));
        if let Some(server) = self.server.take() {
            server.stop()?;
        }
        Ok((self.evicted, self.fault_hits))
    }

    fn shard(&self, shard: u16) -> PathBuf {
        self.folder.join(shard_name(shard))
    }

    /// Does what the episode says, for as long as it says.
    pub fn perform(&mut self, episode: &Episode) -> Result<Done> {
        let lasts = episode.lasts;
        let mut done = Done::default();
        match episode.harm {
            Harm::Kill => {
                done.from_ns = self.kill()?;
                done.listening = self.launch()?;
                clock::sleep(lasts);
                return Ok(done);
            }
            Harm::Pause => self.pause(lasts)?,
            Harm::Shard(FaultKind::Vanish) => {
                self.inject(episode, FaultPlace::Shard(episode.shard), FaultKind::Vanish)?;
                done.from_ns = self.kill()?;
                done.listening = self.launch()?;
                return Ok(done);
            }
            Harm::Shard(FaultKind::Torn) => {
                self.tell(Told::Harmed(self.number, episode.shard));
                self.inject(episode, FaultPlace::Shard(episode.shard), FaultKind::Torn)?;
                self.tell(Told::Harmed(self.number, episode.shard));
            }
            Harm::Shard(kind) => self.inject(episode, FaultPlace::Shard(episode.shard), kind)?,
            Harm::Answers(kind) => {
                self.tell(Told::Struck(self.number));
                self.inject(episode, FaultPlace::Connections, kind)?;
                self.tell(Told::Spared(self.number));
            }
            Harm::Overwrite => self.overwrite(episode.shard, lasts)?,
            Harm::OverwriteTwo => {
                self.overwrite(episode.shard, lasts / 2)?;
                self.overwrite(episode.second_shard, lasts / 2)?;
            }
            Harm::Truncate => return self.truncate(episode.shard, lasts),
            Harm::DiskFull => match &self.disk {
                Ok(disk) => disk.fill_for(lasts)?,
                Err(error) => done.skipped = Some(format!("none: {error:#}")),
            },
            Harm::Memory => self.want_memory(lasts)?,
            Harm::Storm => self.storm(lasts)?,
        }
        done.from_ns = clock::now_ns();
        Ok(done)
    }

    fn pause(&self, lasts: Duration) -> Result<()> {
        self.tell(Told::Paused(self.number));
        self.server()?.signal(Signal::STOP)?;
        clock::sleep(lasts);
        self.server()?.signal(Signal::CONT)?;
        self.tell(Told::Continued(self.number));
        Ok(())
    }

    fn inject(&self, episode: &Episode, place: FaultPlace, kind: FaultKind) -> Result<()> {
        // Some answers are to come, that there is something to judge.
        let lossy = matches!(episode.harm, Harm::Answers(FaultKind::Damage | FaultKind::Vanish));
        let fault = Fault {
            place,
            kind,
            share_ppm: if lossy { Fault::SHARE_ALL_PPM / 10 } else { Fault::SHARE_ALL_PPM },
            duration_ms: (episode.lasts.as_millis() as u32).max(1),
        };
        control::inject(self.server()?.address, fault)?;
        clock::sleep(episode.lasts);
        Ok(())
    }

    /// Writes over what a shard's file holds, in many places.
    fn overwrite(&mut self, shard: u16, lasts: Duration) -> Result<()> {
        self.tell(Told::Harmed(self.number, shard));
        let stats = control::stats(self.server()?.address)?;
        let used = stats.shards.iter().find(|stats| stats.shard == shard).map_or(0, |stats| stats.used_bytes);
        let file = OpenOptions::new().write(true).open(self.shard(shard))?;
        let mut bytes = vec![0; RUN_BYTES];
        for _ in 0..RUNS {
            bytes.fill_with(|| self.random.draw() as u8);
            file.write_all_at(&bytes, SLABS_AT + self.random.below(used.max(1)))?;
        }
        file.sync_data()?;
        clock::sleep(lasts);
        Ok(())
    }

    fn truncate(&mut self, shard: u16, lasts: Duration) -> Result<Done> {
        let path = self.shard(shard);
        self.tell(Told::Harmed(self.number, shard));
        self.kill()?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(file.metadata()?.len() / 2)?;
        let without = self.launch()?;
        clock::sleep(lasts / 2);
        self.tell(Told::Harmed(self.number, shard));
        let from_ns = self.kill()?;
        // A file without a byte is made anew.
        file.set_len(0)?;
        let listening = self.launch()?.max(without);
        clock::sleep(lasts / 2);
        Ok(Done { from_ns, listening, skipped: None })
    }

    /// Another process wants all the memory there is in the daemon's cgroup.
    fn want_memory(&self, lasts: Duration) -> Result<()> {
        let until_ns = clock::now_ns() + lasts.as_nanos() as u64;
        if let Some(cgroup) = &self.cgroup {
            cgroup.set_limit(cgroup.used_bytes()? + SPARE_BYTES)?;
        }
        let mut hogs = 0;
        while clock::now_ns() < until_ns {
            let mut hog = Hog::start(self.cgroup.as_ref())?;
            hogs += 1;
            while clock::now_ns() < until_ns && hog.runs()? {
                clock::sleep(Duration::from_millis(5));
            }
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.set_limit(i64::MAX as u64)?;
        }
        if hogs == 0 {
            bail!("no process wanted memory");
        }
        Ok(())
    }

    /// Connections that are dropped at once, break off in a header, or in a body.
    fn storm(&self, lasts: Duration) -> Result<()> {
        let address = self.server()?.address;
        let until_ns = clock::now_ns() + lasts.as_nanos() as u64;
        let mut frame = Vec::new();
        write_frame(FrameHeader::request(Op::Hello, 1), None, &[0; 1000], &mut frame);
        while clock::now_ns() < until_ns {
            let mut gust = Vec::new();
            for number in 0..STORM {
                if clock::now_ns() >= until_ns {
                    break;
                }
                let mut socket = TcpStream::connect(address)?;
                let len = [0, FRAME_HEADER_LEN / 2, FRAME_HEADER_LEN + 500][number % 3];
                // The daemon may close whenever it likes.
                let _ = socket.write_all(&frame[..len]);
                if len > 0 {
                    gust.push(socket);
                }
            }
            clock::sleep(GUST);
        }
        Ok(())
    }
}

fn shard_name(shard: u16) -> String {
    format!("shard-{shard}")
}

/// What the log of a daemon's folder ends with.
pub fn last_words(folder: &Path) -> String {
    let mut text = String::new();
    let read = File::open(folder.join("log")).and_then(|mut file| file.read_to_string(&mut text));
    match read {
        Ok(_) => {
            text.lines().rev().take(10).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        }
        Err(_) => String::new(),
    }
}
