//! One request from its beginning to its end: finds a connection, asks, asks again where that is
//! safe, and is done by the deadline whatever happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hedgerow_wire::checksum::{crc32c, crc32c_combine};
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::STRIPE_LEN_MAX;
use hedgerow_wire::messages::{HelloAnswer, Limits, features};
use hedgerow_wire::{Key, KeyHash, ObjectChecksum};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::body::{Body, Chunk, Chunks};
use crate::connection::state::{Answer, Failure, OutFrame, Pushed, Reply};
use crate::connection::{Fate, Place, Ticket, out_frame};
use crate::error::{self, Broken, Error};
use crate::pool::Pool;

type Result<T, E = Error> = std::result::Result<T, E>;

/// A request as all of its attempts have it.
#[derive(Clone)]
pub(crate) struct Call {
    /// Without id, body and budget.
    pub header: FrameHeader,
    pub key: Option<Key>,
    pub deadline: Instant,
    /// What the caller had until the deadline.
    pub allowed: Duration,
    /// A second time does no harm.
    pub repeatable: bool,
}

impl Call {
    fn hash(&self) -> Option<KeyHash> {
        self.key.as_ref().map(|key| key.hash(self.header.namespace))
    }

    /// Runs `attempts`, but not beyond the deadline.
    async fn by_deadline<T>(
        &self,
        pool: &Pool,
        fate: &Fate,
        attempts: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Ok(result) = timeout_at(self.deadline, attempts).await {
            return result;
        }
        let over = Error::DeadlineExceeded { deadline: self.allowed };
        if fate.is_doubtful() {
            return Err(Error::Indeterminate { reason: over.to_string() });
        }
        Err(pool.connect_error().filter(|_| fate.is_unconnected()).unwrap_or(over))
    }

    /// A place on a connection for the next attempt.
    async fn place(&self, pool: &Pool, fate: &Fate) -> Result<Place> {
        fate.set_unconnected(true);
        let place = pool.place(self.hash()).await?;
        fate.set_unconnected(false);
        Ok(place)
    }

    /// The one rule of repetition: what was never sent goes to the next connection; what was sent is
    /// repeated once, if that does no harm or the daemon said that it shuts down and did nothing. Only
    /// what is `at_hand` still can be repeated. The outcome of the request, or nothing if it is to be
    /// tried again.
    fn settle<T: HasStatus>(
        &self,
        outcome: Result<T, Failure>,
        addr: &str,
        repeated: &mut bool,
        at_hand: bool,
    ) -> Option<Result<T>> {
        let lost = match outcome {
            Ok(answer) if answer.status() == Status::ShuttingDown && at_hand && !*repeated => {
                *repeated = true;
                return None;
            }
            Ok(answer) => return Some(Ok(answer)),
            Err(Failure::Failed(error)) => return Some(Err(error)),
            Err(Failure::Lost(lost)) => lost,
        };
        if !lost.sent && at_hand {
            return None;
        }
        if self.repeatable && at_hand && !*repeated && matches!(lost.broken, Broken::Socket(_)) {
            *repeated = true;
            return None;
        }
        Some(Err(if lost.effect {
            let reason = format!("the connection to {addr} broke: {}", lost.broken.text());
            Error::Indeterminate { reason }
        } else {
            lost.broken.into_error(addr)
        }))
    }

    /// `answer` if it is `Ok`; nothing if there is no such object.
    pub(crate) fn found(&self, answer: Answer) -> Result<Option<Answer>> {
        match answer.header.status {
            Status::Ok => Ok(Some(answer)),
            Status::NotFound => Ok(None),
            _ => Err(self.refused(&answer)),
        }
    }

    /// The error of an answer that is not `Ok`.
    pub(crate) fn refused(&self, answer: &Answer) -> Error {
        let limit_bytes = hedgerow_wire::limits::OBJECT_LEN_MAX;
        error::of_status(&answer.header, &answer.body, self.allowed, limit_bytes)
    }

    /// Asks with `body`, which is one frame, and waits for the whole answer.
    pub(crate) async fn unary(&self, pool: &Arc<Pool>, body: Bytes) -> Result<Answer> {
        let _permit = pool.permit()?;
        let fate = Fate::new();
        let checksum = crc32c(&body);
        let attempts = async {
            let mut repeated = false;
            loop {
                let place = self.place(pool, &fate).await?;
                let addr = place.connection.addr.clone();
                let frame = out_frame(&self.header, self.key.clone(), body.clone(), checksum, true);
                let outcome = match place.ask(frame, self.deadline, &fate) {
                    Ok((_ticket, answer)) => received(answer).await,
                    Err(lost) => Err(Failure::Lost(lost)),
                };
                if let Some(result) = self.settle(outcome, &addr, &mut repeated, true) {
                    return result;
                }
            }
        };
        self.by_deadline(pool, &fate, attempts).await
    }

    /// Asks for an object whose frames are taken as they come. The first answer, and the rest.
    pub(crate) async fn open_stream(&self, pool: &Arc<Pool>) -> Result<(Answer, Rest)> {
        let fate = Fate::new();
        let attempts = async {
            let mut repeated = false;
            loop {
                let place = self.place(pool, &fate).await?;
                let addr = place.connection.addr.clone();
                let frame = out_frame(&self.header, self.key.clone(), Bytes::new(), 0, true);
                let outcome = match place.open_stream(frame, self.deadline) {
                    Ok((ticket, mut frames)) => match frames.recv().await {
                        Some(first) => first.map(|first| (first, Rest { ticket, frames })),
                        None => Err(vanished()),
                    },
                    Err(lost) => Err(Failure::Lost(lost)),
                };
                if let Some(result) = self.settle(outcome, &addr, &mut repeated, true) {
                    return result;
                }
            }
        };
        self.by_deadline(pool, &fate, attempts).await
    }

    /// Stores `bytes`.
    pub(crate) async fn put_bytes(&self, pool: &Arc<Pool>, bytes: Bytes) -> Result<Answer> {
        let _permit = pool.permit()?;
        let fate = Fate::new();
        let attempts = async {
            let mut repeated = false;
            loop {
                let place = self.place(pool, &fate).await?;
                let addr = place.connection.addr.clone();
                let mut chunks = Chunks::new(Body::from(bytes.clone()));
                let outcome = self.put_once(place, &mut chunks, &fate).await;
                if let Some(result) = self.settle(outcome, &addr, &mut repeated, true) {
                    return result;
                }
            }
        };
        self.by_deadline(pool, &fate, attempts).await
    }

    /// Stores what `body` gives, which can be read only once: it goes to another connection only
    /// while its first pieces wait to be sent.
    pub(crate) async fn put_body(&self, pool: &Arc<Pool>, body: Body<'_>) -> Result<Answer> {
        let _permit = pool.permit()?;
        let fate = Fate::new();
        let mut chunks = Chunks::new(body);
        let attempts = async {
            loop {
                let place = self.place(pool, &fate).await?;
                let addr = place.connection.addr.clone();
                let outcome = self.put_once(place, &mut chunks, &fate).await;
                let unsent = matches!(&outcome, Err(Failure::Lost(lost)) if !lost.sent);
                let at_hand = unsent && chunks.rewind();
                if let Some(result) = self.settle(outcome, &addr, &mut true, at_hand) {
                    return result;
                }
            }
        };
        self.by_deadline(pool, &fate, attempts).await
    }

    /// Sends an object frame by frame as its credit allows, until it is answered.
    async fn put_once(&self, place: Place, chunks: &mut Chunks<'_>, fate: &Fate) -> Reply {
        let connection = place.connection.clone();
        let limits = &connection.hello.limits;
        let frame_len = (limits.stripe_len as usize).min(STRIPE_LEN_MAX);
        check_len(chunks.object_len().unwrap_or(0), limits)?;
        let first = chunks.next(frame_len).await.map_err(Failure::Failed)?;
        let mut sum = Sum { first: self.header.clone(), known_len: chunks.object_len(), crc: 0 };
        let mut last = first.last;
        let first = sum.frame(first, self.key.clone());
        if last {
            let (_ticket, answer) = place.ask(first, self.deadline, fate).map_err(Failure::Lost)?;
            return received(answer).await;
        }
        check_streams(&connection.hello)?;
        let (ticket, mut answer, credit) =
            place.begin_put(first, self.deadline, fate).map_err(Failure::Lost)?;
        while !last {
            let feed = async {
                let chunk = chunks.next(frame_len).await.map_err(Failure::Failed)?;
                check_len(chunk.offset + chunk.bytes.len() as u64, limits)?;
                // Closed with the answer, which is then there to be taken.
                if let Ok(permits) = credit.acquire_many(chunk.bytes.len() as u32).await {
                    permits.forget();
                }
                Ok::<_, Failure>(chunk)
            };
            let chunk = tokio::select! {
                biased;
                early = &mut answer => return early.unwrap_or_else(|_| Err(vanished())),
                chunk = feed => chunk?,
            };
            last = chunk.last;
            match ticket.push(sum.frame(chunk, None)) {
                Pushed::Unsent => {}
                Pushed::Sent => chunks.forget(),
                Pushed::Answered => break,
            }
        }
        received(answer).await
    }
}

fn check_len(object_len: u64, limits: &Limits) -> Result<(), Failure> {
    match limits.object_len_max {
        limit_bytes if object_len > limit_bytes => Err(Failure::Failed(Error::TooLarge { limit_bytes })),
        _ => Ok(()),
    }
}

fn check_streams(hello: &HelloAnswer) -> Result<(), Failure> {
    if hello.features & features::STREAMS != 0 {
        return Ok(());
    }
    let message = "objects of more than one stripe".to_owned();
    Err(Failure::Failed(Error::Unsupported { version: hello.version, message }))
}

/// The rest of an answer that comes as a stream.
pub(crate) struct Rest {
    pub ticket: Ticket<'static>,
    pub frames: mpsc::UnboundedReceiver<Reply>,
}

/// The frames of a put as they are made, with the checksum of the object so far.
struct Sum {
    /// What the first one says.
    first: FrameHeader,
    known_len: Option<u64>,
    crc: u32,
}

impl Sum {
    fn frame(&mut self, chunk: Chunk, key: Option<Key>) -> OutFrame {
        let checksum = crc32c(&chunk.bytes);
        let end = chunk.offset + chunk.bytes.len() as u64;
        self.crc = crc32c_combine(self.crc, checksum, chunk.bytes.len() as u64);
        let mut header = if chunk.offset == 0 {
            self.first.clone()
        } else {
            let FrameHeader { trace_id, priority, .. } = self.first;
            FrameHeader { trace_id, priority, offset: chunk.offset, ..FrameHeader::request(Op::Put, 0) }
        };
        if chunk.last {
            header.object_len = end;
            header.object_checksum = ObjectChecksum::crc32c(self.crc);
        } else if chunk.offset == 0 {
            match self.known_len {
                Some(len) => header.object_len = len,
                None => header.flags |= flags::LEN_UNKNOWN,
            }
        }
        out_frame(&header, key, chunk.bytes, checksum, chunk.last)
    }
}

/// Every sender of a reply sends one before it goes; only a panic of its task can keep it from that.
fn vanished() -> Failure {
    Failure::Failed(Error::Internal { message: "the connection's task ended without a word".to_owned() })
}

async fn received(answer: oneshot::Receiver<Reply>) -> Reply {
    answer.await.unwrap_or_else(|_| Err(vanished()))
}

/// What comes back from an attempt.
trait HasStatus {
    fn status(&self) -> Status;
}

impl HasStatus for Answer {
    fn status(&self) -> Status {
        self.header.status
    }
}

impl HasStatus for (Answer, Rest) {
    fn status(&self) -> Status {
        self.0.header.status
    }
}
