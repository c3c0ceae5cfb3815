//! One measurement against one server, and series of them taken in turns.

use std::time::Duration;

use anyhow::Result;
use hedgerow_wire::frame::Status;
use serde_json::{Value, json};

use crate::clock;
use crate::driver::Endpoint;
use crate::load::{self, BUSY_SHARE, Mark, Outcome, Plan, Source, Tally};
use crate::machine::Ticks;
use crate::pattern::{Check, Pattern};

/// Rounds in which the hypervisor took more than this are not counted.
pub const STEAL_MAX: f64 = 0.03;

/// What one run against one server found.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Answered `Ok` per second.
    pub rate: f64,
    /// Bytes of objects per second.
    pub bytes_rate: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99 of 100 are at most this, in microseconds.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// Processor time of the server for each request, in microseconds.
    pub cpu_us: f64,
    /// Share of the time that the server's threads were busy.
    pub server_share: f64,
    /// Share of the time that the generator was busy.
    pub generator_share: f64,
    /// Share of the machine that others used.
    pub others_share: f64,
    /// Share of the machine that the hypervisor took.
    pub steal_share: f64,
    /// Answers that were not `Ok`, by their status.
    pub failures: Vec<(Status, u64)>,
    /// Share that came from the memory tier.
    pub from_memory: f64,
}

impl Sample {
    /// All of it.
    pub fn to_json(&self) -> Value {
        json!({
            "per_second": self.rate, "bytes_per_second": self.bytes_rate, "p50_us": self.p50_us,
            "p99_us": self.p99_us, "p999_us": self.p999_us, "server_cpu_us": self.cpu_us,
            "server_share": self.server_share, "generator_share": self.generator_share,
            "others_share": self.others_share, "steal_share": self.steal_share,
            "failed": self.failures.iter().map(|(_, count)| count).sum::<u64>(), "from_memory": self.from_memory,
        })
    }
}

/// A server whose processor time can be looked at.
pub trait Watched {
    /// Where requests go.
    fn endpoint(&self) -> Endpoint;
    /// Processor time that it used so far, in nanoseconds.
    fn cpu_ns(&self) -> Result<u64>;
}

/// Runs a load and looks at server, generator and machine meanwhile. The figures are those of all classes.
/// Wrong bytes are an error.
pub fn measure(
    server: &dyn Watched,
    plan: &Plan,
    source: &mut dyn Source,
    pattern: &Pattern,
) -> Result<(Sample, Outcome)> {
    let (sample, outcome) = observe(server, plan, source, pattern, &mut |_| {})?;
    outcome.check()?;
    Ok((sample, outcome))
}

/// As [`measure`], but wrong bytes are only counted. `on_mark` hears when the time that counts begins and
/// ends; it must not take long, the load waits for it.
pub fn observe(
    server: &dyn Watched,
    plan: &Plan,
    source: &mut dyn Source,
    pattern: &Pattern,
    on_mark: &mut dyn FnMut(Mark),
) -> Result<(Sample, Outcome)> {
    let mut cpu = Vec::new();
    let mut own = Vec::new();
    let mut ticks = Vec::new();
    let mut mark = |mark: Mark| {
        cpu.push(server.cpu_ns());
        own.push(clock::thread_cpu_ns());
        ticks.push(Ticks::read());
        on_mark(mark);
    };
    let outcome = load::run(&server.endpoint(), plan, source, pattern, &mut mark)?;
    let (begin, end) = (cpu.remove(0)?, cpu.remove(0)?);
    let (ticks_begin, ticks_end) = (ticks.remove(0)?, ticks.remove(0)?);
    let cpu_ns = end - begin;
    let (others_share, steal_share) = ticks_end.others_since(ticks_begin, cpu_ns + own[1] - own[0]);
    let latency = outcome.latency();
    let answered: u64 = outcome.classes.iter().map(|tally| tally.answered).sum();
    let ok: u64 = outcome.classes.iter().map(Tally::ok).sum();
    let from_memory: u64 = outcome.classes.iter().map(|tally| tally.from_memory).sum();
    let sample = Sample {
        rate: outcome.rate(),
        bytes_rate: outcome.bytes_rate(),
        p50_us: latency.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: latency.value_at_quantile(0.99) as f64 / 1e3,
        p999_us: latency.value_at_quantile(0.999) as f64 / 1e3,
        cpu_us: cpu_ns as f64 / 1e3 / answered.max(1) as f64,
        server_share: cpu_ns as f64 * 1e-9 / outcome.seconds,
        generator_share: outcome.generator_share,
        others_share,
        steal_share,
        failures: outcome.classes.iter().flat_map(Tally::failures).collect(),
        from_memory: from_memory as f64 / ok.max(1) as f64,
    };
    Ok((sample, outcome))
}

impl Spread {
    /// As a record has it.
    pub fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }

    /// As people read it.
    pub fn text(self, digits: usize) -> String {
        format!("{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.min, self.max)
    }
}

/// The rounds of one figure.
#[derive(Clone, Debug)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Length of its objects in bytes.
    pub object_len: u64,
    /// One for each round.
    pub samples: Vec<Sample>,
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
}

/// Of some values.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    Spread { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
}

impl Series {
    /// A series without rounds.
    pub fn new(name: &str, object_len: u64) -> Series {
        Series { name: name.to_owned(), object_len, samples: Vec::new() }
    }

    /// The rounds in which the hypervisor took little; all of them if there is no such round.
    fn counted(&self) -> Vec<&Sample> {
        let calm: Vec<&Sample> = self.samples.iter().filter(|s| s.steal_share <= STEAL_MAX).collect();
        if calm.is_empty() { self.samples.iter().collect() } else { calm }
    }

    /// Of one field over the rounds.
    pub fn spread(&self, field: impl Fn(&Sample) -> f64) -> Spread {
        spread(self.counted().into_iter().map(field))
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let samples: Vec<Value> = self.samples.iter().map(Sample::to_json).collect();
        json!({ "name": self.name, "object_len": self.object_len, "rounds": samples })
    }
}

/// A length as people write it.
pub fn length(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Prints a table of series, each with the ratio to the series of the same place in `bare`.
pub fn print_table(series: &[Series], bare: &[Option<Series>]) {
    println!(
        "| what | size | requests/s [rounds] | GB/s | p50 us | p99 us | server CPU us | of bare: rate | CPU | busy: server | generator | others |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (place, row) in series.iter().enumerate() {
        let rate = row.spread(|s| s.rate);
        let ratio = |field: fn(&Sample) -> f64| match bare.get(place).and_then(Option::as_ref) {
            Some(bare) => format!("{:.2}", row.spread(field).median / bare.spread(field).median),
            None => "-".to_owned(),
        };
        println!(
            "| {} | {} | {:.0} [{:.0}..{:.0}] | {:.2} | {:.0} | {:.0} | {:.1} | {} | {} | {:.0} % | {:.0} % | {:.0} % |",
            row.name,
            length(row.object_len),
            rate.median,
            rate.min,
            rate.max,
            row.spread(|s| s.bytes_rate).median / 1e9,
            row.spread(|s| s.p50_us).median,
            row.spread(|s| s.p99_us).median,
            row.spread(|s| s.cpu_us).median,
            ratio(|s| s.rate),
            ratio(|s| s.cpu_us),
            100.0 * row.spread(|s| s.server_share).median,
            100.0 * row.spread(|s| s.generator_share).median,
            100.0 * row.spread(|s| s.others_share).median,
        );
    }
    warn(series);
}

/// Says what makes figures doubtful.
fn warn(series: &[Series]) {
    for row in series {
        let name = format!("{} {}", row.name, length(row.object_len));
        if row.samples.iter().any(|s| s.generator_share > BUSY_SHARE) {
            println!("warning: {name}: the generator was more than 90 % busy: it may be what was measured");
        }
        let failures: Vec<_> = row.samples.iter().flat_map(|s| &s.failures).collect();
        if !failures.is_empty() {
            println!("warning: {name}: not answered Ok: {failures:?}");
        }
        let dropped = row.samples.iter().filter(|s| s.steal_share > STEAL_MAX).count();
        if dropped > 0 {
            println!("warning: {name}: {dropped} rounds with more than 3 % steal");
        }
    }
}

/// A closed loop with so many requests under way.
pub fn closed(connections: usize, depth: usize, seconds: f64) -> Plan {
    Plan {
        connections,
        depth,
        rate: None,
        warmup: Duration::from_secs_f64((seconds / 4.0).min(0.5)),
        duration: Some(Duration::from_secs_f64(seconds)),
        check: Check::Stamps,
    }
}

/// Connections and depth that a figure of this length is measured with: 32 requests under way, 8 of 1 MiB.
pub fn closed_for(object_len: u64, seconds: f64) -> Plan {
    if object_len >= 1 << 20 { closed(4, 2, seconds) } else { closed(8, 4, seconds) }
}
