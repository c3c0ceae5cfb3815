//! Performance runs. See `hedgerow-perf --help`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use hedgerow_perf::{bare, bare_server, command, deadline, figures};

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
    /// How late a stalled read is answered, beside how late a timer is
    Deadline(deadline::Deadline),
    /// Any load against any daemon
    Load(command::Load),
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
        Command::Deadline(options) => deadline::run(&options),
        Command::Load(options) => command::run(&options),
        Command::BareServe { folder, core } => bare_server::serve(&folder, core),
    }
}
