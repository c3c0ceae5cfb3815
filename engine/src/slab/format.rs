//! What stands at the start of a device, and whether it is ours.

use hedgerow_wire::Version;

use super::layout::{BLOCK_LEN, SLABS_MIN, SLABS_START};
use super::persist::GENERATIONS_AHEAD;
use super::superblock::{COPIES, FORMAT_VERSION, Superblock, SuperblockError};
use super::{OpenError, StoreConfig};

/// What was found.
pub(super) enum Found {
    /// Nothing at all.
    Blank,
    /// A superblock.
    Superblock {
        /// The newest copy that is whole.
        newest: Superblock,
        /// Another copy is not whole: it may have been newer.
        doubtful: bool,
    },
}

/// Checks the configuration by itself.
pub(super) fn check_config(config: &StoreConfig) -> Result<(), OpenError> {
    config.check()?;
    let (device_len, slab_len) = (config.device_len, config.slab_len);
    if device_len < SLABS_START + u64::from(SLABS_MIN) * BLOCK_LEN as u64 {
        return Err(too_small(device_len, slab_len));
    }
    Ok(())
}

fn too_small(device_len: u64, slab_len: u32) -> OpenError {
    let need = SLABS_START + u64::from(SLABS_MIN) * u64::from(slab_len);
    OpenError::TooSmall { device_len, need, slabs: SLABS_MIN, slab_len }
}

/// Judges the first [`SLABS_START`] bytes of a device.
pub(super) fn examine(bytes: &[u8], config: &StoreConfig) -> Result<Found, OpenError> {
    let copies: [_; COPIES as usize] =
        std::array::from_fn(|copy| Superblock::decode(&bytes[copy * BLOCK_LEN..][..BLOCK_LEN]));
    for copy in &copies {
        if let Err(SuperblockError::Format { found }) = *copy {
            return Err(OpenError::FormatVersion { found, expected: FORMAT_VERSION });
        }
    }
    if let Some(newest) = copies.iter().filter_map(|copy| copy.ok()).max_by_key(|copy| copy.sequence) {
        let doubtful = copies.iter().any(Result::is_err);
        return check_owner(&newest, config).map(|()| Found::Superblock { newest, doubtful });
    }
    let errors = copies.map(|copy| copy.err().unwrap_or(SuperblockError::Blank));
    let foreign = |error: &SuperblockError| matches!(error, SuperblockError::Blank | SuperblockError::Magic);
    if !errors.iter().all(foreign) {
        return Err(OpenError::SuperblockDamaged { copies: errors });
    }
    if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
        return Err(OpenError::Foreign { offset: at as u64, byte: bytes[at], checked: SLABS_START });
    }
    let slabs = StoreConfig::slab_count(config.device_len, config.slab_len);
    if slabs < u64::from(SLABS_MIN) {
        return Err(too_small(config.device_len, config.slab_len));
    }
    Ok(Found::Blank)
}

fn check_owner(superblock: &Superblock, config: &StoreConfig) -> Result<(), OpenError> {
    if superblock.daemon_id != config.daemon_id {
        return Err(OpenError::OtherDaemon { found: superblock.daemon_id, expected: config.daemon_id });
    }
    if superblock.shard_index != config.shard_index {
        return Err(OpenError::OtherShard { found: superblock.shard_index, expected: config.shard_index });
    }
    if superblock.parity != config.parity {
        return Err(OpenError::Parity { found: superblock.parity, expected: config.parity });
    }
    if superblock.device_len > config.device_len {
        let formatted_len = superblock.device_len;
        return Err(OpenError::Shrunk { device_len: config.device_len, formatted_len });
    }
    Ok(())
}

/// The first superblock of a blank device. Whose place it takes, and what that held up to `unknown_through`,
/// nobody knows.
pub(super) fn new_superblock(config: &StoreConfig, unknown_through: Version) -> Superblock {
    let place = u64::from(config.shard_index) ^ (config.daemon_id as u64) ^ (config.daemon_id >> 64) as u64;
    let high = mix(config.seed ^ mix(place));
    let low = mix(high ^ config.seed.rotate_left(32));
    Superblock {
        shard_id: u128::from(high) << 64 | u128::from(low),
        daemon_id: config.daemon_id,
        sequence: 0,
        device_len: config.device_len,
        slab_len: config.slab_len,
        slabs: StoreConfig::slab_count(config.device_len, config.slab_len) as u32,
        shard_index: config.shard_index,
        parity: config.parity,
        forgotten_through: Version::ZERO,
        evicted_through: 0,
        generation_bound: GENERATIONS_AHEAD,
        clean_nonce: 0,
        index_seed: mix(low),
        unknown_through,
        boot: config.boot,
    }
}

/// Parts that the index is to hold.
pub(super) fn index_capacity(config: &StoreConfig) -> usize {
    const BYTES_PER_PART: u64 = 16 << 10;
    config.index_capacity.unwrap_or((config.device_len / BYTES_PER_PART).max(1024) as usize)
}

/// SplitMix64's finalizer (Steele, Lea, Flood, OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
