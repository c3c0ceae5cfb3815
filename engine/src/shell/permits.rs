//! A bounded number of permits of one core, given to those who wait in their order.
//!
//! Not the runtime's semaphore: that loses a wake-up when the waiter that it was for is dropped before it runs, as a
//! request is that is cancelled. A permit here is handed over itself, and goes on to the next when nobody takes it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::oneshot::{self, Sender};

/// The permits that are free, and who waits for one.
pub struct Permits {
    free: Cell<usize>,
    /// By when they came.
    waiting: RefCell<BTreeMap<u64, Sender<Permit>>>,
    waited: Cell<u64>,
}

/// One of them, until it is dropped.
pub struct Permit(Rc<Permits>);

impl Permits {
    /// So many.
    pub fn new(count: usize) -> Rc<Permits> {
        Rc::new(Permits { free: Cell::new(count), waiting: RefCell::default(), waited: Cell::new(0) })
    }

    /// A permit, if one is free.
    pub fn try_take(self: &Rc<Self>) -> Option<Permit> {
        let free = self.free.get().checked_sub(1)?;
        self.free.set(free);
        Some(Permit(self.clone()))
    }

    /// Waits for a permit.
    pub async fn take(self: &Rc<Self>) -> Permit {
        if let Some(permit) = self.try_take() {
            return permit;
        }
        let (sender, receiver) = oneshot::channel();
        let number = self.waited.get();
        self.waited.set(number + 1);
        self.waiting.borrow_mut().insert(number, sender);
        let _waiting = Waiting { permits: self, number };
        receiver.await.unwrap_or_else(|| unreachable!("only who waits takes it out without a permit"))
    }
}

/// A place in the order of those who wait.
struct Waiting<'a> {
    permits: &'a Permits,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Not dropped while it is borrowed: it wakes who waits, who is this one.
        let left = self.permits.waiting.borrow_mut().remove(&self.number);
        drop(left);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = self.0.waiting.borrow_mut().pop_first();
        match next {
            Some((_, sender)) => sender.send(Permit(self.0.clone())),
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
        let Poll::Ready(held) = poll(first.as_mut()) else { panic!("not given") };
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
            assert!(poll(next.as_mut()).is_ready(), "lost, given: {given}");
            assert!(permits.waiting.borrow().is_empty(), "one that is gone is still known");
        }
        assert!(permits.try_take().is_some());
    }
}
