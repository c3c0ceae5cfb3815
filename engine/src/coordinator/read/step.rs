//! What a read does next.

use hedgerow_wire::part::{PartDrop, PartKind};
use hedgerow_wire::time::Now;
use hedgerow_wire::types::{ReadPolicy, Version};

use super::super::api::Miss;
use super::super::confirm::{self, Standing, Verdict};
use super::super::desk::Desk;
use super::super::limits::{DROP_AGE_US, READ_ROUND_DELAY, READ_ROUNDS_MAX};
use super::super::version::age_us;
use super::{Completion, Dead, Known, Loss, Origin, ReadOp, Shape, Slot};

/// What a read does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Step {
    /// It waits for answers, or for time to pass.
    Wait,
    /// This version is to be completed before it is returned.
    Complete(Version),
    /// It is over.
    Done(End),
}

/// How a read ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum End {
    /// The parts of this version suffice (or it is a tombstone).
    Found { version: Version, confirmed: bool },
    /// A miss.
    Miss(Miss),
    /// Too many targets failed.
    Unavailable { have: u8, need: u8 },
    /// The time is up.
    Deadline,
    /// No target has room.
    Overloaded,
}

impl<B> ReadOp<B> {
    /// Does what can be done now.
    pub(in super::super) fn step(&mut self, desk: &mut Desk<B>, now: Now) -> Step {
        if now.mono >= self.answer_by {
            return Step::Done(self.at_deadline(desk));
        }
        if let Some(at) = self.round_at {
            if now.mono < at {
                return Step::Wait;
            }
            self.begin_round(desk);
        }
        self.recheck_at = hedgerow_wire::time::Timestamp::NEVER;
        self.mark_late(desk, now);
        self.fetch_newer(desk, now);
        loop {
            let Some(version) = self.newest() else { return self.seek(desk, now) };
            match self.pursue(version, desk, now) {
                Ok(step) => return step,
                Err(dead) => self.bury(dead),
            }
        }
    }

    /// The newest version seen that is not known to be beyond assembly.
    pub(super) fn newest(&self) -> Option<Version> {
        let alive = |version: &Version| self.dead.iter().all(|dead| dead.version != *version);
        if self.request.version.is_some() {
            return self.request.version.filter(alive);
        }
        let held = |slot: &Slot| match slot.known {
            Known::Holds(version) => Some(version),
            _ => None,
        };
        self.slots.iter().filter_map(held).filter(alive).max()
    }

    fn bury(&mut self, dead: Dead) {
        self.dead.push(dead);
        self.stalled_at = None;
    }

    /// Nothing was seen yet that could be returned. That there is nothing is said only when it is
    /// certain: absence is answered from the index, so a target that is late most likely holds a part.
    fn seek(&mut self, desk: &mut Desk<B>, now: Now) -> Step {
        let missing = self.missing_sayers(desk);
        if self.request.version.is_none() && missing == 0 && self.dead.is_empty() {
            return Step::Done(End::Miss(Miss::Absent));
        }
        if self.request.version.is_some() || missing == 0 {
            return self.give_up(desk, now);
        }
        let shape = self.shape(None, desk);
        if self.policy == ReadPolicy::All {
            self.fetch_all(&shape, desk, now);
        }
        // Out of reach among the expected targets does not mean that it is nowhere.
        let _out_of_reach = self.fetch(None, &shape, desk, now);
        self.fetch_confirmers(missing, desk, now);
        if self.in_flight() { Step::Wait } else { self.give_up(desk, now) }
    }

    fn in_flight(&self) -> bool {
        self.slots.iter().any(|slot| slot.ask.is_some())
    }

    /// How many more of the first m + 1 targets have to say what they hold, until it is certain that there
    /// is nothing to return: s + 1 of them would hold a version that was acknowledged. Where an older
    /// version is in sight, any of them may yet confirm it.
    fn missing_sayers(&self, desk: &Desk<B>) -> usize {
        let (m, spare) = (desk.config.code.m(), desk.config.code.quorum_spare());
        let says = |slot: &&Slot| matches!(slot.known, Known::Absent { .. } | Known::Holds(_));
        let sayers = self.slots.iter().take(m + 1).filter(says).count();
        let needed = if self.newest().is_some() { m + 1 } else { confirm::sayers_needed(m, spare) };
        needed.saturating_sub(sayers)
    }

    /// Everyone was asked, and too many could not say.
    fn unavailable(&self, have: u8, need: u8) -> End {
        let lost = |which: Loss| self.slots.iter().filter(|slot| slot.known == Known::Lost(which)).count();
        if lost(Loss::Full) > lost(Loss::Failed) + lost(Loss::Damaged) {
            return End::Overloaded;
        }
        End::Unavailable { have, need }
    }

    /// Assembles and confirms `version`; an error if it cannot be assembled.
    fn pursue(&mut self, version: Version, desk: &mut Desk<B>, now: Now) -> Result<Step, Dead> {
        self.widen(version, desk);
        let shape = self.shape(Some(version), desk);
        let have = self.satisfied(version, &shape);
        if !have {
            if self.policy == ReadPolicy::All && self.candidates.is_empty() {
                self.fetch_all(&shape, desk, now);
            }
            self.fetch(Some(version), &shape, desk, now)?;
        }
        if self.request.version.is_some() || self.request.immutable {
            return Ok(if have { self.assembled(version, &shape, true, desk, now) } else { Step::Wait });
        }
        let verdict = self.verdict(version, &shape, desk, now);
        if verdict != Verdict::Late {
            self.stalled_at = None;
        }
        if !have {
            return Ok(Step::Wait);
        }
        if verdict == Verdict::Complete && !self.whole(version, &shape, desk, now) {
            return Ok(Step::Wait);
        }
        Ok(match verdict {
            Verdict::Confirmed => self.assembled(version, &shape, true, desk, now),
            Verdict::Ask(_) | Verdict::Wait => Step::Wait,
            Verdict::Complete if self.completion == Completion::Open => Step::Complete(version),
            Verdict::Complete if self.completion == Completion::Running => Step::Wait,
            Verdict::Late if !self.patience_over(desk, now) => Step::Wait,
            Verdict::Complete | Verdict::Late | Verdict::Impossible => {
                self.unconfirmed(version, &shape, desk, now)
            }
        })
    }

    /// Whether there are all parts that a completion needs, or no hope of them: a range is satisfied
    /// by fewer.
    fn whole(&mut self, version: Version, shape: &Shape, desk: &mut Desk<B>, now: Now) -> bool {
        if self.candidate(version).is_some_and(|found| found.parts.len() >= shape.k) {
            return true;
        }
        if self.fetch(Some(version), &shape.whole(), desk, now).is_err() {
            self.completion = Completion::Over;
            return true;
        }
        false
    }

    /// Judges `version`, and asks for the confirmations that are missing.
    fn verdict(&mut self, version: Version, shape: &Shape, desk: &mut Desk<B>, now: Now) -> Verdict {
        if !shape.confirmable {
            return Verdict::Impossible;
        }
        let (m, spare) = (desk.config.code.m(), desk.config.code.quorum_spare());
        loop {
            let verdict = confirm::decide(m, spare, &self.standings(version, desk));
            let Verdict::Ask(count) = verdict else { return verdict };
            // Every turn leaves fewer that were not asked: this ends.
            self.ask_standing(version, m + 1, count, desk, now);
        }
    }

    /// Whether what is late has been waited for long enough.
    fn patience_over(&mut self, desk: &Desk<B>, now: Now) -> bool {
        let since = *self.stalled_at.get_or_insert(now.mono);
        let stuck = |slot: &Slot| slot.ask.is_none() || desk.targets.stuck(slot.target, now.mono);
        let mut confirmers = self.slots.iter().take(desk.config.code.m() + 1);
        now.mono.since(since) >= desk.config.confirm_patience || confirmers.all(stuck)
    }

    /// `version` may be returned. A repair first asks all its targets how they stand to it.
    fn assembled(
        &mut self,
        version: Version,
        shape: &Shape,
        confirmed: bool,
        desk: &mut Desk<B>,
        now: Now,
    ) -> Step {
        if matches!(self.origin, Origin::Repair { .. }) {
            self.ask_standing(version, shape.n, usize::MAX, desk, now);
            let waits = |slot: &Slot| slot.standing(version) == Standing::Pending;
            if self.slots.iter().take(shape.n).any(waits) {
                return Step::Wait;
            }
        }
        Step::Done(End::Found { version, confirmed })
    }

    /// `version` is there, and cannot be confirmed.
    fn unconfirmed(&mut self, version: Version, shape: &Shape, desk: &mut Desk<B>, now: Now) -> Step {
        let newer = |slot: &Slot| slot.standing(version) == Standing::Newer;
        // What is on the way may show something newer; of what is known to be newer even a late
        // answer is worth waiting for.
        if self.slots.iter().any(|slot| slot.ask.is_some() && (!slot.late || newer(slot))) {
            return Step::Wait;
        }
        if self.slots.iter().any(newer) {
            return self.give_up(desk, now);
        }
        match self.end_unconfirmed(version, shape, desk) {
            End::Found { .. } => self.assembled(version, shape, false, desk, now),
            end => Step::Done(end),
        }
    }

    /// How a read ends that found `version`, which cannot be confirmed. A tombstone may be returned, since that
    /// is a miss; but to a strict read a miss is one only if it is certain, and to none if who might hold what
    /// has taken its place merely had no room to be asked.
    fn end_unconfirmed(&self, version: Version, shape: &Shape, desk: &Desk<B>) -> End {
        let (m, spare) = (desk.config.code.m(), desk.config.code.quorum_spare());
        let deleted = self.candidate(version).is_some_and(|found| found.meta.kind == PartKind::Tombstone);
        let full = |slot: &Slot| slot.known == Known::Lost(Loss::Full);
        if deleted && self.slots.iter().take(m + 1).any(full) {
            return End::Overloaded;
        }
        let excused = confirm::excusable(m, spare, &self.standings(version, desk));
        if !self.request.strict && (deleted || excused || !shape.confirmable) {
            End::Found { version, confirmed: false }
        } else {
            End::Miss(Miss::Unconfirmed(version))
        }
    }

    /// The newest version cannot be had, and nothing older is certain. If its write may be under way,
    /// the read begins anew a little later. Short of certainty, what is late is waited for.
    fn give_up(&mut self, desk: &Desk<B>, now: Now) -> Step {
        let fixed = self.request.version.is_some();
        let newest = self.dead.iter().max_by_key(|dead| dead.version).copied();
        let Some(dead) = newest.filter(|dead| dead.certain) else {
            let (have, need) = newest.map_or((0, self.expected.k() as u8), |dead| (dead.have, dead.need));
            return self.wait_or(self.unavailable(have, need));
        };
        if fixed && dead.have == 0 {
            return Step::Done(End::Miss(Miss::Absent));
        }
        if !fixed && self.round < READ_ROUNDS_MAX && age_us(dead.version, now.wall_us) <= DROP_AGE_US {
            self.round_at = Some(now.mono + READ_ROUND_DELAY * (1 << self.round));
            return Step::Wait;
        }
        if !fixed && self.missing_sayers(desk) > 0 {
            return self.wait_or(self.unavailable(dead.have, dead.need));
        }
        Step::Done(End::Miss(Miss::Incomplete(dead.version)))
    }

    /// Waits if anything in flight may help: not where a version is given, that cannot be assembled.
    fn wait_or(&self, end: End) -> Step {
        let may_help = self.request.version.is_none() && self.in_flight();
        if may_help { Step::Wait } else { Step::Done(end) }
    }

    /// Forgets everything but what is in flight.
    fn begin_round(&mut self, desk: &mut Desk<B>) {
        desk.stats.read_rounds += 1;
        self.round += 1;
        self.round_at = None;
        self.stalled_at = None;
        self.candidates.clear();
        self.dead.clear();
        for slot in &mut self.slots {
            slot.known = Known::Nothing;
            slot.gave = None;
            slot.took = None;
        }
    }

    /// The outcome when the time is up.
    fn at_deadline(&self, desk: &Desk<B>) -> End {
        let Some(version) = self.newest() else { return End::Deadline };
        let shape = self.shape(Some(version), desk);
        let newer = self.slots.iter().any(|slot| slot.standing(version) == Standing::Newer);
        if newer || !self.satisfied(version, &shape) {
            return End::Deadline;
        }
        self.end_unconfirmed(version, &shape, desk)
    }

    /// Remains that are certain to be too few, and so old that no write of them can be under way: what
    /// to drop, and where.
    pub(in super::super) fn remains(&self, now: Now) -> impl Iterator<Item = (u32, PartDrop)> + '_ {
        let name = &self.request.name;
        let old = move |dead: &&Dead| dead.certain && age_us(dead.version, now.wall_us) > DROP_AGE_US;
        self.dead.iter().filter(old).flat_map(move |dead| {
            let version = dead.version;
            let holders = self.slots.iter().filter(move |slot| slot.known == Known::Holds(version));
            let drop = PartDrop { hash: name.hash, record: name.record, version };
            holders.map(move |slot| (slot.target, drop))
        })
    }
}
