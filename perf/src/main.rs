//! Performance runs. See `hedgerow-perf --help`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use hedgerow_perf::{
    bare, bare_server, chaos, compare, control, cores, deadline, figures, hostile, index_memory,
    instructions, limit, origin, report, run, scenarios, turnover,
};

#[derive(Parser)]
#[command(name = "hedgerow-perf", version, about = "Measures Hedgerow, and what it is to be compared with.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What machine and runtime give without Hedgerow
    Bare(bare::Rounds),
    /// One core of the daemon beside the bare server
    Figures(figures::Figures),
    /// What a request costs a daemon of two cores, beside one of one core
    Cores(cores::Cores),
    /// How late a stalled read is answered, beside how late a timer is
    Deadline(deadline::Deadline),
    /// What a million parts cost in memory and at a restart
    IndexMemory(index_memory::IndexMemory),
    /// A CDN's workload through small shards, until they have been filled many times over
    Turnover(turnover::Turnover),
    /// A daemon's counters that are not zero
    Stats {
        /// The daemon
        #[arg(long, default_value = "127.0.0.1:7400")]
        address: std::net::SocketAddr,
    },
    /// How many instructions the hot pieces of a request take, beside what was recorded
    Instructions(instructions::Instructions),
    /// Any load, or a trace, against any server
    Run(run::Run),
    /// Peers beside Hedgerow, in turns, with the same cores, memory and flash
    Compare(compare::Compare),
    /// Tails with a slow, stuck or dead device, little memory, full devices, a cold start; five ways to keep objects
    Scenarios(scenarios::Scenarios),
    /// Real harm to real daemons under load; fails if a promise is broken
    Chaos(chaos::Chaos),
    /// What clients that mean no good cost a daemon in memory, and others in time
    Hostile(hostile::Hostile),
    /// What the machine can do at all: device, socket, copies, codes
    Limit(limit::Limit),
    /// One page of what runs left in a folder
    Report(report::Report),
    /// The origin of a read-through peer
    #[command(hide = true)]
    Origin,
    /// Takes memory
    #[command(hide = true)]
    Hog,
    /// The bare server itself
    #[command(hide = true)]
    BareServe {
        #[arg(long)]
        folder: PathBuf,
        #[arg(long)]
        core: usize,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Bare(rounds) => bare::run(&rounds),
        Command::Figures(options) => figures::run(&options),
        Command::Cores(options) => cores::run(&options),
        Command::Deadline(options) => deadline::run(&options),
        Command::IndexMemory(options) => index_memory::run(&options),
        Command::Turnover(options) => turnover::run(&options),
        Command::Stats { address } => control::print_stats(address),
        Command::Instructions(options) => instructions::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Scenarios(options) => scenarios::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Hostile(options) => hostile::run(&options),
        Command::Hog => chaos::hog::run(),
        Command::Limit(options) => limit::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Origin => origin::serve(),
        Command::BareServe { folder, core } => bare_server::serve(&folder, core),
    }
}
