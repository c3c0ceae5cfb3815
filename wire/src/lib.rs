//! The Hedgerow protocol: what clients say to a daemon, what members say to each other, and what a
//! coordinator asks of a shard, in one set of types.
//!
//! Owns: byte layouts of frames and part headers, the messages, their limits. Never: a socket, a
//! file, a clock, a runtime.

pub mod checksum;
pub mod decoder;
pub mod encoder;
pub mod frame;
// Written by `schema/generate.sh`; the plain types of `messages` stand in front of it.
#[rustfmt::skip]
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
mod generated;
pub mod limits;
pub mod messages;
pub mod part;
pub mod part_message;
pub mod request;
pub mod stream;
pub mod time;
pub mod types;

pub use types::*;
