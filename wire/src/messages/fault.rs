//! Faults on purpose: for tests and demonstrations of a daemon that was started with `--allow-faults`.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{MessageError, at_most, field, message, required};
use crate::generated::hedgerow as fb;
use crate::limits::{DEADLINE_US_MAX, FAULT_DURATION_MS_MAX, FAULTS_MAX};

/// What a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultPlace {
    /// The shard at this position of the daemon's list.
    Shard(u16),
    /// The connection with this number; 0 is all of them.
    Connection(u64),
}

/// What a fault does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Operations take so much longer.
    Delay {
        /// By how much, in microseconds.
        delay_us: u32,
    },
    /// Nothing is completed for a while; what came meanwhile is completed then.
    Stall {
        /// How long, in milliseconds.
        stall_ms: u32,
    },
    /// Operations fail; a connection's requests are answered `Internal`.
    Error,
    /// A bit of what is read (or sent) is wrong.
    Damage,
    /// The device has no room. Shards only.
    Full,
    /// No operation is ever completed, no answer is ever sent.
    Vanish,
}

impl FaultKind {
    fn parts(self) -> (u8, u64) {
        match self {
            FaultKind::Delay { delay_us } => (1, u64::from(delay_us)),
            FaultKind::Stall { stall_ms } => (2, u64::from(stall_ms)),
            FaultKind::Error => (3, 0),
            FaultKind::Damage => (4, 0),
            FaultKind::Full => (5, 0),
            FaultKind::Vanish => (6, 0),
        }
    }

    fn from_parts(kind: u8, amount: u64) -> Result<FaultKind, MessageError> {
        let within = |max: u32| match u32::try_from(amount) {
            Ok(amount) if (1..=max).contains(&amount) => Ok(amount),
            _ => Err(field("amount", amount)),
        };
        if kind > 2 && amount != 0 {
            return Err(field("amount", amount));
        }
        match kind {
            1 => Ok(FaultKind::Delay { delay_us: within(DEADLINE_US_MAX)? }),
            2 => Ok(FaultKind::Stall { stall_ms: within(FAULT_DURATION_MS_MAX)? }),
            3 => Ok(FaultKind::Error),
            4 => Ok(FaultKind::Damage),
            5 => Ok(FaultKind::Full),
            6 => Ok(FaultKind::Vanish),
            _ => Err(field("kind", kind)),
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

    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::Fault<'a>> {
        let (place, place_id) = match self.place {
            FaultPlace::Shard(shard) => (1, u64::from(shard)),
            FaultPlace::Connection(connection) => (2, connection),
        };
        let (kind, amount) = self.kind.parts();
        let args = fb::FaultArgs {
            place,
            place_id,
            kind,
            amount,
            share_ppm: self.share_ppm,
            duration_ms: self.duration_ms,
        };
        fb::Fault::create(b, &args)
    }

    fn read(table: fb::Fault<'_>) -> Result<Fault, MessageError> {
        let id = table.place_id();
        let place = match table.place() {
            1 => FaultPlace::Shard(u16::try_from(id).map_err(|_| field("place_id", id))?),
            2 => FaultPlace::Connection(id),
            other => return Err(field("place", other)),
        };
        let kind = FaultKind::from_parts(table.kind(), table.amount())?;
        if kind == FaultKind::Full && matches!(place, FaultPlace::Connection(_)) {
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
