//! The kinds of faults: one table, which the wire, the command line and tests go by.

use crate::limits::{DEADLINE_US_MAX, FAULT_DURATION_MS_MAX};

/// What a fault does. To a shard's device it does it to operations, to a connection to answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Each takes so much longer.
    Delay {
        /// By how much, in microseconds.
        delay_us: u32,
    },
    /// None is completed for a while; what came meanwhile is completed then.
    Stall {
        /// How long, in milliseconds.
        stall_ms: u32,
    },
    /// They fail.
    Error,
    /// A bit of what is read, or sent, is wrong.
    Damage,
    /// Writes find no room.
    Full,
    /// None is ever completed: what is struck does not come back when the fault ends.
    Vanish,
    /// Each takes longer, by times of an exponential distribution.
    DelayExponential {
        /// Their mean, in microseconds.
        mean_us: u32,
    },
    /// Each takes longer, by times of a uniform distribution.
    DelayUniform {
        /// The least, in microseconds.
        min_us: u32,
        /// The most, in microseconds.
        max_us: u32,
    },
    /// Writes are said to be done, but only their first blocks are: at least one, and not all. What has only one
    /// block is written whole. What is missing stays missing when the fault ends.
    Torn,
    /// A connection is closed after so many more bytes of answers, be it within a frame.
    Cut {
        /// How many.
        after_bytes: u32,
    },
}

/// What a kind of fault is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultAmount {
    /// Nothing.
    None,
    /// A time in microseconds.
    Us,
    /// The least and the most of a time in microseconds.
    RangeUs,
    /// A time in milliseconds.
    Ms,
    /// A number of bytes.
    Bytes,
}

/// What a kind of fault strikes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strikes {
    Shards,
    Connections,
    Both,
}

/// One line of the table of kinds.
#[derive(Clone, Copy)]
pub struct FaultInfo {
    /// Its number on the wire.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// What it is told.
    pub amount: FaultAmount,
    strikes: Strikes,
    make: fn(u32, u32) -> FaultKind,
}

const fn line(
    number: u8,
    name: &'static str,
    strikes: Strikes,
    make: fn(u32, u32) -> FaultKind,
    amount: FaultAmount,
    about: &'static str,
) -> FaultInfo {
    FaultInfo { number, name, about, amount, strikes, make }
}

#[rustfmt::skip]
const TABLE: [FaultInfo; 10] = {
    use FaultAmount as Amount;
    use FaultKind::*;
    use Strikes::{Both, Connections, Shards};
    [
        line(1, "delay", Both, |us, _| Delay { delay_us: us }, Amount::Us, "each takes so much longer"),
        line(2, "stall", Both, |ms, _| Stall { stall_ms: ms }, Amount::Ms, "nothing for so long, then all at once"),
        line(3, "error", Shards, |_, _| Error, Amount::None, "operations fail"),
        line(4, "damage", Both, |_, _| Damage, Amount::None, "a bit of what is read, or sent, is wrong"),
        line(5, "full", Shards, |_, _| Full, Amount::None, "writes find no room"),
        line(6, "vanish", Both, |_, _| Vanish, Amount::None, "operations never come back, answers are never sent"),
        line(7, "delay-exponential", Both, |us, _| DelayExponential { mean_us: us }, Amount::Us, "takes longer, so much on average"),
        line(8, "delay-uniform", Both, |min_us, max_us| DelayUniform { min_us, max_us }, Amount::RangeUs, "takes longer, something between the two"),
        line(9, "torn", Shards, |_, _| Torn, Amount::None, "only the first blocks of a write are written, and it is said to be done"),
        line(10, "cut", Connections, |bytes, _| Cut { after_bytes: bytes }, Amount::Bytes, "closed after so many more bytes"),
    ]
};

impl FaultInfo {
    /// Every kind, in the order of their numbers.
    pub const ALL: &[FaultInfo] = &TABLE;

    /// The kind with this number.
    pub fn numbered(number: u8) -> Option<&'static FaultInfo> {
        Self::ALL.iter().find(|info| info.number == number)
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<&'static FaultInfo> {
        Self::ALL.iter().find(|info| info.name == name)
    }

    /// Whether it strikes shards.
    pub fn strikes_shards(&self) -> bool {
        self.strikes != Strikes::Connections
    }

    /// Whether it strikes connections.
    pub fn strikes_connections(&self) -> bool {
        self.strikes != Strikes::Shards
    }

    /// This kind with these amounts (of which those that it is not told are 0), if they may be.
    pub fn kind(&self, amount: u64, amount_max: u64) -> Option<FaultKind> {
        let us = 1..=u64::from(DEADLINE_US_MAX);
        let may_be = match self.amount {
            FaultAmount::None => amount == 0 && amount_max == 0,
            FaultAmount::Us => us.contains(&amount) && amount_max == 0,
            FaultAmount::RangeUs => us.contains(&amount_max) && amount <= amount_max,
            FaultAmount::Ms => (1..=u64::from(FAULT_DURATION_MS_MAX)).contains(&amount) && amount_max == 0,
            FaultAmount::Bytes => amount <= u64::from(u32::MAX) && amount_max == 0,
        };
        may_be.then(|| (self.make)(amount as u32, amount_max as u32))
    }
}

impl FaultKind {
    /// The line of the table that is about it.
    pub fn info(self) -> &'static FaultInfo {
        let place = match self {
            FaultKind::Delay { .. } => 0,
            FaultKind::Stall { .. } => 1,
            FaultKind::Error => 2,
            FaultKind::Damage => 3,
            FaultKind::Full => 4,
            FaultKind::Vanish => 5,
            FaultKind::DelayExponential { .. } => 6,
            FaultKind::DelayUniform { .. } => 7,
            FaultKind::Torn => 8,
            FaultKind::Cut { .. } => 9,
        };
        &FaultInfo::ALL[place]
    }

    /// What [`FaultInfo::kind`] makes it of.
    pub fn amounts(self) -> (u64, u64) {
        let (amount, amount_max) = match self {
            FaultKind::Delay { delay_us } => (delay_us, 0),
            FaultKind::Stall { stall_ms } => (stall_ms, 0),
            FaultKind::DelayExponential { mean_us } => (mean_us, 0),
            FaultKind::DelayUniform { min_us, max_us } => (min_us, max_us),
            FaultKind::Cut { after_bytes } => (after_bytes, 0),
            FaultKind::Error | FaultKind::Damage | FaultKind::Full | FaultKind::Vanish | FaultKind::Torn => {
                (0, 0)
            }
        };
        (u64::from(amount), u64::from(amount_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_that_of_the_kind_that_it_makes() {
        for (place, info) in FaultInfo::ALL.iter().enumerate() {
            assert_eq!(usize::from(info.number), place + 1, "{}", info.name);
            let (amount, amount_max) = match info.amount {
                FaultAmount::None => (0, 0),
                FaultAmount::RangeUs => (3, 5),
                FaultAmount::Us | FaultAmount::Ms | FaultAmount::Bytes => (7, 0),
            };
            let kind = info.kind(amount, amount_max).unwrap();
            assert_eq!(kind.amounts(), (amount, amount_max), "{}", info.name);
            assert_eq!(kind.info().number, info.number, "{}", info.name);
            assert_eq!(FaultInfo::named(info.name).map(|info| info.number), Some(info.number));
            assert_eq!(FaultInfo::numbered(info.number).map(|info| info.name), Some(info.name));
        }
        assert!(FaultInfo::numbered(0).is_none() && FaultInfo::named("fire").is_none());
    }

    #[test]
    fn amounts_that_may_not_be_make_no_kind() {
        let (us, ms) = (u64::from(DEADLINE_US_MAX), u64::from(FAULT_DURATION_MS_MAX));
        for (name, bad) in [
            ("delay", [(0, 0), (us + 1, 0), (1, 1)]),
            ("stall", [(0, 0), (ms + 1, 0), (1, 1)]),
            ("error", [(1, 0), (0, 1), (1, 1)]),
            ("delay-exponential", [(0, 0), (us + 1, 0), (1, 1)]),
            ("delay-uniform", [(0, 0), (2, 1), (0, us + 1)]),
            ("cut", [(1 << 32, 0), (0, 1), (u64::MAX, 0)]),
        ] {
            let info = FaultInfo::named(name).unwrap();
            for (amount, amount_max) in bad {
                assert_eq!(info.kind(amount, amount_max), None, "{name} {amount} {amount_max}");
            }
        }
    }
}
