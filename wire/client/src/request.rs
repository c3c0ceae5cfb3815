//! Requests: their options, then their verbs.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hedgerow_wire::frame::{FrameHeader, Op, flags};
use hedgerow_wire::messages::{
    FaultAnswer, FaultRequest, Message, StatAnswer, StatsAnswer, VerifyAnswer, VerifyRequest,
};
use hedgerow_wire::{AckLevel, Key, Namespace, Priority, ReadPolicy, Version};

use crate::body::Body;
use crate::call::Call;
use crate::clock;
use crate::connection::state::Answer;
use crate::error::{self, Error, Result};
use crate::limits::DEADLINE_MAX;
use crate::object::{Object, ObjectStream};
use crate::pool::Pool;

/// A request that is being described: options, then a verb. It is not used up by a verb, so one with
/// a namespace and a deadline can be kept and used like a client.
///
/// Options that mean nothing to a verb are ignored by it.
#[derive(Clone)]
#[must_use]
pub struct Request {
    pool: Arc<Pool>,
    options: Options,
}

/// What a put has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The object's version.
    pub version: Version,
    /// Nothing was written: the object was there already (only with [`Request::immutable`]). If the
    /// connection broke on the way, an earlier attempt of the same put may have stored it.
    pub unchanged: bool,
}

#[derive(Clone, Debug)]
struct Options {
    deadline: Duration,
    namespace: Namespace,
    ttl: Option<Duration>,
    ack: Option<AckLevel>,
    read_policy: ReadPolicy,
    priority: Priority,
    max_stale: Option<Duration>,
    if_version: Option<Version>,
    strict: bool,
    immutable: bool,
    pinned: bool,
    trace_id: u128,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl Request {
    pub(crate) fn new(pool: Arc<Pool>, namespace: Namespace, deadline: Duration) -> Request {
        let options = Options {
            deadline,
            namespace,
            ttl: None,
            ack: None,
            read_policy: ReadPolicy::Default,
            priority: Priority::Normal,
            max_stale: None,
            if_version: None,
            strict: false,
            immutable: false,
            pinned: false,
            trace_id: 0,
        };
        Request { pool, options }
    }

    /// After so much time the answer is worthless: the request is done by then, with an answer or
    /// with an error. At most [`DEADLINE_MAX`]. A stream's covers all of it.
    pub fn deadline(mut self, deadline: Duration) -> Request {
        self.options.deadline = deadline;
        self
    }

    /// The object's namespace.
    pub fn namespace(mut self, namespace: Namespace) -> Request {
        self.options.namespace = namespace;
        self
    }

    /// Put: the object is gone after so much time (in whole milliseconds, rounded up).
    pub fn ttl(mut self, ttl: Duration) -> Request {
        self.options.ttl = Some(ttl);
        self
    }

    /// Put, delete: what an acknowledgement promises. Without it the daemon decides (`--ack`).
    pub fn ack(mut self, ack: AckLevel) -> Request {
        self.options.ack = Some(ack);
        self
    }

    /// Get: how the daemon asks for the parts.
    pub fn read_policy(mut self, policy: ReadPolicy) -> Request {
        self.options.read_policy = policy;
        self
    }

    /// What the request yields to when the daemon is under load.
    pub fn priority(mut self, priority: Priority) -> Request {
        self.options.priority = priority;
        self
    }

    /// Get: rather a miss than an answer that could not be confirmed to be the newest.
    pub fn strict(mut self) -> Request {
        self.options.strict = true;
        self
    }

    /// Get: an answer up to so old will do.
    pub fn max_stale(mut self, age: Duration) -> Request {
        self.options.max_stale = Some(age);
        self
    }

    /// Put, delete: only if the object's version is `version`, else [`Error::VersionMismatch`].
    pub fn if_version(mut self, version: Version) -> Request {
        self.options.if_version = Some(version);
        self
    }

    /// Put: only if there is no such object, else [`Error::VersionMismatch`].
    pub fn if_absent(self) -> Request {
        self.if_version(Version::ZERO)
    }

    /// The namespace is immutable: its keys say what their objects hold (content-addressed). A second
    /// put changes nothing, so it may be repeated; reads need no confirmation.
    pub fn immutable(mut self) -> Request {
        self.options.immutable = true;
        self
    }

    /// Put: keep the object as long as anything unpinned is left to evict.
    pub fn pinned(mut self) -> Request {
        self.options.pinned = true;
        self
    }

    /// Goes along with the request, for tracing.
    pub fn trace_id(mut self, trace_id: u128) -> Request {
        self.options.trace_id = trace_id;
        self
    }

    /// Stores `bytes` under `key` (1 to 1,024 bytes) and says which version that is. A CRC-32C of the
    /// whole goes with it. `Bytes` are not copied.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] if it was sent and no answer came in time, or if it failed after a part
    /// of it was written; else nothing was stored.
    pub async fn put(&self, key: impl AsRef<[u8]>, bytes: impl Into<Bytes>) -> Result<Stored> {
        let call = self.put_call(key.as_ref())?;
        let answer = call.put_bytes(&self.pool, bytes.into()).await?;
        written(&call, answer)
    }

    /// Stores what `body` gives, as it comes, holding at most a few MiB of it.
    ///
    /// # Errors
    /// As [`Request::put`], and [`Error::Body`] if the body ends in an error or not where it said.
    pub async fn put_stream(&self, key: impl AsRef<[u8]>, body: Body<'_>) -> Result<Stored> {
        let call = self.put_call(key.as_ref())?;
        let answer = call.put_body(&self.pool, body).await?;
        written(&call, answer)
    }

    /// Reads the object of `key`, if there is one.
    ///
    /// # Errors
    /// No bytes that failed a check are given out: [`Error::Corrupt`] instead.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Object>> {
        self.get_range(key, ..).await
    }

    /// Reads a range of bytes, cut off at the object's end.
    ///
    /// # Errors
    /// As [`Request::get`], and [`Error::RangeNotSatisfiable`] if it begins beyond the object's end.
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<Object>> {
        let call = self.get_call(key.as_ref(), range)?;
        let answer = call.unary(&self.pool, Bytes::new()).await?;
        Ok(call.found(answer)?.map(Object::new))
    }

    /// Reads the object of `key`, if there is one, piece by piece as it comes.
    ///
    /// # Errors
    /// As [`Request::get`]; once it has begun, the stream itself ends with the error.
    pub async fn get_stream(&self, key: impl AsRef<[u8]>) -> Result<Option<ObjectStream>> {
        self.get_range_stream(key, ..).await
    }

    /// [`Request::get_range`], piece by piece as it comes.
    ///
    /// # Errors
    /// As [`Request::get_range`]; once it has begun, the stream itself ends with the error.
    pub async fn get_range_stream(
        &self,
        key: impl AsRef<[u8]>,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<ObjectStream>> {
        let call = self.get_call(key.as_ref(), range)?;
        let permit = self.pool.permit()?;
        let (first, rest) = call.open_stream(&self.pool).await?;
        let first = call.found(first)?;
        Ok(first.map(|first| ObjectStream::new(first, rest, call.deadline, call.allowed, permit)))
    }

    /// Deletes the object of `key`, if there is one. The version of the delete.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] if it was sent and no answer came in time; else nothing was deleted.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Version> {
        let mut call = self.call(Op::Delete, Some(key.as_ref()))?;
        self.condition(&mut call.header);
        let answer = call.unary(&self.pool, Bytes::new()).await?;
        Ok(written(&call, answer)?.version)
    }

    /// What is known of the object of `key`, down to where its parts are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<StatAnswer>> {
        let call = self.call(Op::Stat, Some(key.as_ref()))?;
        let answer = call.unary(&self.pool, Bytes::new()).await?;
        call.found(answer)?.map(|answer| decoded(&answer)).transpose()
    }

    /// Asks a daemon for an answer, and says how long that took.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ping(&self) -> Result<Duration> {
        let call = self.call(Op::Ping, None)?;
        let since = clock::now();
        let answer = call.unary(&self.pool, Bytes::new()).await?;
        call.found(answer)?.ok_or_else(no_such_answer)?;
        Ok(clock::now() - since)
    }

    /// Counters of a daemon. With several daemons: of one that is connected; make a client for each
    /// to choose.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stats(&self) -> Result<StatsAnswer> {
        self.structured(Op::Stats, Bytes::new()).await
    }

    /// Injects, lists or ends faults (of one daemon, as [`Request::stats`]).
    ///
    /// # Errors
    /// [`Error::Refused`] unless the daemon was started with `--allow-faults`.
    pub async fn fault(&self, request: &FaultRequest) -> Result<FaultAnswer> {
        self.structured(Op::Fault, encoded(request)?).await
    }

    /// Checks a bounded run of stored parts (of one daemon, as [`Request::stats`]).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify(&self, request: &VerifyRequest) -> Result<VerifyAnswer> {
        self.structured(Op::Verify, encoded(request)?).await
    }

    async fn structured<M: Message>(&self, op: Op, body: Bytes) -> Result<M> {
        let call = self.call(op, None)?;
        let answer = call.unary(&self.pool, body).await?;
        decoded(&call.found(answer)?.ok_or_else(no_such_answer)?)
    }

    /// What all verbs have in common.
    fn call(&self, op: Op, key: Option<&[u8]>) -> Result<Call> {
        let options = &self.options;
        let key = key.map(Key::new).transpose()?;
        if options.deadline > DEADLINE_MAX {
            let message =
                format!("a deadline of {:?}, at most {DEADLINE_MAX:?} is allowed", options.deadline);
            return Err(Error::BadRequest { message });
        }
        let mut header = FrameHeader::request(op, 0);
        header.namespace = options.namespace;
        header.priority = options.priority;
        header.trace_id = options.trace_id;
        if options.immutable && key.is_some() {
            header.flags |= flags::IMMUTABLE;
        }
        Ok(Call {
            header,
            key,
            deadline: clock::now() + options.deadline,
            allowed: options.deadline,
            repeatable: matches!(op, Op::Get | Op::Stat | Op::Ping | Op::Stats | Op::Verify),
        })
    }

    fn put_call(&self, key: &[u8]) -> Result<Call> {
        let mut call = self.call(Op::Put, Some(key))?;
        self.condition(&mut call.header);
        if self.options.pinned {
            call.header.flags |= flags::PINNED;
        }
        if let Some(ttl) = self.options.ttl {
            let ttl_ms = ttl.as_nanos().div_ceil(1_000_000);
            if ttl_ms == 0 {
                return Err(Error::BadRequest { message: "a time to live of zero".to_owned() });
            }
            call.header.ttl_ms = u64::try_from(ttl_ms).unwrap_or(u64::MAX);
        }
        call.repeatable = self.options.immutable && self.options.if_version.is_none();
        Ok(call)
    }

    fn get_call(&self, key: &[u8], range: impl RangeBounds<u64>) -> Result<Call> {
        let mut call = self.call(Op::Get, Some(key))?;
        (call.header.offset, call.header.length) = offset_and_len(&range)?;
        call.header.read_policy = self.options.read_policy;
        if self.options.strict {
            call.header.flags |= flags::STRICT;
        }
        if let Some(age) = self.options.max_stale {
            call.header.flags |= flags::MAY_BE_STALE;
            call.header.max_stale_ms = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
        }
        Ok(call)
    }

    fn condition(&self, header: &mut FrameHeader) {
        header.ack = self.options.ack;
        if let Some(version) = self.options.if_version {
            header.flags |= flags::IF_VERSION;
            header.version = version;
        }
    }
}

/// `offset` and `length` of a get.
fn offset_and_len(range: &impl RangeBounds<u64>) -> Result<(u64, u64)> {
    let beyond = || Error::BadRequest { message: "a range that ends beyond all numbers".to_owned() };
    let start = match range.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.checked_add(1).ok_or_else(beyond)?,
    };
    let end = match range.end_bound() {
        Bound::Unbounded => return Ok((start, FrameHeader::TO_END)),
        Bound::Excluded(&end) => end,
        Bound::Included(&end) => end.checked_add(1).ok_or_else(beyond)?,
    };
    if end <= start {
        return Err(Error::BadRequest { message: format!("the range {start}..{end} holds nothing") });
    }
    Ok((start, end - start))
}

fn written(call: &Call, answer: Answer) -> Result<Stored> {
    let header = call.found(answer)?.ok_or_else(no_such_answer)?.header;
    Ok(Stored { version: header.version, unchanged: header.has(flags::UNCHANGED) })
}

fn no_such_answer() -> Error {
    Error::Internal { message: "'not found' in answer to a request that looks for nothing".to_owned() }
}

fn encoded(message: &impl Message) -> Result<Bytes> {
    message.encode().map(Bytes::from).map_err(error::of_message)
}

fn decoded<M: Message>(answer: &Answer) -> Result<M> {
    M::decode(&answer.body)
        .map_err(|error| Error::Internal { message: format!("an answer that cannot be read: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_offset_and_length() {
        let check = |range: (Bound<u64>, Bound<u64>), expected: Option<(u64, u64)>| {
            assert_eq!(offset_and_len(&range).ok(), expected, "{range:?}");
        };
        use Bound::{Excluded, Included, Unbounded};
        check((Unbounded, Unbounded), Some((0, FrameHeader::TO_END)));
        check((Included(5), Unbounded), Some((5, FrameHeader::TO_END)));
        check((Included(5), Excluded(9)), Some((5, 4)));
        check((Included(5), Included(9)), Some((5, 5)));
        check((Excluded(5), Included(9)), Some((6, 4)));
        check((Included(5), Excluded(5)), None);
        check((Included(5), Excluded(4)), None);
        check((Included(5), Included(u64::MAX)), None);
        check((Excluded(u64::MAX), Unbounded), None);
    }
}
