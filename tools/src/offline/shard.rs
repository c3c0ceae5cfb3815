//! A shard on its device: which superblock to believe, and what follows from it.

use hedgerow_engine::slab::layout::{BLOCK_LEN, SLABS_START};
use hedgerow_engine::slab::superblock::{COPIES, Superblock, SuperblockError};
use hedgerow_wire::Version;
use hedgerow_wire::messages::DamagedPart;

use super::device::Device;
use super::slab::{Depth, Slab, read_slab};
use crate::failure::Failure;

/// A device and the superblock that is believed.
pub struct Shard {
    /// The device.
    pub device: Device,
    /// All copies of the superblock.
    pub copies: Vec<Result<Superblock, SuperblockError>>,
    /// The newest one that is whole.
    pub superblock: Superblock,
}

impl Shard {
    /// Reads the superblocks of `device`.
    ///
    /// # Errors
    /// No copy can be believed.
    pub fn open(device: Device) -> Result<Shard, Failure> {
        let copy = |copy: u64| match device.bytes(copy * BLOCK_LEN as u64, BLOCK_LEN) {
            Some(block) => Superblock::decode(block),
            None => Err(SuperblockError::Blank),
        };
        let copies: Vec<_> = (0..COPIES).map(copy).collect();
        let newest = copies.iter().filter_map(|copy| copy.as_ref().ok()).max_by_key(|copy| copy.sequence);
        match newest.copied() {
            Some(superblock) => Ok(Shard { device, superblock, copies }),
            None => Err(no_superblock(&device, &copies)),
        }
    }

    /// Reads one slab, `number` below the superblock's `slabs`.
    pub fn slab(&self, number: u32, depth: Depth) -> Slab {
        read_slab(&self.device, &self.superblock, number, depth)
    }

    /// Copies of the superblock that hold something else than they should.
    pub fn damaged_copies(&self) -> impl Iterator<Item = (usize, SuperblockError)> {
        let damaged = |(number, copy): (usize, &Result<Superblock, SuperblockError>)| match copy {
            Ok(_) | Err(SuperblockError::Blank) => None,
            Err(error) => Some((number, *error)),
        };
        self.copies.iter().enumerate().filter_map(damaged)
    }

    /// Offset of a slab on the device, in bytes.
    pub fn slab_start(&self, number: u32) -> u64 {
        SLABS_START + u64::from(number) * u64::from(self.superblock.slab_len)
    }
}

fn no_superblock(device: &Device, copies: &[Result<Superblock, SuperblockError>]) -> Failure {
    let path = device.path.display();
    let is = |error: SuperblockError| copies.iter().all(|copy| *copy == Err(error));
    if is(SuperblockError::Blank) {
        return Failure::Local(format!("{path}: blank: no shard was ever made here"));
    }
    if device.is_snapshot() {
        return Failure::Local(format!("{path}: the index snapshot of a shard: name the shard itself"));
    }
    if copies.iter().all(|copy| matches!(copy, Err(SuperblockError::Magic | SuperblockError::Blank))) {
        return Failure::Local(format!("{path}: not a slab file of Hedgerow"));
    }
    let why = |(number, copy): (usize, &Result<_, SuperblockError>)| {
        copy.as_ref().err().map(|error| format!("copy {number}: {error}"))
    };
    let reasons: Vec<String> = copies.iter().enumerate().filter_map(why).collect();
    Failure::No(format!("{path}: no copy of the superblock can be believed ({})", reasons.join("; ")))
}

/// Damage that concerns no part: a slab's own tables.
pub fn slab_damage(slab: u32, why: String) -> DamagedPart {
    DamagedPart {
        namespace: hedgerow_wire::Namespace(0),
        key: None,
        record: hedgerow_wire::Record::OBJECT,
        part: 0,
        version: Version::ZERO,
        slab,
        offset: 0,
        why,
    }
}
