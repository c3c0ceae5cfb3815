//! The 16 bytes that the index keeps of one part.
//!
//! ```text
//! word 0   63                            28 27             9 8         0
//!          +-------------------------------+----------------+-----------+
//!          | fingerprint               36  | offset     19  | blocks 9  |
//!          +-------------------------------+----------------+-----------+
//! word 1   63                                     20 19         2  1   0
//!          +----------------------------------------+------------+---+---+
//!          | hlc, its low bits                  44  | slab   18  | t | u |
//!          +----------------------------------------+------------+---+---+
//! fingerprint  1 ..= 2^36 - 1; 0 only in an empty slot, all of whose bits are 0
//! offset       of the part's header in its slab, in units of 64 bytes (32 MiB)
//! blocks       4 KiB blocks to read for head and payload, from the block that the header starts in
//! hlc          the version's clock modulo 2^44 units of 2^-16 s (8.5 years)
//! slab         number of the slab (8 TiB of 32 MiB slabs)
//! t, u         tombstone; touched since the last `take_touched`
//! ```
//!
//! The widths sum to 128: nothing is spare and nothing is stored twice. No bit says "empty", because
//! a fingerprint of 0 does (it costs one of 2^36 values), and what a lookup compares is the top of
//! one word, so that a match is one xor and one compare. A change of any field changes
//! [`LAYOUT_VERSION`].

use hedgerow_wire::limits::{PART_HEAD_LEN_MAX, STRIPE_LEN_MAX};

/// The version of the slot layout, of the hash that places slots, and of the alternate bucket:
/// a snapshot of another version is refused.
pub const LAYOUT_VERSION: u32 = 1;

/// Unit of a part's offset in its slab, in bytes.
pub const OFFSET_UNIT_BYTES: u32 = 64;
/// Unit of the length of a read, in bytes.
pub const BLOCK_BYTES: u32 = 4096;
/// Bits of the fingerprint.
pub const FINGERPRINT_BITS: u32 = 36;
/// Bits of the hlc that a slot keeps.
pub const HLC_BITS: u32 = 44;
/// Slab numbers are below this.
pub const SLABS_MAX: u32 = 1 << SLAB_BITS;
/// Offsets in a slab are below this, in bytes.
pub const SLAB_BYTES_MAX: u32 = (1 << OFFSET_BITS) * OFFSET_UNIT_BYTES;
/// Most blocks that one read of a part can take.
pub const BLOCKS_MAX: u16 = (1 << BLOCKS_BITS) - 1;
/// How far a part's hlc may be ahead of the reference it is rebuilt from, in units of 2^-16 s
/// (half a year: covers a clock that was set back). The other 8 years of the window lie behind it.
pub const HLC_AHEAD_UNITS: u64 = 1 << 40;

const OFFSET_BITS: u32 = 19;
const BLOCKS_BITS: u32 = 9;
const SLAB_BITS: u32 = 18;
const FLAG_BITS: u32 = 2;

const OFFSET_SHIFT: u32 = BLOCKS_BITS;
const FINGERPRINT_SHIFT: u32 = OFFSET_SHIFT + OFFSET_BITS;
const TOUCHED: u64 = 1 << 0;
const TOMBSTONE: u64 = 1 << 1;
const SLAB_SHIFT: u32 = FLAG_BITS;
const HLC_SHIFT: u32 = SLAB_SHIFT + SLAB_BITS;
const HLC_MASK: u64 = (1 << HLC_BITS) - 1;

const _: () = {
    assert!(FINGERPRINT_BITS + OFFSET_BITS + BLOCKS_BITS == u64::BITS);
    assert!(HLC_BITS + SLAB_BITS + FLAG_BITS == u64::BITS);
    assert!(FINGERPRINT_SHIFT + FINGERPRINT_BITS == u64::BITS);
    assert!(HLC_SHIFT + HLC_BITS == u64::BITS);
    assert!(SLAB_BYTES_MAX == 32 << 20);
    assert!(SLABS_MAX as u64 * SLAB_BYTES_MAX as u64 == 8 << 40);
    assert!(HLC_AHEAD_UNITS < 1 << HLC_BITS);
    assert!(size_of::<Slot>() == 16 && align_of::<Slot>() == 8);
    // The longest part, its header as late in a block as it can start.
    let longest = (BLOCK_BYTES - OFFSET_UNIT_BYTES) as usize + PART_HEAD_LEN_MAX + STRIPE_LEN_MAX;
    assert!(longest.div_ceil(BLOCK_BYTES as usize) <= BLOCKS_MAX as usize);
};

/// Where a part lies, and what the index knows of it without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Number of the slab, below [`SLABS_MAX`].
    pub slab: u32,
    /// Offset of the part's header in its slab, in bytes: a multiple of [`OFFSET_UNIT_BYTES`] below
    /// [`SLAB_BYTES_MAX`].
    pub offset: u32,
    /// [`BLOCK_BYTES`] blocks to read, from the one that the header starts in: 1 to [`BLOCKS_MAX`].
    pub blocks: u16,
    /// Clock of the part's version, whole.
    pub hlc: u64,
    /// The part is a delete.
    pub tombstone: bool,
    /// The part was used since it was last asked.
    pub touched: bool,
}

/// A packed [`Entry`] with the fingerprint of its record, or empty. The layout is the module's.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub(super) struct Slot {
    word0: u64,
    word1: u64,
}

impl Slot {
    /// No part.
    pub(super) const EMPTY: Slot = Slot { word0: 0, word1: 0 };

    /// Packs `entry`; of its hlc the low bits.
    ///
    /// # Panics
    /// If a field is outside its documented range: a slot that points elsewhere must never be made.
    pub(super) fn pack(fingerprint: u64, entry: &Entry) -> Slot {
        assert!(
            entry.slab < SLABS_MAX
                && entry.offset < SLAB_BYTES_MAX
                && entry.offset.is_multiple_of(OFFSET_UNIT_BYTES)
                && (1..=BLOCKS_MAX).contains(&entry.blocks),
            "no slot can hold {entry:?}"
        );
        debug_assert!(fingerprint != 0 && fingerprint >> FINGERPRINT_BITS == 0);
        Slot {
            word0: fingerprint << FINGERPRINT_SHIFT
                | u64::from(entry.offset / OFFSET_UNIT_BYTES) << OFFSET_SHIFT
                | u64::from(entry.blocks),
            word1: (entry.hlc & HLC_MASK) << HLC_SHIFT
                | u64::from(entry.slab) << SLAB_SHIFT
                | if entry.tombstone { TOMBSTONE } else { 0 }
                | if entry.touched { TOUCHED } else { 0 },
        }
    }

    /// The entry of a slot that is not empty, its hlc rebuilt near `reference_hlc`.
    #[inline]
    pub(super) fn unpack(self, reference_hlc: u64) -> Entry {
        Entry {
            slab: self.slab(),
            offset: self.offset(),
            blocks: (self.word0 & u64::from(BLOCKS_MAX)) as u16,
            hlc: rebuild_hlc(self.word1 >> HLC_SHIFT, reference_hlc),
            tombstone: self.word1 & TOMBSTONE != 0,
            touched: self.word1 & TOUCHED != 0,
        }
    }

    /// Whether this slot holds a part with `fingerprint` (which is never 0).
    #[inline]
    pub(super) fn matches(self, fingerprint: u64) -> bool {
        self.word0 >> FINGERPRINT_SHIFT == fingerprint
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.word0 == 0
    }

    #[inline]
    pub(super) fn fingerprint(self) -> u64 {
        self.word0 >> FINGERPRINT_SHIFT
    }

    #[inline]
    pub(super) fn slab(self) -> u32 {
        ((self.word1 >> SLAB_SHIFT) as u32) & (SLABS_MAX - 1)
    }

    /// Offset in the slab, in bytes.
    #[inline]
    pub(super) fn offset(self) -> u32 {
        ((self.word0 >> OFFSET_SHIFT) as u32 & ((1 << OFFSET_BITS) - 1)) * OFFSET_UNIT_BYTES
    }

    pub(super) fn set_touched(&mut self) {
        self.word1 |= TOUCHED;
    }

    /// Clears `touched`; whether it was set.
    pub(super) fn take_touched(&mut self) -> bool {
        let touched = self.word1 & TOUCHED != 0;
        self.word1 &= !TOUCHED;
        touched
    }

    /// As 16 bytes, each word little-endian.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.word0) | u128::from(self.word1) << 64).to_le_bytes()
    }

    /// The slot of 16 bytes; `None` if no [`Slot::pack`] and no [`Slot::EMPTY`] gives these.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Option<Slot> {
        let bits = u128::from_le_bytes(bytes);
        let slot = Slot { word0: bits as u64, word1: (bits >> 64) as u64 };
        let valid = if slot.fingerprint() == 0 {
            slot == Slot::EMPTY
        } else {
            slot.word0 & u64::from(BLOCKS_MAX) != 0
        };
        valid.then_some(slot)
    }
}

/// Serial arithmetic: the greatest hlc that is at most [`HLC_AHEAD_UNITS`] above `reference` and has
/// the low [`HLC_BITS`] bits `low`; `low` itself if that would be below zero.
#[inline]
pub(super) fn rebuild_hlc(low: u64, reference: u64) -> u64 {
    let latest = reference.saturating_add(HLC_AHEAD_UNITS);
    let behind = latest.wrapping_sub(low) & HLC_MASK;
    latest.checked_sub(behind).unwrap_or(low)
}
