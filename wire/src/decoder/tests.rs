use proptest::prelude::*;

use super::*;
use crate::encoder::write_frame;
use crate::frame::flags;
use crate::limits::{BODY_LEN_MAX, KEY_LEN_MAX};

/// Events as a reader of whole bodies sees them.
#[derive(Clone, PartialEq, Debug)]
enum Event {
    Header(FrameHeader, Option<Key>),
    Body(Vec<u8>),
    End,
    Refused(FrameHeader, FrameError),
    Lost(FrameError),
}

/// Decodes `stream` cut into pieces of `cuts` bytes (over and over). With `direct`, the rest of every
/// body is received past `step`.
fn events(stream: &[u8], cuts: &[usize], direct: bool) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut body = Vec::new();
    let mut rest = stream;
    let mut cuts = cuts.iter().copied().cycle();
    loop {
        let mut input = take(&mut rest, cuts.next().unwrap().max(1));
        let mut all_in = input.is_empty();
        loop {
            match decoder.step(&mut input) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Header { header, key }) => {
                    events.push(Event::Header(header, key));
                    body.clear();
                    if direct {
                        // What is in the input belongs to the decoder; the rest comes directly.
                        while let (n @ 1.., true) = (decoder.body_remaining(), !input.is_empty()) {
                            let bytes = take(&mut input, n);
                            decoder.body_received(bytes);
                            body.extend_from_slice(bytes);
                        }
                        let bytes = take(&mut rest, decoder.body_remaining());
                        decoder.body_received(bytes);
                        body.extend_from_slice(bytes);
                        all_in = rest.is_empty();
                    }
                }
                Ok(Step::Body(bytes)) => body.extend_from_slice(bytes),
                Ok(Step::End) => {
                    events.push(Event::Body(std::mem::take(&mut body)));
                    events.push(Event::End);
                }
                Ok(Step::Refused { header, error }) => events.push(Event::Refused(header, error)),
                Err(error) => {
                    assert_eq!(decoder.step(&mut input), Err(error));
                    events.push(Event::Lost(error));
                    return (events, false);
                }
            }
        }
        assert!(input.is_empty(), "NeedMore though {} bytes are left", input.len());
        if all_in && rest.is_empty() {
            return (events, decoder.at_boundary());
        }
    }
}

fn frame(op: Op, id: u64, key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(FrameHeader::request(op, id), Key::new(key).ok().as_ref(), body, &mut out);
    out
}

#[test]
fn a_frame_gives_header_body_end() {
    let stream = [frame(Op::Put, 7, b"key", b"value"), frame(Op::Ping, 8, b"", b"")].concat();
    let (events, boundary) = events(&stream, &[stream.len()], false);
    assert!(boundary);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Header(header, key) => format!("{:?} {} {key:?}", header.op, header.request_id),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "Put 7 Some(Key(key))".to_owned(),
            format!("Body({:?})", b"value"),
            "End".to_owned(),
            "Ping 8 None".to_owned(),
            "Body([])".to_owned(),
            "End".to_owned()
        ]
    );
}

#[test]
fn a_wrong_key_or_body_checksum_refuses_the_frame_and_keeps_the_framing() {
    for (at, expected) in
        [(FRAME_HEADER_LEN, FrameError::KeyChecksum), (FRAME_HEADER_LEN + 3, FrameError::BodyChecksum)]
    {
        let mut stream = frame(Op::Put, 7, b"key", b"value");
        stream[at] ^= 1;
        stream.extend(frame(Op::Ping, 8, b"", b""));
        for cut in 1..stream.len() {
            let (events, boundary) = events(&stream, &[cut], false);
            assert!(boundary);
            assert!(events.iter().any(|e| matches!(e, Event::Refused(_, error) if *error == expected)));
            assert!(!events.contains(&Event::Body(b"value".to_vec())));
            assert!(
                matches!(&events[events.len() - 3], Event::Header(header, None) if header.request_id == 8)
            );
        }
    }
}

#[test]
fn the_framing_is_lost_as_soon_as_it_can_be_known() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(&mut &b"GET"[..]), Ok(Step::NeedMore));
    assert_eq!(decoder.step(&mut &b" / "[..]), Err(FrameError::Magic { found: *b"GET " }));
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(&mut &b"HgFr\x02"[..]), Err(FrameError::ProtocolVersion { found: 2 }));
    let mut bytes = frame(Op::Put, 7, b"key", b"value");
    bytes[layout::BODY_LEN] ^= 1;
    assert!(matches!(Decoder::new().step(&mut &bytes[..]), Err(FrameError::HeaderChecksum { .. })));
    for header in [
        FrameHeader { key_len: KEY_LEN_MAX as u16 + 1, ..FrameHeader::request(Op::Get, 1) },
        FrameHeader { body_len: BODY_LEN_MAX as u32 + 1, ..FrameHeader::request(Op::Put, 1) },
    ] {
        let bytes = header.encode();
        assert!(matches!(Decoder::new().step(&mut &bytes[..]), Err(FrameError::Field { .. })));
    }
}

#[test]
fn a_body_that_is_not_wanted_is_passed_over() {
    let stream = [frame(Op::Put, 7, b"key", &[3; 1000]), frame(Op::Ping, 8, b"", b"")].concat();
    let mut decoder = Decoder::new();
    let mut input = &stream[..600];
    assert!(matches!(decoder.step(&mut input), Ok(Step::Header { .. })));
    assert_eq!(decoder.body_remaining(), 1000);
    decoder.skip_body();
    assert_eq!(decoder.body_remaining(), 0);
    assert!(!decoder.at_boundary());
    assert_eq!(decoder.step(&mut input), Ok(Step::NeedMore));
    let mut input = &stream[600..];
    assert!(matches!(decoder.step(&mut input), Ok(Step::Header { header, .. }) if header.request_id == 8));
}

#[test]
fn a_cut_stream_is_not_at_a_boundary() {
    let stream = frame(Op::Put, 7, b"key", b"value");
    for len in 0..=stream.len() {
        let (_, boundary) = events(&stream[..len], &[usize::MAX], false);
        assert_eq!(boundary, len == 0 || len == stream.len(), "length {len}");
    }
}

#[test]
#[should_panic(expected = "6 bytes received into a body of which 5 are to come")]
fn more_than_the_body_cannot_be_received() {
    let stream = frame(Op::Put, 7, b"key", b"value");
    let mut decoder = Decoder::new();
    let _ = decoder.step(&mut &stream[..]);
    decoder.body_received(b"values");
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 1..60),
        prop::collection::vec(any::<u8>(), KEY_LEN_MAX..=KEY_LEN_MAX),
    ];
    let body = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..3000)];
    (prop::sample::select(Op::ALL), any::<u64>(), key, body, any::<bool>(), 0..40u32, any::<u32>()).prop_map(
        |(op, id, key, body, answer, damage, at)| {
            let mut header = FrameHeader::request(op, id);
            header.flags |= if answer { flags::ANSWER } else { 0 };
            let mut out = Vec::new();
            write_frame(header, Key::new(&key).ok().as_ref(), &body, &mut out);
            // Now and then a damaged frame; behind the header mostly, where framing is kept.
            if damage == 0 {
                let at = at as usize % out.len();
                out[at] ^= 1;
            } else if damage < 5 && out.len() > FRAME_HEADER_LEN {
                let at = FRAME_HEADER_LEN + at as usize % (out.len() - FRAME_HEADER_LEN);
                out[at] ^= 1;
            }
            out
        },
    )
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_events(
        frames in prop::collection::vec(any_frame(), 0..6),
        cuts in prop::collection::vec(1..400usize, 1..20),
        direct in any::<bool>(),
    ) {
        let stream = frames.concat();
        prop_assert_eq!(events(&stream, &[usize::MAX], false), events(&stream, &cuts, direct));
    }

    #[test]
    fn hostile_bytes_neither_panic_nor_grow(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        sealed in any::<bool>(),
        cut in 1..200usize,
    ) {
        let mut bytes = bytes;
        if sealed && bytes.len() >= FRAME_HEADER_LEN {
            // As hostile as it can be: right magic, version and checksum, everything else random.
            bytes[..4].copy_from_slice(&FRAME_MAGIC);
            bytes[layout::VERSION] = PROTOCOL_VERSION;
            let at = layout::HEADER_CHECKSUM;
            bytes[at..at + 4].fill(0);
            let checksum = crc32c(&bytes[..FRAME_HEADER_LEN]);
            bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        }
        let mut decoder = Decoder::new();
        for mut input in bytes.chunks(cut) {
            while !matches!(decoder.step(&mut input), Ok(Step::NeedMore) | Err(_)) {}
            prop_assert!(decoder.key.capacity() <= KEY_LEN_MAX.next_power_of_two());
        }
    }
}
