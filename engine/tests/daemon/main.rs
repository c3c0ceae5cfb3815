//! The daemon as its users see it: real processes, real sockets, real files, real signals.
//!
//! Every test has daemons of its own on folders of its own, so that all of them may run at once; how
//! many daemons there are at a time is bounded (see [`harness`]). Nothing waits for a length of time:
//! what is waited for is polled, with a bound that only a hang reaches.
//!
//! What is random is drawn from a seed that is printed; `HEDGEROW_SEED=<number>` gives it again.
//! With `HEDGEROW_KEEP` set, the folders of the daemons stay (in the target folder's `tmp`).
#![allow(clippy::disallowed_methods)] // processes live in real time
#![allow(clippy::unwrap_used)] // what fails here fails the test
#![allow(clippy::print_stdout)] // seeds and counts are for whoever reads the test's output

mod answers;
mod bad_input;
mod batches;
mod bodies;
mod broken_puts;
mod codes;
mod conditions;
mod connections;
mod content;
mod crash;
mod damage;
mod deadlines;
mod eviction;
mod exchanged;
mod faults;
mod harness;
mod parts;
mod raw;
mod replaced;
mod semantics;
mod service;
mod settings;
mod sizes;
mod startup;
mod stat;
mod stop;
mod stuck;
mod versions;
mod write_through;
