//! What a version lacks: which parts are to be written where, to complete it.

use hedgerow_wire::types::Version;
use smallvec::SmallVec;

use super::super::targets::TargetIndex;
use super::{ReadOp, Shape};

/// A part that is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Want {
    /// Which of the read's targets.
    pub(in super::super) slot: u8,
    pub(in super::super) target: TargetIndex,
    pub(in super::super) part: u8,
}

/// Parts that are to be written.
pub(in super::super) type Wants = SmallVec<[Want; 8]>;

impl<B> ReadOp<B> {
    /// The parts that `version` is known to lack, each at a target that would take it. A target gets
    /// the part of its own position if no other holds that, else one that is missing.
    pub(in super::super) fn wants(&self, version: Version, shape: &Shape) -> Wants {
        let mut taken: SmallVec<[bool; 32]> = SmallVec::from_elem(false, shape.n);
        let given = self.candidate(version).into_iter().flat_map(|found| &found.parts);
        for &(number, ..) in given {
            if let Some(taken) = taken.get_mut(usize::from(number)) {
                *taken = true;
            }
        }
        let slots = || self.slots.iter().enumerate().take(shape.n);
        // Who has not said which part it holds is thought to hold that of its position.
        for (index, _) in slots().filter(|(_, slot)| !slot.lacks(version) && slot.gave != Some(version)) {
            taken[index] = true;
        }
        let mut wants = Wants::new();
        for (index, slot) in slots().filter(|(_, slot)| slot.lacks(version) && slot.idle()) {
            let free = || taken.iter().position(|&taken| !taken);
            let part = if taken[index] { free().unwrap_or(index) } else { index };
            taken[part] = true;
            wants.push(Want { slot: index as u8, target: slot.target, part: part as u8 });
        }
        wants
    }
}
