//! The desk through which all operations go out: asks with their bookkeeping, actions, budgets.

use std::collections::VecDeque;

use hedgerow_wire::part::{PartAnswer, PartConfirm, PartRead, WritePurpose};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{AckLevel, KeyHash, Version};
use smallvec::SmallVec;

use super::api::{Action, AskId, OpId};
use super::budget::{ByteBudget, HedgeBudget};
use super::config::Config;
use super::limits::ASK_LOST_AFTER;
use super::pool::Pool;
use super::stats::CoordinatorStats;
use super::targets::{Class, Lane, Said, TargetIndex, Targets};
use super::timers::Timers;
use super::version::Versions;
use crate::ring::Ring;

/// What an ask is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AskKind {
    /// A part read.
    Read,
    /// A part read whose answer nobody waits for.
    Probe,
    /// A confirmation.
    Confirm,
    /// A part write.
    Write,
}

impl AskKind {
    fn lane(self) -> Lane {
        match self {
            AskKind::Read | AskKind::Probe => Lane::Device,
            AskKind::Confirm => Lane::Index,
            AskKind::Write => Lane::Log,
        }
    }
}

/// An ask in flight: until it is answered, whatever became of its operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) kind: AskKind,
    pub(super) target: TargetIndex,
    /// Whose; `None` once nobody waits for the answer.
    pub(super) op: Option<OpId>,
    /// Which of the operation's targets this is.
    pub(super) slot: u8,
    pub(super) sent: Timestamp,
    deadline: Timestamp,
    bytes: u32,
    late: bool,
}

/// Where an ask belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose {
    pub(super) op: OpId,
    pub(super) slot: u8,
    pub(super) target: TargetIndex,
}

/// A part write, but for whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteAsk {
    pub(super) part: u8,
    pub(super) part_len: u32,
    pub(super) purpose: WritePurpose,
    pub(super) deadline: Timestamp,
    pub(super) ack: AckLevel,
}

/// What all operations share.
pub(super) struct Desk<B> {
    pub(super) config: Config,
    pub(super) ring: Ring,
    pub(super) targets: Targets,
    pub(super) asks: Pool<Ask>,
    pub(super) actions: VecDeque<Action<B>>,
    pub(super) hedges: HedgeBudget,
    pub(super) repair_bytes: ByteBudget,
    pub(super) timers: Timers,
    pub(super) versions: Versions,
    pub(super) stats: CoordinatorStats,
}

impl<B> Desk<B> {
    /// The first `n` targets of `hash` in ring order.
    pub(super) fn order(&self, hash: KeyHash, n: usize) -> SmallVec<[TargetIndex; 16]> {
        self.ring.targets(hash, n).iter().filter_map(|&target| self.targets.index_of(target)).collect()
    }

    fn open(&mut self, ask: Ask) -> AskId {
        self.targets.sent(ask.target, ask.bytes, ask.kind.lane(), ask.sent);
        AskId(self.asks.insert(ask))
    }

    /// Asks for a part that is thought to have `bytes`; `None` if the target is past its cap.
    pub(super) fn read(&mut self, whose: Whose, read: PartRead, bytes: u32, now: Now) -> Option<AskId> {
        let Whose { op, slot, target } = whose;
        if !self.targets.room(target, bytes) {
            self.stats.erasures += 1;
            return None;
        }
        let (kind, deadline, sent) = (AskKind::Read, read.deadline, now.mono);
        let ask = self.open(Ask { kind, target, op: Some(op), slot, sent, deadline, bytes, late: false });
        self.actions.push_back(Action::AskRead { ask, target: self.targets.target(target), read });
        Some(ask)
    }

    /// Asks a slow target for a part that nobody waits for, if a probe is due there.
    pub(super) fn probe(
        &mut self,
        target: TargetIndex,
        read: impl FnOnce() -> PartRead,
        bytes: u32,
        now: Now,
    ) {
        if !self.targets.take_probe(target, now.mono) {
            return;
        }
        self.stats.probes += 1;
        let read = read();
        let (kind, deadline, sent) = (AskKind::Probe, read.deadline, now.mono);
        let ask = self.open(Ask { kind, target, op: None, slot: 0, sent, deadline, bytes, late: false });
        self.actions.push_back(Action::AskRead { ask, target: self.targets.target(target), read });
    }

    /// Asks for a confirmation; `None` if the target is past its cap.
    pub(super) fn confirm(&mut self, whose: Whose, confirm: PartConfirm, now: Now) -> Option<AskId> {
        let Whose { op, slot, target } = whose;
        if !self.targets.room(target, 0) {
            self.stats.erasures += 1;
            return None;
        }
        let (kind, deadline, sent) = (AskKind::Confirm, confirm.deadline, now.mono);
        let ask = self.open(Ask { kind, target, op: Some(op), slot, sent, deadline, bytes: 0, late: false });
        let target = self.targets.target(target);
        self.actions.push_back(Action::AskConfirm { ask, target, confirm });
        self.stats.confirms += 1;
        Some(ask)
    }

    /// Asks to store a part; `None` if the target is past its cap.
    pub(super) fn write(&mut self, whose: Whose, write: WriteAsk, now: Now) -> Option<AskId> {
        let Whose { op, slot, target } = whose;
        let WriteAsk { part, part_len: bytes, purpose, deadline, ack } = write;
        if !self.targets.room(target, bytes) {
            self.stats.writes_capped += 1;
            return None;
        }
        let (kind, sent) = (AskKind::Write, now.mono);
        let ask = self.open(Ask { kind, target, op: Some(op), slot, sent, deadline, bytes, late: false });
        let target = self.targets.target(target);
        self.actions.push_back(Action::AskWrite { ask, op, target, part, purpose, deadline, ack });
        self.stats.part_writes += 1;
        Some(ask)
    }

    /// Nobody waits for this answer any more. It counts as in flight until it comes.
    pub(super) fn withdraw(&mut self, id: AskId, now: Now) {
        let Some(ask) = self.asks.get_mut(id.0) else { return };
        ask.op = None;
        if ask.late {
            self.targets.at_least(ask.target, now.mono.since(ask.sent));
        }
        self.actions.push_back(Action::Withdraw { ask: id, target: self.targets.target(ask.target) });
    }

    /// A read has given this ask up as late (it still takes the answer if it comes).
    pub(super) fn mark_late(&mut self, id: AskId) {
        if let Some(ask) = self.asks.get_mut(id.0) {
            ask.late = true;
            self.targets.late(ask.target);
        }
    }

    /// Takes the ask that an answer belongs to, and learns from it.
    pub(super) fn answered(&mut self, id: AskId, answer: &PartAnswer<B>, now: Now) -> Option<Ask> {
        let Some(ask) = self.asks.remove(id.0) else {
            self.stats.answers_unknown += 1;
            return None;
        };
        let took = now.mono.since(ask.sent);
        let said = said(ask.kind, answer);
        if ask.op.is_some() && useless(answer) {
            self.stats.erasures += 1;
            self.targets.erasure(ask.target);
        }
        self.targets.learn(ask.target, said, took, ask.late);
        self.targets.done(ask.target, ask.bytes, ask.kind.lane(), now.mono);
        self.targets.works(ask.target, said, ask.sent);
        if ask.kind == AskKind::Probe {
            let took = match said {
                Said::Well(class) => Some((class, took)),
                Said::Badly | Said::Something => None,
            };
            self.targets.probed(ask.target, took);
        }
        Some(ask)
    }

    /// Gives up asks that must be lost: long past their deadline, while their target has answered later
    /// ones from the same place. What a stuck device is asked stays in flight, though the index answers.
    /// Probes are given up all the same: they must not keep the next one away for ever, which is what
    /// finds out that a target is back whose cap is full of lost asks. An operation has ended by its
    /// deadline, so nobody waits for them.
    pub(super) fn sweep_lost(&mut self, now: Now) {
        let lost: SmallVec<[u64; 16]> = self
            .asks
            .iter()
            .filter(|(_, ask)| {
                let over = ask.deadline + ASK_LOST_AFTER;
                let answers = self.targets.works_since(ask.target, ask.kind.lane()) > ask.deadline;
                over < now.mono && ask.op.is_none() && (answers || ask.kind == AskKind::Probe)
            })
            .map(|(id, _)| id)
            .collect();
        for id in lost {
            let Some(ask) = self.asks.remove(id) else { continue };
            self.stats.asks_lost += 1;
            self.targets.lost(ask.target, ask.bytes, ask.kind.lane());
            if ask.kind == AskKind::Probe {
                self.targets.probed(ask.target, None);
            }
        }
    }

    /// A version of `hash` was seen in an answer.
    pub(super) fn saw(&mut self, hash: KeyHash, version: Version) {
        self.versions.saw(hash, version);
    }
}

fn said<B>(kind: AskKind, answer: &PartAnswer<B>) -> Said {
    match (kind, answer) {
        (_, PartAnswer::Part { meta, .. }) => Said::Well(Class::of_part(meta.part_len())),
        (_, PartAnswer::Stored) => Said::Well(Class::Write),
        (AskKind::Confirm, PartAnswer::Held(_) | PartAnswer::Absent { .. }) => Said::Well(Class::Index),
        (AskKind::Probe, PartAnswer::Other { .. } | PartAnswer::Absent { .. }) => Said::Well(Class::Index),
        (_, PartAnswer::Failed | PartAnswer::Overloaded) => Said::Badly,
        _ => Said::Something,
    }
}

fn useless<B>(answer: &PartAnswer<B>) -> bool {
    matches!(answer, PartAnswer::Failed | PartAnswer::Overloaded | PartAnswer::Damaged | PartAnswer::Expired)
}
