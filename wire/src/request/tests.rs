use super::*;
use crate::frame::flags::*;
use crate::types::{AckLevel, Namespace, Priority, ReadPolicy};

/// A request that is right, with nothing in it that could be left out.
fn right(op: Op) -> FrameHeader {
    let mut header = FrameHeader::request(op, 7);
    if !matches!(op, Op::Cancel | Op::Credit | Op::Touch) {
        header.deadline_budget_us = 1000;
    }
    match op {
        Op::Put => (header.body_len, header.object_len, header.key_len) = (5, 5, 1),
        Op::Get => (header.length, header.key_len) = (FrameHeader::TO_END, 1),
        Op::Delete | Op::Stat => header.key_len = 1,
        Op::Credit => header.credit = 1,
        Op::PartRead => (header.key_len, header.body_len) = (1, 24),
        Op::Hello | Op::Fault | Op::Verify | Op::PartWrite => header.body_len = 100,
        Op::PartDrop | Op::PartConfirm | Op::Touch => header.body_len = 40,
        Op::Ping | Op::Stats | Op::Cancel => {}
    }
    header
}

/// A frame of a put after the first: the last one, if `end`.
fn further(end: bool) -> FrameHeader {
    FrameHeader {
        offset: 10,
        body_len: 5,
        flags: if end { END } else { 0 },
        object_len: if end { 15 } else { 0 },
        ..FrameHeader::request(Op::Put, 7)
    }
}

/// The field at fault, if any.
fn fault(header: &FrameHeader) -> Option<(&'static str, Status)> {
    let key = (header.key_len > 0).then(|| Key::new(b"k").unwrap());
    check_request(header, key.as_ref()).err().map(|refusal| (refusal.field, refusal.status))
}

fn check(header: &FrameHeader, expected: Option<&str>) {
    assert_eq!(fault(header).map(|(field, _)| field), expected, "{header:?}");
}

#[test]
fn right_requests_pass() {
    for &op in Op::ALL {
        check(&right(op), None);
    }
    check(&further(true), None);
    check(&further(false), None);
}

/// Every op against every field that may be other than zero in some request: exactly the fields that
/// are named here are taken.
#[test]
fn each_op_takes_its_own_fields_only() {
    type Set = fn(&mut FrameHeader);
    let fields: [(&str, Set); 16] = [
        ("ack", |h| h.ack = Some(AckLevel::Synced)),
        ("body", |h| h.body_len ^= 8),
        ("checksum", |h| h.object_checksum = ObjectChecksum::crc32c(1)),
        ("credit", |h| h.credit = 9),
        ("deadline", |h| h.deadline_budget_us ^= 1000),
        ("key", |h| h.key_len ^= 1),
        ("length", |h| h.length = 3),
        ("namespace", |h| h.namespace = Namespace(3)),
        ("offset", |h| h.offset = 3),
        ("priority", |h| h.priority = Priority::Low),
        ("read_policy", |h| h.read_policy = ReadPolicy::All),
        ("request_id", |h| h.request_id = 8),
        ("status", |h| h.status = Status::NotFound),
        ("topology", |h| h.topology_epoch = 1),
        ("trace_id", |h| h.trace_id = 1),
        ("ttl", |h| h.ttl_ms = 1),
    ];
    let expected = |op: Op| match op {
        Op::Put => "ack checksum namespace ttl",
        Op::Get => "length namespace offset read_policy",
        Op::Delete => "ack namespace",
        Op::Stat => "namespace",
        Op::Credit => "credit",
        Op::PartWrite => "ack body",
        Op::PartRead => "body namespace",
        Op::PartDrop | Op::PartConfirm => "body",
        Op::Touch => "body",
        Op::Hello | Op::Fault | Op::Verify => "body",
        Op::Ping => "deadline",
        Op::Stats | Op::Cancel => "",
    };
    for &op in Op::ALL {
        for (name, set) in fields {
            let mut header = right(op);
            set(&mut header);
            let always = ["priority", "request_id", "topology", "trace_id"].contains(&name);
            let taken = always || expected(op).split(' ').any(|field| field == name);
            assert_eq!(fault(&header).is_none(), taken, "{op:?} {name}: {:?}", fault(&header));
        }
    }
}

/// All 2,048 combinations of flags for every op.
#[test]
fn each_op_takes_its_own_flags_only() {
    let taken = |base: &FrameHeader| -> Vec<u16> {
        (0..=KNOWN).filter(|&flags| fault(&FrameHeader { flags, ..base.clone() }).is_none()).collect()
    };
    let sorted = |mut flags: Vec<u16>| {
        flags.sort();
        flags
    };
    for &op in Op::ALL {
        let expected: &[u16] = match op {
            Op::Put => &[
                END,
                END | PINNED,
                END | IF_VERSION,
                END | IF_VERSION | PINNED,
                END | IMMUTABLE,
                END | IMMUTABLE | PINNED,
            ],
            Op::Get => &[
                END,
                END | STRICT,
                END | MAY_BE_STALE,
                END | IMMUTABLE,
                END | STRICT | IMMUTABLE,
                END | MAY_BE_STALE | IMMUTABLE,
            ],
            Op::Delete => &[END, END | IF_VERSION, END | IMMUTABLE],
            Op::Stat => &[END, END | IMMUTABLE],
            _ => &[END],
        };
        assert_eq!(taken(&right(op)), sorted(expected.to_vec()), "{op:?}");
    }
    let streamed = FrameHeader { object_len: 50, ..right(Op::Put) };
    let expected = [0, PINNED, IF_VERSION, IF_VERSION | PINNED, IMMUTABLE, IMMUTABLE | PINNED];
    assert_eq!(taken(&streamed), sorted(expected.to_vec()), "first of several");
    let unknown = FrameHeader { object_len: 0, ..right(Op::Put) };
    assert_eq!(taken(&unknown), sorted(expected.map(|flags| flags | LEN_UNKNOWN).to_vec()), "unknown length");
    assert_eq!(taken(&further(false)), [0], "further");
    assert_eq!(taken(&further(true)), [END], "last");
    let abort = FrameHeader { body_len: 0, object_len: 0, ..further(true) };
    assert_eq!(taken(&abort), [END | ABORT], "abort");
}

#[test]
fn lengths_are_bounded() {
    for &op in Op::ALL {
        let max = match op {
            Op::PartWrite => BODY_LEN_MAX,
            Op::PartRead => PART_READ_LEN,
            Op::PartConfirm => PART_CONFIRM_LEN,
            Op::PartDrop => 8 + 1024 * 32,
            Op::Touch => 8 + 1024 * 32,
            Op::Hello | Op::Fault | Op::Verify => CONTROL_BODY_LEN_MAX,
            Op::Put => STRIPE_LEN_MAX,
            _ => continue,
        } as u32;
        let with = |body_len| FrameHeader {
            body_len,
            object_len: if op == Op::Put { u64::from(body_len) } else { 0 },
            ..right(op)
        };
        check(&with(max), None);
        assert_eq!(fault(&with(max + 1)), Some(("body_len", Status::TooLarge)), "{op:?}");
    }
    let put = |object_len| FrameHeader { object_len, flags: 0, ..right(Op::Put) };
    check(&put(OBJECT_LEN_MAX), None);
    assert_eq!(fault(&put(OBJECT_LEN_MAX + 1)), Some(("object_len", Status::TooLarge)));
    let piece = |offset| FrameHeader { offset, ..further(false) };
    check(&piece(OBJECT_LEN_MAX - 5), None);
    for offset in [OBJECT_LEN_MAX - 4, u64::MAX] {
        assert_eq!(fault(&piece(offset)), Some(("object_len", Status::TooLarge)));
    }
}

#[test]
fn deadlines_are_bounded() {
    for &op in Op::ALL {
        let with = |deadline_budget_us| FrameHeader { deadline_budget_us, ..right(op) };
        let wrong = Some("deadline_budget_us");
        let (without, some) = match op {
            Op::Cancel | Op::Credit | Op::Touch => (None, wrong),
            Op::Ping => (None, None),
            _ => (wrong, None),
        };
        check(&with(0), without);
        check(&with(1), some);
        check(&with(DEADLINE_US_MAX), some);
        check(&with(DEADLINE_US_MAX + 1), wrong);
    }
    check(&FrameHeader { deadline_budget_us: 1, ..further(true) }, None);
    check(
        &FrameHeader { deadline_budget_us: DEADLINE_US_MAX + 1, ..further(true) },
        Some("deadline_budget_us"),
    );
}

#[test]
fn the_rest_of_the_rules() {
    let put = right(Op::Put);
    let get = right(Op::Get);
    let version = Version { hlc: 0, coordinator: 1 };
    let crc = ObjectChecksum::crc32c(1);
    let wide = ObjectChecksum { kind: ChecksumKind::Crc32c, bits: 1 << 32 };
    let none = ObjectChecksum { kind: ChecksumKind::None, bits: 1 };
    let opaque = ObjectChecksum { kind: ChecksumKind::Opaque128, bits: u128::MAX };
    let cases = [
        (FrameHeader { request_id: 0, ..put.clone() }, Some("request_id")),
        (FrameHeader { request_id: 0, ..right(Op::Ping) }, None),
        (FrameHeader { body_len: 0, object_len: 0, ..put.clone() }, None),
        (FrameHeader { object_len: 4, ..put.clone() }, Some("object_len")),
        (FrameHeader { object_len: 5, flags: 0, ..put.clone() }, Some("object_len")),
        (FrameHeader { object_len: 6, flags: 0, ..put.clone() }, None),
        (FrameHeader { object_len: 6, body_len: 0, flags: 0, ..put.clone() }, Some("body_len")),
        (FrameHeader { flags: LEN_UNKNOWN, ..put.clone() }, Some("object_len")),
        (FrameHeader { version, ..put.clone() }, Some("version")),
        (FrameHeader { version, flags: END | IF_VERSION, ..put.clone() }, None),
        (FrameHeader { object_checksum: opaque, ..put.clone() }, None),
        (FrameHeader { object_checksum: wide, ..put.clone() }, Some("object_checksum")),
        (FrameHeader { object_checksum: none, ..put.clone() }, Some("object_checksum")),
        (FrameHeader { object_checksum: crc, object_len: 6, flags: 0, ..put.clone() }, Some("checksum_kind")),
        (FrameHeader { max_stale_ms: 1, ..put.clone() }, Some("max_stale_ms")),
        (FrameHeader { key_len: 1, ..further(true) }, Some("key_len")),
        (FrameHeader { namespace: Namespace(1), ..further(true) }, Some("namespace")),
        (FrameHeader { body_len: 0, object_len: 10, ..further(true) }, None),
        (FrameHeader { body_len: 0, ..further(false) }, Some("body_len")),
        (FrameHeader { object_len: 15, ..further(false) }, Some("object_len")),
        (FrameHeader { object_len: 0, ..further(true) }, Some("object_len")),
        (FrameHeader { object_len: 16, ..further(true) }, Some("object_len")),
        (FrameHeader { object_checksum: crc, ..further(true) }, None),
        (FrameHeader { object_checksum: crc, ..further(false) }, Some("checksum_kind")),
        (FrameHeader { flags: END | ABORT, object_len: 0, ..further(true) }, Some("flags")),
        (FrameHeader { length: 0, ..get.clone() }, Some("length")),
        (FrameHeader { offset: u64::MAX, ..get.clone() }, None),
        (FrameHeader { offset: 2, length: u64::MAX - 2, ..get.clone() }, None),
        (FrameHeader { offset: 2, length: u64::MAX - 1, ..get.clone() }, Some("length")),
        (FrameHeader { max_stale_ms: 1, ..get.clone() }, Some("max_stale_ms")),
        (FrameHeader { max_stale_ms: 1, flags: END | MAY_BE_STALE, ..get.clone() }, None),
        (FrameHeader { credit: 0, ..right(Op::Credit) }, Some("credit")),
        (FrameHeader { version, ..right(Op::Delete) }, Some("version")),
        (FrameHeader { version, flags: END | IF_VERSION, ..right(Op::Delete) }, None),
    ];
    for (header, expected) in cases {
        check(&header, expected);
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let refusal =
        check_request(&FrameHeader { body_len: 17, ..right(Op::Get) }, Some(&Key::new(b"k").unwrap()));
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.to_string(), "this op has no body (field 'body_len', value 17)");
    let detail = refusal.detail();
    assert_eq!((detail.status, detail.field.as_str(), detail.value), (Status::BadRequest, "body_len", 17));
}
