//! Rules of the coordinator, each with a test that fails without it.

mod batches;
mod bounds;
mod hedging;
mod model;
mod reads;
mod repairs;
mod targets;
mod versions;
mod writes;
