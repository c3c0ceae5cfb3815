//! What an answer to a put or delete may be, and what follows from it.

use hedgerow_wire::frame::Status;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::Version;

use super::history::{Fate, Write};
use super::{Asked, Finding, Judge, Wrong};
use crate::sim::facts::{Answer, Facts};

impl Judge {
    pub(super) fn judge_write(
        &mut self,
        asked: &Asked,
        answer: &Answer,
        now: Timestamp,
        facts: &dyn Facts,
    ) -> Finding {
        match *answer {
            Answer::Written { version } => self.judge_written(asked, version, now, facts),
            Answer::Conflict { status: Status::VersionMismatch, version } => {
                if asked.op.kind.condition().is_none() {
                    return Err((Wrong::NoSuchAnswer, "a mismatch without a condition".to_owned()));
                }
                if version == asked.expected {
                    return Err((Wrong::Condition, format!("{version} was expected, and is there")));
                }
                self.refuse(asked)
            }
            // Parts of it may be there, until the newer write is everywhere.
            Answer::Conflict { status: Status::Superseded, .. }
            | Answer::Status(Status::Indeterminate)
            | Answer::Broken
            | Answer::Cancelled => Ok(()),
            Answer::Status(
                Status::DeadlineExceeded
                | Status::Overloaded
                | Status::Unavailable
                | Status::ShuttingDown
                | Status::Corrupt,
            ) => self.refuse(asked),
            _ => Err((Wrong::NoSuchAnswer, format!("{answer:?} to a write"))),
        }
    }

    fn write_of(&mut self, asked: &Asked) -> Option<&mut Write> {
        self.histories.get_mut(&asked.op.key)?.of_op_mut(asked.op.id)
    }

    fn refuse(&mut self, asked: &Asked) -> Finding {
        let Some(write) = self.write_of(asked) else { return Ok(()) };
        write.fate = Fate::Refused;
        match write.version {
            Some(version) => Err((Wrong::RefusedYetDone, format!("it was read as {version} before"))),
            None => Ok(()),
        }
    }

    fn judge_written(
        &mut self,
        asked: &Asked,
        version: Version,
        now: Timestamp,
        facts: &dyn Facts,
    ) -> Finding {
        let history = &self.histories[&asked.op.key];
        if let Some(other) = history.of_version(version).filter(|other| other.id != asked.op.id) {
            return Err((Wrong::Versions, format!("{version}, which write {} has", other.id)));
        }
        let known = history.of_op(asked.op.id).and_then(|write| write.version);
        if let Some(known) = known.filter(|&known| known != version) {
            return Err((Wrong::Versions, format!("{version}, and it was read as {known}")));
        }
        self.above_all_before(asked, version, facts)?;
        if asked.op.kind.condition().is_some() {
            self.judge_condition(asked, version, now, facts)?;
        }
        let Some(history) = self.histories.get_mut(&asked.op.key) else { return Ok(()) };
        history.last_seen = if asked.op.kind.is_put() { version } else { Version::ZERO };
        if let Some(write) = history.of_op_mut(asked.op.id) {
            write.fate = Fate::Done;
            write.version = Some(version);
            write.acked_at = Some(now);
        }
        Ok(())
    }

    /// An acknowledged write is newer than everything that was certain before it was sent: else no read would
    /// find it.
    fn above_all_before(&self, asked: &Asked, version: Version, facts: &dyn Facts) -> Finding {
        let key = asked.op.key;
        let hides = |write: &&Write| {
            write.id != asked.op.id
                && write.version > Some(version)
                && write.is_floor(asked.sent)
                && self.borne(write, key, facts)
                && !self.let_go(key, write.version.unwrap_or_default(), facts)
        };
        match self.histories[&key].writes.iter().find(hides) {
            Some(write) => {
                let newer = write.version.unwrap_or_default();
                Err((Wrong::Old, format!("acknowledged as {version}, below {newer} (write {})", write.id)))
            }
            None => Ok(()),
        }
    }

    fn judge_condition(&self, asked: &Asked, version: Version, now: Timestamp, facts: &dyn Facts) -> Finding {
        let (key, expected) = (asked.op.key, asked.expected);
        let broken = |what: String| Err((Wrong::Condition, what));
        if expected == Version::ZERO {
            if let Err((_, what)) = self.may_be_absent(asked, now, facts) {
                return broken(what);
            }
            // Conditional writes of a key take turns, so one with a lower version was over before.
            let before = |write: &&Write| {
                write.conditional()
                    && write.acked_at.is_some()
                    && write.version < Some(version)
                    && self.has_to_be_found(write, asked, now, facts)
            };
            return match self.histories[&key].writes.iter().find(before) {
                Some(write) => broken(format!("nothing was expected, and write {} is there", write.id)),
                None => Ok(()),
            };
        }
        if let Err((_, what)) = self.not_older(asked, expected, facts) {
            return broken(what);
        }
        // Whoever else was done in between, was done at a version that lies between.
        let between = |write: &&Write| {
            write.id != asked.op.id
                && write.acked_at.is_some()
                && write.version > Some(expected)
                && write.version < Some(version)
                && self.borne(write, key, facts)
        };
        match self.histories[&key].writes.iter().find(between) {
            Some(write) => broken(format!(
                "{expected} was expected, and write {} is {} between it and {version}",
                write.id,
                write.version.unwrap_or_default()
            )),
            None => Ok(()),
        }
    }
}
