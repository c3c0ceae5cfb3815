//! Runs of the world: of one plan, and the sum of many.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

use hedgerow_wire::time::Timestamp;

use super::coverage::Coverage;
use super::judge::{Judge, Violation, Wrong};
use super::plan::Plan;
use super::world::{self, RunReport};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened; nothing if the run did not come to its end.
    pub report: Option<RunReport>,
    /// What may never happen, and did.
    pub violation: Option<Violation>,
}

/// Runs a plan under a judge. A panic is a violation.
pub fn run(plan: &Plan) -> Outcome {
    let mut judge = Judge::new(plan);
    let report = catch_unwind(AssertUnwindSafe(|| world::run(plan, &mut judge)));
    match report {
        Ok(report) => Outcome { report: Some(report), violation: judge.violation().cloned() },
        Err(panic) => {
            let what = LAST_PANIC.take().unwrap_or_else(|| message(&*panic));
            let violation = Violation { wrong: Wrong::Panic, at: Timestamp(0), what };
            Outcome { report: None, violation: Some(violation) }
        }
    }
}

thread_local! {
    /// What the last panic of this thread said, and where.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic of this process is not written to standard error: [`run`] tells of it, and where
/// it was. For programs that do nothing but simulate.
pub fn keep_panics_quiet() {
    set_hook(Box::new(|panic| {
        let text = message(panic.payload());
        let place = panic.location().map(|place| format!("{}:{}: ", place.file(), place.line()));
        LAST_PANIC.set(Some(place.unwrap_or_default() + &text));
    }));
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// The sum of many runs.
#[derive(Clone, Default, Debug)]
pub struct Sum {
    /// Runs.
    pub runs: u64,
    /// Operations of clients.
    pub ops: u64,
    /// Requests to targets.
    pub part_requests: u64,
    /// Operations of devices.
    pub device_ops: u64,
    /// Packets between members.
    pub packets: u64,
    /// Nanoseconds of simulated time.
    pub simulated_ns: u64,
    /// Which faults and rare states there were.
    pub coverage: Coverage,
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, report: &RunReport) {
        self.runs += 1;
        self.ops += report.ops;
        self.part_requests += report.part_requests;
        self.device_ops += report.device_ops;
        self.packets += report.packets;
        self.simulated_ns += report.ended_at.0;
        self.coverage.add(&report.coverage);
    }

    /// Adds the runs of another sum.
    pub fn merge(&mut self, other: &Sum) {
        self.runs += other.runs;
        self.ops += other.ops;
        self.part_requests += other.part_requests;
        self.device_ops += other.device_ops;
        self.packets += other.packets;
        self.simulated_ns += other.simulated_ns;
        self.coverage.add(&other.coverage);
    }
}
