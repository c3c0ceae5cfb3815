//! The machine that a figure is of, and who else was using it meanwhile.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Pins the calling thread to a core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("pinning to core {core}"))
}

/// Processor time of the whole machine, in ticks of 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// Since the machine started.
    pub fn read() -> Result<Ticks> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
            anyhow::bail!("/proc/stat is not understood");
        };
        let busy = user + nice + system + irq + softirq;
        Ok(Ticks { busy, stolen: steal, all: busy + idle + iowait + steal })
    }

    /// Since `before`: the share of all processor time that others than we used (who used `own_ns`), and
    /// the share that the hypervisor took.
    pub fn others_since(self, before: Ticks, own_ns: u64) -> (f64, f64) {
        let all = (self.all - before.all).max(1) as f64;
        let busy = (self.busy - before.busy) as f64 - own_ns as f64 / 1e7;
        ((busy / all).max(0.0), (self.stolen - before.stolen) as f64 / all)
    }
}

/// Bytes that the device below a folder has read so far, for anybody (sectors of /proc/diskstats).
pub fn device_read_bytes(folder: &Path) -> Result<u64> {
    let device = rustix::fs::stat(folder)?.st_dev;
    let (major, minor) = (rustix::fs::major(device).to_string(), rustix::fs::minor(device).to_string());
    let text = std::fs::read_to_string("/proc/diskstats")?;
    let sectors = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [a, b, _, _, _, sectors, ..] = fields[..] else { return None };
        (a == major && b == minor).then(|| sectors.parse::<u64>().ok())?
    });
    Ok(512 * sectors.with_context(|| format!("/proc/diskstats has no device {major}:{minor}"))?)
}

/// Major and minor number, as `MAJOR:MINOR`, of the whole disk below a folder.
pub fn disk_below(folder: &Path) -> Result<String> {
    let device = rustix::fs::stat(folder)?.st_dev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let path = std::fs::canonicalize(Path::new("/sys/dev/block").join(&number))
        .with_context(|| format!("{} lies on no block device", folder.display()))?;
    // A partition lies in its disk's folder.
    let disk =
        if path.join("partition").exists() { path.parent().context("a partition's disk")? } else { &path };
    Ok(std::fs::read_to_string(disk.join("dev"))?.trim().to_owned())
}

/// One line that says what this machine is.
pub fn describe() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1)).unwrap_or("?").trim().to_owned()
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{} (family {} model {}), {cores} cores, Linux {}",
        field("model name"),
        field("cpu family"),
        field("model"),
        kernel.trim()
    )
}
