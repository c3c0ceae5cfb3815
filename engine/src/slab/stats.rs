//! What a store counts.

/// Counters since the store was opened, and gauges (so marked) of this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Gauge: parts in the index.
    pub parts: u64,
    /// Gauge: slots of the index.
    pub index_slots: u64,
    /// Gauge: memory of the index in bytes.
    pub index_bytes: u64,
    /// Gauge: slabs of the device.
    pub slabs: u64,
    /// Gauge: slabs that can be written to.
    pub slabs_free: u64,
    /// Gauge: requests taken and not answered.
    pub requests_under_way: u64,
    /// Gauge: device reads of requests under way, cancelled ones included.
    pub reads_under_way: u64,
    /// Gauge: bytes of writes that are not on the device yet.
    pub pending_bytes: u64,
    /// Gauge: the device failed too often; everything is answered `Failed` until it works again.
    pub set_aside: bool,
    /// Gauge: set aside for good, since a device operation does not come back.
    pub stuck: bool,
    /// Gauge: hlc of the highest version that was forgotten.
    pub forgotten_through_hlc: u64,
    /// Gauge: hlc of the highest version that the shard may have held without knowing of it.
    pub unknown_through_hlc: u64,
    /// Gauge: damaged parts that are held and noted: neither repaired nor let go yet.
    pub parts_damaged_now: u64,
    /// Reads answered with a part.
    pub read_hits: u64,
    /// Reads answered `Absent`.
    pub read_misses: u64,
    /// Reads answered from memory.
    pub read_from_memory: u64,
    /// Parts admitted.
    pub parts_admitted: u64,
    /// Bytes of heads and payloads admitted.
    pub bytes_admitted: u64,
    /// Bytes written to the device, all included.
    pub bytes_written: u64,
    /// Bytes that close blocks and align parts.
    pub bytes_padding: u64,
    /// Bytes of slab headers and contents tables.
    pub bytes_tables: u64,
    /// Parts written again by eviction.
    pub parts_reinserted: u64,
    /// Bytes written again by eviction.
    pub bytes_reinserted: u64,
    /// Device writes of parts.
    pub commits: u64,
    /// Flushes for acknowledgements.
    pub flushes: u64,
    /// Superblock writes.
    pub superblock_writes: u64,
    /// Slabs let go.
    pub slabs_evicted: u64,
    /// Of these, those that were read when they were let go, and could not be written to before that was over.
    pub slabs_left_read: u64,
    /// Parts let go to make room.
    pub parts_evicted: u64,
    /// Young tombstones let go because a slab's share for reinsertion was used up.
    pub tombstones_cut: u64,
    /// Parts let go because they had expired.
    pub parts_expired: u64,
    /// Parts let go because somebody asked.
    pub parts_dropped: u64,
    /// Parts that failed a check; each once while it is noted.
    pub parts_damaged: u64,
    /// Reads that met another key's part (a collision of the index).
    pub collisions: u64,
    /// Contents tables that could not be used.
    pub tables_damaged: u64,
    /// Writes answered `Superseded`.
    pub superseded: u64,
    /// Writes refused because their version is ahead of the clock.
    pub clock_ahead: u64,
    /// Requests answered `Overloaded`.
    pub overloaded: u64,
    /// Requests answered `Expired`.
    pub deadline_passed: u64,
    /// Requests whose answer was no longer wanted.
    pub cancelled: u64,
    /// Writes that waited until a slab was free.
    pub writes_delayed: u64,
    /// Writes for which the index had no room.
    pub index_full: u64,
    /// Device reads that failed.
    pub read_errors: u64,
    /// Device writes and flushes that failed.
    pub write_errors: u64,
    /// Header reads to decide a drop or a write.
    pub header_reads: u64,
}
