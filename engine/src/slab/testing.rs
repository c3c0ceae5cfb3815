//! A small world for tests of the store: a device in memory whose operations complete in any order, can
//! fail, tear and be cut off by a crash; and a store on it, driven by hand.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartDrop, PartKind, PartMeta, PartRead, PartTouch, PartWrite, RecordName,
    WritePurpose,
};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{AckLevel, Code, Key, Namespace, ObjectChecksum, Record, Version};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Effect, EvictedPart, OpenError, Opening, Payload, Store, StoreConfig, Token};

pub(crate) use super::device::{Crash, Device, EIO, HeapBuffers, Op};

pub(crate) type Answer = PartAnswer<Payload<Rc<[u8]>>>;

/// A store on a device in memory, its clock, and the answers that it gave.
pub(crate) struct World {
    pub(crate) config: StoreConfig,
    pub(crate) device: Device,
    pub(crate) store: Option<Store<HeapBuffers>>,
    pub(crate) now: Now,
    pub(crate) answers: HashMap<Token, Answer>,
    pub(crate) evicted: Vec<EvictedPart>,
    pub(crate) rng: SmallRng,
    pub(crate) snapshot: Option<Vec<u8>>,
    /// Operations complete in any order; otherwise in the order in which they were asked for.
    pub(crate) shuffle: bool,
    next_token: u128,
}

/// How long before that their devices were formatted: so long that nothing of then can be as new.
const FORMATTED_BEFORE_US: u64 = 2 * hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;

/// The wall clock at which worlds begin, in microseconds since the Unix epoch.
pub(crate) const START_US: u64 = 1_700_000_000_000_000;

impl World {
    /// A blank device of `slabs` slabs, and a store on it.
    pub(crate) fn new(slabs: u32, slab_len: u32, seed: u64, tune: impl FnOnce(&mut StoreConfig)) -> World {
        let mut world = World::blank(slabs, slab_len, seed, tune);
        // Formatted before anything that a test writes.
        world.now.wall_us -= FORMATTED_BEFORE_US;
        world.open().expect("a blank device opens");
        world.now.wall_us += FORMATTED_BEFORE_US;
        world
    }

    pub(crate) fn blank(slabs: u32, slab_len: u32, seed: u64, tune: impl FnOnce(&mut StoreConfig)) -> World {
        let device_len = super::layout::SLABS_START + u64::from(slabs) * u64::from(slab_len);
        let mut config = StoreConfig::new(0xdae0, 3, device_len, seed);
        config.slab_len = slab_len;
        config.index_capacity = Some(2000);
        config.exact_versions = 64;
        config.boot = 1;
        tune(&mut config);
        World {
            device: Device::new(config.device_len, slab_len),
            config,
            store: None,
            now: Now { mono: Timestamp(1_000_000_000), wall_us: START_US },
            answers: HashMap::new(),
            evicted: Vec::new(),
            rng: SmallRng::seed_from_u64(seed),
            snapshot: None,
            shuffle: false,
            next_token: 1,
        }
    }

    /// The same machine later, with a device that a crash has left as `image`.
    pub(crate) fn after(&self, image: Vec<u8>, snapshot: Option<Vec<u8>>) -> World {
        World {
            device: Device::of_image(image, self.config.slab_len),
            config: self.config.clone(),
            store: None,
            now: self.now,
            answers: HashMap::new(),
            evicted: Vec::new(),
            rng: SmallRng::seed_from_u64(1),
            snapshot,
            shuffle: false,
            next_token: 1,
        }
    }

    /// Opens the device, with the snapshot if there is one.
    pub(crate) fn open(&mut self) -> Result<super::OpenProgress, OpenError> {
        let mut opening = self.begin_open();
        while self.step_open(&mut opening) {}
        assert!(opening.done(), "the opening waits for nothing");
        let progress = opening.progress();
        self.store = Some(opening.finish()?);
        self.drain();
        Ok(progress)
    }

    pub(crate) fn begin_open(&mut self) -> Opening<HeapBuffers> {
        let snapshot = self.snapshot.take().map(|bytes| Box::new(bytes) as Box<dyn AsRef<[u8]>>);
        Opening::new(self.config.clone(), HeapBuffers::default(), snapshot, self.now)
    }

    /// Completes one operation of an opening; whether there was one.
    pub(crate) fn step_open(&mut self, opening: &mut Opening<HeapBuffers>) -> bool {
        while let Some(effect) = opening.poll() {
            assert!(self.device.take(effect).is_none(), "an opening only uses the device");
        }
        let Some(at) = self.pick() else { return false };
        let (io, result) = self.device.complete(at);
        opening.complete(io, result, self.now);
        true
    }

    fn pick(&mut self) -> Option<usize> {
        match self.device.under_way.len() {
            0 => None,
            len if self.shuffle => Some(self.rng.random_range(0..len)),
            _ => Some(0),
        }
    }

    pub(crate) fn store(&mut self) -> &mut Store<HeapBuffers> {
        self.store.as_mut().expect("the store is open")
    }

    pub(crate) fn stats(&self) -> super::StoreStats {
        self.store.as_ref().expect("the store is open").stats()
    }

    /// Takes all effects of the store.
    pub(crate) fn drain(&mut self) {
        let now = self.now;
        while let Some(effect) = self.store().poll(now) {
            match self.device.take(effect) {
                None => {}
                Some(Effect::Answer { token, answer }) => {
                    assert!(self.answers.insert(token, answer).is_none(), "{token:?} is answered twice");
                }
                Some(Effect::Evicted(parts)) => self.evicted.extend(parts),
                Some(_) => unreachable!(),
            }
        }
    }

    /// Completes one operation; whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let Some(at) = self.pick() else { return false };
        let (io, result) = self.device.complete(at);
        let now = self.now;
        self.store().complete(io, result, now);
        self.drain();
        true
    }

    /// Completes everything.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall_us += time.as_micros() as u64;
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// A crash, and the next start.
    pub(crate) fn crash(&mut self, crash: Crash) -> super::OpenProgress {
        self.store = None;
        self.device.crash(crash, &mut self.rng);
        // With the power, the machine goes as well.
        self.config.boot += u64::from(crash == Crash::Power);
        self.open().expect("the device opens after a crash")
    }

    /// A clean stop, and the next start.
    pub(crate) fn restart(&mut self) -> super::OpenProgress {
        self.stop();
        self.open().expect("the device opens after a clean stop")
    }

    /// A clean stop.
    pub(crate) fn stop(&mut self) {
        let now = self.now;
        self.store().begin_close(now);
        self.drain();
        self.run();
        assert!(self.store().closed(), "the stop does not end");
        let mut bytes = Vec::new();
        let clean = self.store().snapshot(&mut bytes);
        self.snapshot = clean.then_some(bytes);
        self.store = None;
        self.device.written_once.clear();
    }

    pub(crate) fn begin_write(&mut self, write: &PartWrite) -> Token {
        let payload = payload_of(&write.meta);
        let (token, now) = (self.token(), self.now);
        self.store().write(token, write, &payload, now);
        self.drain();
        token
    }

    pub(crate) fn begin_read(&mut self, name: &RecordName, version: Option<Version>) -> Token {
        let (token, now) = (self.token(), self.now);
        let read = PartRead { name: name.clone(), version, deadline: Timestamp::NEVER };
        self.store().read(token, &read, now);
        self.drain();
        token
    }

    pub(crate) fn begin_confirm(&mut self, name: &RecordName, version: Version) -> Token {
        let (token, now) = (self.token(), self.now);
        let deadline = Timestamp::NEVER;
        let confirm = PartConfirm { hash: name.hash, record: name.record, version, deadline };
        self.store().confirm(token, &confirm, now);
        self.drain();
        token
    }

    pub(crate) fn answer(&mut self, token: Token) -> Answer {
        self.run();
        self.answers.remove(&token).expect("an answer")
    }

    pub(crate) fn write(&mut self, write: &PartWrite) -> Answer {
        let token = self.begin_write(write);
        self.answer(token)
    }

    /// Writes a part as a put, and expects it to be stored.
    pub(crate) fn put(&mut self, meta: &PartMeta) {
        let answer = self.write(&put(meta));
        assert_eq!(answer, PartAnswer::Stored, "{meta:?}");
    }

    pub(crate) fn read(&mut self, name: &RecordName) -> Answer {
        let token = self.begin_read(name, None);
        self.answer(token)
    }

    /// The version that a read gives, its bytes checked; `None` if it is absent.
    pub(crate) fn held(&mut self, name: &RecordName) -> Option<Version> {
        match self.read(name) {
            PartAnswer::Part { meta, payload } => {
                check_part(&meta, &payload);
                Some(meta.version)
            }
            PartAnswer::Absent { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn confirm(&mut self, name: &RecordName, version: Version) -> Answer {
        let token = self.begin_confirm(name, version);
        self.answer(token)
    }

    pub(crate) fn drop_record(&mut self, name: &RecordName, version: Version) -> Answer {
        let now = self.now;
        let drop = PartDrop { hash: name.hash, record: name.record, version };
        let answer = self.store().drop_record(&drop, now);
        self.drain();
        answer
    }

    pub(crate) fn touch(&mut self, name: &RecordName) -> bool {
        self.touch_version(name, Version::ZERO)
    }

    pub(crate) fn touch_version(&mut self, name: &RecordName, version: Version) -> bool {
        self.store().touch(&PartTouch { hash: name.hash, record: name.record, hlc: version.hlc })
    }

    /// A version of this moment, `n` units of its clock later.
    pub(crate) fn version(&self, n: u64) -> Version {
        Version { hlc: Version::hlc_from_wall_us(self.now.wall_us) + n, coordinator: 1 }
    }
}

/// The name of record `record` of object `key`.
pub(crate) fn name(key: u32, record: u32) -> RecordName {
    let key = Key::new(format!("key-{key}").as_bytes()).expect("a key");
    let namespace = Namespace(7);
    RecordName { namespace, hash: key.hash(namespace), key, record: Record(record) }
}

/// A part of `len` bytes.
pub(crate) fn part(name: &RecordName, version: Version, len: u32) -> PartMeta {
    let object = name.record == Record::OBJECT;
    PartMeta {
        kind: if object { PartKind::Sole } else { PartKind::Stripe },
        pinned: false,
        namespace: name.namespace,
        namespace_generation: 1,
        key: name.key.clone(),
        record: name.record,
        version,
        object_len: if object { u64::from(len) } else { PartMeta::OBJECT_LEN_UNKNOWN },
        object_checksum: ObjectChecksum::NONE,
        stripe_len: len,
        stripe_size: 1 << 20,
        part: 0,
        code: Code::new(1, 2).expect("a code"),
        created_ms: version.wall_us() / 1000,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    }
}

/// A delete.
pub(crate) fn tombstone(name: &RecordName, version: Version) -> PartMeta {
    PartMeta { kind: PartKind::Tombstone, ..part(name, version, 0) }
}

/// A put of `meta`, acknowledged as `written`.
pub(crate) fn put(meta: &PartMeta) -> PartWrite {
    PartWrite {
        meta: meta.clone(),
        ack: AckLevel::Written,
        purpose: WritePurpose::Put,
        deadline: Timestamp::NEVER,
    }
}

/// The bytes of a part: they follow from what it is.
pub(crate) fn payload_of(meta: &PartMeta) -> Vec<u8> {
    let mut state = (meta.key_hash().0 as u64)
        ^ meta.version.hlc.rotate_left(17)
        ^ u64::from(meta.version.coordinator) << 50
        ^ u64::from(meta.record.0);
    let mut bytes = Vec::with_capacity(meta.part_len() + 8);
    while bytes.len() < meta.part_len() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&(state ^ (state >> 33)).to_le_bytes());
    }
    bytes.truncate(meta.part_len());
    bytes
}

/// A part that was read has the bytes that were written.
pub(crate) fn check_part(meta: &PartMeta, payload: &Payload<Rc<[u8]>>) {
    assert!(payload.as_ref() == payload_of(meta), "the bytes of {meta:?} are wrong");
    assert_eq!(payload.checksum(), hedgerow_wire::checksum::crc32c(payload.as_ref()));
}
