//! Read and confirm: index, device, verify, answer.
//!
//! A slab that is read is pinned from the moment the read is asked for until the device is done with it:
//! it is not written to again under a reader. So what a read sees is of one generation, and that is
//! checked all the same.

use std::cmp::Ordering;

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartDrop, PartHead, PartPlace, PartRead, PartWrite, RecordName, Standing,
    decode_part_head,
};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{KeyHash, Record, Version};

use super::index::Entry;
use super::layout::{BLOCK_LEN, ContentsEntry, block_start};
use super::store::{Io, Request, Store, upper_bound};
use super::{Buffers, Effect, IoError, IoId, Payload, Token};
use crate::mistakes::{Mistake, planted};

/// Blocks that hold any part head, wherever in a block it starts.
const HEAD_BLOCKS: u16 =
    (BLOCK_LEN - 64 + hedgerow_wire::limits::PART_HEAD_LEN_MAX).div_ceil(BLOCK_LEN) as u16;

/// A device read of one part.
pub(super) struct ReadOp {
    /// Whose, unless it was cancelled or nobody's.
    token: Option<Token>,
    hash: KeyHash,
    record: Record,
    entry: Entry,
    want: Want,
    deadline: Timestamp,
}

/// What is to be done with the part.
pub(super) enum Want {
    /// Give it.
    Part { name: RecordName, version: Option<Version> },
    /// Let it go if its version is low enough.
    Drop(PartDrop),
    /// Decide a write.
    Write(Box<(PartWrite, Vec<u8>)>),
}

/// Why a part is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Its head is damaged, or another one.
    Head,
    /// Its payload is damaged.
    Payload,
}

/// Checks the head at `at` of `bytes` and that it is of the part at `place`.
pub(super) fn verify_head(bytes: &[u8], at: usize, place: &PartPlace) -> Result<PartHead, Fault> {
    let head = decode_part_head(&bytes[at..]).map_err(|_| Fault::Head)?;
    if head.place.is_at(place) { Ok(head) } else { Err(Fault::Head) }
}

/// Checks the payload that follows `head` at `at` of `bytes`, and says where it is.
pub(super) fn verify_payload(
    bytes: &[u8],
    at: usize,
    head: &PartHead,
) -> Result<std::ops::Range<usize>, Fault> {
    let start = at + head.head_len;
    let range = start..start + head.payload_len as usize;
    match bytes.get(range.clone()) {
        Some(payload) if planted(Mistake::PayloadUnchecked) || crc32c(payload) == head.payload_checksum => {
            Ok(range)
        }
        _ => Err(Fault::Payload),
    }
}

impl<D: Buffers> Store<D> {
    /// Asks for a part; the answer comes from [`Store::poll`] under `token`: `Part`, `Other`, `Absent`,
    /// `Damaged`, `Overloaded`, `Expired` or `Failed`.
    ///
    /// `Damaged` is also the answer where the index confuses two keys (see `index.rs`): the part of the
    /// other key stays, and the record asked for counts as an erasure, since the shard cannot tell
    /// whether it ever held it.
    pub fn read(&mut self, token: Token, read: &PartRead, now: Now) {
        if self.refuses() {
            return self.answer(token, PartAnswer::Failed);
        }
        if read.deadline <= now.mono {
            return self.answer(token, PartAnswer::Expired);
        }
        let (hash, record) = (read.name.hash, read.name.record);
        if self.read_from_memory(token, read, now) {
            return;
        }
        let Some(entry) = self.lookup(hash, record) else { return self.answer(token, self.absent()) };
        let mut blocks = entry.blocks;
        if let Some(wanted) = read.version {
            match self.exact_version(hash, record, &entry) {
                Some(version) if version != wanted => {
                    return self.answer(token, PartAnswer::Other { version });
                }
                None if entry.hlc != wanted.hlc => blocks = blocks.min(HEAD_BLOCKS),
                _ => {}
            }
        }
        if let Some(damage) = self.damage_at(hash, record, &entry) {
            let answer = self.read_damaged(hash, record, &entry, &damage, now);
            return self.answer(token, answer);
        }
        let want = Want::Part { name: read.name.clone(), version: read.version };
        self.start_read(Some(token), hash, record, entry, blocks, want, read.deadline);
    }

    /// Asks how what is held stands to a version; the answer comes from [`Store::poll`] under `token`,
    /// without touching the device: `Held`, `Absent`, `Damaged` (of the clock asked about, and noted as
    /// damaged), `Expired` or `Failed`.
    ///
    /// A false match of the index (see `index.rs`: 1 in 10^10 look-ups of records that are not held) may
    /// answer for another key.
    pub fn confirm(&mut self, token: Token, confirm: &PartConfirm, now: Now) {
        if self.refuses() {
            return self.answer(token, PartAnswer::Failed);
        }
        if confirm.deadline <= now.mono {
            return self.answer(token, PartAnswer::Expired);
        }
        let (hash, record) = (confirm.hash, confirm.record);
        let visible = self.pending.get(&(hash, record)).and_then(|pending| pending.visible);
        if let Some((_, part)) = visible {
            return self.answer(token, PartAnswer::Held(standing(part.version, confirm.version)));
        }
        let Some(entry) = self.lookup(hash, record) else { return self.answer(token, self.absent()) };
        let damaged = self.damage_at(hash, record, &entry).is_some();
        let stands = match self.exact_version(hash, record, &entry) {
            Some(version) => standing(version, confirm.version),
            None if entry.hlc != confirm.version.hlc => standing(upper_bound(&entry), confirm.version),
            None => Standing::SameClock,
        };
        let answer = match stands {
            // Held it is, but it has to be written anew.
            Standing::Same | Standing::SameClock if damaged => PartAnswer::Damaged,
            stands => PartAnswer::Held(stands),
        };
        self.answer(token, answer);
    }

    /// Reads the head at `entry` to decide whether it is to be dropped.
    pub(super) fn drop_after_head(&mut self, drop: &PartDrop, entry: &Entry) {
        let blocks = entry.blocks.min(HEAD_BLOCKS);
        self.start_read(None, drop.hash, drop.record, *entry, blocks, Want::Drop(*drop), Timestamp::NEVER);
    }

    /// Reads the head at `entry` to decide a write, whose payload is kept meanwhile.
    pub(super) fn write_after_head(&mut self, token: Token, write: &PartWrite, payload: &[u8], entry: Entry) {
        let (hash, record) = (write.meta.key_hash(), write.meta.record);
        let blocks = entry.blocks.min(HEAD_BLOCKS);
        self.pending_bytes += payload.len();
        let want = Want::Write(Box::new((write.clone(), payload.to_vec())));
        self.start_read(Some(token), hash, record, entry, blocks, want, write.deadline);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one operation")]
    fn start_read(
        &mut self,
        token: Option<Token>,
        hash: KeyHash,
        record: Record,
        entry: Entry,
        blocks: u16,
        want: Want,
        deadline: Timestamp,
    ) {
        if self.reads_in_flight >= self.config.reads_max {
            self.release_want(&want);
            match token {
                Some(token) => self.answer(token, PartAnswer::Overloaded),
                None => self.counters.overloaded += 1,
            }
            return;
        }
        if !matches!(want, Want::Part { .. }) {
            self.counters.header_reads += 1;
        }
        let offset = self.slabs.device_offset(entry.slab, block_start(entry.offset));
        let io = self.start(Io::Read(ReadOp { token, hash, record, entry, want, deadline }));
        if let Some(token) = token {
            self.requests.insert(token, Request::Read(io));
        }
        self.reads_in_flight += 1;
        self.slabs.pin(entry.slab);
        self.out.push_back(Effect::Read { io, offset, len: usize::from(blocks) * BLOCK_LEN });
    }

    fn release_want(&mut self, want: &Want) {
        if let Want::Write(write) = want {
            self.pending_bytes -= write.1.len();
        }
    }

    /// The read `io` lost its request.
    pub(super) fn cancel_read(&mut self, io: IoId) {
        if let Some(Io::Read(read)) = self.ios.get_mut(&io) {
            read.token = None;
        }
    }

    /// Takes back a device read that nobody waits for any more, or that comes too late.
    pub(super) fn still_wanted(&mut self, effect: Effect<D>, now: Now) -> Option<Effect<D>> {
        let Effect::Read { io, .. } = &effect else { return Some(effect) };
        let Some(Io::Read(read)) = self.ios.get(io) else { return Some(effect) };
        let dropping = matches!(read.want, Want::Drop(_));
        if dropping || (read.token.is_some() && read.deadline > now.mono) {
            return Some(effect);
        }
        let Some(Io::Read(read)) = self.ios.remove(io) else { return None };
        self.end_read(&read);
        if let Some(token) = read.token {
            self.answer(token, PartAnswer::Expired);
        }
        None
    }

    /// What every device read of a request ends with.
    fn end_read(&mut self, read: &ReadOp) {
        self.reads_in_flight -= 1;
        self.release_want(&read.want);
        if let Some(token) = read.token {
            self.requests.remove(&token);
        }
        self.unpin(read.entry.slab);
    }

    /// A device read of a request is done.
    pub(super) fn read_done(&mut self, read: ReadOp, result: Result<D::Read, IoError>, now: Now) {
        let place = self.place(read.entry.slab, read.entry.offset);
        self.end_read(&read);
        let buffer = match result {
            Ok(buffer) => buffer,
            Err(error) => {
                self.read_failed(error, now);
                if let Some(token) = read.token {
                    self.answer(token, PartAnswer::Failed);
                }
                return;
            }
        };
        self.health.read_errors = 0;
        let at = (read.entry.offset - block_start(read.entry.offset)) as usize;
        let head = verify_head(buffer.as_ref(), at, &place);
        if let Ok(head) = &head {
            self.note_exact(&read, head);
        }
        let (token, entry) = (read.token, read.entry);
        match read.want {
            Want::Part { name, version } => {
                let Some(token) = token else { return };
                let answer = self.judge_part(&name, version, entry, buffer, at, head, now);
                self.answer(token, answer);
            }
            Want::Drop(drop) => {
                // The clock is the drop's: where the head does not tell more, that decides.
                let headless = head.is_err().then(|| upper_bound(&entry));
                let held = self.judge_head(read.hash, read.record, &entry, head);
                if let Some(held) = held.filter(|&held| held <= drop.version).or(headless) {
                    self.finish_drop(&drop, &entry, held, now);
                }
            }
            Want::Write(write) => {
                let Some(token) = token else { return };
                let foreign = head.as_ref().ok().map(|head| head.meta.version);
                let held = self.judge_head(read.hash, read.record, &entry, head);
                if let (None, Some(version)) = (held, foreign) {
                    // The write takes the slot of a key that the index confuses with its own.
                    self.forget_entry(read.hash, read.record, &entry, version);
                }
                self.write(token, &write.0, &write.1, now);
            }
        }
    }

    /// Notes the version that was read, if the part that was read is still what is held.
    fn note_exact(&mut self, read: &ReadOp, head: &PartHead) {
        let held = self.lookup(read.hash, read.record);
        let current =
            held.is_some_and(|held| (held.slab, held.offset) == (read.entry.slab, read.entry.offset));
        if current && head.meta.key_hash() == read.hash && head.meta.record == read.record {
            self.exact.put(read.hash, read.record, head.meta.version);
        }
    }

    /// The part at `entry` is to be dropped. If eviction has put it elsewhere meanwhile, it is dropped there.
    fn finish_drop(&mut self, drop: &PartDrop, entry: &Entry, held: Version, now: Now) {
        let current = self.lookup(drop.hash, drop.record);
        if current.is_some_and(|current| (current.slab, current.offset) != (entry.slab, entry.offset)) {
            self.drop_record(drop, now);
            return;
        }
        self.forget_entry(drop.hash, drop.record, entry, held);
        self.counters.parts_dropped += u64::from(current.is_some());
    }

    /// The answer to a read, from what the device gave.
    #[expect(clippy::too_many_arguments, reason = "what was asked, and what was found")]
    fn judge_part(
        &mut self,
        name: &RecordName,
        wanted: Option<Version>,
        entry: Entry,
        buffer: D::Read,
        at: usize,
        head: Result<PartHead, Fault>,
        now: Now,
    ) -> PartAnswer<Payload<D::Read>> {
        let head = match head {
            Ok(head) => head,
            Err(_) => return self.damaged(name.hash, name.record, &entry, None),
        };
        let meta = &head.meta;
        if meta.namespace != name.namespace || meta.key != name.key || meta.record != name.record {
            self.counters.collisions += 1;
            return PartAnswer::Damaged;
        }
        if meta.expired(now.wall_ms()) {
            self.counters.parts_expired += 1;
            self.forget_entry(name.hash, name.record, &entry, meta.version);
            // Also if eviction has put it elsewhere meanwhile: the answer must cover it.
            self.forgotten_through = self.forgotten_through.max(meta.version);
            return self.absent();
        }
        if wanted.is_some_and(|wanted| wanted != meta.version) {
            return PartAnswer::Other { version: meta.version };
        }
        match verify_payload(buffer.as_ref(), at, &head) {
            Ok(range) => {
                let payload = Payload::new(buffer, range, head.payload_checksum);
                PartAnswer::Part { meta: head.meta, payload }
            }
            Err(_) => self.damaged(name.hash, name.record, &entry, Some(&head.meta)),
        }
    }

    /// The version at `entry`; `None` if it is damaged (which is noted) or another key's.
    fn judge_head(
        &mut self,
        hash: KeyHash,
        record: Record,
        entry: &Entry,
        head: Result<PartHead, Fault>,
    ) -> Option<Version> {
        match head {
            Ok(head) if head.meta.key_hash() == hash && head.meta.record == record => Some(head.meta.version),
            Ok(_) => {
                self.counters.collisions += 1;
                None
            }
            Err(_) => {
                self.damaged(hash, record, entry, None);
                None
            }
        }
    }

    /// The answer where nothing is held.
    pub(super) fn absent(&self) -> PartAnswer<Payload<D::Read>> {
        let (forgotten, unknown) = (self.forgotten_through, self.superblock.unknown_through);
        PartAnswer::Absent { forgotten_through: forgotten.max(unknown), unknown: unknown > forgotten }
    }

    /// The place of a part at `offset` of `slab` as it is now.
    pub(super) fn place(&self, slab: u32, offset: u32) -> PartPlace {
        PartPlace {
            shard_id: self.superblock.shard_id,
            slab_generation: self.slabs.generation(slab),
            slab_offset: offset,
            ..PartPlace::default()
        }
    }

    /// Answers a read with a part that was acknowledged as `buffered` and is not on the device yet.
    fn read_from_memory(&mut self, token: Token, read: &PartRead, now: Now) -> bool {
        let key = (read.name.hash, read.name.record);
        let Some((batch, part)) = self.pending.get(&key).and_then(|pending| pending.visible) else {
            return false;
        };
        if read.version.is_some_and(|wanted| wanted != part.version) {
            self.answer(token, PartAnswer::Other { version: part.version });
            return true;
        }
        if part.expires_ms != 0 && part.expires_ms <= now.wall_ms() {
            // The part stays with its write; the index lets it go when it is read there.
            self.forgotten_through = self.forgotten_through.max(part.version);
            self.answer(token, self.absent());
            return true;
        }
        let (buffer, at) = self.memory_of(batch, &part);
        let bytes = buffer.as_ref();
        let answer = match decode_part_head(&bytes[at..]) {
            Ok(head) if head.meta.key == read.name.key && head.meta.namespace == read.name.namespace => {
                let start = at + head.head_len;
                let range = start..start + head.payload_len as usize;
                let payload = Payload::new(buffer, range, head.payload_checksum);
                PartAnswer::Part { meta: head.meta, payload }
            }
            _ => PartAnswer::Damaged,
        };
        self.counters.read_from_memory += 1;
        self.answer(token, answer);
        true
    }

    /// The buffer that holds a part of a batch that is not on the device yet, and where in it: the
    /// batch's own if it is frozen; a copy of the part if the batch still takes parts.
    fn memory_of(&mut self, batch: u64, part: &ContentsEntry) -> (D::Read, usize) {
        if let Some(filling) = self.filling.as_ref().filter(|filling| filling.number == batch) {
            let at = (part.offset - filling.base) as usize;
            let len = part.len() as usize;
            let aligned = len.next_multiple_of(BLOCK_LEN);
            let mut copy = self.buffers.alloc(aligned);
            let bytes = copy.as_mut();
            bytes[..len].copy_from_slice(&filling.writable()[at..at + len]);
            bytes[len..aligned].fill(0);
            return (self.buffers.freeze(copy, aligned), 0);
        }
        let in_flight = self.ios.values().filter_map(|io| match io {
            Io::Batch(batch) => Some(batch),
            _ => None,
        });
        let found = self.ready.iter().chain(in_flight).find(|candidate| candidate.number == batch);
        let Some(found) = found else { panic!("batch {batch} has visible parts and is gone") };
        (found.frozen().clone(), (part.offset - found.base) as usize)
    }
}

/// How `held` stands to `version`.
fn standing(held: Version, version: Version) -> Standing {
    match held.cmp(&version) {
        Ordering::Less => Standing::Older,
        Ordering::Equal => Standing::Same,
        Ordering::Greater if planted(Mistake::ConfirmIgnoresVersion) => Standing::Same,
        Ordering::Greater => Standing::Newer,
    }
}
