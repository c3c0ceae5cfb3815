//! Part heads, and what is asked of a shard over the wire.

use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::limits::PART_PREFIX_LEN;
use hedgerow_wire::part::{PartAnswer, decode_part_head, encode_part_head};
use hedgerow_wire::part_message::{
    decode_answer, decode_confirm, decode_drop, decode_read, decode_touch, decode_write, encode_answer_head,
    encode_confirm, encode_drop, encode_read, encode_touch, encode_write_head,
};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{AckLevel, Key};

use crate::reseal;

/// A head that is decoded is encoded to the same bytes, and needs no byte after it.
pub fn part_heads(bytes: &[u8]) {
    check_head(bytes);
    let mut sealed = bytes.to_vec();
    reseal::part(&mut sealed);
    check_head(&sealed);
}

fn check_head(bytes: &[u8]) {
    let Ok(head) = decode_part_head(bytes) else { return };
    assert_eq!(decode_part_head(&bytes[..head.head_len]).as_ref(), Ok(&head));
    assert!(decode_part_head(&bytes[..head.head_len - 1]).is_err(), "a head that is cut off is taken");
    assert_eq!(head.payload_len as usize, head.meta.part_len());
    let mut again = vec![0; head.meta.head_len()];
    encode_part_head(&head.meta, &head.place, head.payload_len, head.payload_checksum, &mut again);
    assert!(again == bytes[..head.head_len], "a head is encoded to other bytes: {head:?}");
}

/// The first byte says which message the others are the body of. What is decoded is encoded to the same bytes.
pub fn part_messages(bytes: &[u8]) {
    let Some((&message, body)) = bytes.split_first() else { return };
    check_message(message, body);
    let mut sealed = body.to_vec();
    if let Some(part) = sealed.get_mut(PART_PREFIX_LEN..) {
        reseal::part(part);
    }
    check_message(message, &sealed);
}

fn check_message(message: u8, body: &[u8]) {
    let received = Timestamp(1);
    let request = |op| FrameHeader { ack: Some(AckLevel::Written), ..FrameHeader::request(op, 1) };
    let same = |again: &[u8]| assert!(again == body, "message {message} is encoded to other bytes");
    match message % 6 {
        0 => {
            let Ok(key) = Key::new(b"k") else { return };
            let header = request(Op::PartRead);
            assert!(decode_read(&header, None, body, received).is_err(), "a read without a key");
            if let Ok((shard, read)) = decode_read(&header, Some(&key), body, received) {
                same(&encode_read(shard, &read));
            }
        }
        1 => {
            if let Ok((shard, write, payload)) = decode_write(&request(Op::PartWrite), body, received) {
                let mut again = encode_write_head(shard, &write, payload.checksum);
                again.extend_from_slice(&body[payload.range]);
                same(&again);
            }
        }
        2 => {
            if let Ok((shard, confirm)) = decode_confirm(&request(Op::PartConfirm), body, received) {
                same(&encode_confirm(shard, &confirm));
            }
        }
        3 => {
            if let Ok((shard, drops)) = decode_drop(body) {
                same(&encode_drop(shard, &drops));
            }
        }
        4 => {
            if let Ok((shard, touches)) = decode_touch(body) {
                same(&encode_touch(shard, &touches));
            }
        }
        _ => check_answer(body, same),
    }
}

fn check_answer(body: &[u8], same: impl Fn(&[u8])) {
    let header = FrameHeader::answer(Op::PartRead, 1, Status::Ok);
    let Ok(answer) = decode_answer(&header, body) else { return };
    let payload = match &answer {
        PartAnswer::Part { payload, .. } => Some(payload.clone()),
        _ => None,
    };
    let mut again = encode_answer_head(&answer, payload.as_ref().map_or(0, |payload| payload.checksum));
    again.extend_from_slice(payload.map_or(&[][..], |payload| &body[payload.range]));
    same(&again);
}
