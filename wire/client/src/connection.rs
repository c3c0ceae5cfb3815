//! One connection to a daemon: its requests under way, a task that reads, a task that writes.
//!
//! Owns: request ids, the matching of answers to requests, credit. Never: a decision to repeat a
//! request, a deadline's timer (whoever asks drops its [`Ticket`] when its time is over).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hedgerow_wire::frame::flags;
use hedgerow_wire::messages::HelloAnswer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::error::Broken;
use crate::limits::CREDIT_GRANT_DIVISOR;
use state::{Cancelled, Lost, OutFrame, Pending, Pushed, Reply, Sink, State};

mod assembly;
mod handshake;
mod incoming;
mod reader;
pub(crate) mod state;
mod writer;

pub(crate) use handshake::{Identity, connect};

/// See the module.
pub(crate) struct Connection {
    /// The daemon's address, for errors.
    pub addr: Arc<str>,
    /// What the daemon said of itself.
    pub hello: HelloAnswer,
    /// A permit for each request that the daemon takes at once; closed with the connection.
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    /// There is something to write.
    wake: Notify,
    heard: AtomicBool,
    /// The daemon said that it is shutting down: others are asked first.
    draining: AtomicBool,
}

impl Connection {
    pub(crate) fn new(addr: Arc<str>, hello: HelloAnswer) -> Arc<Connection> {
        Arc::new(Connection {
            addr,
            slots: Arc::new(Semaphore::new(requests_max(&hello))),
            state: Mutex::new(State::new(hello.limits.deadline_us_max.max(1))),
            hello,
            wake: Notify::new(),
            heard: AtomicBool::new(true),
            draining: AtomicBool::new(false),
        })
    }

    /// Requests under way, or nothing once the connection is over.
    pub(crate) fn load(&self) -> Option<usize> {
        let free = self.slots.available_permits();
        (!self.slots.is_closed()).then(|| requests_max(&self.hello) - free)
    }

    /// A place for a request; waits for one while there are as many as the daemon takes. Nothing
    /// once the connection is over.
    pub(crate) async fn place(self: &Arc<Self>) -> Option<Place> {
        let slot = self.slots.clone().acquire_owned().await.ok()?;
        Some(Place { connection: self.clone(), slot })
    }

    /// Bytes of a stream that are consumed before they are granted again: as many as leave the daemon
    /// room for one more stripe.
    pub(crate) fn grant_bytes(&self) -> u64 {
        let limits = &self.hello.limits;
        let share = limits.stream_credit / CREDIT_GRANT_DIVISOR;
        u64::from(share.min(limits.stream_credit.saturating_sub(limits.stripe_len)))
    }

    fn close(&self, broken: Broken) {
        self.slots.close();
        self.lock().close(broken);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Asks for signs of life while nothing is heard; returns once there were none for `interval`.
    async fn watch(&self, interval: Duration) -> Broken {
        let mut probed = false;
        loop {
            tokio::time::sleep(interval).await;
            if self.heard.swap(false, Ordering::Relaxed) {
                probed = false;
            } else if probed {
                return Broken::Socket(format!("no sign of life for {:?}", interval * 2));
            } else {
                probed = true;
                self.lock().ping();
                self.wake.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn woken(&self) {
        self.wake.notified().await;
    }
}

fn requests_max(hello: &HelloAnswer) -> usize {
    (hello.limits.requests_max as usize).clamp(1, Semaphore::MAX_PERMITS)
}

/// The right to make one request on a connection.
pub(crate) struct Place {
    pub connection: Arc<Connection>,
    slot: OwnedSemaphorePermit,
}

impl Place {
    /// Makes a request whose answer comes in one piece.
    pub(crate) fn ask<'a>(
        self,
        frame: OutFrame,
        deadline: Instant,
        fate: &'a Fate,
    ) -> Result<(Ticket<'a>, oneshot::Receiver<Reply>), Lost> {
        let (reply, answer) = oneshot::channel();
        let sink = Sink::Whole { reply, body: bytes::BytesMut::new() };
        Ok((self.register(Pending::new(frame, deadline, sink), fate)?, answer))
    }

    /// Begins a put of several frames. The semaphore's permits are bytes that may be pushed.
    pub(crate) fn begin_put<'a>(
        self,
        first: OutFrame,
        deadline: Instant,
        fate: &'a Fate,
    ) -> Result<(Ticket<'a>, oneshot::Receiver<Reply>, Arc<Semaphore>), Lost> {
        let (reply, answer) = oneshot::channel();
        let credit = (self.connection.hello.limits.stream_credit as usize).saturating_sub(first.body.len());
        let credit = Arc::new(Semaphore::new(credit));
        let sink = Sink::Put { reply, credit: credit.clone() };
        Ok((self.register(Pending::new(first, deadline, sink), fate)?, answer, credit))
    }

    /// Makes a get whose frames are handed out as they come.
    pub(crate) fn open_stream(
        self,
        frame: OutFrame,
        deadline: Instant,
    ) -> Result<(Ticket<'static>, mpsc::UnboundedReceiver<Reply>), Lost> {
        let (frames, receiver) = mpsc::unbounded_channel();
        let allowance = u64::from(self.connection.hello.limits.stream_credit);
        let pending = Pending::new(frame, deadline, Sink::Stream { frames, allowance });
        static READS_HAVE_NO_FATE: Fate = Fate::new();
        Ok((self.register(pending, &READS_HAVE_NO_FATE)?, receiver))
    }

    fn register<'a>(self, pending: Pending, fate: &'a Fate) -> Result<Ticket<'a>, Lost> {
        let id = self.connection.lock().register(pending)?;
        self.connection.wake.notify_one();
        Ok(Ticket { connection: self.connection, id, fate, _slot: self.slot })
    }
}

/// A connection before its tasks run.
pub(crate) struct Connected<R, W> {
    pub connection: Arc<Connection>,
    reader: reader::FrameReader<R>,
    writer: W,
}

impl<R, W> Connected<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    /// Serves the connection to its end. Every request under way is told of it.
    pub(crate) async fn run(mut self, keepalive: Duration) -> Broken {
        let connection = self.connection;
        // If this future is dropped, requests are told all the same, after the writer is gone.
        let mut running = Running {
            writer: tokio::spawn(writer::run(connection.clone(), self.writer)),
            connection: connection.clone(),
        };
        let mut receiver = incoming::Incoming { connection: connection.clone() };
        let broken = tokio::select! {
            broken = self.reader.run(&mut receiver, &connection.heard) => broken,
            broken = connection.watch(keepalive) => broken,
            ended = &mut running.writer => ended.unwrap_or_else(|e| Broken::Socket(e.to_string())),
        };
        if !running.writer.is_finished() {
            running.writer.abort();
            // Its frames that did not reach the socket are handed back as it ends.
            drop((&mut running.writer).await);
        }
        connection.close(broken.clone());
        broken
    }
}

struct Running {
    writer: tokio::task::JoinHandle<Broken>,
    connection: Arc<Connection>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.writer.abort();
        self.connection.close(Broken::Socket("the client is gone".to_owned()));
    }
}

/// The right to a request's answer. Dropping it cancels the request, if it is not answered.
pub(crate) struct Ticket<'a> {
    pub connection: Arc<Connection>,
    id: u64,
    fate: &'a Fate,
    _slot: OwnedSemaphorePermit,
}

impl Ticket<'_> {
    /// Queues a further frame of a put.
    pub(crate) fn push(&self, frame: OutFrame) -> Pushed {
        let pushed = self.connection.lock().push(self.id, frame);
        self.connection.wake.notify_one();
        pushed
    }

    /// Lets the daemon send `bytes` more.
    pub(crate) fn grant(&self, bytes: u32) {
        self.connection.lock().grant(self.id, bytes);
        self.connection.wake.notify_one();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        match self.connection.lock().cancel(self.id) {
            Cancelled::Answered => return,
            Cancelled::NoEffect => {}
            Cancelled::Doubtful => self.fate.doubtful.store(true, Ordering::Relaxed),
        }
        self.connection.wake.notify_one();
    }
}

/// What is known of a request when its deadline comes.
#[derive(Debug)]
pub(crate) struct Fate {
    /// It is a write that was sent.
    doubtful: AtomicBool,
    /// It waits for a connection.
    unconnected: AtomicBool,
}

impl Fate {
    pub(crate) const fn new() -> Fate {
        Fate { doubtful: AtomicBool::new(false), unconnected: AtomicBool::new(false) }
    }

    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    pub(crate) fn is_unconnected(&self) -> bool {
        self.unconnected.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unconnected(&self, unconnected: bool) {
        self.unconnected.store(unconnected, Ordering::Relaxed);
    }
}

/// The body of a frame as a request carries it.
pub(crate) fn out_frame(
    header: &hedgerow_wire::frame::FrameHeader,
    key: Option<hedgerow_wire::Key>,
    body: Bytes,
    body_checksum: u32,
    last: bool,
) -> OutFrame {
    let mut header = header.clone().sealed_with(key.as_ref(), body.len(), body_checksum);
    if last {
        header.flags |= flags::END;
    } else {
        header.flags &= !flags::END;
    }
    OutFrame { header, key, body }
}
