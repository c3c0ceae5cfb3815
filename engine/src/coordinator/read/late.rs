//! When a part is late: compared with its siblings of the same read and with its target's recent
//! latency; and never when most targets are late.

use std::time::Duration;

use hedgerow_wire::time::Now;
use smallvec::SmallVec;

use super::super::desk::{AskKind, Desk};
use super::super::targets::Class;
use super::{ReadOp, Slot};

/// A part is not late before it took so many times as long as its siblings' median.
const SIBLING_FACTOR: u32 = 2;

impl<B> ReadOp<B> {
    /// Judges the asks in flight that are due to be judged.
    pub(super) fn mark_late(&mut self, desk: &mut Desk<B>, now: Now) {
        let mut overdue: SmallVec<[usize; 16]> = SmallVec::new();
        let siblings = self.siblings_took();
        let (class, _) = self.foreseen();
        let ceiling = desk.config.hedge_ceiling;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some((_, kind)) = slot.ask else { continue };
            if slot.late || slot.late_at > now.mono {
                continue;
            }
            let class = if kind == AskKind::Confirm { Class::Index } else { class };
            let usual = desk.targets.late_after(slot.target, class);
            let compared = siblings.map_or(usual, |took| usual.max(took * SIBLING_FACTOR)).min(ceiling);
            slot.late_at = slot.sent + compared;
            if slot.late_at <= now.mono {
                overdue.push(index);
            }
        }
        if overdue.is_empty() {
            return;
        }
        let n = self.shape(self.newest(), desk).n;
        if self.slow_together(now) * 2 > n || desk.targets.most_silent(now.mono) {
            desk.stats.hedges_most_late += 1;
            for index in overdue {
                let slot = &mut self.slots[index];
                let waited = now.mono.since(slot.sent);
                slot.late_at = now.mono + (waited / 2).max(desk.config.hedge_floor);
            }
            return;
        }
        for index in overdue {
            let slot = &mut self.slots[index];
            slot.late = true;
            if let Some((ask, _)) = slot.ask {
                desk.mark_late(ask);
            }
        }
    }

    /// Asks in flight that have waited for at least half of what makes them late: were most targets
    /// slow, they would not become late in the same moment.
    fn slow_together(&self, now: Now) -> usize {
        let waits = |slot: &&Slot| {
            let usual = slot.late_at.since(slot.sent);
            slot.ask.is_some() && (slot.late || now.mono.since(slot.sent) * 2 >= usual)
        };
        self.slots.iter().filter(waits).count()
    }

    /// Median of what the parts took that have come.
    fn siblings_took(&self) -> Option<Duration> {
        let mut took: SmallVec<[Duration; 16]> = self.slots.iter().filter_map(|slot| slot.took).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }
}
