//! Answers come by the deadline when no device answers at all; cancelled and abandoned requests leave
//! nothing behind.

use std::time::Duration;

use hedgerow_client::{Body, Client};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Setup, counter, eventually, inject, stall};
use crate::raw::{Raw, get, key, put, request};

const LONG: Duration = Duration::from_secs(300);
const BUDGET_US: u32 = 300_000;

async fn stall_all(client: &Client, shards: u16) {
    for shard in 0..shards {
        inject(client, shard, stall(LONG), LONG).await;
    }
}

/// A daemon with objects of one and of several stripes, all of whose devices stall.
async fn stalled(setup: &Setup) -> (Daemon, Client) {
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("small", content(1, 1000)).await.unwrap();
    client.put("large", content(2, 3 << 20)).await.unwrap();
    // Read once more from the devices, not from slabs that are still open.
    drop(client);
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    stall_all(&client, setup.shards as u16).await;
    (daemon, client)
}

/// No request is under way any more.
async fn quiet(client: &Client) {
    eventually("no request is under way", || async {
        // The one that asks is.
        (counter(client, "requests_under_way").await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_request_is_answered_though_no_device_answers() {
    let setup = Setup::new("4+2").two_cores();
    let (daemon, client) = stalled(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    let short = |header: FrameHeader| FrameHeader { deadline_budget_us: BUDGET_US, ..header };
    raw.send(&short(get(10)), Some(&key("small")), &[]);
    raw.send(&short(get(11)), Some(&key("large")), &[]);
    raw.send(&short(request(Op::Stat, 12)), Some(&key("small")), &[]);
    raw.send(&short(put(13, b"new")), Some(&key("small")), b"new");
    raw.send(&short(request(Op::Delete, 14)), Some(&key("large")), &[]);
    let range = FrameHeader { offset: 1 << 20, length: 5, ..short(get(15)) };
    raw.send(&range, Some(&key("large")), &[]);
    let condition = FrameHeader { flags: flags::END | flags::IF_VERSION, ..short(put(16, b"x")) };
    raw.send(&condition, Some(&key("other")), b"x");
    let mut answered = Vec::new();
    for _ in 10..=16 {
        let frame = raw.receive().unwrap();
        let (id, status) = (frame.header.request_id, frame.header.status);
        assert!(frame.header.has(flags::END), "{id}");
        let right = match id {
            13 | 14 => matches!(status, Status::Indeterminate | Status::DeadlineExceeded),
            16 => matches!(status, Status::Indeterminate | Status::DeadlineExceeded | Status::NotFound),
            // Nobody said that there is no such object.
            _ => matches!(status, Status::DeadlineExceeded | Status::Unavailable),
        };
        assert!(right, "request {id}: {status:?}");
        answered.push(id);
    }
    answered.sort_unstable();
    assert_eq!(answered, (10..=16).collect::<Vec<_>>());
    raw.expect_open();
    quiet(&client).await;
    // What was not acknowledged is the old object, the new one or none.
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    if let Some(object) = client.get("small").await.unwrap() {
        assert!(object.bytes == "new" || object.bytes == content(1, 1000));
    }
    if let Some(object) = client.get("large").await.unwrap() {
        assert_same("large", &object.bytes, &content(2, 3 << 20));
    }
}

#[tokio::test]
async fn a_body_under_way_is_ended_by_an_abort_at_the_deadline() {
    let setup = Setup::new("2+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("large", content(2, 8 << 20)).await.unwrap();
    let mut raw = Raw::greeted(daemon.address);
    // No credit is ever granted: after the initial 4 MiB the stream waits.
    raw.send(&FrameHeader { deadline_budget_us: 1_500_000, ..get(10) }, Some(&key("large")), &[]);
    let mut bytes = Vec::new();
    let last = loop {
        let frame = raw.receive().unwrap();
        assert_eq!(frame.header.request_id, 10);
        if frame.header.has(flags::END) {
            break frame;
        }
        assert_eq!(frame.header.offset, bytes.len() as u64);
        bytes.extend_from_slice(&frame.body);
    };
    assert_same("what came", &bytes, &content(2, 8 << 20)[..4 << 20]);
    assert!(last.header.has(flags::ABORT), "{:?}", last.header);
    assert_eq!(last.header.status, Status::DeadlineExceeded);
    assert!(last.body.is_empty());
    raw.expect_open();
    quiet(&client).await;
}

#[tokio::test]
async fn what_is_waited_for_in_vain_is_answered() {
    let daemon = Setup::new("4+2").start();
    let mut holds = Raw::greeted(daemon.address);
    // Under a condition, and in the middle of its body: others of its key wait.
    let begun = FrameHeader { flags: flags::IF_VERSION, object_len: 4 << 20, ..request(Op::Put, 10) };
    holds.send(&begun, Some(&key("held")), &content(1, 1 << 20));
    for stripe in 1..3 {
        let next = FrameHeader { flags: 0, offset: stripe << 20, ..FrameHeader::request(Op::Put, 10) };
        holds.send(&next, None, &content(1, 1 << 20));
    }
    assert_eq!(holds.receive().unwrap().header.op, Op::Credit, "its first stripe is written");
    let short = |header: FrameHeader| FrameHeader { deadline_budget_us: BUDGET_US, ..header };
    let mut raw = Raw::greeted(daemon.address);
    raw.send(&short(put(11, b"x")), Some(&key("held")), b"x");
    raw.send(&short(request(Op::Delete, 12)), Some(&key("held")), &[]);
    // The rest of its body never comes.
    let half = FrameHeader { flags: 0, object_len: 3 << 20, ..short(request(Op::Put, 13)) };
    raw.send(&half, Some(&key("half")), &content(2, 1 << 20));
    for _ in 11..=13 {
        let frame = raw.receive().unwrap();
        assert!((11..=13).contains(&frame.header.request_id) && frame.header.has(flags::END));
        assert_eq!(frame.header.status, Status::DeadlineExceeded, "{:?}", frame.header);
    }
    raw.expect_open();
}

#[tokio::test]
async fn a_cancelled_request_is_not_answered_and_leaves_nothing() {
    let setup = Setup::new("4+2").two_cores();
    let (daemon, client) = stalled(&setup).await;
    let mut raw = Raw::greeted(daemon.address);
    for id in 10..20 {
        let name = if id % 2 == 0 { "small" } else { "large" };
        raw.send(&get(id), Some(&key(name)), &[]);
    }
    raw.send(&put(20, b"new"), Some(&key("put")), b"new");
    raw.send(&request(Op::Stat, 21), Some(&key("small")), &[]);
    eventually("they are under way", || async {
        (counter(&client, "requests_under_way").await == 13).then_some(())
    })
    .await;
    for id in 10..=21 {
        raw.send(&FrameHeader::request(Op::Cancel, id), None, &[]);
    }
    // One of a request that there never was.
    raw.send(&FrameHeader::request(Op::Cancel, 99), None, &[]);
    raw.expect_open();
    eventually("reads are over", || async {
        // The put may go on until its deadline: its outcome is nobody's.
        (counter(&client, "requests_under_way").await <= 2).then_some(())
    })
    .await;
    raw.expect_open();
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_under_way() {
    let setup = Setup::new("4+2").two_cores();
    let (daemon, client) = stalled(&setup).await;
    let connections = counter(&client, "connections").await;
    for round in 0..20 {
        let mut raw = Raw::greeted(daemon.address);
        raw.send(&get(10), Some(&key("small")), &[]);
        raw.send(&get(11), Some(&key("large")), &[]);
        // In the middle of a put of 3 MiB.
        let first = FrameHeader { flags: 0, object_len: 3 << 20, ..request(Op::Put, 12) };
        raw.send(&first, Some(&key("half")), &content(round, 1 << 20));
        if round % 2 == 0 {
            let bytes = crate::raw::frame(&put(13, &content(round, 50_000)), Some(&key("cut")), &[]);
            raw.send_bytes(&bytes);
        }
    }
    quiet(&client).await;
    eventually("their connections and bodies are gone", || async {
        let stats = client.stats().await.unwrap();
        let left = ["request_body_bytes", "connections"].map(|name| crate::harness::counter_of(&stats, name));
        (left == [0, connections]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_a_put_stores_nothing() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", "old").await.unwrap();
    for round in 0..10u64 {
        let mut raw = Raw::greeted(daemon.address);
        let first = FrameHeader { flags: 0, object_len: 3 << 20, ..request(Op::Put, 12) };
        let body = content(round, 1 << 20);
        raw.send(&first, Some(&key("object")), &body);
        let further = FrameHeader { flags: 0, offset: 1 << 20, ..FrameHeader::request(Op::Put, 12) };
        raw.send(&further, None, &body);
        assert_eq!(crc32c(&body), crc32c(&content(round, 1 << 20)));
    }
    eventually("they are over", || async {
        (counter(&client, "request_body_bytes").await == 0).then_some(())
    })
    .await;
    assert_eq!(client.get("object").await.unwrap().unwrap().bytes, "old");
}

#[tokio::test]
async fn a_client_that_drops_its_futures_can_go_on() {
    let setup = Setup::new("4+2");
    let (_daemon, client) = stalled(&setup).await;
    let late = Duration::from_millis(50);
    for _ in 0..20 {
        assert!(tokio::time::timeout(late, client.get("small")).await.is_err());
    }
    let endless = tokio::io::repeat(7);
    let put = client.put_stream("endless", Body::reader(endless).with_len(60 << 20));
    assert!(tokio::time::timeout(late, put).await.is_err());
    client.ping().await.unwrap();
    eventually("all are cancelled", || async {
        (counter(&client, "requests_under_way").await <= 2).then_some(())
    })
    .await;
}
