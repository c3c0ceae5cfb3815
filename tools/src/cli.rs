//! The command line: what all commands share, and their list. Each command's own options stand with
//! the command.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{del, demo, fault, get, inspect, load, ping, put, sim, stat, stats, verify};
use crate::failure::EXIT_CODES;
use crate::text;

/// The tool of the Hedgerow erasure-coded object cache.
#[derive(Parser, Debug)]
#[command(
    name = "hedgerow",
    version,
    about = "The tool of the Hedgerow erasure-coded object cache.",
    after_help = EXIT_CODES,
    max_term_width = 110,
    propagate_version = true
)]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// The daemon: HOST, HOST:PORT or unix:PATH
    #[arg(
        long,
        global = true,
        env = "HEDGEROW_SERVER",
        hide_env_values = true,
        value_name = "ADDR",
        default_value = "127.0.0.1:7400"
    )]
    pub server: String,
    /// Write facts as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Time that a request gets, up to 1m [default: 5s; 1m for put, get, load and verify]
    #[arg(long, global = true, value_name = "DURATION", value_parser = text::parse_duration)]
    pub deadline: Option<Duration>,
    /// Number of the namespace
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub namespace: u32,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Store a file, or standard input, under a key
    Put(put::Put),
    /// Read an object to standard output or a file
    Get(get::Get),
    /// Delete an object; it is no error if there is none
    Del(del::Del),
    /// Show what is known of an object, down to where each part lies
    Stat(stat::Stat),
    /// Store all files of a folder
    Load(load::Load),
    /// Show a daemon's counters, latencies and shards
    Stats(stats::Stats),
    /// Inject, list or end faults (of a daemon that was started with --allow-faults)
    #[command(subcommand)]
    Fault(fault::Fault),
    /// Ask a daemon for an answer
    Ping(ping::Ping),
    /// Show what a slab file holds, without a daemon
    Inspect(inspect::Inspect),
    /// Check every stored part, of a running daemon or of slab files
    Verify(verify::Verify),
    /// Show, with daemons of its own, what slow and damaged devices do to reads
    Demo(demo::Demo),
    /// Run the whole cache in a simulated world, and judge every answer
    Sim(sim::Sim),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
