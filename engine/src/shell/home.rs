//! What a key's home does: the memory tier, versions, conditions, and the coordinator behind them.
//! A call works on one record of an object; streams are cut into records by the connection's core.

mod call;
mod gates;
mod read;
mod write;

use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::part::PartMeta;

pub use call::{
    Call, Condition, ObjectMeta, PartPosition, Piece, Pieces, ReadCall, RecordReply, Reply, StripeBytes,
};
pub use gates::Gates;
pub use read::rebuild;

use super::buffers::{PartBytes, SharedBytes};
use super::core::Core;

/// What the memory tier keeps of a record.
#[derive(Clone)]
pub struct StripeInMemory {
    /// The record.
    pub meta: Arc<PartMeta>,
    /// Its stripe; empty for a head.
    pub bytes: SharedBytes,
}

/// Serves a call on the key's home core.
pub async fn serve(core: &Rc<Core>, call: Call) -> Reply<PartBytes> {
    match call {
        Call::Read(read) => read::serve_read(core, &read).await,
        Call::PutSole { object, stripe, checksum } => write::put_sole(core, object, stripe, checksum).await,
        Call::BeginPut { object } => match write::condition_failure(core, &object).await {
            Some(reply) => reply,
            None => Reply::Version(write::next_version(core, &object)),
        },
        Call::PutStripe { object, version, index, stripe } => {
            write::put_stripe(core, &object, version, index, stripe).await
        }
        Call::PutHead { object, version, object_len, checksum } => {
            write::put_head(core, object, version, object_len, checksum).await
        }
        Call::Delete { object } => write::delete(core, object).await,
        Call::Stat { read } => read::stat(core, &read).await,
    }
}
