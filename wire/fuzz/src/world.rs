//! A store on a device in memory, and the image that every damaged one is made from.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;

use hedgerow_engine::slab::layout::SLABS_START;
use hedgerow_engine::slab::{Effect, OpenError, Opening, Payload, Store, StoreConfig, Token};
use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartKind, PartMeta, PartRead, PartWrite, RecordName, WritePurpose,
};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{AckLevel, Code, Key, Namespace, ObjectChecksum, Record, Version};

use crate::disk::{Disk, Heap};

/// Length of a slab.
pub(crate) const SLAB_LEN: u32 = 64 << 10;
/// Slabs of the device.
pub(crate) const SLABS: u32 = 5;
/// Objects on it.
const KEYS: u32 = 24;
/// When the image was made, in microseconds since the Unix epoch.
const START_US: u64 = 1_700_000_000_000_000;

pub(crate) type Answer = PartAnswer<Payload<Rc<[u8]>>>;

/// A device that a real store has written.
pub(crate) struct Image {
    pub(crate) config: StoreConfig,
    /// As a crash left it.
    pub(crate) killed: Vec<u8>,
    /// As a clean stop left it, right after.
    pub(crate) stopped: Vec<u8>,
    /// The snapshot of that stop.
    pub(crate) snapshot: Vec<u8>,
    /// What it holds.
    pub(crate) names: Vec<RecordName>,
}

/// The image.
pub(crate) fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(make_image)
}

fn config() -> StoreConfig {
    let device_len = SLABS_START + u64::from(SLABS) * u64::from(SLAB_LEN);
    StoreConfig {
        slab_len: SLAB_LEN,
        boot: 1,
        index_capacity: Some(200),
        exact_versions: 16,
        free_slabs_target: 1,
        commit_len_max: 16 << 10,
        ..StoreConfig::new(0xdae0, 3, device_len, 7)
    }
}

fn make_image() -> Image {
    let config = config();
    // Formatted long before anything is written, so that nothing is unknown.
    let formatted = Now { mono: Timestamp(0), wall_us: START_US - 10_000_000 };
    let blank = vec![0; config.device_len as usize];
    let mut world = match World::open(config.clone(), blank, None, formatted) {
        Ok(world) => world,
        Err(error) => panic!("a blank device does not open: {error}"),
    };
    world.now = now();
    let names: Vec<RecordName> = (0..KEYS).map(|key| name(&format!("key-{key}"))).collect();
    for (i, name) in names.iter().enumerate() {
        let len = 900 * (i as u32 % 7);
        let meta = if len == 0 { tombstone(name, version(i)) } else { part(name, version(i), len) };
        assert!(world.put(&meta) == PartAnswer::Stored);
    }
    let killed = world.disk.bytes.clone();
    let (disk, Some(snapshot)) = world.close() else { panic!("the stop is not clean") };
    Image { config, killed, stopped: disk.bytes, snapshot, names }
}

/// When the image is opened.
pub(crate) fn now() -> Now {
    Now { mono: Timestamp(1_000_000_000), wall_us: START_US }
}

/// A version of that moment, the `n`-th.
pub(crate) fn version(n: usize) -> Version {
    Version { hlc: Version::hlc_from_wall_us(START_US) + n as u64, coordinator: 1 }
}

pub(crate) fn name(key: &str) -> RecordName {
    let Ok(key) = Key::new(key.as_bytes()) else { panic!("'{key}' is no key") };
    let namespace = Namespace(7);
    RecordName { namespace, hash: key.hash(namespace), key, record: Record::OBJECT }
}

/// A part of `len` bytes.
pub(crate) fn part(name: &RecordName, version: Version, len: u32) -> PartMeta {
    let Ok(code) = Code::new(1, 2) else { panic!("1+2 is a code") };
    PartMeta {
        kind: PartKind::Sole,
        pinned: false,
        namespace: name.namespace,
        namespace_generation: 1,
        key: name.key.clone(),
        record: name.record,
        version,
        object_len: u64::from(len),
        object_checksum: ObjectChecksum::NONE,
        stripe_len: len,
        stripe_size: 1 << 20,
        part: 0,
        code,
        created_ms: version.wall_us() / 1000,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    }
}

fn tombstone(name: &RecordName, version: Version) -> PartMeta {
    PartMeta { kind: PartKind::Tombstone, ..part(name, version, 0) }
}

/// The payload of a part that was put here.
pub(crate) fn payload_of(meta: &PartMeta) -> Vec<u8> {
    (0..meta.part_len()).map(|at| (at as u64 * 31 + meta.version.hlc) as u8).collect()
}

/// A store, its device, and what it answered.
pub(crate) struct World {
    pub(crate) store: Store<Heap>,
    pub(crate) disk: Disk,
    pub(crate) now: Now,
    answers: HashMap<Token, Answer>,
    next_token: u128,
}

impl World {
    /// Opens a device with these bytes.
    pub(crate) fn open(
        config: StoreConfig,
        bytes: Vec<u8>,
        snapshot: Option<Vec<u8>>,
        now: Now,
    ) -> Result<World, OpenError> {
        let mut disk = Disk::new(bytes);
        let snapshot = snapshot.map(|bytes| Box::new(bytes) as Box<dyn AsRef<[u8]>>);
        let mut opening = Opening::new(config, Heap, snapshot, now);
        while let Some(effect) = opening.poll() {
            match disk.perform(effect) {
                Ok((io, result)) => opening.complete(io, result, now),
                Err(_) => panic!("an opening asks for more than its device can do"),
            }
        }
        assert!(opening.done(), "an opening waits for nothing");
        let store = opening.finish()?;
        Ok(World { store, disk, now, answers: HashMap::new(), next_token: 0 })
    }

    /// Does all that the store wants done.
    fn run(&mut self) {
        while let Some(effect) = self.store.poll(self.now) {
            match self.disk.perform(effect) {
                Ok((io, result)) => self.store.complete(io, result, self.now),
                Err(Effect::Answer { token, answer }) => {
                    assert!(self.answers.insert(token, answer).is_none(), "{token:?} is answered twice");
                }
                Err(_) => {}
            }
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn answer(&mut self, token: Token) -> Answer {
        self.run();
        match self.answers.remove(&token) {
            Some(answer) => answer,
            None => panic!("{token:?} is never answered"),
        }
    }

    pub(crate) fn put(&mut self, meta: &PartMeta) -> Answer {
        let write = PartWrite {
            meta: meta.clone(),
            ack: AckLevel::Written,
            purpose: WritePurpose::Put,
            deadline: Timestamp::NEVER,
        };
        let token = self.token();
        self.store.write(token, &write, &payload_of(meta), self.now);
        self.answer(token)
    }

    pub(crate) fn read(&mut self, name: &RecordName) -> Answer {
        let token = self.token();
        let read = PartRead { name: name.clone(), version: None, deadline: Timestamp::NEVER };
        self.store.read(token, &read, self.now);
        self.answer(token)
    }

    pub(crate) fn confirm(&mut self, name: &RecordName, version: Version) -> Answer {
        let token = self.token();
        let confirm =
            PartConfirm { hash: name.hash, record: name.record, version, deadline: Timestamp::NEVER };
        self.store.confirm(token, &confirm, self.now);
        self.answer(token)
    }

    /// Reads everything that the index leads to, as a verification does.
    pub(crate) fn verify(&mut self) {
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let (parts, next) = self.store.locate_parts(from, 64);
            for part in parts {
                let bytes = &self.disk.bytes;
                let end = part.offset.checked_add(part.len as u64).filter(|&end| end <= bytes.len() as u64);
                assert!(end.is_some(), "{part:?} lies beyond the device");
                self.store.verify_part(&part, &bytes[part.offset as usize..][..part.len]);
            }
            cursor = next;
        }
    }

    /// A clean stop: the device, and the snapshot if the stop was clean.
    pub(crate) fn close(mut self) -> (Disk, Option<Vec<u8>>) {
        self.store.begin_close(self.now);
        self.run();
        assert!(self.store.closed(), "a stop does not end");
        let mut snapshot = Vec::new();
        let clean = self.store.snapshot(&mut snapshot);
        (self.disk, clean.then_some(snapshot))
    }
}
