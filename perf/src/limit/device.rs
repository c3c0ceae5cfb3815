//! The device: O_DIRECT reads at random places and sequential writes, so many at a time, by one io_uring
//! and nothing else, and by `fio` beside it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use io_uring::{IoUring, opcode, types};
use serde_json::Value;

use super::{Found, Loop};
use crate::clock;
use crate::load::{arrival_gap_ns, histogram};
use crate::pattern::{Pattern, Random};

/// Direct reads are of whole blocks of this length.
pub const BLOCK_LEN: usize = 4096;
const LARGE_PAGE_LEN: usize = 2 << 20;
/// Reads that may be under way in an open loop; past it they wait, and their latency counts on.
const OPEN_DEPTH: u32 = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Read,
    Write,
}

/// Writes every block of a file.
pub fn write_file(path: &Path, len: u64) -> Result<()> {
    use std::io::Write;
    let mut file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut block = vec![0; 1 << 20];
    Pattern::default().fill(1, 0, &mut block);
    for _ in 0..len >> 20 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(())
}

/// All loops over this file.
pub fn loops(path: &Path, file_len: u64, sizes: &[usize], depths: &[u32]) -> Result<Vec<Loop>> {
    let fio = Command::new("fio").arg("--version").output().is_ok();
    if !fio {
        println!("fio is not installed: its figures are left out (apt-get install fio)");
    }
    let mut loops = Vec::new();
    for direction in [Direction::Read, Direction::Write] {
        for &len in sizes {
            for &depth in depths {
                ensure!(
                    len.is_multiple_of(BLOCK_LEN) && len > 0 && len as u64 <= file_len && depth > 0,
                    "{len} bytes, {depth} at a time, cannot be read directly from a file of {file_len}"
                );
                let name = match direction {
                    Direction::Read => "random reads",
                    Direction::Write => "sequential writes",
                };
                let mut bare = Bare::open(path, file_len, direction, len, depth)?;
                let run = Box::new(move |seconds| bare.run(seconds));
                loops.push(Loop { name: format!("{name}, bare io_uring"), len, depth, run });
                if fio {
                    let path = path.to_owned();
                    let run = Box::new(move |seconds| run_fio(&path, direction, len, depth, seconds));
                    loops.push(Loop { name: format!("{name}, fio"), len, depth, run });
                }
            }
        }
    }
    Ok(loops)
}

/// Latencies of groups of `together` random reads of `len` bytes each, until the last one of a group is in: so
/// many groups a second at random times, in nanoseconds.
pub fn reads_at(
    path: &Path,
    file_len: u64,
    (len, together): (usize, usize),
    groups_per_second: f64,
    seconds: f64,
) -> Result<Histogram<u64>> {
    let groups = OPEN_DEPTH as usize / together.max(1);
    ensure!(together > 0 && groups > 0, "{together} reads together");
    let mut bare = Bare::open(path, file_len, Direction::Read, len, (groups * together) as u32)?;
    bare.keeping(|bare| bare.drive_at(together, groups_per_second, seconds))
}

struct Bare {
    file: File,
    file_len: u64,
    direction: Direction,
    len: usize,
    /// A buffer for each operation, and where in it the first aligned byte is.
    buffers: Vec<(Vec<u8>, usize)>,
    random: Random,
    next: u64,
}

/// As the daemon's: of large pages, if the system has any.
fn buffer(len: usize) -> (Vec<u8>, usize) {
    let mut bytes = Vec::<u8>::with_capacity(len.next_multiple_of(LARGE_PAGE_LEN) + LARGE_PAGE_LEN);
    let skip = bytes.as_ptr().align_offset(LARGE_PAGE_LEN);
    let (start, advised) = (bytes.as_mut_ptr().wrapping_add(skip), len.next_multiple_of(LARGE_PAGE_LEN));
    // Where it cannot be taken, nothing is different.
    // SAFETY: the advice changes no contents, and the range lies within what `bytes` has.
    let _ = unsafe { rustix::mm::madvise(start.cast(), advised, rustix::mm::Advice::LinuxHugepage) };
    bytes.resize(skip + len, 1);
    (bytes, skip)
}

impl Bare {
    fn open(path: &Path, file_len: u64, direction: Direction, len: usize, depth: u32) -> Result<Bare> {
        let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
        let file = File::options().read(true).write(true).custom_flags(direct).open(path)?;
        let buffers = (0..depth).map(|_| buffer(len)).collect();
        Ok(Bare { file, file_len, direction, len, buffers, random: Random::new(3), next: 0 })
    }

    fn place(&mut self) -> u64 {
        let places = self.file_len / self.len as u64;
        let place = match self.direction {
            Direction::Read => self.random.below(places),
            Direction::Write => self.next % places,
        };
        self.next += 1;
        place * self.len as u64
    }

    fn submit(&mut self, ring: &mut IoUring, slot: usize) -> Result<()> {
        let offset = self.place();
        let (fd, len) = (types::Fd(self.file.as_raw_fd()), self.len as u32);
        let (buffer, skip) = &mut self.buffers[slot];
        let at = buffer[*skip..].as_mut_ptr();
        let entry = match self.direction {
            Direction::Read => opcode::Read::new(fd, at, len).offset(offset).build(),
            Direction::Write => opcode::Write::new(fd, at, len).offset(offset).build(),
        };
        // SAFETY: the buffer has `len` bytes from `at`, is used by one operation at a time (its slot's),
        // and, like the file, stays until the last completion was seen; if something fails, `keeping` never frees the buffers.
        unsafe { ring.submission().push(&entry.user_data(slot as u64)) }.context("the ring is full")
    }

    fn run(&mut self, seconds: f64) -> Result<Found> {
        self.keeping(|bare| bare.drive(seconds))
    }

    /// Keeps the buffers where they are if operations may be under way still.
    fn keeping<T>(&mut self, drive: impl FnOnce(&mut Bare) -> Result<T>) -> Result<T> {
        let found = drive(self);
        if found.is_err() {
            // Operations may be under way still: their buffers stay for ever.
            std::mem::forget(std::mem::take(&mut self.buffers));
        }
        found
    }

    /// Groups of operations that are due at random times, so many a second, whatever the device does; latency
    /// counts from when each was due. The thread never sleeps: what is measured has no wake-up in it.
    fn drive_at(&mut self, together: usize, rate: f64, seconds: f64) -> Result<Histogram<u64>> {
        let mut ring = IoUring::new(self.buffers.len().next_power_of_two() as u32).context("io_uring")?;
        let groups = self.buffers.len() / together;
        let mut free: Vec<usize> = (0..groups).collect();
        let (mut started, mut under_way) = (vec![0; groups], vec![0; groups]);
        let mut latency = histogram();
        let mut random = Random::new(5);
        let mut due = clock::now_ns();
        let end = due + (seconds * 1e9) as u64;
        while due < end || free.len() < groups {
            let before = free.len();
            while due < end.min(clock::now_ns()) {
                let Some(group) = free.pop() else { break };
                (started[group], under_way[group]) = (due, together);
                for slot in group * together..(group + 1) * together {
                    self.submit(&mut ring, slot)?;
                }
                due += arrival_gap_ns(rate, &mut random);
            }
            if free.len() < before {
                ring.submit()?;
            }
            let done: Option<(usize, i32)> =
                ring.completion().next().map(|entry| (entry.user_data() as usize, entry.result()));
            if let Some((slot, result)) = done {
                ensure!(result == self.len as i32, "{:?} of {} bytes: {result}", self.direction, self.len);
                let group = slot / together;
                under_way[group] -= 1;
                if under_way[group] == 0 {
                    latency.saturating_record(clock::now_ns() - started[group]);
                    free.push(group);
                }
            }
        }
        Ok(latency)
    }

    fn drive(&mut self, seconds: f64) -> Result<Found> {
        let depth = self.buffers.len();
        let mut ring = IoUring::new(depth.next_power_of_two() as u32).context("io_uring")?;
        let mut started = vec![0; depth];
        let mut latency = histogram();
        let (begun, cpu) = (clock::now_ns(), clock::thread_cpu_ns());
        let end = begun + (seconds * 1e9) as u64;
        for (slot, started) in started.iter_mut().enumerate() {
            *started = clock::now_ns();
            self.submit(&mut ring, slot)?;
        }
        let (mut under_way, mut count, mut failed) = (depth, 0u64, None);
        let mut over = begun;
        while under_way > 0 {
            ring.submit_and_wait(1)?;
            let done: Vec<(usize, i32)> =
                ring.completion().map(|entry| (entry.user_data() as usize, entry.result())).collect();
            let now = clock::now_ns();
            for (slot, result) in done {
                under_way -= 1;
                if result != self.len as i32 {
                    failed = Some(result);
                    continue;
                }
                latency.saturating_record(now - started[slot]);
                count += 1;
                over = now;
                if now < end && failed.is_none() {
                    started[slot] = now;
                    self.submit(&mut ring, slot)?;
                    under_way += 1;
                }
            }
        }
        if let Some(result) = failed {
            anyhow::bail!("{:?} of {} bytes ended with {result}", self.direction, self.len);
        }
        let bytes = (count * self.len as u64) as f64;
        let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Found {
            bytes_per_second: bytes / ((over - begun) as f64 * 1e-9),
            p50_us: us(0.5),
            p99_us: us(0.99),
            cpu_ns_per_byte: (clock::thread_cpu_ns() - cpu) as f64 / bytes,
        })
    }
}

fn run_fio(path: &Path, direction: Direction, len: usize, depth: u32, seconds: f64) -> Result<Found> {
    let (rw, field) = match direction {
        Direction::Read => ("randread", "read"),
        Direction::Write => ("write", "write"),
    };
    let output = Command::new("fio")
        .args(["--name=limit", "--direct=1", "--ioengine=io_uring", "--time_based", "--output-format=json"])
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--rw={rw}"))
        .arg(format!("--bs={len}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--runtime={}ms", (seconds * 1e3) as u64))
        .output()
        .context("starting fio")?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "fio ended with {}: {}", output.status, said());
    let json: Value = serde_json::from_slice(&output.stdout).with_context(said)?;
    let job = &json["jobs"][0][field];
    let number = |value: &Value| value.as_f64().context("a number in fio's answer");
    Ok(Found {
        bytes_per_second: number(&job["bw_bytes"])?,
        p50_us: number(&job["clat_ns"]["percentile"]["50.000000"])? / 1e3,
        p99_us: number(&job["clat_ns"]["percentile"]["99.000000"])? / 1e3,
        cpu_ns_per_byte: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_loop_reads_and_writes() {
        // O_DIRECT is not there on every file system: the target folder has it wherever shards have.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        write_file(&path, 2 << 20).unwrap();
        for direction in [Direction::Read, Direction::Write] {
            let mut bare = Bare::open(&path, 2 << 20, direction, 65536, 4).unwrap();
            let found = bare.run(0.0).unwrap();
            assert!(found.bytes_per_second > 0.0 && found.p99_us >= found.p50_us, "{found:?}");
            assert!(bare.next >= 4, "{} operations", bare.next);
        }
        assert!(loops(&path, 2 << 20, &[1000], &[1]).is_err());
        let latency = reads_at(&path, 2 << 20, (20480, 4), 1000.0, 0.1).unwrap();
        assert!((20..500).contains(&latency.len()), "{} groups of reads", latency.len());
    }
}
