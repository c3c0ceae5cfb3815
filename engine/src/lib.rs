//! The Hedgerow engine.
//!
//! `codec`, `ring`, `gates`, `coordinator`, `memory` and `slab` are state machines without I/O, clock or
//! randomness of their own; `shell` (feature `shell`) is the only place that knows glommio and puts
//! them together. `sim` (feature `sim`) puts the same machines into a simulated world.

pub mod codec;
pub mod coordinator;
pub mod gates;
pub mod memory;
pub mod mistakes;
pub mod ring;
#[cfg(feature = "shell")]
pub mod shell;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod slab;
