//! Performance runs. See `hedgerow-perf --help`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use hedgerow_perf::{bare, bare_server};

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
        Command::BareServe { folder, core } => bare_server::serve(&folder, core),
    }
}
