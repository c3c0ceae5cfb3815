//! One shard's store of parts on a device or file.

pub mod index;
pub mod snapshot;
