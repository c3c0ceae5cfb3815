//! What can go wrong with a request, and what is then known of its effect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hedgerow_wire::frame::{FrameError, FrameHeader, PROTOCOL_VERSION, Status, flags};
use hedgerow_wire::messages::{ErrorDetail, Message, MessageError};
use hedgerow_wire::{KeyError, Version};

/// Result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request failed. A key that does not exist is no error: it is `Option::None`.
///
/// Unless a variant says otherwise, a write that failed has had no effect and will have none.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not done by the deadline.
    #[error("not done within its deadline of {deadline:?}")]
    DeadlineExceeded {
        /// What the request had.
        deadline: Duration,
    },
    /// A bound was reached; nothing was done. Ask again later.
    #[error("{}", overloaded_text(*.client_limit))]
    Overloaded {
        /// The client's own bound (requests under way), if it was that; else it was one of the daemon's.
        client_limit: Option<usize>,
    },
    /// A write was sent, and what became of it is not known: the object is the old one, the new one
    /// or missing. The client does not repeat it.
    #[error("the write was sent and its outcome is not known ({reason})")]
    Indeterminate {
        /// What stood between the write and its answer.
        reason: String,
    },
    /// A newer version exists; the write was not done.
    #[error("a newer version ({version}) exists")]
    Superseded {
        /// The newer version.
        version: Version,
    },
    /// `if_version` did not match.
    #[error("the object's version is {found}, not the one that the write was meant for")]
    VersionMismatch {
        /// The version that there is ([`Version::ZERO`]: there is no object).
        found: Version,
    },
    /// The object exists, but cannot be put together from what is left of it.
    #[error("the object cannot be put together from what is left of it")]
    Unavailable,
    /// A checksum was wrong; no byte of what it covers was given out.
    #[error("damaged on the way: {what}")]
    Corrupt {
        /// Whose checksum it was.
        what: &'static str,
    },
    /// The object is larger than the limit.
    #[error("larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The key is empty or too long.
    #[error(transparent)]
    InvalidKey(#[from] KeyError),
    /// The range lies outside of the object.
    #[error("the range lies outside of the object, which has {object_len} bytes")]
    RangeNotSatisfiable {
        /// Length of the object.
        object_len: u64,
    },
    /// The request is wrong.
    #[error("bad request: {message}")]
    BadRequest {
        /// How.
        message: String,
    },
    /// Not allowed here.
    #[error("refused: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// Both sides have no protocol version, or not the needed feature, in common.
    #[error(
        "not spoken by the daemon (protocol version {version}, this client speaks {PROTOCOL_VERSION}): {message}"
    )]
    Unsupported {
        /// The daemon's protocol version, 0 if it did not say.
        version: u8,
        /// What is missing.
        message: String,
    },
    /// The connection broke while the request was under way.
    #[error("the connection to {addr} broke: {reason}")]
    Disconnected {
        /// The daemon.
        addr: String,
        /// How it broke.
        reason: String,
    },
    /// There is no connection, and none could be made in the time that the request had.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The daemon.
        addr: String,
        /// Of the last attempt.
        source: Arc<io::Error>,
    },
    /// The other side does not keep to the protocol. The connection is closed.
    #[error("{addr} does not keep to the protocol: {what}")]
    Protocol {
        /// The daemon.
        addr: String,
        /// What it did.
        what: String,
    },
    /// The daemon is shutting down; nothing was done.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// The daemon failed inside. A write may have had an effect.
    #[error("the daemon failed: {message}")]
    Internal {
        /// Where.
        message: String,
    },
    /// What was to be stored could not be read to its end, and is not stored. If it is of several
    /// stripes, an object that it was to replace may be gone.
    #[error("reading the object to be stored: {0}")]
    Body(Arc<io::Error>),
}

fn overloaded_text(client_limit: Option<usize>) -> String {
    match client_limit {
        Some(limit) => format!("this client has {limit} requests under way already"),
        None => "the daemon is overloaded".to_owned(),
    }
}

/// How a connection came to its end. Shared by every request that was under way on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// The socket failed or was closed.
    Socket(String),
    /// The peer does not keep to the protocol.
    Protocol(String),
    /// The daemon said that it does not speak this protocol.
    Version(u8),
}

impl Broken {
    pub(crate) fn frame(error: FrameError) -> Broken {
        match error {
            FrameError::ProtocolVersion { found } => Broken::Version(found),
            other => Broken::Protocol(other.to_string()),
        }
    }

    pub(crate) fn io(error: &io::Error) -> Broken {
        Broken::Socket(error.to_string())
    }

    pub(crate) fn into_error(self, addr: &str) -> Error {
        match self {
            Broken::Socket(reason) => Error::Disconnected { addr: addr.to_owned(), reason },
            Broken::Protocol(what) => Error::Protocol { addr: addr.to_owned(), what },
            Broken::Version(version) => {
                Error::Unsupported { version, message: "another protocol version".to_owned() }
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Broken::Socket(reason) | Broken::Protocol(reason) => reason.clone(),
            Broken::Version(found) => format!("it speaks protocol version {found}"),
        }
    }
}

/// The error that the status of an answer stands for; `deadline` is the request's own.
pub(crate) fn of_status(header: &FrameHeader, body: &[u8], deadline: Duration, limit_bytes: u64) -> Error {
    let message = || match ErrorDetail::decode(body) {
        Ok(detail) if detail.field.is_empty() => detail.message,
        Ok(detail) => format!("{} (field '{}', value {})", detail.message, detail.field, detail.value),
        Err(_) => "no reason given".to_owned(),
    };
    match header.status {
        Status::DeadlineExceeded => Error::DeadlineExceeded { deadline },
        Status::Overloaded => Error::Overloaded { client_limit: None },
        Status::Indeterminate => Error::Indeterminate { reason: message() },
        Status::Superseded => Error::Superseded { version: header.version },
        Status::VersionMismatch => Error::VersionMismatch { found: header.version },
        Status::Unavailable => Error::Unavailable,
        // Its time came while it was read, and some of it has been taken.
        Status::NotFound if header.has(flags::ABORT) => Error::Unavailable,
        Status::Corrupt => Error::Corrupt { what: "the request, as the daemon received it" },
        Status::TooLarge => Error::TooLarge { limit_bytes },
        Status::RangeNotSatisfiable => Error::RangeNotSatisfiable { object_len: header.object_len },
        Status::BadRequest => Error::BadRequest { message: message() },
        Status::Refused => Error::Refused { message: message() },
        Status::Unsupported => Error::Unsupported { version: PROTOCOL_VERSION, message: message() },
        Status::ShuttingDown => Error::ShuttingDown,
        Status::Internal => Error::Internal { message: message() },
        Status::Ok | Status::NotFound | Status::Cancelled => Error::Internal {
            message: format!("an answer of status {:?} that nobody asked for", header.status),
        },
    }
}

/// A request that cannot be written down.
pub(crate) fn of_message(error: MessageError) -> Error {
    Error::BadRequest { message: error.to_string() }
}

#[cfg(test)]
mod tests;
