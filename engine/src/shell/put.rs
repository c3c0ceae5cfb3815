//! Puts: the stripes of a body, written as they come, and what is answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_lite::future::or;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::part::RecordName;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Key, ObjectChecksum, Record, Version};

use super::bodies::Held;
use super::buffers::PartBytes;
use super::clock;
use super::connection::{Connection, Request};
use super::core::Core;
use super::home::{Call, Condition, ObjectMeta, Reply, StripeBytes};
use super::limits::STREAM_STRIPES_AHEAD;
use super::oneshot::Signal;
use super::outgoing::Body;
use super::put_body::{Event, PutBody};

/// Serves a put: waits for its body, writes it, answers.
pub async fn serve(
    connection: Rc<Connection>,
    request: Rc<Request>,
    header: FrameHeader,
    key: Key,
    body: Rc<PutBody>,
    started: Timestamp,
) {
    let deadline = header.deadline(started);
    let put = Put {
        home: connection.core.shared.home(key.hash(header.namespace)),
        object: object_meta(&connection.core, &header, key, deadline),
        answer_by: connection.core.answer_by(deadline, started),
        connection: connection.clone(),
        request: request.clone(),
        body,
    };
    let reply = put.run().await;
    put.body.close();
    *request.put.borrow_mut() = None;
    connection.finish(&request);
    if request.cancelled.get() {
        return;
    }
    super::request::answer_write(&connection, Op::Put, request.id, reply);
    connection.core.counters.latency(Op::Put, clock::timestamp().since(started));
}

/// What a put or delete says about its object.
pub fn object_meta(core: &Core, header: &FrameHeader, key: Key, deadline: Timestamp) -> ObjectMeta {
    let condition = if header.has(flags::IF_VERSION) {
        Condition::IfVersion(header.version)
    } else if header.has(flags::IMMUTABLE) {
        Condition::Immutable
    } else {
        Condition::None
    };
    let expires_ms = match header.ttl_ms {
        0 => 0,
        ttl_ms => clock::now().wall_ms().saturating_add(ttl_ms),
    };
    ObjectMeta {
        name: RecordName {
            namespace: header.namespace,
            hash: key.hash(header.namespace),
            key,
            record: Record::OBJECT,
        },
        expires_ms,
        pinned: header.has(flags::PINNED),
        condition,
        ack: header.ack.unwrap_or(core.shared.settings.ack),
        deadline,
    }
}

struct Put {
    connection: Rc<Connection>,
    request: Rc<Request>,
    home: usize,
    object: ObjectMeta,
    answer_by: Timestamp,
    body: Rc<PutBody>,
}

/// A stripe to be written, counted until it is.
type Counted = (StripeBytes, Held);

/// What a put comes to next.
enum Next {
    Stripe(Counted),
    End(Trailer),
}

/// What is known of an object when its body has ended.
struct Trailer {
    object_len: u64,
    checksum: ObjectChecksum,
}

/// The answer to a put that is over before its end.
type Failure = (Reply<PartBytes>, &'static str);

fn failure(status: Status, why: &'static str) -> Failure {
    (Reply::Status(status), why)
}

/// What a failure is called once a stripe may have taken the place of one of the object's former
/// ones: whatever the cause, that object may be gone. Only a newer write says what there is.
fn after_stripes((reply, why): Failure) -> Failure {
    match reply {
        Reply::Written { .. } | Reply::Conflict { status: Status::Superseded, .. } => (reply, why),
        _ => failure(Status::Indeterminate, why),
    }
}

impl Put {
    async fn run(&self) -> Failure {
        let first = match self.next().await {
            Ok(Next::Stripe(stripe)) => stripe,
            Ok(Next::End(_)) => return failure(Status::Internal, "a body without a stripe"),
            Err(failure) => return failure,
        };
        match self.next().await {
            Ok(Next::End(Trailer { checksum, .. })) => {
                let (stripe, _held) = first;
                let call = Call::PutSole { object: self.object.clone(), stripe, checksum };
                (self.connection.core.call(self.home, call).await, "")
            }
            Ok(Next::Stripe(second)) => self.run_stream(first, second).await,
            Err(failure) => failure,
        }
    }

    async fn next(&self) -> Result<Next, Failure> {
        match self.body.next(self.answer_by).await {
            Some(Event::Stripe(stripe, held)) => Ok(Next::Stripe((stripe, held))),
            Some(Event::End(object_len, checksum)) => Ok(Next::End(Trailer { object_len, checksum })),
            Some(Event::Refused(refusal)) => Err(failure(refusal.status, refusal.message)),
            None => Err(failure(Status::DeadlineExceeded, "the body had not come by the deadline")),
        }
    }

    async fn run_stream(&self, first: Counted, second: Counted) -> Failure {
        let core = &self.connection.core;
        let begun = core.call(self.home, Call::BeginPut { object: self.object.clone() }).await;
        let Reply::Version(version) = begun else { return (begun, "") };
        let object = self.object.clone();
        match self.write_stripes(version, first, second).await {
            Ok(Trailer { object_len, checksum }) => {
                let head = Call::PutHead { object, version, object_len, checksum };
                after_stripes((core.call(self.home, head).await, ""))
            }
            Err(failure) => {
                let call = Call::EndPut { hash: object.name.hash, version };
                drop(core.call(self.home, call).await);
                after_stripes(failure)
            }
        }
    }

    /// Writes the stripes as they come, a few at a time, until the body ends.
    async fn write_stripes(
        &self,
        version: Version,
        first: Counted,
        second: Counted,
    ) -> Result<Trailer, Failure> {
        let under_way = Rc::new(StripesUnderWay::default());
        self.write_stripe(&under_way, version, 0, first);
        let mut next = Next::Stripe(second);
        let mut index = 1;
        let trailer = loop {
            let stripe = match next {
                Next::Stripe(stripe) => stripe,
                Next::End(trailer) => break trailer,
            };
            under_way.wait_below(STREAM_STRIPES_AHEAD).await;
            under_way.failure()?;
            self.write_stripe(&under_way, version, index, stripe);
            index += 1;
            // A client that waits for credit sends nothing more: a stripe that failed ends the put.
            next = or(under_way.fail(), self.next()).await?;
        };
        under_way.wait_below(1).await;
        under_way.failure()?;
        Ok(trailer)
    }

    fn write_stripe(
        &self,
        under_way: &Rc<StripesUnderWay>,
        version: Version,
        index: u32,
        (stripe, held): Counted,
    ) {
        let (core, home, under_way) = (self.connection.core.clone(), self.home, under_way.clone());
        let (connection, request, body) = (self.connection.clone(), self.request.clone(), self.body.clone());
        let object = self.object.clone();
        under_way.count.set(under_way.count.get() + 1);
        core.clone().spawn(async move {
            let len = stripe.len as u32;
            let reply = core.call(home, Call::PutStripe { object, version, index, stripe }).await;
            drop(held);
            under_way.count.set(under_way.count.get() - 1);
            match reply {
                Reply::Written { .. } => {
                    if body.grant(len) {
                        let mut grant = FrameHeader::request(Op::Credit, request.id);
                        grant.flags |= flags::ANSWER;
                        grant.credit = len;
                        connection.send(grant, Body::Empty, 0);
                    }
                }
                other => drop(under_way.failed.borrow_mut().get_or_insert(other)),
            }
            under_way.signal.raise();
        });
    }
}

#[derive(Default)]
struct StripesUnderWay {
    count: Cell<usize>,
    failed: RefCell<Option<Reply<PartBytes>>>,
    signal: Signal,
}

impl StripesUnderWay {
    async fn wait_below(&self, limit: usize) {
        while self.count.get() >= limit {
            self.signal.wait().await;
        }
    }

    /// Waits until a stripe could not be written.
    async fn fail<T>(&self) -> Result<T, Failure> {
        loop {
            self.signal.wait().await;
            self.failure()?;
        }
    }

    fn failure(&self) -> Result<(), Failure> {
        match self.failed.borrow_mut().take() {
            Some(reply) => Err((reply, "a stripe could not be written")),
            None => Ok(()),
        }
    }
}
