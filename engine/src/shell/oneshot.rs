//! A value handed from one task to another on the same core, once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

/// Gives the value.
pub struct Sender<T>(Rc<RefCell<State<T>>>);

/// Waits for the value; `None` if the sender was dropped without giving one.
pub struct Receiver<T>(Rc<RefCell<State<T>>>);

/// A connected pair.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state =
        Rc::new(RefCell::new(State { value: None, waker: None, sender_gone: false, receiver_gone: false }));
    (Sender(state.clone()), Receiver(state))
}

impl<T> Sender<T> {
    /// Whether nobody waits any more.
    pub fn abandoned(&self) -> bool {
        self.0.borrow().receiver_gone
    }

    /// Gives the value and wakes the receiver.
    pub fn send(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.sender_gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.borrow_mut().receiver_gone = true;
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.borrow_mut();
        if let Some(value) = state.value.take() {
            return Poll::Ready(Some(value));
        }
        if state.sender_gone {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Wakes all waiting tasks of the same core.
#[derive(Default)]
pub struct Bell(RefCell<Vec<Waker>>);

impl Bell {
    /// Wakes all who wait.
    pub fn ring(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }

    /// Waits until `done` is true, looking again each time the bell rings.
    pub async fn wait_until(&self, done: impl Fn() -> bool) {
        std::future::poll_fn(|cx| {
            if done() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Wakes one waiting task of the same core; a wake-up without a waiter is kept.
#[derive(Default)]
pub struct Signal {
    raised: std::cell::Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the waiter, or the next one to wait.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it was raised; a wake-up that was kept is not, then.
    pub fn take(&self) -> bool {
        self.raised.replace(false)
    }

    /// Waits for [`Signal::raise`].
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| {
            if self.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
