//! What happened: a line for each event. The last ones are kept; all of them go into one hash, by which two
//! runs are known to be equal to the byte.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};

use hedgerow_wire::time::Timestamp;

/// Lines that are kept, unless more are wanted.
pub const LINES_KEPT: usize = 400;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    last: VecDeque<String>,
    kept: usize,
    hash: u64,
    lines: u64,
}

impl Trace {
    /// A trace that keeps so many of its lines.
    pub fn new(kept: usize) -> Trace {
        Trace { last: VecDeque::new(), kept: kept.max(1), hash: 0xcbf2_9ce4_8422_2325, lines: 0 }
    }

    /// Adds a line.
    pub fn line(&mut self, at: Timestamp, what: Arguments<'_>) {
        let full = self.last.len() == self.kept;
        let mut line = if full { self.last.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // A string takes whatever it is given.
        let _ = write!(line, "{:>6}.{:03} ", at.0 / 1_000_000, at.0 / 1_000 % 1_000);
        let _ = line.write_fmt(what);
        for word in line.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            self.add(u64::from_le_bytes(bytes));
        }
        self.add(line.len() as u64 ^ at.0 << 20);
        self.lines += 1;
        self.last.push_back(line);
    }

    fn add(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// The hash of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines, in their order.
    pub fn into_last(self) -> Vec<String> {
        self.last.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_counts_and_the_last_are_kept() {
        let run = |odd: Option<usize>| {
            let mut trace = Trace::new(LINES_KEPT);
            for line in 0..3 * LINES_KEPT {
                trace.line(Timestamp(line as u64), format_args!("{}", line + usize::from(odd == Some(line))));
            }
            trace
        };
        let trace = run(None);
        assert_eq!((trace.hash(), trace.lines()), (run(None).hash(), 3 * LINES_KEPT as u64));
        assert_ne!(trace.hash(), run(Some(7)).hash());
        let last = trace.into_last();
        assert_eq!(last.len(), LINES_KEPT);
        assert!(last.last().is_some_and(|line| line.ends_with(&format!(" {}", 3 * LINES_KEPT - 1))));
    }
}
