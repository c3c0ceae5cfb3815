//! The demonstration: daemons of its own, a real workload, healthy and then faulty devices.
//!
//! Owns: the daemons that it starts and their folder; both are gone when it ends, however it ends.

mod cdn;
mod daemon;
mod load;
mod plot;
mod report;
mod systems;
mod workload;

pub use systems::{Plan, run};
