//! Every bound of the shell, by name. Relations between them are asserted here.

use std::time::Duration;

use hedgerow_wire::limits::{
    BODY_LEN_MAX, CONTROL_BODY_LEN_MAX, STREAM_CREDIT_INITIAL_BYTES, STRIPE_LEN_MAX,
};

use crate::slab::layout::SLAB_LEN_DEFAULT;

/// Requests that one connection may have under way; past it the connection is not read from.
pub const CONNECTION_REQUESTS_MAX: usize = 1024;
/// Objects and stripes that are fetched for one connection at a time; others wait their turn. One that
/// waits for its client's credit has none.
pub const CONNECTION_GETS_MAX: usize = 32;
/// Requests that one core's connections may have under way, for each priority: less important ones are
/// refused first.
pub const CORE_REQUESTS_MAX: usize = 8192;
/// Of these, what requests of normal priority may fill.
pub const CORE_REQUESTS_NORMAL_MAX: usize = CORE_REQUESTS_MAX / 8 * 7;
/// Of these, what requests of low priority may fill.
pub const CORE_REQUESTS_LOW_MAX: usize = CORE_REQUESTS_MAX / 2;
/// Bytes that one connection may have waiting to be sent; past it the connection is not read from.
pub const CONNECTION_OUT_BYTES_MAX: usize = 4 << 20;
/// Bytes that all connections of a core may have waiting; past it, a connection that has answers waiting gets no more;
/// and one whose socket takes none of them is refused its requests.
pub const CORE_OUT_BYTES_MAX: usize = 256 << 20;
/// Past this, the connections are closed that have had answers waiting for the longest: slow readers, however many,
/// are in nobody's way.
pub const CORE_OUT_BYTES_HARD_MAX: usize = 2 * CORE_OUT_BYTES_MAX;
/// Connections of one daemon; past it new ones are closed at once.
pub const CONNECTIONS_MAX: usize = 16_384;
/// A core's one receive buffer, in bytes.
pub const RECEIVE_BYTES: usize = 256 << 10;
/// Slices handed to the socket in one call.
pub const IOV_MAX: usize = 64;
/// Bytes gathered for one call, unless a single frame is larger.
pub const SEND_BYTES_MAX: usize = 1 << 20;
/// Memory that the bodies of one core's requests may take, from their first byte until they are written:
/// stripes of puts, parts that other members write. Past it they are refused.
pub const BODY_BYTES_MAX: usize = 256 << 20;
/// The same for everything else that has a body: what an overloaded daemon is asked still passes.
pub const BODY_BYTES_CONTROL_MAX: usize = BODY_BYTES_MAX + (16 << 20);
/// Memory for the first bytes of a body that is longer.
pub const BODY_BUFFER_BYTES_MIN: usize = 4 << 10;
/// How much memory is taken for a body, as a multiple of what has come of it (rounded up to a power of two).
pub const BODY_BUFFER_GROWTH: usize = 4;
/// What a body may take before the pace counts at which it comes.
pub const BODY_GRACE: Duration = Duration::from_millis(250);
/// Bytes that have to come of a body in each second since its first one; it may lose its memory otherwise, when
/// others need it.
pub const BODY_PACE_BYTES_PER_S: u64 = 1 << 20;
/// How long nobody looks for bodies that come too slowly when there were too few.
pub const BODY_LOOK_PAUSE: Duration = Duration::from_millis(10);
/// From so many bytes of a stripe on, and with so many of the frame's body left, what follows is
/// received straight into its place.
pub const BODY_ROOM_BYTES_MIN: usize = 16 << 10;
/// Stripes of one put that are written at a time, and of one get that are read ahead.
pub const STREAM_STRIPES_AHEAD: usize = 4;
/// Parts that a stat asks each target for at a time.
pub const STAT_ASKS_PER_TARGET: usize = 4;
/// Messages in the channel between two cores.
pub const MAILBOX_MESSAGES: usize = 4096;
/// How long a frame may stay unfinished, and a connection without a hello.
pub const UNFINISHED_MAX: Duration = Duration::from_secs(20);
/// Connections that the system keeps until they are taken. When it has more, it lets their clients try
/// again a second later.
pub const LISTEN_BACKLOG: i32 = 4096;
/// How long a device operation may be under way before its shard is set aside, unless told otherwise.
pub const DEVICE_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter would take a device at work for one that is stuck.
pub const DEVICE_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// How long after its start a daemon begins to write new files through, and how long it leaves a shard that
/// is too busy for that alone.
pub const WRITE_THROUGH_AFTER: Duration = Duration::from_secs(2);
/// Bytes written through at a time.
pub const WRITE_THROUGH_CHUNK_BYTES: usize = 1 << 20;
/// Pause after each, on each shard: about 16 MiB a second.
pub const WRITE_THROUGH_PAUSE: Duration = Duration::from_millis(60);
/// How often in a row a shard is found busy before it has the slab back that was to be written through.
pub const WRITE_THROUGH_BUSY_MAX: u32 = 16;
/// How often a core looks after its connections and the end of the process.
pub const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How often each of the timers of [`super::turns::stay_awake`] wakes a core that has something to do;
/// different ones, so that they do not fall together.
pub const WATCH_PERIODS: [Duration; 3] =
    [Duration::from_micros(1000), Duration::from_micros(1300), Duration::from_micros(1700)];
/// Reads of one shard that the kernel has at a time; the others wait here. A device that is a file has one queue for
/// all of its users, and a core that hands it more than fits (256 here) waits in the system call, past every deadline.
pub const DEVICE_READS_MAX: usize = 32;
/// How long a core that has nothing to do any more looks for something before it sleeps.
pub const SPIN: Duration = Duration::from_micros(200);
/// How long a turn takes: too short for anything but the way through the runtime; no time at all would be over at
/// once.
pub const TURN: Duration = Duration::from_micros(1);
/// How long the runtime spins by itself: a little longer than a turn.
pub const SPIN_RUNTIME: Duration = Duration::from_micros(5);
/// Memory of a core for what its devices read and write, in large pages if the system has any. What is beyond comes
/// from the heap.
pub const DEVICE_BUFFER_BYTES: usize = 64 << 20;
/// The same of a core without devices.
pub const DEVICE_BUFFER_BYTES_MIN: usize = 1 << 20;
/// What a connection is received from in a row, before the core's devices and other connections are
/// looked at.
pub const RECEIVES_IN_A_ROW_MAX: u32 = 4;
/// Messages taken from another core in a row, likewise.
pub const MESSAGES_IN_A_ROW_MAX: u32 = 64;
/// How long a stopping daemon waits for requests under way.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);

const _: () = {
    assert!(CONNECTION_OUT_BYTES_MAX >= 2 * BODY_LEN_MAX);
    assert!(STREAM_STRIPES_AHEAD * STRIPE_LEN_MAX >= STREAM_CREDIT_INITIAL_BYTES as usize);
    assert!(BODY_BYTES_MAX >= 16 * STRIPE_LEN_MAX);
    assert!(CORE_REQUESTS_MAX * BODY_BUFFER_BYTES_MIN <= BODY_BYTES_MAX);
    assert!(BODY_BYTES_CONTROL_MAX - BODY_BYTES_MAX >= 64 * CONTROL_BODY_LEN_MAX);
    // One growth takes what a full receive buffer has brought to a whole stripe.
    assert!(RECEIVE_BYTES * BODY_BUFFER_GROWTH >= STRIPE_LEN_MAX);
    assert!(IOV_MAX >= 16);
    assert!((SLAB_LEN_DEFAULT as usize).is_multiple_of(WRITE_THROUGH_CHUNK_BYTES));
    assert!(HOUSEKEEPING.as_millis() * 10 <= DEVICE_TIMEOUT_MIN.as_millis());
    assert!(CORE_REQUESTS_LOW_MAX < CORE_REQUESTS_NORMAL_MAX && CORE_REQUESTS_NORMAL_MAX < CORE_REQUESTS_MAX);
    assert!(CONNECTION_REQUESTS_MAX < CORE_REQUESTS_LOW_MAX);
};
