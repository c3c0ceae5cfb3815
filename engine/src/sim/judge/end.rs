//! What has to be so when the world is idle.

use hedgerow_wire::time::Timestamp;

use super::history::History;
use super::{Judge, Violation, Wrong};
use crate::sim::facts::{Facts, Held};
use crate::sim::plan::READS_THAT_COMPLETE;

impl Judge {
    /// The world is idle, and every key was read after the last fault.
    pub fn finished(&mut self, now: Timestamp, facts: &dyn Facts) -> Option<Violation> {
        if let Some(asked) = self.asked.values().find(|asked| !asked.answered) {
            let what = format!("op {} of key {}", asked.op.id, asked.op.key);
            self.blame(Wrong::Unanswered, now, what);
        }
        self.bounded(now, facts);
        for what in facts.leaks() {
            self.blame(Wrong::Leak, now, what);
        }
        let incomplete = self.histories.values().find_map(|history| self.incomplete(history, now, facts));
        if let Some(what) = incomplete {
            self.blame(Wrong::NotWhole, now, what);
        }
        self.violation.clone()
    }

    /// What is missing of an object that was read often enough.
    fn incomplete(&self, history: &History, now: Timestamp, facts: &dyn Facts) -> Option<String> {
        let (key, (version, reads)) = (history.key, history.found_in_calm?);
        if reads < READS_THAT_COMPLETE {
            return None;
        }
        let write = history.of_version(version)?;
        if self.may_be_expired(write, now) || self.let_go(key, version, facts) {
            return None;
        }
        for (number, target) in self.targets_of(write, key, facts).into_iter().enumerate() {
            let held = facts.held(target, key);
            let right = match held {
                Held::Away => true,
                // What is left of a newer write, which was not acknowledged, stays for a while.
                Held::Whole { version: holds, part } => {
                    holds > version || (holds == version && usize::from(part) == number)
                }
                // So does what is damaged of it.
                Held::Damaged => {
                    history.writes.iter().any(|other| self.may_be_above(other, write, key, facts))
                }
                Held::Nothing => false,
            };
            if !right && !self.forgot_as_new(version, &[target], facts) {
                return Some(format!("key {key} is {version}, and {target} has {held:?} for part {number}"));
            }
        }
        None
    }
}
