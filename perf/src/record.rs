//! What a run leaves: JSON for `hedgerow-perf report`, a percentile file that HdrHistogram's plotter
//! reads, and lines for people. All three come from the same [`Outcome`].

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;
use serde_json::{Map, Value, json};

use crate::load::{BUSY_SHARE, Outcome, Tally};
use crate::request::Class;

/// Steps of the percentiles for each halving of the distance to 100 %, as HdrHistogram's own tools have it.
const TICKS_PER_HALF: u32 = 5;

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// Percentile curve: pairs of quantile and microseconds, denser towards the end.
fn curve(histogram: &Histogram<u64>) -> Vec<[f64; 2]> {
    let steps = histogram.iter_quantiles(TICKS_PER_HALF);
    steps.map(|step| [step.quantile_iterated_to(), us(step.value_iterated_to())]).collect()
}

/// The usual percentiles of a histogram of nanoseconds, in microseconds, and the curve of all.
pub fn latency_json(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| us(histogram.value_at_quantile(quantile));
    json!({
        "count": histogram.len(), "mean_us": histogram.mean() / 1e3, "p50_us": at(0.5), "p90_us": at(0.9),
        "p99_us": at(0.99), "p999_us": at(0.999), "p9999_us": at(0.9999), "max_us": us(histogram.max()),
        "curve_us": curve(histogram),
    })
}

fn tally_json(class: Class, tally: &Tally, seconds: f64) -> Value {
    let statuses: Map<String, Value> =
        tally.failures().into_iter().map(|(status, count)| (format!("{status:?}"), json!(count))).collect();
    json!({
        "class": class.name(), "answered": tally.answered, "ok": tally.ok(),
        "per_second": tally.ok() as f64 / seconds, "bytes_per_second": tally.bytes as f64 / seconds,
        "not_ok": statuses, "late": tally.late, "from_memory": tally.from_memory, "through": tally.through,
        "unconfirmed": tally.unconfirmed, "wrong": tally.wrong, "latency": latency_json(&tally.latency),
    })
}

/// All that an outcome says, without its histograms' every bucket.
pub fn outcome_json(outcome: &Outcome) -> Value {
    let classes: Vec<Value> =
        named(outcome).map(|(class, tally)| tally_json(class, tally, outcome.seconds)).collect();
    json!({
        "seconds": outcome.seconds, "per_second": outcome.rate(), "bytes_per_second": outcome.bytes_rate(),
        "hit_share": outcome.hit_share(), "generator_share": outcome.generator_share,
        "unsent": outcome.unsent, "latency": latency_json(&outcome.latency()), "classes": classes,
    })
}

/// Classes that had answers.
pub fn named(outcome: &Outcome) -> impl Iterator<Item = (Class, &Tally)> {
    Class::ALL.into_iter().zip(&outcome.classes).filter(|(_, tally)| tally.answered > 0)
}

/// Prints an outcome for people, with what makes it doubtful.
pub fn print(outcome: &Outcome) {
    for (class, tally) in named(outcome) {
        let at = |quantile| us(tally.latency.value_at_quantile(quantile));
        println!(
            "{}: {:.0}/s, {:.2} GB/s; us: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, p99.99 {:.0}, most {:.0}",
            class.name(),
            tally.ok() as f64 / outcome.seconds,
            tally.bytes as f64 / outcome.seconds / 1e9,
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.9999),
            us(tally.latency.max()),
        );
        println!(
            "  {} answered: {} from memory, {} missed, {} past their deadline, {} wrong; not Ok: {:?}",
            tally.answered,
            tally.from_memory,
            tally.statuses[Status::NotFound as usize],
            tally.statuses[Status::DeadlineExceeded as usize] + tally.late,
            tally.wrong,
            tally.failures(),
        );
    }
    println!(
        "generator {:.0} % busy; {} due and not sent; hit share of gets {:.1} %",
        100.0 * outcome.generator_share,
        outcome.unsent,
        100.0 * outcome.hit_share()
    );
    if outcome.generator_share > BUSY_SHARE {
        println!("warning: the generator was more than 90 % busy: it may be what was measured");
    }
}

/// Percentile distribution in milliseconds, as HdrHistogram's `outputPercentileDistribution` writes it.
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    let ms = |ns: f64| ns / 1e6;
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let (value, quantile) = (ms(step.value_iterated_to() as f64), step.quantile_iterated_to());
        let count = histogram.count_between(0, step.value_iterated_to());
        // Writing to a string does not fail.
        let _ = match quantile < 1.0 {
            true => writeln!(text, "{value:12.3} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text, "{value:12.3} {quantile:2.12} {count:10}"),
        };
    }
    let (mean, deviation) = (ms(histogram.mean()), ms(histogram.stdev()));
    let (max, count) = (ms(histogram.max() as f64), histogram.len());
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    text
}

/// Writes a record to `folder` under a name that is not taken. Where it lies.
pub fn save(folder: &Path, name: &str, record: &Value) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let text = serde_json::to_string_pretty(record)?;
    for number in 0.. {
        let path = folder.join(format!("{plain}-{number}.json"));
        match std::fs::File::create_new(&path) {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, text.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
        }
    }
    unreachable!("a number is free")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;

    #[test]
    fn the_percentile_file_counts_all_values() {
        let mut values = histogram();
        (1..=1000u64).for_each(|ms| values.record(ms * 1_000_000).unwrap());
        let text = hgrm(&values);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
            .filter(|row: &Vec<f64>| row.len() >= 3)
            .collect();
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((half[0] - 500.0).abs() < 1.0 && (half[2] - 500.0).abs() < 2.0, "{half:?}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1000.0));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }

    #[test]
    fn records_do_not_replace_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let first = save(folder.path(), "a/b", &json!({ "number": 1 })).unwrap();
        let second = save(folder.path(), "a/b", &json!({ "number": 2 })).unwrap();
        assert_eq!(first.file_name().unwrap(), "a-b-0.json");
        assert_ne!(first, second);
        assert!(std::fs::read_to_string(first).unwrap().contains("1"));
    }
}
