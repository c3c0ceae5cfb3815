//! The bytes of every op's request and answer, held fast: in `golden.hex`, and for the worked
//! examples in docs/protocol.md. `GOLDEN_WRITE=1 cargo test -p hedgerow-wire --test golden` writes
//! `golden.hex` anew after a change of the protocol that is meant.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::messages::{FaultRequest, Message};
use hedgerow_wire::part::*;
use hedgerow_wire::part_message::*;
use hedgerow_wire::request::check_request;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::*;

mod samples;

#[derive(Clone)]
struct Frame {
    name: &'static str,
    header: FrameHeader,
    key: Option<Key>,
    body: Vec<u8>,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(self.header.clone(), self.key.as_ref(), &self.body, &mut out);
        out
    }
}

fn frame(name: &'static str, header: FrameHeader, key: Option<Key>, body: impl Into<Vec<u8>>) -> Frame {
    Frame { name, header, key, body: body.into() }
}

fn request(op: Op) -> FrameHeader {
    FrameHeader { deadline_budget_us: 250_000, ..FrameHeader::request(op, 7) }
}

fn answer(op: Op) -> FrameHeader {
    FrameHeader { topology_epoch: 1, ..FrameHeader::answer(op, 7, Status::Ok) }
}

fn hello() -> Key {
    Key::new(b"greeting").unwrap()
}

const VALUE: &[u8] = b"hello, hedge";

/// A version of 2023-11-14T22:13:20Z.
fn version() -> Version {
    Version { hlc: Version::hlc_from_wall_us(1_700_000_000_000_000) + 1, coordinator: 2 }
}

fn object_frames() -> Vec<Frame> {
    let checksum = ObjectChecksum::crc32c(crc32c(VALUE));
    let whole = FrameHeader {
        version: version(),
        length: 12,
        object_len: 12,
        object_checksum: checksum,
        ..answer(Op::Get)
    };
    let stream = FrameHeader { flags: 0, ..request(Op::Put) };
    let range = FrameHeader { offset: 7, length: 5, ..request(Op::Get) };
    let if_version = flags::END | flags::IF_VERSION;
    vec![
        frame(
            "put request",
            FrameHeader { object_len: 12, ttl_ms: 60_000, object_checksum: checksum, ..request(Op::Put) },
            Some(hello()),
            VALUE,
        ),
        frame("put answer", FrameHeader { version: version(), ..answer(Op::Put) }, None, []),
        frame("put answer unchanged", unchanged(), None, []),
        frame("put answer superseded", superseded(), None, []),
        frame(
            "put stream first",
            FrameHeader { flags: flags::LEN_UNKNOWN, ..stream.clone() },
            Some(hello()),
            &VALUE[..7],
        ),
        frame(
            "put stream last",
            FrameHeader {
                flags: flags::END,
                offset: 7,
                object_len: 12,
                object_checksum: checksum,
                deadline_budget_us: 0,
                ..stream
            },
            None,
            &VALUE[7..],
        ),
        frame(
            "put stream abort",
            FrameHeader {
                flags: flags::END | flags::ABORT,
                offset: 7,
                deadline_budget_us: 0,
                ..request(Op::Put)
            },
            None,
            [],
        ),
        frame(
            "get request",
            FrameHeader { length: FrameHeader::TO_END, ..request(Op::Get) },
            Some(hello()),
            [],
        ),
        frame("get answer", FrameHeader { ttl_ms: 59_000, ..whole.clone() }, None, VALUE),
        frame("get range request", range, Some(hello()), []),
        frame("get range answer", FrameHeader { offset: 7, length: 5, ..whole.clone() }, None, &VALUE[7..]),
        frame("get answer miss", FrameHeader { status: Status::NotFound, ..answer(Op::Get) }, None, []),
        frame(
            "get answer abort",
            FrameHeader {
                flags: flags::ANSWER | flags::END | flags::ABORT,
                status: Status::DeadlineExceeded,
                ..answer(Op::Get)
            },
            None,
            [],
        ),
        frame(
            "delete request",
            FrameHeader {
                flags: if_version,
                version: version(),
                ack: Some(AckLevel::Synced),
                ..request(Op::Delete)
            },
            Some(hello()),
            [],
        ),
        frame("delete answer", FrameHeader { version: version(), ..answer(Op::Delete) }, None, []),
        frame("stat request", request(Op::Stat), Some(samples::key()), []),
        frame("stat answer", answer(Op::Stat), None, samples::stat_answer().encode().unwrap()),
    ]
}

fn unchanged() -> FrameHeader {
    let flags = flags::ANSWER | flags::END | flags::UNCHANGED;
    FrameHeader { flags, version: version(), ..answer(Op::Put) }
}

fn superseded() -> FrameHeader {
    FrameHeader { status: Status::Superseded, version: version(), ..answer(Op::Put) }
}

fn control_frames() -> Vec<Frame> {
    let cancel = FrameHeader { deadline_budget_us: 0, ..request(Op::Cancel) };
    let credit = FrameHeader { deadline_budget_us: 0, credit: 1 << 20, ..request(Op::Credit) };
    let granted = FrameHeader { credit: 1 << 20, topology_epoch: 0, ..answer(Op::Credit) };
    let fault = FaultRequest::Inject(samples::faults()[0]);
    let bad = FrameHeader { status: Status::BadRequest, ..answer(Op::Get) };
    vec![
        frame("hello request", request(Op::Hello), None, samples::hello_request().encode().unwrap()),
        frame("hello answer", answer(Op::Hello), None, samples::hello_answer().encode().unwrap()),
        frame("ping request", request(Op::Ping), None, []),
        frame("ping answer", answer(Op::Ping), None, []),
        frame("stats request", request(Op::Stats), None, []),
        frame("stats answer", answer(Op::Stats), None, samples::stats_answer().encode().unwrap()),
        frame("cancel", cancel, None, []),
        frame("credit from client", credit, None, []),
        frame("credit from daemon", granted, None, []),
        frame("fault request", request(Op::Fault), None, fault.encode().unwrap()),
        frame("fault answer", answer(Op::Fault), None, samples::fault_answer().encode().unwrap()),
        frame("verify request", request(Op::Verify), None, samples::verify_request().encode().unwrap()),
        frame("verify answer", answer(Op::Verify), None, samples::verify_answer().encode().unwrap()),
        frame("error answer", bad, None, samples::error_detail().encode()),
    ]
}

fn part_frames() -> Vec<Frame> {
    let meta = PartMeta {
        kind: PartKind::Sole,
        pinned: false,
        namespace: Namespace(0),
        namespace_generation: 0,
        key: hello(),
        record: Record::OBJECT,
        version: version(),
        object_len: 12,
        object_checksum: ObjectChecksum::crc32c(crc32c(VALUE)),
        stripe_len: 12,
        stripe_size: 1 << 20,
        part: 0,
        code: Code::new(1, 2).unwrap(),
        created_ms: 1_700_000_000_000,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    };
    let hash = hello().hash(Namespace(0));
    let deadline = Timestamp::NEVER;
    let name = RecordName { namespace: Namespace(0), key: hello(), hash, record: Record::OBJECT };
    let read = PartRead { name, version: None, deadline };
    let write =
        PartWrite { meta: meta.clone(), ack: AckLevel::Written, purpose: WritePurpose::Put, deadline };
    let sum = crc32c(VALUE);
    let part = encode_answer_head(&PartAnswer::Part { meta, payload: () }, sum);
    let drop = PartDrop { hash, record: Record::OBJECT, version: version() };
    let confirm = PartConfirm { hash, record: Record::OBJECT, version: version(), deadline };
    let touch = PartTouch { hash, record: Record::OBJECT, hlc: version().hlc };
    let simple = |answer: PartAnswer<()>| encode_answer_head(&answer, 0);
    let no_deadline = FrameHeader { deadline_budget_us: 0, ..request(Op::Touch) };
    vec![
        frame("part read request", request(Op::PartRead), Some(hello()), encode_read(3, &read)),
        frame("part read answer", answer(Op::PartRead), None, [&part[..], VALUE].concat()),
        frame(
            "part write request",
            FrameHeader { ack: Some(write.ack), ..request(Op::PartWrite) },
            None,
            [&encode_write_head(3, &write, sum)[..], VALUE].concat(),
        ),
        frame("part write answer", answer(Op::PartWrite), None, simple(PartAnswer::Stored)),
        frame("part drop request", request(Op::PartDrop), None, encode_drop(3, &[drop])),
        frame("part drop answer", answer(Op::PartDrop), None, simple(PartAnswer::Dropped)),
        frame("part confirm request", request(Op::PartConfirm), None, encode_confirm(3, &confirm)),
        frame(
            "part confirm answer",
            answer(Op::PartConfirm),
            None,
            simple(PartAnswer::Absent { forgotten_through: version(), unknown: false }),
        ),
        frame("touch", no_deadline, None, encode_touch(3, &[touch])),
    ]
}

fn frames() -> Vec<Frame> {
    [object_frames(), control_frames(), part_frames()].concat()
}

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Rows of 16 bytes, each after its offset.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate() {
        write!(out, "{:03x} ", row * 16).unwrap();
        for byte in bytes {
            write!(out, " {byte:02x}").unwrap();
        }
        out.push('\n');
    }
    out
}

/// What `dump` gave: the blocks of a text, each after a line that `title` takes the name from.
fn blocks(text: &str, title: impl Fn(&str) -> Option<&str>) -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::new();
    let mut current: Option<&mut String> = None;
    for line in text.lines() {
        let is_row =
            line.len() > 4 && line.is_char_boundary(3) && u16::from_str_radix(&line[..3], 16).is_ok();
        if let Some(name) = title(line) {
            current = Some(blocks.entry(name.to_owned()).or_default());
        } else if let (Some(block), true) = (&mut current, is_row) {
            block.push_str(line);
            block.push('\n');
        } else {
            current = None;
        }
    }
    blocks
}

#[test]
fn every_frame_has_the_bytes_that_are_held_fast() {
    let path = place("tests/golden.hex");
    let now: BTreeMap<_, _> = frames().iter().map(|f| (f.name.to_owned(), dump(&f.bytes()))).collect();
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let text: Vec<_> = frames().iter().map(|f| format!("# {}\n{}", f.name, now[f.name])).collect();
        std::fs::write(&path, text.join("\n")).unwrap();
    }
    let held = blocks(&std::fs::read_to_string(path).unwrap(), |line| line.strip_prefix("# "));
    for (name, bytes) in &now {
        assert_eq!(held.get(name), Some(bytes), "{name}");
    }
    assert_eq!(held.len(), now.len(), "frames that are held fast and no longer made");
}

#[test]
fn the_worked_examples_of_the_documentation_are_these_bytes() {
    let text = std::fs::read_to_string(place("../docs/protocol.md")).unwrap();
    let examples = blocks(&text, |line| line.strip_prefix("```hex "));
    assert!(examples.len() >= 5, "{} examples", examples.len());
    for (name, bytes) in examples {
        let frame = frames().into_iter().find(|f| f.name == name);
        let frame = frame.unwrap_or_else(|| panic!("no frame is called '{name}'"));
        assert_eq!(bytes, dump(&frame.bytes()), "{name}");
    }
}

#[test]
fn every_frame_is_decoded_as_what_it_was() {
    for frame in frames() {
        let bytes = frame.bytes();
        let mut decoder = Decoder::new();
        let mut input = &bytes[..];
        let Ok(Step::Header { header, key }) = decoder.step(&mut input) else { panic!("{}", frame.name) };
        let sealed = frame.header.clone().sealed(frame.key.as_ref(), &[&frame.body]);
        assert_eq!((&header, &key), (&sealed, &frame.key), "{}", frame.name);
        let is_request = !header.has(flags::ANSWER);
        assert_eq!(check_request(&header, key.as_ref()).is_ok(), is_request, "{}", frame.name);
        if !frame.body.is_empty() {
            assert_eq!(decoder.step(&mut input), Ok(Step::Body(&frame.body)), "{}", frame.name);
        }
        assert_eq!(decoder.step(&mut input), Ok(Step::End), "{}", frame.name);
        assert!(decoder.at_boundary());
    }
}

#[test]
fn every_op_has_its_frames() {
    for &op in Op::ALL {
        let has =
            |answer| frames().iter().any(|f| f.header.op == op && f.header.has(flags::ANSWER) == answer);
        assert!(has(false), "{op:?} has no request");
        assert_eq!(has(true), !matches!(op, Op::Cancel | Op::Touch), "{op:?}");
    }
}

/// Rows of the tables of a text that begin with numbers: the first `N` cells.
fn rows<const N: usize>(section: &str) -> Vec<[String; N]> {
    let cells = |line: &str| -> Option<[String; N]> {
        let mut cells =
            line.strip_prefix("| ")?.split(" | ").map(|cell| cell.trim_end_matches(" |").to_owned());
        let row: [Option<String>; N] = std::array::from_fn(|_| cells.next());
        row[0].as_ref()?.parse::<u32>().ok()?;
        row.iter().all(Option::is_some).then(|| row.map(Option::unwrap))
    };
    section.lines().filter_map(cells).collect()
}

fn section<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("no '{from}'"));
    let end = text[start..].find(to).unwrap_or_else(|| panic!("no '{to}' after '{from}'"));
    &text[start..start + end]
}

/// The rows cover `len` bytes without gap or overlap.
fn check_covers(section: &str, len: usize) {
    let mut at = 0;
    for [offset, size, name] in rows::<3>(section) {
        let Ok(size) = size.parse::<usize>() else { continue };
        assert_eq!(offset.parse(), Ok(at), "{name}");
        at += size;
    }
    assert_eq!(at, len);
}

#[test]
fn the_tables_of_the_documentation_are_those_of_the_code() {
    use hedgerow_wire::frame::layout;
    let text = std::fs::read_to_string(place("../docs/protocol.md")).unwrap();
    let header = section(&text, "\n## Frames", "\n### Checksums");
    check_covers(header, 160);
    check_covers(&text[text.find("The part head has 192 bytes").unwrap()..], 192);
    let offsets: BTreeMap<_, _> = rows::<3>(header).into_iter().map(|[at, _, name]| (name, at)).collect();
    for (name, offset) in [
        ("op", layout::OP),
        ("flags", layout::FLAGS),
        ("header_checksum", layout::HEADER_CHECKSUM),
        ("key_checksum", layout::KEY_CHECKSUM),
        ("body_checksum", layout::BODY_CHECKSUM),
        ("body_len", layout::BODY_LEN),
        ("key_len", layout::KEY_LEN),
        ("status", layout::STATUS),
        ("priority", layout::PRIORITY),
        ("ack", layout::ACK),
        ("read_policy", layout::READ_POLICY),
        ("checksum_kind", layout::CHECKSUM_KIND),
        ("request_id", layout::REQUEST_ID),
        ("trace_id", layout::TRACE_ID),
        ("topology_epoch", layout::TOPOLOGY_EPOCH),
        ("namespace", layout::NAMESPACE),
        ("deadline_budget_us", layout::DEADLINE_BUDGET_US),
        ("max_stale_ms", layout::MAX_STALE_MS),
        ("credit", layout::CREDIT),
        ("version_hlc", layout::VERSION_HLC),
        ("version_coordinator", layout::VERSION_COORDINATOR),
        ("offset", layout::OFFSET),
        ("length", layout::LENGTH),
        ("object_len", layout::OBJECT_LEN),
        ("ttl_ms", layout::TTL_MS),
        ("object_checksum", layout::OBJECT_CHECKSUM),
    ] {
        assert_eq!(offsets.get(&format!("`{name}`")), Some(&offset.to_string()), "{name}");
    }
    let named = |part: &str| -> Vec<(String, String)> {
        rows::<2>(part).into_iter().map(|[number, name]| (number, name)).collect()
    };
    let ops: Vec<_> = Op::ALL.iter().map(|&op| ((op as u8).to_string(), format!("`{op:?}`"))).collect();
    assert_eq!(named(section(&text, "\n## Ops", "\n### Hello")), ops);
    let statuses: Vec<_> = Status::ALL.iter().map(|&s| ((s as u8).to_string(), format!("`{s:?}`"))).collect();
    assert_eq!(named(section(&text, "\n## Statuses", "\n## Retrying")), statuses);
    let hash: String =
        hello().hash(Namespace(0)).0.to_le_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert!(text.contains(&hash), "the hash is {hash}");
    assert!(text.contains(&format!("{:#010x}", crc32c(VALUE))));
    assert_eq!(limits::BODY_LEN_MAX, 1_050_328);
    assert!(header.contains("a body at most 1,050,328 "));
}
