//! The hot pieces of a request, each by itself and without I/O: what `hedgerow-perf instructions` counts
//! and `cargo bench --bench hot` times.

use std::hint::black_box;
use std::rc::Rc;

use hedgerow_engine::codec::Codec;
use hedgerow_engine::coordinator::{Action, Config, Coordinator, ReadOutcome, ReadRequest, WriteRequest};
use hedgerow_engine::memory::{Entry as MemoryEntry, MemoryTier};
use hedgerow_engine::ring::{Ring, TargetSpec};
use hedgerow_engine::slab::index::{Entry, Index};
use hedgerow_engine::slab::{Buffers, Effect, IoId, IoResult, Opening, Store, StoreConfig, Token};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartKind, PartMeta, PartRead, PartWrite, RecordName, WritePurpose,
};
use hedgerow_wire::request::check_request;
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{
    AckLevel, Code, Key, KeyHash, Member, Namespace, ObjectChecksum, ReadPolicy, Record, Target, Version,
};

/// One piece: its name, and what does it so many times.
pub type Piece = (&'static str, fn(u64));

/// All of them.
pub const PIECES: [Piece; 16] = [
    ("frame decode", frame_decode),
    ("frame encode", frame_encode),
    ("checksum 16 KiB", checksum),
    ("encode 4+2 64 KiB", encode),
    ("reconstruct 4+2 64 KiB", reconstruct),
    ("ring 6 of 6", ring),
    ("index hit", index_hit),
    ("index insert and remove", index_insert),
    ("memory hit", memory_hit),
    ("coordinator read", coordinator_read),
    ("coordinator read, one target silent", coordinator_silent_read),
    ("coordinator read, three copies", coordinator_small_read),
    ("coordinator write", coordinator_write),
    ("store write 16 KiB", store_write),
    ("store read 16 KiB", store_read),
    ("store confirm", store_confirm),
];

const START_US: u64 = 1_800_000_000_000_000;

fn now(us: u64) -> Now {
    Now { mono: Timestamp((us + 1) * 1000), wall_us: START_US + us }
}

fn key(number: u64) -> Key {
    match Key::new(format!("object-{number:012}").as_bytes()) {
        Ok(key) => key,
        Err(error) => unreachable!("the key is short: {error}"),
    }
}

fn code(k: u8, m: u8) -> Code {
    match Code::new(k, m) {
        Ok(code) => code,
        Err(error) => unreachable!("a constant: {error}"),
    }
}

fn version(us: u64) -> Version {
    // The clock of versions ticks in 2^-16 s.
    Version { hlc: (START_US + us) / 1000 * 65_536 / 1000, coordinator: 1 }
}

fn meta(number: u64, code: Code, stripe_len: u32, us: u64) -> PartMeta {
    PartMeta {
        kind: PartKind::Sole,
        pinned: false,
        namespace: Namespace(0),
        namespace_generation: 0,
        key: key(number),
        record: Record::OBJECT,
        version: version(us),
        object_len: u64::from(stripe_len),
        object_checksum: ObjectChecksum::NONE,
        stripe_len,
        stripe_size: 1 << 20,
        part: 0,
        code,
        created_ms: START_US / 1000,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    }
}

fn name(number: u64) -> RecordName {
    let key = key(number);
    RecordName { namespace: Namespace(0), hash: key.hash(Namespace(0)), key, record: Record::OBJECT }
}

fn frame_decode(count: u64) {
    let key = key(7);
    let mut header = FrameHeader::request(Op::Get, 1);
    header.deadline_budget_us = 1_000_000;
    header.length = FrameHeader::TO_END;
    let mut bytes = header.sealed(Some(&key), &[]).encode().to_vec();
    bytes.extend_from_slice(key.as_bytes());
    let mut decoder = Decoder::new();
    for _ in 0..count {
        let mut input = black_box(&bytes[..]);
        loop {
            match decoder.step(&mut input) {
                Ok(Step::Header { header, key }) => {
                    assert!(check_request(&header, key.as_ref()).is_ok(), "the frame is right");
                }
                Ok(Step::NeedMore) => break,
                Ok(Step::End | Step::Body(_)) => {}
                Ok(Step::Refused { error, .. }) | Err(error) => unreachable!("the frame is right: {error}"),
            }
        }
    }
}

fn frame_encode(count: u64) {
    for id in 0..count {
        let mut header = FrameHeader::answer(Op::Get, id, Status::Ok);
        header.object_len = 65_536;
        black_box(header.sealed_with(None, 65_536, id as u32).encode());
    }
}

fn checksum(count: u64) {
    let bytes = vec![7; 16 << 10];
    for _ in 0..count {
        black_box(crc32c(black_box(&bytes)));
    }
}

const PART_LEN: usize = 16 << 10;

fn encode(count: u64) {
    let (mut codec, data) = (Codec::new(), vec![7; 4 * PART_LEN]);
    let mut parity = vec![0; 2 * PART_LEN];
    for _ in 0..count {
        let (first, second) = parity.split_at_mut(PART_LEN);
        assert!(codec.encode(code(4, 2), black_box(&data), &mut [first, second]).is_ok());
    }
}

fn reconstruct(count: u64) {
    let (mut codec, data) = (Codec::new(), vec![7; 4 * PART_LEN]);
    let have: Vec<(u8, &[u8])> = (1..5).map(|part| (part, &data[..PART_LEN])).collect();
    let mut lost = vec![0; PART_LEN];
    for _ in 0..count {
        assert!(codec.reconstruct(code(4, 2), black_box(&have), &mut [(0, &mut lost)]).is_ok());
    }
}

fn targets() -> Vec<TargetSpec> {
    (0..6)
        .map(|shard| TargetSpec {
            target: Target { member: Member(0), shard },
            domain: u32::from(shard),
            weight: 1,
        })
        .collect()
}

fn ring(count: u64) {
    let ring = Ring::new(&targets());
    for number in 0..count {
        let hash = u128::from(number).wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645);
        black_box(ring.targets(KeyHash(hash), 6));
    }
}

fn hash(number: u64) -> KeyHash {
    let mixed = |seed: u64| (number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    KeyHash(u128::from(mixed(1).wrapping_mul(0xbf58_476d_1ce4_e5b9)) << 64 | u128::from(mixed(2)))
}

fn entry() -> Entry {
    let hlc = version(0).hlc;
    Entry { slab: 3, offset: 64, blocks: 5, hlc, tombstone: false, touched: false }
}

fn index() -> Index {
    let mut index = Index::with_capacity(10_000, 42);
    (0..7500).for_each(|number| assert!(index.insert(hash(number), Record::OBJECT, &entry()).is_ok()));
    index
}

fn index_hit(count: u64) {
    let index = index();
    for number in 0..count {
        black_box(index.get(hash(number % 7500), Record::OBJECT, version(0).hlc));
    }
}

fn index_insert(count: u64) {
    let mut index = index();
    for number in 0..count {
        let hash = hash((1 << 40) + number);
        assert!(index.insert(hash, Record::OBJECT, &entry()).is_ok());
        black_box(index.remove(hash, Record::OBJECT));
    }
}

fn memory_hit(count: u64) {
    let mut tier = MemoryTier::new(100 << 20, 1000);
    for number in 0..1000 {
        let token = tier.begin_fill(hash(number));
        let entry = MemoryEntry {
            hash: hash(number),
            record: Record::OBJECT,
            version: version(0),
            expires_ms: 0,
            value_bytes: 64 << 10,
            value: Rc::new(0u64),
        };
        tier.fill(token, entry, 0);
    }
    for number in 0..count {
        black_box(tier.get(hash(number % 1000), Record::OBJECT, 0));
    }
}

fn coordinator() -> Coordinator<u8> {
    Coordinator::new(Config::new(code(4, 2)), Ring::new(&targets()), 1, 42)
}

/// Reads of one object, whose targets answer within 100 us, those in `silent` not at all: then
/// the time goes on until the coordinator asks for others.
fn reads(count: u64, code: Code, stripe_len: u32, silent: Option<u16>) {
    let mut coordinator = coordinator();
    let (name, meta) = (name(7), meta(7, code, stripe_len, 0));
    // The ring's order gives each target its part.
    let order = Ring::new(&targets()).targets(name.hash, 6);
    let mut us = 10;
    for _ in 0..count {
        us += 1000;
        let request = ReadRequest {
            name: name.clone(),
            version: None,
            code_hint: Some(code),
            stripe_len: None,
            range: None,
            policy: ReadPolicy::Hedged,
            strict: false,
            immutable: false,
            deadline: now(us + 1_000_000).mono,
        };
        coordinator.read(request, now(us));
        let (mut found, mut silent_asks) = (false, Vec::new());
        while !found {
            us += 100;
            while let Some(action) = coordinator.poll() {
                match action {
                    Action::AskRead { ask, target, .. } => {
                        if silent == Some(target.shard) {
                            silent_asks.push(ask);
                            continue;
                        }
                        let part = order.iter().position(|&at| at == target).unwrap_or(0) as u8;
                        let meta = PartMeta { part, ..meta.clone() };
                        coordinator.answer(ask, PartAnswer::Part { meta, payload: part }, now(us));
                    }
                    Action::ReadDone { outcome, .. } => {
                        assert!(matches!(outcome, ReadOutcome::Found { .. }), "all parts are there");
                        found = true;
                    }
                    other => drop(black_box(other)),
                }
            }
            coordinator.tick(now(us));
        }
        // Withdrawn meanwhile.
        silent_asks.into_iter().for_each(|ask| coordinator.answer(ask, PartAnswer::Expired, now(us)));
    }
}

fn coordinator_read(count: u64) {
    reads(count, code(4, 2), 65_536, None);
}

fn coordinator_silent_read(count: u64) {
    reads(count, code(4, 2), 65_536, Some(0));
}

fn coordinator_small_read(count: u64) {
    reads(count, code(1, 2), 4096, None);
}

fn coordinator_write(count: u64) {
    let mut coordinator = coordinator();
    let mut us = 10;
    for _ in 0..count {
        us += 1000;
        let version = coordinator.next_version(name(7).hash, now(us));
        let meta = PartMeta { version, ..meta(7, code(4, 2), 65_536, us) };
        let request = WriteRequest { meta, ack: AckLevel::Written, deadline: now(us + 1_000_000).mono };
        coordinator.write(request, now(us));
        while let Some(action) = coordinator.poll() {
            if let Action::AskWrite { ask, .. } = action {
                coordinator.answer(ask, PartAnswer::Stored, now(us + 100));
            }
        }
    }
}

/// Device buffers on the heap.
struct Heap;

#[derive(Clone)]
struct Frozen(Rc<Vec<u8>>);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Buffers for Heap {
    type Write = Vec<u8>;
    type Read = Frozen;

    fn alloc(&mut self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    fn freeze(&mut self, mut write: Vec<u8>, len: usize) -> Frozen {
        write.truncate(len);
        Frozen(Rc::new(write))
    }
}

const DEVICE_LEN: usize = 64 << 20;

/// A store on a device in memory that does at once what it is asked.
struct Shard {
    store: Store<Heap>,
    device: Vec<u8>,
    answered: u64,
}

fn perform(device: &mut [u8], effect: Effect<Heap>) -> Result<(IoId, IoResult<Heap>), Effect<Heap>> {
    Ok(match effect {
        Effect::Read { io, offset, len } => {
            let at = offset as usize;
            (io, IoResult::Read(Ok(Frozen(Rc::new(device[at..at + len].to_vec())))))
        }
        Effect::Write { io, offset, buf } => {
            let at = offset as usize;
            device[at..at + buf.as_ref().len()].copy_from_slice(buf.as_ref());
            (io, IoResult::Done(Ok(())))
        }
        Effect::Flush { io } | Effect::Discard { io, .. } => (io, IoResult::Done(Ok(()))),
        other => return Err(other),
    })
}

impl Shard {
    fn new() -> Shard {
        let mut device = vec![0; DEVICE_LEN];
        let config =
            StoreConfig { parity: 2, slab_len: 8 << 20, ..StoreConfig::new(1, 0, DEVICE_LEN as u64, 42) };
        let mut opening = Opening::new(config, Heap, None, now(0));
        while !opening.done() {
            let Some(effect) = opening.poll() else { continue };
            if let Ok((io, result)) = perform(&mut device, effect) {
                opening.complete(io, result, now(0));
            }
        }
        match opening.finish() {
            Ok(store) => Shard { store, device, answered: 0 },
            Err(error) => unreachable!("a blank device opens: {error}"),
        }
    }

    fn settle(&mut self, now: Now) {
        while let Some(effect) = self.store.poll(now) {
            match perform(&mut self.device, effect) {
                Ok((io, result)) => self.store.complete(io, result, now),
                Err(Effect::Answer { answer, .. }) => {
                    self.answered += 1;
                    black_box(answer);
                }
                Err(_) => {}
            }
        }
    }

    fn write(&mut self, number: u64, us: u64) {
        let meta = meta(number, code(4, 2), 65_536, us);
        let (ack, purpose) = (AckLevel::Written, WritePurpose::Put);
        let write = PartWrite { meta, ack, purpose, deadline: now(us + 1_000_000).mono };
        self.store.write(Token(u128::from(us)), &write, &self.device[..PART_LEN], now(us));
        self.settle(now(us));
    }
}

fn store_write(count: u64) {
    let mut shard = Shard::new();
    (0..count).for_each(|number| shard.write(number % 1000, 1000 + number * 1000));
    assert_eq!(shard.answered, count);
}

/// A store that holds a few parts, and their names.
fn small_store() -> (Shard, Vec<RecordName>) {
    let mut shard = Shard::new();
    (0..64).for_each(|number| shard.write(number, 1000 + number));
    (shard, (0..64).map(name).collect())
}

fn store_read(count: u64) {
    let (mut shard, names) = small_store();
    for number in 0..count {
        let (us, name) = (1_000_000 + number * 1000, names[number as usize % names.len()].clone());
        let read = PartRead { name, version: None, deadline: now(us + 1_000_000).mono };
        shard.store.read(Token(u128::from(us)), &read, now(us));
        shard.settle(now(us));
    }
    assert_eq!(shard.answered, count + 64);
}

fn store_confirm(count: u64) {
    let (mut shard, names) = small_store();
    for number in 0..count {
        let (us, name) = (1_000_000 + number * 1000, &names[number as usize % names.len()]);
        let version = version(1000 + number % names.len() as u64);
        let confirm =
            PartConfirm { hash: name.hash, record: name.record, version, deadline: now(us + 1_000_000).mono };
        shard.store.confirm(Token(u128::from(us)), &confirm, now(us));
        shard.settle(now(us));
    }
    assert_eq!(shard.answered, count + 64);
}
