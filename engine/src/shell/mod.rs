//! The shell: the only place that knows glommio, sockets, files and clocks. Puts the state machines
//! of the other rooms together.
//!
//! Where to look first: `incoming` (socket to request), `request` and `put` (request to calls),
//! `home` (call to coordinator), `core` (coordinator to shards), `shard` (shard to device). [`daemon`]
//! starts and stops it all.

mod admission;
mod asks;
mod bodies;
mod buffers;
mod calls;
mod clock;
mod connection;
mod control;
mod core;
pub mod daemon;
mod device;
mod faults;
mod home;
mod identity;
mod incoming;
pub mod limits;
pub mod mailbox;
mod member;
mod memory_gets;
mod message;
mod oneshot;
mod opening;
mod outgoing;
mod permits;
mod put;
mod put_body;
mod request;
pub mod rings;
mod serving;
pub mod settings;
mod shapes;
mod shard;
mod shard_count;
mod sizing;
mod stages;
mod stats;
mod turns;
mod verify;
mod write_through;
