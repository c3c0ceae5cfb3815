//! Words of the field: keys, versions, codes, targets, levels.

use std::fmt;

use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;

use crate::limits::{CODE_PARTS_MAX, KEY_LEN_MAX};

/// A namespace's number; 0 is the default namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Namespace(pub u32);

/// An object's key: 1 to [`KEY_LEN_MAX`] bytes of any value. Short keys are held inline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmallVec<[u8; 48]>);

/// Why bytes cannot be a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a key has 1 to {KEY_LEN_MAX} bytes, this one has {len}")]
pub struct KeyError {
    /// Length that was offered, in bytes.
    pub len: usize,
}

impl Key {
    /// Takes `bytes` as a key; an error if it is empty or longer than [`KEY_LEN_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Key, KeyError> {
        if bytes.is_empty() || bytes.len() > KEY_LEN_MAX {
            return Err(KeyError { len: bytes.len() });
        }
        Ok(Key(SmallVec::from_slice(bytes)))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash that places this key of `namespace`.
    pub fn hash(&self, namespace: Namespace) -> KeyHash {
        let mut hasher = SipHasher13::new_with_keys(0x6865_6467_6572_6f77, u64::from(namespace.0));
        std::hash::Hasher::write(&mut hasher, &self.0);
        KeyHash(hasher.finish128().as_u128())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// SipHash-1-3-128 of a key, keyed with its namespace. The same on every member and for all time:
/// the ring, the home core and the shard's index derive from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyHash(pub u128);

/// Which record of an object a part belongs to: 0 is the *object record*, which commits the object
/// (the sole stripe of a small object, the head of a larger one, or a tombstone); stripe `i` of an
/// object with a head is record `i + 1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Record(pub u32);

impl Record {
    /// The record that commits an object.
    pub const OBJECT: Record = Record(0);

    /// The record of stripe `index` of an object that has a head.
    pub fn stripe(index: u32) -> Record {
        Record(index + 1)
    }
}

/// A write's version: a hybrid logical clock, then the coordinator that gave it. Ordered.
///
/// `hlc` counts units of 2^-16 s since the Unix epoch (48 bits of seconds, 16 bits of fraction).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version {
    /// Hybrid logical clock, in units of 2^-16 s since the Unix epoch.
    pub hlc: u64,
    /// The coordinator that gave the version.
    pub coordinator: u16,
}

impl Version {
    /// Lower than every version that is ever given.
    pub const ZERO: Version = Version { hlc: 0, coordinator: 0 };

    /// The highest version with this reading of the clock, whoever gives it.
    pub const fn last_of_clock(hlc: u64) -> Version {
        Version { hlc, coordinator: u16::MAX }
    }

    /// The clock reading of `wall_us` microseconds since the Unix epoch.
    pub fn hlc_from_wall_us(wall_us: u64) -> u64 {
        ((u128::from(wall_us) << 16) / 1_000_000) as u64
    }

    /// The wall time of this version in microseconds since the Unix epoch, rounded down.
    pub fn wall_us(self) -> u64 {
        ((u128::from(self.hlc) * 1_000_000) >> 16) as u64
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:05}@{}", self.hlc >> 16, self.hlc & 0xffff, self.coordinator)
    }
}

/// An erasure code: `k` data parts and `m` parity parts, written `k+m`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Code {
    k: u8,
    m: u8,
}

/// Why a pair of numbers, or a text, is no code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a code is written k+m with 1 <= k, 0 <= m and k + m <= {CODE_PARTS_MAX} (for example 4+2), not '{0}'"
)]
pub struct CodeError(pub String);

impl Code {
    /// The code of `k` data and `m` parity parts.
    pub fn new(k: u8, m: u8) -> Result<Code, CodeError> {
        if k == 0 || usize::from(k) + usize::from(m) > CODE_PARTS_MAX {
            return Err(CodeError(format!("{k}+{m}")));
        }
        Ok(Code { k, m })
    }

    /// Data parts.
    pub fn k(self) -> usize {
        usize::from(self.k)
    }

    /// Parity parts.
    pub fn m(self) -> usize {
        usize::from(self.m)
    }

    /// All parts.
    pub fn n(self) -> usize {
        self.k() + self.m()
    }

    /// Parts beyond `k` that a write quorum has: `min(1, m - 1)`, and 0 when `m` is 0.
    pub fn quorum_spare(self) -> usize {
        self.m().saturating_sub(1).min(1)
    }

    /// Write quorum `w`: as many targets must hold a part before a write is acknowledged.
    pub fn write_quorum(self) -> usize {
        self.k() + self.quorum_spare()
    }

    /// `n - w + 1`: any so many targets have one in common with every write quorum.
    pub fn read_confirmations(self) -> usize {
        self.n() - self.write_quorum() + 1
    }

    /// The code that a stripe of `stripe_len` bytes gets: the same `m`, and the largest `k` up to this
    /// one's whose parts have at least `min_part` bytes (so a small object becomes `m + 1` copies).
    pub fn for_stripe(self, stripe_len: usize, min_part: usize) -> Code {
        let k = (stripe_len / min_part.max(1)).clamp(1, self.k());
        Code { k: k as u8, m: self.m }
    }

    /// Length of every part of a stripe of `stripe_len` bytes: `ceil(stripe_len / k)`. The last data
    /// part is padded with zeroes to it when coded.
    pub fn part_len(self, stripe_len: usize) -> usize {
        stripe_len.div_ceil(self.k())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl std::str::FromStr for Code {
    type Err = CodeError;
    fn from_str(text: &str) -> Result<Code, CodeError> {
        let bad = || CodeError(text.to_owned());
        let (k, m) = text.split_once('+').ok_or_else(bad)?;
        Code::new(k.trim().parse().map_err(|_| bad())?, m.trim().parse().map_err(|_| bad())?)
            .map_err(|_| bad())
    }
}

/// A daemon in the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Member(pub u16);

/// The only address that a coordinator knows: a shard of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Target {
    /// The daemon.
    pub member: Member,
    /// The shard's position in that daemon's list of shards.
    pub shard: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.member.0, self.shard)
    }
}

/// Declares a `#[repr(u8)]` enum with its conversion from the wire.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $value),+ }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The value with this number, if there is one.
            pub const fn from_u8(value: u8) -> Option<$name> {
                match value { $($value => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

wire_enum! {
    /// What an acknowledged write promises. 0 on the wire leaves it to the daemon.
    AckLevel {
        /// The device has completed the write for a quorum of parts: SIGKILL loses nothing.
        Written = 1,
        /// As `Written`, and flushed: power loss loses nothing.
        Synced = 2,
        /// In the memory of a quorum.
        Buffered = 3,
    }
}

wire_enum! {
    /// How a read asks for its parts.
    ReadPolicy {
        /// The daemon's configured policy.
        Default = 0,
        /// Ask for as many parts as are needed; a spare as soon as one is late.
        Hedged = 1,
        /// Ask for every part at once: constant work.
        All = 2,
    }
}

wire_enum! {
    /// What a request yields to under load.
    Priority {
        /// The default.
        Normal = 0,
        /// Answered first.
        High = 1,
        /// First to be refused when the daemon is overloaded.
        Low = 2,
    }
}

wire_enum! {
    /// Which checksum a writer gave for its whole object.
    ChecksumKind {
        /// None was given.
        None = 0,
        /// CRC-32C, in the low 32 bits.
        Crc32c = 1,
        /// Any 128-bit checksum that only the writer and its readers know.
        Opaque128 = 2,
    }
}

/// The object checksum that a writer gave. Stored and returned, never recomputed by the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ObjectChecksum {
    /// What `bits` are.
    pub kind: ChecksumKind,
    /// The checksum; unused high bits are zero.
    pub bits: u128,
}

impl ObjectChecksum {
    /// No checksum.
    pub const NONE: ObjectChecksum = ObjectChecksum { kind: ChecksumKind::None, bits: 0 };

    /// A CRC-32C.
    pub fn crc32c(crc: u32) -> ObjectChecksum {
        ObjectChecksum { kind: ChecksumKind::Crc32c, bits: u128::from(crc) }
    }
}
pub(crate) use wire_enum;
