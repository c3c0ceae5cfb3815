//! Every bound of the client, by name. Relations between them are asserted here.

use std::time::Duration;

use hedgerow_wire::limits::{
    DEADLINE_US_DEFAULT, DEADLINE_US_MAX, STREAM_CREDIT_INITIAL_BYTES, STRIPE_LEN_MAX,
};

/// Deadline of a request that names none.
pub const DEADLINE_DEFAULT: Duration = Duration::from_micros(DEADLINE_US_DEFAULT as u64);
/// Longest deadline that a request may name.
pub const DEADLINE_MAX: Duration = Duration::from_micros(DEADLINE_US_MAX as u64);
/// Requests of one client that may be under way, unless it is built with another number.
pub const IN_FLIGHT_MAX_DEFAULT: usize = 4096;
/// Connections to each daemon, unless the client is built with another number.
pub const CONNECTIONS_DEFAULT: usize = 1;
/// Connections to each daemon at most.
pub const CONNECTIONS_MAX: usize = 64;
/// Time for a connection and its hello.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause between two attempts to connect; it doubles with each that fails.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two attempts to connect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Silence after which a connection is probed; as much again, and it is given up.
pub const KEEPALIVE_DEFAULT: Duration = Duration::from_secs(5);

/// Frames in one vectored write at most.
pub(crate) const BATCH_FRAMES_MAX: usize = 64;
/// Body bytes after which a vectored write takes no further frame: so much can stand between a small
/// request and the socket, and so much is doubtful when a connection breaks.
pub(crate) const BATCH_BODY_BYTES: usize = 256 << 10;
/// Bodies up to this length are copied behind their header; longer ones are slices of their own.
pub(crate) const INLINE_BODY_LEN_MAX: usize = 2 << 10;
/// Requests with bodies from this length on wait in the lane that lets small requests pass.
pub(crate) const BULK_BODY_LEN_MIN: usize = 32 << 10;
/// Bytes that are read from the socket at once, unless straight into a body.
pub(crate) const READ_BUFFER_LEN: usize = 64 << 10;
/// From this many missing bytes on, a body is received straight into its own buffer.
pub(crate) const DIRECT_BODY_LEN_MIN: usize = 8 << 10;
/// Entries of cancelled requests that a lane may hold before it is swept.
pub(crate) const STALE_ENTRIES_MAX: usize = 1024;
/// Share of a stream's initial credit that is consumed before it is granted again.
pub(crate) const CREDIT_GRANT_DIVISOR: u32 = 4;

const _: () = {
    assert!(INLINE_BODY_LEN_MAX < BULK_BODY_LEN_MIN);
    assert!(BULK_BODY_LEN_MIN <= BATCH_BODY_BYTES && BATCH_BODY_BYTES <= STRIPE_LEN_MAX);
    assert!(DIRECT_BODY_LEN_MIN <= READ_BUFFER_LEN);
    assert!(STREAM_CREDIT_INITIAL_BYTES / CREDIT_GRANT_DIVISOR >= STRIPE_LEN_MAX as u32);
    assert!(BACKOFF_MIN.as_nanos() < BACKOFF_MAX.as_nanos());
    assert!(DEADLINE_US_DEFAULT <= DEADLINE_US_MAX);
};
