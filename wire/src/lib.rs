//! The Hedgerow protocol: what clients say to a daemon, what members say to each other, and what a
//! coordinator asks of a shard, in one set of types.
//!
//! Owns: byte layouts of frames and part headers, the messages, their limits. Never: a socket, a
//! file, a clock, a runtime.

pub mod checksum;
pub mod decoder;
pub mod encoder;
pub mod frame;
pub mod limits;
pub mod part;
pub mod time;
pub mod types;

pub use types::*;
