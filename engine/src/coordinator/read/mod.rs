//! A read: what it knows, and how it learns from answers. What it knows of one target is in `slot`,
//! what it does next in `step`, which targets it asks for parts in `fetch`, when a part is late in `late`.

pub(super) mod fetch;
pub(super) mod late;
mod slot;
pub(super) mod step;
pub(super) mod wants;

use std::ops::RangeInclusive;
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartKind, PartMeta, PartRead, Standing as HeldStanding};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{Code, ReadPolicy, Version};
use smallvec::SmallVec;

use super::api::{OpId, Parts, ReadRequest};
use super::confirm::{Standing, Standings};
use super::desk::{Ask, AskKind, Desk};
use super::limits::PART_BYTES_UNKNOWN;
use super::targets::Class;
use crate::mistakes::{Mistake, planted};
pub(super) use slot::{Known, Loss, Slot};

/// A version of which a part was had.
#[derive(Debug)]
pub(super) struct Candidate<B> {
    pub(super) meta: PartMeta,
    /// Distinct parts: number, slot that gave it, handle.
    pub(super) parts: SmallVec<[(u8, u8, B); 8]>,
}

/// A version that this read cannot assemble.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead {
    version: Version,
    /// Enough targets have said what they hold: too few parts exist.
    certain: bool,
    have: u8,
    need: u8,
}

/// How a record's parts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) k: usize,
    /// Slots that may hold a part.
    pub(super) n: usize,
    /// Data parts that suffice, if the read is of a range.
    wanted: Option<RangeInclusive<u8>>,
    /// The rules of confirmation hold: it has the configured m.
    confirmable: bool,
}

impl Shape {
    /// The same without a range: all k parts are wanted.
    pub(super) fn whole(&self) -> Shape {
        Shape { wanted: None, ..self.clone() }
    }
}

/// Who wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A client: `ReadDone` is emitted.
    Client,
    /// Background completion, at this attempt: all targets are surveyed.
    Repair {
        /// Attempts before this one.
        attempt: u8,
    },
}

/// Completion of a version before it is returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Completion {
    /// Not begun.
    Open,
    /// Under way.
    Running,
    /// It is over, whatever came of it.
    Over,
}

/// A read under way.
#[derive(Debug)]
pub(super) struct ReadOp<B> {
    pub(super) id: OpId,
    pub(super) request: ReadRequest,
    pub(super) origin: Origin,
    policy: ReadPolicy,
    /// When an outcome has to be emitted.
    answer_by: Timestamp,
    /// The code that is expected until a part is seen.
    expected: Code,
    pub(super) slots: SmallVec<[Slot; 16]>,
    pub(super) candidates: SmallVec<[Candidate<B>; 1]>,
    dead: SmallVec<[Dead; 1]>,
    pub(super) completion: Completion,
    /// Since when only what is late is waited for.
    stalled_at: Option<Timestamp>,
    /// When to look at the hedging budget again.
    recheck_at: Timestamp,
    round: u8,
    round_at: Option<Timestamp>,
    /// A hedge was refused by the budget.
    denied: bool,
}

impl<B> ReadOp<B> {
    pub(super) fn new(request: ReadRequest, origin: Origin, desk: &Desk<B>, now: Now) -> ReadOp<B> {
        let config = &desk.config;
        let expected = request.code_hint.unwrap_or(config.code);
        let policy = match request.policy {
            ReadPolicy::Default => config.policy,
            policy => policy,
        };
        let order = desk.order(request.name.hash, config.code.n().max(expected.n()));
        ReadOp {
            id: OpId(0),
            origin,
            policy,
            answer_by: config.answer_by(request.deadline, now.mono),
            expected,
            slots: order.iter().map(|&target| Slot::new(target)).collect(),
            candidates: SmallVec::new(),
            dead: SmallVec::new(),
            completion: Completion::Open,
            stalled_at: None,
            recheck_at: Timestamp::NEVER,
            round: 0,
            round_at: None,
            denied: false,
            request,
        }
    }

    pub(super) fn candidate(&self, version: Version) -> Option<&Candidate<B>> {
        self.candidates.iter().find(|candidate| candidate.meta.version == version)
    }

    /// Takes an answer to an ask of this read.
    pub(super) fn take(&mut self, ask: &Ask, answer: PartAnswer<B>, desk: &mut Desk<B>, now: Now) {
        let Some(slot) = self.slots.get_mut(usize::from(ask.slot)) else { return };
        slot.ask = None;
        slot.late = false;
        let about = slot.about;
        if matches!(answer, PartAnswer::Part { .. }) {
            slot.took = Some(now.mono.since(ask.sent));
        }
        let known = match (ask.kind, answer) {
            (_, PartAnswer::Part { meta, payload }) => self.take_part(ask.slot, meta, payload, desk),
            (_, PartAnswer::Other { version }) => {
                desk.saw(self.request.name.hash, version);
                Known::Holds(version)
            }
            (_, PartAnswer::Absent { forgotten_through: forgotten, unknown }) => {
                Known::Absent { forgotten, unknown }
            }
            (AskKind::Confirm, PartAnswer::Held(HeldStanding::Same)) => Known::Holds(about),
            (AskKind::Confirm, PartAnswer::Held(HeldStanding::Older)) => Known::Below(about),
            (AskKind::Confirm, PartAnswer::Held(HeldStanding::Newer)) => Known::Above(about),
            (AskKind::Confirm, PartAnswer::Held(HeldStanding::SameClock)) => Known::Unclear,
            (_, PartAnswer::Damaged) => Known::Lost(Loss::Damaged),
            (_, PartAnswer::Overloaded) => Known::Lost(Loss::Full),
            (_, PartAnswer::Failed | PartAnswer::Expired) => Known::Lost(Loss::Failed),
            _ => {
                desk.stats.answers_invalid += 1;
                Known::Lost(Loss::Failed)
            }
        };
        self.slots[usize::from(ask.slot)].learn(known);
    }

    fn take_part(&mut self, slot: u8, meta: PartMeta, payload: B, desk: &mut Desk<B>) -> Known {
        let name = &self.request.name;
        let (version, number) = (meta.version, meta.part);
        let ours = meta.record == name.record && meta.namespace == name.namespace && meta.key == name.key;
        if !ours || usize::from(number) >= meta.code.n() {
            desk.stats.answers_invalid += 1;
            return Known::Lost(Loss::Failed);
        }
        desk.saw(name.hash, version);
        if self.request.version.is_some_and(|wanted| wanted != version) {
            desk.stats.answers_invalid += 1;
            return Known::Holds(version);
        }
        let found = self
            .candidates
            .iter()
            .position(|candidate| candidate.meta.version == version || planted(Mistake::VersionsMixed));
        let at = found.unwrap_or_else(|| {
            self.candidates.push(Candidate { meta: meta.clone(), parts: SmallVec::new() });
            self.candidates.len() - 1
        });
        let candidate = &mut self.candidates[at];
        if !same_record(&candidate.meta, &meta) && !planted(Mistake::VersionsMixed) {
            desk.stats.answers_invalid += 1;
            return Known::Lost(Loss::Failed);
        }
        self.slots[usize::from(slot)].gave = Some(version);
        if candidate.parts.iter().all(|&(held, ..)| held != number) {
            candidate.parts.push((number, slot, payload));
        }
        Known::Holds(version)
    }

    /// Takes the answer to the write that completes `version` at one of the targets.
    pub(super) fn repaired(&mut self, slot: usize, version: Version, answer: &PartAnswer<B>) {
        let Some(slot) = self.slots.get_mut(slot).filter(|slot| slot.repairing) else { return };
        slot.repairing = false;
        slot.learn(match answer {
            PartAnswer::Stored => Known::Holds(version),
            // Held, or forgotten: it is asked what it holds.
            PartAnswer::Superseded { .. } => Known::Above(version),
            PartAnswer::Overloaded => Known::Lost(Loss::Full),
            _ => Known::Lost(Loss::Failed),
        });
    }

    /// Whether all targets that were asked have said how they stand to `version`.
    pub(super) fn all_said(&self, version: Version, shape: &Shape) -> bool {
        !self.slots.iter().take(shape.n).any(|slot| slot.owes_answer(version))
    }

    /// How the parts of `version` lie, as far as that is known.
    pub(super) fn shape(&self, version: Option<Version>, desk: &Desk<B>) -> Shape {
        let configured = desk.config.code;
        let Some(candidate) = version.and_then(|version| self.candidate(version)) else {
            let wanted = self.request.stripe_len.and_then(|len| self.wanted(self.expected, len));
            let (k, n) = (self.expected.k(), self.expected.n().min(self.slots.len()));
            return Shape { k, n, wanted, confirmable: true };
        };
        let meta = &candidate.meta;
        let wanted = match meta.kind {
            PartKind::Sole | PartKind::Stripe => self.wanted(meta.code, meta.stripe_len),
            PartKind::Head | PartKind::Tombstone => None,
        };
        let confirmable = match meta.kind {
            PartKind::Tombstone => meta.code.n() == configured.n(),
            _ => meta.code.m() == configured.m(),
        };
        Shape { k: meta.code.k(), n: meta.code.n().min(self.slots.len()), wanted, confirmable }
    }

    /// The data parts that the range touches.
    fn wanted(&self, code: Code, stripe_len: u32) -> Option<RangeInclusive<u8>> {
        let range = self.request.range.as_ref()?;
        let part_len = code.part_len(stripe_len as usize).max(1) as u32;
        let last = range.end.saturating_sub(1).max(range.start) / part_len;
        let most = code.k() as u32 - 1;
        Some((range.start / part_len).min(most) as u8..=last.min(most) as u8)
    }

    /// Makes sure that every target that may hold a part of `version` has a slot.
    fn widen(&mut self, version: Version, desk: &Desk<B>) {
        let Some(candidate) = self.candidate(version) else { return };
        let n = candidate.meta.code.n();
        if n > self.slots.len() && self.slots.len() < desk.targets.len() {
            let order = desk.order(self.request.name.hash, n);
            let known = self.slots.len();
            self.slots.extend(order.iter().skip(known).map(|&target| Slot::new(target)));
        }
    }

    /// Whether the parts that are there suffice.
    fn satisfied(&self, version: Version, shape: &Shape) -> bool {
        let Some(candidate) = self.candidate(version) else { return false };
        let has = |number: u8| candidate.parts.iter().any(|&(held, ..)| held == number);
        candidate.parts.len() >= shape.k || shape.wanted.clone().is_some_and(|mut wanted| wanted.all(has))
    }

    /// What the first m + 1 targets say about `version`.
    fn standings(&self, version: Version, desk: &Desk<B>) -> Standings {
        let confirmers = self.slots.iter().take(desk.config.code.m() + 1);
        confirmers.map(|slot| slot.standing(version)).collect()
    }

    /// Parts of `version` to return: those wanted if they are all there, else k, data parts first.
    pub(super) fn parts(&self, version: Version, shape: &Shape) -> Parts<B>
    where
        B: Clone,
    {
        let Some(candidate) = self.candidate(version) else { return Parts::new() };
        let mut parts: Parts<B> =
            candidate.parts.iter().map(|(number, _, payload)| (*number, payload.clone())).collect();
        parts.sort_unstable_by_key(|&(number, _)| number);
        if let Some(wanted) = shape.wanted.clone() {
            let held = parts.iter().filter(|(number, _)| wanted.contains(number)).count();
            if held == wanted.len() {
                parts.retain(|(number, _)| wanted.contains(number));
                return parts;
            }
        }
        parts.truncate(shape.k);
        parts
    }

    /// Class and bytes of the asks for parts, as far as they can be foreseen.
    fn foreseen(&self) -> (Class, u32) {
        let known = self.candidates.first().map(|candidate| candidate.meta.part_len());
        let hinted = || self.request.stripe_len.map(|len| self.expected.part_len(len as usize));
        match known.or_else(hinted) {
            Some(part_len) => (Class::of_part(part_len), part_len as u32),
            None => (Class::Any, PART_BYTES_UNKNOWN as u32),
        }
    }

    fn part_read(&self) -> PartRead {
        PartRead {
            name: self.request.name.clone(),
            version: self.request.version,
            deadline: self.request.deadline,
        }
    }

    /// Withdraws all that is in flight.
    pub(super) fn withdraw_all(&mut self, desk: &mut Desk<B>, now: Now) {
        for slot in &mut self.slots {
            if let Some((ask, _)) = slot.ask.take() {
                desk.withdraw(ask, now);
            }
        }
    }

    /// Whether a spare came before the late part.
    pub(super) fn hedge_won(&self) -> bool {
        self.slots.iter().any(|slot| slot.hedge && slot.took.is_some())
            && self.slots.iter().any(|slot| slot.late)
    }

    /// When this read has to be looked at again, whatever comes: later than `now`, as it was just
    /// looked at, but for its deadline.
    pub(super) fn wake_at(&self, patience: Duration, now: Now) -> Timestamp {
        if let Some(round_at) = self.round_at {
            return self.answer_by.min(round_at);
        }
        let stalled = self.stalled_at.map(|at| at + patience).filter(|&at| at > now.mono);
        let waiting = self.slots.iter().filter(|slot| slot.ask.is_some() && !slot.late);
        let late = waiting.map(|slot| slot.late_at).min();
        let soonest = [stalled, late, Some(self.recheck_at)].into_iter().flatten().min();
        self.answer_by.min(soonest.unwrap_or(Timestamp::NEVER))
    }
}

/// Whether two parts of one version belong to the same record: they may differ in their number only.
fn same_record(a: &PartMeta, b: &PartMeta) -> bool {
    a.kind == b.kind
        && a.code == b.code
        && a.stripe_len == b.stripe_len
        && a.stripe_size == b.stripe_size
        && a.object_len == b.object_len
}
