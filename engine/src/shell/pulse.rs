//! A thread that wakes the cores now and then, so that none sleeps through its work.
//!
//! glommio 0.9 may park with tasks that are ready. When its preemption timer is over before the first
//! of them runs (the thread was descheduled just then), `LocalExecutor::run_task_queues` says that
//! nothing ran, and `LocalExecutor::run` takes that for nothing to run. The core then sleeps until the
//! next event, which is never if the task that would have caused it is the one that did not run: a timer
//! of the core's own is no help, since its task may be just that one. A wake-up from another thread is.

use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use super::limits::PULSE;

#[derive(Default)]
struct State {
    /// By core; nothing where a core has not begun or has ended.
    wakers: Mutex<Vec<Option<Waker>>>,
    ended: Mutex<bool>,
    end: Condvar,
}

/// The thread. Ends when this is dropped.
pub struct Pulse {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// A core's share of it.
#[derive(Clone)]
pub struct Heart(Arc<State>);

impl Pulse {
    /// Starts the thread.
    pub fn start() -> Pulse {
        let state = Arc::new(State::default());
        let thread = {
            let state = state.clone();
            std::thread::spawn(move || state.run())
        };
        Pulse { state, thread: Some(thread) }
    }

    /// What a core needs to take part.
    pub fn heart(&self) -> Heart {
        Heart(self.state.clone())
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        *self.state.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.end.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, there is nothing to be done about it here.
            let _ = thread.join();
        }
    }
}

impl State {
    fn run(&self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            wakers.iter().flatten().for_each(Waker::wake_by_ref);
            drop(wakers);
            ended = match self.end.wait_timeout(ended, PULSE) {
                Ok((ended, _)) => ended,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn set(&self, core: usize, waker: Option<Waker>) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if wakers.len() <= core {
            wakers.resize(core + 1, None);
        }
        wakers[core] = waker;
    }
}

impl Heart {
    /// Takes part for the core that this runs on; never ends.
    pub async fn beat(self, core: usize) {
        let mut known = false;
        poll_fn(|context| {
            if !known {
                self.0.set(core, Some(context.waker().clone()));
                known = true;
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// The core ends.
    pub fn stop(&self, core: usize) {
        self.0.set(core, None);
    }
}
