//! Every bound of the protocol and of an object, by name. Relations between them are asserted here.

/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 1024;
/// Largest object, in bytes (64 MiB).
pub const OBJECT_LEN_MAX: u64 = 64 << 20;
/// Largest stripe, in bytes (1 MiB): the unit of coding, verifying, memory admission and streaming.
pub const STRIPE_LEN_MAX: usize = 1 << 20;
/// Largest body of one frame: one stripe, or one part with its prefix, header and extensions.
pub const BODY_LEN_MAX: usize = PART_PREFIX_LEN + PART_HEAD_LEN_MAX + STRIPE_LEN_MAX;
/// What stands before the part head in a part message, in bytes.
pub const PART_PREFIX_LEN: usize = 16;
/// Most data and parity parts of one stripe together.
pub const CODE_PARTS_MAX: usize = 255;
/// Fixed part of a part header, in bytes.
pub const PART_HEADER_LEN: usize = 192;
/// A part header with its extensions (key and tags), in bytes.
pub const PART_HEAD_LEN_MAX: usize = PART_HEADER_LEN + KEY_LEN_MAX + TAGS_LEN_MAX + 2 * 4;
/// All tags of one object, encoded, in bytes.
pub const TAGS_LEN_MAX: usize = 512;
/// Fixed frame header, in bytes.
pub const FRAME_HEADER_LEN: usize = 160;
/// Longest deadline a request may ask for, in microseconds (one minute). A tombstone outlives it.
pub const DEADLINE_US_MAX: u32 = 60_000_000;
/// Deadline of a request that a client library sends without being told one, in microseconds.
pub const DEADLINE_US_DEFAULT: u32 = 5_000_000;
/// Body bytes that a sender may have under way on one streamed request before it needs credit.
pub const STREAM_CREDIT_INITIAL_BYTES: u32 = 4 << 20;
/// Unspent credit that one stream may have, in bytes: more is an error of the receiver.
pub const CREDIT_BYTES_MAX: u64 = 1 << 40;
/// Body of a hello, fault or verify request at most, in bytes.
pub const CONTROL_BODY_LEN_MAX: usize = 16 << 10;
/// How far a version may be ahead of a shard's clock, in microseconds.
pub const CLOCK_AHEAD_US_MAX: u64 = 1_000_000;
/// How far clocks of members may drift from each other, in microseconds, before writes are refused.
pub const CLOCK_DRIFT_US_MAX: u64 = 1_000_000;
/// How long a tombstone is kept, in microseconds: beyond the longest deadline and any clock drift.
pub const TOMBSTONE_KEEP_US: u64 = 10 * 60 * 1_000_000;
/// Records that one drop or touch message names at most.
pub const PART_BATCH_MAX: usize = 1024;
/// Longest client name in a hello, in bytes.
pub const CLIENT_NAME_LEN_MAX: usize = 256;
/// Longest credentials in a hello, in bytes.
pub const CREDENTIALS_LEN_MAX: usize = 4096;
/// Longest sentence of an error, in bytes.
pub const ERROR_MESSAGE_LEN_MAX: usize = 512;
/// Parts that one verify request may check, at most.
pub const VERIFY_PARTS_MAX: u32 = 512;
/// Faults that may be active at once.
pub const FAULTS_MAX: usize = 64;
/// Longest life of an injected fault, in milliseconds (ten minutes).
pub const FAULT_DURATION_MS_MAX: u32 = 600_000;

const _: () = {
    assert!(STRIPE_LEN_MAX.is_power_of_two());
    assert!(OBJECT_LEN_MAX.is_multiple_of(STRIPE_LEN_MAX as u64));
    assert!(KEY_LEN_MAX <= u16::MAX as usize);
    assert!(STREAM_CREDIT_INITIAL_BYTES as usize >= 2 * STRIPE_LEN_MAX);
    assert!(TOMBSTONE_KEEP_US > DEADLINE_US_MAX as u64 + CLOCK_AHEAD_US_MAX + CLOCK_DRIFT_US_MAX);
    assert!(BODY_LEN_MAX <= u32::MAX as usize);
    assert!(CREDENTIALS_LEN_MAX + CLIENT_NAME_LEN_MAX < CONTROL_BODY_LEN_MAX);
    assert!(CREDIT_BYTES_MAX >= OBJECT_LEN_MAX + STREAM_CREDIT_INITIAL_BYTES as u64);
};
