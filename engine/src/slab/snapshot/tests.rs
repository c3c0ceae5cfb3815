use hedgerow_wire::{KeyHash, Record};

use super::*;
use crate::slab::index::Entry;

const ID: SnapshotId = SnapshotId { shard_id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, nonce: 0x0102_0304 };
const HLC: u64 = 0x6b49_d200_1234;

fn hash(number: u32) -> KeyHash {
    KeyHash(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn entry(number: u32) -> Entry {
    Entry {
        slab: number % 1000,
        offset: number * 64,
        blocks: 1 + (number % 300) as u16,
        hlc: HLC - u64::from(number),
        tombstone: number.is_multiple_of(5),
        touched: number.is_multiple_of(3),
    }
}

fn index_of(capacity: usize, parts: u32) -> Index {
    let mut index = Index::with_capacity(capacity, 0xfeed);
    for number in 0..parts {
        index.insert(hash(number), Record(number % 4), &entry(number)).unwrap();
    }
    index
}

fn encoded(index: &Index, extra: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_to_vec(index, &ID, extra, &mut bytes);
    assert_eq!(bytes.len() as u64, encoded_len(index, extra.len()));
    bytes
}

fn small() -> Vec<u8> {
    encoded(&index_of(20, 20), b"state of the store")
}

fn refused(bytes: &[u8]) -> SnapshotError {
    match decode(bytes, &ID) {
        Ok(_) => panic!("taken for a snapshot"),
        Err(error) => error,
    }
}

/// Makes the header's checksum right.
fn reseal_header(bytes: &mut [u8]) {
    let checksum = crc32c(&bytes[..layout::CHECKSUM]);
    bytes[layout::CHECKSUM..layout::LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// Makes every checksum of a snapshot with an extra section of `extra_len` bytes right.
fn reseal(bytes: &mut [u8], extra_len: usize) {
    reseal_header(bytes);
    let (header, mut rest) = bytes.split_at_mut(layout::LEN);
    let mut checksums = ChunkChecksums::new(header);
    let sections = [extra_len, rest.len() - section_len(extra_len as u64) as usize - CHECKSUM_BYTES];
    for len in sections {
        assert!(len <= CHUNK_BYTES);
        let (chunk, after) = rest.split_at_mut(len);
        let (stored, after) = after.split_at_mut(CHECKSUM_BYTES);
        stored.copy_from_slice(&checksums.checksum(chunk).to_le_bytes());
        checksums.next += 1;
        rest = after;
    }
}

#[test]
fn golden_bytes() {
    let mut index = Index::with_capacity(1, 0x1122_3344_5566_7788);
    let number = 0x77;
    index.insert(hash(number), Record(2), &entry(number)).unwrap();
    let bytes = encoded(&index, b"abc");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let header = concat!(
        "4847494e44455800",
        "0100000001000000",
        "ffeeddccbbaa99887766554433221100",
        "0403020100000000",
        "8877665544332211",
        "4000000000000000",
        "0100000000000000",
        "bd1100d2496b0000",
        "0300000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    );
    assert_eq!(&hex[..248], header);
    let slots: Vec<String> = bytes[layout::LEN + 7..bytes.len() - 4]
        .chunks(16)
        .enumerate()
        .filter(|(_, slot)| slot.iter().any(|&byte| byte != 0))
        .map(|(at, slot)| format!("{at} {:032x}", u128::from_le_bytes(slot.try_into().unwrap())))
        .collect();
    // Position and fingerprint: the hash is part of the layout.
    assert_eq!(slots, ["156 b49d20011bd001dc6388b13b3000ee78"]);
    assert_eq!(&hex[248..270], "2d33249c6162634338e256");
    assert_eq!(format!("{:08x}", crc32c(&bytes)), "18f18c91");
}

#[test]
fn what_was_encoded_is_decoded() {
    let chunk_parts = CHUNK_BYTES / BUCKET_BYTES * 4;
    for (capacity, parts) in [(0, 0), (20, 20), (chunk_parts * 9 / 10, 10_000), (60_000, 60_000)] {
        for extra_len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let index = index_of(capacity, parts);
            let extra: Vec<u8> = (0..extra_len).map(|at| (at * 31 / 7) as u8).collect();
            let snapshot = decode(&encoded(&index, &extra), &ID).unwrap_or_else(|error| panic!("{error}"));
            assert!(snapshot.extra == extra);
            let mut decoded = snapshot.index;
            assert_eq!((decoded.len(), decoded.slots()), (index.len(), index.slots()));
            assert_eq!((decoded.seed(), decoded.highest_hlc()), (index.seed(), index.highest_hlc()));
            for number in (0..parts).rev() {
                let record = Record(number % 4);
                assert_eq!(decoded.get(hash(number), record, HLC), Some(entry(number)));
                assert_eq!(decoded.remove(hash(number), record), Some(entry(number)));
            }
            assert!(decoded.is_empty());
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = small();
    for len in 0..bytes.len() {
        let need = if len < layout::LEN { layout::LEN } else { bytes.len() } as u64;
        assert_eq!(refused(&bytes[..len]), SnapshotError::Truncated { need, have: len as u64 });
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(refused(&longer), SnapshotError::Trailing { need: bytes.len() as u64, excess: 1 });
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = small();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = refused(&damaged);
        let fits = match bit / 8 {
            0..8 => error == SnapshotError::Magic,
            8..12 => matches!(error, SnapshotError::SnapshotVersion { .. }),
            12..layout::LEN => matches!(error, SnapshotError::HeaderChecksum { .. }),
            _ => matches!(error, SnapshotError::ChunkChecksum { .. }),
        };
        assert!(fits, "bit {bit}: {error}");
    }
}

#[test]
fn flipped_bits_of_a_large_one_are_refused() {
    let bytes = encoded(&index_of(60_000, 50_000), &vec![7; CHUNK_BYTES + 100]);
    let mut damaged = bytes.clone();
    for at in (layout::LEN..bytes.len()).step_by(40_009) {
        damaged[at] ^= 1 << (at % 8);
        let chunk = ((at - layout::LEN) / (CHUNK_BYTES + CHECKSUM_BYTES)) as u64;
        match refused(&damaged) {
            SnapshotError::ChunkChecksum { chunk: found, .. } => {
                assert!(found.abs_diff(chunk) <= 1, "byte {at}")
            }
            error => panic!("byte {at}: {error}"),
        }
        damaged[at] = bytes[at];
    }
}

#[test]
fn whole_headers_with_wrong_fields_are_refused() {
    use SnapshotError as E;
    let need = small().len() as u64;
    let field = |field, value| E::Field { field, value };
    let shard_id = E::ShardId { found: ID.shard_id ^ 0xff ^ 9, expected: ID.shard_id };
    let cases = [
        (layout::SLOT_LAYOUT_VERSION, 9, E::SlotLayoutVersion { found: 9 }),
        (layout::SHARD_ID, 9, shard_id),
        (layout::NONCE, 9, E::Nonce { found: 0x0102_0309, expected: ID.nonce }),
        (layout::BUCKETS, 0, field("buckets", 0)),
        (layout::BUCKETS, 63, field("buckets", 63)),
        (layout::BUCKETS, 65, E::Truncated { need: need + 64, have: need }),
        (layout::BUCKETS + 3, 0x40, E::Truncated { need: (1 << 36) + (1 << 20) + need, have: need }),
        (layout::BUCKETS + 4, 1, field("buckets", (1 << 32) + 64)),
        (layout::BUCKETS + 7, 0xff, field("buckets", (0xff << 56) + 64)),
        (layout::EXTRA_LEN, 17, E::Trailing { need: need - 1, excess: 1 }),
        (layout::EXTRA_LEN + 7, 1, field("extra_len", (1 << 56) + 18)),
        (layout::RESERVED, 1, field("reserved", 1)),
        (layout::CHECKSUM - 1, 1, field("reserved", 1)),
    ];
    for (at, value, expected) in cases {
        let mut bytes = small();
        bytes[at] = value;
        reseal_header(&mut bytes);
        assert_eq!(refused(&bytes), expected, "byte {at}");
    }
}

#[test]
fn whole_chunks_with_wrong_slots_are_refused() {
    let table = layout::LEN + section_len(18) as usize;
    let check = |at: usize, value: &[u8], expected: SnapshotError| {
        let mut bytes = small();
        bytes[at..at + value.len()].copy_from_slice(value);
        reseal(&mut bytes, 18);
        assert_eq!(refused(&bytes), expected);
    };
    check(layout::PARTS, &[21], SnapshotError::PartCount { found: 20, expected: 21 });
    let bytes = small();
    let is_empty = |slot: &usize| bytes[slot * 16 + table..][..16] == [0; 16];
    let empty = (0..256).find(is_empty).unwrap();
    let used = (0..256).find(|slot| !is_empty(slot)).unwrap();
    let slot = |slot: usize| SnapshotError::Slot { bucket: slot as u64 / 4 };
    check(table + empty * 16, &[1], slot(empty));
    check(table + empty * 16 + 15, &[1], slot(empty));
    check(table + used * 16, &[0, bytes[table + used * 16 + 1] & 0xfe], slot(used));
    check(table + used * 16, &[0; 16], SnapshotError::PartCount { found: 19, expected: 20 });
    let mut same = small();
    reseal(&mut same, 18);
    assert_eq!(same, bytes);
}

#[test]
fn whole_chunks_of_elsewhere_are_refused() {
    let index = index_of(60_000, 50_000);
    let bytes = encoded(&index, b"");
    let piece = CHUNK_BYTES + CHECKSUM_BYTES;
    let mut swapped = bytes.clone();
    let (one, other) = swapped[layout::LEN..layout::LEN + 2 * piece].split_at_mut(piece);
    one.swap_with_slice(other);
    assert!(matches!(refused(&swapped), SnapshotError::ChunkChecksum { chunk: 0, .. }));

    let mut earlier = Vec::new();
    encode_to_vec(&index, &SnapshotId { nonce: ID.nonce - 1, ..ID }, b"", &mut earlier);
    let mut mixed = bytes;
    mixed[layout::LEN + piece..].copy_from_slice(&earlier[layout::LEN + piece..]);
    assert!(matches!(refused(&mixed), SnapshotError::ChunkChecksum { chunk: 1, .. }));
    assert_eq!(refused(&earlier), SnapshotError::Nonce { found: ID.nonce - 1, expected: ID.nonce });
}

#[test]
fn an_error_of_the_sink_ends_the_encoding() {
    let index = index_of(60_000, 0);
    for failing in 0..4 {
        let mut pieces = 0;
        let result = encode(&index, &ID, b"abc", |piece| {
            assert!(piece.len() <= CHUNK_BYTES + CHECKSUM_BYTES);
            pieces += 1;
            if pieces > failing { Err("full") } else { Ok(()) }
        });
        assert_eq!((result, pieces), (Err("full"), failing + 1));
    }
}
