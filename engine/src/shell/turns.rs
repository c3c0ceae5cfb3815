//! How the tasks of a core share it with their runtime.
//!
//! glommio looks at its devices, sockets and timers when the tasks that were ready have run, or when a
//! preemption timer is over. That timer is not used here (the data path's queue is `Latency::NotImportant`):
//! when it is over before the first task runs, because the thread was descheduled just then, glommio 0.9
//! takes that for nothing to run and may park with tasks that are ready. Instead the ready tasks of a core
//! always run out soon: each does a bounded piece of work, then waits for something, if only for its next
//! [`turn`]; and timers that are due are seen to by [`super::core::Core::pump`] itself.
//!
//! Two rare ways to park over ready tasks are left: the preemption timer that glommio sets all the same
//! (100 ms), and another core's wake-up that comes when this one has been woken by something else already.
//! [`stay_awake`] bounds what they cost.

use std::rc::Rc;

use super::clock;
use super::core::Core;
use super::limits::{HOUSEKEEPING, SPIN, TURN, WATCH_PERIODS};
use super::stages;

/// Waits until the runtime has looked at its devices, sockets and timers again.
pub async fn turn() {
    glommio::timer::sleep(TURN).await;
}

/// Keeps timers in the runtime, so that no sleep over ready tasks is longer than a few of them: a core
/// that has something to do wakes every millisecond or so, an idle one as often as housekeeping does. One
/// timer would not do: its own task may be among those that are slept over. Never ends.
pub fn stay_awake(core: &Rc<Core>) {
    for period in WATCH_PERIODS {
        let core = core.clone();
        core.clone().spawn(async move {
            let (mut nap, mut seen) = (period, 0);
            loop {
                glommio::timer::sleep(nap).await;
                let stirs = core.stirs.get();
                nap = if stirs == seen { (nap * 2).min(HOUSEKEEPING + period) } else { period };
                seen = stirs;
            }
        });
    }
}

/// Keeps a core awake that has nothing to do but had a moment ago: waking a sleeping one costs about as much. Not the
/// runtime's own spinning, which only looks at memory: the kernel hands completions over when it is entered
/// ([`super::rings`]), as the runtime does at every turn. What that costs is counted ([`stages::spun`]). Never ends.
pub async fn linger(core: Rc<Core>) {
    loop {
        core.stirred.wait().await;
        let mut last = clock::timestamp();
        // Processor time at the end of the last turn, if nothing came in it.
        let mut idle_since_ns = None;
        loop {
            turn().await;
            let now = clock::timestamp();
            if core.stirred.take() {
                (last, idle_since_ns) = (now, None);
                continue;
            }
            let cpu_ns = clock::thread_cpu_ns();
            idle_since_ns.replace(cpu_ns).into_iter().for_each(|before| stages::spun(cpu_ns - before));
            if now.since(last) >= SPIN {
                break;
            }
        }
    }
}
