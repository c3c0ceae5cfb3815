//! A write: parts to all targets at once, acknowledged at the quorum.
//!
//! After the quorum the targets that have not answered get a bounded grace; then the payloads are
//! let go and a note is left, so that the version is completed later.

use hedgerow_wire::part::{PartAnswer, PartKind, RecordName, WritePurpose};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::Version;
use smallvec::SmallVec;

use super::api::{AskId, OpId, WriteOutcome, WriteRequest};
use super::desk::{Ask, Desk, Whose, WriteAsk};
use super::targets::TargetIndex;
use crate::mistakes::{Mistake, planted};

/// What became of one part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Under way.
    Pending(AskId),
    /// Stored at the acknowledgement level.
    Stored,
    /// Not stored: no room there, or too late.
    Refused,
    /// Not stored: so many microseconds ahead of the shard's clock.
    Ahead(u64),
    /// The device failed: it may be there or not.
    Unknown,
    /// Something newer is held.
    Newer(Version),
}

/// A write under way.
#[derive(Debug)]
pub(super) struct WriteOp {
    pub(super) id: OpId,
    pub(super) name: RecordName,
    version: Version,
    /// So many parts of it make a difference: it may be read itself, or too few of those that [`super::confirm`]
    /// asks say that nothing newer than a former version is there. With fewer, whatever was acknowledged before has
    /// enough parts left, and enough that vouch for it, if all that it is asked of can answer.
    matters: usize,
    /// Parts that make it acknowledged.
    quorum: usize,
    answer_by: Timestamp,
    deadline: Timestamp,
    /// The outcome was emitted; stragglers are waited for until then.
    grace: Option<Timestamp>,
    parts: SmallVec<[(TargetIndex, Fate); 16]>,
    sent: bool,
}

/// What a write does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It waits until then at most.
    Wait(Timestamp),
    /// The quorum is reached: the outcome is due, and the write goes on.
    Acknowledge(WriteOutcome, Timestamp),
    /// It is over without the quorum.
    Refuse(WriteOutcome),
    /// It was acknowledged before, and is over; `complete` if all parts are stored.
    End {
        /// Every part is stored, or superseded.
        complete: bool,
    },
}

impl WriteOp {
    pub(super) fn new<B>(request: &WriteRequest, desk: &Desk<B>, now: Now) -> WriteOp {
        let meta = &request.meta;
        let code = meta.code;
        // A tombstone is a copy on every target, but has to reach the quorum of the configured code:
        // fewer of the first m + 1 targets would hold it otherwise.
        let quorum = match meta.kind {
            PartKind::Tombstone => desk.config.code.write_quorum(),
            PartKind::Sole | PartKind::Head | PartKind::Stripe => code.write_quorum(),
        };
        let name = RecordName {
            namespace: meta.namespace,
            key: meta.key.clone(),
            hash: meta.key_hash(),
            record: meta.record,
        };
        WriteOp {
            id: OpId(0),
            version: meta.version,
            matters: code.k().min(code.quorum_spare() + 1),
            quorum,
            answer_by: desk.config.answer_by(request.deadline, now.mono),
            deadline: request.deadline,
            grace: None,
            parts: desk.order(name.hash, code.n()).iter().map(|&target| (target, Fate::Refused)).collect(),
            name,
            sent: false,
        }
    }

    /// Sends the parts, unless it is too late or too few targets have room. The first step follows.
    pub(super) fn send<B>(&mut self, request: &WriteRequest, desk: &mut Desk<B>, now: Now) {
        let part_len = request.meta.part_len() as u32;
        let room = self.parts.iter().filter(|&&(target, _)| desk.targets.room(target, part_len)).count();
        if now.mono >= self.answer_by || room < self.quorum {
            return;
        }
        for (index, (target, fate)) in self.parts.iter_mut().enumerate() {
            let whose = Whose { op: self.id, slot: index as u8, target: *target };
            let (purpose, deadline) = (WritePurpose::Put, request.deadline);
            let write = WriteAsk { part: index as u8, part_len, purpose, deadline, ack: request.ack };
            if let Some(ask) = desk.write(whose, write, now) {
                *fate = Fate::Pending(ask);
                self.sent = true;
            }
        }
    }

    /// Takes an answer to an ask of this write.
    pub(super) fn take<B>(&mut self, ask: &Ask, answer: &PartAnswer<B>, desk: &mut Desk<B>) {
        let Some((_, fate)) = self.parts.get_mut(usize::from(ask.slot)) else { return };
        *fate = match *answer {
            PartAnswer::Stored => Fate::Stored,
            PartAnswer::Superseded { version } => {
                desk.saw(self.name.hash, version);
                Fate::Newer(version)
            }
            PartAnswer::ClockAhead { ahead_us } => Fate::Ahead(ahead_us),
            PartAnswer::Overloaded | PartAnswer::Expired => Fate::Refused,
            PartAnswer::Failed => Fate::Unknown,
            _ => {
                desk.stats.answers_invalid += 1;
                Fate::Unknown
            }
        };
    }

    fn count(&self, which: impl Fn(Fate) -> bool) -> usize {
        self.parts.iter().filter(|&&(_, fate)| which(fate)).count()
    }

    /// What is to be done now.
    pub(super) fn step<B>(&mut self, desk: &Desk<B>, now: Now) -> Step {
        let pending = self.count(|fate| matches!(fate, Fate::Pending(_)));
        if let Some(until) = self.grace {
            let complete = self.count(|fate| !matches!(fate, Fate::Stored | Fate::Newer(_))) == 0;
            let over = pending == 0 || now.mono >= until;
            return if over { Step::End { complete } } else { Step::Wait(until) };
        }
        let stored = self.count(|fate| fate == Fate::Stored);
        if stored + usize::from(planted(Mistake::QuorumTooSmall)) >= self.quorum {
            let until = self.deadline.min(now.mono + desk.config.straggler_grace);
            self.grace = Some(until);
            let stored = stored as u8;
            return Step::Acknowledge(WriteOutcome::Acknowledged { version: self.version, stored }, until);
        }
        if !self.sent {
            let late = now.mono >= self.answer_by;
            return Step::Refuse(if late {
                WriteOutcome::DeadlineExceeded
            } else {
                WriteOutcome::Overloaded
            });
        }
        let newer = |&(_, fate): &(TargetIndex, Fate)| match fate {
            Fate::Newer(version) => Some(version),
            _ => None,
        };
        if let Some(version) = self.parts.iter().filter_map(newer).max() {
            return Step::Refuse(WriteOutcome::Superseded { version });
        }
        let visible = stored + self.count(|fate| fate == Fate::Unknown);
        let out_of_reach = stored + pending < self.quorum;
        if out_of_reach && visible >= self.matters {
            return Step::Refuse(WriteOutcome::Indeterminate);
        }
        if now.mono >= self.answer_by {
            let may_matter = visible + pending >= self.matters;
            return Step::Refuse(if may_matter { WriteOutcome::Indeterminate } else { self.refusal() });
        }
        if out_of_reach && pending == 0 { Step::Refuse(self.refusal()) } else { Step::Wait(self.answer_by) }
    }

    /// Why too few targets stored their part, where it is certain that no read will find any, and that enough
    /// of a former version is left.
    fn refusal(&self) -> WriteOutcome {
        let ahead = |&(_, fate): &(TargetIndex, Fate)| match fate {
            Fate::Ahead(ahead_us) => Some(ahead_us),
            _ => None,
        };
        match self.parts.iter().filter_map(ahead).max() {
            Some(ahead_us) => WriteOutcome::ClockAhead { ahead_us },
            None => WriteOutcome::Overloaded,
        }
    }

    /// Withdraws all that is in flight.
    pub(super) fn withdraw_all<B>(&mut self, desk: &mut Desk<B>, now: Now) {
        for (_, fate) in &mut self.parts {
            if let Fate::Pending(ask) = *fate {
                desk.withdraw(ask, now);
                *fate = Fate::Unknown;
            }
        }
    }
}
