//! Many seeds, on several threads, until one fails or the time is up.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hedgerow_engine::sim::judge::Violation;
use hedgerow_engine::sim::plan::Plan;
use hedgerow_engine::sim::runs::{self, Sum};
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
}

/// What many runs came to.
pub struct Result {
    /// The sum of those that were right.
    sum: Sum,
    took: Duration,
    /// The lowest seed that failed, and how.
    pub failed: Option<(u64, Violation)>,
}

impl Many {
    /// Runs them.
    pub fn run(&self) -> Result {
        let start = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let over = AtomicBool::new(false);
        let shared = Mutex::new(Result { sum: Sum::default(), took: Duration::ZERO, failed: None });
        let bar = self.progress_bar();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) && self.time.is_none_or(|time| start.elapsed() < time)
                    {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            break;
                        }
                        let outcome = runs::run(&Plan::draw(seed));
                        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        shared.take(seed, outcome);
                        over.store(shared.failed.is_some(), Ordering::Relaxed);
                        self.show(&bar, &shared.sum, start);
                    }
                });
            }
        });
        bar.finish_and_clear();
        let mut result = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.took = start.elapsed();
        result
    }

    /// Of seeds, or of seconds.
    fn progress_bar(&self) -> ProgressBar {
        let len = match self.time {
            Some(time) => time.as_secs(),
            None => self.seeds.end - self.seeds.start,
        };
        let bar = ProgressBar::new(len);
        let template = if self.time.is_some() {
            "{bar:30} {msg}, {eta} left"
        } else {
            "{bar:30} {msg} of {human_len}, {eta} left"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }

    fn show(&self, bar: &ProgressBar, sum: &Sum, start: Instant) {
        bar.set_position(if self.time.is_some() { start.elapsed().as_secs() } else { sum.runs });
        bar.set_message(text::counted(sum.runs, "world"));
    }
}

impl Result {
    fn take(&mut self, seed: u64, outcome: runs::Outcome) {
        match (outcome.violation, outcome.report) {
            (Some(violation), _) => {
                if self.failed.as_ref().is_none_or(|&(lowest, _)| seed < lowest) {
                    self.failed = Some((seed, violation));
                }
            }
            (None, Some(report)) => self.sum.add(&report),
            (None, None) => {}
        }
    }

    fn per_second(&self, count: u64) -> u64 {
        (count as f64 / self.took.as_secs_f64().max(1e-9)) as u64
    }
}

impl Facts for Result {
    fn json(&self) -> Value {
        let counts: Map<String, Value> =
            self.sum.coverage.counts().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        json!({
            "worlds": self.sum.runs,
            "client_operations": self.sum.ops,
            "part_requests": self.sum.part_requests,
            "device_operations": self.sum.device_ops,
            "packets": self.sum.packets,
            "simulated_seconds": self.sum.simulated_ns as f64 / 1e9,
            "seconds": self.took.as_secs_f64(),
            "failed_seed": self.failed.as_ref().map(|(seed, _)| seed),
            "met": counts,
            "missed": self.sum.coverage.missing(),
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
        for (name, count) in [
            ("client operations", sum.ops),
            ("part requests", sum.part_requests),
            ("device operations", sum.device_ops),
            ("packets", sum.packets),
        ] {
            out.push_str(&format!(
                "  {name:18} {:>14}  {:>12}/s\n",
                text::count(count),
                text::count(self.per_second(count))
            ));
        }
        for (name, count) in sum.coverage.counts().filter(|&(_, count)| count > 0) {
            out.push_str(&format!("  {name:30} {:>14}\n", text::count(count)));
        }
        match &sum.coverage.missing()[..] {
            [] => out.push_str("every fault and every rare state was met\n"),
            missing => out.push_str(&format!("incomplete: never met: {}\n", missing.join(", "))),
        }
        out
    }
}
