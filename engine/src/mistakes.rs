//! Mistakes that can be planted, to show that the simulation finds them: each is one that is easily made,
//! at the place where it would be made. Without the feature `mistakes` there are none.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mistake {
    /// A write is acknowledged when one part less than its quorum is stored.
    QuorumTooSmall,
    /// A shard that is asked how it stands to a version says that it holds that one, if it holds any newer.
    ConfirmIgnoresVersion,
    /// A version is confirmed, or a miss said, with one target too few that holds nothing newer.
    SayersTooFew,
    /// A version is returned though only one target less than needed holds it.
    HoldersTooFew,
    /// What a shard has forgotten does not keep its absence from confirming something older.
    ForgottenIgnored,
    /// Parts of another version are put together with those of the first one seen.
    VersionsMixed,
    /// A repair is written over something newer.
    RepairOverNewer,
    /// The checksum of a payload is not checked.
    PayloadUnchecked,
    /// A slab is written to again while somebody reads it.
    PinIgnored,
    /// A slab is written to again before it is durable that it is empty.
    ReusedTooSoon,
    /// The last block of a slab is thought to be one further.
    SlabEnd,
    /// A recovery passes tombstones over.
    TombstonesForgotten,
    /// `synced` is acknowledged without a flush.
    SyncedUnflushed,
    /// A fill of the memory tier is taken though a write came first.
    FillWithoutToken,
    /// A delete leaves what the memory tier holds.
    InvalidateForgotten,
    /// What is expired is still given from the memory tier.
    ExpiryIgnored,
    /// Versions follow the wall clock where it steps back.
    ClockFollowed,
    /// Outcomes are emitted after the deadline instead of before it.
    DeadlineMargin,
    /// Bytes in flight at a target are not given back.
    BytesLeak,
}

impl Mistake {
    /// Every one.
    pub const ALL: &[Mistake] = &[
        Mistake::QuorumTooSmall,
        Mistake::ConfirmIgnoresVersion,
        Mistake::SayersTooFew,
        Mistake::HoldersTooFew,
        Mistake::ForgottenIgnored,
        Mistake::VersionsMixed,
        Mistake::RepairOverNewer,
        Mistake::PayloadUnchecked,
        Mistake::PinIgnored,
        Mistake::ReusedTooSoon,
        Mistake::SlabEnd,
        Mistake::TombstonesForgotten,
        Mistake::SyncedUnflushed,
        Mistake::FillWithoutToken,
        Mistake::InvalidateForgotten,
        Mistake::ExpiryIgnored,
        Mistake::ClockFollowed,
        Mistake::DeadlineMargin,
        Mistake::BytesLeak,
    ];
}

#[cfg(any(test, feature = "mistakes"))]
mod planting {
    use std::cell::Cell;

    use super::Mistake;

    thread_local! {
        static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// From now on this thread makes `mistake`, or none.
    pub fn plant(mistake: Option<Mistake>) {
        PLANTED.set(mistake);
    }

    /// Whether `mistake` is to be made.
    #[inline]
    pub(crate) fn planted(mistake: Mistake) -> bool {
        PLANTED.get() == Some(mistake)
    }
}

#[cfg(any(test, feature = "mistakes"))]
pub use planting::plant;
#[cfg(any(test, feature = "mistakes"))]
pub(crate) use planting::planted;

/// Whether `mistake` is to be made: never.
#[cfg(not(any(test, feature = "mistakes")))]
#[inline]
pub(crate) const fn planted(_mistake: Mistake) -> bool {
    false
}
