//! Whether what clients get is right: a plain model of what every key may be.
//!
//! | file | what it does |
//! |---|---|
//! | `history.rs` | the writes of one key, and what became of each |
//! | `reads.rs` | what an answer to a get may be |
//! | `writes.rs` | what an answer to a put or delete may be, and what follows from it |
//! | `end.rs` | what has to be so when the world is idle |

mod end;
mod history;
mod reads;
mod writes;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{Target, Version};

use super::facts::{Answer, Facts, LossKind};
use super::plan::{ClientOp, Condition, FaultEvent, FaultWhat, Plan, Shape};
use history::{Fate, History, Write};

/// How much later than its deadline an answer may be: nothing here takes time but what is waited for.
const TICK: Duration = Duration::from_micros(1);
/// How far clocks that nothing was done to may disagree about an expiry.
const EXPIRY_SLACK: Duration = Duration::from_millis(2);
/// How long after its end a fault may still excuse an answer.
const AFTERMATH: Duration = Duration::from_secs(2);
/// The bounds are looked at after so many answers.
const BOUNDS_EVERY: u64 = 16;

/// What may never happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Wrong {
    /// Bytes of no version of the object, or of two.
    Bytes,
    /// Two writes have one version, or one write has two.
    Versions,
    /// An answer is older than what was acknowledged, or returned as confirmed, before it was asked for.
    Old,
    /// A miss, or a condition that held as if nothing were there, though an object has to be.
    Lost,
    /// A write that was refused is there.
    RefusedYetDone,
    /// An object is there after its expiry.
    Expired,
    /// A conditional write was done though its condition did not hold.
    Condition,
    /// An answer after its deadline.
    Late,
    /// No answer.
    Unanswered,
    /// An answer that no request of this kind gets.
    NoSuchAnswer,
    /// Nothing is wrong any more, and an object that has to be readable is not served.
    NotServed,
    /// Nothing is wrong any more, an object was read, and a part of it is missing.
    NotWhole,
    /// A bound was exceeded.
    Bound,
    /// Something that was taken was not given back.
    Leak,
    /// The code says itself that something may not be.
    Panic,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Bytes => "wrong bytes",
            Wrong::Versions => "versions mixed up",
            Wrong::Old => "older than acknowledged",
            Wrong::Lost => "acknowledged and lost",
            Wrong::RefusedYetDone => "refused, yet done",
            Wrong::Expired => "expired, yet found",
            Wrong::Condition => "condition broken",
            Wrong::Late => "late",
            Wrong::Unanswered => "never answered",
            Wrong::NoSuchAnswer => "no such answer",
            Wrong::NotServed => "not served",
            Wrong::NotWhole => "not completed",
            Wrong::Bound => "beyond a bound",
            Wrong::Leak => "not given back",
            Wrong::Panic => "panic",
        })
    }
}

/// Something that may never happen, happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What.
    pub wrong: Wrong,
    /// When it was noticed.
    pub at: Timestamp,
    /// What exactly.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.6} s: {}", self.wrong, self.at.0 as f64 / 1e9, self.what)
    }
}

/// What was found to be wrong, and how it is told.
type Finding = Result<(), (Wrong, String)>;

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
struct Asked {
    op: ClientOp,
    sent: Timestamp,
    /// The version that its condition expects.
    expected: Version,
    answered: bool,
}

impl Asked {
    /// When it is late.
    fn answer_by(&self) -> Timestamp {
        self.sent + self.op.deadline
    }
}

/// How many targets of a write lost something.
struct Lost {
    noticed: usize,
    blank: usize,
}

/// Judges the answers of a run.
pub struct Judge {
    shape: Shape,
    calm_at: Timestamp,
    faults: Vec<FaultEvent>,
    /// No fault touches a clock: expiries can be judged.
    clocks_right: bool,
    asked: BTreeMap<u32, Asked>,
    histories: BTreeMap<u16, History>,
    answers: u64,
    violation: Option<Violation>,
}

impl Judge {
    /// Knows of the plan what is allowed by it; nothing was asked yet.
    pub fn new(plan: &Plan) -> Judge {
        let of_clock =
            |what: FaultWhat| matches!(what, FaultWhat::ClockJump { .. } | FaultWhat::ClockDrift { .. });
        Judge {
            shape: plan.shape,
            calm_at: plan.calm_at,
            faults: plan.faults.clone(),
            clocks_right: !plan.faults.iter().any(|fault| of_clock(fault.what)),
            asked: BTreeMap::new(),
            histories: BTreeMap::new(),
            answers: 0,
            violation: None,
        }
    }

    /// A client sends a request.
    pub fn invoked(&mut self, op: &ClientOp, now: Timestamp) {
        let history = self.histories.entry(op.key).or_insert_with(|| History::new(op.key));
        let expected = match op.kind.condition() {
            Some(Condition::LastSeen) => history.last_seen,
            Some(Condition::Absent) | None => Version::ZERO,
        };
        if op.kind.writes() {
            history.writes.push(Write::new(op, now));
        }
        self.asked.insert(op.id, Asked { op: *op, sent: now, expected, answered: false });
    }

    /// The version that the condition of a request expects, once it was invoked.
    pub fn expected(&self, op: &ClientOp) -> Version {
        self.asked.get(&op.id).map_or(Version::ZERO, |asked| asked.expected)
    }

    /// A client gets its answer.
    pub fn answered(&mut self, op: u32, answer: &Answer, now: Timestamp, facts: &dyn Facts) {
        let Some(asked) = self.asked.get_mut(&op) else {
            return self.blame(Wrong::NoSuchAnswer, now, format!("to op {op}, which nobody asked"));
        };
        if std::mem::replace(&mut asked.answered, true) {
            return self.blame(Wrong::NoSuchAnswer, now, format!("a second one to op {op}"));
        }
        let asked = *asked;
        let finding = self.in_time(&asked, answer, now, facts).and_then(|()| {
            if asked.op.kind.writes() {
                self.judge_write(&asked, answer, now, facts)
            } else {
                self.judge_read(&asked, answer, now, facts)
            }
        });
        if let Err((wrong, what)) = finding {
            self.blame(wrong, now, format!("op {op} of key {}: {what}", asked.op.key));
        }
        self.answers += 1;
        if self.answers.is_multiple_of(BOUNDS_EVERY) {
            self.bounded(now, facts);
        }
    }

    /// The first violation.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn blame(&mut self, wrong: Wrong, at: Timestamp, what: String) {
        self.violation.get_or_insert(Violation { wrong, at, what });
    }

    fn bounded(&mut self, now: Timestamp, facts: &dyn Facts) {
        for what in facts.beyond_bounds() {
            self.blame(Wrong::Bound, now, what);
        }
    }

    fn in_time(&self, asked: &Asked, answer: &Answer, now: Timestamp, facts: &dyn Facts) -> Finding {
        let late = now > asked.answer_by() + TICK;
        let is_answer = !matches!(answer, Answer::Broken | Answer::Cancelled);
        if late && is_answer && !facts.home_was_away(asked.op.key, asked.sent, now) {
            let by = now.since(asked.answer_by());
            return Err((Wrong::Late, format!("{} us after the deadline", by.as_micros())));
        }
        Ok(())
    }

    /// Whether a fault was there, or not long ago, between `from` and `to`.
    fn troubled(&self, from: Timestamp, to: Timestamp) -> bool {
        self.faults.iter().any(|fault| fault.at <= to && fault.until + AFTERMATH >= from)
    }

    /// The targets of a write: those of its own code.
    fn targets_of(&self, write: &Write, key: u16, facts: &dyn Facts) -> Vec<Target> {
        let mut targets = facts.targets(key);
        targets.truncate(write.code(&self.shape).n());
        targets
    }

    /// Whether what was lost since `write` was sent is no more than its acknowledgement promises to bear: it
    /// can still be put together, and its absence is not said. A quorum has so many parts more than are
    /// needed; what was never acknowledged, and only read, is promised nothing.
    fn borne(&self, write: &Write, key: u16, facts: &dyn Facts) -> bool {
        let spare = write.code(&self.shape).quorum_spare();
        let most = if write.acked_at.is_some() { spare } else { 0 };
        // What a blank device may have held counts as absent, beside those that the quorum left out.
        self.lost(write, key, facts).is_some_and(|lost| lost.blank == 0 && lost.noticed <= most)
    }

    /// Targets that lost something since `write` was sent; nothing if anything was lost that nobody can know
    /// of. However many notice, what they lost is never thought to be nothing newer.
    fn lost(&self, write: &Write, key: u16, facts: &dyn Facts) -> Option<Lost> {
        let acked = write.acked_at.is_some();
        let mut lost = Lost { noticed: 0, blank: 0 };
        for target in self.targets_of(write, key, facts) {
            let (mut damaged, mut blank) = (false, false);
            for loss in facts.losses(target).iter().filter(|loss| loss.at >= write.sent) {
                match loss.kind {
                    LossKind::Noticed => damaged = true,
                    LossKind::Blank => blank = true,
                    LossKind::Unnoticed => return None,
                    LossKind::Memory if !acked || !write.survives_kill() => return None,
                    LossKind::Unflushed if !acked || !write.survives_power() => return None,
                    LossKind::Memory | LossKind::Unflushed => {}
                }
            }
            lost.noticed += usize::from(damaged);
            lost.blank += usize::from(blank);
        }
        Some(lost)
    }

    /// Whether any of `targets` forgot something that is not older than `version`, of whatever key: then the
    /// absence of a part there confirms `version` no longer, nor does that target take a repair of it.
    fn forgot_as_new(&self, version: Version, targets: &[Target], facts: &dyn Facts) -> bool {
        targets.iter().any(|&target| facts.forgotten_hlc(target) >= version.hlc)
    }

    /// Whether any target let go of `version` of `key`, or of a newer one.
    fn let_go(&self, key: u16, version: Version, facts: &dyn Facts) -> bool {
        facts.targets(key).into_iter().any(|target| facts.let_go(target, key) >= version)
    }

    /// Whether `write` may have expired by `now`.
    fn may_be_expired(&self, write: &Write, now: Timestamp) -> bool {
        write.ttl().is_some_and(|ttl| !self.clocks_right || now + EXPIRY_SLACK >= write.sent + ttl)
    }

    /// When the home has taken `write` up at the latest, if ever: by its deadline, unless it stood still.
    fn taken_by(&self, write: &Write, key: u16, facts: &dyn Facts) -> Timestamp {
        match write.acked_at {
            Some(at) => at,
            None if facts.home_was_away(key, write.sent, write.answer_by) => Timestamp::NEVER,
            None => write.answer_by,
        }
    }

    /// Whether `write` has expired at `now`, whoever looks.
    fn must_be_expired(&self, write: &Write, key: u16, now: Timestamp, facts: &dyn Facts) -> bool {
        let over = |ttl| now > self.taken_by(write, key, facts) + ttl + EXPIRY_SLACK;
        self.clocks_right && write.ttl().is_some_and(over)
    }

    /// Whether `other` may stand above `write`: it is not known to be refused, or older.
    fn may_be_above(&self, other: &Write, write: &Write, key: u16, facts: &dyn Facts) -> bool {
        if other.id == write.id || other.fate == Fate::Refused {
            return false;
        }
        match (other.version, write.version) {
            (Some(other), Some(version)) => other > version,
            // It was taken up before this one was sent, so its version is older, if the clock of the home is right.
            _ => !self.clocks_right || self.taken_by(other, key, facts) + EXPIRY_SLACK >= write.sent,
        }
    }
}

#[cfg(test)]
mod tests;
