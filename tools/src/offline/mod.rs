//! Slab files, read without a daemon.
//!
//! Everything is read through a map of the file; nothing is ever written. What is damaged is named and
//! passed over. The layouts are those of [`hedgerow_engine::slab::layout`]; what they mean is written
//! down in `docs/format.md`.

mod device;
mod scan;
mod shard;
mod slab;
#[cfg(test)]
mod tests;

pub use device::Device;
pub use shard::Shard;
pub use slab::{Depth, Part, Slab, SlabState};
