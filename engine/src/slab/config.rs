//! What a store is told before it opens its device, and its bounds.

use super::layout::{BLOCK_LEN, SLAB_LEN_DEFAULT, SLAB_LEN_MAX, SLAB_LEN_MIN, SLABS_MAX, SLABS_START};

/// Everything a store is told. [`StoreConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The daemon that the device belongs to.
    pub daemon_id: u128,
    /// The shard's position in that daemon.
    pub shard_index: u16,
    /// Length of the device in bytes.
    pub device_len: u64,
    /// `m` of the daemon's code: a device formatted with another one is refused.
    pub parity: u8,
    /// Random: gives a new device its shard id and places the index.
    pub seed: u64,
    /// Which run of the machine this is: what a device has completed in it is there until it ends, flushed or
    /// not. 0 if that is not known.
    pub boot: u64,
    /// Length of a slab in bytes, for a blank device; a formatted one keeps its own.
    pub slab_len: u32,
    /// Parts that the index must hold; by default one per 16 KiB of the device.
    pub index_capacity: Option<usize>,
    /// Placement hint (stream, FDP handle) noted in slab headers.
    pub placement_hint: u16,
    /// Longest buffer of one commit, in bytes.
    pub commit_len_max: u32,
    /// Bytes of writes that are not on the device yet: beyond, [`Overloaded`].
    ///
    /// [`Overloaded`]: hedgerow_wire::part::PartAnswer::Overloaded
    pub pending_bytes_max: usize,
    /// Writes that are not answered yet: beyond, `Overloaded`.
    pub writes_max: usize,
    /// Device reads of requests under way, cancelled ones included: beyond, `Overloaded`.
    pub reads_max: usize,
    /// Free slabs that eviction keeps ahead of the writes.
    pub free_slabs_target: u32,
    /// Most of a slab that eviction may write again, in percent.
    pub reinsert_percent: u8,
    /// Parts that eviction reads at a time.
    pub evict_reads_max: usize,
    /// Tell the device about slabs that were let go.
    pub discard: bool,
    /// Device reads under way while opening.
    pub open_reads_max: usize,
    /// Consecutive write errors after which the shard is set aside.
    pub write_errors_max: u32,
    /// Consecutive read errors after which the shard is set aside.
    pub read_errors_max: u32,
    /// How long a shard that is set aside waits before it tries its device again, in microseconds.
    pub probe_interval_us: u64,
    /// Slots of the table of exact versions that saves header reads (see `ties.rs`).
    pub exact_versions: usize,
}

/// Why a configuration cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a length that a slab can have.
    #[error("a slab has {SLAB_LEN_MIN} to {SLAB_LEN_MAX} bytes, a multiple of {BLOCK_LEN}; not {slab_len}")]
    SlabLen {
        /// What was asked for.
        slab_len: u32,
    },
    /// More slabs than can be numbered.
    #[error("a device of {device_len} bytes has more than {SLABS_MAX} slabs of {slab_len} bytes")]
    TooManySlabs {
        /// Length of the device.
        device_len: u64,
        /// Length of a slab.
        slab_len: u32,
    },
    /// A bound that would stop everything.
    #[error("'{field}' is {value}: {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        expected: &'static str,
    },
}

impl StoreConfig {
    /// The defaults for a device of `device_len` bytes.
    pub fn new(daemon_id: u128, shard_index: u16, device_len: u64, seed: u64) -> StoreConfig {
        StoreConfig {
            daemon_id,
            shard_index,
            device_len,
            parity: 2,
            seed,
            boot: 0,
            slab_len: SLAB_LEN_DEFAULT,
            index_capacity: None,
            placement_hint: 0,
            commit_len_max: 4 << 20,
            pending_bytes_max: 32 << 20,
            writes_max: 4096,
            reads_max: 1024,
            free_slabs_target: 2,
            reinsert_percent: 50,
            evict_reads_max: 4,
            discard: false,
            open_reads_max: 16,
            write_errors_max: 3,
            read_errors_max: 32,
            probe_interval_us: 1_000_000,
            exact_versions: 1 << 15,
        }
    }

    /// Slabs of a device of this length.
    pub(super) fn slab_count(device_len: u64, slab_len: u32) -> u64 {
        device_len.saturating_sub(SLABS_START) / u64::from(slab_len)
    }

    /// Checks every bound against the others.
    pub fn check(&self) -> Result<(), ConfigError> {
        let slab_len = self.slab_len;
        if !(SLAB_LEN_MIN..=SLAB_LEN_MAX).contains(&slab_len) || !slab_len.is_multiple_of(BLOCK_LEN as u32) {
            return Err(ConfigError::SlabLen { slab_len });
        }
        if StoreConfig::slab_count(self.device_len, slab_len) > u64::from(SLABS_MAX) {
            return Err(ConfigError::TooManySlabs { device_len: self.device_len, slab_len });
        }
        let at_least_one = "at least 1";
        let fields = [
            ("writes_max", self.writes_max as u64),
            ("reads_max", self.reads_max as u64),
            ("pending_bytes_max", self.pending_bytes_max as u64),
            ("commit_len_max", u64::from(self.commit_len_max)),
            ("free_slabs_target", u64::from(self.free_slabs_target)),
            ("evict_reads_max", self.evict_reads_max as u64),
            ("open_reads_max", self.open_reads_max as u64),
            ("write_errors_max", u64::from(self.write_errors_max)),
            ("read_errors_max", u64::from(self.read_errors_max)),
            ("exact_versions", self.exact_versions as u64),
        ];
        if let Some(&(field, value)) = fields.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Field { field, value, expected: at_least_one });
        }
        if self.reinsert_percent > 90 {
            let value = u64::from(self.reinsert_percent);
            return Err(ConfigError::Field { field: "reinsert_percent", value, expected: "at most 90" });
        }
        Ok(())
    }
}
