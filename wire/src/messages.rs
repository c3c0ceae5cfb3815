//! The structured bodies: hello, stat, stats, errors, faults, verification. Plain values outside,
//! FlatBuffers (`schema/hedgerow.fbs`) on the wire.
//!
//! Decoding verifies first and is bounded: what it allocates is in proportion to the body, also when
//! a hostile body refers to one table many times. Get, put and the part messages have none of these
//! (see [`crate::frame`] and [`crate::part_message`]), but for the [`ErrorDetail`] of a refusal.

use flatbuffers::{FlatBufferBuilder, Follow, Verifiable, VerifierOptions, WIPOffset};

use crate::generated::hedgerow as fb;
use crate::limits::BODY_LEN_MAX;
use crate::types::{Code, Key, Target, Version};

mod error;
mod fault;
mod hello;
mod stat;
mod stats;
mod verify;

pub use error::ErrorDetail;
pub use fault::{
    ActiveFault, Fault, FaultAmount, FaultAnswer, FaultInfo, FaultKind, FaultPlace, FaultRequest,
};
pub use hello::{
    HelloAnswer, HelloRequest, Limits, MemberInfo, MemberState, ShardPlace, Topology, choose_version,
    features,
};
pub use stat::{PartState, StatAnswer, StatPart, StatRecord};
pub use stats::{Counter, HistogramSummary, Label, ShardState, ShardStats, StatsAnswer};
pub use verify::{DamagedPart, VerifyAnswer, VerifyRequest};

/// A structured body.
pub trait Message: Sized {
    /// The body's bytes.
    fn encode(&self) -> Result<Vec<u8>, MessageError>;

    /// Reads and checks a body.
    fn decode(body: &[u8]) -> Result<Self, MessageError>;
}

/// Why a value is no message, or bytes are none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// The bytes are not of this message's structure.
    #[error("the message's structure is wrong: {0}")]
    Structure(String),
    /// A field that must be there is not.
    #[error("the message lacks '{field}'")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field has a value that is not allowed.
    #[error("message field '{field}' has the value {value}, which is not allowed")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A field, or the whole, is longer than allowed.
    #[error("'{field}' of the message has a length of {len}, at most {max} is allowed")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// Tables of one body at most: a stat of the largest object with the widest code stays below.
const TABLES_MAX: usize = 1 << 16;
/// Bytes of one body, each counted as often as it is referred to.
const APPARENT_LEN_MAX: usize = 4 * BODY_LEN_MAX;

/// Implements [`Message`] by the type's own `build` and `read`.
macro_rules! message {
    ($type:ident, $table:ident) => {
        impl crate::messages::Message for $type {
            fn encode(&self) -> Result<Vec<u8>, crate::messages::MessageError> {
                let mut builder = flatbuffers::FlatBufferBuilder::new();
                let root = self.build(&mut builder)?;
                crate::messages::finish(builder, root)
            }

            fn decode(body: &[u8]) -> Result<Self, crate::messages::MessageError> {
                Self::read(crate::messages::root::<crate::generated::hedgerow::$table<'_>>(body)?)
            }
        }
    };
}
use message;

fn finish<T>(mut builder: FlatBufferBuilder<'_>, root: WIPOffset<T>) -> Result<Vec<u8>, MessageError> {
    builder.finish_minimal(root);
    let (bytes, start) = builder.collapse();
    let len = bytes.len() - start;
    if len > BODY_LEN_MAX {
        return Err(MessageError::TooLong { field: "body", len, max: BODY_LEN_MAX });
    }
    Ok(bytes[start..].to_vec())
}

fn root<'a, T>(body: &'a [u8]) -> Result<T::Inner, MessageError>
where
    T: Follow<'a> + Verifiable + 'a,
{
    let options = VerifierOptions {
        max_depth: 8,
        max_tables: TABLES_MAX,
        max_apparent_size: APPARENT_LEN_MAX,
        ignore_missing_null_terminator: false,
    };
    flatbuffers::root_with_opts::<T>(&options, body)
        .map_err(|error| MessageError::Structure(error.to_string()))
}

fn field(field: &'static str, value: impl Into<u64>) -> MessageError {
    MessageError::Field { field, value: value.into() }
}

fn required<T>(name: &'static str, value: Option<T>) -> Result<T, MessageError> {
    value.ok_or(MessageError::Missing { field: name })
}

fn at_most(name: &'static str, len: usize, max: usize) -> Result<(), MessageError> {
    if len > max { Err(MessageError::TooLong { field: name, len, max }) } else { Ok(()) }
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

fn bytes(value: Option<flatbuffers::Vector<'_, u8>>) -> Vec<u8> {
    value.map(|v| v.bytes().to_vec()).unwrap_or_default()
}

fn key(value: Option<flatbuffers::Vector<'_, u8>>) -> Result<Key, MessageError> {
    let bytes = value.map_or(&[][..], |v| v.bytes());
    Key::new(bytes).map_err(|error| field("key", error.len as u64))
}

fn version(value: Option<&fb::Version>) -> Version {
    value.map_or(Version::ZERO, |v| Version { hlc: v.hlc(), coordinator: v.coordinator() })
}

fn to_version(value: Version) -> fb::Version {
    fb::Version::new(value.hlc, value.coordinator)
}

fn code(value: Option<&fb::Code>) -> Result<Code, MessageError> {
    let value = required("code", value)?;
    Code::new(value.k(), value.m()).map_err(|_| field("code", u16::from_le_bytes([value.k(), value.m()])))
}

fn to_code(value: Code) -> fb::Code {
    fb::Code::new(value.k() as u8, value.m() as u8)
}

fn target(value: Option<&fb::Target>) -> Result<Target, MessageError> {
    let value = required("target", value)?;
    Ok(Target { member: crate::types::Member(value.member()), shard: value.shard() })
}

fn wide(value: Option<&fb::Wide>) -> u128 {
    value.map_or(0, |v| u128::from(v.low()) | u128::from(v.high()) << 64)
}

fn to_wide(value: u128) -> fb::Wide {
    fb::Wide::new(value as u64, (value >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cannot_grow_by_naming_one_table_many_times() {
        let mut b = FlatBufferBuilder::new();
        let name = b.create_string(&"x".repeat(100_000));
        let counter =
            fb::Counter::create(&mut b, &fb::CounterArgs { name: Some(name), ..Default::default() });
        let counters = b.create_vector(&vec![counter; 10_000]);
        let args = fb::StatsAnswerArgs { counters: Some(counters), ..Default::default() };
        let root = fb::StatsAnswer::create(&mut b, &args);
        let bytes = finish(b, root).unwrap();
        let error = StatsAnswer::decode(&bytes).unwrap_err();
        assert!(matches!(&error, MessageError::Structure(_)), "{error}");
    }
}
