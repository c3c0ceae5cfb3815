//! Many seeds, on several threads, until one fails or the time is up.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hedgerow_engine::sim::judge::Violation;
use hedgerow_engine::sim::plan::Plan;
use hedgerow_engine::sim::runs::{Outcome, Sum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::context::Facts;
use crate::text;

/// What is to be run.
pub struct Many {
    /// The seeds.
    pub seeds: Range<u64>,
    /// For so long at most.
    pub time: Option<Duration>,
    /// Threads.
    pub jobs: usize,
    /// Whether a failure ends it.
    pub keep_going: bool,
}

/// What many runs came to.
pub struct Ran {
    /// The sum of those that were right.
    sum: Sum,
    /// How long it took.
    pub took: Duration,
    /// The seeds that failed, in order, and how.
    pub failed: Vec<(u64, Violation)>,
}

impl Many {
    /// Runs every seed with `run`.
    #[allow(clippy::disallowed_methods)] // it measures
    pub fn run(&self, run: impl Fn(&Plan) -> Outcome + Sync) -> Ran {
        let start = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let over = AtomicBool::new(false);
        let shared = Mutex::new(Ran { sum: Sum::default(), took: Duration::ZERO, failed: Vec::new() });
        let bar = self.progress_bar();
        let work = || {
            while !over.load(Ordering::Relaxed) && self.time.is_none_or(|time| start.elapsed() < time) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    break;
                }
                let outcome = run(&Plan::draw(seed));
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.take(seed, outcome);
                over.store(!self.keep_going && !shared.failed.is_empty(), Ordering::Relaxed);
                bar.set_position(match self.time {
                    Some(_) => start.elapsed().as_secs(),
                    None => shared.sum.runs,
                });
                bar.set_message(text::counted(shared.sum.runs, "world"));
            }
        };
        std::thread::scope(|scope| (0..self.jobs).for_each(|_| drop(scope.spawn(work))));
        bar.finish_and_clear();
        let mut ran = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        ran.took = start.elapsed();
        ran.failed.sort_by_key(|&(seed, _)| seed);
        ran
    }

    /// Of seeds, or of seconds.
    fn progress_bar(&self) -> ProgressBar {
        let (len, template) = match self.time {
            Some(time) => (time.as_secs(), "{bar:30} {msg}, {eta} left"),
            None => (self.seeds.end - self.seeds.start, "{bar:30} {msg} of {human_len}, {eta} left"),
        };
        let bar = ProgressBar::new(len);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}

impl Ran {
    fn take(&mut self, seed: u64, outcome: Outcome) {
        match (outcome.violation, outcome.report) {
            (Some(violation), _) => self.failed.push((seed, violation)),
            (None, Some(report)) => self.sum.add(&report),
            (None, None) => {}
        }
    }

    fn per_second(&self, count: u64) -> u64 {
        (count as f64 / self.took.as_secs_f64().max(1e-9)) as u64
    }

    /// What there was, and how much of it.
    fn amounts(&self) -> [(&'static str, u64); 4] {
        [
            ("client operations", self.sum.ops),
            ("part requests", self.sum.part_requests),
            ("device operations", self.sum.device_ops),
            ("packets", self.sum.packets),
        ]
    }
}

impl Facts for Ran {
    fn json(&self) -> Value {
        let named = |(name, count): (&str, u64)| (name.to_owned(), json!(count));
        let failed = self.failed.iter().map(|(seed, violation)| {
            json!({ "seed": seed, "wrong": violation.wrong.to_string(), "what": violation.what })
        });
        json!({
            "worlds": self.sum.runs,
            "amounts": self.amounts().into_iter().map(named).collect::<Map<_, _>>(),
            "simulated_seconds": self.sum.simulated_ns as f64 / 1e9,
            "seconds": self.took.as_secs_f64(),
            "met": self.sum.coverage.counts().map(named).collect::<Map<_, _>>(),
            "never_met": self.sum.coverage.missing(),
            "failed": failed.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let sum = &self.sum;
        let mut out = format!(
            "{} right, {} of simulated time in {}\n",
            text::counted(sum.runs, "world"),
            text::duration(Duration::from_nanos(sum.simulated_ns)),
            text::duration(self.took),
        );
        for (name, count) in self.amounts() {
            let (total, rate) = (text::count(count), text::count(self.per_second(count)));
            out.push_str(&format!("  {name:28} {total:>14}  {rate:>12}/s\n"));
        }
        for (name, count) in sum.coverage.counts().filter(|&(_, count)| count > 0) {
            out.push_str(&format!("  {name:28} {:>14}\n", text::count(count)));
        }
        match &sum.coverage.missing()[..] {
            [] => out.push_str("every kind of fault and every rare state was met\n"),
            missing => out.push_str(&format!("incomplete: never met: {}\n", missing.join(", "))),
        }
        for (seed, violation) in &self.failed {
            out.push_str(&format!("seed {seed}: {violation}\n"));
        }
        out
    }
}
