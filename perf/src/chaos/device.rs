//! A bare read of the device that the daemons' files lie on, again and again: what it takes is what the device, which
//! others may use too, does to anybody. A process that asks a full device for more waits within the system call.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use rustix::fs::OFlags;

use crate::clock;
use crate::load::histogram;
use crate::pattern::Random;

/// Length of the file that is read.
const FILE_BYTES: u64 = 16 << 20;
/// Bytes of a read; a buffer is aligned to as many.
const READ_BYTES: usize = 4096;
/// Pause between two reads.
const PAUSE: Duration = Duration::from_millis(2);
/// Reads that are remembered.
const KEPT: usize = 8192;

struct Reads {
    begun_ns: Option<u64>,
    /// When each began and was done.
    kept: VecDeque<(u64, u64)>,
    all: Histogram<u64>,
}

/// The reads so far. Its thread ends with it.
pub struct Device(Arc<Mutex<Reads>>);

impl Device {
    /// Begins to read a file of its own in `folder`.
    pub fn start(folder: &Path) -> Result<Device> {
        let path = folder.join("read");
        crate::bare_server::write_zeroes(&path, FILE_BYTES)?;
        let file = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(&path)?;
        let reads = Reads { begun_ns: None, kept: VecDeque::new(), all: histogram() };
        let shared = Arc::new(Mutex::new(reads));
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            let mut random = Random::new(1);
            let mut space = vec![0; 2 * READ_BYTES];
            let at = space.as_ptr().align_offset(READ_BYTES);
            while let Some(shared) = weak.upgrade() {
                let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
                let begun_ns = clock::now_ns();
                lock().begun_ns = Some(begun_ns);
                let place = random.below(FILE_BYTES / READ_BYTES as u64) * READ_BYTES as u64;
                let room = &mut space[at..at + READ_BYTES];
                let read = std::os::unix::fs::FileExt::read_exact_at(&file, room, place);
                lock().done(begun_ns, clock::now_ns());
                if read.is_err() {
                    return;
                }
                clock::sleep(PAUSE);
            }
        });
        Ok(Device(shared))
    }

    /// The longest that was under way within this time.
    pub fn longest_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = reads.begun_ns.map_or(0, |begun_ns| to_ns.saturating_sub(begun_ns));
        let recent = reads.kept.iter().rev().take_while(|(_, done_ns)| *done_ns >= from_ns);
        let within = recent.filter(|(begun_ns, _)| *begun_ns <= to_ns);
        within.map(|(begun_ns, done_ns)| done_ns - begun_ns).max().unwrap_or(0).max(under_way)
    }

    /// All of them, in nanoseconds.
    pub fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }
}

impl Reads {
    fn done(&mut self, begun_ns: u64, now_ns: u64) {
        self.begun_ns = None;
        self.kept.push_back((begun_ns, now_ns));
        self.all.saturating_record(now_ns - begun_ns);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }
}
