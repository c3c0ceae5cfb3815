//! Requests that come in one piece: some answered at once from memory, some by tasks, some not at all.

use std::collections::HashMap;

use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Setup};
use crate::raw::{Raw, frame, get, key, request};

const HELD: u64 = 40;
const LEN: usize = 3000;
const LARGE: usize = 12 << 20;

/// A daemon that holds the objects `0..HELD` in memory, on one core or on two.
async fn start(setup: &Setup) -> Daemon {
    let daemon = setup.start();
    let client = daemon.client().await;
    for number in 0..HELD {
        client.put(format!("{number}"), content(number, LEN)).await.unwrap();
        assert!(client.get(format!("{number}")).await.unwrap().is_some());
    }
    client.put("large", content(99, LARGE)).await.unwrap();
    daemon
}

/// The ids of gets of these objects are their numbers, and 100.
fn gets(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    numbers.flat_map(|number| frame(&get(100 + number), Some(&key(&format!("{number}"))), &[])).collect()
}

#[tokio::test]
async fn gets_that_come_together_are_all_answered_with_their_own_bytes() {
    for setup in [Setup::new("4+2").memory("64M"), Setup::new("4+2").memory("64M").two_cores()] {
        let daemon = start(&setup).await;
        let mut raw = Raw::greeted(daemon.address);
        // Every other one is of an object that there is not.
        let asked: Vec<u64> = (0..HELD).flat_map(|number| [number, 1000 + number]).collect();
        raw.send_bytes(&gets(asked.iter().copied()));
        let mut answers: HashMap<u64, (Status, Vec<u8>)> = HashMap::new();
        for _ in &asked {
            let frame = raw.receive().unwrap();
            let from_memory = frame.header.has(flags::FROM_MEMORY);
            assert_eq!(from_memory, frame.header.status == Status::Ok, "{:?}", frame.header);
            let before = answers.insert(frame.header.request_id - 100, (frame.header.status, frame.body));
            assert!(before.is_none(), "answered twice");
        }
        for number in asked {
            let (status, body) = &answers[&number];
            if number < HELD {
                assert_eq!(*status, Status::Ok);
                assert_same(number, body, &content(number, LEN));
            } else {
                assert_eq!(*status, Status::NotFound, "{number}");
            }
        }
    }
}

/// Its stream waits for credit: its id is under way.
#[tokio::test]
async fn a_get_from_memory_may_not_use_an_id_under_way() {
    let setup = Setup::new("4+2").memory("64M");
    let daemon = start(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    raw.send(&get(107), Some(&key("large")), &[]);
    raw.expect_get();
    raw.send_bytes(&gets([7].into_iter()));
    loop {
        let frame = raw.receive().expect("an error frame");
        if frame.header.op == Op::Hello {
            assert_eq!(frame.header.status, Status::BadRequest);
            break;
        }
        assert_eq!(frame.header.object_len, LARGE as u64, "answered in the middle of the other one");
    }
    raw.expect_closed();
}

#[tokio::test]
async fn what_came_before_a_broken_frame_is_answered_before_it() {
    let setup = Setup::new("4+2").memory("64M");
    let daemon = start(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let mut bytes = gets(0..HELD);
    bytes.extend([0x55; 200]);
    raw.send_bytes(&bytes);
    for number in 0..HELD {
        let answer = raw.expect(Op::Get, 100 + number, Status::Ok);
        assert_same(number, &answer.body, &content(number, LEN));
    }
    raw.expect(Op::Hello, 0, Status::BadRequest);
    raw.expect_closed();
}

/// A cancel, and a refused request, find what came before them answered.
#[tokio::test]
async fn what_follows_gets_in_one_piece_finds_them_answered() {
    let setup = Setup::new("4+2").memory("64M");
    let daemon = start(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let mut bytes = gets([1].into_iter());
    bytes.extend(frame(&FrameHeader::request(Op::Cancel, 101), None, &[]));
    bytes.extend(gets([2].into_iter()));
    bytes.extend(frame(
        &FrameHeader { length: 0, offset: 5, ..request(Op::Stat, 300) },
        Some(&key("1")),
        &[],
    ));
    bytes.extend(gets([3].into_iter()));
    // Not from memory at once, so that the cancel has something to find.
    bytes.extend(frame(&get(400), Some(&key("large")), &[]));
    bytes.extend(frame(&FrameHeader::request(Op::Cancel, 400), None, &[]));
    raw.send_bytes(&bytes);
    raw.expect(Op::Get, 101, Status::Ok);
    raw.expect(Op::Get, 102, Status::Ok);
    raw.expect(Op::Stat, 300, Status::BadRequest);
    raw.expect(Op::Get, 103, Status::Ok);
    raw.expect_open();
}
