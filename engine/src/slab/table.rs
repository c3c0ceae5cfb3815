//! Read the contents table of a slab, in one read where it is short.

use hedgerow_wire::checksum::crc32c;

use super::layout::{BLOCK_LEN, CONTENTS_ENTRY_LEN, ContentsEntry, SlabTrailer, contents_start};

/// Bytes at the end of a slab that are read first: the trailer and about 1,000 entries.
pub(super) const TAIL_LEN: u32 = 64 << 10;

/// What the end of a slab holds.
pub(super) enum Tail {
    /// No table that could be believed.
    None,
    /// The table begins before what was read: read `len` bytes from `start` of the slab.
    More { trailer: SlabTrailer, start: u32, len: usize },
    /// The table.
    Entries(SlabTrailer, Vec<ContentsEntry>),
}

/// Reads the table from `bytes`, the last ones of `slab`.
pub(super) fn parse_tail(bytes: &[u8], shard_id: u128, slab: u32, slab_len: u32) -> Tail {
    let Some(trailer) = SlabTrailer::decode(&bytes[bytes.len() - BLOCK_LEN..]) else { return Tail::None };
    let start = contents_start(slab_len, trailer.parts as usize);
    let Some(start) = start.filter(|&start| trailer.data_end <= start) else { return Tail::None };
    if trailer.shard_id != shard_id || trailer.slab != slab {
        return Tail::None;
    }
    let len = (slab_len - start) as usize;
    if len > bytes.len() {
        return Tail::More { trailer, start, len };
    }
    parse_contents(&bytes[bytes.len() - len..], &trailer)
}

/// Reads the table of `trailer` from `bytes`, which start with its first entry.
pub(super) fn parse_contents(bytes: &[u8], trailer: &SlabTrailer) -> Tail {
    let len = trailer.parts as usize * CONTENTS_ENTRY_LEN;
    let Some(bytes) = bytes.get(..len).filter(|bytes| crc32c(bytes) == trailer.contents_checksum) else {
        return Tail::None;
    };
    let entries: Option<Vec<_>> = bytes
        .as_chunks::<CONTENTS_ENTRY_LEN>()
        .0
        .iter()
        .map(|bytes| ContentsEntry::decode(bytes, trailer.data_end))
        .collect();
    entries.map_or(Tail::None, |entries| Tail::Entries(*trailer, entries))
}
