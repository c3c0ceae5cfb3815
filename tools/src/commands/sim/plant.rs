//! Plants mistakes, one at a time, and runs seeds until each is found.

use std::time::Duration;

use hedgerow_engine::mistakes::{Mistake, plant};
use hedgerow_engine::sim::judge::Violation;
use hedgerow_engine::sim::plan::Plan;
use hedgerow_engine::sim::runs::{self, Outcome};
use serde_json::{Value, json};

use super::many::Many;
use crate::context::Facts;
use crate::text;

/// What became of each mistake.
pub struct Planted(Vec<Hunt>);

struct Hunt {
    mistake: Mistake,
    /// The first seed that found it, and how.
    found: Option<(u64, Violation)>,
    took: Duration,
}

/// The mistakes of a name on the command line.
pub fn named(name: &str) -> Result<Vec<Mistake>, String> {
    let all = || Mistake::ALL.iter().copied();
    let is = |mistake: &Mistake| format!("{mistake:?}").eq_ignore_ascii_case(name);
    if name == "all" {
        return Ok(all().collect());
    }
    let names = || all().map(|mistake| format!("{mistake:?}")).collect::<Vec<_>>().join(", ");
    all().find(is).map(|mistake| vec![mistake]).ok_or_else(|| format!("write all, or one of {}", names()))
}

/// Runs the seeds of `many` with each mistake, until one fails that does not fail without it.
pub fn hunt(mistakes: &[Mistake], many: &Many) -> Planted {
    let run = |mistake: Mistake| {
        let ran = many.run(|plan| run_with(mistake, plan));
        Hunt { mistake, found: ran.failed.into_iter().next(), took: ran.took }
    };
    Planted(mistakes.iter().map(|&mistake| run(mistake)).collect())
}

fn run_with(mistake: Mistake, plan: &Plan) -> Outcome {
    plant(Some(mistake));
    let outcome = runs::run(plan);
    plant(None);
    if outcome.violation.is_none() {
        return outcome;
    }
    let without = runs::run(plan);
    if without.violation.is_some() { Outcome { violation: None, report: None } } else { outcome }
}

impl Planted {
    /// Mistakes that nothing found.
    pub fn missed(&self) -> Vec<Mistake> {
        self.0.iter().filter(|hunt| hunt.found.is_none()).map(|hunt| hunt.mistake).collect()
    }
}

impl Facts for Planted {
    fn json(&self) -> Value {
        let one = |hunt: &Hunt| {
            json!({
                "mistake": format!("{:?}", hunt.mistake),
                "seed": hunt.found.as_ref().map(|(seed, _)| seed),
                "wrong": hunt.found.as_ref().map(|(_, violation)| violation.wrong.to_string()),
                "what": hunt.found.as_ref().map(|(_, violation)| &violation.what),
                "seconds": hunt.took.as_secs_f64(),
            })
        };
        json!({ "mistakes": self.0.iter().map(one).collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        let mut out = format!("{:24} {:28} {:>8}  {}\n", "mistake", "found as", "seed", "took");
        for Hunt { mistake, found, took } in &self.0 {
            let (wrong, seed) = match found {
                Some((seed, violation)) => (violation.wrong.to_string(), text::count(*seed)),
                None => ("not found".to_owned(), String::new()),
            };
            let (name, took) = (format!("{mistake:?}"), text::duration(*took));
            out.push_str(&format!("{name:24} {wrong:28} {seed:>8}  {took}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_a_name() {
        assert_eq!(named("all").map(|all| all.len()), Ok(Mistake::ALL.len()));
        assert_eq!(named("slabend"), Ok(vec![Mistake::SlabEnd]));
        assert!(named("nothing").is_err_and(|message| message.contains("SlabEnd")));
    }
}
