//! What an answer to a get may be.

use hedgerow_wire::frame::Status;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::Version;

use super::history::{Fate, Write};
use super::{Asked, Finding, Judge, Wrong};
use crate::coordinator::Miss;
use crate::sim::bytes;
use crate::sim::facts::{Answer, Facts, Found};
use crate::sim::plan::OpKind;

impl Judge {
    pub(super) fn judge_read(
        &mut self,
        asked: &Asked,
        answer: &Answer,
        now: Timestamp,
        facts: &dyn Facts,
    ) -> Finding {
        match answer {
            Answer::Found(found) => self.judge_found(asked, found, now, facts),
            Answer::Miss(why) => {
                let finding = self.judge_miss(asked, *why, now, facts);
                if let Some(history) = self.histories.get_mut(&asked.op.key) {
                    history.last_seen = Version::ZERO;
                    history.found_in_calm = None;
                }
                finding
            }
            Answer::OutOfRange { object_len } => self.judge_out_of_range(asked, *object_len),
            Answer::Status(Status::Unavailable | Status::Overloaded | Status::DeadlineExceeded) => {
                self.judge_not_served(asked, answer, now, facts)
            }
            Answer::Broken | Answer::Cancelled => Ok(()),
            Answer::Written { .. } | Answer::Conflict { .. } | Answer::Status(_) => {
                Err((Wrong::NoSuchAnswer, format!("{answer:?} to a get")))
            }
        }
    }

    fn judge_found(&mut self, asked: &Asked, found: &Found, now: Timestamp, facts: &dyn Facts) -> Finding {
        let whose = self.whose(asked, found, now)?;
        if let Some(write) = whose
            && self.must_be_expired(&write, asked.op.key, asked.sent, facts)
        {
            return Err((Wrong::Expired, format!("write {} of {}", write.id, found.version)));
        }
        if found.confirmed {
            self.not_older(asked, found.version, facts)?;
        } else if asked.strict() {
            return Err((Wrong::NoSuchAnswer, "unconfirmed, to a strict get".to_owned()));
        }
        self.note_found(asked, found, whose.map(|write| write.id), now);
        Ok(())
    }

    /// The write that was found; nothing where it could be one of several, all of them right.
    fn whose(&self, asked: &Asked, found: &Found, now: Timestamp) -> Result<Option<Write>, (Wrong, String)> {
        let history = &self.histories[&asked.op.key];
        let offset = asked.range().map_or(0, |(offset, _)| u64::from(offset));
        let wanted = match asked.range() {
            Some((_, len)) => u64::from(len).min(found.object_len.saturating_sub(offset)),
            None => found.object_len,
        };
        let fits = |write: &Write| {
            write.len().is_some_and(|len| u64::from(len) == found.object_len)
                && found.bytes.len() as u64 == wanted
                && bytes::matches(history.key, write.id, offset as usize, &found.bytes)
        };
        let told = || {
            let len = found.bytes.len();
            format!("{len} bytes from {offset} of {} as {}", found.object_len, found.version)
        };
        if let Some(write) = history.of_version(found.version) {
            if !fits(write) {
                return Err((Wrong::Bytes, format!("{}, which write {} has", told(), write.id)));
            }
            return match write.fate {
                Fate::Refused => Err((Wrong::RefusedYetDone, format!("write {}", write.id))),
                Fate::Doubtful | Fate::Done => Ok(Some(*write)),
            };
        }
        let mut fitting = history.writes.iter().filter(|write| write.sent <= now && fits(write));
        let Some(first) = fitting.next() else { return Err((Wrong::Bytes, told())) };
        let unknown = |write: &&Write| write.version.is_none() && write.fate != Fate::Refused;
        let mut possible = std::iter::once(first).chain(fitting).filter(unknown);
        match (possible.next(), possible.next()) {
            (Some(write), None) => Ok(Some(*write)),
            (Some(_), Some(_)) => Ok(None),
            (None, _) if first.fate == Fate::Refused => {
                Err((Wrong::RefusedYetDone, format!("write {} as {}", first.id, found.version)))
            }
            (None, _) => {
                Err((Wrong::Versions, format!("write {} has {:?}; {}", first.id, first.version, told())))
            }
        }
    }

    /// `version` is confirmed to a request: nothing newer may have been certain before it was sent.
    pub(super) fn not_older(&self, asked: &Asked, version: Version, facts: &dyn Facts) -> Finding {
        let key = asked.op.key;
        let newer = |write: &&Write| write.version > Some(version) && write.is_floor(asked.sent);
        let known = |write: &&Write| self.lost(write, key, facts).is_some();
        let missed = self.histories[&key].writes.iter().filter(newer).find(known);
        match missed {
            Some(write) => {
                let newer = write.version.unwrap_or_default();
                Err((
                    Wrong::Old,
                    format!("{version}, though {newer} (write {}) was certain before", write.id),
                ))
            }
            None => Ok(()),
        }
    }

    fn note_found(&mut self, asked: &Asked, found: &Found, write: Option<u32>, now: Timestamp) {
        let calm = asked.sent >= self.calm_at;
        let Some(history) = self.histories.get_mut(&asked.op.key) else { return };
        history.last_seen = found.version;
        let whole = asked.range().is_none();
        if calm && whole && !found.from_memory {
            let before = history.found_in_calm.filter(|&(version, _)| version == found.version);
            let reads = before.map_or(0, |(_, reads)| reads) + 1;
            history.found_in_calm = found.confirmed.then_some((found.version, reads));
        }
        let Some(write) = write.and_then(|id| history.of_op_mut(id)) else { return };
        write.version = Some(found.version);
        if found.confirmed {
            write.confirmed_at.get_or_insert(now);
            if whole {
                write.whole_at.get_or_insert(now);
            }
        }
    }

    fn judge_miss(&mut self, asked: &Asked, why: Option<Miss>, now: Timestamp, facts: &dyn Facts) -> Finding {
        if let Some(Miss::Unconfirmed(version)) = why {
            // To an ordinary get, only what was forgotten, or is newer, is a reason not to find what is there.
            let targets = facts.targets(asked.op.key);
            if asked.strict() || self.forgot_as_new(version, &targets, facts) {
                return Ok(());
            }
        }
        if let Some(Miss::Deleted(version)) = why {
            self.judge_deleted(asked, version, now, facts)?;
            // A tombstone that could not be confirmed in time is a miss to ordinary reads.
            if !asked.strict() && self.troubled(asked.sent, now) {
                return Ok(());
            }
        }
        self.may_be_absent(asked, now, facts)
    }

    /// A tombstone of `version` was found.
    fn judge_deleted(
        &mut self,
        asked: &Asked,
        version: Version,
        now: Timestamp,
        facts: &dyn Facts,
    ) -> Finding {
        if asked.strict() {
            self.not_older(asked, version, facts)?;
        }
        let Some(history) = self.histories.get_mut(&asked.op.key) else { return Ok(()) };
        if let Some(write) = history.of_version(version) {
            return match (write.deletes(), write.fate) {
                (false, _) => Err((Wrong::Versions, format!("{version} is found deleted, and was put"))),
                (true, Fate::Refused) => Err((Wrong::RefusedYetDone, format!("delete {}", write.id))),
                (true, _) => Ok(()),
            };
        }
        let possible = |write: &&mut Write| {
            write.deletes() && write.version.is_none() && write.fate != Fate::Refused && write.sent <= now
        };
        let mut possible = history.writes.iter_mut().filter(possible);
        match (possible.next(), possible.next()) {
            (Some(write), None) => write.version = Some(version),
            (Some(_), Some(_)) => {}
            (None, _) => return Err((Wrong::RefusedYetDone, format!("deleted as {version} by nobody"))),
        }
        Ok(())
    }

    /// That there is no object is said to a request: nothing may have to be there.
    pub(super) fn may_be_absent(&self, asked: &Asked, now: Timestamp, facts: &dyn Facts) -> Finding {
        let newest = self.histories[&asked.op.key].newest_there(asked.sent);
        match newest.filter(|write| self.has_to_be_found(write, asked, now, facts)) {
            Some(write) => {
                let version = write.version.unwrap_or_default();
                Err((Wrong::Lost, format!("absent, though {version} (write {}) has to be there", write.id)))
            }
            None => Ok(()),
        }
    }

    /// Whether a request that was done after `write` has to find it: it is a put, and nothing may have taken
    /// its place or let it go.
    pub(super) fn has_to_be_found(
        &self,
        write: &Write,
        asked: &Asked,
        now: Timestamp,
        facts: &dyn Facts,
    ) -> bool {
        let key = asked.op.key;
        let above = |other: &Write| {
            other.id != asked.op.id && other.sent <= now && self.may_be_above(other, write, key, facts)
        };
        !write.deletes()
            && !self.may_be_expired(write, now)
            && !self.histories[&key].writes.iter().any(above)
            && !self.let_go(key, write.version.unwrap_or_default(), facts)
            && self.borne(write, key, facts)
    }

    fn judge_out_of_range(&self, asked: &Asked, object_len: u64) -> Finding {
        let history = &self.histories[&asked.op.key];
        let has_len =
            |write: &Write| write.len().map(u64::from) == Some(object_len) && write.fate != Fate::Refused;
        let begins_beyond = asked.range().is_some_and(|(offset, _)| u64::from(offset) >= object_len);
        match begins_beyond && history.writes.iter().any(has_len) {
            true => Ok(()),
            false => Err((Wrong::Bytes, format!("out of range of {object_len} bytes, which no write has"))),
        }
    }

    /// A get in the calm time was not served: only more loss than is borne excuses that, and bounds that are
    /// as low as the world's, which completion alone may reach.
    fn judge_not_served(&self, asked: &Asked, answer: &Answer, now: Timestamp, facts: &dyn Facts) -> Finding {
        let bounded = *answer == Answer::Status(Status::Overloaded);
        if bounded || asked.sent < self.calm_at || self.may_be_absent(asked, now, facts).is_ok() {
            return Ok(());
        }
        Err((Wrong::NotServed, format!("{answer:?}, with nothing wrong")))
    }
}

impl Asked {
    fn strict(&self) -> bool {
        matches!(self.op.kind, OpKind::Get { strict: true, .. })
    }

    fn range(&self) -> Option<(u32, u32)> {
        match self.op.kind {
            OpKind::Get { range, .. } => range,
            OpKind::Put { .. } | OpKind::Delete { .. } => None,
        }
    }
}
