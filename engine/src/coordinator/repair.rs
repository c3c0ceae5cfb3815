//! Completion of versions that lack parts: a repair under way, and the notes of what is left to do.
//!
//! A read completes a version before it returns it where the rules of confirmation ask for it.
//! Everything else that is found missing is noted, and completed in the background within a budget.
//! A note stays until every target that was asked has said what it holds: one that failed, or was late,
//! may lack its part as well.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartMeta, RecordName, WritePurpose};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{AckLevel, KeyHash, Record};
use smallvec::SmallVec;

use super::api::{AskId, OpId};
use super::desk::{Ask, Desk, Whose, WriteAsk};
use super::limits::{REPAIR_ATTEMPTS_MAX, REPAIR_NOTES_MAX, REPAIR_RETRY_AFTER};
use super::read::wants::{Want, Wants};

/// Whom a repair is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// A read waits for it.
    Read(OpId),
    /// Background completion, after so many attempts before.
    Background {
        /// Attempts before this one.
        attempt: u8,
        /// Every target that was asked has said what it holds: nothing else is missing.
        all_said: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Unsent,
    Asked(AskId),
    Stored,
    /// Something newer is there, or was forgotten there: nothing to be done.
    Moot,
    Refused,
}

/// A repair under way: the shell rebuilds the parts, then they are written.
#[derive(Debug)]
pub(super) struct RepairOp {
    pub(super) id: OpId,
    pub(super) cause: Cause,
    meta: PartMeta,
    parts: SmallVec<[(Want, Progress); 8]>,
    pub(super) deadline: Timestamp,
}

impl RepairOp {
    pub(super) fn new(meta: PartMeta, wants: &Wants, cause: Cause, deadline: Timestamp) -> RepairOp {
        let parts = wants.iter().map(|&want| (want, Progress::Unsent)).collect();
        RepairOp { id: OpId(0), cause, meta, parts, deadline }
    }

    /// Bytes that it writes.
    pub(super) fn bytes(&self) -> u64 {
        (self.parts.len() * (self.meta.part_len() + self.meta.head_len())) as u64
    }

    pub(super) fn meta(&self) -> &PartMeta {
        &self.meta
    }

    pub(super) fn name(&self) -> RecordName {
        RecordName {
            namespace: self.meta.namespace,
            key: self.meta.key.clone(),
            hash: self.meta.key_hash(),
            record: self.meta.record,
        }
    }

    /// The parts are there: writes them.
    pub(super) fn send<B>(&mut self, desk: &mut Desk<B>, now: Now) {
        let part_len = self.meta.part_len() as u32;
        for (want, progress) in &mut self.parts {
            if *progress != Progress::Unsent {
                continue;
            }
            let whose = Whose { op: self.id, slot: want.slot, target: want.target };
            let (purpose, deadline, ack) = (WritePurpose::Repair, self.deadline, AckLevel::Written);
            let write = WriteAsk { part: want.part, part_len, purpose, deadline, ack };
            *progress = desk.write(whose, write, now).map_or(Progress::Refused, Progress::Asked);
        }
    }

    /// Takes an answer to an ask of this repair.
    pub(super) fn take<B>(&mut self, ask: &Ask, answer: &PartAnswer<B>, desk: &mut Desk<B>) {
        let Some((_, progress)) = self.parts.iter_mut().find(|(want, _)| want.slot == ask.slot) else {
            return;
        };
        *progress = match *answer {
            PartAnswer::Stored => {
                desk.stats.parts_repaired += 1;
                desk.stats.bytes_repaired += self.meta.part_len() as u64;
                Progress::Stored
            }
            PartAnswer::Superseded { version } => {
                desk.saw(self.meta.key_hash(), version);
                Progress::Moot
            }
            _ => Progress::Refused,
        };
    }

    /// Whether every part was answered, or refused.
    pub(super) fn over(&self) -> bool {
        !self.parts.iter().any(|(_, progress)| matches!(progress, Progress::Unsent | Progress::Asked(_)))
    }

    /// Whether every part was stored, or cannot be.
    pub(super) fn complete(&self) -> bool {
        self.parts.iter().all(|&(_, progress)| matches!(progress, Progress::Stored | Progress::Moot))
    }

    /// Withdraws all that is in flight.
    pub(super) fn withdraw_all<B>(&mut self, desk: &mut Desk<B>, now: Now) {
        for (_, progress) in &mut self.parts {
            if let Progress::Asked(ask) = *progress {
                desk.withdraw(ask, now);
            }
            if matches!(progress, Progress::Unsent | Progress::Asked(_)) {
                *progress = Progress::Refused;
            }
        }
    }
}

/// A record that is known to lack parts.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) name: RecordName,
    pub(super) attempt: u8,
    not_before: Timestamp,
}

/// Records that are known to lack parts: those that wait, and those under repair. Bounded.
#[derive(Default)]
pub(super) struct Notes {
    waiting: VecDeque<Note>,
    known: BTreeSet<(KeyHash, Record)>,
}

impl Notes {
    /// Records known to lack parts, waiting or under repair.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Notes a record to be completed later. False if the list is full.
    pub(super) fn add(&mut self, name: &RecordName, now: Now) -> bool {
        if self.known.contains(&(name.hash, name.record)) {
            return true;
        }
        if self.known.len() >= REPAIR_NOTES_MAX {
            return false;
        }
        self.known.insert((name.hash, name.record));
        self.waiting.push_back(Note {
            name: name.clone(),
            attempt: 0,
            not_before: now.mono + REPAIR_RETRY_AFTER,
        });
        true
    }

    /// Marks a record as under repair from now on; false if it is known already, or the list is full.
    pub(super) fn claim(&mut self, hash: KeyHash, record: Record) -> bool {
        self.known.len() < REPAIR_NOTES_MAX && self.known.insert((hash, record))
    }

    /// The next record whose time has come; it stays known until it is settled or put off.
    pub(super) fn next(&mut self, now: Now) -> Option<Note> {
        let ready = self.waiting.iter().take(NOTES_LOOKED_AT).position(|note| note.not_before <= now.mono)?;
        self.waiting.remove(ready)
    }

    /// A record under repair lacks nothing any more, or nothing that can be done about it.
    pub(super) fn settle(&mut self, hash: KeyHash, record: Record) {
        self.known.remove(&(hash, record));
    }

    /// A record under repair is left for another attempt, each after a longer pause. False if that was
    /// the last one.
    pub(super) fn put_off(&mut self, name: RecordName, attempt: u8, now: Now) -> bool {
        if attempt + 1 >= REPAIR_ATTEMPTS_MAX {
            self.settle(name.hash, name.record);
            return false;
        }
        let pause: Duration = REPAIR_RETRY_AFTER * (1 << attempt);
        self.waiting.push_back(Note { name, attempt: attempt + 1, not_before: now.mono + pause });
        true
    }
}

/// How many waiting notes are looked at for one whose time has come.
const NOTES_LOOKED_AT: usize = 64;
