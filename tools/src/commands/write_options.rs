//! What a stored object is to be like; the same for `put` and `load`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use hedgerow_client::{AckLevel, Request};

use crate::text;

/// Options of a write.
#[derive(Args, Clone, Debug)]
pub struct WriteOptions {
    /// The object is gone after so long [default: it stays until it is evicted]
    #[arg(long, value_name = "DURATION", value_parser = text::parse_lasting)]
    ttl: Option<Duration>,
    /// What the acknowledgement promises [default: what the daemon's own --ack says]
    #[arg(long, value_name = "LEVEL", value_enum)]
    ack: Option<Ack>,
    /// Only if there is no such object yet
    #[arg(long)]
    if_absent: bool,
    /// The key says what the object holds: a second put changes nothing
    #[arg(long)]
    immutable: bool,
    /// Keep the object as long as anything else is left to evict
    #[arg(long)]
    pinned: bool,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Ack {
    /// The devices have it: a crash of the daemon loses nothing
    Written,
    /// It is flushed: power loss loses nothing
    Synced,
    /// It is in memory
    Buffered,
}

impl WriteOptions {
    /// `request` with these options.
    pub fn apply(&self, mut request: Request) -> Request {
        if let Some(ack) = self.ack {
            request = request.ack(match ack {
                Ack::Written => AckLevel::Written,
                Ack::Synced => AckLevel::Synced,
                Ack::Buffered => AckLevel::Buffered,
            });
        }
        if let Some(ttl) = self.ttl {
            request = request.ttl(ttl);
        }
        if self.if_absent {
            request = request.if_absent();
        }
        if self.immutable {
            request = request.immutable();
        }
        if self.pinned {
            request = request.pinned();
        }
        request
    }
}
