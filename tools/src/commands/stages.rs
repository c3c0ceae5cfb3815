//! `stats --stages`: where a daemon's processor time goes.

use std::time::Duration;

use hedgerow_client::messages::Counter;
use serde_json::{Value, json};

use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

const PREFIX: &str = "stage.";
const CPU: &str = "core_cpu_ns";
/// Frames that are requests for an object.
const REQUESTS: [&str; 3] = ["frames.get", "frames.put", "frames.delete"];

/// One stage, over some time.
struct Stage {
    name: String,
    entries: u64,
    ns: u64,
}

/// All stages over some time, and what they are to be compared with.
struct Spent {
    requests: u64,
    cpu_ns: u64,
    stages: Vec<Stage>,
}

/// Shows the stages since the daemon's start, or over the next `over`.
pub async fn run(context: &Context, over: Option<Duration>) -> Result<(), Failure> {
    let client = context.connect().await?;
    let mut before = Vec::new();
    if let Some(over) = over {
        before = context.request(&client).stats().await.map_err(failed("stats"))?.counters;
        tokio::time::sleep(over).await;
    }
    let after = context.request(&client).stats().await.map_err(failed("stats"))?.counters;
    context.show(&Spent::between(&before, &after))
}

impl Spent {
    fn between(before: &[Counter], after: &[Counter]) -> Spent {
        let of = |counters: &[Counter], name: &str| {
            counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
        };
        let since = |name: &str| of(after, name).saturating_sub(of(before, name));
        let names = after.iter().filter_map(|counter| counter.name.strip_prefix(PREFIX)?.strip_suffix("_ns"));
        let stages = names.map(|name| Stage {
            name: name.to_owned(),
            entries: since(&format!("{PREFIX}{name}_entries")),
            ns: since(&format!("{PREFIX}{name}_ns")),
        });
        Spent {
            requests: REQUESTS.iter().map(|name| since(name)).sum(),
            cpu_ns: since(CPU),
            stages: stages.collect(),
        }
    }

    /// The runtime, its system calls for the devices, and what a core spins before it sleeps.
    fn rest_ns(&self) -> u64 {
        self.cpu_ns.saturating_sub(self.stages.iter().map(|stage| stage.ns).sum())
    }
}

impl Facts for Spent {
    fn json(&self) -> Value {
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|stage| json!({ "stage": stage.name, "entries": stage.entries, "ns": stage.ns }))
            .collect();
        json!({ "requests": self.requests, "cpu_ns": self.cpu_ns, "rest_ns": self.rest_ns(), "stages": stages })
    }

    fn text(&self) -> String {
        let mut table = Table::new(&[
            ("stage", Align::Left),
            ("entered", Align::Right),
            ("ns each", Align::Right),
            ("us a request", Align::Right),
            ("of the cores' time", Align::Right),
        ]);
        let mut row = |name: &str, entries: Option<u64>, ns: u64| {
            let each = entries.filter(|&entries| entries > 0).map(|entries| (ns / entries).to_string());
            table.row([
                name.to_owned(),
                entries.map(text::count).unwrap_or_default(),
                each.unwrap_or_default(),
                format!("{:.2}", ns as f64 / 1e3 / self.requests.max(1) as f64),
                format!("{:.1} %", 100.0 * ns as f64 / self.cpu_ns.max(1) as f64),
            ]);
        };
        for stage in &self.stages {
            row(&stage.name, Some(stage.entries), stage.ns);
        }
        row("the rest: runtime, device system calls, spinning", None, self.rest_ns());
        row("all", None, self.cpu_ns);
        format!("{} gets, puts and deletes\n\n{table}", text::count(self.requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_is_the_difference_of_two_answers() {
        let counters = |scale: u64| -> Vec<Counter> {
            [
                ("frames.get", 10),
                ("frames.ping", 7),
                ("stage.send_entries", 20),
                ("stage.send_ns", 3000),
                (CPU, 5000),
            ]
            .map(|(name, value)| Counter::new(name, value * scale))
            .to_vec()
        };
        let spent = Spent::between(&counters(1), &counters(3));
        assert_eq!((spent.requests, spent.cpu_ns, spent.rest_ns()), (20, 10_000, 4000));
        let [send] = &spent.stages[..] else { panic!("one stage") };
        assert_eq!((send.name.as_str(), send.entries, send.ns), ("send", 40, 6000));
        assert!(spent.text().contains("send"));
    }
}
