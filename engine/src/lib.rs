//! The Hedgerow engine.
//!
//! `codec`, `ring`, `coordinator` and `slab` are state machines without I/O, clock or randomness of
//! their own; `shell` (feature `shell`) is the only place that knows glommio and puts them together.

pub mod slab;
