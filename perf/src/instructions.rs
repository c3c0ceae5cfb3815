//! `hedgerow-perf instructions`: how many instructions each hot piece of a request takes, beside what was
//! recorded. Counted by valgrind's callgrind, so that it needs no quiet machine: what else runs changes nothing.
//! Instructions are no time, but a piece that grows by a tenth has a reason that somebody should know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::hot::PIECES;

/// Which pieces, and what to compare with.
#[derive(Clone, Debug, clap::Args)]
pub struct Instructions {
    /// Only pieces with this in their names
    #[arg(long, default_value = "")]
    piece: String,
    /// The recorded counts
    #[arg(long, default_value = "perf/instructions.txt")]
    recorded: PathBuf,
    /// Record what is counted instead of comparing
    #[arg(long)]
    record: bool,
    /// How much more than recorded is let pass, in percent
    #[arg(long, default_value_t = 15.0)]
    tolerance: f64,
    /// Do one piece so many times, for valgrind
    #[arg(long, hide = true)]
    times: Option<u64>,
}

/// A piece is done so often in one run and so often in another: the difference is free of what a run does
/// before and after.
const TIMES: [u64; 2] = [200, 1200];

/// Runs all of it.
pub fn run(options: &Instructions) -> Result<()> {
    if let Some(times) = options.times {
        // This is the run under valgrind, of one piece by its whole name.
        PIECES.iter().filter(|(name, _)| *name == options.piece).for_each(|(_, piece)| piece(times));
        return Ok(());
    }
    let pieces: Vec<_> = PIECES.iter().filter(|(name, _)| name.contains(&options.piece)).collect();
    ensure!(
        !pieces.is_empty(),
        "no piece has '{}' in its name: {:?}",
        options.piece,
        PIECES.map(|(name, _)| name)
    );
    let recorded = if options.record { BTreeMap::new() } else { read(&options.recorded)? };
    let mut counted = BTreeMap::new();
    let mut grown = Vec::new();
    println!("| piece | instructions | recorded | difference |");
    println!("|---|--:|--:|--:|");
    for (name, _) in pieces {
        let instructions = count(name)?;
        counted.insert((*name).to_owned(), instructions);
        let Some(&before) = recorded.get(*name) else {
            println!("| {name} | {instructions} | | |");
            if !options.record {
                grown.push(format!("{name} is not recorded"));
            }
            continue;
        };
        let difference = 100.0 * (instructions as f64 / before as f64 - 1.0);
        println!("| {name} | {instructions} | {before} | {difference:+.1} % |");
        if difference > options.tolerance {
            grown.push(format!("{name} takes {difference:.1} % more instructions than recorded"));
        }
    }
    if options.record {
        let lines: String = counted.iter().map(|(name, count)| format!("{count}\t{name}\n")).collect();
        return std::fs::write(&options.recorded, lines)
            .with_context(|| format!("writing {}", options.recorded.display()));
    }
    if !grown.is_empty() {
        bail!("{}; if that is worth it, record it: hedgerow-perf instructions --record", grown.join("; "));
    }
    Ok(())
}

fn read(path: &Path) -> Result<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line = |line: &str| {
        let (count, name) = line.split_once('\t').context("a line is a count, a tab and a name")?;
        Ok((name.to_owned(), count.parse()?))
    };
    text.lines().map(line).collect::<Result<_>>().with_context(|| format!("reading {}", path.display()))
}

/// Instructions of one piece done once.
fn count(name: &str) -> Result<u64> {
    let [few, many] = [total(name, TIMES[0])?, total(name, TIMES[1])?];
    Ok(many.saturating_sub(few) / (TIMES[1] - TIMES[0]))
}

/// Instructions of a whole run that does the piece so many times.
fn total(name: &str, times: u64) -> Result<u64> {
    let own = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["instructions", "--piece", name, "--times", &times.to_string()])
        .output()
        .context("starting valgrind: is it installed? (apt-get install valgrind)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed under valgrind: {text}");
    let collected =
        text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    let Some(Ok(count)) = collected.map(str::parse) else {
        bail!("valgrind says no count of {name}: {text}")
    };
    Ok(count)
}
