//! What hostile bytes may not do: a function for each place where bytes come in from outside.
//!
//! Each takes any bytes and panics if a promise is broken: what is decoded is encoded to the same bytes, what is
//! opened works, and nothing overflows, runs on without end, or reaches beyond its input. `tests/` runs them over
//! the corpus and mutations of it, and counts what they allocate; `libfuzzer/` hands them to libFuzzer.
//!
//! A checksum keeps random bytes from nearly everything behind it, and keeps no attacker from anything. So bytes are
//! tried as they are, and once more with every checksum made right ([`reseal`]).

mod bodies;
mod device;
mod disk;
mod frames;
mod parts;
mod requests;
mod reseal;
pub mod seeds;
mod settings;
mod snapshot;
mod traces;
mod world;

pub use bodies::bodies;
pub use device::device;
pub use frames::frames;
pub use parts::{part_heads, part_messages};
pub use requests::requests;
pub use settings::settings;
pub use snapshot::snapshot;
pub use traces::{pairs, trace};

/// A function that takes hostile bytes, and what it may allocate.
pub struct Target {
    /// Its name, which its corpus has too.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Bytes that it may have allocated at a time, whatever the input.
    pub fixed_bytes_max: usize,
    /// And so many more for each byte of the input.
    pub bytes_per_byte_max: usize,
}

/// Every target.
#[rustfmt::skip]
pub const TARGETS: [Target; 10] = [
    Target { name: "frames", run: frames, fixed_bytes_max: 4 << 10, bytes_per_byte_max: 16 },
    Target { name: "requests", run: requests, fixed_bytes_max: 4 << 10, bytes_per_byte_max: 4 },
    Target { name: "bodies", run: bodies, fixed_bytes_max: 16 << 10, bytes_per_byte_max: 64 },
    Target { name: "part_heads", run: part_heads, fixed_bytes_max: 4 << 10, bytes_per_byte_max: 8 },
    Target { name: "part_messages", run: part_messages, fixed_bytes_max: 4 << 10, bytes_per_byte_max: 8 },
    Target { name: "snapshot", run: snapshot, fixed_bytes_max: 512 << 10, bytes_per_byte_max: 8 },
    Target { name: "device", run: device, fixed_bytes_max: 8 << 20, bytes_per_byte_max: 64 },
    Target { name: "settings", run: settings, fixed_bytes_max: 64 << 10, bytes_per_byte_max: 64 },
    Target { name: "trace", run: trace, fixed_bytes_max: 64 << 10, bytes_per_byte_max: 64 },
    Target { name: "pairs", run: pairs, fixed_bytes_max: 64 << 10, bytes_per_byte_max: 64 },
];
