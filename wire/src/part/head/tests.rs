use super::*;

fn sample() -> PartMeta {
    PartMeta {
        kind: PartKind::Sole,
        pinned: true,
        namespace: Namespace(0x0102_0304),
        namespace_generation: 7,
        key: Key::new(b"photos/1.jpg").unwrap(),
        record: Record::OBJECT,
        version: Version { hlc: 0x1122_3344_5566_7788, coordinator: 0x99aa },
        object_len: 100_000,
        object_checksum: ObjectChecksum::crc32c(0xdead_beef),
        stripe_len: 100_000,
        stripe_size: 1 << 20,
        part: 3,
        code: Code::new(4, 2).unwrap(),
        created_ms: 1_700_000_000_000,
        expires_ms: 1_800_000_000_000,
        encryption_key_id: 5,
        encryption_nonce: *b"nonce-nonce!",
        tags: SmallVec::from_slice(b"\x03red"),
    }
}

fn encoded(meta: &PartMeta) -> Vec<u8> {
    let place =
        PartPlace { shard_id: 0xabcdef, slab_generation: 12, slab_offset: 4096, ..PartPlace::default() };
    let mut bytes = vec![0xff; meta.head_len()];
    let len = encode_part_head(meta, &place, meta.part_len() as u32, 0x1234_5678, &mut bytes);
    assert_eq!(len, bytes.len());
    bytes
}

fn reseal(bytes: &mut [u8]) {
    bytes[8..12].fill(0);
    let checksum = crc32c(bytes);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn golden_bytes() {
    let bytes = encoded(&sample());
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let expected = concat!(
        "4867507401010100",
        "CHECKSUM",
        "78563412a861000018000000",
        "efcdab00000000000000000000000000",
        "0c00000000000000",
        "0403020107000000",
        "8877665544332211aa99000000000000",
        "a086010000000000a086010000001000",
        "0304020100100000",
        "efbeadde000000000000000000000000",
        "0068e5cf8b01000000505c18a3010000",
        "05000000000000006e6f6e63652d6e6f6e636521",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        "01000c0070686f746f732f312e6a7067",
        "0200040003726564",
    );
    assert_eq!(hex.replacen(&hex[16..24], "CHECKSUM", 1), expected);
    assert_eq!(decode_part_head(&bytes).unwrap().meta, sample());
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let bytes = encoded(&sample());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_part_head(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(decode_part_head(&bytes[..len]).is_err(), "length {len}");
    }
}

#[test]
fn impossible_fields_are_refused_though_the_checksum_is_right() {
    let cases: &[(usize, u8, &str)] = &[
        (layout::KIND, 9, "kind"),
        (layout::KIND, PartKind::Stripe as u8, "record"),
        (layout::FLAGS, 2, "flags"),
        (layout::RESERVED, 1, "reserved"),
        (7, 1, "reserved"),
        (layout::K, 0, "code"),
        (layout::PART, 6, "part"),
        (layout::CHECKSUM_KIND, 77, "checksum_kind"),
        (layout::OBJECT_LEN + 6, 1, "object_len"),
        (layout::STRIPE_LEN + 3, 1, "stripe_len"),
        (layout::STRIPE_LEN, 1, "object_len"),
        (layout::PAYLOAD_LEN, 0, "payload_len"),
        (PART_HEADER_LEN, 3, "extension kind"),
    ];
    for &(at, value, expected) in cases {
        let mut bytes = encoded(&sample());
        bytes[at] = value;
        reseal(&mut bytes);
        match decode_part_head(&bytes) {
            Err(PartHeadError::Field { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    const UNKNOWN: u64 = PartMeta::OBJECT_LEN_UNKNOWN;
    const SIZE: u32 = 1 << 20;
    let two = 2 * u64::from(SIZE);
    // Record, length of the object, of this stripe; which field is wrong, if any.
    let cases: &[(PartKind, u32, u64, u32, Option<&str>)] = &[
        (PartKind::Sole, 0, 0, 0, None),
        (PartKind::Sole, 0, u64::from(SIZE), SIZE, None),
        (PartKind::Sole, 0, 5, 4, Some("object_len")),
        (PartKind::Sole, 0, UNKNOWN, 4, Some("object_len")),
        (PartKind::Head, 0, two, 0, None),
        (PartKind::Head, 0, two, 1, Some("stripe_len")),
        (PartKind::Head, 0, UNKNOWN, 0, Some("object_len")),
        (PartKind::Tombstone, 0, 0, 0, None),
        (PartKind::Tombstone, 0, 1, 0, Some("object_len")),
        (PartKind::Tombstone, 0, 0, 1, Some("stripe_len")),
        (PartKind::Stripe, 1, UNKNOWN, 1, None),
        (PartKind::Stripe, 1, UNKNOWN, 0, Some("stripe_len")),
        (PartKind::Stripe, 64, UNKNOWN, SIZE, None),
        (PartKind::Stripe, 65, UNKNOWN, 1, Some("stripe_len")),
        (PartKind::Stripe, u32::MAX, UNKNOWN, 1, Some("stripe_len")),
        (PartKind::Stripe, 2, two, SIZE, None),
        (PartKind::Stripe, 2, two - 5, SIZE - 5, None),
        (PartKind::Stripe, 2, two, SIZE - 5, Some("stripe_len")),
        (PartKind::Stripe, 2, two - 5, SIZE, Some("stripe_len")),
        (PartKind::Stripe, 3, two, 0, Some("stripe_len")),
    ];
    for &(kind, record, object_len, stripe_len, wrong) in cases {
        let code = if kind == PartKind::Head || kind == PartKind::Tombstone { "1+5" } else { "4+2" };
        let code = code.parse().unwrap();
        let record = Record(record);
        let meta = PartMeta { kind, record, object_len, stripe_len, stripe_size: SIZE, code, ..sample() };
        let found = match decode_part_head(&encoded(&meta)) {
            Ok(_) => None,
            Err(PartHeadError::Field { field, .. }) => Some(field),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found, wrong, "{kind:?} {record:?}, {stripe_len} bytes of {object_len}");
    }
    let smaller = PartMeta { stripe_size: 99_999, ..sample() };
    assert!(decode_part_head(&encoded(&smaller)).is_err(), "a sole stripe that is larger than a stripe");
    let coded = PartMeta { kind: PartKind::Head, stripe_len: 0, ..sample() };
    assert!(decode_part_head(&encoded(&coded)).is_err(), "heads are copies");
}

#[test]
fn extensions_in_another_order_are_refused() {
    let mut bytes = encoded(&sample());
    let key_len = EXTENSION_PREFIX_LEN + sample().key.as_bytes().len();
    bytes[PART_HEADER_LEN..].rotate_left(key_len);
    reseal(&mut bytes);
    let expected = PartHeadError::Field { field: "extension kind", value: u64::from(EXTENSION_KEY) };
    assert_eq!(decode_part_head(&bytes), Err(expected));
}

#[test]
fn cuts_are_the_bytes_of_a_range_part_by_part() {
    for stripe_len in [1, 5, 64, 4000, 65_537] {
        let meta = PartMeta { kind: PartKind::Sole, stripe_len, ..sample() };
        let (len, part_len) = (stripe_len as usize, meta.part_len());
        let bounds = [0, 1, part_len - 1, part_len, part_len + 1, 2 * part_len, 3 * part_len + 1, len];
        for start in bounds.map(|bound| bound.min(len)) {
            for end in bounds.map(|bound| bound.min(len)).into_iter().filter(|end| *end >= start) {
                let bytes: Vec<usize> = meta
                    .cuts(start..end)
                    .flat_map(|(number, inside)| {
                        assert!(!inside.is_empty() && inside.end <= part_len);
                        inside.map(move |at| usize::from(number) * part_len + at)
                    })
                    .collect();
                assert!(bytes.iter().copied().eq(start..end), "{start}..{end} of {stripe_len}");
            }
        }
    }
    let tombstone = PartMeta { kind: PartKind::Tombstone, stripe_len: 0, ..sample() };
    assert_eq!(tombstone.cuts(0..0).count(), 0);
}
