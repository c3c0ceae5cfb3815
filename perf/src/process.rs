//! Child processes of a measurement: on cores and with memory that are given to them, ended by their own
//! id, watched through /proc.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{clock, machine};

/// Where version 1 cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long a process may take to end when it is asked to.
const END_WAIT: Duration = Duration::from_secs(10);

/// Processor time of all threads of a process in nanoseconds, as the scheduler counts it.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// A memory cgroup (version 1), which counts page cache too. Removed when dropped.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one, if there is that controller and we may use it.
    pub fn new(name: &str, memory_bytes: u64) -> Result<Cgroup> {
        let cgroup = Cgroup { path: create("memory", name)? };
        cgroup.set_limit(memory_bytes)?;
        Ok(cgroup)
    }

    /// What its processes may have from here on. What they have beyond it is taken back as far as that can be done.
    pub fn set_limit(&self, memory_bytes: u64) -> Result<()> {
        let limit = self.path.join("memory.limit_in_bytes");
        std::fs::write(&limit, memory_bytes.to_string())
            .with_context(|| format!("writing {}", limit.display()))
    }

    /// A process belongs to it.
    pub fn add(&self, pid: u32) -> Result<()> {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string()).context("entering a memory cgroup")
    }

    /// What its processes have, page cache included, in bytes.
    pub fn used_bytes(&self) -> Result<u64> {
        Ok(std::fs::read_to_string(self.path.join("memory.usage_in_bytes"))?.trim().parse()?)
    }

    /// The calling thread, and what it starts, belongs to it.
    fn enter(&self) -> Result<()> {
        std::fs::write(self.path.join("tasks"), "0").context("entering a memory cgroup")
    }

    /// The most that its processes had, page cache included, in bytes.
    pub fn peak_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(self.path.join("memory.max_usage_in_bytes"))?;
        Ok(text.trim().parse()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Makes a cgroup of a controller of version 1.
fn create(controller: &str, name: &str) -> Result<PathBuf> {
    let path =
        Path::new(CGROUPS).join(controller).join(format!("hedgerow-perf-{}-{name}", std::process::id()));
    std::fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

fn remove(path: &Path) {
    // The last process may have ended a moment ago.
    for _ in 0..50 {
        if std::fs::remove_dir(path).is_ok() {
            return;
        }
        clock::sleep(Duration::from_millis(20));
    }
    eprintln!("{} could not be removed", path.display());
}

/// The cgroup of this process for a controller of version 1.
fn own_cgroup(controller: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let mark = format!(":{controller}:");
    let own = text.lines().find_map(|line| line.split_once(&mark));
    let own = own.with_context(|| format!("no {controller} cgroup"))?.1;
    Ok(Path::new(CGROUPS).join(controller).join(own.trim_start_matches('/')))
}

/// A blkio cgroup (version 1) that limits what its processes read from a device. It ends when dropped.
pub struct DeviceLimit {
    path: PathBuf,
    /// Major and minor number.
    device: String,
}

impl DeviceLimit {
    /// Makes one for the device below a folder, if there is that controller and we may use it; it holds no process yet.
    pub fn new(name: &str, folder: &Path) -> Result<DeviceLimit> {
        let device = machine::disk_below(folder)?;
        let limit = DeviceLimit { path: create("blkio", name)?, device };
        // Whether the device takes limits at all.
        limit.write(0, 0)?;
        Ok(limit)
    }

    /// Limits are for reads per second and bytes per second; 0 is none.
    fn write(&self, iops: u64, bps: u64) -> Result<()> {
        for (file, value) in [("iops", iops), ("bps", bps)] {
            let path = self.path.join(format!("blkio.throttle.read_{file}_device"));
            std::fs::write(&path, format!("{} {value}", self.device))
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// These processes get so many reads and bytes per second, all together.
    pub fn begin(&self, pids: &[u32], iops: u64, bps: u64) -> Result<()> {
        self.write(iops, bps)?;
        for pid in pids {
            std::fs::write(self.path.join("cgroup.procs"), pid.to_string())
                .with_context(|| format!("moving process {pid} into {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Lifts the limit, and gives its processes back to where this one is.
    pub fn end(&self) -> Result<()> {
        self.write(0, 0)?;
        let home = own_cgroup("blkio")?.join("cgroup.procs");
        for pid in std::fs::read_to_string(self.path.join("cgroup.procs"))?.split_whitespace() {
            // It may have ended meanwhile.
            let _ = std::fs::write(&home, pid);
        }
        Ok(())
    }
}

impl Drop for DeviceLimit {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.path.display());
        }
        remove(&self.path);
    }
}

/// Runs `work` on these cores and in this cgroup; what it starts stays there.
pub fn confined<T>(cores: &[usize], cgroup: Option<&Cgroup>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(None)?;
    let home = cgroup.map(|_| own_cgroup("memory")).transpose()?;
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).context("pinning to the server's cores")?;
    if let Some(cgroup) = cgroup {
        cgroup.enter()?;
    }
    let result = work();
    if let Some(home) = home {
        std::fs::write(home.join("tasks"), "0").context("leaving a memory cgroup")?;
    }
    sched_setaffinity(None, &before)?;
    result
}

/// A child. Dropping it ends it.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program, whose output goes to `log`. It ends when this thread does, too (`setpriv`).
    pub fn start(program: &str, arguments: &[String], log: &Path) -> Result<Process> {
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Process { child, name: program.to_owned() })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    pub fn check(&mut self, log: &Path) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            anyhow::bail!("{} ended ({status}); it said:\n{said}", self.name);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already. Some have children of their own, which they end when asked to.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = clock::now_ns() + END_WAIT.as_nanos() as u64;
        while clock::now_ns() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            clock::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback address that nothing listens on.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_pinned_and_ends_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let before = sched_getaffinity(None).unwrap();
        let start = || Process::start("sleep", &["1000".to_owned()], &log);
        let mut process = confined(&[0], None, start).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        process.check(&log).unwrap();
        let pid = process.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        assert!(cpu_ns(pid).is_ok());
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
