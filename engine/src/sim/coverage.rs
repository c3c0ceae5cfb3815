//! Which faults and rare states there were: a set of runs that missed one of them has not shown that
//! it is borne.

use super::plan::{DeviceFault, FaultWhat, LinkFault};

/// Declares an enum of named things to count.
macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every one.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// What it is called.
            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }
    };
}

counted! {
    /// Kinds of faults.
    Kind {
        /// [`DeviceFault::Slow`].
        DeviceSlow = "device slow",
        /// [`DeviceFault::Stall`].
        DeviceStall = "device stalled",
        /// [`DeviceFault::ReadErrors`].
        ReadErrors = "read errors",
        /// [`DeviceFault::WriteErrors`].
        WriteErrors = "write errors",
        /// [`DeviceFault::BitRot`].
        BitRot = "bit rot",
        /// [`DeviceFault::TornWrites`].
        TornWrites = "torn writes",
        /// [`DeviceFault::Misdirected`].
        Misdirected = "misdirected writes",
        /// [`DeviceFault::LostWrites`].
        LostWrites = "lost writes",
        /// [`DeviceFault::Full`].
        Full = "device full",
        /// [`DeviceFault::Vanish`].
        Vanish = "device vanished",
        /// [`DeviceFault::Replaced`].
        Replaced = "device replaced",
        /// [`LinkFault::Delay`].
        LinkDelay = "link slow",
        /// [`LinkFault::Loss`].
        LinkLoss = "messages lost",
        /// [`LinkFault::Duplicate`].
        LinkDuplicate = "messages doubled",
        /// [`LinkFault::Reorder`].
        LinkReorder = "messages reordered",
        /// [`LinkFault::Damage`].
        LinkDamage = "messages damaged",
        /// [`LinkFault::Cut`].
        LinkCut = "link cut",
        /// [`FaultWhat::Stop`].
        Stop = "member stopped",
        /// [`FaultWhat::Kill`].
        Kill = "member killed",
        /// [`FaultWhat::PowerLoss`].
        PowerLoss = "power lost",
        /// [`FaultWhat::ClockJump`].
        ClockJump = "clock jumped",
        /// [`FaultWhat::ClockDrift`].
        ClockDrift = "clock drifted",
        /// [`FaultWhat::EpochBehind`].
        EpochBehind = "topology behind",
    }
}

counted! {
    /// States that are rare and matter: a rule of the core is there for each.
    Rare {
        /// A write was acknowledged with exactly its quorum.
        QuorumMetExactly = "quorum met exactly",
        /// A read saw an older version on a target than it returned.
        StaleVersionSeen = "stale version seen",
        /// A tombstone was written where a target still held an older version.
        TombstoneMeetsLaggard = "tombstone meets a laggard",
        /// A slab was used again while a reader still had its bytes.
        SlabReusedUnderReader = "slab reused under a reader",
        /// A hedge was sent, and the original was there first.
        HedgeBeatenByOriginal = "hedge beaten by the original",
        /// A hedge was there first.
        HedgeWon = "hedge won",
        /// A member with another topology was refused.
        EpochRefused = "refused for its topology",
        /// A part was written by a repair.
        ReadRepair = "part repaired",
        /// A process died while a commit was under way.
        CrashDuringCommit = "crash during a commit",
        /// A recovery found the log torn at its end.
        RecoveredTornTail = "torn tail recovered",
        /// A part was evicted while its object was read.
        EvictionDuringRead = "eviction during a read",
        /// An answer could not be confirmed.
        UnconfirmedAnswer = "unconfirmed answer",
        /// A fill of the memory tier was refused, since a write came first.
        FillOvertaken = "fill overtaken by a write",
        /// An answer came from the memory tier.
        MemoryHit = "memory hit",
        /// A write was answered `Indeterminate`.
        Indeterminate = "indeterminate write",
        /// A write was superseded.
        Superseded = "superseded write",
        /// A conditional write found its condition broken.
        ConditionFailed = "condition failed",
        /// A read needed parity.
        Reconstructed = "read through parity",
        /// A frame was refused by the decoder.
        FrameRefused = "frame refused",
        /// A deleted object was found deleted.
        Deleted = "found deleted",
    }
}

/// Counts of what there was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    kinds: [u64; Kind::ALL.len()],
    rare: [u64; Rare::ALL.len()],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { kinds: [0; Kind::ALL.len()], rare: [0; Rare::ALL.len()] }
    }
}

impl Coverage {
    /// A fault took effect.
    pub fn fault(&mut self, kind: Kind) {
        self.kinds[kind as usize] += 1;
    }

    /// A rare state was met.
    pub fn state(&mut self, rare: Rare) {
        self.rare[rare as usize] += 1;
    }

    /// A rare state was met `times` times.
    pub fn states(&mut self, rare: Rare, times: u64) {
        self.rare[rare as usize] += times;
    }

    /// Adds what another run had.
    pub fn add(&mut self, other: &Coverage) {
        for (mine, more) in self.kinds.iter_mut().zip(other.kinds) {
            *mine += more;
        }
        for (mine, more) in self.rare.iter_mut().zip(other.rare) {
            *mine += more;
        }
    }

    /// Every name with its count: faults, then rare states.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let kinds = Kind::ALL.iter().map(|&kind| (kind.text(), self.kinds[kind as usize]));
        let rare = Rare::ALL.iter().map(|&rare| (rare.text(), self.rare[rare as usize]));
        kinds.chain(rare)
    }

    /// What there was nothing of.
    pub fn missing(&self) -> Vec<&'static str> {
        self.counts().filter(|&(_, count)| count == 0).map(|(name, _)| name).collect()
    }
}

impl FaultWhat {
    /// Of which kind it is.
    pub fn kind(self) -> Kind {
        match self {
            FaultWhat::Device { kind, .. } => match kind {
                DeviceFault::Slow { .. } => Kind::DeviceSlow,
                DeviceFault::Stall => Kind::DeviceStall,
                DeviceFault::ReadErrors { .. } => Kind::ReadErrors,
                DeviceFault::WriteErrors { .. } => Kind::WriteErrors,
                DeviceFault::BitRot { .. } => Kind::BitRot,
                DeviceFault::TornWrites { .. } => Kind::TornWrites,
                DeviceFault::Misdirected { .. } => Kind::Misdirected,
                DeviceFault::LostWrites { .. } => Kind::LostWrites,
                DeviceFault::Full => Kind::Full,
                DeviceFault::Vanish => Kind::Vanish,
                DeviceFault::Replaced => Kind::Replaced,
            },
            FaultWhat::Link { kind, .. } => match kind {
                LinkFault::Delay { .. } => Kind::LinkDelay,
                LinkFault::Loss { .. } => Kind::LinkLoss,
                LinkFault::Duplicate { .. } => Kind::LinkDuplicate,
                LinkFault::Reorder { .. } => Kind::LinkReorder,
                LinkFault::Damage { .. } => Kind::LinkDamage,
                LinkFault::Cut => Kind::LinkCut,
            },
            FaultWhat::Stop { .. } => Kind::Stop,
            FaultWhat::Kill { .. } => Kind::Kill,
            FaultWhat::PowerLoss { .. } => Kind::PowerLoss,
            FaultWhat::ClockJump { .. } => Kind::ClockJump,
            FaultWhat::ClockDrift { .. } => Kind::ClockDrift,
            FaultWhat::EpochBehind { .. } => Kind::EpochBehind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_was_nothing_of_is_missing() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.missing().len(), Kind::ALL.len() + Rare::ALL.len());
        coverage.fault(FaultWhat::Kill { member: 1 }.kind());
        let mut other = Coverage::default();
        other.states(Rare::HedgeWon, 3);
        coverage.add(&other);
        let missing = coverage.missing();
        assert!(!missing.contains(&"member killed") && !missing.contains(&"hedge won"));
        assert_eq!(missing.len(), Kind::ALL.len() + Rare::ALL.len() - 2);
        assert!(coverage.counts().any(|(name, count)| (name, count) == ("hedge won", 3)));
    }
}
