//! Writes frames: the two bytes-and-checksums steps that every sender has in common.
//!
//! A body is never copied here unless the caller asks for it: a sender of large bodies seals the
//! header with the body's checksum and hands header, key and body to the socket as separate slices.

use std::time::Duration;

use crate::checksum::{crc32c, crc32c_append};
use crate::frame::FrameHeader;
use crate::limits::{BODY_LEN_MAX, DEADLINE_US_MAX};
use crate::time::Timestamp;
use crate::types::Key;

impl FrameHeader {
    /// Sets length and checksum of key and body; the body is the concatenation of `body`.
    ///
    /// # Panics
    /// If the body is longer than [`BODY_LEN_MAX`].
    #[must_use]
    pub fn sealed(self, key: Option<&Key>, body: &[&[u8]]) -> FrameHeader {
        let len = body.iter().map(|slice| slice.len()).sum();
        let checksum = body.iter().fold(0, |crc, slice| crc32c_append(crc, slice));
        self.sealed_with(key, len, checksum)
    }

    /// As [`FrameHeader::sealed`], where the body's checksum is known already (for example combined
    /// from those of its parts).
    ///
    /// # Panics
    /// If `body_len` is above [`BODY_LEN_MAX`].
    #[must_use]
    pub fn sealed_with(mut self, key: Option<&Key>, body_len: usize, body_checksum: u32) -> FrameHeader {
        assert!(body_len <= BODY_LEN_MAX, "a body of {body_len} bytes, {BODY_LEN_MAX} are allowed");
        let key = key.map_or(&[][..], Key::as_bytes);
        self.key_len = key.len() as u16;
        self.key_checksum = crc32c(key);
        self.body_len = body_len as u32;
        self.body_checksum = body_checksum;
        self
    }

    /// When this request is to be answered at the latest, if its header became readable at `received`.
    pub fn deadline(&self, received: Timestamp) -> Timestamp {
        received + Duration::from_micros(u64::from(self.deadline_budget_us))
    }
}

/// What is left until `deadline`, for [`FrameHeader::deadline_budget_us`]: at least 1 and at most
/// [`DEADLINE_US_MAX`]; nothing once less than a microsecond is left.
pub fn deadline_budget_us(deadline: Timestamp, now: Timestamp) -> Option<u32> {
    let left_us = deadline.since(now).as_micros().min(u128::from(DEADLINE_US_MAX)) as u32;
    (left_us > 0).then_some(left_us)
}

/// Appends a whole frame to `out`: `header` sealed for `key` and `body`, the key, the body.
///
/// # Panics
/// If the body is longer than [`BODY_LEN_MAX`].
pub fn write_frame(header: FrameHeader, key: Option<&Key>, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header.sealed(key, &[body]).encode());
    out.extend_from_slice(key.map_or(&[][..], Key::as_bytes));
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Op;

    #[test]
    fn the_budget_is_what_is_left() {
        let check = |deadline_ns, now_ns, expected| {
            assert_eq!(deadline_budget_us(Timestamp(deadline_ns), Timestamp(now_ns)), expected);
        };
        check(5_000_000, 1_000_000, Some(4_000));
        check(5_000_000, 4_999_000, Some(1));
        check(5_000_000, 4_999_001, None);
        check(5_000_000, 6_000_000, None);
        check(u64::MAX, 0, Some(DEADLINE_US_MAX));
        let header = FrameHeader { deadline_budget_us: 7, ..FrameHeader::request(Op::Ping, 1) };
        assert_eq!(header.deadline(Timestamp(1_000)), Timestamp(8_000));
    }

    #[test]
    fn a_body_in_pieces_has_the_checksum_of_the_whole() {
        let key = Key::new(b"k").unwrap();
        let pieces = FrameHeader::request(Op::Put, 1).sealed(Some(&key), &[b"one", b"", b"two"]);
        let whole = FrameHeader::request(Op::Put, 1).sealed(Some(&key), &[b"onetwo"]);
        assert_eq!(pieces, whole);
        assert_eq!((whole.key_len, whole.body_len, whole.body_checksum), (1, 6, crc32c(b"onetwo")));
    }
}
