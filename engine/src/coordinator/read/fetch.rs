//! Which targets a read asks for parts, and for confirmations.

use hedgerow_wire::part::PartConfirm;
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::Version;

use super::super::desk::{AskKind, Desk, Whose};
use super::super::limits::READ_ROUND_DELAY;
use super::super::targets::Class;
use super::{Dead, Known, Loss, ReadOp, Shape};

/// Parts of one version: had, on the way, and possible.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    have: usize,
    pending: usize,
    late: usize,
    /// A confirmation or a repair is under way that may lead to a part.
    open: usize,
    askable: usize,
}

impl Tally {
    fn possible(&self) -> usize {
        self.have + self.pending + self.late + self.open + self.askable
    }
}

/// Why a part is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Needed,
    Hedge,
}

impl<B> ReadOp<B> {
    /// Asks for what is missing of `version` (or of whatever will be found). An error if it cannot be
    /// assembled any more.
    pub(super) fn fetch(
        &mut self,
        version: Option<Version>,
        shape: &Shape,
        desk: &mut Desk<B>,
        now: Now,
    ) -> Result<(), Dead> {
        if self.fetch_wanted(version, shape, desk, now) {
            return Ok(());
        }
        let mut tally = self.tally(version, shape);
        // Of a range, a late part has to be rebuilt from k others: all of them are hedges.
        let hedged_range = shape.wanted.is_some() && tally.late > 0;
        while !hedged_range && tally.have + tally.pending + tally.late < shape.k && tally.askable > 0 {
            self.ask_next(version, shape.n, Why::Needed, desk, now);
            tally = self.tally(version, shape);
        }
        if tally.possible() < shape.k {
            return Err(self.dead(version.unwrap_or(Version::ZERO), shape, tally.have));
        }
        let spares = shape.k.saturating_sub(tally.have + tally.pending).min(tally.askable);
        if spares > 0 && tally.late > 0 {
            self.hedge(version, shape, spares, desk, now);
        }
        Ok(())
    }

    /// Asks for everything at once.
    pub(super) fn fetch_all(&mut self, shape: &Shape, desk: &mut Desk<B>, now: Now) {
        while self.tally(None, shape).askable > 0 {
            self.ask_next(None, shape.n, Why::Needed, desk, now);
        }
    }

    fn hedge(
        &mut self,
        version: Option<Version>,
        shape: &Shape,
        spares: usize,
        desk: &mut Desk<B>,
        now: Now,
    ) {
        if !desk.hedges.take(spares) {
            if !self.denied {
                self.denied = true;
                desk.stats.hedges_over_budget += 1;
            }
            let hopeless = desk.config.hedge_ratio <= 0.0;
            self.recheck_at = if hopeless { Timestamp::NEVER } else { now.mono + READ_ROUND_DELAY };
            return;
        }
        for _ in 0..spares {
            self.ask_next(version, shape.n, Why::Hedge, desk, now);
        }
    }

    /// Of a range: asks the data parts that it touches of the targets that should hold them. False
    /// if that cannot suffice (any more).
    fn fetch_wanted(
        &mut self,
        version: Option<Version>,
        shape: &Shape,
        desk: &mut Desk<B>,
        now: Now,
    ) -> bool {
        let Some(wanted) = shape.wanted.clone() else { return false };
        let had = |op: &Self, number: u8| {
            let candidate = version.and_then(|version| op.candidate(version));
            candidate.is_some_and(|candidate| candidate.parts.iter().any(|&(held, ..)| held == number))
        };
        let feasible = wanted.clone().all(|number| {
            had(self, number)
                || self.slots.get(usize::from(number)).is_some_and(|slot| match slot.ask {
                    Some((_, kind)) => kind == AskKind::Read && !slot.late,
                    None => slot.askable(version) && !desk.targets.slow(slot.target),
                })
        });
        if !feasible {
            return false;
        }
        for number in wanted {
            let index = usize::from(number);
            if !had(self, number) && self.slots[index].ask.is_none() {
                self.ask_part(index, Why::Needed, desk, now);
                if self.slots[index].ask.is_none() {
                    return false;
                }
            }
        }
        true
    }

    fn tally(&self, version: Option<Version>, shape: &Shape) -> Tally {
        let candidate = version.and_then(|version| self.candidate(version));
        let have = candidate.map_or(0, |candidate| candidate.parts.len());
        let mut tally = Tally { have, ..Tally::default() };
        for slot in self.slots.iter().take(shape.n) {
            match slot.ask {
                Some((_, AskKind::Read)) if slot.late => tally.late += 1,
                Some((_, AskKind::Read)) => tally.pending += 1,
                Some(_) => tally.open += 1,
                None if slot.repairing => tally.open += 1,
                None if slot.askable(version) => tally.askable += 1,
                // Nothing there is an answer too, as long as no version was seen at all.
                None if version.is_none() && matches!(slot.known, Known::Absent { .. }) => tally.have += 1,
                None => {}
            }
        }
        tally
    }

    /// `version` cannot be assembled. That is certain when all that may hold a part of it, but did not
    /// say so, are too few.
    fn dead(&self, version: Version, shape: &Shape, have: usize) -> Dead {
        let known = self.candidate(version).is_some() || self.request.version.is_some();
        let may_hold = self.slots.iter().take(shape.n).filter(|slot| !slot.certain(version)).count();
        let certain = known && have + may_hold < shape.k;
        Dead { version, certain, have: have as u8, need: shape.k as u8 }
    }

    /// Asks the next target that may have a part: in ring order, slow ones last.
    fn ask_next(&mut self, version: Option<Version>, n: usize, why: Why, desk: &mut Desk<B>, now: Now) {
        let mut skipped = None;
        let mut chosen = None;
        for (index, slot) in self.slots.iter().enumerate().take(n) {
            if !slot.askable(version) {
                continue;
            }
            if !desk.targets.slow(slot.target) {
                chosen = Some(index);
                break;
            }
            skipped = skipped.or(Some(index));
        }
        let Some(index) = chosen.or(skipped) else { return };
        if let (Some(_), Some(skipped), Why::Needed) = (chosen, skipped, why) {
            desk.stats.avoided += 1;
            let (_, bytes) = self.foreseen();
            desk.probe(self.slots[skipped].target, || self.part_read(), bytes, now);
        }
        self.ask_part(index, why, desk, now);
    }

    /// Asks one target for its part; past its cap it is an erasure.
    fn ask_part(&mut self, index: usize, why: Why, desk: &mut Desk<B>, now: Now) {
        let (class, bytes) = self.foreseen();
        let read = self.part_read();
        let slot = &mut self.slots[index];
        let whose = Whose { op: self.id, slot: index as u8, target: slot.target };
        let Some(ask) = desk.read(whose, read, bytes, now) else {
            slot.known = Known::Lost(Loss::Full);
            return;
        };
        slot.ask = Some((ask, AskKind::Read));
        slot.sent = now.mono;
        slot.late = false;
        slot.late_at = now.mono + desk.targets.late_after(slot.target, class);
        match why {
            Why::Needed => {
                desk.hedges.earn();
                desk.stats.part_reads += 1;
            }
            Why::Hedge => {
                slot.hedge = true;
                desk.stats.hedges += 1;
            }
        }
    }

    /// Asks targets that hold something newer than was asked about for what they hold.
    pub(super) fn fetch_newer(&mut self, desk: &mut Desk<B>, now: Now) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if matches!(slot.known, Known::Above(_)) && slot.idle() && self.request.version.is_none() {
                self.ask_part(index, Why::Needed, desk, now);
            }
        }
    }

    /// When nothing is on the way: asks `count` of the first m + 1 targets for what they hold; when
    /// all of these were asked, any other.
    pub(super) fn fetch_confirmers(&mut self, count: usize, desk: &mut Desk<B>, now: Now) {
        let n = (desk.config.code.m() + 1).min(self.slots.len());
        let on_the_way = |op: &Self| op.slots.iter().filter(|slot| slot.ask.is_some() && !slot.late).count();
        if on_the_way(self) > 0 {
            return;
        }
        let askable = |op: &Self, n: usize| op.slots.iter().take(n).any(|slot| slot.askable(None));
        while on_the_way(self) < count && askable(self, n) {
            self.ask_next(None, n, Why::Needed, desk, now);
        }
        let all = self.slots.len();
        while on_the_way(self) == 0 && askable(self, all) {
            self.ask_next(None, all, Why::Needed, desk, now);
        }
    }

    /// Asks up to `count` of the first `n` targets how they stand to `version`, slow ones last: the
    /// index first, and where that does not tell, for the part.
    pub(super) fn ask_standing(
        &mut self,
        version: Version,
        n: usize,
        count: usize,
        desk: &mut Desk<B>,
        now: Now,
    ) {
        let mut left = count;
        for slow in [false, true] {
            for index in 0..n.min(self.slots.len()) {
                let slot = &self.slots[index];
                let unasked = slot.standing(version) == super::Standing::Unasked;
                if left == 0 || !unasked || desk.targets.slow(slot.target) != slow {
                    continue;
                }
                let asked = if slot.known == Known::Unclear {
                    self.ask_part(index, Why::Needed, desk, now);
                    self.slots[index].ask.is_some()
                } else {
                    self.ask_confirm(index, version, desk, now)
                };
                left -= usize::from(asked);
            }
        }
    }

    fn ask_confirm(&mut self, index: usize, version: Version, desk: &mut Desk<B>, now: Now) -> bool {
        let name = &self.request.name;
        let deadline = self.request.deadline;
        let confirm = PartConfirm { hash: name.hash, record: name.record, version, deadline };
        let slot = &mut self.slots[index];
        let whose = Whose { op: self.id, slot: index as u8, target: slot.target };
        // Nobody waits for a target that is stuck, but it may answer by chance.
        let stuck = desk.targets.stuck(slot.target, now.mono);
        let Some(ask) = desk.confirm(whose, confirm, now) else {
            slot.known = Known::Lost(Loss::Full);
            return false;
        };
        slot.ask = Some((ask, AskKind::Confirm));
        slot.about = version;
        slot.sent = now.mono;
        slot.late = stuck;
        slot.late_at = now.mono + desk.targets.late_after(slot.target, Class::Index);
        !stuck
    }
}
