//! How late something that was due after five milliseconds is: probes at random times, beside a load or
//! alone, timed from when they were handed to the socket until their answer was there.

use hdrhistogram::Histogram;

use crate::bare::{lateness_ns, open, ping};
use crate::load::{self, BUSY_SHARE, Next, Outcome, Source};
use crate::measure::{closed, measure};
use crate::pattern::{Pattern, Random};
use crate::request::{Answer, Class, Request};
use crate::server::Server;

/// What is due when.
pub const BUDGET_US: u32 = 5_000;

/// A bare server's probe.
pub fn delayed_ping() -> Box<dyn FnMut() -> Request + Send> {
    Box::new(|| ping(std::time::Duration::from_micros(u64::from(BUDGET_US))))
}

/// Probes at `probe_rate` among a background load at `rate`.
pub struct Probes {
    rate: f64,
    probe_rate: f64,
    probe: Box<dyn FnMut() -> Request + Send>,
    background: Box<dyn Source>,
    random: Random,
    /// How late the client had its answer, in nanoseconds.
    pub at_client: Histogram<u64>,
    /// Answers that came before they were due: how much.
    pub early: Histogram<u64>,
    /// How late the bare server's timer was, in nanoseconds.
    pub at_server: Histogram<u64>,
    /// Probes that were answered otherwise than by their time being over.
    pub others: u64,
    /// The probe is right when it is answered with this.
    pub expected: hedgerow_wire::frame::Status,
}

impl Probes {
    /// None sent so far. Answers with `Ok` are what is expected.
    pub fn new(
        rate: f64,
        probe_rate: f64,
        probe: Box<dyn FnMut() -> Request + Send>,
        background: Box<dyn Source>,
    ) -> Probes {
        Probes {
            rate,
            probe_rate,
            probe,
            background,
            random: Random::new(7),
            at_client: load::histogram(),
            early: load::histogram(),
            at_server: load::histogram(),
            others: 0,
            expected: hedgerow_wire::frame::Status::Ok,
        }
    }

    /// Requests per second, of both.
    pub fn arrivals(&self) -> f64 {
        self.rate + self.probe_rate
    }
}

impl Source for Probes {
    fn next(&mut self) -> Next {
        if self.random.unit() * self.arrivals() < self.probe_rate {
            return Next::Request(Request { class: Class::Probe, ..(self.probe)() });
        }
        self.background.next()
    }

    fn answered(&mut self, answer: &Answer) {
        if answer.request.class != Class::Probe {
            return;
        }
        if answer.status != self.expected {
            self.others += 1;
            return;
        }
        let due_ns = answer.sent_ns + u64::from(BUDGET_US) * 1000;
        match answer.end_ns.checked_sub(due_ns) {
            Some(late) => self.at_client.saturating_record(late),
            None => {
                self.at_client.saturating_record(0);
                self.early.saturating_record(due_ns - answer.end_ns);
            }
        }
        if let Some(late) = lateness_ns(answer) {
            self.at_server.saturating_record(late);
        }
    }
}

/// Requests per second of a load that keeps the server's core busy.
pub fn full_rate(server: &Server, background: &mut dyn Source, pattern: &Pattern) -> anyhow::Result<f64> {
    let (sample, _) = measure(server, &closed(8, 4, 1.0), background, pattern)?;
    Ok(sample.rate)
}

/// Runs probes for some seconds.
pub fn probe(
    server: &Server,
    source: &mut Probes,
    seconds: f64,
    pattern: &Pattern,
) -> anyhow::Result<Outcome> {
    let plan = open(source.arrivals(), seconds);
    let (_, outcome) = measure(server, &plan, source, pattern)?;
    Ok(outcome)
}

/// Microseconds: `p50 / p99 / p99.9 (most) of count`.
pub fn describe(histogram: &Histogram<u64>) -> String {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    format!(
        "{:.0} / {:.0} / {:.0} ({:.0}) of {}",
        at(0.5),
        at(0.99),
        at(0.999),
        histogram.max() as f64 / 1e3,
        histogram.len()
    )
}

/// Says what makes a run doubtful.
pub fn warn(outcome: &Outcome) {
    let background = outcome.of(Class::Get);
    let partly = background.from_memory > 0 && background.from_memory < background.ok();
    if !background.failures().is_empty() || partly {
        println!(
            "note: of the load {} were answered Ok, {} of them from the memory tier; otherwise {:?}; p99 {} us",
            background.ok(),
            background.from_memory,
            background.failures(),
            background.latency.value_at_quantile(0.99) / 1000
        );
    }
    if outcome.generator_share > BUSY_SHARE {
        println!("warning: the generator was {:.0} % busy", 100.0 * outcome.generator_share);
    }
    if outcome.unsent > 0 {
        println!("warning: {} requests were due and not sent at the end", outcome.unsent);
    }
}
