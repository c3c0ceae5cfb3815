//! The simulated world: the real coordinator, ring, slab store, memory tier, codec and frame codec in
//! one thread, under simulated clocks, devices and links, all from one seed.
//!
//! | file | what it does |
//! |---|---|
//! | `plan.rs` | everything that a run does: operations of clients, and faults |
//! | `world.rs` | the queue of events; a run from its plan to its end |
//! | `env.rs` | what all members share: the time, the queue, chance, the ledger of losses |
//! | `member.rs` | a member: its devices and clock, and its process from one start to the next |
//! | `core.rs`, `home.rs` | its process: what the shell does with the machines, in the same order |
//! | `parts.rs` | parts and the stripes that they make |
//! | `shard.rs` | a shard: the store, or its opening, on a device with its faults |
//! | `frames.rs` | what crosses between members, as frames |
//! | `bounds.rs` | what a member may take, and has to give back |
//! | `network.rs` | links between members: frames, lost, late, twice, cut off |
//! | `clock.rs` | the clocks of a member |
//! | `bytes.rs` | bodies that say which write they are of |
//! | `facts.rs` | what the judge may know of the world beside the answers |
//! | `trace.rs` | a line for each event, and the hash of all of them |
//! | `judge.rs` | whether the answers are right |
//! | `coverage.rs` | which faults and rare states there were |
//! | `shrink.rs` | the shortest plan that still fails |
//! | `runs.rs` | many seeds |

mod bounds;
pub mod bytes;
mod clock;
mod core;
pub mod coverage;
mod env;
pub mod facts;
mod frames;
mod home;
pub mod judge;
mod member;
mod network;
mod parts;
pub mod plan;
pub mod runs;
mod shard;
pub mod shrink;
pub mod trace;
pub mod world;

#[cfg(test)]
mod tests;
