//! Hello: who is there, what both sides speak, and where everything is.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{MessageError, at_most, bytes, code, field, message, required, text, to_code, to_wide, wide};
use crate::frame::PROTOCOL_VERSION;
use crate::generated::hedgerow as fb;
use crate::limits::{
    BODY_LEN_MAX, CLIENT_NAME_LEN_MAX, CREDENTIALS_LEN_MAX, DEADLINE_US_MAX, KEY_LEN_MAX, OBJECT_LEN_MAX,
    STREAM_CREDIT_INITIAL_BYTES, STRIPE_LEN_MAX,
};
use crate::types::{Code, Member, wire_enum};

/// Bits of the feature sets in a hello. What a side does not announce must not be asked of it.
pub mod features {
    /// Objects longer than one stripe, as sequences of frames with credit.
    pub const STREAMS: u64 = 1 << 0;
    /// The part messages, which members send each other.
    pub const PARTS: u64 = 1 << 1;
    /// Faults may be injected.
    pub const FAULTS: u64 = 1 << 2;
    /// Every bit that has a meaning.
    pub const KNOWN: u64 = (1 << 3) - 1;
}

/// The protocol version for a peer that speaks `min..=max`: the highest that both speak, if any.
pub fn choose_version(min: u8, max: u8) -> Option<u8> {
    (min <= PROTOCOL_VERSION && PROTOCOL_VERSION <= max).then_some(PROTOCOL_VERSION)
}

/// The first body of a connection, from the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloRequest {
    /// Lowest protocol version that the client speaks.
    pub version_min: u8,
    /// Highest protocol version that the client speaks.
    pub version_max: u8,
    /// Bits of [`features`] that the client knows.
    pub features: u64,
    /// Opaque here; at most [`CREDENTIALS_LEN_MAX`] bytes.
    pub credentials: Vec<u8>,
    /// For logs and statistics; at most [`CLIENT_NAME_LEN_MAX`] bytes.
    pub client_name: String,
}

impl HelloRequest {
    /// The hello of this crate, without credentials.
    pub fn new(client_name: &str) -> HelloRequest {
        HelloRequest {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: features::KNOWN,
            credentials: Vec::new(),
            client_name: client_name.to_owned(),
        }
    }

    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::HelloRequest<'a>>, MessageError> {
        self.check()?;
        let args = fb::HelloRequestArgs {
            version_min: self.version_min,
            version_max: self.version_max,
            features: self.features,
            credentials: Some(b.create_vector(&self.credentials)),
            client_name: Some(b.create_string(&self.client_name)),
        };
        Ok(fb::HelloRequest::create(b, &args))
    }

    fn read(table: fb::HelloRequest<'_>) -> Result<HelloRequest, MessageError> {
        let hello = HelloRequest {
            version_min: table.version_min(),
            version_max: table.version_max(),
            features: table.features(),
            credentials: bytes(table.credentials()),
            client_name: text(table.client_name()),
        };
        hello.check()?;
        Ok(hello)
    }

    fn check(&self) -> Result<(), MessageError> {
        at_most("credentials", self.credentials.len(), CREDENTIALS_LEN_MAX)?;
        at_most("client_name", self.client_name.len(), CLIENT_NAME_LEN_MAX)?;
        if self.version_min == 0 || self.version_min > self.version_max {
            return Err(field("version_min", self.version_min));
        }
        Ok(())
    }
}

message!(HelloRequest, HelloRequest);

/// What a daemon takes, all in bytes unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest key.
    pub key_len_max: u32,
    /// Largest object.
    pub object_len_max: u64,
    /// Largest body of one frame.
    pub body_len_max: u32,
    /// Length of every stripe of an object but its last, and so of the frames of a streamed put.
    pub stripe_len: u32,
    /// Smallest part that an object is cut into.
    pub min_part_len: u32,
    /// Body bytes that a stream may be ahead of its credit frames.
    pub stream_credit: u32,
    /// Longest deadline budget, in microseconds.
    pub deadline_us_max: u32,
    /// Requests that one connection may have under way.
    pub requests_max: u32,
}

impl Limits {
    /// The protocol's own bounds, with `min_part_len` and `requests_max` of the daemon.
    pub fn of_protocol(min_part_len: u32, requests_max: u32) -> Limits {
        Limits {
            key_len_max: KEY_LEN_MAX as u32,
            object_len_max: OBJECT_LEN_MAX,
            body_len_max: BODY_LEN_MAX as u32,
            stripe_len: STRIPE_LEN_MAX as u32,
            min_part_len,
            stream_credit: STREAM_CREDIT_INITIAL_BYTES,
            deadline_us_max: DEADLINE_US_MAX,
            requests_max,
        }
    }

    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::Limits<'a>> {
        let args = fb::LimitsArgs {
            key_len_max: self.key_len_max,
            object_len_max: self.object_len_max,
            body_len_max: self.body_len_max,
            stripe_len: self.stripe_len,
            min_part_len: self.min_part_len,
            stream_credit: self.stream_credit,
            deadline_us_max: self.deadline_us_max,
            requests_max: self.requests_max,
        };
        fb::Limits::create(b, &args)
    }

    fn read(table: fb::Limits<'_>) -> Result<Limits, MessageError> {
        let limits = Limits {
            key_len_max: table.key_len_max(),
            object_len_max: table.object_len_max(),
            body_len_max: table.body_len_max(),
            stripe_len: table.stripe_len(),
            min_part_len: table.min_part_len(),
            stream_credit: table.stream_credit(),
            deadline_us_max: table.deadline_us_max(),
            requests_max: table.requests_max(),
        };
        if limits.stripe_len == 0 || limits.stripe_len as usize > STRIPE_LEN_MAX {
            return Err(field("stripe_len", limits.stripe_len));
        }
        if limits.stream_credit < limits.stripe_len {
            return Err(field("stream_credit", limits.stream_credit));
        }
        Ok(limits)
    }
}

/// The first body of a connection, from the daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloAnswer {
    /// The daemon's own random id; kept over restarts.
    pub daemon_id: u128,
    /// The protocol version that both will speak.
    pub version: u8,
    /// Bits of [`features`] that both know and the daemon allows.
    pub features: u64,
    /// The daemon's build, for people.
    pub build: String,
    /// The code that a large enough object gets.
    pub code: Code,
    /// What the daemon takes.
    pub limits: Limits,
    /// Its members; the epoch is in the header of every answer too.
    pub topology: Topology,
}

impl HelloAnswer {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::HelloAnswer<'a>>, MessageError> {
        let args = fb::HelloAnswerArgs {
            daemon_id: Some(&to_wide(self.daemon_id)),
            version: self.version,
            features: self.features,
            build: Some(b.create_string(&self.build)),
            code: Some(&to_code(self.code)),
            limits: Some(self.limits.build(b)),
            topology: Some(self.topology.build(b)?),
        };
        Ok(fb::HelloAnswer::create(b, &args))
    }

    fn read(table: fb::HelloAnswer<'_>) -> Result<HelloAnswer, MessageError> {
        Ok(HelloAnswer {
            daemon_id: wide(table.daemon_id()),
            version: table.version(),
            features: table.features(),
            build: text(table.build()),
            code: code(table.code())?,
            limits: Limits::read(required("limits", table.limits())?)?,
            topology: Topology::read(required("topology", table.topology())?)?,
        })
    }
}

message!(HelloAnswer, HelloAnswer);

wire_enum! {
    /// How a member takes part.
    MemberState {
        /// It serves.
        Up = 0,
        /// It is being filled and takes writes.
        Joining = 1,
        /// It is being emptied and takes reads.
        Leaving = 2,
        /// It is not reached.
        Down = 3,
    }
}

/// A shard's place in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardPlace {
    /// Position in the member's list of shards.
    pub shard: u16,
    /// Failure domain: targets that fail together have the same.
    pub domain: u32,
    /// Share of the keys, relative to the others.
    pub weight: u32,
}

/// A member of the topology.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberInfo {
    /// Its number in targets.
    pub member: Member,
    /// How it takes part.
    pub state: MemberState,
    /// Its name, for people.
    pub name: String,
    /// `host:port` or `unix:path`.
    pub address: String,
    /// Its shards.
    pub shards: Vec<ShardPlace>,
}

/// Who holds what. The ring follows from it alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Grows with every change; 0 is none.
    pub epoch: u64,
    /// The members.
    pub members: Vec<MemberInfo>,
}

impl Topology {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> Result<WIPOffset<fb::Topology<'a>>, MessageError> {
        let members: Vec<_> = self.members.iter().map(|member| member.build(b)).collect();
        let args = fb::TopologyArgs { epoch: self.epoch, members: Some(b.create_vector(&members)) };
        Ok(fb::Topology::create(b, &args))
    }

    fn read(table: fb::Topology<'_>) -> Result<Topology, MessageError> {
        let members =
            table.members().into_iter().flatten().map(MemberInfo::read).collect::<Result<_, _>>()?;
        Ok(Topology { epoch: table.epoch(), members })
    }
}

message!(Topology, Topology);

impl MemberInfo {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::Member<'a>> {
        let shards: Vec<_> = self
            .shards
            .iter()
            .map(|place| {
                let args =
                    fb::ShardPlaceArgs { shard: place.shard, domain: place.domain, weight: place.weight };
                fb::ShardPlace::create(b, &args)
            })
            .collect();
        let args = fb::MemberArgs {
            member: self.member.0,
            state: self.state as u8,
            name: Some(b.create_string(&self.name)),
            address: Some(b.create_string(&self.address)),
            shards: Some(b.create_vector(&shards)),
        };
        fb::Member::create(b, &args)
    }

    fn read(table: fb::Member<'_>) -> Result<MemberInfo, MessageError> {
        let place =
            |p: fb::ShardPlace<'_>| ShardPlace { shard: p.shard(), domain: p.domain(), weight: p.weight() };
        Ok(MemberInfo {
            member: Member(table.member()),
            state: MemberState::from_u8(table.state()).ok_or_else(|| field("state", table.state()))?,
            name: text(table.name()),
            address: text(table.address()),
            shards: table.shards().into_iter().flatten().map(place).collect(),
        })
    }
}
