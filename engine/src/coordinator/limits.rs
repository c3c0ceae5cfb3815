//! Every bound of the coordinator, by name. Relations between them are asserted here.

use std::time::Duration;

use hedgerow_wire::limits::{
    CLOCK_AHEAD_US_MAX, CLOCK_DRIFT_US_MAX, CODE_PARTS_MAX, DEADLINE_US_MAX, STRIPE_LEN_MAX,
    TOMBSTONE_KEEP_US,
};

/// Most operations (reads, writes and repairs together) under way in one coordinator.
pub const OPS_MAX: usize = 1 << 16;
/// Most drops in one [`super::Action::AskDrop`].
pub const DROP_BATCH_MAX: usize = 256;
/// Most touches in one [`super::Action::Touch`].
pub const TOUCH_BATCH_MAX: usize = 256;
/// A batch waits no longer than this for more.
pub const BATCH_DELAY: Duration = Duration::from_millis(5);
/// How often the coordinator looks after its targets and its repairs while it has any work.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(10);
/// Size of the table of recently touched names (a power of two): a target that misses a touched
/// record names it by hash only.
pub const TOUCHED_NAMES: usize = 1024;
/// Records that are remembered as told of lately (a power of two), 8 bytes each.
pub const TOUCHED_RECORDS: usize = 1 << 16;
/// Buckets of the last version given or seen, by key hash (a power of two).
pub const VERSION_BUCKETS: usize = 4096;
/// Most records noted for completion.
pub const REPAIR_NOTES_MAX: usize = 4096;
/// Most repairs under way at once.
pub const REPAIRS_MAX: usize = 16;
/// Attempts to complete a record, until it is left alone.
pub const REPAIR_ATTEMPTS_MAX: u8 = 8;
/// Pause before the first attempt, and after it; doubles with every attempt.
pub const REPAIR_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A record is told of as used at most this often (a touch is a bit that stays set for long).
pub const TOUCH_REPEAT_AFTER: Duration = Duration::from_secs(1);
/// Background completion leaves versions alone that are younger than this: their write may be
/// under way.
pub const REPAIR_AGE_US: u64 = 2_000_000;
/// Parts of a version that cannot be assembled are dropped only when it is older than this: no write
/// of it can be under way any more, whatever the clocks say.
pub const DROP_AGE_US: u64 = DEADLINE_US_MAX as u64 + CLOCK_AHEAD_US_MAX + CLOCK_DRIFT_US_MAX;
/// How often a read begins anew because it ran into a write that is under way.
pub const READ_ROUNDS_MAX: u8 = 6;
/// The pause before the first such round; doubles with every round.
pub const READ_ROUND_DELAY: Duration = Duration::from_millis(1);
/// Bytes that a read of a part of unknown length counts for in its target's bytes in flight.
pub const PART_BYTES_UNKNOWN: usize = 64 << 10;
/// Probes that may be unanswered at one target, beyond its cap.
pub const PROBES_IN_FLIGHT_MAX: u16 = 8;
/// A probe unanswered for so long makes room for the next one.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// Prompt answers to probes in a row, until a slow target is trusted again.
pub const PROBES_PROMPT_MIN: u8 = 5;
/// How often it is judged, at most, whether most targets are silent.
pub const SILENCE_JUDGED_EVERY: Duration = Duration::from_micros(100);
/// Answers of a target before its latency means anything.
pub const LATENCY_SAMPLES_MIN: u32 = 8;
/// An ask is thought lost so long after its deadline, if its target has answered a later one from the
/// same place: the index, the device, the log of writes.
pub const ASK_LOST_AFTER: Duration = Duration::from_secs(2);

const _: () = {
    assert!(CODE_PARTS_MAX <= u8::MAX as usize);
    assert!(TOUCHED_NAMES.is_power_of_two() && TOUCHED_RECORDS.is_power_of_two());
    assert!(VERSION_BUCKETS.is_power_of_two());
    assert!(REPAIRS_MAX < REPAIR_NOTES_MAX);
    assert!(REPAIRS_MAX < OPS_MAX);
    assert!(REPAIR_ATTEMPTS_MAX < 32);
    assert!(OPS_MAX <= u32::MAX as usize);
    assert!(PART_BYTES_UNKNOWN <= STRIPE_LEN_MAX);
    // A tombstone outlives every version that could still be dropped or completed below it.
    assert!(TOMBSTONE_KEEP_US > DROP_AGE_US);
    assert!(REPAIR_AGE_US < DROP_AGE_US);
};
