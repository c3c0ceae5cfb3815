//! The writes of one key, and what became of each.

use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{AckLevel, Code, Version};

use crate::sim::plan::{ClientOp, OpKind, Shape};

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Not known: it may be found, or not.
    Doubtful,
    /// Acknowledged.
    Done,
    /// Refused: it must never be found.
    Refused,
}

/// A write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    /// The request's number, from which the bytes follow.
    pub id: u32,
    kind: OpKind,
    /// When it was sent.
    pub sent: Timestamp,
    /// When its client no longer waits.
    pub answer_by: Timestamp,
    pub fate: Fate,
    /// Its version, once that is known: from its own answer, or from a read that found it.
    pub version: Option<Version>,
    pub acked_at: Option<Timestamp>,
    /// When it was first returned as confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// When it was first returned whole and confirmed.
    pub whole_at: Option<Timestamp>,
}

impl Write {
    /// The write that a request begins.
    pub fn new(op: &ClientOp, sent: Timestamp) -> Write {
        Write {
            id: op.id,
            kind: op.kind,
            sent,
            answer_by: sent + op.deadline,
            fate: Fate::Doubtful,
            version: None,
            acked_at: None,
            confirmed_at: None,
            whole_at: None,
        }
    }

    /// Length of what was put, in bytes; nothing of a delete.
    pub fn len(&self) -> Option<u32> {
        match self.kind {
            OpKind::Put { len, .. } => Some(len),
            OpKind::Delete { .. } | OpKind::Get { .. } => None,
        }
    }

    /// Whether it deletes.
    pub fn deletes(&self) -> bool {
        matches!(self.kind, OpKind::Delete { .. })
    }

    /// Whether it has a condition.
    pub fn conditional(&self) -> bool {
        self.kind.condition().is_some()
    }

    /// Time to live, if not for ever.
    pub fn ttl(&self) -> Option<Duration> {
        match self.kind {
            OpKind::Put { ttl_ms, .. } => ttl_ms.map(Duration::from_millis),
            OpKind::Delete { .. } | OpKind::Get { .. } => None,
        }
    }

    /// Its own code: a tombstone has a copy on every target.
    pub fn code(&self, shape: &Shape) -> Code {
        match self.len() {
            Some(len) => shape.code.for_stripe(len as usize, shape.min_part as usize),
            None => shape.code,
        }
    }

    /// Whether the acknowledgement promises to survive the death of processes.
    pub fn survives_kill(&self) -> bool {
        self.kind.ack() != Some(AckLevel::Buffered)
    }

    /// Whether the acknowledgement promises to survive the loss of power.
    pub fn survives_power(&self) -> bool {
        self.kind.ack() == Some(AckLevel::Synced)
    }

    /// Whether no read that was sent at `sent` may return anything older.
    pub fn is_floor(&self, sent: Timestamp) -> bool {
        [self.acked_at, self.confirmed_at].into_iter().flatten().any(|at| at <= sent)
    }

    /// Whether a read that was sent at `sent` has to find it, or something newer.
    pub fn is_there(&self, sent: Timestamp) -> bool {
        [self.acked_at, self.whole_at].into_iter().flatten().any(|at| at <= sent)
    }
}

/// The writes of one key.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub key: u16,
    /// In the order in which they were sent.
    pub writes: Vec<Write>,
    /// The version that a client saw last; [`Version::ZERO`] for a miss.
    pub last_seen: Version,
    /// What the reads of the calm time returned last, whole and confirmed, and how many of them in a row asked
    /// targets for it.
    pub found_in_calm: Option<(Version, u32)>,
}

impl History {
    /// Nothing was written.
    pub fn new(key: u16) -> History {
        History { key, writes: Vec::new(), last_seen: Version::ZERO, found_in_calm: None }
    }

    /// The write that has `version`.
    pub fn of_version(&self, version: Version) -> Option<&Write> {
        self.writes.iter().find(|write| write.version == Some(version))
    }

    /// The write of a request.
    pub fn of_op(&self, id: u32) -> Option<&Write> {
        self.writes.iter().find(|write| write.id == id)
    }

    /// The write of a request.
    pub fn of_op_mut(&mut self, id: u32) -> Option<&mut Write> {
        self.writes.iter_mut().find(|write| write.id == id)
    }

    /// The newest write that a read sent at `sent` has to find, or something newer.
    pub fn newest_there(&self, sent: Timestamp) -> Option<&Write> {
        self.writes.iter().filter(|write| write.is_there(sent)).max_by_key(|write| write.version)
    }
}
