//! How many parts the indexes are made for: sized at the start, they never grow.

use crate::slab::index::{BUCKET_BYTES, BUCKET_SLOTS};

/// A part of an object of 4 KiB: a copy with its head and a short key.
const MEAN_PART_BYTES_MIN: u64 = (4 << 10) + 256;
/// Of the machine's memory, what all indexes together may take unless told otherwise.
const MEMORY_SHARE: u64 = 8;

/// Bytes of all indexes for shards of `device_bytes` in all whose parts have `mean_part_bytes` on average:
/// 90 % of the slots are then in use.
pub fn index_bytes(device_bytes: u64, mean_part_bytes: u64) -> u64 {
    let slot_bytes = (BUCKET_BYTES / BUCKET_SLOTS) as u64;
    device_bytes / mean_part_bytes * slot_bytes * 10 / 9
}

/// The mean part that indexes are made for unless told otherwise: small enough to fill devices of
/// `device_bytes` in all with objects of 4 KiB, as long as that takes no more than an eighth of
/// `memory_bytes`, the machine's memory.
pub fn default_mean_part_bytes(device_bytes: u64, memory_bytes: u64) -> u64 {
    let most = (memory_bytes / MEMORY_SHARE).max(1);
    let slot_bytes = (BUCKET_BYTES / BUCKET_SLOTS) as u64;
    (device_bytes.saturating_mul(slot_bytes) / most * 10).div_ceil(9).max(MEAN_PART_BYTES_MIN)
}

/// The machine's memory in bytes; 0 if the system does not say.
pub fn machine_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_fill_a_device_as_long_as_there_is_memory() {
        const GIB: u64 = 1 << 30;
        // Devices, memory, whether an index for objects of 4 KiB is within an eighth of it.
        let cases = [
            (6 * GIB, 4 * GIB, true),
            (6 << 40, 256 * GIB, true),
            (6 << 40, 64 * GIB, false),
            (GIB, 0, false),
        ];
        for (device, memory, fine) in cases {
            let mean = default_mean_part_bytes(device, memory);
            assert_eq!(mean == MEAN_PART_BYTES_MIN, fine, "{device} of {memory}: {mean}");
            let bytes = index_bytes(device, mean);
            assert!(bytes <= memory / 8 + 64, "{bytes} of {memory}");
            assert!(fine || memory == 0 || bytes >= memory / 8 / 10 * 9, "{bytes} of {memory} is too little");
        }
        assert!(machine_memory_bytes() > 64 << 20);
    }
}
