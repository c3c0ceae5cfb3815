//! Frames that are wrong: each is answered with what was wrong, and the connection is then in the state
//! that docs/protocol.md says.

use std::net::SocketAddr;

use hedgerow_client::Client;
use hedgerow_client::messages::{HelloRequest, Message};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags, layout};
use hedgerow_wire::limits::{BODY_LEN_MAX, FRAME_HEADER_LEN, KEY_LEN_MAX};
use hedgerow_wire::{Key, ObjectChecksum, Version};

use crate::content::content;
use crate::harness::{Daemon, Setup, counter};
use crate::raw::{Frame, Raw, frame, get, key, put, request, reseal};

/// A daemon with an object, and a client that must not notice anything.
async fn daemon_and_bystander(setup: &Setup) -> (Daemon, Client) {
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    (daemon, client)
}

async fn undisturbed(daemon: &mut Daemon, client: &Client) {
    assert!(daemon.alive());
    let object = client.get("bystander").await.unwrap().unwrap();
    assert!(object.bytes == content(1, 100_000));
    assert_eq!(client.daemons()[0].connections, 1, "the bystander's connection was closed");
    assert!(client.daemons()[0].error.is_none());
}

/// Sends bytes whose framing cannot be believed: an answer to nobody that says why, then the end.
#[track_caller]
fn fatal(address: SocketAddr, bytes: &[u8], status: Status, why: &str) {
    let mut raw = Raw::greeted(address);
    raw.send_bytes(bytes);
    // What is sent behind it has no meaning any more.
    let _ = raw.try_send_bytes(&frame(&get(9), Some(&key("bystander")), &[]));
    let answer = raw.expect(Op::Hello, 0, status);
    let message = answer.detail().message;
    assert!(message.contains(why), "'{message}' does not say '{why}'");
    raw.expect_closed();
}

fn changed(at: usize, value: u8) -> Vec<u8> {
    let mut bytes = frame(&get(5), Some(&key("bystander")), &[]);
    bytes[at] = value;
    reseal(&mut bytes);
    bytes
}

#[tokio::test]
async fn a_wrong_header_is_answered_and_ends_the_connection() {
    let setup = Setup::new("2+1").two_cores();
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let at = daemon.address;
    let good = frame(&get(5), Some(&key("bystander")), &[]);
    let mut bytes = good.clone();
    bytes[0] = b'X';
    fatal(at, &bytes, Status::BadRequest, "magic");
    fatal(at, &content(3, 500), Status::BadRequest, "magic");
    fatal(at, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", Status::BadRequest, "magic");
    for version in [0, 2, 255] {
        fatal(at, &changed(layout::VERSION, version), Status::Unsupported, "version");
    }
    for byte in [layout::HEADER_CHECKSUM, layout::REQUEST_ID, layout::BODY_LEN + 1, layout::LENGTH] {
        let mut bytes = good.clone();
        bytes[byte] ^= 1;
        fatal(at, &bytes, Status::BadRequest, "checksum");
    }
    for op in [0, 10, 15, 21, 26, 255] {
        fatal(at, &changed(layout::OP, op), Status::BadRequest, "op");
    }
    let enums = [
        (layout::STATUS, "status"),
        (layout::PRIORITY, "priority"),
        (layout::ACK, "ack"),
        (layout::READ_POLICY, "read_policy"),
        (layout::CHECKSUM_KIND, "checksum_kind"),
    ];
    for (place, name) in enums {
        fatal(at, &changed(place, 200), Status::BadRequest, name);
    }
    for reserved in [31, 90, 95, layout::RESERVED, FRAME_HEADER_LEN - 1] {
        fatal(at, &changed(reserved, 1), Status::BadRequest, "reserved");
    }
    for bit in 4..8 {
        fatal(at, &changed(layout::FLAGS + 1, 1 << bit), Status::BadRequest, "flags");
    }
    // Lengths beyond the limit, announced only.
    fatal(at, &changed(layout::KEY_LEN + 1, (KEY_LEN_MAX >> 8) as u8 + 1), Status::BadRequest, "key_len");
    let mut long = frame(&put(5, b"x"), Some(&key("k")), b"x");
    for len in [BODY_LEN_MAX as u32 + 1, 1 << 31, u32::MAX] {
        long[layout::BODY_LEN..layout::BODY_LEN + 4].copy_from_slice(&len.to_le_bytes());
        reseal(&mut long);
        fatal(at, &long, Status::BadRequest, "body_len");
    }
    undisturbed(&mut daemon, &client).await;
    assert!(counter(&client, "answers.bad_request").await > 20);
}

#[tokio::test]
async fn a_truncated_frame_ends_with_its_connection() {
    let setup = Setup::new("2+1").two_cores();
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let body = content(2, 300_000);
    let whole = frame(&put(5, &body), Some(&key("truncated")), &body);
    let cuts =
        [1, 4, 100, FRAME_HEADER_LEN, FRAME_HEADER_LEN + 4, FRAME_HEADER_LEN + 9, 100_000, whole.len() - 1];
    for cut in cuts {
        let mut raw = Raw::greeted(daemon.address);
        raw.send_bytes(&whole[..cut]);
        raw.end_sending();
        raw.expect_closed();
        let mut raw = Raw::greeted(daemon.address);
        raw.send_bytes(&whole[..cut]);
    }
    // A whole one, and the end right behind it: it is answered.
    let mut raw = Raw::greeted(daemon.address);
    raw.send_bytes(&frame(&get(6), Some(&key("bystander")), &[]));
    assert!(client.get("truncated").await.unwrap().is_none());
    undisturbed(&mut daemon, &client).await;
}

/// Sends a request that is refused; the connection goes on.
#[track_caller]
fn refused(raw: &mut Raw, header: FrameHeader, named: Option<&Key>, body: &[u8], expected: (Status, &str)) {
    let (op, id) = (header.op, header.request_id);
    raw.send(&header, named, body);
    let answer = raw.expect(op, id, expected.0);
    let detail = answer.detail();
    assert!(!detail.message.is_empty());
    assert_eq!(detail.field, expected.1, "{}", detail.message);
    raw.expect_open();
}

#[tokio::test]
async fn a_request_against_the_rules_is_answered_and_the_connection_goes_on() {
    let setup = Setup::new("2+1").two_cores();
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let named = key("bystander");
    let named = Some(&named);
    let bad = |field| (Status::BadRequest, field);
    refused(&mut raw, get(5), None, &[], bad("key_len"));
    refused(&mut raw, put(5, b"x"), None, b"x", bad("key_len"));
    refused(&mut raw, request(Op::Stats, 5), named, &[], bad("key_len"));
    refused(&mut raw, get(5), named, b"body", bad("body_len"));
    refused(&mut raw, request(Op::Fault, 5), None, &[], bad("body_len"));
    refused(&mut raw, get(0), named, &[], bad("request_id"));
    refused(&mut raw, FrameHeader { deadline_budget_us: 0, ..get(5) }, named, &[], bad("deadline_budget_us"));
    let late = FrameHeader { deadline_budget_us: 60_000_001, ..get(5) };
    refused(&mut raw, late, named, &[], bad("deadline_budget_us"));
    refused(&mut raw, FrameHeader { length: 0, ..get(5) }, named, &[], bad("length"));
    refused(&mut raw, FrameHeader { offset: u64::MAX, length: 2, ..get(5) }, named, &[], bad("length"));
    refused(&mut raw, FrameHeader { ttl_ms: 1, ..get(5) }, named, &[], bad("ttl_ms"));
    refused(&mut raw, FrameHeader { status: Status::Internal, ..get(5) }, named, &[], bad("status"));
    refused(&mut raw, FrameHeader { max_stale_ms: 1, ..get(5) }, named, &[], bad("max_stale_ms"));
    let flag = |header: FrameHeader, flag: u16| FrameHeader { flags: header.flags | flag, ..header };
    refused(&mut raw, flag(get(5), flags::ANSWER), named, &[], bad("flags"));
    refused(&mut raw, flag(get(5), flags::PINNED), named, &[], bad("flags"));
    refused(&mut raw, flag(get(5), flags::STRICT | flags::MAY_BE_STALE), named, &[], bad("flags"));
    refused(&mut raw, FrameHeader { flags: 0, ..get(5) }, named, &[], bad("flags"));
    let both = flag(put(5, b"x"), flags::IF_VERSION | flags::IMMUTABLE);
    refused(&mut raw, both, named, b"x", bad("flags"));
    let version = Version { hlc: 7, coordinator: 0 };
    refused(&mut raw, FrameHeader { version, ..put(5, b"x") }, named, b"x", bad("version"));
    refused(&mut raw, FrameHeader { object_len: 2, ..put(5, b"x") }, named, b"x", bad("object_len"));
    let sum = ObjectChecksum { bits: 1 << 40, ..ObjectChecksum::crc32c(0) };
    refused(
        &mut raw,
        FrameHeader { object_checksum: sum, ..put(5, b"x") },
        named,
        b"x",
        bad("object_checksum"),
    );
    refused(
        &mut raw,
        FrameHeader { credit: 0, ..FrameHeader::request(Op::Credit, 5) },
        None,
        &[],
        bad("credit"),
    );
    let large = FrameHeader { flags: 0, object_len: (64 << 20) + 1, ..request(Op::Put, 5) };
    refused(&mut raw, large, named, &content(1, 1 << 20), (Status::TooLarge, "object_len"));
    let long = content(1, (1 << 20) + 1);
    refused(&mut raw, put(5, &long), named, &long, (Status::TooLarge, "body_len"));
    refused(&mut raw, request(Op::Hello, 5), None, &content(1, 17 << 10), (Status::TooLarge, "body_len"));
    undisturbed(&mut daemon, &client).await;
    let object = client.get("bystander").await.unwrap().unwrap();
    assert_eq!(object.bytes.len(), 100_000, "a request that was refused had an effect");
}

#[tokio::test]
async fn a_range_outside_of_the_object_is_told_its_length() {
    let setup = Setup::new("2+1").two_cores();
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    client.put("large", content(3, 5 << 20)).await.unwrap();
    client.put("empty", "").await.unwrap();
    let mut raw = Raw::greeted(daemon.address);
    let cases = [("bystander", 100_000), ("large", 5 << 20), ("empty", 0)];
    for (name, len) in cases {
        for offset in [len.max(1), len + 1, 1 << 32, 1 << 40, u64::MAX - 1] {
            raw.send(&FrameHeader { offset, length: 1, ..get(5) }, Some(&key(name)), &[]);
            let answer = raw.expect(Op::Get, 5, Status::RangeNotSatisfiable);
            assert_eq!((answer.header.object_len, answer.body.len()), (len, 0), "{name} from {offset}");
        }
        let all = FrameHeader { offset: u64::MAX, length: FrameHeader::TO_END, ..get(5) };
        raw.send(&all, Some(&key(name)), &[]);
        raw.expect(Op::Get, 5, Status::RangeNotSatisfiable);
    }
    raw.send(&FrameHeader { offset: 0, length: 1, ..get(5) }, Some(&key("empty")), &[]);
    assert_eq!(raw.expect(Op::Get, 5, Status::Ok).header.length, 0);
    undisturbed(&mut daemon, &client).await;
}

#[tokio::test]
async fn wrong_checksums_of_key_and_body_are_corrupt_and_have_no_effect() {
    let setup = Setup::new("2+1").two_cores();
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let corrupt = |raw: &mut Raw, bytes: &[u8], op, why: &str| {
        raw.send_bytes(bytes);
        let answer = raw.expect(op, 5, Status::Corrupt);
        let message = answer.detail().message;
        assert!(message.contains(why), "{message}");
        raw.expect_open();
    };
    let mut bytes = frame(&get(5), Some(&key("bystander")), &[]);
    bytes[FRAME_HEADER_LEN] ^= 1;
    corrupt(&mut raw, &bytes, Op::Get, "key");
    for len in [1, 100, 20_000, 200_000, 1 << 20] {
        let body = content(7, len);
        let mut bytes = frame(&put(5, &body), Some(&key("bystander")), &body);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        corrupt(&mut raw, &bytes, Op::Put, "body");
        bytes[last] ^= 1;
        bytes[FRAME_HEADER_LEN + 2] ^= 1;
        corrupt(&mut raw, &bytes, Op::Put, "key");
    }
    // In the middle of a stream: the put is over, whatever else of it is on its way.
    let body = content(8, 1 << 20);
    let first = FrameHeader { flags: 0, object_len: 3 << 20, ..request(Op::Put, 5) };
    raw.send(&first, Some(&key("bystander")), &body);
    let further = |offset, last| FrameHeader {
        flags: if last { flags::END } else { 0 },
        object_len: if last { 3 << 20 } else { 0 },
        offset,
        ..FrameHeader::request(Op::Put, 5)
    };
    let mut bytes = frame(&further(1 << 20, false), None, &body);
    bytes[FRAME_HEADER_LEN + 500_000] ^= 0x80;
    raw.send_bytes(&bytes);
    raw.send(&further(2 << 20, true), None, &body);
    assert_eq!(next_but_credit(&mut raw).header.status, Status::Corrupt);
    raw.expect_open();
    undisturbed(&mut daemon, &client).await;
}

/// The next frame that grants nothing.
#[track_caller]
fn next_but_credit(raw: &mut Raw) -> Frame {
    loop {
        let frame = raw.receive().expect("an answer, but the daemon has closed");
        if frame.header.op != Op::Credit {
            return frame;
        }
    }
}

/// A put of several frames that breaks a rule of streams is over; the connection is not.
#[tokio::test]
async fn streams_against_the_rules_are_refused() {
    let setup = Setup::new("2+1").two_cores();
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let body = content(8, 1 << 20);
    let begin = |raw: &mut Raw, id, object_len| {
        let first = FrameHeader { flags: 0, object_len, ..request(Op::Put, id) };
        raw.send(&first, Some(&key("bystander")), &body);
    };
    let further = |id, offset| FrameHeader { flags: 0, offset, ..FrameHeader::request(Op::Put, id) };
    // A gap, an overlap, more than was announced.
    for (id, offset, len) in [(20, 2 << 20, 1 << 20), (21, 1 << 19, 1 << 20), (22, 1 << 20, 1 << 20)] {
        begin(&mut raw, id, 2 << 20);
        raw.send(&further(id, offset), None, &body[..len]);
        let answer = next_but_credit(&mut raw);
        assert_eq!((answer.header.request_id, answer.header.status), (id, Status::BadRequest));
        raw.expect_open();
    }
    // Beyond the credit: eight stripes at once, without waiting for any grant.
    begin(&mut raw, 23, 60 << 20);
    let mut bytes = Vec::new();
    for stripe in 1..60 {
        bytes.extend(frame(&further(23, stripe << 20), None, &body));
    }
    raw.send_bytes(&bytes);
    let answer = next_but_credit(&mut raw);
    assert_eq!(answer.header.request_id, 23);
    // Some of its stripes may have been written by then.
    assert!(matches!(answer.header.status, Status::BadRequest | Status::Indeterminate));
    assert_eq!(answer.detail().message, "this frame is beyond the stream's credit");
    raw.expect_open();
    // Aborted by the client.
    begin(&mut raw, 24, 2 << 20);
    let abort = FrameHeader { flags: flags::END | flags::ABORT, ..further(24, 1 << 20) };
    raw.send(&abort, None, &[]);
    let answer = next_but_credit(&mut raw);
    assert_eq!((answer.header.request_id, answer.header.status), (24, Status::Cancelled));
    // A further frame of a put that there is not is passed over.
    raw.send(&further(77, 1 << 20), None, &body);
    raw.expect_open();
    undisturbed(&mut daemon, &client).await;
}

#[tokio::test]
async fn a_request_id_that_is_under_way_ends_the_connection() {
    let setup = Setup::new("2+1");
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let first = FrameHeader { flags: 0, object_len: 3 << 20, ..request(Op::Put, 5) };
    raw.send(&first, Some(&key("long")), &content(1, 1 << 20));
    raw.send(&get(5), Some(&key("bystander")), &[]);
    let answer = next_but_credit(&mut raw);
    assert_eq!((answer.header.request_id, answer.header.status), (0, Status::BadRequest));
    assert!(answer.detail().message.contains("under way"), "{:?}", answer.detail());
    raw.expect_closed();
    assert!(client.get("long").await.unwrap().is_none());
    undisturbed(&mut daemon, &client).await;
}

#[tokio::test]
async fn credit_beyond_all_measure_ends_the_connection() {
    let setup = Setup::new("2+1");
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    client.put("large", content(3, 8 << 20)).await.unwrap();
    let mut raw = Raw::greeted(daemon.address);
    raw.send(&get(5), Some(&key("large")), &[]);
    let grant = FrameHeader { credit: u32::MAX, ..FrameHeader::request(Op::Credit, 5) };
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        bytes.extend(frame(&grant, None, &[]));
    }
    // The daemon may be done with the get, or close in the middle of it.
    let _ = raw.try_send_bytes(&bytes);
    while let Some(frame) = raw.receive() {
        if frame.header.request_id == 5 && frame.header.has(flags::END) {
            raw.end_sending();
        }
    }
    undisturbed(&mut daemon, &client).await;
}

#[tokio::test]
async fn nothing_is_served_before_a_hello_that_fits() {
    let setup = Setup::new("2+1");
    let (mut daemon, client) = daemon_and_bystander(&setup).await;
    let mut raw = Raw::connect(daemon.address);
    raw.send(&get(5), Some(&key("bystander")), &[]);
    assert!(raw.expect(Op::Get, 5, Status::BadRequest).detail().message.contains("hello"));
    raw.expect_closed();
    let other = HelloRequest { version_min: 2, version_max: 9, ..HelloRequest::new("test") };
    let mut nonsense = HelloRequest::new("test").encode().unwrap();
    let middle = nonsense.len() / 2;
    nonsense[..middle].fill(0xff);
    for (body, status) in [(other.encode().unwrap(), Status::Unsupported), (nonsense, Status::BadRequest)] {
        let mut raw = Raw::connect(daemon.address);
        raw.send(&request(Op::Hello, 1), None, &body);
        raw.expect(Op::Hello, 1, status);
        // A second one that is right is taken; without it nothing is.
        raw.send(&get(5), Some(&key("bystander")), &[]);
        raw.expect(Op::Get, 5, Status::BadRequest);
        raw.expect_closed();
        let mut raw = Raw::connect(daemon.address);
        raw.send(&request(Op::Hello, 1), None, &body);
        raw.expect(Op::Hello, 1, status);
        raw.hello();
        raw.send(&get(5), Some(&key("bystander")), &[]);
        assert_eq!(crc32c(&raw.expect(Op::Get, 5, Status::Ok).body), crc32c(&content(1, 100_000)));
    }
    undisturbed(&mut daemon, &client).await;
}
