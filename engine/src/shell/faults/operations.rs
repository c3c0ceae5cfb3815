//! What faults do to the operations of a shard's device.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::messages::FaultKind;
use hedgerow_wire::time::Timestamp;

use super::super::buffers::{DeviceBuffer, DmaBuffers};
use super::super::clock;
use super::super::device::{Device, DeviceEffect};
use super::{Faults, mix};
use crate::slab::{IoError, IoId, IoResult};

/// What is to happen to one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Verdict {
    /// Wait so long first.
    delay: Duration,
    /// Then fail with this code of the operating system.
    error: Option<i32>,
    /// Flip a bit of what was read.
    damage: bool,
    /// Write only the first blocks; how many is drawn from this.
    torn: Option<u64>,
    /// Never complete.
    vanish: bool,
}

impl Faults {
    /// What is to happen to the next operation.
    fn judge(&mut self, write: bool, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        self.each(now, |injected, number| {
            if !injected.strikes(number) {
                return false;
            }
            match injected.fault.kind {
                FaultKind::Error => verdict.error = Some(libc::EIO),
                FaultKind::Full if write => verdict.error = Some(libc::ENOSPC),
                FaultKind::Damage if !write => verdict.damage = true,
                FaultKind::Torn if write => verdict.torn = Some(mix(number)),
                FaultKind::Vanish => verdict.vanish = true,
                FaultKind::Full | FaultKind::Damage | FaultKind::Torn | FaultKind::Cut { .. } => {
                    return false;
                }
                FaultKind::Delay { .. }
                | FaultKind::DelayExponential { .. }
                | FaultKind::DelayUniform { .. }
                | FaultKind::Stall { .. } => {
                    verdict.delay = injected.prolong(verdict.delay, now, mix(number));
                }
            }
            true
        });
        verdict
    }
}

/// Performs an operation as the faults want it.
pub async fn perform(
    faults: &RefCell<Faults>,
    device: &Device,
    operation: DeviceEffect,
) -> (IoId, IoResult<DmaBuffers>) {
    if !faults.borrow().any() {
        return device.perform(operation).await;
    }
    let write = matches!(operation, DeviceEffect::Write { .. });
    let verdict = faults.borrow_mut().judge(write, clock::timestamp());
    if verdict.vanish {
        std::future::pending::<()>().await;
    }
    if !verdict.delay.is_zero() {
        glommio::timer::sleep(verdict.delay).await;
    }
    if let Some(code) = verdict.error {
        let error = IoError::from_os(code);
        return match operation {
            DeviceEffect::Read { io, .. } => (io, IoResult::Read(Err(error))),
            other => (other.io(), IoResult::Done(Err(error))),
        };
    }
    let operation = match verdict.torn {
        Some(draw) => operation.torn(draw),
        None => operation,
    };
    match device.perform(operation).await {
        (io, IoResult::Read(Ok(buffer))) if verdict.damage => {
            let mut bytes = buffer.as_ref().to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            (io, IoResult::Read(Ok(DeviceBuffer::Damaged(Rc::new(bytes)))))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::injected;
    use super::*;

    #[test]
    fn each_kind_does_what_it_says_until_it_ends() {
        let none = Verdict::default();
        let cases = [
            (FaultKind::Delay { delay_us: 7 }, false, Verdict { delay: Duration::from_micros(7), ..none }),
            (FaultKind::Stall { stall_ms: 1 }, false, Verdict { delay: Duration::from_nanos(900), ..none }),
            (FaultKind::Error, true, Verdict { error: Some(libc::EIO), ..none }),
            (FaultKind::Damage, false, Verdict { damage: true, ..none }),
            (FaultKind::Damage, true, none),
            (FaultKind::Full, true, Verdict { error: Some(libc::ENOSPC), ..none }),
            (FaultKind::Full, false, none),
            (FaultKind::Torn, true, Verdict { torn: Some(mix(1)), ..none }),
            (FaultKind::Torn, false, none),
            (FaultKind::Vanish, false, Verdict { vanish: true, ..none }),
        ];
        for (kind, write, expected) in cases {
            let mut faults = Faults::default();
            faults.inject(injected(kind, 1_000_000));
            assert_eq!(faults.judge(write, Timestamp(100)), expected, "{kind:?}");
            assert_eq!(faults.hits(), u64::from(expected != none), "{kind:?}");
            assert_eq!(faults.judge(write, Timestamp(1000)), none, "{kind:?} after its end");
        }
    }

    #[test]
    fn delays_add_up() {
        let mut faults = Faults::default();
        for delay_us in [7, 13] {
            faults.inject(injected(FaultKind::Delay { delay_us }, 1_000_000));
        }
        assert_eq!(faults.judge(false, Timestamp(0)).delay, Duration::from_micros(20));
    }
}
