//! Batches: touches and drops, gathered for each target, sent when full or after a short while.

use hedgerow_wire::part::{PartDrop, PartTouch, RecordName};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{KeyHash, Record};

use super::api::Action;
use super::desk::Desk;
use super::limits::{
    BATCH_DELAY, DROP_BATCH_MAX, TOUCH_BATCH_MAX, TOUCH_REPEAT_AFTER, TOUCHED_NAMES, TOUCHED_RECORDS,
};
use super::targets::TargetIndex;

#[derive(Default)]
struct Batch {
    drops: Vec<PartDrop>,
    touches: Vec<PartTouch>,
}

/// When a record was last told of as used. Small, since every hit of the memory tier looks here; two records
/// that look alike cost a touch.
#[derive(Clone, Copy, Default)]
struct Touched {
    tag: u32,
    /// On the monotonic clock, in milliseconds; wraps after weeks, which may cost a touch too.
    at_ms: u32,
}

/// What waits to be sent, and what was touched lately.
pub(super) struct Batches {
    by_target: Vec<Batch>,
    /// When the oldest that waits has waited enough.
    pub(super) flush_at: Option<Timestamp>,
    /// By key hash and record, the last one of each bucket.
    touched: Vec<Touched>,
    /// Likewise, the full names of fewer.
    names: Vec<Option<RecordName>>,
}

impl Batches {
    pub(super) fn new(targets: usize) -> Batches {
        Batches {
            by_target: (0..targets).map(|_| Batch::default()).collect(),
            flush_at: None,
            touched: vec![Touched::default(); TOUCHED_RECORDS],
            names: (0..TOUCHED_NAMES).map(|_| None).collect(),
        }
    }

    fn bucket(hash: KeyHash, record: Record, buckets: usize) -> usize {
        (hash.0 as usize).wrapping_add(record.0 as usize) & (buckets - 1)
    }

    /// Notes a use. False if the same was noted just before.
    pub(super) fn note_touch(&mut self, name: &RecordName, now: Now) -> bool {
        let touched = &mut self.touched[Self::bucket(name.hash, name.record, TOUCHED_RECORDS)];
        // Bits of the hash that choose no bucket; never the zero of an empty one.
        let tag = (name.hash.0 >> 64) as u32 | 1;
        let at_ms = (now.mono.0 / 1_000_000) as u32;
        if touched.tag == tag
            && u128::from(at_ms.wrapping_sub(touched.at_ms)) < TOUCH_REPEAT_AFTER.as_millis()
        {
            return false;
        }
        *touched = Touched { tag, at_ms };
        self.names[Self::bucket(name.hash, name.record, TOUCHED_NAMES)] = Some(name.clone());
        true
    }

    /// The full name of a record that was touched lately.
    pub(super) fn touched_name(&self, hash: KeyHash, record: Record) -> Option<&RecordName> {
        let name = self.names[Self::bucket(hash, record, TOUCHED_NAMES)].as_ref()?;
        (name.hash == hash && name.record == record).then_some(name)
    }

    pub(super) fn touch<B>(&mut self, target: TargetIndex, touch: PartTouch, desk: &mut Desk<B>, now: Now) {
        if desk.targets.stuck(target, now.mono) {
            desk.stats.touches_lost += 1;
            return;
        }
        let touches = &mut self.by_target[target as usize].touches;
        touches.push(touch);
        desk.stats.touches += 1;
        if touches.len() >= TOUCH_BATCH_MAX {
            let touches = std::mem::take(touches);
            desk.actions.push_back(Action::Touch { target: desk.targets.target(target), touches });
        }
        self.flush_at.get_or_insert(now.mono + BATCH_DELAY);
    }

    pub(super) fn drop<B>(&mut self, target: TargetIndex, drop: PartDrop, desk: &mut Desk<B>, now: Now) {
        if desk.targets.stuck(target, now.mono) {
            desk.stats.drops_lost += 1;
            return;
        }
        let drops = &mut self.by_target[target as usize].drops;
        drops.push(drop);
        desk.stats.drops += 1;
        if drops.len() >= DROP_BATCH_MAX {
            let drops = std::mem::take(drops);
            desk.actions.push_back(Action::AskDrop { target: desk.targets.target(target), drops });
        }
        self.flush_at.get_or_insert(now.mono + BATCH_DELAY);
    }

    /// Sends what has waited long enough.
    pub(super) fn flush<B>(&mut self, desk: &mut Desk<B>, now: Now) {
        if self.flush_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.flush_at = None;
        for (index, batch) in self.by_target.iter_mut().enumerate() {
            let target = desk.targets.target(index as TargetIndex);
            if !batch.drops.is_empty() {
                let drops = std::mem::take(&mut batch.drops);
                desk.actions.push_back(Action::AskDrop { target, drops });
            }
            if !batch.touches.is_empty() {
                let touches = std::mem::take(&mut batch.touches);
                desk.actions.push_back(Action::Touch { target, touches });
            }
        }
    }
}
