//! What the generator knows of every object, and what an answer may therefore be. Pure.
//!
//! An object has one writer, and its next write begins only when the outcome of the last one can change no more. So
//! the writes of an object are in order, and of each is known when it was sent and what became of it. A read must
//! find the newest write that was acknowledged before the read was sent, or one after it that may have been done.

use hedgerow_wire::frame::Status;

use crate::pattern::Pattern;
use crate::request::{Answer, Kind, Request, object_content_seed};

/// Targets of an object that may be lost without losing what was acknowledged: `n - w` of 4+2.
pub const TARGETS_LOST_MAX: usize = 1;
/// How long after its deadline a write whose answer never came may still be done.
const DOUBT_NS: u64 = 2_000_000_000;

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not known: it may be found, or not.
    Doubtful,
    /// Acknowledged, or found, at this time in nanoseconds.
    Done(u64),
    /// Refused: it must never be found.
    Refused,
}

/// A write of an object.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// What was put, by its length; nothing: it was deleted.
    len: Option<u64>,
    sent_ns: u64,
    fate: Fate,
}

/// What an answer was found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// As it may be.
    Right,
    /// Older than what was acknowledged, and marked as unconfirmed.
    OldUnconfirmed,
    /// Lost or old, but more of the object's targets were damaged since than is promised to be borne.
    BeyondPromise,
    /// Not the bytes of any version of this object.
    Wrong,
    /// Older than what was acknowledged before the read was sent.
    Old,
    /// What was acknowledged is not there.
    Lost,
    /// A write that was refused is there.
    Refused,
}

#[derive(Default)]
struct Object {
    /// Version `i + 1` is the write at `i`.
    writes: Vec<Write>,
    /// No further write begins before this.
    free_at_ns: u64,
}

/// What is known of the objects of one daemon.
pub struct Record {
    set: u8,
    objects: Vec<Object>,
    /// When which shard lost something for good.
    harmed: Vec<(u64, u16)>,
}

impl Record {
    /// Nothing is there.
    pub fn new(set: u8, objects: u64) -> Record {
        Record { set, objects: (0..objects).map(|_| Object::default()).collect(), harmed: Vec::new() }
    }

    /// Begins a write, if the last one of the object is decided. Its version.
    pub fn begin(&mut self, object: u64, len: Option<u64>, now_ns: u64) -> Option<u64> {
        let object = &mut self.objects[object as usize];
        if now_ns < object.free_at_ns {
            return None;
        }
        object.free_at_ns = u64::MAX;
        object.writes.push(Write { len, sent_ns: now_ns, fate: Fate::Doubtful });
        Some(object.writes.len() as u64)
    }

    /// The length of what was put last, if that is known to be there.
    pub fn settled_len(&self, object: u64) -> Option<u64> {
        let last = self.objects[object as usize].writes.last()?;
        matches!(last.fate, Fate::Done(_)).then_some(last.len).flatten()
    }

    /// A shard has lost something for good.
    pub fn harm(&mut self, shard: u16, now_ns: u64) {
        self.harmed.push((now_ns, shard));
    }

    /// Judges the answer to a write; none: its connection broke.
    pub fn written(&mut self, request: &Request, status: Option<Status>, now_ns: u64) -> Finding {
        let object = &mut self.objects[request.object as usize];
        let write = &mut object.writes[request.version as usize - 1];
        object.free_at_ns = now_ns;
        match status {
            Some(Status::Ok) => write.fate = Fate::Done(now_ns),
            Some(Status::Overloaded | Status::ShuttingDown | Status::Corrupt | Status::DeadlineExceeded) => {
                // A read may have found it already.
                if write.fate != Fate::Doubtful {
                    return Finding::Refused;
                }
                write.fate = Fate::Refused;
            }
            Some(_) => {}
            None => object.free_at_ns = now_ns + u64::from(request.deadline_us) * 1000 + DOUBT_NS,
        }
        Finding::Right
    }

    /// Judges the answer to a read. Only a status that says something about the object may be asked about.
    pub fn read(&mut self, answer: &Answer, pattern: &Pattern) -> Finding {
        let request = &answer.request;
        let writes = &self.objects[request.object as usize].writes;
        let done_before = |write: &Write| matches!(write.fate, Fate::Done(at) if at <= answer.sent_ns);
        let floor = writes.iter().rposition(done_before);
        let top = writes.iter().rposition(|write| write.sent_ns <= answer.end_ns);
        let found = match answer.status {
            Status::NotFound => None,
            _ => {
                let place = top.and_then(|top| {
                    (0..=top).rev().find(|&place| self.is_version(answer, place as u64 + 1, pattern))
                });
                if answer.wrong || place.is_none() {
                    return Finding::Wrong;
                }
                place
            }
        };
        let finding = match (found, floor) {
            (None, None) => Finding::Right,
            (None, Some(floor)) => {
                let may_be_gone = |write: &Write| write.fate != Fate::Refused;
                let later = &writes[floor + 1..top.map_or(floor + 1, |top| top.max(floor) + 1)];
                match writes[floor].len.is_none() || later.iter().any(may_be_gone) {
                    true => Finding::Right,
                    false => Finding::Lost,
                }
            }
            (Some(found), _) if writes[found].fate == Fate::Refused => Finding::Refused,
            (Some(found), Some(floor)) if found < floor && answer.unconfirmed => Finding::OldUnconfirmed,
            (Some(found), Some(floor)) if found < floor => Finding::Old,
            (Some(_), _) => Finding::Right,
        };
        self.note(answer, found, finding);
        match (finding, floor) {
            (Finding::Lost | Finding::Old, Some(floor)) if self.beyond_promise(request.object, floor) => {
                Finding::BeyondPromise
            }
            (finding, _) => finding,
        }
    }

    /// What a whole and confirmed answer has found is there from then on.
    fn note(&mut self, answer: &Answer, found: Option<usize>, finding: Finding) {
        let request = &answer.request;
        if let (Some(found), Finding::Right, false, false) =
            (found, finding, answer.unconfirmed, request.is_range())
        {
            let write = &mut self.objects[request.object as usize].writes[found];
            if write.fate == Fate::Doubtful {
                write.fate = Fate::Done(answer.end_ns);
            }
        }
    }

    /// Whether the answer is right for a version of its object.
    fn is_version(&self, answer: &Answer, version: u64, pattern: &Pattern) -> bool {
        let request = &answer.request;
        let write = &self.objects[request.object as usize].writes[version as usize - 1];
        let (Some(len), Kind::Get { offset, length }) = (write.len, request.kind) else { return false };
        let wanted = length.min(len.saturating_sub(offset));
        let seed = object_content_seed(self.set, request.object, version);
        answer.object_len == len
            && answer.body.len() as u64 == wanted
            && pattern.check_all(seed, offset, &answer.body)
    }

    /// Whether more than is promised to be borne was lost of what an object is known to be.
    pub fn may_be_lost(&self, object: u64) -> bool {
        let done = |write: &Write| matches!(write.fate, Fate::Done(_));
        let newest = self.objects[object as usize].writes.iter().rposition(done);
        newest.is_some_and(|write| self.beyond_promise(object, write))
    }

    /// Whether more targets have lost something since this write than may be lost.
    fn beyond_promise(&self, object: u64, write: usize) -> bool {
        let since_ns = self.objects[object as usize].writes[write].sent_ns;
        let mut shards: Vec<u16> =
            self.harmed.iter().filter(|(at, _)| *at >= since_ns).map(|(_, shard)| *shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.len() > TARGETS_LOST_MAX
    }

    /// Spoils the record on purpose, to show that what it is then at odds with is noticed: as if the newest version of
    /// `object` had other bytes.
    pub fn plant_other_bytes(&mut self, object: u64) {
        if let Some(write) = self.objects[object as usize].writes.last_mut() {
            write.len = write.len.map(|len| len + 1);
        }
    }

    /// The same: as if `object` had been written again, and that acknowledged.
    pub fn plant_write(&mut self, object: u64, now_ns: u64) {
        let write = Write { len: Some(1), sent_ns: now_ns, fate: Fate::Done(now_ns) };
        self.objects[object as usize].writes.push(write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{get, put};

    const SET: u8 = b'c';
    const LEN: u64 = 10_000;

    struct World {
        record: Record,
        pattern: Pattern,
    }

    impl World {
        /// Object 3, put once (version 1), acknowledged at 20.
        fn new() -> World {
            let mut world = World { record: Record::new(SET, 8), pattern: Pattern::default() };
            world.write(Some(LEN), 10, Some(Status::Ok), 20);
            world
        }

        fn write(&mut self, len: Option<u64>, sent_ns: u64, status: Option<Status>, end_ns: u64) {
            let version = self.record.begin(3, len, sent_ns).unwrap();
            let request = Request { version, ..put(SET, 3, len.unwrap_or(0)) };
            self.record.written(&request, status, end_ns);
        }

        fn answer(&self, status: Status, sent_ns: u64, end_ns: u64) -> Answer {
            let request = get(SET, 3, u64::MAX);
            let request = Request { kind: Kind::Get { offset: 0, length: u64::MAX }, ..request };
            Answer { status, end_ns, ..Answer::pending(request, sent_ns, sent_ns) }
        }

        fn gives(&self, version: u64, len: u64, sent_ns: u64, end_ns: u64) -> Answer {
            let mut body = vec![0; len as usize];
            self.pattern.fill(object_content_seed(SET, 3, version), 0, &mut body);
            Answer { object_len: len, body, ..self.answer(Status::Ok, sent_ns, end_ns) }
        }

        fn judge(&mut self, answer: &Answer) -> Finding {
            self.record.read(answer, &self.pattern)
        }
    }

    #[test]
    fn what_was_acknowledged_is_found() {
        let mut world = World::new();
        let right = world.gives(1, LEN, 30, 40);
        assert_eq!(world.judge(&right), Finding::Right);
        let gone = world.answer(Status::NotFound, 30, 40);
        assert_eq!(world.judge(&gone), Finding::Lost);
        // Sent before it was acknowledged: it need not be there.
        let early = world.answer(Status::NotFound, 15, 40);
        assert_eq!(world.judge(&early), Finding::Right);
    }

    #[test]
    fn bytes_of_nothing_are_wrong() {
        let mut world = World::new();
        let mut flipped = world.gives(1, LEN, 30, 40);
        flipped.body[5000] ^= 1;
        let mut short = world.gives(1, LEN, 30, 40);
        short.body.pop();
        let other_version = world.gives(2, LEN, 30, 40);
        let mut mixed = world.gives(1, LEN, 30, 40);
        mixed.body[4096..].copy_from_slice(&other_version.body[4096..]);
        for answer in [flipped, short, other_version, mixed] {
            assert_eq!(world.judge(&answer), Finding::Wrong);
        }
    }

    #[test]
    fn an_older_version_is_old_unless_it_says_so() {
        let mut world = World::new();
        world.write(Some(LEN), 50, Some(Status::Ok), 60);
        let mut old = world.gives(1, LEN, 70, 80);
        assert_eq!(world.judge(&old), Finding::Old);
        old.unconfirmed = true;
        assert_eq!(world.judge(&old), Finding::OldUnconfirmed);
        // A read that was under way when it was acknowledged.
        let meanwhile = world.gives(1, LEN, 55, 80);
        assert_eq!(world.judge(&meanwhile), Finding::Right);
        // More targets lost something than is promised to be borne.
        let old = world.gives(1, LEN, 90, 95);
        world.record.harm(2, 65);
        assert_eq!(world.judge(&old), Finding::Old);
        world.record.harm(2, 66);
        assert_eq!(world.judge(&old), Finding::Old);
        world.record.harm(4, 67);
        assert_eq!(world.judge(&old), Finding::BeyondPromise);
    }

    #[test]
    fn a_doubtful_write_may_be_found_or_not_until_it_was() {
        let mut world = World::new();
        world.write(Some(LEN), 50, None, 60);
        for answer in
            [world.gives(1, LEN, 70, 80), world.gives(2, LEN, 70, 80), world.answer(Status::NotFound, 70, 80)]
        {
            assert_eq!(new_with_doubt().judge(&answer), Finding::Right);
        }
        let found = world.gives(2, LEN, 70, 80);
        assert_eq!(world.judge(&found), Finding::Right);
        let again = world.gives(1, LEN, 90, 95);
        assert_eq!(world.judge(&again), Finding::Old);
        let gone = world.answer(Status::NotFound, 90, 95);
        assert_eq!(world.judge(&gone), Finding::Lost);
    }

    fn new_with_doubt() -> World {
        let mut world = World::new();
        world.write(Some(LEN), 50, None, 60);
        world
    }

    #[test]
    fn no_write_begins_before_the_last_is_decided() {
        let mut world = new_with_doubt();
        let decided_ns = 60 + u64::from(put(SET, 3, 0).deadline_us) * 1000 + DOUBT_NS;
        assert_eq!(world.record.begin(3, None, decided_ns - 1), None);
        assert_eq!(world.record.begin(3, None, decided_ns), Some(3));
        assert_eq!(world.record.begin(3, None, decided_ns + 1), None);
    }

    #[test]
    fn a_refused_write_must_not_be_found_and_takes_nothing_away() {
        let mut world = World::new();
        world.write(Some(LEN), 50, Some(Status::Overloaded), 60);
        let refused = world.gives(2, LEN, 70, 80);
        assert_eq!(world.judge(&refused), Finding::Refused);
        let gone = world.answer(Status::NotFound, 70, 80);
        assert_eq!(world.judge(&gone), Finding::Lost);
    }

    #[test]
    fn what_was_deleted_is_not_there() {
        let mut world = World::new();
        world.write(None, 50, Some(Status::Ok), 60);
        let gone = world.answer(Status::NotFound, 70, 80);
        assert_eq!(world.judge(&gone), Finding::Right);
        let back = world.gives(1, LEN, 70, 80);
        assert_eq!(world.judge(&back), Finding::Old);
    }

    #[test]
    fn a_spoiled_record_is_at_odds_with_right_answers() {
        let mut world = World::new();
        let right = world.gives(1, LEN, 70, 80);
        world.record.plant_write(3, 60);
        assert_eq!(world.judge(&right), Finding::Old);
        let mut world = World::new();
        world.record.plant_other_bytes(3);
        assert_eq!(world.judge(&right), Finding::Wrong);
    }
}
