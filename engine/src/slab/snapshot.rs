//! The index of a shard as bytes.
