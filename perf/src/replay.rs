//! `hedgerow-perf replay`: a minute of a storage cluster's block requests, every byte checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hedgerow_wire::frame::Status;
use hedgerow_wire::limits::OBJECT_LEN_MAX;

use crate::connection::Check;
use crate::figures::start_daemon;
use crate::load::{self, Mark, Next, Outcome, Plan, Source};
use crate::machine;
use crate::measure::closed;
use crate::pattern::Pattern;
use crate::request::{Answer, Kind, Request};
use crate::server::daemon_binary;
use crate::sources::{get, put};

/// The trace that comes with this program.
const TRACE: &str = include_str!("../traces/meta-storage-blocks.csv");
/// Set of the replayed objects.
const SET: u8 = b'r';
/// Names of the classes.
const CLASSES: [&str; 3] = ["get", "put", "put on first sight"];

/// Which trace, against what.
#[derive(Clone, Debug, clap::Args)]
pub struct Replay {
    /// A trace in the format of the one that comes with this program [default: that one]
    #[arg(long)]
    trace: Option<PathBuf>,
    /// A daemon that runs already [default: one is started]
    #[arg(long)]
    address: Option<SocketAddr>,
    /// The daemon's binary [default: hedgerowd beside this program]
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// Folder for the data
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Requests under way
    #[arg(long, default_value_t = 8)]
    depth: usize,
    /// So many requests of the trace at most
    #[arg(long)]
    requests: Option<usize>,
    /// More flags for the daemon that is started
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_delimiter = ' ')]
    flags: Vec<String>,
}

/// One line of the trace.
#[derive(Clone, Copy, Debug)]
struct Step {
    object: u64,
    write: bool,
    offset: u64,
    length: u64,
}

/// Reads a trace; lines that ask for the same several times give as many steps.
fn parse(text: &str) -> Result<Vec<Step>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().context("the trace is empty")?.split(',').collect();
    let column = |name: &str| {
        header.iter().position(|column| *column == name).with_context(|| format!("no column '{name}'"))
    };
    let names = ["block_id", "rs_shard_id", "io_size", "io_offset", "op_name", "op_count"];
    let mut columns = Vec::new();
    for name in names {
        columns.push(column(name)?);
    }
    let mut numbers: HashMap<(String, String), u64> = HashMap::new();
    let mut steps = Vec::new();
    for (line, text) in lines.enumerate() {
        let fields: Vec<&str> = text.split(',').collect();
        let field = |place: usize| {
            fields.get(columns[place]).copied().with_context(|| format!("line {} is short", line + 2))
        };
        let number = |place: usize| -> Result<u64> {
            field(place)?.parse().with_context(|| format!("line {}: column '{}'", line + 2, names[place]))
        };
        let next = numbers.len() as u64;
        let object = *numbers.entry((field(0)?.to_owned(), field(1)?.to_owned())).or_insert(next);
        let write = field(4)?.starts_with("put");
        let step = Step { object, write, length: number(2)?, offset: number(3)? };
        steps.extend((0..number(5)?).map(|_| step));
    }
    Ok(steps)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Putting,
    Present,
}

/// The steps of a trace in their order: a step waits for the put of its object that is under way, and a
/// get of an object that was not put before puts it first.
struct Trace {
    steps: Vec<Step>,
    next: usize,
    lengths: HashMap<u64, u64>,
    states: HashMap<u64, State>,
    failures: Vec<(Request, Status)>,
}

impl Trace {
    fn new(steps: Vec<Step>) -> Trace {
        let mut lengths = HashMap::new();
        for step in &steps {
            let length = lengths.entry(step.object).or_insert(0);
            *length = (step.offset + step.length).max(*length);
        }
        Trace { steps, next: 0, lengths, states: HashMap::new(), failures: Vec::new() }
    }
}

impl Source for Trace {
    fn next(&mut self) -> Next {
        let Some(&step) = self.steps.get(self.next) else { return Next::End };
        let object_len = self.lengths[&step.object];
        let state = self.states.entry(step.object).or_insert(State::Absent);
        match (*state, step.write) {
            (State::Putting, _) => Next::Wait,
            (State::Present, false) => {
                self.next += 1;
                let kind = Kind::Get { offset: step.offset, length: step.length };
                Next::Request(Request { kind, ..get(SET, step.object, object_len, 0) })
            }
            (_, write) => {
                *state = State::Putting;
                self.next += usize::from(write);
                Next::Request(put(SET, step.object, object_len, if write { 1 } else { 2 }))
            }
        }
    }

    fn answered(&mut self, answer: &Answer) {
        let ok = answer.status == Status::Ok;
        if answer.request.kind == Kind::Put {
            // What failed is not tried for ever: its gets will say that it is missing.
            self.states.insert(answer.request.object, State::Present);
        }
        if !ok {
            self.failures.push((answer.request, answer.status));
        }
    }
}

/// Runs it.
pub fn run(options: &Replay) -> Result<()> {
    println!("{}", machine::describe());
    let text = match &options.trace {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        None => TRACE.to_owned(),
    };
    let mut steps = parse(&text)?;
    steps.truncate(options.requests.unwrap_or(usize::MAX));
    let mut source = Trace::new(steps);
    let longest = source.lengths.values().copied().max().unwrap_or(0);
    ensure!(longest <= OBJECT_LEN_MAX, "an object of {longest} bytes is longer than allowed");
    let folder = tempfile::tempdir_in(&options.folder)?;
    let server = match options.address {
        Some(_) => None,
        None => {
            let mut flags = vec!["--shard-size", "2G"];
            flags.extend(options.flags.iter().map(String::as_str));
            let binary = daemon_binary(options.daemon.as_deref())?;
            Some(start_daemon(&binary, &folder.path().join("daemon"), 0, &flags)?)
        }
    };
    let address = match (&server, options.address) {
        (Some(server), _) => server.address,
        (None, address) => address.context("an address")?,
    };
    let plan = Plan {
        warmup: Duration::ZERO,
        duration: None,
        check: Check::All,
        classes: CLASSES.len(),
        ..closed(1, options.depth, 0.0)
    };
    let outcome = load::run(address, &plan, &mut source, &Pattern::default(), &mut |_: Mark| {})?;
    print(&source, &outcome);
    outcome.check()?;
    ensure!(source.failures.is_empty(), "{} requests were not answered Ok", source.failures.len());
    Ok(())
}

fn print(source: &Trace, outcome: &Outcome) {
    println!(
        "{} requests on {} objects in {:.2} s, every byte checked",
        source.steps.len(),
        source.lengths.len(),
        outcome.seconds
    );
    for (name, tally) in CLASSES.iter().zip(&outcome.classes).filter(|(_, tally)| tally.answered > 0) {
        println!(
            "- {name}: {} ok, {} wrong, {:.2} GiB, {:.2} GB/s; ms: p50 {:.2}, p99 {:.2}, most {:.2}; not Ok: {:?}",
            tally.ok(),
            tally.wrong,
            tally.bytes as f64 / (1u64 << 30) as f64,
            tally.bytes as f64 / outcome.seconds / 1e9,
            tally.latency.value_at_quantile(0.5) as f64 / 1e6,
            tally.latency.value_at_quantile(0.99) as f64 / 1e6,
            tally.latency.max() as f64 / 1e6,
            tally.failures(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_read_and_ordered() {
        let steps = parse(TRACE).unwrap();
        assert_eq!(steps.len(), 1023);
        let mut trace = Trace::new(steps);
        // The first step is a get: its object is put first, and the get waits for that.
        let Next::Request(first) = trace.next() else { panic!("no request") };
        assert_eq!((first.kind, first.class, first.object_len), (Kind::Put, 2, 8_388_608));
        assert!(matches!(trace.next(), Next::Wait));
        trace.states.insert(first.object, State::Present);
        let Next::Request(second) = trace.next() else { panic!("no request") };
        assert_eq!(second.kind, Kind::Get { offset: 0, length: 8_388_608 });
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for text in
            ["", "a,b\n1,2", "block_id,io_size,io_offset,op_name,op_count,rs_shard_id\n1,x,0,getX,1,0"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
