//! What is known of each target: its latency, what is in flight there, and whether it is avoided.
//!
//! Latency is kept as an exponentially weighted mean and mean deviation for each class of asks, as
//! TCP keeps its round-trip time (Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988).
//! Whether a target is slow is judged against the other targets only: when all are slow, none is.

use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::Target;

use super::config::Config;
use super::limits::{
    LATENCY_SAMPLES_MIN, PROBE_PATIENCE, PROBES_IN_FLIGHT_MAX, PROBES_PROMPT_MIN, SILENCE_JUDGED_EVERY,
};
use super::stats::TargetStats;
use crate::mistakes::{Mistake, planted};

/// Index of a target in [`Targets`].
pub(super) type TargetIndex = u32;

/// Asks whose latencies are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Part reads of any length.
    Any = 0,
    /// Part reads up to [`SMALL_PART_LEN`].
    Small = 1,
    /// Part reads up to [`MEDIUM_PART_LEN`].
    Medium = 2,
    /// Longer part reads.
    Large = 3,
    /// Answers from the index alone.
    Index = 4,
    /// Part writes.
    Write = 5,
}

const CLASSES: usize = 6;
/// Longest payload of a small part, in bytes.
pub(super) const SMALL_PART_LEN: usize = 16 << 10;
/// Longest payload of a medium part, in bytes.
pub(super) const MEDIUM_PART_LEN: usize = 128 << 10;

impl Class {
    /// The class of a part read of `part_len` bytes.
    pub(super) fn of_part(part_len: usize) -> Class {
        if part_len <= SMALL_PART_LEN {
            Class::Small
        } else if part_len <= MEDIUM_PART_LEN {
            Class::Medium
        } else {
            Class::Large
        }
    }
}

/// A sample further from the mean counts as one that is so many deviations away.
const OUTLIER_REACH: f32 = 4.0;

/// Exponentially weighted mean and mean deviation of a latency, in nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
struct Estimate {
    mean_ns: f32,
    deviation_ns: f32,
    samples: u32,
}

impl Estimate {
    fn add(&mut self, sample: Duration) {
        let sample_ns = sample.as_nanos() as f32;
        if self.samples == 0 {
            self.mean_ns = sample_ns;
            self.deviation_ns = sample_ns / 2.0;
        } else {
            // One straggler tells little; a run of them moves the mean geometrically.
            let reach = OUTLIER_REACH * self.deviation_ns.max(self.mean_ns / 8.0);
            let error = (sample_ns - self.mean_ns).clamp(-reach, reach);
            self.mean_ns += error / 8.0;
            self.deviation_ns += (error.abs() - self.deviation_ns) / 4.0;
        }
        self.samples = self.samples.saturating_add(1);
    }

    fn known(&self) -> bool {
        self.samples >= LATENCY_SAMPLES_MIN
    }

    /// Nearly every answer comes within this.
    fn bound_ns(&self) -> f32 {
        self.mean_ns + 4.0 * self.deviation_ns
    }
}

/// Share of late (or failed) answers above which a target is slow if that of the others is a
/// fraction of it; and the weight of one answer in it.
const BAD_SHARE_MAX: f32 = 0.25;
const BAD_SHARE_WEIGHT: f32 = 1.0 / 16.0;

struct TargetState {
    target: Target,
    latency: [Estimate; CLASSES],
    in_flight_ops: u32,
    in_flight_bytes: u64,
    /// By [`Lane`].
    lanes: [Waiting; LANES],
    late_share: f32,
    failed_share: f32,
    /// By [`Lane`]: when the newest ask was sent that was answered from there.
    works_since: [Timestamp; LANES],
    slow: bool,
    probes_in_flight: u16,
    probe_at: Timestamp,
    probed_at: Timestamp,
    prompt_probes: u8,
    hedges: u64,
    erasures: u64,
    probes: u64,
}

/// What asks wait for at a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// Part reads: the device.
    Device = 0,
    /// Confirmations: the index, which answers while the device is stuck.
    Index = 1,
    /// Part writes.
    Log = 2,
}

const LANES: usize = 3;

/// Asks in flight in one lane, and since when none of them was answered.
#[derive(Clone, Copy, Default)]
struct Waiting {
    asks: u32,
    since: Timestamp,
}

impl Waiting {
    fn silent_for(&self, now: Timestamp) -> Duration {
        if self.asks == 0 { Duration::ZERO } else { now.since(self.since) }
    }
}

/// What an answer says of the target that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// A part, a stored part, or an answer from the index: in the class that it belongs to.
    Well(Class),
    /// It failed, or has no room.
    Badly,
    /// Only that it is alive.
    Something,
}

/// Values in ascending order.
struct Sorted(Vec<f32>);

impl Sorted {
    /// The lower median; 0 if there are no values.
    fn median(&self) -> f32 {
        self.0.get(self.0.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    }

    /// The lower median of all values but one that equals `value`; 0 if there are none.
    fn median_without(&self, value: f32) -> f32 {
        if self.0.len() < 2 {
            return 0.0;
        }
        let without = self.0.partition_point(|&other| other < value);
        let middle = (self.0.len() - 2) / 2;
        self.0[if without <= middle { middle + 1 } else { middle }]
    }
}

/// All targets of a ring.
pub(super) struct Targets {
    list: Vec<TargetState>,
    /// Over all targets: median of the means and of the bounds, by class; 0 while not known.
    median_ns: [f32; CLASSES],
    bound_ns: [f32; CLASSES],
    scratch: Vec<f32>,
    silence_judged: Timestamp,
    most_silent: bool,
    jitter: u64,
    hedge_floor: Duration,
    hedge_ceiling: Duration,
    slow_factor: f32,
    slow_floor: Duration,
    probe_interval: Duration,
    ops_max: u32,
    bytes_max: u64,
}

impl Targets {
    pub(super) fn new(mut targets: Vec<Target>, config: &Config, seed: u64) -> Targets {
        targets.sort_unstable();
        let state = |target| TargetState {
            target,
            latency: [Estimate::default(); CLASSES],
            in_flight_ops: 0,
            in_flight_bytes: 0,
            lanes: [Waiting::default(); LANES],
            late_share: 0.0,
            failed_share: 0.0,
            works_since: [Timestamp(0); LANES],
            slow: false,
            probes_in_flight: 0,
            probe_at: Timestamp(0),
            probed_at: Timestamp(0),
            prompt_probes: 0,
            hedges: 0,
            erasures: 0,
            probes: 0,
        };
        Targets {
            list: targets.into_iter().map(state).collect(),
            median_ns: [0.0; CLASSES],
            bound_ns: [0.0; CLASSES],
            scratch: Vec::new(),
            silence_judged: Timestamp(0),
            most_silent: false,
            jitter: seed | 1,
            hedge_floor: config.hedge_floor,
            hedge_ceiling: config.hedge_ceiling,
            slow_factor: config.slow_factor as f32,
            slow_floor: config.slow_floor,
            probe_interval: config.probe_interval,
            ops_max: config.target_ops_max,
            bytes_max: config.target_bytes_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn index_of(&self, target: Target) -> Option<TargetIndex> {
        self.list.binary_search_by_key(&target, |state| state.target).ok().map(|index| index as TargetIndex)
    }

    pub(super) fn target(&self, index: TargetIndex) -> Target {
        self.list[index as usize].target
    }

    /// Whether the target is avoided.
    pub(super) fn slow(&self, index: TargetIndex) -> bool {
        self.list[index as usize].slow
    }

    /// Whether one more ask of `bytes` is within the caps.
    pub(super) fn room(&self, index: TargetIndex, bytes: u32) -> bool {
        let state = &self.list[index as usize];
        state.in_flight_ops < self.ops_max
            && (state.in_flight_ops == 0 || state.in_flight_bytes + u64::from(bytes) <= self.bytes_max)
    }

    /// Whether there is no point in waiting for a confirmation of the target: it is past its cap, or
    /// has been silent for long while others wait.
    pub(super) fn stuck(&self, index: TargetIndex, now: Timestamp) -> bool {
        let silent_for = self.list[index as usize].lanes[Lane::Index as usize].silent_for(now);
        !self.room(index, 0) || silent_for > self.hedge_ceiling
    }

    /// An ask goes out, to wait in `lane`.
    pub(super) fn sent(&mut self, index: TargetIndex, bytes: u32, lane: Lane, now: Timestamp) {
        let state = &mut self.list[index as usize];
        state.in_flight_ops += 1;
        state.in_flight_bytes += u64::from(bytes);
        let waiting = &mut state.lanes[lane as usize];
        if waiting.asks == 0 {
            waiting.since = now;
        }
        waiting.asks += 1;
    }

    /// An ask is no longer in flight: it was answered.
    pub(super) fn done(&mut self, index: TargetIndex, bytes: u32, lane: Lane, now: Timestamp) {
        self.lost(index, bytes, lane);
        self.list[index as usize].lanes[lane as usize].since = now;
    }

    /// An ask is no longer in flight: it is lost.
    pub(super) fn lost(&mut self, index: TargetIndex, bytes: u32, lane: Lane) {
        let state = &mut self.list[index as usize];
        state.in_flight_ops -= 1;
        state.in_flight_bytes -= if planted(Mistake::BytesLeak) { 0 } else { u64::from(bytes) };
        state.lanes[lane as usize].asks -= 1;
    }

    /// An ask that was sent at `sent` was answered so: what that shows to be working.
    pub(super) fn works(&mut self, index: TargetIndex, said: Said, sent: Timestamp) {
        let lane = match said {
            Said::Well(Class::Small | Class::Medium | Class::Large) => Lane::Device,
            Said::Well(Class::Write) => Lane::Log,
            Said::Well(Class::Any | Class::Index) | Said::Badly | Said::Something => Lane::Index,
        };
        let since = &mut self.list[index as usize].works_since[lane as usize];
        *since = sent.max(*since);
    }

    /// When the newest ask was sent that the target answered from there.
    pub(super) fn works_since(&self, index: TargetIndex, lane: Lane) -> Timestamp {
        self.list[index as usize].works_since[lane as usize]
    }

    /// Learns from an answer that took `took`. `was_late`: a reader had given it up as late.
    pub(super) fn learn(&mut self, index: TargetIndex, said: Said, took: Duration, was_late: bool) {
        let state = &mut self.list[index as usize];
        match said {
            Said::Well(class) => {
                state.latency[class as usize].add(took);
                if matches!(class, Class::Small | Class::Medium | Class::Large) {
                    state.latency[Class::Any as usize].add(took);
                    if !was_late {
                        state.late_share -= state.late_share * BAD_SHARE_WEIGHT;
                    }
                }
                state.failed_share -= state.failed_share * BAD_SHARE_WEIGHT;
            }
            Said::Badly => {
                state.failed_share += (1.0 - state.failed_share) * BAD_SHARE_WEIGHT;
            }
            Said::Something => {}
        }
    }

    /// An answer of it was no use.
    pub(super) fn erasure(&mut self, index: TargetIndex) {
        self.list[index as usize].erasures += 1;
    }

    /// A read waits for a part of it for longer than is usual.
    pub(super) fn late(&mut self, index: TargetIndex) {
        let state = &mut self.list[index as usize];
        state.hedges += 1;
        state.late_share += (1.0 - state.late_share) * BAD_SHARE_WEIGHT;
    }

    /// An ask was given up after `waited`: its latency is at least that.
    pub(super) fn at_least(&mut self, index: TargetIndex, waited: Duration) {
        let estimate = &mut self.list[index as usize].latency[Class::Any as usize];
        if waited.as_nanos() as f32 > estimate.mean_ns {
            estimate.add(waited);
        }
    }

    /// How long after it was sent an ask of `class` is late: past what is usual for the target, but
    /// for a target that is slower than the others past what is usual for them, with some allowance.
    pub(super) fn late_after(&self, index: TargetIndex, class: Class) -> Duration {
        let own = &self.list[index as usize].latency[class as usize];
        let others_ns = self.bound_ns[class as usize];
        let usual_ns = match (own.known(), others_ns > 0.0) {
            (true, true) => own.bound_ns().min(2.0 * others_ns),
            (true, false) => own.bound_ns(),
            (false, true) => 2.0 * others_ns,
            (false, false) if class != Class::Any => return self.late_after(index, Class::Any),
            (false, false) => return self.hedge_ceiling,
        };
        Duration::from_nanos(usual_ns as u64).clamp(self.hedge_floor, self.hedge_ceiling)
    }

    /// Whether most of all targets are silent for longer than is usual: then it is not a target that
    /// is slow. Judged at most every [`SILENCE_JUDGED_EVERY`].
    pub(super) fn most_silent(&mut self, now: Timestamp) -> bool {
        if now.since(self.silence_judged) >= SILENCE_JUDGED_EVERY || self.silence_judged.0 == 0 {
            self.silence_judged = now;
            let silent = (0..self.list.len()).filter(|&index| {
                let silent_for = self.list[index].lanes[Lane::Device as usize].silent_for(now);
                silent_for > self.late_after(index as TargetIndex, Class::Any)
            });
            self.most_silent = silent.count() * 2 > self.list.len();
        }
        self.most_silent
    }

    /// Judges anew what is usual, and who is slow. At most half of the targets are.
    pub(super) fn judge(&mut self, now: Timestamp) {
        for class in 0..CLASSES {
            self.bound_ns[class] = self.sorted(class, Estimate::bound_ns).median();
            self.median_ns[class] = self.sorted(class, |estimate| estimate.mean_ns).median();
        }
        let means = self.sorted(Class::Any as usize, |estimate| estimate.mean_ns);
        let most_silent = self.most_silent(now);
        let mut slow = self.list.iter().filter(|state| state.slow).count();
        for index in 0..self.list.len() {
            if self.list[index].slow || (slow + 1) * 2 > self.list.len() {
                continue;
            }
            if self.lags(index, &means, most_silent, now) {
                slow += 1;
                let state = &mut self.list[index];
                state.slow = true;
                state.prompt_probes = 0;
                state.probe_at = now;
            }
        }
        self.scratch = means.0;
    }

    /// Whether a target lags behind the others: in latency, in promptness, by failing, or by silence.
    fn lags(&self, index: usize, means: &Sorted, most_silent: bool, now: Timestamp) -> bool {
        let state = &self.list[index];
        let own = &state.latency[Class::Any as usize];
        let floor_ns = self.slow_floor.as_nanos() as f32;
        let others_ns = if own.known() { means.median_without(own.mean_ns) } else { 0.0 };
        let mean_lags =
            others_ns > 0.0 && own.mean_ns > (self.slow_factor * others_ns).max(others_ns + floor_ns);
        let silent_for = state.lanes[Lane::Device as usize].silent_for(now);
        let silent = silent_for > self.hedge_ceiling && !most_silent;
        let bad = |share: fn(&TargetState) -> f32| {
            let mine = share(state);
            mine > BAD_SHARE_MAX
                && self.list.iter().filter(|other| share(other) * 2.0 > mine).count() * 2 <= self.list.len()
        };
        mean_lags || silent || bad(|state| state.late_share) || bad(|state| state.failed_share)
    }

    /// What is known of all targets in one class, in order.
    fn sorted(&mut self, class: usize, of: fn(&Estimate) -> f32) -> Sorted {
        let mut values = std::mem::take(&mut self.scratch);
        values.clear();
        let known = self.list.iter().map(|state| &state.latency[class]).filter(|estimate| estimate.known());
        values.extend(known.map(of));
        values.sort_unstable_by(f32::total_cmp);
        Sorted(values)
    }

    /// Takes the leave to probe a slow target, if it is due.
    pub(super) fn take_probe(&mut self, index: TargetIndex, now: Timestamp) -> bool {
        let state = &mut self.list[index as usize];
        // A probe that is not answered says enough; another one is worth it only after a long while.
        let impatient = state.probes_in_flight > 0 && now.since(state.probed_at) < PROBE_PATIENCE;
        let full = state.probes_in_flight >= PROBES_IN_FLIGHT_MAX;
        if !state.slow || now < state.probe_at || impatient || full {
            return false;
        }
        // Up to an eighth more, so that coordinators do not fall into step.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let extra = (self.probe_interval.as_nanos() as u64 / 8).max(1);
        state.probed_at = now;
        state.probe_at = now + self.probe_interval + Duration::from_nanos(self.jitter % extra);
        state.probes_in_flight += 1;
        state.probes += 1;
        true
    }

    /// A probe was answered after `took`; `None` if it was no use, or is lost.
    pub(super) fn probed(&mut self, index: TargetIndex, took: Option<(Class, Duration)>) {
        let prompt = took.is_some_and(|(class, took)| {
            let usual = Duration::from_nanos(self.median_ns[class as usize] as u64);
            took <= (usual * 2).max(usual + self.slow_floor)
        });
        let medians = self.median_ns;
        let state = &mut self.list[index as usize];
        state.probes_in_flight -= 1;
        state.prompt_probes = if prompt { state.prompt_probes + 1 } else { 0 };
        if state.slow && state.prompt_probes >= PROBES_PROMPT_MIN {
            state.slow = false;
            state.late_share = 0.0;
            state.failed_share = 0.0;
            // What was learnt while it was slow no longer holds; the others' usual latency does.
            for (estimate, median_ns) in state.latency.iter_mut().zip(medians) {
                if median_ns > 0.0 {
                    estimate.mean_ns = median_ns;
                    estimate.deviation_ns = median_ns / 2.0;
                }
            }
        }
    }

    /// A view for people.
    pub(super) fn stats(&self) -> Vec<TargetStats> {
        let view = |state: &TargetState| {
            let estimate = &state.latency[Class::Any as usize];
            TargetStats {
                target: state.target,
                latency_mean: Duration::from_nanos(estimate.mean_ns as u64),
                latency_deviation: Duration::from_nanos(estimate.deviation_ns as u64),
                in_flight_ops: state.in_flight_ops,
                in_flight_bytes: state.in_flight_bytes,
                slow: state.slow,
                hedges: state.hedges,
                erasures: state.erasures,
                probes: state.probes,
            }
        };
        self.list.iter().map(view).collect()
    }
}
