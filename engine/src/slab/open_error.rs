//! Why a device cannot be opened.

use super::{ConfigError, IoError};

/// Why a device cannot be opened. The path is the caller's to add.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not enough room.
    #[error(
        "a device of {device_len} bytes is too small: {need} bytes are needed for {slabs} slabs of {slab_len} bytes"
    )]
    TooSmall {
        /// Its length in bytes.
        device_len: u64,
        /// Bytes needed.
        need: u64,
        /// Slabs needed.
        slabs: u32,
        /// Length of a slab in bytes.
        slab_len: u32,
    },
    /// Shorter than when it was formatted.
    #[error("the device has {device_len} bytes, {formatted_len} when it was formatted")]
    Shrunk {
        /// Its length in bytes.
        device_len: u64,
        /// Its length when it was formatted.
        formatted_len: u64,
    },
    /// There is something on it that is not Hedgerow's.
    #[error(
        "the device is not blank and not Hedgerow's: byte {offset} is {byte:#04x}; clear its first {checked} bytes if it is to be used"
    )]
    Foreign {
        /// The first byte that is not zero.
        offset: u64,
        /// Its value.
        byte: u8,
        /// Bytes that must be zero.
        checked: u64,
    },
    /// Another version of the format.
    #[error("the device has format {found}, this daemon reads {expected}")]
    FormatVersion {
        /// The version found.
        found: u32,
        /// The version that this build reads.
        expected: u32,
    },
    /// All copies of the superblock are damaged.
    #[error("no copy of the superblock is whole: first {0}, second {1}, third {2}", copies[0], copies[1], copies[2])]
    SuperblockDamaged {
        /// What is wrong with each copy.
        copies: [super::superblock::SuperblockError; 3],
    },
    /// Another daemon's.
    #[error("the device belongs to daemon {found:032x}, not to {expected:032x}")]
    OtherDaemon {
        /// The daemon that it belongs to.
        found: u128,
        /// This daemon.
        expected: u128,
    },
    /// Another shard of this daemon.
    #[error("the device is shard {found} of this daemon, not {expected}")]
    OtherShard {
        /// The shard that it is.
        found: u16,
        /// The shard that was expected.
        expected: u16,
    },
    /// Formatted for another code.
    #[error("the device was formatted for {found} parity parts, this daemon has {expected}")]
    Parity {
        /// `m` of the device.
        found: u8,
        /// `m` of the daemon.
        expected: u8,
    },
    /// The index cannot be made, or does not hold what is on the device.
    #[error("the index cannot be made: {0}")]
    Index(super::index::CapacityError),
    /// The device failed.
    #[error("cannot {action} at byte {offset}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        offset: u64,
        /// What the device said.
        error: IoError,
    },
}
