//! Part messages as another member sends them.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartDrop, PartKind, PartMeta, PartRead, PartTouch, PartWrite, RecordName,
    Standing, WritePurpose,
};
use hedgerow_wire::part_message::{
    decode_answer, encode_confirm, encode_drop, encode_read, encode_touch, encode_write_head,
};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{AckLevel, Code, Key, Namespace, ObjectChecksum, Record, Version};

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Setup, counter, eventually};
use crate::raw::{Raw, key, request};

const SPACE: Namespace = Namespace(3);

/// A part write, which says its level.
fn part_write(id: u64) -> FrameHeader {
    FrameHeader { ack: Some(AckLevel::Written), ..request(Op::PartWrite, id) }
}

/// Another member's link.
struct Link {
    raw: Raw,
    next: u64,
}

impl Link {
    fn new(address: SocketAddr) -> Link {
        Link { raw: Raw::greeted(address), next: 10 }
    }

    fn ask(&mut self, header: FrameHeader, key: Option<&Key>, body: &[u8]) -> PartAnswer<Vec<u8>> {
        let header = FrameHeader { request_id: self.next, ..header };
        self.next += 1;
        self.raw.send(&header, key, body);
        let answer = self.raw.expect(header.op, header.request_id, Status::Ok);
        let decoded = decode_answer(&answer.header, &answer.body).unwrap();
        decoded.map(|payload| answer.body[payload.range].to_vec())
    }

    fn write(
        &mut self,
        shard: u16,
        meta: &PartMeta,
        purpose: WritePurpose,
        payload: &[u8],
    ) -> PartAnswer<Vec<u8>> {
        let write =
            PartWrite { meta: meta.clone(), ack: AckLevel::Written, purpose, deadline: Timestamp::NEVER };
        let mut body = encode_write_head(shard, &write, crc32c(payload));
        body.extend_from_slice(payload);
        self.ask(part_write(0), None, &body)
    }

    fn read(&mut self, shard: u16, meta: &PartMeta, version: Option<Version>) -> PartAnswer<Vec<u8>> {
        let name = RecordName {
            namespace: SPACE,
            key: meta.key.clone(),
            hash: meta.key_hash(),
            record: meta.record,
        };
        let body = encode_read(shard, &PartRead { name, version, deadline: Timestamp::NEVER });
        let header = FrameHeader { namespace: SPACE, ..request(Op::PartRead, 0) };
        self.ask(header, Some(&meta.key), &body)
    }

    fn confirm(&mut self, shard: u16, meta: &PartMeta, version: Version) -> PartAnswer<Vec<u8>> {
        let deadline = Timestamp::NEVER;
        let confirm = PartConfirm { hash: meta.key_hash(), record: meta.record, version, deadline };
        self.ask(request(Op::PartConfirm, 0), None, &encode_confirm(shard, &confirm))
    }

    fn drop_record(&mut self, shard: u16, meta: &PartMeta, version: Version) -> PartAnswer<Vec<u8>> {
        let drop = PartDrop { hash: meta.key_hash(), record: meta.record, version };
        self.ask(request(Op::PartDrop, 0), None, &encode_drop(shard, &[drop]))
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A version of so many seconds from now.
fn version(seconds: i64) -> Version {
    Version {
        hlc: Version::hlc_from_wall_us(wall_us().wrapping_add_signed(seconds * 1_000_000)),
        coordinator: 7,
    }
}

/// The header of a part of an object of `len * k` bytes.
fn meta(name: &str, version: Version, part: u8, code: Code, len: u32) -> PartMeta {
    PartMeta {
        kind: PartKind::Sole,
        pinned: false,
        namespace: SPACE,
        namespace_generation: 0,
        key: key(name),
        record: Record::OBJECT,
        version,
        object_len: u64::from(len) * code.k() as u64,
        object_checksum: ObjectChecksum::NONE,
        stripe_len: len * code.k() as u32,
        stripe_size: 1 << 20,
        part,
        code,
        created_ms: wall_us() / 1000,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    }
}

fn code() -> Code {
    Code::new(2, 1).unwrap()
}

fn started(setup: &Setup) -> (Daemon, Link) {
    let daemon = setup.start();
    let link = Link::new(daemon.address);
    (daemon, link)
}

#[tokio::test]
async fn parts_are_written_read_confirmed_and_dropped() {
    let setup = Setup::new("2+1").two_cores();
    let (_daemon, mut link) = started(&setup);
    for (shard, len) in [(0, 1), (1, 5000), (2, 500_000)] {
        let (old, new) = (version(-20), version(-10));
        let part = meta("part", new, 1, code(), len);
        let payload = content(u64::from(len), len as usize);
        assert!(matches!(link.read(shard, &part, None), PartAnswer::Absent { .. }));
        assert!(matches!(link.confirm(shard, &part, new), PartAnswer::Absent { .. }));
        assert_eq!(link.write(shard, &part, WritePurpose::Put, &payload), PartAnswer::Stored);
        // The same once more is stored already.
        assert_eq!(link.write(shard, &part, WritePurpose::Put, &payload), PartAnswer::Stored);
        for asked in [None, Some(new)] {
            match link.read(shard, &part, asked) {
                PartAnswer::Part { meta, payload: read } => {
                    assert_eq!(meta, part);
                    assert_same("part", &read, &payload);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(link.read(shard, &part, Some(old)), PartAnswer::Other { version: new });
        assert_eq!(link.confirm(shard, &part, new), PartAnswer::Held(Standing::Same));
        assert_eq!(link.confirm(shard, &part, old), PartAnswer::Held(Standing::Newer));
        assert_eq!(link.confirm(shard, &part, version(-5)), PartAnswer::Held(Standing::Older));
        // A drop of something older leaves it.
        assert_eq!(link.drop_record(shard, &part, old), PartAnswer::Dropped);
        assert_eq!(link.confirm(shard, &part, new), PartAnswer::Held(Standing::Same));
        assert_eq!(link.drop_record(shard, &part, new), PartAnswer::Dropped);
        match link.read(shard, &part, None) {
            PartAnswer::Absent { forgotten_through, .. } => assert!(forgotten_through >= new),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn older_writes_are_superseded_and_repairs_of_what_was_forgotten_refused() {
    let setup = Setup::new("2+1");
    let (daemon, mut link) = started(&setup);
    let (old, new) = (version(-20), version(-10));
    let payload = content(1, 3000);
    let at = |version| meta("part", version, 0, code(), 3000);
    assert_eq!(link.write(0, &at(new), WritePurpose::Put, &payload), PartAnswer::Stored);
    for purpose in [WritePurpose::Put, WritePurpose::Repair] {
        assert_eq!(link.write(0, &at(old), purpose, &payload), PartAnswer::Superseded { version: new });
    }
    assert_eq!(link.drop_record(0, &at(new), new), PartAnswer::Dropped);
    let refused = link.write(0, &at(old), WritePurpose::Repair, &payload);
    assert!(matches!(refused, PartAnswer::Superseded { version } if version >= new), "{refused:?}");
    // What was forgotten stays so over a kill.
    drop(link);
    daemon.kill();
    let (_daemon, mut link) = started(&setup);
    let refused = link.write(0, &at(old), WritePurpose::Repair, &payload);
    assert!(matches!(refused, PartAnswer::Superseded { version } if version >= new), "{refused:?}");
    let newest = version(-1);
    assert_eq!(link.write(0, &at(newest), WritePurpose::Repair, &payload), PartAnswer::Stored);
}

#[tokio::test]
async fn a_version_from_the_future_is_refused() {
    let setup = Setup::new("2+1");
    let (_daemon, mut link) = started(&setup);
    let ahead = meta("part", version(60), 0, code(), 3000);
    match link.write(0, &ahead, WritePurpose::Put, &content(1, 3000)) {
        PartAnswer::ClockAhead { ahead_us } => assert!((50_000_000..=60_000_000).contains(&ahead_us)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(link.read(0, &ahead, None), PartAnswer::Absent { .. }));
}

#[tokio::test]
async fn parts_that_a_member_writes_are_an_object_to_a_client() {
    let setup = Setup::new("2+1");
    let (daemon, mut link) = started(&setup);
    let client = daemon.client().await;
    let object = content(5, 12_000);
    let (version, copies) = (version(-1), Code::new(1, 1).unwrap());
    for shard in 0..3u16 {
        // A target is free to hold any part of a record.
        let part = meta("object", version, (shard % 2) as u8, copies, 12_000);
        assert_eq!(link.write(shard, &part, WritePurpose::Put, &object), PartAnswer::Stored);
    }
    let read = client.request().namespace(SPACE).get("object").await.unwrap().unwrap();
    assert_same("object", &read.bytes, &object);
    assert_eq!(read.version, version);
    // And the other way round.
    client.request().namespace(SPACE).put("back", content(6, 40_000)).await.unwrap();
    let name = meta("back", version, 0, code(), 20_000);
    let mut had = Vec::new();
    eventually("all parts are written", || {
        had = (0..3).map(|shard| link.read(shard, &name, None)).collect();
        let all = had.iter().all(|answer| matches!(answer, PartAnswer::Part { .. }));
        async move { all.then_some(()) }
    })
    .await;
    let mut parts: Vec<(u8, Vec<u8>)> = had
        .into_iter()
        .filter_map(|answer| match answer {
            PartAnswer::Part { meta, payload } => Some((meta.part, payload)),
            _ => None,
        })
        .collect();
    parts.sort();
    assert_eq!(parts.iter().map(|(part, _)| *part).collect::<Vec<_>>(), [0, 1, 2]);
    assert_same("back", &[&parts[0].1[..], &parts[1].1[..]].concat(), &content(6, 40_000));
}

#[tokio::test]
async fn touches_are_not_answered_and_wrong_part_messages_are() {
    let setup = Setup::new("2+1");
    let (daemon, mut link) = started(&setup);
    let part = meta("part", version(-10), 1, code(), 5000);
    assert_eq!(link.write(1, &part, WritePurpose::Put, &content(1, 5000)), PartAnswer::Stored);
    let touches = [
        PartTouch { hash: part.key_hash(), record: part.record, hlc: part.version.hlc },
        PartTouch { hash: key("absent").hash(SPACE), record: Record::OBJECT, hlc: part.version.hlc },
    ];
    link.raw.send(&FrameHeader::request(Op::Touch, 5), None, &encode_touch(1, &touches));
    link.raw.send(&FrameHeader::request(Op::Touch, 6), None, &encode_touch(99, &touches));
    link.raw.expect_open();
    // A shard that there is not.
    assert_eq!(link.read(3, &part, None), PartAnswer::Failed);
    assert_eq!(link.confirm(1000, &part, part.version), PartAnswer::Failed);
    let write = PartWrite {
        meta: part.clone(),
        ack: AckLevel::Written,
        purpose: WritePurpose::Put,
        deadline: Timestamp::NEVER,
    };
    let head = encode_write_head(1, &write, crc32c(&content(1, 5000)));
    let whole = [&head[..], &content(1, 5000)].concat();
    let mut wrong_head = whole.clone();
    wrong_head[30] ^= 1;
    let wrong_payload = [&head[..], &content(2, 5000)].concat();
    let bodies = [&whole[..10], &whole[..whole.len() - 1], &wrong_head, &wrong_payload];
    for body in bodies {
        link.raw.send(&part_write(6), None, body);
        let answer = link.raw.expect(Op::PartWrite, 6, Status::BadRequest);
        assert!(!answer.detail().message.is_empty());
        link.raw.expect_open();
    }
    for op in [Op::PartRead, Op::PartConfirm, Op::PartDrop] {
        let name = key("part");
        link.raw.send(&request(op, 6), (op == Op::PartRead).then_some(&name), &[1, 2, 3]);
        link.raw.expect(op, 6, Status::BadRequest);
    }
    let client = daemon.client().await;
    eventually("nothing is left under way", || async {
        (counter(&client, "requests_under_way").await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn parts_whose_lengths_contradict_each_other_are_refused() {
    let setup = Setup::new("2+1");
    let (_daemon, mut link) = started(&setup);
    let right = meta("part", version(-10), 1, code(), 5000);
    let payload = content(1, 5000);
    let (stripe, head) = (Record::stripe(0), PartKind::Head);
    let of_stripe = PartMeta { kind: PartKind::Stripe, record: stripe, ..right.clone() };
    let contradictions = [
        ("an object that is not its sole stripe", PartMeta { object_len: 9_999, ..right.clone() }),
        ("a sole stripe that is larger than a stripe", PartMeta { stripe_size: 9_999, ..right.clone() }),
        ("a stripe of another length than its object leaves", PartMeta { object_len: 20_000, ..of_stripe }),
        (
            "a payload of another length than the stripe's",
            PartMeta { stripe_len: 20_000, object_len: 20_000, ..right.clone() },
        ),
        (
            "a payload of another length than the code's",
            PartMeta { code: Code::new(4, 1).unwrap(), ..right.clone() },
        ),
        ("a number beyond the code", PartMeta { part: 3, ..right.clone() }),
        ("a head with a stripe", PartMeta { kind: head, code: Code::new(1, 2).unwrap(), ..right.clone() }),
    ];
    for (what, meta) in contradictions {
        let write = PartWrite {
            meta,
            ack: AckLevel::Written,
            purpose: WritePurpose::Put,
            deadline: Timestamp::NEVER,
        };
        let mut body = encode_write_head(1, &write, crc32c(&payload));
        body.extend_from_slice(&payload);
        link.raw.send(&part_write(6), None, &body);
        let answer = link.raw.expect(Op::PartWrite, 6, Status::BadRequest);
        assert!(!answer.detail().message.is_empty(), "{what}");
        link.raw.expect_open();
        for record in [Record::OBJECT, stripe] {
            let name = PartMeta { record, ..right.clone() };
            assert!(matches!(link.read(1, &name, None), PartAnswer::Absent { .. }), "{what}");
        }
    }
    assert_eq!(link.write(1, &right, WritePurpose::Put, &payload), PartAnswer::Stored);
}
