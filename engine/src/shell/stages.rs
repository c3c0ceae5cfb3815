//! Where a core's processor time goes, by stage of a request, in cycles.
//!
//! A stage is entered where the shell calls into a room or the kernel; entering one inside of another ends
//! the outer one's time until it is left again, so that no cycle counts twice. What is spent outside of all
//! stages (the runtime, its system calls for the devices, spinning before a sleep) is what is left of the
//! core's processor time. An entry costs two reads of the cycle counter, some ten nanoseconds.
//!
//! Counted for each thread: a core is one.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

use super::clock;

/// A stage of a request's way through a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Bytes out of sockets.
    Receive,
    /// Bytes to frames, frames to requests.
    Decode,
    /// A request's own task: conditions, versions, cutting and ordering.
    Request,
    /// Look-ups and fills of the memory tier, and the answers of gets that it has, up to the queue of their connection.
    Memory,
    /// The coordinator: ring, hedging, confirmations.
    Coordinate,
    /// Questions to shards that only look: index and queues.
    Index,
    /// Parts into the open slab: checksum and copy.
    Append,
    /// Device operations, up to handing them to the runtime.
    Device,
    /// What devices gave: checksums, heads, answers.
    Verify,
    /// Parity and reconstruction.
    Codec,
    /// Messages between cores.
    Mailbox,
    /// Frames into sockets.
    Send,
}

impl Stage {
    /// All of them, in the order of a request's way.
    pub const ALL: [Stage; 12] = [
        Stage::Receive,
        Stage::Decode,
        Stage::Request,
        Stage::Memory,
        Stage::Coordinate,
        Stage::Index,
        Stage::Append,
        Stage::Device,
        Stage::Verify,
        Stage::Codec,
        Stage::Mailbox,
        Stage::Send,
    ];
}

const OUTSIDE: usize = Stage::ALL.len();

struct Spent {
    cycles: [Cell<u64>; OUTSIDE + 1],
    entries: [Cell<u64>; OUTSIDE + 1],
    /// The stage that cycles count for, and since when.
    current: Cell<usize>,
    since: Cell<u64>,
    /// Processor time with nothing to do, in nanoseconds.
    spun_ns: Cell<u64>,
}

thread_local! {
    static SPENT: Spent = const {
        Spent {
            cycles: [const { Cell::new(0) }; OUTSIDE + 1],
            entries: [const { Cell::new(0) }; OUTSIDE + 1],
            current: Cell::new(OUTSIDE),
            since: Cell::new(0),
            spun_ns: Cell::new(0),
        }
    };
}

impl Spent {
    /// Ends the current stage's time and begins that of `next`; returns which one it was.
    fn turn_to(&self, next: usize) -> usize {
        let now = clock::cycles();
        let before = self.current.replace(next);
        let cycles = &self.cycles[before];
        cycles.set(cycles.get().wrapping_add(now.wrapping_sub(self.since.replace(now))));
        before
    }
}

/// A stage that is being worked on; left when this is dropped.
#[must_use]
pub struct Entered {
    before: usize,
}

/// Enters a stage, until what is returned is dropped. Must not be held over a wait.
pub fn enter(stage: Stage) -> Entered {
    SPENT.with(|spent| {
        let entries = &spent.entries[stage as usize];
        entries.set(entries.get() + 1);
        Entered { before: spent.turn_to(stage as usize) }
    })
}

impl Drop for Entered {
    fn drop(&mut self) {
        SPENT.with(|spent| spent.turn_to(self.before));
    }
}

/// Runs a future with all of its polls within a stage.
pub async fn within<T>(stage: Stage, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _stage = enter(stage);
        future.as_mut().poll(cx)
    })
    .await
}

/// The core looked for work so long and found none: processor time in nanoseconds.
pub fn spun(ns: u64) {
    SPENT.with(|spent| spent.spun_ns.set(spent.spun_ns.get() + ns));
}

/// Names and values of this core's stages: entries, and nanoseconds; and the core's processor time, and how much of
/// it found nothing to do.
pub fn counters() -> Vec<(String, u64)> {
    let ns_per_cycle = clock::ns_per_cycle();
    let mut list = vec![("core_cpu_ns".to_owned(), clock::thread_cpu_ns())];
    SPENT.with(|spent| {
        list.push(("core_spin_ns".to_owned(), spent.spun_ns.get()));
        for stage in Stage::ALL {
            let name = format!("stage.{stage:?}").to_lowercase();
            let ns = spent.cycles[stage as usize].get() as f64 * ns_per_cycle;
            list.push((format!("{name}_entries"), spent.entries[stage as usize].get()));
            list.push((format!("{name}_ns"), ns as u64));
        }
    });
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(stage: Stage) -> u64 {
        SPENT.with(|spent| spent.cycles[stage as usize].get())
    }

    fn spin(cycles: u64) {
        let begun = clock::cycles();
        while clock::cycles().wrapping_sub(begun) < cycles {}
    }

    #[test]
    fn a_cycle_counts_for_the_innermost_stage_alone() {
        const LONG: u64 = 1_000_000;
        let begun = clock::cycles();
        {
            let _outer = enter(Stage::Request);
            spin(LONG);
            {
                let _inner = enter(Stage::Codec);
                spin(LONG);
            }
            spin(LONG);
        }
        let outside = clock::cycles();
        spin(LONG);
        assert!(cycles(Stage::Request) >= 2 * LONG, "both halves");
        assert!(cycles(Stage::Codec) >= LONG);
        let inside = cycles(Stage::Request) + cycles(Stage::Codec);
        assert!(inside <= outside - begun, "nothing counts twice, and nothing from outside");
        let entries = SPENT.with(|spent| spent.entries[Stage::Request as usize].get());
        assert_eq!(entries, 1);
    }
}
