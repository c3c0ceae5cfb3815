//! `demo`: shows what slow and damaged devices do to reads.

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::demo::{self, Plan};
use crate::failure::Failure;
use crate::text;

/// Show, with daemons of its own, what slow and damaged devices do to reads.
///
/// Starts three daemons one after the other: 4+2 with hedged reads, 4+2 asking for all parts at once,
/// and whole copies without coding. Each stores the same objects and serves the same reads, first with
/// healthy devices, then with one that is slow and one that gives wrong bytes. Needs 1.5 GiB of disk
/// for the time of the demonstration, and removes all that it wrote.
#[derive(Args, Debug)]
pub struct Demo {
    /// Length of each of the six runs of reads, in seconds
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=240))]
    seconds: u32,
    /// Reads a second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Objects to store, of 33 KB on average
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    objects: u32,
    /// Share of the damaged shard's reads that give wrong bytes
    #[arg(long, value_name = "PERCENT", default_value = "100%", value_parser = text::parse_share)]
    damage: u32,
    /// Where to put the daemons' files for the time being [default: TMPDIR, or /var/tmp]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Runs and shows it.
pub async fn run(context: &Context, demo: Demo) -> Result<(), Failure> {
    let plan = Plan {
        seconds: demo.seconds,
        rate: demo.rate,
        objects: demo.objects,
        damage_ppm: demo.damage,
        folder: demo.folder,
    };
    let report = demo::run(&plan).await?;
    context.show(&report)?;
    match report.wrong_bytes() {
        0 => Ok(()),
        wrong => Err(Failure::No(format!("demo: {} came back wrong", text::counted(wrong, "byte")))),
    }
}
