//! Faults on purpose: for tests and demonstrations of a daemon that was started with `--allow-faults`.

use core::net::SocketAddr;

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{MessageError, at_most, field, message, required};
use crate::generated::hedgerow as fb;
use crate::limits::{FAULT_DURATION_MS_MAX, FAULTS_MAX};

mod kind;

pub use kind::{FaultAmount, FaultInfo, FaultKind};

/// What a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultPlace {
    /// The device of the shard at this position of the daemon's list.
    Shard(u16),
    /// The answers on every connection, those that are made later included.
    Connections,
    /// The answers on the connections from this address; port 0 is all of its ports.
    Peer(SocketAddr),
}

impl FaultPlace {
    /// Whether this kind of fault can strike here.
    pub fn takes(self, kind: FaultKind) -> bool {
        let info = kind.info();
        match self {
            FaultPlace::Shard(_) => info.strikes_shards(),
            FaultPlace::Connections | FaultPlace::Peer(_) => info.strikes_connections(),
        }
    }

    fn read(table: fb::Fault<'_>) -> Result<FaultPlace, MessageError> {
        let id = table.place_id();
        match (table.place(), table.peer()) {
            (1, None) => Ok(FaultPlace::Shard(u16::try_from(id).map_err(|_| field("place_id", id))?)),
            (2, None) if id == 0 => Ok(FaultPlace::Connections),
            (3, Some(peer)) if id == 0 => {
                let address = peer.parse().map_err(|_| field("peer", peer.len() as u64))?;
                Ok(FaultPlace::Peer(address))
            }
            (3, None) => Err(MessageError::Missing { field: "peer" }),
            (2 | 3, _) if id != 0 => Err(field("place_id", id)),
            (1 | 2, Some(peer)) => Err(field("peer", peer.len() as u64)),
            (other, _) => Err(field("place", other)),
        }
    }
}

/// A fault to be injected. It ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What it strikes.
    pub place: FaultPlace,
    /// What it does.
    pub kind: FaultKind,
    /// Share of the operations that it strikes, in millionths: 1 to 1,000,000.
    pub share_ppm: u32,
    /// How long it lasts, in milliseconds: 1 to [`FAULT_DURATION_MS_MAX`].
    pub duration_ms: u32,
}

impl Fault {
    /// Every operation struck.
    pub const SHARE_ALL_PPM: u32 = 1_000_000;

    /// Everything struck, for as long as a fault may last.
    pub fn new(place: FaultPlace, kind: FaultKind) -> Fault {
        Fault { place, kind, share_ppm: Fault::SHARE_ALL_PPM, duration_ms: FAULT_DURATION_MS_MAX }
    }

    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::Fault<'a>> {
        let (place, place_id, peer) = match self.place {
            FaultPlace::Shard(shard) => (1, u64::from(shard), None),
            FaultPlace::Connections => (2, 0, None),
            FaultPlace::Peer(address) => (3, 0, Some(b.create_string(&address.to_string()))),
        };
        let (amount, amount_max) = self.kind.amounts();
        let args = fb::FaultArgs {
            place,
            place_id,
            kind: self.kind.info().number,
            amount,
            share_ppm: self.share_ppm,
            duration_ms: self.duration_ms,
            amount_max,
            peer,
        };
        fb::Fault::create(b, &args)
    }

    fn read(table: fb::Fault<'_>) -> Result<Fault, MessageError> {
        let place = FaultPlace::read(table)?;
        let info = FaultInfo::numbered(table.kind()).ok_or(field("kind", table.kind()))?;
        let (amount, amount_max) = (table.amount(), table.amount_max());
        let kind = info.kind(amount, amount_max).ok_or(field("amount", amount.max(amount_max)))?;
        if !place.takes(kind) {
            return Err(field("kind", table.kind()));
        }
        if !(1..=Fault::SHARE_ALL_PPM).contains(&table.share_ppm()) {
            return Err(field("share_ppm", table.share_ppm()));
        }
        if !(1..=FAULT_DURATION_MS_MAX).contains(&table.duration_ms()) {
            return Err(field("duration_ms", table.duration_ms()));
        }
        Ok(Fault { place, kind, share_ppm: table.share_ppm(), duration_ms: table.duration_ms() })
    }
}

/// What is to be done about faults. Every answer is a [`FaultAnswer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultRequest {
    /// Injects one more.
    Inject(Fault),
    /// Lists those that are active.
    List,
    /// Ends one.
    Clear {
        /// The id that its injection was answered with.
        id: u64,
    },
    /// Ends all.
    ClearAll,
}

impl FaultRequest {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::FaultRequest<'a>>, MessageError> {
        let args = match self {
            FaultRequest::Inject(fault) => {
                fb::FaultRequestArgs { action: 1, id: 0, fault: Some(fault.build(b)) }
            }
            FaultRequest::List => fb::FaultRequestArgs { action: 2, id: 0, fault: None },
            FaultRequest::Clear { id } => fb::FaultRequestArgs { action: 3, id: *id, fault: None },
            FaultRequest::ClearAll => fb::FaultRequestArgs { action: 4, id: 0, fault: None },
        };
        Ok(fb::FaultRequest::create(b, &args))
    }

    fn read(table: fb::FaultRequest<'_>) -> Result<FaultRequest, MessageError> {
        match table.action() {
            1 => Ok(FaultRequest::Inject(Fault::read(required("fault", table.fault())?)?)),
            2 => Ok(FaultRequest::List),
            3 => Ok(FaultRequest::Clear { id: table.id() }),
            4 => Ok(FaultRequest::ClearAll),
            other => Err(field("action", other)),
        }
    }
}

message!(FaultRequest, FaultRequest);

/// A fault that is active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveFault {
    /// Its id.
    pub id: u64,
    /// What it is.
    pub fault: Fault,
    /// How long it will last, in milliseconds.
    pub remaining_ms: u32,
    /// Operations that it has struck.
    pub hits: u64,
}

/// The faults that are active after a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultAnswer {
    /// Id of the fault that was injected; 0 if none was.
    pub id: u64,
    /// All that are active, at most [`FAULTS_MAX`].
    pub faults: Vec<ActiveFault>,
}

impl FaultAnswer {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::FaultAnswer<'a>>, MessageError> {
        at_most("faults", self.faults.len(), FAULTS_MAX)?;
        let faults: Vec<_> = self
            .faults
            .iter()
            .map(|active| {
                let args = fb::ActiveFaultArgs {
                    id: active.id,
                    fault: Some(active.fault.build(b)),
                    remaining_ms: active.remaining_ms,
                    hits: active.hits,
                };
                fb::ActiveFault::create(b, &args)
            })
            .collect();
        let args = fb::FaultAnswerArgs { id: self.id, faults: Some(b.create_vector(&faults)) };
        Ok(fb::FaultAnswer::create(b, &args))
    }

    fn read(table: fb::FaultAnswer<'_>) -> Result<FaultAnswer, MessageError> {
        at_most("faults", table.faults().map_or(0, |faults| faults.len()), FAULTS_MAX)?;
        let active = |active: fb::ActiveFault<'_>| {
            Ok(ActiveFault {
                id: active.id(),
                fault: Fault::read(required("fault", active.fault())?)?,
                remaining_ms: active.remaining_ms(),
                hits: active.hits(),
            })
        };
        let faults = table.faults().into_iter().flatten().map(active).collect::<Result<_, _>>()?;
        Ok(FaultAnswer { id: table.id(), faults })
    }
}

message!(FaultAnswer, FaultAnswer);
