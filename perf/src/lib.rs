//! Performance runs. The binary is `hedgerow-perf`; its subcommands are modules of the same name.
//!
//! | for | modules |
//! |---|---|
//! | load on any server | `run`, with `workload`, `trace`; what it leaves: `record`, `report` |
//! | peers in turns | `compare`, with `peer` (how each is started), `process` (cores, memory), `origin` |
//! | whether promises hold | `chaos`: real harm, and every answer judged |
//! | what clients cost that mean no good | `hostile` |
//! | what faults do to the tail | `scenarios`, with the faults' schedule and the systems as tables |
//! | what the machine can do | `limit`; with the runtime of the daemon: `bare`, `bare_server` |
//! | measurements of `docs/numbers.md` | `figures`, `cores`, `deadline`, `index_memory`, `turnover` |
//!
//! Below them is one load generator: `sources` says what is asked for, `load` when, `connection` sends it
//! through a `driver` of the server's protocol, and `pattern` makes and checks every object's bytes.
#![allow(clippy::print_stdout)] // the results of a run go to standard output

pub mod bare;
pub mod bare_server;
pub mod chaos;
pub mod clock;
pub mod compare;
pub mod connection;
pub mod control;
pub mod cores;
pub mod deadline;
pub mod driver;
pub mod figures;
pub mod hostile;
pub mod hot;
pub mod index_memory;
pub mod instructions;
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
pub mod scenarios;
pub mod server;
pub mod sources;
pub mod timer;
pub mod trace;
pub mod turnover;
pub mod workload;
