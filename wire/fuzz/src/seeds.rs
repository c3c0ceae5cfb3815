//! Where the corpus begins: real encodings, by the real encoders.

use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameHeader, Op, flags};
use hedgerow_wire::limits::PART_PREFIX_LEN;
use hedgerow_wire::part::{PartPlace, encode_part_head};

use crate::world;

/// The frames of every op, as the protocol's own test holds them fast.
const GOLDEN: &str = include_str!("../../tests/golden.hex");

/// An input, and what it is of.
pub type Seed = (String, Vec<u8>);

/// The inputs that the corpus of a target has at least.
///
/// # Panics
/// If there is no such target.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "frames" => {
            golden().into_iter().map(|(name, frame)| (name, [&[7; 8], &frame[..]].concat())).collect()
        }
        "requests" => requests(),
        "bodies" => bodies(),
        "part_heads" => part_heads(),
        "part_messages" => part_messages(),
        "snapshot" => vec![("stop".into(), world::image().snapshot.clone())],
        "device" => device(),
        "settings" => texts(SETTINGS),
        "trace" => texts(TRACES),
        "pairs" => texts(PAIRS),
        other => panic!("there is no target '{other}'"),
    }
}

fn golden() -> Vec<Seed> {
    let mut frames: Vec<Seed> = Vec::new();
    for line in GOLDEN.lines() {
        match (line.strip_prefix("# "), frames.last_mut()) {
            (Some(name), _) => frames.push((name.replace(' ', "-"), Vec::new())),
            (None, Some((_, bytes))) => {
                let digits = line.split_whitespace().skip(1);
                bytes.extend(digits.filter_map(|byte| u8::from_str_radix(byte, 16).ok()));
            }
            (None, None) => {}
        }
    }
    frames
}

/// The header and the body of a frame.
fn header_and_body(frame: &[u8]) -> (FrameHeader, &[u8]) {
    let mut input = frame;
    match Decoder::new().step(&mut input) {
        Ok(Step::Header { header, .. }) => (header, input),
        other => panic!("a golden frame is none: {other:?}"),
    }
}

/// Every request by itself, and the frames of a put in their order.
fn requests() -> Vec<Seed> {
    let mut seeds = golden();
    let put: Vec<u8> = seeds
        .iter()
        .filter(|(name, _)| name.starts_with("put-stream"))
        .flat_map(|(_, f)| f.clone())
        .collect();
    seeds.retain(|(_, frame)| !header_and_body(frame).0.has(flags::ANSWER));
    seeds.push(("put-of-several-frames".into(), put));
    seeds
}

fn bodies() -> Vec<Seed> {
    let message = |header: &FrameHeader, name: &str| match (header.op, header.has(flags::ANSWER)) {
        _ if name.starts_with("error") => Some(4),
        (Op::Hello, answer) => Some(u8::from(answer)),
        (Op::Stat, true) => Some(2),
        (Op::Stats, true) => Some(3),
        (Op::Fault, answer) => Some(5 + u8::from(answer)),
        (Op::Verify, answer) => Some(7 + u8::from(answer)),
        _ => None,
    };
    let body = |(name, frame): Seed| {
        let (header, body) = header_and_body(&frame);
        message(&header, &name).map(|message| (name, [&[message], body].concat()))
    };
    golden().into_iter().filter_map(body).collect()
}

fn part_messages() -> Vec<Seed> {
    let message = |header: &FrameHeader| match (header.op, header.has(flags::ANSWER)) {
        (Op::PartRead, false) => Some(0),
        (Op::PartWrite, false) => Some(1),
        (Op::PartConfirm, false) => Some(2),
        (Op::PartDrop, false) => Some(3),
        (Op::Touch, _) => Some(4),
        (Op::PartRead | Op::PartWrite | Op::PartConfirm | Op::PartDrop, true) => Some(5),
        _ => None,
    };
    let body = |(name, frame): Seed| {
        let (header, body) = header_and_body(&frame);
        message(&header).map(|message| (name, [&[message], body].concat()))
    };
    golden().into_iter().filter_map(body).collect()
}

fn part_heads() -> Vec<Seed> {
    let of_write = |(name, body): &Seed| (name.clone(), body[1 + PART_PREFIX_LEN..].to_vec());
    let mut seeds: Vec<Seed> =
        part_messages().iter().filter(|(name, _)| name == "part-write-request").map(of_write).collect();
    let mut meta = world::part(&world::name("tagged"), world::version(1), 100);
    meta.tags.extend_from_slice(b"\x03red");
    let place = PartPlace { shard_id: 1, slab_generation: 2, slab_offset: 4096, ..PartPlace::default() };
    let mut head = vec![0; meta.head_len()];
    encode_part_head(&meta, &place, 100, 0, &mut head);
    seeds.push(("with-tags".into(), head));
    seeds
}

/// Every way to begin, and every edit once.
fn device() -> Vec<Seed> {
    let begin = (0..16u8).map(|how| (format!("how-{how}"), vec![how]));
    let edit = (0..9u8).flat_map(|edit| {
        let bytes =
            move |how: u8| (format!("edit-{edit}-of-{how}"), vec![how, edit, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
        [0, 3].map(bytes)
    });
    begin.chain(edit).collect()
}

fn texts(texts: &[(&str, &str)]) -> Vec<Seed> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

const SETTINGS: &[(&str, &str)] = &[
    ("empty", ""),
    (
        "all",
        "data = \"/d\"\nshards = 6\nshard-size = \"1G\"\ncode = \"4+2\"\nmin-part = \"16K\"\nlisten = \"127.0.0.1:7400\"\n\
         memory = \"256M\"\nack = \"written\"\nread-policy = \"hedged\"\ncores = \"0-3\"\ncoordinators = 1\n\
         mean-part = 65536\ndevice-timeout-ms = 30000\nallow-faults = true\n",
    ),
    ("devices", "code = \"1+1\"\nshard = [\"/dev/a\", \"b:1G\", \"c:d:\"]\ncores = 2\n"),
];

const TRACES: &[(&str, &str)] = &[
    (
        "plain",
        "block_id,io_size,io_offset,op_name,op_count,rs_shard_id\n0,8388608,0,getChunkData,2,4\n3,101,0,putChunk,1,2\n3,50,51,getChunkData,1,2\n",
    ),
    (
        "timed",
        "op_time,block_id,io_size,io_offset,op_name,op_count,rs_shard_id\n100,a,10,0,putChunk,1,0\n103.5,a,5,2,getChunk,1,0\n",
    ),
];

const PAIRS: &[(&str, &str)] = &[
    ("csv", "keys,requests\n1,77039\n4,44756\n300,200\n"),
    ("json", "{\"a\": [1, 2.0, 4096], \"b\": [5, 7, 0]}"),
];
