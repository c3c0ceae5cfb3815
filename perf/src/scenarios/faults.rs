//! The scenarios: what goes wrong in each, and when. Pure.

use std::time::Duration;

use hedgerow_wire::limits::FAULT_DURATION_MS_MAX;
use hedgerow_wire::messages::{Fault, FaultKind, FaultPlace};

/// The shard that is struck.
const SHARD: u16 = 1;
/// The other one, where two are.
const SECOND_SHARD: u16 = 4;
/// A stall comes once in so much time, or once in a shorter window.
const STALL_PERIOD: Duration = Duration::from_secs(10);
/// It takes this share of the period.
const STALL_SHARE: f64 = 0.2;
/// And begins after this share of it.
const STALL_ONSET: f64 = 0.4;
/// Other faults begin after this share of the window, and last for as much again and once more.
pub const ONSET: f64 = 0.25;
/// How long they last, as a share of the window.
pub const LASTS: f64 = 0.5;
/// Longest window: half of it is the longest fault that a daemon takes.
pub const WINDOW_MAX: Duration = Duration::from_millis(2 * FAULT_DURATION_MS_MAX as u64);

/// What is the matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing: what all others are held against.
    None,
    /// One shard takes so much longer, for a share of its operations in millionths.
    Delay {
        /// By how much, in microseconds.
        delay_us: u32,
        /// Share of its operations.
        share_ppm: u32,
    },
    /// These shards complete nothing for 2 s of every 10.
    Stall(&'static [u16]),
    /// One shard's device fails every operation.
    Failing,
    /// The daemon has half of its memory tier.
    HalfMemory,
    /// The daemon was killed and has started again: it is measured from its first request on.
    ColdStart,
    /// The devices are full: objects are put beside the gets, and others evicted.
    FullDevice,
}

/// A scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Its name, on the command line too.
    pub name: &'static str,
    /// What is the matter.
    pub trouble: Trouble,
}

/// One shard slower, for all or for 1 % of its operations.
const fn delay(name: &'static str, delay_ms: u32, percent: u32) -> Scenario {
    Scenario { name, trouble: Trouble::Delay { delay_us: delay_ms * 1000, share_ppm: percent * 10_000 } }
}

const fn other(name: &'static str, trouble: Trouble) -> Scenario {
    Scenario { name, trouble }
}

/// All of them, in the order in which they are measured. The healthy daemon comes first; what full devices
/// have let go is gone, so they come last.
pub const SCENARIOS: [Scenario; 15] = [
    other("healthy", Trouble::None),
    delay("delay 1 ms", 1, 100),
    delay("delay 10 ms", 10, 100),
    delay("delay 50 ms", 50, 100),
    delay("delay 200 ms", 200, 100),
    delay("delay 1 ms, 1 %", 1, 1),
    delay("delay 10 ms, 1 %", 10, 1),
    delay("delay 50 ms, 1 %", 50, 1),
    delay("delay 200 ms, 1 %", 200, 1),
    other("stall", Trouble::Stall(&[SHARD])),
    other("two stalls", Trouble::Stall(&[SHARD, SECOND_SHARD])),
    other("failing shard", Trouble::Failing),
    other("half memory", Trouble::HalfMemory),
    other("cold start", Trouble::ColdStart),
    other("full device", Trouble::FullDevice),
];

impl std::str::FromStr for &'static Scenario {
    type Err = String;
    fn from_str(text: &str) -> Result<&'static Scenario, String> {
        let names = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join("', '");
        SCENARIOS
            .iter()
            .find(|scenario| scenario.name == text)
            .ok_or_else(|| format!("there are: '{}'", names()))
    }
}

/// A fault, and when it is to be injected. It ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Since the window began.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// The faults of a window of this length: each begins and ends within it.
pub fn schedule(trouble: Trouble, window: Duration) -> Vec<Event> {
    let ms = |lasts: Duration| (lasts.as_millis() as u32).clamp(1, FAULT_DURATION_MS_MAX);
    let event = |at, shard, kind, share_ppm, lasts| {
        let place = FaultPlace::Shard(shard);
        Event { at, fault: Fault { place, kind, share_ppm, duration_ms: ms(lasts) } }
    };
    let all = Fault::SHARE_ALL_PPM;
    let once =
        |kind, share_ppm| vec![event(window.mul_f64(ONSET), SHARD, kind, share_ppm, window.mul_f64(LASTS))];
    match trouble {
        Trouble::Delay { delay_us, share_ppm } => once(FaultKind::Delay { delay_us }, share_ppm),
        Trouble::Failing => once(FaultKind::Error, all),
        Trouble::Stall(shards) => {
            let period = window.min(STALL_PERIOD);
            let lasts = period.mul_f64(STALL_SHARE);
            let kind = FaultKind::Stall { stall_ms: ms(lasts) };
            let count = (window.as_secs_f64() / period.as_secs_f64()) as u32;
            let begin = |number| period * number + period.mul_f64(STALL_ONSET);
            let stalls =
                |number| shards.iter().map(move |shard| event(begin(number), *shard, kind, all, lasts));
            (0..count).flat_map(stalls).collect()
        }
        Trouble::None | Trouble::HalfMemory | Trouble::ColdStart | Trouble::FullDevice => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, window_ms: u64) -> Vec<(u64, u32, FaultPlace)> {
        let scenario: &Scenario = name.parse().unwrap();
        let events = schedule(scenario.trouble, Duration::from_millis(window_ms));
        let what = |event: &Event| (event.at.as_millis() as u64, event.fault.duration_ms, event.fault.place);
        events.iter().map(what).collect()
    }

    #[test]
    fn faults_come_when_they_should() {
        let (first, second) = (FaultPlace::Shard(1), FaultPlace::Shard(4));
        assert_eq!(of("healthy", 10_000), []);
        assert_eq!(of("cold start", 10_000), []);
        assert_eq!(of("delay 50 ms", 20_000), [(5000, 10_000, first)]);
        assert_eq!(of("failing shard", 400), [(100, 200, first)]);
        // 2 s in every 10, as often as the window has 10 s; a fifth of a shorter window.
        assert_eq!(of("stall", 25_000), [(4000, 2000, first), (14_000, 2000, first)]);
        assert_eq!(of("stall", 1000), [(400, 200, first)]);
        assert_eq!(of("two stalls", 10_000), [(4000, 2000, first), (4000, 2000, second)]);
    }

    #[test]
    fn every_fault_begins_and_ends_within_its_window_and_can_be_sent() {
        for scenario in &SCENARIOS {
            for window in [Duration::from_millis(200), Duration::from_secs(33), WINDOW_MAX] {
                for event in schedule(scenario.trouble, window) {
                    let end = event.at + Duration::from_millis(u64::from(event.fault.duration_ms));
                    assert!(event.at > Duration::ZERO && end < window, "{}: {event:?}", scenario.name);
                    let request = hedgerow_wire::messages::FaultRequest::Inject(event.fault);
                    let sent = hedgerow_wire::messages::Message::encode(&request).unwrap();
                    let heard: hedgerow_wire::messages::FaultRequest =
                        hedgerow_wire::messages::Message::decode(&sent).unwrap();
                    assert_eq!(heard, request);
                }
            }
        }
    }

    #[test]
    fn shares_and_delays_are_those_of_the_names() {
        for scenario in SCENARIOS {
            let Trouble::Delay { delay_us, share_ppm } = scenario.trouble else { continue };
            let share = if share_ppm == 10_000 { ", 1 %" } else { "" };
            assert_eq!(scenario.name, format!("delay {} ms{share}", delay_us / 1000));
            assert!(share_ppm == 10_000 || share_ppm == Fault::SHARE_ALL_PPM);
        }
        assert!("delay 3 ms".parse::<&Scenario>().unwrap_err().contains("'delay 10 ms'"));
    }
}
