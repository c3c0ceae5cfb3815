//! Every driver on real answers, cut at every place.

use super::*;
use crate::pattern::{Check, Pattern};
use crate::request::Kind;
use crate::sources::{get, put};
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};

const LEN: u64 = 5000;

fn object(request: &Request, pattern: &Pattern) -> Vec<u8> {
    let mut bytes = vec![0; request.object_len as usize];
    pattern.fill(request.seed(), 0, &mut bytes);
    bytes
}

/// What is expected of an answer: status, bytes, wrong.
type Expected = (Status, u64, bool);

/// Sends `requests`, hands `answers` over cut in two at every place and byte by byte, and compares.
fn check(
    protocol: Protocol,
    requests: &[Request],
    sent: Option<&[u8]>,
    answers: &[u8],
    expected: &[Expected],
) {
    let pattern = Pattern::default();
    let checker = Checker { pattern: &pattern, check: Check::All };
    let endpoint = Endpoint::new(([127, 0, 0, 1], 80).into(), protocol);
    let run = |cuts: &[usize]| {
        let mut driver = endpoint.driver();
        let (mut out, mut done) = (Vec::new(), Vec::new());
        for request in requests {
            driver.send(Answer::pending(*request, 0, 0), &checker, &mut out);
        }
        if let Some(sent) = sent {
            assert_eq!(out.escape_ascii().to_string(), sent.escape_ascii().to_string());
        }
        assert_eq!(driver.under_way(), requests.len());
        let mut from = 0;
        for &cut in cuts.iter().chain([&answers.len()]) {
            driver.receive(&answers[from..cut], &checker, &mut out, &mut done).unwrap();
            from = cut;
        }
        let found: Vec<Expected> = done.iter().map(|a| (a.status, a.bytes, a.wrong)).collect();
        assert_eq!(found, expected, "cut at {:?}", &cuts[..cuts.len().min(2)]);
        assert_eq!(driver.under_way(), requests.len() - expected.len());
    };
    (0..answers.len()).for_each(|cut| run(&[cut]));
    run(&(0..answers.len()).collect::<Vec<_>>());
}

fn range(object: u64, offset: u64, length: u64) -> Request {
    Request { kind: Kind::Get { offset, length }, ..get(b'm', object, LEN) }
}

fn delete(object: u64) -> Request {
    Request { kind: Kind::Delete, ..get(b'm', object, LEN) }
}

/// A get, a put, a range, a delete, a miss, and a get that is answered with another object.
fn requests() -> Vec<Request> {
    vec![
        get(b'm', 1, LEN),
        put(b'm', 2, 3),
        range(3, 100, 50),
        delete(4),
        get(b'm', 5, LEN),
        get(b'm', 6, LEN),
    ]
}

fn expected() -> Vec<Expected> {
    vec![
        (Status::Ok, LEN, false),
        (Status::Ok, 3, false),
        (Status::Ok, 50, false),
        (Status::Ok, 0, false),
        (Status::NotFound, 0, false),
        (Status::Ok, LEN, true),
    ]
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn memcached() {
    let pattern = Pattern::default();
    let of = |number| object(&get(b'm', number, LEN), &pattern);
    let stored = object(&put(b'm', 2, 3), &pattern);
    let sent = joined(&[
        b"mg m0000000000000001 v\r\nms m0000000000000002 3\r\n".as_slice(),
        &stored,
        b"\r\nmg m0000000000000003 v\r\nmd m0000000000000004\r\nmg m0000000000000005 v\r\n",
        b"mg m0000000000000006 v\r\n",
    ]);
    let answers = joined(&[
        b"VA 5000\r\n".as_slice(),
        &of(1),
        b"\r\nHD\r\nVA 5000 s1\r\n",
        &of(3),
        b"\r\nHD\r\nEN\r\nVA 5000\r\n",
        &of(1),
        b"\r\n",
    ]);
    check(Protocol::Memcached, &requests(), Some(&sent), &answers, &expected());
    let refused = b"SERVER_ERROR out of memory storing object\r\nNS\r\nNF\r\n";
    let requests = [put(b'm', 2, 3), put(b'm', 2, 3), delete(4)];
    let expected = [Status::Internal, Status::Overloaded, Status::NotFound].map(|s| (s, 0, false));
    check(Protocol::Memcached, &requests, None, refused, &expected);
}

#[test]
fn resp() {
    let pattern = Pattern::default();
    let of = |number| object(&get(b'm', number, LEN), &pattern);
    let stored = object(&put(b'm', 2, 3), &pattern);
    let sent = joined(&[
        b"*2\r\n$3\r\nGET\r\n$17\r\nm0000000000000001\r\n*3\r\n$3\r\nSET\r\n$17\r\nm0000000000000002\r\n$3\r\n",
        &stored,
        b"\r\n*4\r\n$8\r\nGETRANGE\r\n$17\r\nm0000000000000003\r\n$3\r\n100\r\n$3\r\n149\r\n",
        b"*2\r\n$3\r\nDEL\r\n$17\r\nm0000000000000004\r\n*2\r\n$3\r\nGET\r\n$17\r\nm0000000000000005\r\n",
        b"*2\r\n$3\r\nGET\r\n$17\r\nm0000000000000006\r\n",
    ]);
    let answers = joined(&[
        b"$5000\r\n".as_slice(),
        &of(1),
        b"\r\n+OK\r\n$50\r\n",
        &of(3)[100..150],
        b"\r\n:1\r\n$-1\r\n$5000\r\n",
        &of(1),
        b"\r\n",
    ]);
    check(Protocol::Resp, &requests(), Some(&sent), &answers, &expected());
    let refused = b"-OOM command not allowed\r\n-ERR what\r\n:0\r\n$0\r\n\r\n";
    let requests = [put(b'm', 2, 3), put(b'm', 2, 3), delete(4), range(3, 1, 2)];
    let statuses = [Status::Overloaded, Status::Internal, Status::NotFound, Status::NotFound];
    check(Protocol::Resp, &requests, None, refused, &statuses.map(|s| (s, 0, false)));
}

#[test]
fn http() {
    let pattern = Pattern::default();
    let of = |number| object(&get(b'm', number, LEN), &pattern);
    let stored = object(&put(b'm', 2, 3), &pattern);
    let line = |method: &str, object: u64, len: u64| {
        format!("{method} /m{object:016x}-{len} HTTP/1.1\r\nHost: 127.0.0.1:80\r\n").into_bytes()
    };
    let sent = joined(&[
        &line("GET", 1, LEN),
        b"\r\n",
        &line("PUT", 2, 3),
        b"Content-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\n",
        &stored,
        &line("GET", 3, LEN),
        b"Range: bytes=100-149\r\n\r\n",
        &line("DELETE", 4, LEN),
        b"\r\n",
        &line("GET", 5, LEN),
        b"\r\n",
        &line("GET", 6, LEN),
        b"\r\n",
    ]);
    let answers = joined(&[
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nX-Cache-Status: HIT\r\n\r\n".as_slice(),
        &of(1),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 50\r\n\r\n",
        &of(3)[100..150],
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        &of(1),
    ]);
    check(Protocol::Http, &requests(), Some(&sent), &answers, &expected());
}

#[test]
fn hedgerow() {
    let pattern = Pattern::default();
    let of = |number| object(&get(b'm', number, LEN), &pattern);
    let mut answers = Vec::new();
    let mut answer = |op, id, status, offset: u64, body: &[u8]| {
        let mut header = FrameHeader::answer(op, id, status);
        header.flags |= flags::END;
        if op == Op::Get && status == Status::Ok {
            (header.object_len, header.offset, header.length) = (LEN, offset, body.len() as u64);
        }
        hedgerow_wire::encoder::write_frame(header, None, body, &mut answers);
    };
    // In another order than that of the requests.
    answer(Op::Put, 2, Status::Ok, 0, b"");
    answer(Op::Get, 1, Status::Ok, 0, &of(1));
    answer(Op::Get, 3, Status::Ok, 100, &of(3)[100..150]);
    answer(Op::Delete, 4, Status::Ok, 0, b"");
    answer(Op::Get, 5, Status::NotFound, 0, b"");
    answer(Op::Get, 6, Status::Ok, 0, &of(1));
    let mut expected = expected();
    expected.swap(0, 1);
    check(Protocol::Hedgerow, &requests(), None, &answers, &expected);
}

#[test]
fn what_is_no_answer_is_refused() {
    let pattern = Pattern::default();
    let checker = Checker { pattern: &pattern, check: Check::Stamps };
    let long = [b'x'; 20_000];
    for (protocol, asked, bytes) in [
        (Protocol::Memcached, true, b"WHAT\r\n".as_slice()),
        (Protocol::Memcached, true, b"VA x\r\n"),
        (Protocol::Memcached, false, b"HD\r\n"),
        (Protocol::Memcached, true, &long),
        (Protocol::Resp, true, b"$x\r\n"),
        (Protocol::Resp, true, b"\r\n"),
        (Protocol::Resp, true, b"*1\r\n"),
        (Protocol::Resp, false, b"+OK\r\n"),
        (Protocol::Http, true, b"HTTP/1.0 200 OK\r\n"),
        (Protocol::Http, true, b"HTTP/1.1 abc\r\n"),
        (Protocol::Http, true, b"HTTP/1.1 200 OK\r\n\r\n"),
        (Protocol::Http, true, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Protocol::Http, true, b"HTTP/1.1 200 OK\r\nnothing\r\n"),
        (Protocol::Hedgerow, true, &long),
    ] {
        let mut driver = Endpoint::new(([127, 0, 0, 1], 80).into(), protocol).driver();
        let (mut out, mut done) = (Vec::new(), Vec::new());
        if asked {
            driver.send(Answer::pending(get(b'm', 1, LEN), 0, 0), &checker, &mut out);
        }
        let result = driver.receive(bytes, &checker, &mut out, &mut done);
        assert!(result.is_err(), "{protocol:?}: {}", bytes[..bytes.len().min(60)].escape_ascii());
    }
}
