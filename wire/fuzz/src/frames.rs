//! The frame decoder.

use hedgerow_wire::Key;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameError, FrameHeader};
use hedgerow_wire::limits::FRAME_HEADER_LEN;

use crate::reseal;

/// Bytes of the input that say where the stream is cut.
const CUTS_LEN: usize = 8;

/// What a decoder found, whatever the pieces that bodies came in.
#[derive(PartialEq, Debug)]
enum Event {
    Header(FrameHeader, Option<Key>),
    Body(Vec<u8>),
    End,
    Refused(FrameHeader, FrameError),
    Lost(FrameError),
}

/// A stream of frames gives the same whole, cut anywhere, and with bodies received beside the decoder; every frame
/// of it is the encoding of what was found.
pub fn frames(bytes: &[u8]) {
    let Some((cuts, stream)) = bytes.split_at_checked(CUTS_LEN) else { return };
    let cuts = reseal::u64_at(cuts, 0);
    check(stream, cuts);
    let mut sealed = stream.to_vec();
    reseal::stream(&mut sealed);
    check(&sealed, cuts);
}

fn check(stream: &[u8], cuts: u64) {
    let whole = decode(stream, |left| left, false);
    let mut state = cuts;
    let piece = |left: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        left.min(1 + (state >> 40) as usize % 200)
    };
    assert_eq!(decode(stream, piece, cuts % 2 == 1), whole, "cuts change what a stream is");
    encode_again(stream);
}

/// All that a decoder finds in a stream that comes in pieces.
fn decode(stream: &[u8], mut piece: impl FnMut(usize) -> usize, beside: bool) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut input, after) = rest.split_at(piece(rest.len()));
        rest = after;
        loop {
            if beside && decoder.body_remaining() > 0 && !input.is_empty() {
                let (body, after) = input.split_at(decoder.body_remaining().min(input.len()));
                decoder.body_received(body);
                add_body(&mut events, body);
                input = after;
            }
            match decoder.step(&mut input) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Header { header, key }) => events.push(Event::Header(header, key)),
                Ok(Step::Body(body)) => add_body(&mut events, body),
                Ok(Step::End) => events.push(Event::End),
                Ok(Step::Refused { header, error }) => events.push(Event::Refused(header, error)),
                Err(error) => {
                    events.push(Event::Lost(error));
                    assert_eq!(decoder.step(&mut input), Err(error), "a lost stream is found again");
                    return events;
                }
            }
        }
        assert!(input.is_empty(), "the decoder asks for more and leaves some");
    }
    events
}

fn add_body(events: &mut Vec<Event>, bytes: &[u8]) {
    match events.last_mut() {
        Some(Event::Body(body)) => body.extend_from_slice(bytes),
        _ => events.push(Event::Body(bytes.to_vec())),
    }
}

/// Every frame that is whole is the encoding of its header, key and body.
fn encode_again(stream: &[u8]) {
    let mut decoder = Decoder::new();
    let mut input = stream;
    let mut under_way: Option<(usize, FrameHeader, Option<Key>)> = None;
    loop {
        match decoder.step(&mut input) {
            Ok(Step::Header { header, key }) => {
                let head_len = FRAME_HEADER_LEN + usize::from(header.key_len);
                under_way = Some((stream.len() - input.len() - head_len, header, key));
            }
            Ok(Step::End) => {
                let Some((begin, header, key)) = under_way.take() else { panic!("an end without a header") };
                let frame = &stream[begin..stream.len() - input.len()];
                let body = &frame[frame.len() - header.body_len as usize..];
                let mut again = Vec::with_capacity(frame.len());
                write_frame(header, key.as_ref(), body, &mut again);
                assert!(again == frame, "a frame is encoded to other bytes");
            }
            Ok(Step::Body(_) | Step::Refused { .. }) => {}
            Ok(Step::NeedMore) | Err(_) => return,
        }
    }
}
