//! One run, told: its plan, what was wrong, and the end of its trace.

use hedgerow_engine::sim::judge::Violation;
use hedgerow_engine::sim::plan::Plan;
use hedgerow_engine::sim::runs::{self, Outcome};
use hedgerow_engine::sim::shrink::shrink;
use serde_json::{Value, json};

use crate::context::Facts;
use crate::text;

/// Operations of a plan that are told one by one; of more, only how many there are.
const OPS_TOLD_MAX: usize = 60;

/// See the module.
pub struct Story {
    plan: Plan,
    outcome: Outcome,
    /// Lines of the trace to show.
    lines: usize,
    /// Runs that it took to shorten the plan, if it was.
    shrink_runs: u32,
}

impl Story {
    /// The story of one run.
    pub fn new(plan: Plan, outcome: Outcome, lines: usize) -> Story {
        Story { plan, outcome, lines, shrink_runs: 0 }
    }

    /// The story of the shortest plan that fails as `seed` does, found within `runs_max` runs.
    pub fn shrunk(seed: u64, violation: &Violation, runs_max: u32, lines: usize) -> Story {
        let fails = |plan: &Plan| runs::run(plan).violation.map(|violation| violation.wrong);
        let shrunk = shrink(&Plan::draw(seed), violation.wrong, runs_max, fails);
        let outcome = runs::run(&shrunk.plan);
        Story { plan: shrunk.plan, outcome, lines, shrink_runs: shrunk.runs }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.plan.seed
    }

    /// What was wrong, if anything.
    pub fn failed(&self) -> Option<String> {
        self.outcome.violation.as_ref().map(Violation::to_string)
    }

    fn tail(&self) -> &[String] {
        let tail = self.outcome.report.as_ref().map_or(&[][..], |report| &report.tail);
        &tail[tail.len().saturating_sub(self.lines)..]
    }

    fn plan_text(&self) -> String {
        let shape = &self.plan.shape;
        let mut out = format!(
            "{} on {} of {}, {} slabs of {} each, memory {}, parts of at least {}\n",
            shape.code,
            text::counted(shape.members.into(), "member"),
            text::counted(shape.shards_per_member.into(), "shard"),
            shape.slabs,
            text::bytes(shape.slab_len.into()),
            text::bytes(shape.memory_bytes),
            text::bytes(shape.min_part.into()),
        );
        for fault in &self.plan.faults {
            let (at, until) = (seconds(fault.at.0), seconds(fault.until.0));
            out.push_str(&format!("  {at} to {until} {:?}\n", fault.what));
        }
        let ops = &self.plan.ops;
        if ops.len() > OPS_TOLD_MAX {
            out.push_str(&format!("  {}\n", text::counted(ops.len() as u64, "operation")));
            return out;
        }
        for op in ops {
            let cancel =
                op.cancel_after.map_or(String::new(), |after| format!(", cancelled after {after:?}"));
            out.push_str(&format!(
                "  {} op {} key {} {:?} within {:?}{cancel}\n",
                seconds(op.at.0),
                op.id,
                op.key,
                op.kind,
                op.deadline
            ));
        }
        out
    }
}

fn seconds(ns: u64) -> String {
    format!("{:.6}", ns as f64 / 1e9)
}

impl Facts for Story {
    fn json(&self) -> Value {
        let report = self.outcome.report.as_ref();
        json!({
            "seed": self.plan.seed,
            "violation": self.failed(),
            "trace_hash": report.map(|report| format!("{:016x}", report.trace_hash)),
            "events": report.map(|report| report.events),
            "client_operations": self.plan.ops.len(),
            "faults": self.plan.faults.iter().map(|fault| format!("{:?}", fault)).collect::<Vec<_>>(),
            "shrink_runs": self.shrink_runs,
            "trace": self.tail(),
        })
    }

    fn text(&self) -> String {
        let mut out = format!("seed {}: {}", self.plan.seed, self.plan_text());
        if self.shrink_runs > 0 {
            out.push_str(&format!("shortened in {}\n", text::counted(self.shrink_runs.into(), "run")));
        }
        for line in self.tail() {
            out.push_str(&format!("  {line}\n"));
        }
        match &self.outcome.violation {
            Some(violation) => out.push_str(&format!("WRONG: {violation}\n")),
            None => out.push_str("right\n"),
        }
        if let Some(report) = &self.outcome.report {
            out.push_str(&format!(
                "{} in {} s of simulated time, trace hash {:016x}\n",
                text::counted(report.events, "event"),
                seconds(report.ended_at.0),
                report.trace_hash
            ));
        }
        out
    }
}
