//! What a load asks for, and what became of it.

use hedgerow_wire::Key;
use hedgerow_wire::frame::Status;

use crate::pattern::mix;

/// What is done with an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Read `length` bytes from `offset`.
    Get {
        /// First byte.
        offset: u64,
        /// Bytes; must end within the object.
        length: u64,
    },
    /// Store all of it.
    Put,
    /// Remove it.
    Delete,
    /// Ask what is known of it.
    Stat,
    /// Answered after the request's deadline budget, by the bare server only.
    DelayedPing,
}

/// Requests of one class are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Whole objects.
    Get,
    /// Part of an object.
    Range,
    /// Stored because the load has puts.
    Put,
    /// Removed.
    Delete,
    /// Stored because it was missing.
    Fill,
    /// What is measured beside a load.
    Probe,
}

impl Class {
    /// All of them, in their order.
    pub const ALL: [Class; 6] =
        [Class::Get, Class::Range, Class::Put, Class::Delete, Class::Fill, Class::Probe];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Get => "get",
            Class::Range => "range",
            Class::Put => "put",
            Class::Delete => "delete",
            Class::Fill => "fill",
            Class::Probe => "probe",
        }
    }
}

/// One request of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is done.
    pub kind: Kind,
    /// Which set of objects: the first byte of the key.
    pub set: u8,
    /// The object's number; its seed and key come from it.
    pub object: u64,
    /// Which of the object's contents: those of two versions have nothing in common. 0 where an object has one only.
    pub version: u64,
    /// Length of the whole object in bytes.
    pub object_len: u64,
    /// Deadline in microseconds.
    pub deadline_us: u32,
    /// What it is counted with.
    pub class: Class,
}

impl Request {
    /// The seed of the bytes of the object's version.
    pub fn seed(&self) -> u64 {
        object_content_seed(self.set, self.object, self.version)
    }

    /// Whether it asks for less than all of an object.
    pub fn is_range(&self) -> bool {
        matches!(self.kind, Kind::Get { offset, length } if offset > 0 || length < self.object_len)
    }

    /// The object's key: the set and 16 hexadecimal digits.
    pub fn key(&self) -> Key {
        object_key(self.set, self.object)
    }
}

/// The seed of the bytes of an object's version.
pub fn object_content_seed(set: u8, object: u64, version: u64) -> u64 {
    let object = mix(object ^ u64::from(set) << 56);
    if version == 0 { object } else { mix(object ^ version) }
}

/// The key of an object.
pub fn object_key(set: u8, object: u64) -> Key {
    let mut bytes = [set; 17];
    for (place, byte) in bytes[1..].iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(object >> (60 - 4 * place)) as usize & 15];
    }
    match Key::new(&bytes) {
        Ok(key) => key,
        Err(error) => unreachable!("17 bytes are a key: {error}"),
    }
}

/// The object's number from [`object_key`]'s bytes.
pub fn object_of_key(bytes: &[u8]) -> Option<(u8, u64)> {
    let (set, digits) = bytes.split_first()?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((*set, u64::from_str_radix(digits, 16).ok()?))
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The request.
    pub request: Request,
    /// When it was to be sent (open loop) or was sent, in nanoseconds.
    pub start_ns: u64,
    /// When the first of its bytes were handed to the socket, in nanoseconds.
    pub sent_ns: u64,
    /// When its last byte was there, in nanoseconds.
    pub end_ns: u64,
    /// Status of the last frame.
    pub status: Status,
    /// Bytes of the object that came.
    pub bytes: u64,
    /// It came from the memory tier, as far as the server says so.
    pub from_memory: bool,
    /// A read-through server had to fetch it from its origin.
    pub through: bool,
    /// The version could not be confirmed.
    pub unconfirmed: bool,
    /// Status is `Ok`, and a byte of it was not what it has to be.
    pub wrong: bool,
    /// Length of the whole object, where bytes of it came and are kept.
    pub object_len: u64,
    /// The body of an answer to `Stat`, or of a refusal; what came of an object, where it is kept.
    pub body: Vec<u8>,
}

impl Answer {
    /// What becomes the answer of a request that was to be sent at `start_ns`.
    pub fn pending(request: Request, start_ns: u64, sent_ns: u64) -> Answer {
        Answer {
            request,
            start_ns,
            sent_ns,
            end_ns: 0,
            status: Status::Internal,
            bytes: 0,
            from_memory: false,
            through: false,
            unconfirmed: false,
            wrong: false,
            object_len: 0,
            body: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_objects() {
        for (set, object) in [(b'a', 0), (b'z', u64::MAX), (b'm', 0x0123_4567_89ab_cdef)] {
            assert_eq!(object_of_key(object_key(set, object).as_bytes()), Some((set, object)));
        }
        assert_eq!(object_of_key(b""), None);
        assert_eq!(object_of_key(b"mxyz"), None);
    }
}
