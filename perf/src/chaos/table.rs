//! What a chaos run found, for people and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;
use serde_json::{Value, json};

use super::record::Finding;
use super::script::Harm;
use crate::load::histogram;
use crate::request::{Answer, Class};

/// Violations that are described one by one; more are counted.
const NOTES_MAX: usize = 20;

/// Counted by the generator.
pub struct Counts {
    /// Sent.
    pub requests: u64,
    /// Due, while the daemon could not be asked.
    pub unsent: u64,
    /// Their connection broke before an answer came.
    pub broken_off: u64,
    /// Not answered long after the deadline, on a connection that was up.
    pub never_answered: u64,
    /// Connections that broke though nothing was done to break them.
    pub broken_connections: u64,
    /// Answers by status.
    pub statuses: BTreeMap<String, u64>,
    /// Answers by what they were found to be.
    pub findings: BTreeMap<&'static str, u64>,
    /// Answers later than deadline, tick and echo.
    pub late: u64,
    /// How much later at most, in nanoseconds.
    pub latest_ns: u64,
    /// Late, from a daemon that was stopped by a signal, or whose answers were struck, meanwhile.
    pub stopped: u64,
    /// Latency of what was answered `Ok`, since it was due, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The echo beside them, in nanoseconds.
    pub echo: Histogram<u64>,
    /// Bare reads of the device beside them, in nanoseconds.
    pub device: Histogram<u64>,
    /// Violations, for people.
    pub notes: Vec<String>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            requests: 0,
            unsent: 0,
            broken_off: 0,
            never_answered: 0,
            broken_connections: 0,
            statuses: BTreeMap::new(),
            findings: BTreeMap::new(),
            late: 0,
            latest_ns: 0,
            stopped: 0,
            latency: histogram(),
            echo: histogram(),
            device: histogram(),
            notes: Vec::new(),
        }
    }
}

/// When an answer came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timing {
    /// By its deadline, or a tick and an echo later.
    InTime,
    /// Later, from a daemon that was stopped by a signal, or whose answers were struck, meanwhile.
    Stopped,
    /// Later.
    Late {
        /// By how much, in nanoseconds.
        over_ns: u64,
        /// The longest bare read of the device meanwhile, in nanoseconds.
        device_ns: u64,
    },
}

fn name(finding: Finding) -> &'static str {
    match finding {
        Finding::Right => "right",
        Finding::OldUnconfirmed => "older, marked as unconfirmed",
        Finding::BeyondPromise => "lost, more targets than promised",
        Finding::Wrong => "wrong bytes",
        Finding::Old => "old",
        Finding::Lost => "lost",
        Finding::Refused => "refused, yet done",
    }
}

/// Findings that break a promise.
const VIOLATIONS: [Finding; 4] = [Finding::Wrong, Finding::Old, Finding::Lost, Finding::Refused];

impl Counts {
    /// Counts an answer of a daemon to which `harm` was done last.
    pub fn answer(
        &mut self,
        (daemon, harm): (usize, &str),
        answer: &Answer,
        finding: Finding,
        timing: Timing,
    ) {
        *self.statuses.entry(format!("{:?}", answer.status)).or_default() += 1;
        *self.findings.entry(name(finding)).or_default() += 1;
        if answer.status == Status::Ok && !matches!(answer.request.class, Class::Probe | Class::Fill) {
            self.latency.saturating_record(answer.end_ns.saturating_sub(answer.start_ns));
        }
        self.stopped += u64::from(timing == Timing::Stopped);
        let mut late = String::new();
        if let Timing::Late { over_ns, device_ns } = timing {
            self.late += 1;
            self.latest_ns = self.latest_ns.max(over_ns);
            let (over_ms, device_ms) = (over_ns as f64 / 1e6, device_ns as f64 / 1e6);
            late = format!(", late by {over_ms:.1} ms (a bare read took {device_ms:.1} ms)");
        }
        if VIOLATIONS.contains(&finding) || !late.is_empty() {
            let request = &answer.request;
            self.notes.push(format!(
                "daemon {daemon} since '{harm}', object {}, {:?} of version {}: {:?} {}{late}; sent at {:.6} s, answered {:.1} ms later",
                request.object,
                request.kind,
                request.version,
                answer.status,
                name(finding),
                answer.sent_ns as f64 / 1e9,
                (answer.end_ns - answer.sent_ns) as f64 / 1e6,
            ));
        }
    }

    fn found(&self, finding: Finding) -> u64 {
        self.findings.get(name(finding)).copied().unwrap_or(0)
    }
}

/// What the episodes of one kind came to.
#[derive(Clone, Debug, Default)]
pub struct Harmed {
    /// How many there were.
    pub episodes: u64,
    /// Why there was none, if so.
    pub skipped: Option<String>,
    /// Longest start until it listened.
    pub listening: Duration,
    /// Longest time from the end of the harm (of a kill: from the kill) until every object was read.
    pub recovery: Duration,
    /// Objects that could not be read in the end.
    pub unreadable: usize,
}

/// All of a run.
pub struct Outcome {
    /// What the generator found.
    pub counts: Counts,
    /// By kind.
    pub harms: Vec<(Harm, Harmed)>,
    /// Whether late answers break a promise: on a machine that others use, they need not be the daemon's.
    pub late_counts: bool,
    /// Slabs that were evicted: what was in them is no longer promised.
    pub evicted: u64,
    /// Operations and answers that were struck by injected faults.
    pub fault_hits: u64,
}

impl Outcome {
    /// Promises that were broken, each with how often.
    pub fn violations(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.counts;
        let unreadable: usize = self.harms.iter().map(|(_, harmed)| harmed.unreadable).sum();
        let all = [
            ("wrong bytes", counts.found(Finding::Wrong)),
            ("older than acknowledged", counts.found(Finding::Old)),
            ("acknowledged and lost", counts.found(Finding::Lost)),
            ("acknowledged and not readable again", unreadable as u64),
            ("refused, yet done", counts.found(Finding::Refused)),
            ("late answers", if self.late_counts { counts.late } else { 0 }),
            ("never answered", counts.never_answered),
            ("connections broken without a kill", counts.broken_connections),
            ("slabs evicted (the files are too small for this load)", self.evicted),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let counts = &self.counts;
        let harms: Vec<Value> = self
            .harms
            .iter()
            .map(|(harm, harmed)| {
                json!({
                    "fault": harm.name(), "episodes": harmed.episodes, "skipped": harmed.skipped,
                    "listening_ms": harmed.listening.as_secs_f64() * 1e3,
                    "recovery_ms": harmed.recovery.as_secs_f64() * 1e3, "unreadable": harmed.unreadable,
                })
            })
            .collect();
        let ms = |histogram: &Histogram<u64>| {
            [0.5, 0.99, 0.999, 1.0].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e6)
        };
        json!({
            "requests": counts.requests, "unsent": counts.unsent, "broken_off": counts.broken_off,
            "statuses": counts.statuses, "findings": counts.findings, "late": counts.late,
            "latest_ms": counts.latest_ns as f64 / 1e6, "late_while_stopped": counts.stopped,
            "device_ms": ms(&counts.device),
            "latency_ms": ms(&counts.latency), "echo_ms": ms(&counts.echo), "faults": harms,
            "fault_hits": self.fault_hits,
            "violations": self.violations().into_iter().collect::<BTreeMap<_, _>>(),
        })
    }

    /// For people.
    pub fn print(&self) {
        let counts = &self.counts;
        println!("| fault | episodes | worst start until it listens | worst recovery until all is read |");
        println!("|---|--:|--:|--:|");
        for (harm, harmed) in &self.harms {
            let ms = |time: Duration| match time.is_zero() {
                true => "-".to_owned(),
                false => format!("{:.0} ms", time.as_secs_f64() * 1e3),
            };
            let episodes = harmed.skipped.clone().unwrap_or_else(|| harmed.episodes.to_string());
            println!("| {} | {episodes} | {} | {} |", harm.name(), ms(harmed.listening), ms(harmed.recovery));
        }
        println!();
        println!("| | |\n|---|--:|");
        println!("| requests | {} |", counts.requests);
        for (status, count) in &counts.statuses {
            println!("| answered `{status}` | {count} |");
        }
        println!("| their connection was broken by a kill or a fault | {} |", counts.broken_off);
        println!("| due while the daemon was down or full, and not sent | {} |", counts.unsent);
        println!("| operations and answers struck by injected faults | {} |", self.fault_hits);
        for finding in [Finding::OldUnconfirmed, Finding::BeyondPromise] {
            println!("| {} | {} |", name(finding), counts.found(finding));
        }
        println!(
            "| late from a daemon that was stopped, or whose answers were struck | {} |",
            counts.stopped
        );
        let ms = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        for (what, histogram) in [
            ("latency of `Ok`", &counts.latency),
            ("the bare echo", &counts.echo),
            ("a bare read of 4 KiB", &counts.device),
        ] {
            println!(
                "| {what}, ms: p50 / p99 / most | {:.1} / {:.1} / {:.1} |",
                ms(histogram, 0.5),
                ms(histogram, 0.99),
                histogram.max() as f64 / 1e6
            );
        }
        println!("| **wrong bytes** | **{}** |", counts.found(Finding::Wrong));
        println!("| **older than acknowledged** | **{}** |", counts.found(Finding::Old));
        println!("| **acknowledged and lost** | **{}** |", counts.found(Finding::Lost));
        println!("| **refused, yet done** | **{}** |", counts.found(Finding::Refused));
        println!(
            "| **late answers** (worst beyond what is allowed) | **{}** ({:.1} ms) |",
            counts.late,
            counts.latest_ns as f64 / 1e6
        );
        println!("| **never answered** | **{}** |", counts.never_answered);
        let worst = self.harms.iter().map(|(_, harmed)| harmed.recovery).max().unwrap_or_default();
        println!("| **worst recovery** | **{:.0} ms** |", worst.as_secs_f64() * 1e3);
        for note in counts.notes.iter().take(NOTES_MAX) {
            println!("- {note}");
        }
        if counts.notes.len() > NOTES_MAX {
            println!("- and {} more", counts.notes.len() - NOTES_MAX);
        }
    }
}
