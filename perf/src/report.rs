//! `hedgerow-perf report`: one page, with its drawings in it, of all records in a folder. Nothing is
//! fetched and no script runs: it can be read anywhere and for ever.

mod bars;
mod chart;
mod page;
mod scenarios;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Which folder.
#[derive(Clone, Debug, clap::Args)]
pub struct Report {
    /// Folder that runs were left in (--out of run, compare, scenarios and limit)
    folder: PathBuf,
    /// The page [default: report.html in that folder]
    #[arg(long)]
    output: Option<PathBuf>,
}

/// A folder's records by what they are, each in the order of the files' names.
#[derive(Default)]
struct Records {
    runs: Vec<Value>,
    comparisons: Vec<Value>,
    scenarios: Vec<Value>,
    limits: Vec<Value>,
}

impl Records {
    fn read(folder: &Path) -> Result<Records> {
        let mut paths = Vec::new();
        for file in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut records = Records::default();
        for path in &paths {
            let text = std::fs::read_to_string(path)?;
            let record: Value =
                serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
            match record["kind"].as_str() {
                Some("run") => records.runs.push(record),
                Some("compare") => records.comparisons.push(record),
                Some("scenario") => records.scenarios.push(record),
                Some("limit") => records.limits.push(record),
                _ => eprintln!("{} is no record of a run: passed over", path.display()),
            }
        }
        Ok(records)
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.comparisons.iter().chain(&self.runs).chain(&self.scenarios).chain(&self.limits)
    }
}

/// Runs it.
pub fn run(options: &Report) -> Result<()> {
    let records = Records::read(&options.folder)?;
    let count = records.all().count();
    ensure!(count > 0, "{} has no records: leave some with --out", options.folder.display());
    let output = options.output.clone().unwrap_or_else(|| options.folder.join("report.html"));
    std::fs::write(&output, page::page(&records)).with_context(|| format!("writing {}", output.display()))?;
    println!("{count} records in {}", output.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;
    use crate::record::{latency_json, save};
    use serde_json::json;

    fn latency() -> Value {
        let mut values = histogram();
        (1..=10_000u64).for_each(|us| values.record(us * 1000).unwrap());
        latency_json(&values)
    }

    fn spread(median: f64) -> Value {
        json!({ "median": median, "min": median * 0.9, "max": median * 1.1 })
    }

    fn scenario_record(system: &str, system_order: u64, scenario: &str, order: usize, extra: f64) -> Value {
        let mut record = json!({
            "kind": "scenario", "machine": "a <machine>", "setting": "as it is set", "system": system,
            "system_order": system_order, "scenario": scenario, "order": order, "round": 1, "per_second": 100.0,
            "latency": latency(), "p999_to_healthy": if order == 0 { 1.0 } else { 2.25 }, "extra_part_reads": extra, "hedges": 5,
            "parts_repaired": 2, "errors": 1, "unsent": 0, "past_deadline": 1, "missed": 3, "wrong": 0,
            "server_cpu_us": 50.0, "steal_share": 0.0, "others_share": 0.0, "stages_us": [["receive", 2.0], ["rest", 40.0]],
        });
        if order == 0 {
            record["bare"] = json!({ "p999_of_bare_together": 1.75 });
        }
        record
    }

    #[test]
    fn a_page_has_every_record_and_nothing_from_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let round = json!({ "per_second": 100.0, "p99_us": 50.0 });
        let peer = |name: &str, rate: f64| {
            json!({
                "peer": name, "at": "4x1", "sweep": [{"at": "4x1", "found": round}, {"at": "8x1", "found": round}],
                "per_second": spread(rate), "bytes_per_second": spread(rate * 65536.0), "p99_us": spread(50.0),
                "hit_share": spread(1.0), "device_share": spread(0.5), "ratio_rate": spread(1.0),
                "ratio_p99": spread(1.0), "latency": latency(), "memory_limited": true, "rounds": [round],
            })
        };
        let compare = json!({
            "kind": "compare", "figure": "Device", "object_len": 65536, "machine": "a <machine>", "rate": null,
            "rounds_dropped": 1, "memory_bytes": 1, "flash_bytes": 1, "peers": [peer("one", 1000.0), peer("two", 500.0)],
        });
        let run = |name: &str, rate: f64| {
            json!({
                "kind": "run", "name": name, "machine": "a <machine>", "rate_wanted": rate,
                "outcome": { "per_second": rate, "bytes_per_second": 1.0, "latency": latency(), "hit_share": 1.0,
                    "generator_share": 0.5, "unsent": 0, "classes": [] },
            })
        };
        let limit = json!({ "kind": "limit", "machine": "a <machine>", "rows": [
            { "what": "random reads, bare io_uring", "len": 65536, "depth": 8, "bytes_per_second": spread(131_072_000.0),
              "p50_us": spread(10.0), "p99_us": spread(20.0), "cpu_ns_per_byte": spread(0.1) }] });
        for record in [&compare, &run("slow & steady", 10.0), &run("slow & steady", 20.0), &limit] {
            save(folder.path(), "record", record).unwrap();
        }
        for (system, order, extra) in [("4+2 hedged", 0, 0.05), ("k-of-k", 2, 0.0)] {
            for (place, scenario) in ["healthy", "delay <50> ms"].iter().enumerate() {
                let record = scenario_record(system, order, scenario, place, extra);
                save(folder.path(), "scenario", &record).unwrap();
            }
        }
        run_in(folder.path());
        let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
        assert!(page.contains("a &lt;machine&gt;") && page.contains("slow &amp; steady"), "not escaped");
        // Half of what the bare loop reads.
        assert!(page.contains("50\u{a0}%"), "no share of the limit");
        for wanted in [
            "as it is set",
            "delay &lt;50&gt; ms",
            ">2.25<",
            ">1.75<",
            ">5.0\u{a0}%<",
            ">k-of-k</text>",
            "Hedges sent against tail gained",
            "receive 2</title>",
            "rest 40</title>",
        ] {
            assert!(page.contains(wanted), "no {wanted}");
        }
        for unwanted in ["http", "<script", "NaN", "inf"] {
            let found =
                page.replace("http://www.w3.org/2000/svg", "").find(unwanted).map(|at| &page[at..at + 80]);
            assert_eq!(found, None, "{unwanted}");
        }
        assert!(page.matches("<svg").count() >= 9);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    fn run_in(folder: &Path) {
        run(&Report { folder: folder.to_owned(), output: None }).unwrap();
    }

    #[test]
    fn a_folder_without_records_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(&Report { folder: folder.path().to_owned(), output: None }).is_err());
    }
}
