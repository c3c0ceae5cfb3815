//! Histories by hand: what is right, and what is wrong and how.

use std::collections::HashMap;

use hedgerow_wire::frame::Status;
use hedgerow_wire::types::{AckLevel, Code, Member, ReadPolicy};

use super::*;
use crate::coordinator::Miss;
use crate::sim::bytes;
use crate::sim::facts::{Found, Held, Loss};
use crate::sim::plan::{OpKind, READS_THAT_COMPLETE};

const KEY: u16 = 3;
const LEN: u32 = 40_000;
const MS: u64 = 1_000_000;

/// Six targets, of which nothing is wrong but what a test says.
#[derive(Default)]
struct World {
    losses: HashMap<u16, Vec<Loss>>,
    let_go: Version,
    forgotten_hlc: u64,
    missing_part_of: Option<u16>,
    holds: Version,
    away: bool,
    leaks: Vec<String>,
}

impl Facts for World {
    fn targets(&self, _key: u16) -> Vec<Target> {
        (0..6).map(|member| Target { member: Member(member), shard: 0 }).collect()
    }
    fn losses(&self, target: Target) -> &[Loss] {
        self.losses.get(&target.member.0).map_or(&[], Vec::as_slice)
    }

    fn let_go(&self, target: Target, _key: u16) -> Version {
        if target.member.0 == 5 { self.let_go } else { Version::ZERO }
    }
    fn forgotten_hlc(&self, target: Target) -> u64 {
        if target.member.0 == 5 { self.forgotten_hlc } else { 0 }
    }
    fn held(&self, target: Target, _key: u16) -> Held {
        if self.missing_part_of == Some(target.member.0) {
            return Held::Nothing;
        }
        Held::Whole { version: self.holds, part: target.member.0 as u8 }
    }
    fn home_was_away(&self, _key: u16, _from: Timestamp, _to: Timestamp) -> bool {
        self.away
    }
    fn beyond_bounds(&self) -> Vec<String> {
        Vec::new()
    }
    fn leaks(&self) -> Vec<String> {
        self.leaks.clone()
    }
}

struct Case {
    judge: Judge,
    world: World,
    next_id: u32,
}

fn ms(ms: u64) -> Timestamp {
    Timestamp(ms * MS)
}

fn v(hlc: u64) -> Version {
    Version { hlc, coordinator: 1 }
}

fn put_of(ack: AckLevel, ttl_ms: Option<u64>, condition: Option<Condition>) -> OpKind {
    OpKind::Put { len: LEN, ack, ttl_ms, condition }
}

fn put() -> OpKind {
    put_of(AckLevel::Written, None, None)
}

fn get() -> OpKind {
    OpKind::Get { range: None, strict: false, policy: ReadPolicy::Hedged }
}

fn strict() -> OpKind {
    OpKind::Get { range: None, strict: true, policy: ReadPolicy::Hedged }
}

fn delete() -> OpKind {
    OpKind::Delete { ack: AckLevel::Written, condition: None }
}

/// What write `op` put, as `version`.
fn gives(op: u32, version: u64) -> Answer {
    Answer::Found(Found {
        version: v(version),
        object_len: u64::from(LEN),
        bytes: bytes::body(KEY, op, LEN as usize),
        confirmed: true,
        from_memory: false,
    })
}

fn unconfirmed(op: u32, version: u64) -> Answer {
    let Answer::Found(found) = gives(op, version) else { unreachable!() };
    Answer::Found(Found { confirmed: false, ..found })
}

fn written(version: u64) -> Answer {
    Answer::Written { version: v(version) }
}

const ABSENT: Answer = Answer::Miss(Some(Miss::Absent));

impl Case {
    fn new() -> Case {
        let shape = Shape {
            members: 6,
            shards_per_member: 1,
            code: Code::new(4, 2).unwrap(),
            slabs: 8,
            slab_len: 1 << 20,
            memory_bytes: 0,
            min_part: 4096,
        };
        let plan = Plan { seed: 1, shape, ops: Vec::new(), faults: Vec::new(), calm_at: ms(5_000) };
        Case { judge: Judge::new(&plan), world: World::default(), next_id: 1 }
    }

    /// A world in which write 1 put version 10, acknowledged at 20 ms.
    fn with_one() -> Case {
        let mut case = Case::new();
        case.done(put(), 10, 20, written(10));
        case.right();
        case
    }

    fn send(&mut self, kind: OpKind, at: u64) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let deadline = Duration::from_millis(100);
        let op = ClientOp { at: ms(at), id, key: KEY, kind, deadline, cancel_after: None };
        self.judge.invoked(&op, ms(at));
        id
    }

    fn answer(&mut self, id: u32, at: u64, answer: Answer) {
        self.judge.answered(id, &answer, ms(at), &self.world);
    }

    fn done(&mut self, kind: OpKind, sent: u64, at: u64, answer: Answer) -> u32 {
        let id = self.send(kind, sent);
        self.answer(id, at, answer);
        id
    }

    #[track_caller]
    fn right(&self) {
        assert_eq!(self.judge.violation(), None);
    }

    #[track_caller]
    fn wrong(&self, wrong: Wrong) {
        assert_eq!(self.judge.violation().map(|violation| violation.wrong), Some(wrong));
    }

    fn lose(&mut self, member: u16, at: u64, kind: LossKind) {
        self.world.losses.entry(member).or_default().push(Loss { at: ms(at), kind });
    }
}

#[test]
fn what_was_acknowledged_is_found() {
    let mut case = Case::with_one();
    case.done(get(), 30, 40, gives(1, 10));
    case.right();
    case.done(get(), 50, 60, ABSENT);
    case.wrong(Wrong::Lost);
}

#[test]
fn what_is_under_way_may_be_there_or_not() {
    for answer in [ABSENT, gives(1, 10)] {
        let mut case = Case::new();
        case.send(put(), 10);
        case.done(get(), 12, 14, answer);
        case.right();
    }
}

#[test]
fn bytes_of_nothing_of_two_or_of_another_version_are_wrong() {
    let mut case = Case::with_one();
    case.done(put(), 21, 25, written(20));
    let Answer::Found(found) = gives(2, 20) else { unreachable!() };
    let mut mixed = found.clone();
    mixed.bytes[..10_000].copy_from_slice(&bytes::body(KEY, 1, 10_000));
    let mut short = found.clone();
    short.bytes.pop();
    let unheard_of = Found { version: v(15), ..found.clone() };
    let other = Found { version: v(10), ..found };
    for (found, wrong) in
        [(mixed, Wrong::Bytes), (short, Wrong::Bytes), (other, Wrong::Bytes), (unheard_of, Wrong::Versions)]
    {
        let mut case = Case::with_one();
        case.done(put(), 21, 25, written(20));
        case.right();
        case.done(get(), 30, 40, Answer::Found(found));
        case.wrong(wrong);
    }
}

#[test]
fn a_range_is_that_of_the_object() {
    let range = OpKind::Get { range: Some((100, 50)), strict: false, policy: ReadPolicy::Hedged };
    for (from, wrong) in [(100, None), (101, Some(Wrong::Bytes))] {
        let mut case = Case::with_one();
        let Answer::Found(found) = gives(1, 10) else { unreachable!() };
        let bytes = found.bytes[from..from + 50].to_vec();
        case.done(range, 30, 40, Answer::Found(Found { bytes, ..found }));
        assert_eq!(case.judge.violation().map(|violation| violation.wrong), wrong);
    }
    let mut case = Case::with_one();
    case.done(range, 30, 40, Answer::OutOfRange { object_len: u64::from(LEN) });
    case.wrong(Wrong::Bytes);
}

#[test]
fn nothing_goes_back() {
    let mut case = Case::with_one();
    let second = case.send(put(), 25);
    // A read that was under way meanwhile may find the former one.
    let early = case.send(get(), 26);
    case.answer(second, 30, written(20));
    case.answer(early, 35, gives(1, 10));
    case.right();
    case.done(get(), 40, 41, unconfirmed(1, 10));
    case.right();
    case.done(get(), 40, 45, gives(1, 10));
    case.wrong(Wrong::Old);
}

#[test]
fn what_was_read_as_confirmed_is_as_good_as_acknowledged() {
    let mut case = Case::with_one();
    let second = case.send(put(), 25);
    case.done(get(), 30, 32, gives(2, 20));
    case.answer(second, 40, Answer::Status(Status::Indeterminate));
    case.right();
    case.done(get(), 50, 55, gives(1, 10));
    case.wrong(Wrong::Old);
}

#[test]
fn what_was_read_unconfirmed_promises_nothing() {
    let mut case = Case::with_one();
    let second = case.send(put(), 25);
    case.done(get(), 30, 32, unconfirmed(2, 20));
    case.answer(second, 40, Answer::Status(Status::Indeterminate));
    case.done(get(), 50, 55, gives(1, 10));
    case.right();
}

#[test]
fn a_refused_write_is_never_there() {
    for status in [Status::Overloaded, Status::DeadlineExceeded, Status::Unavailable] {
        let mut case = Case::with_one();
        case.done(put(), 25, 30, Answer::Status(status));
        case.right();
        case.done(get(), 40, 45, gives(2, 20));
        case.wrong(Wrong::RefusedYetDone);
    }
    // The other way round.
    let mut case = Case::with_one();
    let second = case.send(put(), 25);
    case.done(get(), 26, 28, gives(2, 20));
    case.answer(second, 30, Answer::Status(Status::Overloaded));
    case.wrong(Wrong::RefusedYetDone);
}

#[test]
fn a_refused_write_excuses_no_miss_and_a_doubtful_one_does() {
    for (status, wrong) in [(Status::Overloaded, Some(Wrong::Lost)), (Status::Indeterminate, None)] {
        let mut case = Case::with_one();
        case.done(put(), 25, 30, Answer::Status(status));
        case.done(get(), 40, 45, ABSENT);
        assert_eq!(case.judge.violation().map(|violation| violation.wrong), wrong);
    }
}

#[test]
fn a_doubtful_write_is_over_with_the_next_acknowledged_one() {
    let mut case = Case::with_one();
    case.done(put(), 25, 30, Answer::Status(Status::Indeterminate));
    case.done(put(), 200, 210, written(30));
    case.done(get(), 220, 230, ABSENT);
    case.wrong(Wrong::Lost);
}

#[test]
fn deletes_are_misses_until_the_next_put() {
    let mut case = Case::with_one();
    case.done(delete(), 25, 30, written(20));
    case.done(get(), 40, 45, Answer::Miss(Some(Miss::Deleted(v(20)))));
    case.done(get(), 40, 45, ABSENT);
    case.right();
    case.done(get(), 50, 55, gives(1, 10));
    case.wrong(Wrong::Old);

    let mut case = Case::with_one();
    case.done(get(), 40, 45, Answer::Miss(Some(Miss::Deleted(v(20)))));
    case.wrong(Wrong::RefusedYetDone);

    let mut case = Case::with_one();
    case.done(delete(), 25, 30, written(20));
    case.done(put(), 35, 38, written(30));
    case.done(strict(), 40, 45, Answer::Miss(Some(Miss::Deleted(v(20)))));
    case.wrong(Wrong::Old);
}

#[test]
fn expiries_are_kept() {
    let short = put_of(AckLevel::Written, Some(50), None);
    let mut case = Case::new();
    case.done(short, 10, 20, written(10));
    case.done(get(), 30, 35, gives(1, 10));
    case.done(get(), 62, 65, ABSENT);
    case.right();
    case.done(get(), 80, 85, gives(1, 10));
    case.wrong(Wrong::Expired);

    let mut case = Case::new();
    case.done(short, 10, 20, written(10));
    case.done(get(), 30, 35, ABSENT);
    case.wrong(Wrong::Lost);
}

#[test]
fn a_miss_is_excused_by_eviction_and_by_more_loss_than_is_borne() {
    let mut case = Case::with_one();
    case.world.let_go = v(9);
    case.done(get(), 30, 35, ABSENT);
    case.wrong(Wrong::Lost);
    let mut case = Case::with_one();
    case.world.let_go = v(10);
    case.done(get(), 30, 35, ABSENT);
    case.right();

    for (lost, wrong) in [(1, Some(Wrong::Lost)), (2, None)] {
        let mut case = Case::with_one();
        (0..lost).for_each(|member| case.lose(member, 22, LossKind::Noticed));
        case.done(get(), 30, 35, ABSENT);
        assert_eq!(case.judge.violation().map(|violation| violation.wrong), wrong, "{lost} lost");
    }
    let mut case = Case::with_one();
    case.lose(0, 22, LossKind::Blank);
    case.done(get(), 30, 35, ABSENT);
    case.right();
    // What was lost before it was written does not count.
    let mut case = Case::with_one();
    (0..6).for_each(|member| case.lose(member, 5, LossKind::Noticed));
    case.done(get(), 30, 35, ABSENT);
    case.wrong(Wrong::Lost);
}

#[test]
fn an_acknowledgement_survives_what_its_level_says() {
    use LossKind::{Memory, Unflushed, Unnoticed};
    for (ack, kind, survives) in [
        (AckLevel::Buffered, Memory, false),
        (AckLevel::Written, Memory, true),
        (AckLevel::Written, Unflushed, false),
        (AckLevel::Synced, Unflushed, true),
        (AckLevel::Synced, Unnoticed, false),
    ] {
        let mut case = Case::new();
        case.done(put_of(ack, None, None), 10, 20, written(10));
        (0..6).for_each(|member| case.lose(member, 22, kind));
        case.done(get(), 30, 35, ABSENT);
        assert_eq!(case.judge.violation().is_some(), survives, "{ack:?} {kind:?}");
    }
}

#[test]
fn a_strict_get_may_miss_what_is_not_confirmed() {
    let mut case = Case::with_one();
    case.done(strict(), 30, 35, Answer::Miss(Some(Miss::Unconfirmed(v(10)))));
    case.right();
    case.done(strict(), 30, 35, unconfirmed(1, 10));
    case.wrong(Wrong::NoSuchAnswer);
}

#[test]
fn conditions_hold_when_the_write_is_done() {
    let if_absent = put_of(AckLevel::Written, None, Some(Condition::Absent));
    let if_seen = put_of(AckLevel::Written, None, Some(Condition::LastSeen));

    let mut case = Case::with_one();
    case.done(if_absent, 30, 35, Answer::Conflict { status: Status::VersionMismatch, version: v(10) });
    case.right();
    case.done(if_absent, 40, 45, written(20));
    case.wrong(Wrong::Condition);

    // Two at once, of which one must lose.
    let mut case = Case::new();
    let (first, second) = (case.send(if_absent, 10), case.send(if_absent, 11));
    case.answer(first, 20, written(10));
    case.right();
    case.answer(second, 21, written(11));
    case.wrong(Wrong::Condition);

    let mut case = Case::with_one();
    let (first, second) = (case.send(if_seen, 30), case.send(if_seen, 31));
    case.answer(first, 40, written(20));
    case.right();
    case.answer(second, 41, written(21));
    case.wrong(Wrong::Condition);

    let mut case = Case::with_one();
    case.done(if_seen, 30, 35, Answer::Conflict { status: Status::VersionMismatch, version: v(10) });
    case.wrong(Wrong::Condition);
}

#[test]
fn an_acknowledged_write_is_above_what_was_before() {
    let mut case = Case::with_one();
    case.done(put(), 30, 35, written(9));
    case.wrong(Wrong::Old);
    let mut case = Case::with_one();
    case.done(put(), 30, 35, written(10));
    case.wrong(Wrong::Versions);
}

#[test]
fn answers_come_in_time_and_once() {
    let mut case = Case::with_one();
    let id = case.done(get(), 30, 130, gives(1, 10));
    case.right();
    case.answer(id, 131, gives(1, 10));
    case.wrong(Wrong::NoSuchAnswer);
    for away in [false, true] {
        let mut case = Case::with_one();
        case.world.away = away;
        case.done(get(), 30, 131, gives(1, 10));
        assert_eq!(case.judge.violation().is_none(), away);
    }
    let mut case = Case::with_one();
    case.send(get(), 30);
    assert_eq!(case.judge.finished(ms(900), &case.world).unwrap().wrong, Wrong::Unanswered);
}

#[test]
fn in_the_calm_everything_is_served_and_completed() {
    let mut case = Case::with_one();
    case.done(get(), 30, 35, Answer::Status(Status::Unavailable));
    case.right();
    case.done(get(), 6_000, 6_010, Answer::Status(Status::Unavailable));
    case.wrong(Wrong::NotServed);

    for (missing, wrong) in [(None, None), (Some(4), Some(Wrong::NotWhole))] {
        let mut case = Case::with_one();
        (case.world.holds, case.world.missing_part_of) = (v(10), missing);
        for round in 0..u64::from(READS_THAT_COMPLETE) {
            assert_eq!(case.judge.finished(ms(5_000), &case.world), None);
            case.done(get(), 6_000 + round, 6_010 + round, gives(1, 10));
        }
        let violation = case.judge.finished(ms(9_000), &case.world);
        assert_eq!(violation.map(|violation| violation.wrong), wrong);
    }
    let mut case = Case::with_one();
    case.world.leaks.push("1 ask in flight".to_owned());
    assert_eq!(case.judge.finished(ms(900), &case.world).unwrap().wrong, Wrong::Leak);
}

#[test]
fn however_many_notice_a_loss_nothing_goes_back() {
    let mut case = Case::with_one();
    case.done(put(), 21, 25, written(20));
    (0..6).for_each(|member| case.lose(member, 26, LossKind::Noticed));
    case.done(get(), 30, 40, gives(1, 10));
    case.wrong(Wrong::Old);
}

#[test]
fn what_cannot_be_confirmed_since_others_forgot_may_be_missed() {
    for (forgot, wrong) in [(9, Some(Wrong::Lost)), (11, None)] {
        let mut case = Case::with_one();
        case.world.forgotten_hlc = forgot;
        case.done(get(), 30, 35, Answer::Miss(Some(Miss::Unconfirmed(v(10)))));
        assert_eq!(case.judge.violation().map(|violation| violation.wrong), wrong, "{forgot}");
    }
}
