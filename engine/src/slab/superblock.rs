//! The superblock: what a shard must know of itself before it can believe anything else.
//!
//! Three copies, each in a block of its own, written in turn: copy `sequence % 3`. A write that is torn
//! loses the copy that it replaces, the oldest of three; the newest copy that is whole is believed.

use hedgerow_wire::Version;

use super::layout::{
    BLOCK_LEN, SLAB_LEN_MAX, SLAB_LEN_MIN, SLABS_MAX, SLABS_MIN, block_is_sealed, put, seal_block, u16_at,
    u32_at, u64_at, u128_at,
};

/// Copies on a device.
pub const COPIES: u64 = 3;
/// The version of the format of the whole device.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"Hedgerow";
/// Counters that grow by steps are below this for longer than any device lives: they cannot overflow.
const COUNTER_MAX: u64 = 1 << 62;

/// Byte offsets:
///
/// ```text
///   0 magic "Hedgerow"   8 format=1   12 checksum (CRC-32C of the block with itself as zero)
///  16 shard_id (16)     32 daemon_id (16)
///  48 sequence (8)      56 device_len (8)
///  64 slab_len   68 slabs   72 shard_index (2)   74 parity (1)   75 zero (5)
///  80 forgotten_through: hlc (8)   88 coordinator (2)   90 zero (6)
///  96 evicted_through (8)   104 generation_bound (8)   112 clean_nonce (8)
/// 120 index_seed (8)   128 unknown_through: hlc (8)   136 coordinator (2)   138 zero (6)
/// 144 boot (8)   152 zero up to 4096
/// ```
mod layout {
    pub const MAGIC: usize = 0;
    pub const FORMAT: usize = 8;
    pub const CHECKSUM: usize = 12;
    pub const SHARD_ID: usize = 16;
    pub const DAEMON_ID: usize = 32;
    pub const SEQUENCE: usize = 48;
    pub const DEVICE_LEN: usize = 56;
    pub const SLAB_LEN: usize = 64;
    pub const SLABS: usize = 68;
    pub const SHARD_INDEX: usize = 72;
    pub const PARITY: usize = 74;
    pub const RESERVED_A: usize = 75;
    pub const FORGOTTEN_HLC: usize = 80;
    pub const FORGOTTEN_COORDINATOR: usize = 88;
    pub const RESERVED_B: usize = 90;
    pub const EVICTED_THROUGH: usize = 96;
    pub const GENERATION_BOUND: usize = 104;
    pub const CLEAN_NONCE: usize = 112;
    pub const INDEX_SEED: usize = 120;
    pub const UNKNOWN_HLC: usize = 128;
    pub const UNKNOWN_COORDINATOR: usize = 136;
    pub const RESERVED_C: usize = 138;
    pub const BOOT: usize = 144;
    pub const RESERVED: usize = 152;

    const _: () = {
        assert!(CHECKSUM == FORMAT + 4 && SHARD_ID == CHECKSUM + 4 && DAEMON_ID == SHARD_ID + 16);
        assert!(SEQUENCE == DAEMON_ID + 16 && DEVICE_LEN == SEQUENCE + 8 && SLAB_LEN == DEVICE_LEN + 8);
        assert!(SLABS == SLAB_LEN + 4 && SHARD_INDEX == SLABS + 4 && PARITY == SHARD_INDEX + 2);
        assert!(RESERVED_A == PARITY + 1 && FORGOTTEN_HLC == RESERVED_A + 5);
        assert!(FORGOTTEN_COORDINATOR == FORGOTTEN_HLC + 8 && RESERVED_B == FORGOTTEN_COORDINATOR + 2);
        assert!(EVICTED_THROUGH == RESERVED_B + 6 && GENERATION_BOUND == EVICTED_THROUGH + 8);
        assert!(CLEAN_NONCE == GENERATION_BOUND + 8 && INDEX_SEED == CLEAN_NONCE + 8);
        assert!(UNKNOWN_HLC == INDEX_SEED + 8 && UNKNOWN_COORDINATOR == UNKNOWN_HLC + 8);
        assert!(RESERVED_C == UNKNOWN_COORDINATOR + 2 && BOOT == RESERVED_C + 6 && RESERVED == BOOT + 8);
        // All of it in one sector of 512 bytes: a write that is torn between sectors is whole or not there.
        assert!(RESERVED <= 512);
    };
}

/// What a copy of the superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The shard's own random id, given when it was formatted.
    pub shard_id: u128,
    /// The daemon that it belongs to.
    pub daemon_id: u128,
    /// Grows with each write; chooses the copy.
    pub sequence: u64,
    /// Length of the device when it was formatted, in bytes.
    pub device_len: u64,
    /// Length of a slab, in bytes.
    pub slab_len: u32,
    /// Slabs of the device.
    pub slabs: u32,
    /// The shard's position in its daemon.
    pub shard_index: u16,
    /// `m` of the daemon's code.
    pub parity: u8,
    /// The highest version that was ever evicted, expired or dropped (as far as a crash can tell).
    pub forgotten_through: Version,
    /// Slabs of this generation and older ones hold nothing.
    pub evicted_through: u64,
    /// No slab has a generation above this.
    pub generation_bound: u64,
    /// Which snapshot is good; 0 is none.
    pub clean_nonce: u64,
    /// Seed of the index.
    pub index_seed: u64,
    /// The highest version that the shard may have held without knowing of it: the device was formatted, or
    /// found damaged, when there could be versions up to this.
    pub unknown_through: Version,
    /// Which run of the machine the shard was opened in last.
    pub boot: u64,
}

/// Why a block is no superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SuperblockError {
    /// Nothing but zeroes.
    #[error("it is blank")]
    Blank,
    /// Something else altogether.
    #[error("it is not Hedgerow's")]
    Magic,
    /// Another version of the format.
    #[error("it has format {found}, this daemon reads {FORMAT_VERSION}")]
    Format {
        /// The version found.
        found: u32,
    },
    /// Its checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// A field cannot be, though the checksum is right.
    #[error("its field '{field}' cannot be {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

impl Superblock {
    /// Offset on the device of the copy that this sequence number is written to, in bytes.
    pub fn offset(&self) -> u64 {
        self.sequence % COPIES * BLOCK_LEN as u64
    }

    /// Writes the superblock into `block`, [`BLOCK_LEN`] bytes.
    pub fn encode(&self, block: &mut [u8]) {
        let block = &mut block[..BLOCK_LEN];
        block.fill(0);
        put(block, layout::MAGIC, &MAGIC);
        put(block, layout::FORMAT, &FORMAT_VERSION.to_le_bytes());
        put(block, layout::SHARD_ID, &self.shard_id.to_le_bytes());
        put(block, layout::DAEMON_ID, &self.daemon_id.to_le_bytes());
        put(block, layout::SEQUENCE, &self.sequence.to_le_bytes());
        put(block, layout::DEVICE_LEN, &self.device_len.to_le_bytes());
        put(block, layout::SLAB_LEN, &self.slab_len.to_le_bytes());
        put(block, layout::SLABS, &self.slabs.to_le_bytes());
        put(block, layout::SHARD_INDEX, &self.shard_index.to_le_bytes());
        put(block, layout::PARITY, &[self.parity]);
        put(block, layout::FORGOTTEN_HLC, &self.forgotten_through.hlc.to_le_bytes());
        put(block, layout::FORGOTTEN_COORDINATOR, &self.forgotten_through.coordinator.to_le_bytes());
        put(block, layout::EVICTED_THROUGH, &self.evicted_through.to_le_bytes());
        put(block, layout::GENERATION_BOUND, &self.generation_bound.to_le_bytes());
        put(block, layout::CLEAN_NONCE, &self.clean_nonce.to_le_bytes());
        put(block, layout::INDEX_SEED, &self.index_seed.to_le_bytes());
        put(block, layout::UNKNOWN_HLC, &self.unknown_through.hlc.to_le_bytes());
        put(block, layout::UNKNOWN_COORDINATOR, &self.unknown_through.coordinator.to_le_bytes());
        put(block, layout::BOOT, &self.boot.to_le_bytes());
        seal_block(block, layout::CHECKSUM);
    }

    /// The superblock that `block`, [`BLOCK_LEN`] bytes, is.
    pub fn decode(block: &[u8]) -> Result<Superblock, SuperblockError> {
        let block = &block[..BLOCK_LEN];
        if block.iter().all(|&byte| byte == 0) {
            return Err(SuperblockError::Blank);
        }
        if !block.starts_with(&MAGIC) {
            return Err(SuperblockError::Magic);
        }
        if !block_is_sealed(block, layout::CHECKSUM) {
            return Err(SuperblockError::Checksum);
        }
        let found = u32_at(block, layout::FORMAT);
        if found != FORMAT_VERSION {
            return Err(SuperblockError::Format { found });
        }
        let zero = [
            layout::RESERVED_A..layout::FORGOTTEN_HLC,
            layout::RESERVED_B..layout::EVICTED_THROUGH,
            layout::RESERVED_C..layout::BOOT,
            layout::RESERVED..BLOCK_LEN,
        ];
        if zero.into_iter().any(|at| block[at].iter().any(|&byte| byte != 0)) {
            return Err(SuperblockError::Field { field: "reserved", value: 1 });
        }
        let superblock = Superblock {
            shard_id: u128_at(block, layout::SHARD_ID),
            daemon_id: u128_at(block, layout::DAEMON_ID),
            sequence: u64_at(block, layout::SEQUENCE),
            device_len: u64_at(block, layout::DEVICE_LEN),
            slab_len: u32_at(block, layout::SLAB_LEN),
            slabs: u32_at(block, layout::SLABS),
            shard_index: u16_at(block, layout::SHARD_INDEX),
            parity: block[layout::PARITY],
            forgotten_through: Version {
                hlc: u64_at(block, layout::FORGOTTEN_HLC),
                coordinator: u16_at(block, layout::FORGOTTEN_COORDINATOR),
            },
            evicted_through: u64_at(block, layout::EVICTED_THROUGH),
            generation_bound: u64_at(block, layout::GENERATION_BOUND),
            clean_nonce: u64_at(block, layout::CLEAN_NONCE),
            index_seed: u64_at(block, layout::INDEX_SEED),
            unknown_through: Version {
                hlc: u64_at(block, layout::UNKNOWN_HLC),
                coordinator: u16_at(block, layout::UNKNOWN_COORDINATOR),
            },
            boot: u64_at(block, layout::BOOT),
        };
        superblock.check_sizes()?;
        Ok(superblock)
    }

    fn check_sizes(&self) -> Result<(), SuperblockError> {
        let field = |field, value| Err(SuperblockError::Field { field, value });
        let slab_len = self.slab_len;
        if !(SLAB_LEN_MIN..=SLAB_LEN_MAX).contains(&slab_len) || !slab_len.is_multiple_of(BLOCK_LEN as u32) {
            return field("slab_len", u64::from(slab_len));
        }
        let most = super::StoreConfig::slab_count(self.device_len, slab_len);
        if !(SLABS_MIN..=SLABS_MAX).contains(&self.slabs) || u64::from(self.slabs) > most {
            return field("slabs", u64::from(self.slabs));
        }
        if self.sequence > COUNTER_MAX {
            return field("sequence", self.sequence);
        }
        if self.generation_bound > COUNTER_MAX {
            return field("generation_bound", self.generation_bound);
        }
        if self.evicted_through > self.generation_bound {
            return field("evicted_through", self.evicted_through);
        }
        Ok(())
    }
}
