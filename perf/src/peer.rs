//! Caches to compare with, Hedgerow among them: where each comes from, and how it is started so that all
//! have the same cores, memory (page cache included) and flash.

pub mod foyer;
pub mod install;
mod seaweedfs;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock;
use crate::driver::{Endpoint, Protocol};
use crate::measure::Watched;
use crate::process::{self, Cgroup, Process, confined, free_port};
use crate::server::{DaemonOptions, Server};

/// How long a server may take until it listens.
const START_WAIT: Duration = Duration::from_secs(60);

/// What can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Peer {
    /// The daemon.
    Hedgerow,
    /// memcached, objects in memory.
    Memcached,
    /// memcached with extstore: values in a file.
    MemcachedExtstore,
    /// Redis, objects in memory.
    Redis,
    /// Valkey, objects in memory.
    Valkey,
    /// nginx's proxy_cache before an origin: files.
    Nginx,
    /// SeaweedFS, volumes coded 10+4 over four servers.
    SeaweedfsEc,
}

/// What the objects of a figure are to come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// All of them fit into memory.
    Memory,
    /// From the device: nothing is kept in memory on purpose.
    Device,
    /// Memory before a device, as in use.
    Both,
}

/// What every peer has.
#[derive(Clone, Debug)]
pub struct Resources {
    /// The server's cores.
    pub cores: Vec<usize>,
    /// Memory in bytes, page cache included where there are memory cgroups.
    pub memory_bytes: u64,
    /// Bytes of files.
    pub flash_bytes: u64,
    /// Where its files lie.
    pub folder: PathBuf,
    /// What is asked of it.
    pub tier: Tier,
    /// Numbers of objects are below this.
    pub objects: u64,
    /// Hedgerow's daemon.
    pub daemon: DaemonOptions,
    /// Cores of what is started that is no part of a peer.
    pub other_cores: Vec<usize>,
}

impl Peer {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Hedgerow => "hedgerow",
            Peer::Memcached => "memcached",
            Peer::MemcachedExtstore => "memcached-extstore",
            Peer::Redis => "redis",
            Peer::Valkey => "valkey",
            Peer::Nginx => "nginx",
            Peer::SeaweedfsEc => "seaweedfs-ec",
        }
    }

    /// Whether it can take part in a figure of this tier.
    pub fn serves(self, tier: Tier) -> bool {
        let in_memory = matches!(self, Peer::Memcached | Peer::Redis | Peer::Valkey);
        match tier {
            Tier::Memory => self != Peer::MemcachedExtstore,
            Tier::Device => !in_memory,
            // A volume is coded once it is full and sealed: it does not turn over.
            Tier::Both => self != Peer::SeaweedfsEc,
        }
    }

    /// Starts it. The cgroup has no limit to it if memory cgroups cannot be had.
    pub fn start(self, resources: &Resources, cgroup: Option<Cgroup>) -> Result<Running> {
        std::fs::create_dir_all(&resources.folder)?;
        let mut running = Running {
            peer: self,
            endpoint: Endpoint::new(([127, 0, 0, 1], free_port()?).into(), self.protocol()),
            processes: Vec::new(),
            origin: None,
            cluster: None,
            log: resources.folder.join("log"),
            cgroup,
        };
        match self {
            Peer::SeaweedfsEc => seaweedfs::start(&mut running, resources)?,
            Peer::Nginx => {
                let origin = || Server::start(&std::env::current_exe()?, &["origin".to_owned()]);
                running.origin = Some(confined(&resources.other_cores, None, origin)?);
                let config = nginx_config(resources, &running)?;
                running.spawn(resources, "nginx", &["-c".to_owned(), config])?;
            }
            _ => {
                let (program, arguments) = self.command(resources, running.endpoint.address)?;
                running.spawn(resources, &program, &arguments)?;
            }
        }
        let address = running.endpoint.address;
        running.wait_for(address)?;
        Ok(running)
    }

    fn protocol(self) -> Protocol {
        match self {
            Peer::Hedgerow => Protocol::Hedgerow,
            Peer::Memcached | Peer::MemcachedExtstore => Protocol::Memcached,
            Peer::Redis | Peer::Valkey => Protocol::Resp,
            Peer::Nginx | Peer::SeaweedfsEc => Protocol::Http,
        }
    }

    /// Program and arguments of a peer that is one process.
    fn command(self, resources: &Resources, address: SocketAddr) -> Result<(String, Vec<String>)> {
        let (ip, port) = (address.ip(), address.port());
        let folder = resources.folder.display();
        let threads = resources.cores.len();
        // What of its memory holds objects: the rest is for its tables and buffers, and for pages of its files.
        let (tier, memory) = (resources.tier, resources.memory_bytes >> 20);
        let (most, half) = (memory * 3 / 4, memory / 2);
        let (program, text) = match self {
            Peer::Hedgerow => {
                let cores: Vec<String> = resources.cores.iter().map(usize::to_string).collect();
                let held = [most, 0, half][tier as usize];
                let shard = (resources.flash_bytes / 6) >> 20;
                // A list of one: a number alone is how many.
                let text = format!(
                    "--data {folder}/data --listen {address} --cores {}, --memory {held}M --shard-size {shard}M {}",
                    cores.join(","),
                    resources.daemon.flags.join(" ")
                );
                (resources.daemon.binary.path()?.display().to_string(), text)
            }
            Peer::Memcached => (
                "memcached".to_owned(),
                format!("-u root -l {ip} -p {port} -U 0 -m {most} -I 8m -t {threads} -c 4096"),
            ),
            Peer::MemcachedExtstore => {
                let flash = resources.flash_bytes >> 20;
                let text = format!(
                    "-u root -l {ip} -p {port} -U 0 -m {half} -I 8m -t {threads} -c 4096 -o \
                     ext_path={folder}/ext:{flash}M,ext_wbuf_size=8,ext_threads=4,ext_item_age=0,ext_max_sleep=10000"
                );
                ("memcached".to_owned(), text)
            }
            Peer::Redis | Peer::Valkey => {
                let program = install::program(self).context("not installed")?;
                let text = format!(
                    "--bind {ip} --port {port} --dir {folder} --save --appendonly no --maxmemory {most}mb \
                     --maxmemory-policy allkeys-lru"
                );
                // The empty argument of `--save`: no snapshots.
                let arguments: Vec<String> = text
                    .split_whitespace()
                    .flat_map(|word| match word {
                        "--save" => vec![word.to_owned(), String::new()],
                        _ => vec![word.to_owned()],
                    })
                    .collect();
                return Ok((program.display().to_string(), arguments));
            }
            Peer::Nginx | Peer::SeaweedfsEc => bail!("{} is more than one process", self.name()),
        };
        Ok((program, text.split_whitespace().map(str::to_owned).collect()))
    }
}

fn nginx_config(resources: &Resources, running: &Running) -> Result<String> {
    let origin = running.origin.as_ref().context("no origin")?.address;
    let (folder, workers) = (resources.folder.display(), resources.cores.len());
    let (address, flash) = (running.endpoint.address, resources.flash_bytes >> 20);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
        .collect();
    let text = format!(
        "user root;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/log;\nworker_processes {workers};\n\
         worker_rlimit_nofile 8192;\nevents {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  \
         tcp_nopush off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n{temporary}  proxy_cache_path \
         {folder}/cache levels=1:2 keys_zone=c:64m max_size={flash}m inactive=10d use_temp_path=off;\n  upstream origin \
         {{ server {origin}; keepalive 32; }}\n  server {{\n    listen {address};\n    location / {{\n      proxy_pass \
         http://origin;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_cache c;\n      \
         proxy_cache_valid 200 10d;\n      proxy_cache_lock on;\n      add_header X-Cache-Status \
         $upstream_cache_status;\n    }}\n  }}\n}}\n"
    );
    let path = resources.folder.join("nginx.conf");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// A peer that serves. Dropping it ends its processes.
pub struct Running {
    /// Which.
    pub peer: Peer,
    /// Where requests go.
    pub endpoint: Endpoint,
    // Processes end before their cgroup is removed: the order of the fields.
    processes: Vec<Process>,
    origin: Option<Server>,
    cluster: Option<seaweedfs::Cluster>,
    log: PathBuf,
    /// Its memory, where there are memory cgroups.
    pub cgroup: Option<Cgroup>,
}

impl Running {
    /// It gets objects from its origin: they are asked for, not put.
    pub fn reads_through(&self) -> bool {
        self.peer == Peer::Nginx
    }

    /// After all objects are there: SeaweedFS codes its volumes.
    pub fn seal(&self) -> Result<()> {
        self.cluster.as_ref().map_or(Ok(()), seaweedfs::Cluster::encode)
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        let each = |process: &Process| std::iter::once(process.pid()).chain(children(process.pid()));
        self.processes.iter().flat_map(each).collect()
    }

    /// Kills one of its servers that is not the one that requests go to.
    pub fn kill_one_server(&self) -> Result<()> {
        let cluster = self.cluster.as_ref().with_context(|| format!("{} is no cluster", self.peer.name()))?;
        let place = cluster.another_server(self.endpoint.address)?;
        let process = self.processes.get(place).context("a server without a process")?;
        let pid = rustix::process::Pid::from_raw(process.pid() as i32).context("process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
    }

    fn spawn(&mut self, resources: &Resources, program: &str, arguments: &[String]) -> Result<()> {
        let start = || Process::start(program, arguments, &self.log);
        self.processes.push(confined(&resources.cores, self.cgroup.as_ref(), start)?);
        Ok(())
    }

    /// Waits until something listens there.
    fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let until = clock::now_ns() + START_WAIT.as_nanos() as u64;
        while TcpStream::connect(address).is_err() {
            for process in &mut self.processes {
                process.check(&self.log)?;
            }
            if clock::now_ns() > until {
                bail!("{} does not listen on {address} after {START_WAIT:?}", self.peer.name());
            }
            clock::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Watched for Running {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn cpu_ns(&self) -> Result<u64> {
        // One that was killed uses none any more.
        Ok(self.pids().into_iter().map(|pid| process::cpu_ns(pid).unwrap_or(0)).sum())
    }
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
