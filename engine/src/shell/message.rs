//! What cores say to each other: part requests and their answers, whole calls to a key's home, and control.

use std::rc::Rc;

use hedgerow_wire::Target;
use hedgerow_wire::part::{PartAnswer, PartConfirm, PartDrop, PartRead, PartTouch, PartWrite};

use super::buffers::SharedBytes;
use super::core::Core;
use super::home::{Call, Reply};

/// What a coordinator asks of a shard.
pub enum ShardRequest {
    /// A part.
    Read(PartRead),
    /// To keep a part.
    Write(Box<PartWrite>, SharedBytes),
    /// How what it holds stands to a version.
    Confirm(PartConfirm),
}

/// What runs on another core.
pub type Job = Box<dyn FnOnce(&Rc<Core>) + Send>;

/// From one core to another.
pub enum Message {
    /// To the core of a shard.
    Ask { ask: u64, shard: u16, request: ShardRequest },
    /// The answer is no longer wanted.
    Withdraw { ask: u64, shard: u16 },
    /// Records to let go.
    Drops { shard: u16, drops: Vec<PartDrop> },
    /// Records that were used.
    Touches { shard: u16, touches: Vec<PartTouch> },
    /// To the core that asked.
    Answer { ask: u64, answer: PartAnswer<SharedBytes> },
    /// Touched records that a target does not hold.
    TouchMissed { target: Target, missed: Vec<PartTouch> },
    /// Parts that a target has let go, to their home.
    Evicted { target: Target, parts: Vec<PartDrop> },
    /// To a key's home.
    Call { call: u64, request: Box<Call> },
    /// The caller no longer wants it.
    CancelCall { call: u64 },
    /// From a key's home.
    Done { call: u64, reply: Box<Reply<SharedBytes>> },
    /// Control: runs there. Never on the path of a request.
    Run(Job),
}
