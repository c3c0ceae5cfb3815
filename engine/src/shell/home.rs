//! What a key's home does: the memory tier, versions, conditions, and the coordinator behind them.
//! A call works on one record of an object; streams are cut into records by the connection's core.

mod call;
mod gates;
mod read;
mod stat;
mod write;

use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::frame::Status;
use hedgerow_wire::part::PartMeta;

pub use call::{
    Call, Condition, ObjectMeta, PartPosition, Piece, Pieces, ReadCall, RecordPosition, RecordReply, Reply,
    StripeBytes,
};
pub use gates::{Gates, OpenPuts};
pub use read::{InMemory, find_in_memory, rebuild};

use super::buffers::{PartBytes, SharedBytes};
use super::core::Core;
use super::oneshot;

/// What the memory tier keeps of a record.
#[derive(Clone)]
pub struct StripeInMemory {
    /// The record.
    pub meta: Arc<PartMeta>,
    /// Its stripe; empty for a head.
    pub bytes: SharedBytes,
}

/// Serves a call on the key's home core. A write that was begun is carried to its end though nobody
/// waits for it any more: the memory tier must learn of it.
pub async fn serve(core: &Rc<Core>, call: Call) -> Reply<PartBytes> {
    match call {
        Call::Read(read) => read::serve_read(core, &read).await,
        Call::Stat { read } => stat::serve(core, read).await,
        write => {
            let (sender, receiver) = oneshot::channel();
            let here = core.clone();
            core.spawn(async move { sender.send(serve_write(&here, write).await) });
            receiver.await.unwrap_or(Reply::Status(Status::Internal))
        }
    }
}

async fn serve_write(core: &Rc<Core>, call: Call) -> Reply<PartBytes> {
    match call {
        Call::PutSole { object, stripe, checksum } => write::put_sole(core, object, stripe, checksum).await,
        Call::BeginPut { object } => write::begin_put(core, object).await,
        Call::PutStripe { object, version, index, stripe } => {
            write::put_stripe(core, &object, version, index, stripe).await
        }
        Call::PutHead { object, version, object_len, checksum } => {
            write::put_head(core, object, version, object_len, checksum).await
        }
        Call::EndPut { hash, version } => {
            core.open_puts.end(hash, version);
            Reply::Noted
        }
        Call::Forget { hash, version } => {
            write::forget(core, hash, version);
            Reply::Noted
        }
        Call::Delete { object } => write::delete(core, object).await,
        Call::Read(_) | Call::Stat { .. } => unreachable!("reads are served apart"),
    }
}
