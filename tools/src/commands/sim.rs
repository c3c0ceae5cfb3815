//! `sim`: runs the simulated world, from one seed or from many.

mod many;
#[cfg(feature = "mistakes")]
mod plant;
mod story;

use std::time::Duration;

use clap::Args;
use hedgerow_engine::sim::plan::Plan;
use hedgerow_engine::sim::runs;

use crate::context::Context;
use crate::failure::Failure;
use many::Many;
use story::Story;

/// Seeds of a run of many, unless they are given.
const SEEDS_DEFAULT: &str = "0..1000";

/// Run the whole cache in a simulated world, and judge every answer.
#[derive(Args, Debug)]
pub struct Sim {
    /// Run this seed once, and tell what happened
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "minutes", "jobs"])]
    seed: Option<u64>,
    /// Run these seeds, until one fails; the second number is not run
    #[arg(long, value_name = "FROM..TO", value_parser = parse_seeds, default_value = SEEDS_DEFAULT)]
    seeds: (u64, u64),
    /// Run seeds from the first one on for so long, whatever the second one is
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Worlds at a time [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Go on after a seed that fails; the first one is told at the end
    #[arg(long)]
    keep_going: bool,
    /// Plant this mistake, or 'all' one after the other, and run seeds until it is found
    #[cfg(feature = "mistakes")]
    #[arg(long, value_name = "NAME")]
    plant: Option<String>,
    /// Lines of the trace to show: of a seed, or of one that fails
    #[arg(long, value_name = "LINES", default_value_t = 40)]
    trace: usize,
    /// Most runs to find the shortest plan that still fails; 0 leaves it as it is
    #[arg(long, value_name = "RUNS", default_value_t = 2_000)]
    shrink: u32,
}

/// Two numbers, `FROM..TO`.
fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let numbers = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match numbers {
        Some((from, to)) if from < to => Ok((from, to)),
        _ => Err(format!("'{text}' is not FROM..TO, such as 0..1000")),
    }
}

impl Sim {
    /// The seeds to run, and how.
    fn many(&self) -> Many {
        let (from, to) = self.seeds;
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        Many {
            seeds: from..if self.minutes.is_some() { u64::MAX } else { to },
            time: self.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            jobs: self.jobs.map_or_else(processors, usize::from),
            keep_going: self.keep_going,
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, sim: &Sim) -> Result<(), Failure> {
    runs::keep_panics_quiet();
    #[cfg(feature = "mistakes")]
    if let Some(name) = &sim.plant {
        return run_planted(context, sim, name);
    }
    if let Some(seed) = sim.seed {
        let plan = Plan::draw(seed);
        let outcome = runs::run(&plan);
        return tell(context, &Story::new(plan, outcome, sim.trace));
    }
    let ran = sim.many().run(runs::run);
    context.show(&ran)?;
    match ran.failed.first() {
        Some((seed, violation)) => tell(context, &Story::shrunk(*seed, violation, sim.shrink, sim.trace)),
        None => Ok(()),
    }
}

#[cfg(feature = "mistakes")]
fn run_planted(context: &Context, sim: &Sim, name: &str) -> Result<(), Failure> {
    let mistakes = plant::named(name).map_err(Failure::Usage)?;
    let planted = plant::hunt(&mistakes, &sim.many());
    context.show(&planted)?;
    match &planted.missed()[..] {
        [] => Ok(()),
        missed => Err(Failure::No(format!("not found: {missed:?}"))),
    }
}

fn tell(context: &Context, story: &Story) -> Result<(), Failure> {
    context.show(story)?;
    match story.failed() {
        Some(wrong) => Err(Failure::No(format!("seed {}: {wrong}", story.seed()))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_two_numbers_in_order() {
        assert_eq!(parse_seeds("3..17"), Ok((3, 17)));
        for wrong in ["", "3", "3..", "..3", "3..3", "4..3", "a..b", "3-4"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }
}
