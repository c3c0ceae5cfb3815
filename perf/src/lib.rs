//! Performance runs: a load generator that checks every answer, a bare server to compare with, and the
//! measurements of `docs/numbers.md`. The binary is `hedgerow-perf`.
#![allow(clippy::print_stdout)] // the results of a run go to standard output

pub mod bare;
pub mod bare_server;
pub mod clock;
pub mod compare;
pub mod connection;
pub mod control;
pub mod deadline;
pub mod driver;
pub mod figures;
pub mod index_memory;
pub mod limit;
pub mod load;
pub mod machine;
pub mod measure;
pub mod origin;
pub mod pattern;
pub mod peer;
pub mod popularity;
pub mod process;
pub mod record;
pub mod report;
pub mod request;
pub mod run;
pub mod server;
pub mod sources;
pub mod timer;
pub mod trace;
pub mod turnover;
pub mod workload;
