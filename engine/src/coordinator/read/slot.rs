//! What a read knows of one target, and what follows from it.

use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::Version;

use super::super::api::AskId;
use super::super::confirm::Standing;
use super::super::desk::AskKind;
use super::super::targets::TargetIndex;
use crate::mistakes::{Mistake, planted};

/// What is known of what a target holds of the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Known {
    /// Nothing.
    Nothing,
    /// It holds exactly this version.
    Holds(Version),
    /// It holds something older than this.
    Below(Version),
    /// It holds something newer than this.
    Above(Version),
    /// It holds something of which the index does not tell enough; a part read does.
    Unclear,
    /// It holds nothing.
    Absent {
        /// It forgot nothing newer than this.
        forgotten: Version,
        /// It never knew what it held up to that.
        unknown: bool,
    },
    /// It could not say.
    Lost(Loss),
}

/// Why a target could not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Loss {
    /// It failed, or ran out of time.
    Failed,
    /// It has no room, or is past its cap.
    Full,
    /// What it holds is damaged, and of a version that it does not say.
    Damaged,
}

/// One of the record's targets, in ring order.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Slot {
    pub(in super::super) target: TargetIndex,
    pub(in super::super) known: Known,
    /// The ask in flight.
    pub(in super::super) ask: Option<(AskId, AskKind)>,
    /// The version that the ask in flight is about, if it is a confirmation.
    pub(super) about: Version,
    /// It has said that it holds something newer than this. Should it fail to say more, that remains.
    pub(super) above: Version,
    /// A part is being written here before the version is returned.
    pub(in super::super) repairing: bool,
    /// The version of the part that it gave.
    pub(super) gave: Option<Version>,
    /// When it was asked last; 0 if it never was.
    pub(super) sent: Timestamp,
    /// When the ask in flight is to be judged as late.
    pub(super) late_at: Timestamp,
    pub(super) late: bool,
    /// Its part was asked for because another was late.
    pub(super) hedge: bool,
    /// How long its part took.
    pub(super) took: Option<Duration>,
}

impl Slot {
    pub(super) fn new(target: TargetIndex) -> Slot {
        Slot {
            target,
            known: Known::Nothing,
            ask: None,
            about: Version::ZERO,
            above: Version::ZERO,
            repairing: false,
            gave: None,
            sent: Timestamp(0),
            late_at: Timestamp::NEVER,
            late: false,
            hedge: false,
            took: None,
        }
    }

    pub(super) fn learn(&mut self, known: Known) {
        self.known = known;
        if let Known::Above(bound) = known {
            self.above = self.above.max(bound);
        }
    }

    pub(super) fn idle(&self) -> bool {
        self.ask.is_none() && !self.repairing
    }

    /// Whether a part read could bring a part of `version` (or of any).
    pub(super) fn askable(&self, version: Option<Version>) -> bool {
        self.idle()
            && match (self.known, version) {
                (Known::Nothing | Known::Unclear, _) => true,
                (Known::Holds(held), Some(version)) => held == version && self.gave != Some(version),
                (Known::Below(bound), Some(version)) => bound > version,
                _ => false,
            }
    }

    /// How what the target holds stands to `version`.
    pub(super) fn standing(&self, version: Version) -> Standing {
        match self.known {
            Known::Holds(held) if held == version => return Standing::Holds,
            Known::Holds(held) if held > version => return Standing::Newer,
            Known::Holds(_) => return Standing::NothingNewer,
            Known::Below(bound) if bound <= version => return Standing::NothingNewer,
            Known::Above(bound) if bound >= version && (self.ask.is_none() || self.late) => {
                return Standing::Newer;
            }
            Known::Lost(_) if self.above >= version => return Standing::Newer,
            Known::Absent { forgotten, .. } if forgotten < version || planted(Mistake::ForgottenIgnored) => {
                return Standing::NothingNewer;
            }
            Known::Absent { unknown: true, .. } => return Standing::Unknown,
            Known::Absent { .. } => return Standing::Forgotten,
            Known::Lost(Loss::Damaged) if !self.repairing => return Standing::Damaged,
            Known::Lost(Loss::Failed | Loss::Full) => return Standing::Unable,
            Known::Nothing | Known::Below(_) | Known::Above(_) => {}
            Known::Unclear | Known::Lost(Loss::Damaged) => {}
        }
        if self.repairing || (self.ask.is_some() && !self.late) {
            Standing::Pending
        } else if self.ask.is_some() {
            Standing::Late
        } else {
            Standing::Unasked
        }
    }

    /// Whether it is known to lack `version`, and would take a part of it.
    pub(in super::super) fn lacks(&self, version: Version) -> bool {
        match self.known {
            Known::Holds(held) => held < version,
            Known::Below(bound) => bound <= version,
            // Having forgotten this very version, it takes it back.
            Known::Absent { forgotten, unknown } => unknown || forgotten <= version,
            // If that is newer, the write is refused.
            Known::Lost(loss) => loss == Loss::Damaged,
            Known::Nothing | Known::Unclear | Known::Above(_) => false,
        }
    }

    /// Whether it was asked, and has not said how what it holds stands to `version`.
    pub(super) fn owes_answer(&self, version: Version) -> bool {
        match self.known {
            Known::Nothing => self.sent > Timestamp(0),
            Known::Unclear => true,
            _ => matches!(self.standing(version), Standing::Unable | Standing::Late | Standing::Pending),
        }
    }

    /// Whether it certainly holds no part of `version` beyond one that it gave.
    pub(super) fn certain(&self, version: Version) -> bool {
        match self.known {
            Known::Holds(held) => held != version || self.gave == Some(version),
            Known::Below(bound) => bound <= version,
            Known::Above(bound) => bound >= version,
            Known::Absent { .. } | Known::Lost(Loss::Damaged) => true,
            Known::Nothing | Known::Unclear | Known::Lost(_) => false,
        }
    }
}
