//! A bounded number of permits of one core, given to those who wait in their order.
//!
//! Not the runtime's semaphore: that loses a wake-up when the waiter that it was for is dropped before it runs, as a
//! request is that is cancelled. A permit here is handed over itself, and goes on to the next when nobody takes it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::oneshot::{self, Sender};

/// The permits that are free, and who waits for one.
pub struct Permits {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Sender<Permit>>>,
}

/// One of them, until it is dropped.
pub struct Permit(Rc<Permits>);

impl Permits {
    /// So many.
    pub fn new(count: usize) -> Rc<Permits> {
        Rc::new(Permits { free: Cell::new(count), waiting: RefCell::default() })
    }

    /// A permit, if one is free.
    pub fn try_take(self: &Rc<Self>) -> Option<Permit> {
        let free = self.free.get().checked_sub(1)?;
        self.free.set(free);
        Some(Permit(self.clone()))
    }

    /// Waits for a permit. `None` only if the permits themselves are gone.
    pub async fn take(self: &Rc<Self>) -> Option<Permit> {
        if let Some(permit) = self.try_take() {
            return Some(permit);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push_back(sender);
        receiver.await
    }

    /// The next one to wait for whom somebody still does.
    fn next(&self) -> Option<Sender<Permit>> {
        let mut waiting = self.waiting.borrow_mut();
        std::iter::from_fn(|| waiting.pop_front()).find(|sender| !sender.abandoned())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.0.next() {
            Some(sender) => sender.send(Permit(self.0.clone())),
            None => self.0.free.set(self.0.free.get() + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn permits_are_given_in_order() {
        let permits = Permits::new(1);
        let held = permits.try_take().unwrap();
        assert!(permits.try_take().is_none());
        let (mut first, mut second) = (pin!(permits.take()), pin!(permits.take()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        drop(held);
        assert!(permits.try_take().is_none(), "it is the first one's already");
        assert!(poll(second.as_mut()).is_pending());
        let Poll::Ready(Some(held)) = poll(first.as_mut()) else { panic!("not given") };
        drop(held);
        assert!(poll(second.as_mut()).is_ready());
        assert!(permits.try_take().is_some());
    }

    /// Dropped before it was given one, and after.
    #[test]
    fn a_permit_that_nobody_takes_goes_on() {
        let permits = Permits::new(1);
        for given in [false, true] {
            let held = permits.try_take().unwrap();
            let mut dropped = Box::pin(permits.take());
            let mut next = pin!(permits.take());
            assert!(poll(dropped.as_mut()).is_pending() && poll(next.as_mut()).is_pending());
            if given {
                drop(held);
                drop(dropped);
            } else {
                drop(dropped);
                drop(held);
            }
            assert!(matches!(poll(next.as_mut()), Poll::Ready(Some(_))), "lost, given: {given}");
        }
        assert!(permits.try_take().is_some());
    }
}
