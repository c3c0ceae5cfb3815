use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::slot::{BLOCKS_MAX, HLC_AHEAD_UNITS, HLC_BITS, SLAB_BYTES_MAX, SLABS_MAX, rebuild_hlc};
use super::*;

const NOW_HLC: u64 = 1_800_000_000 << 16;
const ENTRY: Entry =
    Entry { slab: 3, offset: 640, blocks: 2, hlc: NOW_HLC - 5, tombstone: false, touched: false };

/// The seed of a random test: `HEDGEROW_SEED`, or the test's own.
fn seeded(test: &str, seed: u64) -> SmallRng {
    let seed = std::env::var("HEDGEROW_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
    println!("HEDGEROW_SEED={seed} cargo test -p hedgerow-engine --no-default-features {test}");
    SmallRng::seed_from_u64(seed)
}

fn random_hash(rng: &mut SmallRng) -> KeyHash {
    KeyHash(rng.random())
}

fn random_entry(rng: &mut SmallRng) -> Entry {
    Entry {
        slab: rng.random_range(0..SLABS_MAX),
        offset: rng.random_range(0..SLAB_BYTES_MAX / 64) * 64,
        blocks: rng.random_range(1..=BLOCKS_MAX),
        hlc: NOW_HLC - rng.random_range(0..1 << 43),
        tombstone: rng.random(),
        touched: rng.random(),
    }
}

/// All slots, as bytes.
fn image(index: &Index) -> Vec<u8> {
    (0..index.bucket_count()).flat_map(|bucket| index.bucket_bytes(bucket)).collect()
}

/// Inserts random records until `per_mille` thousandths of the slots are in use or one does not fit.
fn fill(index: &mut Index, per_mille: usize, rng: &mut SmallRng) -> HashMap<u128, Entry> {
    let mut model = HashMap::new();
    while model.len() * 1000 < index.slots() * per_mille {
        let (hash, entry) = (random_hash(rng), random_entry(rng));
        let before = (index.slots() < 2000).then(|| image(index));
        match index.insert(hash, Record::OBJECT, &entry) {
            Ok(replaced) => assert_eq!(replaced, None),
            Err(full) => {
                assert_eq!(full, Full { len: model.len(), slots: index.slots() });
                assert!(before.is_none_or(|before| before == image(index)), "a refused insert changed slots");
                break;
            }
        }
        model.insert(hash.0, entry);
    }
    model
}

fn check_same(index: &Index, model: &HashMap<u128, Entry>) {
    assert_eq!(index.len(), model.len());
    assert_eq!(index.entries(NOW_HLC).count(), model.len());
    for (&hash, entry) in model {
        assert_eq!(index.get(KeyHash(hash), Record::OBJECT, NOW_HLC).as_ref(), Some(entry), "{hash:x}");
    }
}

#[test]
fn golden_slots() {
    let entry = Entry { slab: 0, offset: 0, blocks: 1, hlc: 0, tombstone: false, touched: false };
    let cases = [
        (1, entry, 0x00000000_00000000_00000000_10000001_u128),
        ((1 << 36) - 1, entry, 0x00000000_00000000_ffffffff_f0000001),
        (1, Entry { offset: SLAB_BYTES_MAX - 64, ..entry }, 0x00000000_00000000_00000000_1ffffe01),
        (1, Entry { blocks: 511, ..entry }, 0x00000000_00000000_00000000_100001ff),
        (1, Entry { hlc: (1 << 44) - 1, ..entry }, 0xffffffff_fff00000_00000000_10000001),
        (1, Entry { slab: SLABS_MAX - 1, ..entry }, 0x00000000_000ffffc_00000000_10000001),
        (1, Entry { tombstone: true, ..entry }, 0x00000000_00000002_00000000_10000001),
        (1, Entry { touched: true, ..entry }, 0x00000000_00000001_00000000_10000001),
        (
            0x1_2345_6789,
            Entry {
                slab: 0x2_1fed,
                offset: 64 * 0x5_4321,
                blocks: 0x101,
                hlc: 0x0abc_def0_1234,
                tombstone: true,
                touched: true,
            },
            0xabcdef01_23487fb7_12345678_9a864301,
        ),
    ];
    for (fingerprint, entry, bits) in cases {
        let slot = Slot::pack(fingerprint, &entry);
        let found = u128::from_le_bytes(slot.to_bytes());
        assert_eq!(found, bits, "{entry:?}: {found:032x}");
        assert_eq!(slot.unpack(entry.hlc), entry);
        assert_eq!(slot.fingerprint(), fingerprint);
        assert_eq!(Slot::from_bytes(slot.to_bytes()), Some(slot));
    }
    assert_eq!(Slot::from_bytes([0; 16]), Some(Slot::EMPTY));
    assert_eq!(Slot::from_bytes((1u128 << 28).to_le_bytes()), None, "no blocks");
    assert_eq!(Slot::from_bytes(1u128.to_le_bytes()), None, "no fingerprint");
    assert_eq!(Slot::from_bytes((1u128 << 64).to_le_bytes()), None, "no fingerprint");
}

#[test]
fn entries_that_no_slot_can_hold_are_refused_loudly() {
    for entry in [
        Entry { slab: SLABS_MAX, ..ENTRY },
        Entry { offset: SLAB_BYTES_MAX, ..ENTRY },
        Entry { offset: 65, ..ENTRY },
        Entry { blocks: 0, ..ENTRY },
        Entry { blocks: BLOCKS_MAX + 1, ..ENTRY },
    ] {
        let packed = std::panic::catch_unwind(|| Slot::pack(1, &entry));
        assert!(packed.is_err(), "{entry:?}");
    }
}

#[test]
fn hlc_is_rebuilt_within_its_window() {
    const WINDOW: u64 = 1 << HLC_BITS;
    const BEHIND: u64 = WINDOW - HLC_AHEAD_UNITS - 1;
    // (hlc, reference, what is rebuilt)
    let mut cases = vec![
        (0, 0, 0),
        (5, 0, 5),
        (0, 5, 0),
        (WINDOW - 1, 0, WINDOW - 1), // below zero otherwise
        (HLC_AHEAD_UNITS + 1, 0, HLC_AHEAD_UNITS + 1),
        (u64::MAX, u64::MAX, u64::MAX),
        (u64::MAX - 7, u64::MAX - HLC_AHEAD_UNITS, u64::MAX - 7),
    ];
    // References around a wrap of the low bits, and today's.
    for reference in [7 * WINDOW - 1, 7 * WINDOW, 7 * WINDOW + 1, NOW_HLC] {
        for ahead in [0, 1, 65536, HLC_AHEAD_UNITS - 1, HLC_AHEAD_UNITS] {
            cases.push((reference + ahead, reference, reference + ahead));
        }
        for behind in [1, 65536, WINDOW / 2, BEHIND - 1, BEHIND] {
            cases.push((reference - behind, reference, reference - behind));
        }
        // One step outside on either side, the other side is taken.
        cases.push((reference + HLC_AHEAD_UNITS + 1, reference, reference - BEHIND));
        cases.push((reference - BEHIND - 1, reference, reference + HLC_AHEAD_UNITS));
    }
    for (hlc, reference, expected) in cases {
        let low = hlc & (WINDOW - 1);
        assert_eq!(rebuild_hlc(low, reference), expected, "hlc {hlc}, reference {reference}");
    }
}

#[test]
fn a_record_is_found_until_it_is_removed() {
    let mut index = Index::with_capacity(1000, 7);
    let (hash, record) = (KeyHash(1), Record::OBJECT);
    assert_eq!(index.insert(hash, record, &ENTRY), Ok(None));
    assert_eq!(index.get(hash, record, NOW_HLC), Some(ENTRY));
    assert_eq!(index.get(hash, Record(1), NOW_HLC), None);
    assert_eq!(index.get(KeyHash(2), record, NOW_HLC), None);

    let newer = Entry { slab: 4, hlc: NOW_HLC, tombstone: true, ..ENTRY };
    assert_eq!(index.insert(hash, record, &newer), Ok(Some(ENTRY)));
    assert_eq!((index.len(), index.highest_hlc()), (1, NOW_HLC));
    assert_eq!(index.insert(hash, record, &ENTRY), Ok(Some(newer)), "an older one replaces too");
    assert_eq!((index.len(), index.highest_hlc()), (1, NOW_HLC));

    assert!(!index.remove_at(hash, record, 3, 704));
    assert!(!index.remove_at(hash, record, 4, 640));
    assert!(!index.remove_at(hash, Record(1), 3, 640));
    assert_eq!(index.len(), 1);
    assert!(index.remove_at(hash, record, 3, 640));
    assert_eq!(index.get(hash, record, NOW_HLC), None);
    assert!(index.is_empty());

    index.insert(hash, record, &ENTRY).unwrap();
    assert_eq!(index.remove(hash, record), Some(ENTRY));
    assert_eq!(index.remove(hash, record), None);
    assert_eq!(image(&index), image(&Index::with_capacity(1000, 7)), "nothing stays behind");
}

#[test]
fn touches_are_set_and_taken() {
    let mut index = Index::with_capacity(10, 7);
    let (hash, record) = (KeyHash(9), Record(3));
    assert!(!index.touch(hash, record, 0) && !index.take_touched(hash, record));
    index.insert(hash, record, &Entry { tombstone: true, ..ENTRY }).unwrap();
    assert!(!index.take_touched(hash, record));
    assert!(!index.touch(hash, record, ENTRY.hlc + 1) && !index.take_touched(hash, record), "it is older");
    assert!(index.touch(hash, record, ENTRY.hlc) && index.touch(hash, record, ENTRY.hlc - 1));
    let touched = Entry { tombstone: true, touched: true, ..ENTRY };
    assert_eq!(index.get(hash, record, NOW_HLC), Some(touched));
    assert!(index.take_touched(hash, record));
    assert!(!index.take_touched(hash, record));
    assert_eq!(index.get(hash, record, NOW_HLC), Some(Entry { touched: false, ..touched }));
    index.touch(hash, record, ENTRY.hlc);
    index.insert(hash, record, &ENTRY).unwrap();
    assert!(!index.take_touched(hash, record), "a new part is not touched unless its entry says so");
}

#[test]
fn retain_removes_what_is_not_wanted() {
    let mut rng = seeded("retain_removes_what_is_not_wanted", 3);
    let mut index = Index::with_capacity(5000, 3);
    let mut model = fill(&mut index, 800, &mut rng);
    index.retain(|entry| entry.slab % 3 != 0);
    model.retain(|_, entry| entry.slab % 3 != 0);
    assert!(!model.is_empty());
    check_same(&index, &model);
}

#[test]
fn agrees_with_a_map_under_random_operations() {
    let mut rng = seeded("agrees_with_a_map", 0x5eed);
    for round in 0..4 {
        // From far too few to far too many records for the slots.
        let keys: Vec<u128> = (0..200 << round).map(|_| rng.random()).collect();
        let mut index = Index::with_capacity(900, rng.random());
        let mut model: HashMap<(u128, u32), Entry> = HashMap::new();
        for _ in 0..40_000 {
            let (key, record) = (keys[rng.random_range(0..keys.len())], rng.random_range(0..3));
            let (hash, name, held) = (KeyHash(key), Record(record), (key, record));
            match rng.random_range(0..8) {
                0..=3 => {
                    let entry = random_entry(&mut rng);
                    match index.insert(hash, name, &entry) {
                        Ok(replaced) => assert_eq!(replaced, model.insert(held, entry)),
                        Err(full) => {
                            assert!(!model.contains_key(&held), "a replacement always fits");
                            assert!(full.len * 100 >= full.slots * 90, "full at {full}");
                        }
                    }
                }
                4 => assert_eq!(index.remove(hash, name), model.remove(&held)),
                5 => {
                    let place = model.get(&held).map_or((1, 64), |entry| (entry.slab, entry.offset));
                    let place = if rng.random() { place } else { (place.0 ^ 1, place.1) };
                    let there = model.get(&held).is_some_and(|entry| (entry.slab, entry.offset) == place);
                    assert_eq!(index.remove_at(hash, name, place.0, place.1), there);
                    if there {
                        model.remove(&held);
                    }
                }
                6 => {
                    let entry = model.get_mut(&held);
                    assert_eq!(index.touch(hash, name, 0), entry.map(|entry| entry.touched = true).is_some());
                }
                _ => {
                    let entry = model.get_mut(&held);
                    let touched = entry.is_some_and(|entry| std::mem::take(&mut entry.touched));
                    assert_eq!(index.take_touched(hash, name), touched);
                }
            }
            index.prefetch(hash, name);
            assert_eq!(index.get(hash, name, NOW_HLC), model.get(&held).copied());
            assert_eq!(index.len(), model.len());
        }
        for (&(key, record), entry) in &model {
            assert_eq!(index.get(KeyHash(key), Record(record), NOW_HLC), Some(*entry));
        }
    }
}

#[test]
fn fills_to_95_percent_at_every_size_and_loses_nothing_when_full() {
    let mut rng = seeded("fills_to_95_percent", 11);
    for (capacity, tables) in [(900, 20), (1000, 20), (12_345, 5), (65_536 * 9 / 10, 2), (300_000, 1)] {
        for _ in 0..tables {
            let mut index = Index::with_capacity(capacity, rng.random());
            let model = fill(&mut index, 1000, &mut rng);
            let percent = model.len() as f64 / index.slots() as f64 * 100.0;
            println!("{} slots: full at {percent:.2} %", index.slots());
            // In small tables luck has a say.
            let least = if index.slots() < 10_000 { 93.0 } else { 95.0 };
            assert!(percent >= least, "{} slots were full at {percent:.2} %", index.slots());
            check_same(&index, &model);
        }
    }
}

#[test]
fn as_many_parts_fit_as_were_asked_for() {
    let mut rng = seeded("as_many_parts_fit", 12);
    for parts in (0..300).chain([1023, 1024, 1025, 4097]) {
        let mut index = Index::with_capacity(parts, rng.random());
        assert!(parts * 10 <= index.slots() * 9);
        for _ in 0..parts {
            index.insert(random_hash(&mut rng), Record::OBJECT, &ENTRY).unwrap();
        }
        assert_eq!(index.len(), parts);
    }
    assert_eq!(
        Index::try_with_capacity(usize::MAX, 0).err(),
        Some(CapacityError::TooLarge { parts: usize::MAX })
    );
}

#[test]
fn memory_is_16_bytes_a_slot_at_every_size() {
    for parts in [10_000, 100_000, 123_457, 1_000_000] {
        let index = Index::with_capacity(parts, 1);
        let slots = index.slots();
        assert!(slots * 9 < (parts + 4) * 10, "{slots} slots for {parts} parts");
        assert!(index.memory_bytes() <= 16 * slots + 128, "{}", index.memory_bytes());
    }
}

#[test]
fn the_other_bucket_of_the_other_bucket_is_the_first() {
    let mut rng = seeded("the_other_bucket", 13);
    for buckets in (BUCKETS_MIN..100).chain([997, 1024, 65_535, 65_536]) {
        let index = Index::with_buckets(buckets, 5).unwrap();
        for _ in 0..200 {
            let probe = index.probe(random_hash(&mut rng), Record(rng.random()));
            let [first, second] = probe.buckets;
            assert!(first < buckets && second < buckets);
            assert_eq!(index.other_bucket(second, probe.fingerprint), first);
        }
    }
}

/// The derived bound of a lookup is too low to be seen (1e-10), so it is measured over each third of
/// the fingerprint: if the three are uniform and independent of the buckets, so is their product.
#[test]
fn false_matches_are_as_rare_as_derived() {
    const WINDOW_BITS: u32 = FINGERPRINT_BITS / 3;
    const LOOKUPS: usize = 400_000;
    let mut rng = seeded("false_matches", 14);
    let mut index = Index::with_capacity(90_000, 15);
    fill(&mut index, 900, &mut rng);
    let share = index.len() as f64 / index.slots() as f64;
    let expected = LOOKUPS as f64 * 8.0 * share / f64::from(1 << WINDOW_BITS);
    let mut matches = [0; 3];
    for number in 0..LOOKUPS {
        // Records of one key, as well as random keys.
        let probe = index.probe(KeyHash(number as u128 / 64), Record(number as u32 % 64));
        for slot in probe.buckets.iter().flat_map(|&bucket| index.buckets[bucket].slots) {
            for (window, count) in matches.iter_mut().enumerate() {
                let differs = (slot.fingerprint() ^ probe.fingerprint) >> (window as u32 * WINDOW_BITS);
                *count += usize::from(!slot.is_empty() && differs & ((1 << WINDOW_BITS) - 1) == 0);
            }
        }
        assert!(index.find(&probe).is_none());
    }
    println!("expected {expected:.0} in each window, found {matches:?}");
    for count in matches {
        let deviations = (count as f64 - expected) / expected.sqrt();
        assert!(deviations.abs() < 5.0, "{count} for {expected:.0}");
    }
}

#[test]
fn records_that_collide_in_one_shard_do_not_in_another() {
    let mut rng = seeded("records_that_collide", 16);
    let (here, there) = (Index::with_capacity(10, rng.random()), Index::with_capacity(10, rng.random()));
    let keys: Vec<KeyHash> = (0..1 << 14).map(|_| random_hash(&mut rng)).collect();
    let mut probed: Vec<(u64, KeyHash, Record)> = keys
        .iter()
        .flat_map(|&hash| (0..64).map(move |record| (hash, Record(record))))
        .map(|(hash, record)| (here.probe(hash, record).fingerprint, hash, record))
        .collect();
    probed.sort_unstable();
    let pairs: Vec<_> = probed.windows(2).filter(|pair| pair[0].0 == pair[1].0).collect();
    // 2^20 fingerprints of 36 bits: 2^39 pairs, of which 8 are expected to be equal.
    assert!((1..30).contains(&pairs.len()), "{} equal fingerprints", pairs.len());
    for pair in pairs {
        let [one, other] = [&pair[0], &pair[1]].map(|&(_, hash, record)| there.probe(hash, record));
        assert_ne!(one.fingerprint, other.fingerprint);
    }
}
