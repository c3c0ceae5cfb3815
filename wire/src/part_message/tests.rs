use super::*;
use crate::checksum::crc32c;
use crate::frame::Op;
use crate::part::PartKind;
use crate::types::{AckLevel, Code, Namespace, ObjectChecksum};

const RECEIVED: Timestamp = Timestamp(1_000_000);

fn version() -> Version {
    Version { hlc: 0x1122_3344_5566_7788, coordinator: 0x99aa }
}

fn hash() -> KeyHash {
    KeyHash(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100)
}

fn meta() -> PartMeta {
    PartMeta {
        kind: PartKind::Sole,
        pinned: false,
        namespace: Namespace(2),
        namespace_generation: 1,
        key: Key::new(b"k").unwrap(),
        record: Record::OBJECT,
        version: version(),
        object_len: 5,
        object_checksum: ObjectChecksum::NONE,
        stripe_len: 5,
        stripe_size: 1 << 20,
        part: 1,
        code: Code::new(1, 1).unwrap(),
        created_ms: 1,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    }
}

fn header(op: Op) -> FrameHeader {
    FrameHeader {
        namespace: Namespace(2),
        ack: Some(AckLevel::Synced),
        deadline_budget_us: 250,
        ..FrameHeader::request(op, 9)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every byte before `fixed_len` that is changed gives another value or an error; every other length
/// is an error.
fn check_strict<T: PartialEq, E>(body: &[u8], fixed_len: usize, decode: impl Fn(&[u8]) -> Result<T, E>) {
    let Ok(right) = decode(body) else { panic!("the body itself is refused") };
    for bit in 0..fixed_len * 8 {
        let mut damaged = body.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!decode(&damaged).is_ok_and(|value| value == right), "bit {bit} is ignored");
    }
    for len in 0..body.len() {
        assert!(decode(&body[..len]).is_err(), "length {len}");
    }
    assert!(decode(&[body, &[0]].concat()).is_err(), "one byte more");
}

#[test]
fn a_read_in_bytes() {
    let key = Key::new(b"k").unwrap();
    let name = RecordName {
        namespace: Namespace(2),
        hash: key.hash(Namespace(2)),
        key: key.clone(),
        record: Record(3),
    };
    let deadline = Timestamp(RECEIVED.0 + 250_000);
    for (version, expected) in [
        (Some(version()), "0700010003000000887766554433221 1aa99000000000000".replace(' ', "")),
        (None, format!("0700000003000000{}", "0".repeat(32))),
    ] {
        let read = PartRead { name: name.clone(), version, deadline };
        let body = encode_read(7, &read);
        assert_eq!(hex(&body), expected);
        let header = header(Op::PartRead);
        assert_eq!(decode_read(&header, Some(&key), &body, RECEIVED), Ok((7, read)));
        assert_eq!(decode_read(&header, None, &body, RECEIVED), Err(PartMessageError::NoKey));
        check_strict(&body, PART_READ_LEN, |body| decode_read(&header, Some(&key), body, RECEIVED));
    }
}

#[test]
fn a_write_in_bytes() {
    let deadline = Timestamp(RECEIVED.0 + 250_000);
    for (purpose, prefix) in [(WritePurpose::Put, "070000"), (WritePurpose::Repair, "070001")] {
        let write = PartWrite { meta: meta(), ack: AckLevel::Synced, purpose, deadline };
        let mut body = encode_write_head(7, &write, crc32c(b"value"));
        assert_eq!(hex(&body[..PART_PREFIX_LEN]), format!("{prefix}{}", "0".repeat(26)));
        body.extend_from_slice(b"value");
        let header = header(Op::PartWrite);
        let (shard, decoded, payload) = decode_write(&header, &body, RECEIVED).unwrap();
        assert_eq!((shard, decoded, &body[payload.range]), (7, write, &b"value"[..]));
        assert_eq!(payload.checksum, crc32c(b"value"));
        check_strict(&body, body.len(), |body| decode_write(&header, body, RECEIVED));
        let without = FrameHeader { ack: None, ..header };
        let error = decode_write(&without, &body, RECEIVED).unwrap_err();
        assert_eq!(error, PartMessageError::Field { field: "ack", value: 0 });
    }
}

#[test]
fn a_write_with_a_place_is_refused() {
    let mut body = vec![0; PART_PREFIX_LEN + meta().head_len()];
    let place = PartPlace { slab_offset: 64, ..PartPlace::default() };
    encode_part_head(&meta(), &place, 5, crc32c(b"value"), &mut body[PART_PREFIX_LEN..]);
    body.extend_from_slice(b"value");
    assert_eq!(decode_write(&header(Op::PartWrite), &body, RECEIVED), Err(field("place", 64u32)));
}

#[test]
fn confirm_drop_and_touch_in_bytes() {
    let header = header(Op::PartConfirm);
    let deadline = header.deadline(RECEIVED);
    let confirm = PartConfirm { hash: hash(), record: Record(3), version: version(), deadline };
    let body = encode_confirm(7, &confirm);
    assert_eq!(
        hex(&body),
        "0700000003000000000102030405060708090a0b0c0d0e0f8877665544332211aa99000000000000"
    );
    assert_eq!(decode_confirm(&header, &body, RECEIVED), Ok((7, confirm)));
    check_strict(&body, body.len(), |body| decode_confirm(&header, body, RECEIVED));

    let drops = vec![PartDrop { hash: hash(), record: Record(3), version: version() }; 2];
    let body = encode_drop(7, &drops);
    let entry = "000102030405060708090a0b0c0d0e0f887766554433221103000000aa990000";
    assert_eq!(hex(&body), format!("0700000002000000{entry}{entry}"));
    assert_eq!(decode_drop(&body), Ok((7, drops)));
    check_strict(&body, body.len(), decode_drop);

    let touches = vec![PartTouch { hash: hash(), record: Record(3), hlc: version().hlc }; 2];
    let body = encode_touch(7, &touches);
    let entry = "000102030405060708090a0b0c0d0e0f88776655443322110300000000000000";
    assert_eq!(hex(&body), format!("0700000002000000{entry}{entry}"));
    assert_eq!(decode_touch(&body), Ok((7, touches)));
    check_strict(&body, body.len(), decode_touch);
}

#[test]
fn a_batch_is_bounded() {
    let touch = PartTouch { hash: hash(), record: Record(3), hlc: version().hlc };
    let mut body = encode_touch(7, &vec![touch; PART_BATCH_MAX]);
    assert_eq!(decode_touch(&body).unwrap().1.len(), PART_BATCH_MAX);
    body[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_touch(&body), Err(field("count", u32::MAX)));
}

#[test]
fn every_answer_in_bytes() {
    let simple = |variant: u8| format!("{variant:02x}{}", "0".repeat(30));
    let with_version = |variant: u8| format!("{variant:02x}00aa99000000008877665544332211");
    let version = version();
    let payload = PayloadAt { range: 0..0, checksum: 0 };
    let cases = [
        (PartAnswer::Part { meta: meta(), payload }, simple(1)),
        (PartAnswer::Other { version }, with_version(2)),
        (PartAnswer::Absent { forgotten_through: version, unknown: false }, with_version(3)),
        (
            PartAnswer::Absent { forgotten_through: version, unknown: true },
            with_version(3).replacen("0300", "0301", 1),
        ),
        (PartAnswer::Held(Standing::Older), simple(4)),
        (PartAnswer::Held(Standing::Same), format!("0401{}", "0".repeat(28))),
        (PartAnswer::Held(Standing::Newer), format!("0402{}", "0".repeat(28))),
        (PartAnswer::Held(Standing::SameClock), format!("0403{}", "0".repeat(28))),
        (PartAnswer::Stored, simple(5)),
        (PartAnswer::Superseded { version }, with_version(6)),
        (PartAnswer::Dropped, simple(7)),
        (PartAnswer::ClockAhead { ahead_us: 0x0102 }, "08000000000000000201000000000000".to_owned()),
        (PartAnswer::Damaged, simple(9)),
        (PartAnswer::Overloaded, simple(10)),
        (PartAnswer::Expired, simple(11)),
        (PartAnswer::Failed, simple(12)),
    ];
    let header = FrameHeader::answer(Op::PartRead, 9, Status::Ok);
    for (answer, expected) in cases {
        let mut body = encode_answer_head(&answer, crc32c(b"value"));
        assert_eq!(hex(&body[..PART_PREFIX_LEN]), expected, "{answer:?}");
        let expected = match answer {
            PartAnswer::Part { meta, .. } => {
                let start = body.len();
                body.extend_from_slice(b"value");
                let payload = PayloadAt { range: start..body.len(), checksum: crc32c(b"value") };
                PartAnswer::Part { meta, payload }
            }
            other => other,
        };
        assert_eq!(decode_answer(&header, &body), Ok(expected));
        check_strict(&body, body.len(), |body| decode_answer(&header, body));
    }
}

#[test]
fn a_refusal_is_an_answer_too() {
    for &status in Status::ALL {
        let expected = match status {
            Status::Ok => continue,
            Status::Overloaded | Status::ShuttingDown => PartAnswer::Overloaded,
            Status::DeadlineExceeded => PartAnswer::Expired,
            _ => PartAnswer::Failed,
        };
        let header = FrameHeader::answer(Op::PartRead, 9, status);
        assert_eq!(decode_answer(&header, b"whatever"), Ok(expected), "{status:?}");
    }
}
