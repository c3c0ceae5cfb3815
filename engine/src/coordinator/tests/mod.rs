//! Rules of the coordinator, each with a test that fails without it.

mod absence;
mod batches;
mod bounds;
mod damage;
mod hedging;
mod model;
mod reads;
mod repairs;
mod slow;
mod targets;
mod versions;
mod writes;
