//! Replay of a trace of block requests, in its order, at its own or a scaled pace or as fast as it goes.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hedgerow_wire::limits::OBJECT_LEN_MAX;

use crate::load::{Next, Source};
use crate::request::{Answer, Class, Kind, Request};
use crate::sources::get;

/// The trace that comes with this program.
const BLOCKS: &str = include_str!("../traces/meta-storage-blocks.csv");
/// What it is called.
pub const BLOCKS_NAME: &str = "meta-storage-blocks";
/// Steps of a trace that are read if nothing is said of how many: a line can ask for any number of them.
const STEPS_MAX: usize = 10_000_000;
/// Set of the replayed objects.
const SET: u8 = b'r';

/// One line of the trace.
#[derive(Clone, Copy, Debug)]
struct Step {
    object: u64,
    write: bool,
    /// Seconds since the first request, if the trace tells times.
    at_s: Option<f64>,
    offset: u64,
    length: u64,
}

/// Reads a trace; lines that ask for the same several times give as many steps. No more than `steps_max`, if that is
/// given; more than [`STEPS_MAX`] are refused.
fn parse(text: &str, steps_max: Option<usize>) -> Result<Vec<Step>> {
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
    let time_column = header.iter().position(|column| *column == "op_time");
    let mut first_time: Option<f64> = None;
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
        let mut at_s = None;
        if let Some(column) = time_column {
            let time = fields.get(column).and_then(|time| time.parse::<f64>().ok());
            let time = time.filter(|time| time.is_finite());
            let time = time.with_context(|| format!("line {}: column 'op_time'", line + 2))?;
            at_s = Some(time - *first_time.get_or_insert(time));
        }
        let step = Step { object, write, at_s, length: number(2)?, offset: number(3)? };
        let (count, room) = (number(5)?, steps_max.unwrap_or(STEPS_MAX) - steps.len());
        ensure!(count <= room as u64 || steps_max.is_some(), "more than {STEPS_MAX} requests");
        steps.extend(std::iter::repeat_n(step, count.min(room as u64) as usize));
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
pub struct Trace {
    steps: Vec<Step>,
    next: usize,
    /// The trace's time runs so much faster than ours; none: as fast as it goes.
    pace: Option<f64>,
    lengths: HashMap<u64, u64>,
    states: HashMap<u64, State>,
    deadline_us: u32,
}

impl Trace {
    fn new(steps: Vec<Step>, pace: Option<f64>, deadline_us: u32) -> Result<Trace> {
        let mut lengths = HashMap::new();
        for step in &steps {
            let length = lengths.entry(step.object).or_insert(0);
            *length = step.offset.saturating_add(step.length).max(*length);
        }
        let longest = lengths.values().copied().max().unwrap_or(0);
        ensure!(longest <= OBJECT_LEN_MAX, "an object of {longest} bytes is longer than allowed");
        if let Some(pace) = pace {
            ensure!(pace > 0.0, "a pace of {pace}");
            ensure!(steps.iter().all(|step| step.at_s.is_some()), "the trace has no column 'op_time'");
        }
        Ok(Trace { steps, next: 0, pace, lengths, states: HashMap::new(), deadline_us })
    }

    /// Reads a trace from a file, or takes the one of this name that comes with the program. `requests`:
    /// so many at most.
    pub fn open(path: &Path, requests: Option<usize>, pace: Option<f64>, deadline_us: u32) -> Result<Trace> {
        let text = match path.to_str() {
            Some(BLOCKS_NAME) => BLOCKS.to_owned(),
            _ => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        };
        Trace::from_text(&text, requests, pace, deadline_us).with_context(|| format!("in {}", path.display()))
    }

    /// As [`Trace::open`], of the text of a trace.
    pub fn from_text(
        text: &str,
        requests: Option<usize>,
        pace: Option<f64>,
        deadline_us: u32,
    ) -> Result<Trace> {
        Trace::new(parse(text, requests)?, pace, deadline_us)
    }
}

impl Source for Trace {
    fn next(&mut self) -> Next {
        let Some(&step) = self.steps.get(self.next) else { return Next::End };
        let object_len = self.lengths[&step.object];
        let whole = Request { deadline_us: self.deadline_us, ..get(SET, step.object, object_len) };
        let state = self.states.entry(step.object).or_insert(State::Absent);
        match (*state, step.write) {
            (State::Putting, _) => Next::Wait,
            (State::Present, false) => {
                self.next += 1;
                let kind = Kind::Get { offset: step.offset, length: step.length };
                let class = if (Request { kind, ..whole }).is_range() { Class::Range } else { Class::Get };
                Next::Request(Request { kind, class, ..whole })
            }
            (_, write) => {
                *state = State::Putting;
                self.next += usize::from(write);
                let class = if write { Class::Put } else { Class::Fill };
                Next::Request(Request { class, kind: Kind::Put, ..whole })
            }
        }
    }

    fn due_ns(&self) -> Option<u64> {
        let at_s = self.steps.get(self.next)?.at_s?;
        Some((at_s / self.pace? * 1e9) as u64)
    }

    fn answered(&mut self, answer: &Answer) {
        if answer.request.kind == Kind::Put {
            // What failed is not tried for ever: its gets will say that it is missing.
            self.states.insert(answer.request.object, State::Present);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_read_and_ordered() {
        let steps = parse(BLOCKS, None).unwrap();
        assert_eq!(steps.len(), 1023);
        let mut trace = Trace::new(steps, None, 1000).unwrap();
        // The first step is a get: its object is put first, and the get waits for that.
        let Next::Request(first) = trace.next() else { panic!("no request") };
        assert_eq!((first.kind, first.class, first.object_len), (Kind::Put, Class::Fill, 8_388_608));
        assert!(matches!(trace.next(), Next::Wait));
        trace.states.insert(first.object, State::Present);
        let Next::Request(second) = trace.next() else { panic!("no request") };
        assert_eq!(second.kind, Kind::Get { offset: 0, length: 8_388_608 });
    }

    #[test]
    fn a_pace_scales_the_times_of_a_trace() {
        let text = "op_time,block_id,io_size,io_offset,op_name,op_count,rs_shard_id\n\
            100,a,10,0,putChunk,1,0\n103.5,a,5,2,getChunk,1,0\n";
        let mut trace = Trace::new(parse(text, None).unwrap(), Some(2.0), 1000).unwrap();
        assert_eq!(trace.due_ns(), Some(0));
        let Next::Request(first) = trace.next() else { panic!("no request") };
        assert_eq!((first.kind, first.class, first.object_len), (Kind::Put, Class::Put, 10));
        assert_eq!(trace.due_ns(), Some(1_750_000_000));
        trace.answered(&Answer::pending(first, 0, 0));
        let Next::Request(second) = trace.next() else { panic!("no request") };
        assert_eq!((second.kind, second.class), (Kind::Get { offset: 2, length: 5 }, Class::Range));
        assert!(matches!(trace.next(), Next::End));
        // This one tells no times.
        assert!(Trace::new(parse(BLOCKS, None).unwrap(), Some(1.0), 1000).is_err());
        assert!(Trace::new(parse(text, None).unwrap(), Some(0.0), 1000).is_err());
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for text in
            ["", "a,b\n1,2", "block_id,io_size,io_offset,op_name,op_count,rs_shard_id\n1,x,0,getX,1,0"]
        {
            assert!(parse(text, None).is_err(), "{text}");
        }
    }
}
