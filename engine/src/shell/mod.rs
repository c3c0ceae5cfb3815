//! The shell: the only place that knows glommio, sockets, files and clocks. Puts the state machines
//! of the other rooms together.
//!
//! Where to look first: [`connection`] (socket to request), [`request`] and [`put`] (request to
//! calls), [`home`] (call to coordinator), [`core`] (coordinator to shards), [`shard`] (shard to
//! device). [`daemon`] starts and stops it all.

pub mod buffers;
pub mod clock;
pub mod connection;
pub mod control;
pub mod core;
pub mod daemon;
pub mod device;
pub mod faults;
pub mod home;
pub mod identity;
pub mod limits;
pub mod mailbox;
pub mod member;
pub mod oneshot;
pub mod put;
pub mod request;
pub mod settings;
pub mod shard;
pub mod stats;
pub mod verify;
