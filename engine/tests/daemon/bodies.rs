//! Bodies that begin and do not end: what they hold is bounded, and given back.

use std::time::Duration;

use hedgerow_client::{Client, Error};
use hedgerow_wire::frame::{FrameHeader, Op, Status};

use crate::content::content;
use crate::harness::{Daemon, Setup, counter, counter_of, eventually};
use crate::raw::{Raw, frame, key, request};

const MIB: u64 = 1 << 20;

async fn nothing_held(client: &Client) {
    eventually("no request is under way and no body held", || async {
        let stats = client.stats().await.unwrap();
        let left = ["request_body_bytes", "requests_under_way"].map(|name| counter_of(&stats, name));
        (left == [0, 1]).then_some(())
    })
    .await;
}

fn grown_mib(daemon: &Daemon, before: u64) -> u64 {
    daemon.resident_bytes().saturating_sub(before) / MIB
}

/// Stripes are announced and one byte of each comes: memory is for what came.
#[tokio::test]
async fn puts_of_which_one_byte_came_hold_little() {
    const CONNECTIONS: usize = 8;
    const PUTS: u64 = 880;
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    let before = daemon.resident_bytes();
    for round in 0..4 {
        let mut held = Vec::new();
        for number in 0..CONNECTIONS {
            let mut raw = Raw::greeted(daemon.address);
            let mut bytes = Vec::new();
            for id in 2..2 + PUTS {
                let first = FrameHeader { flags: 0, object_len: 2 * MIB, ..request(Op::Put, id) };
                bytes.extend(frame(&first, Some(&key(&format!("{number}-{id}"))), b"x"));
            }
            raw.send_bytes(&bytes);
            raw.expect_open();
            held.push(raw);
        }
        let grown = grown_mib(&daemon, before);
        println!("round {round}: {grown} MiB more for {} puts", CONNECTIONS as u64 * PUTS);
        assert!(grown < 192, "round {round}: {grown} MiB");
        drop(held);
        nothing_held(&client).await;
        println!("round {round}: {} MiB more after they are gone", grown_mib(&daemon, before));
    }
    client.put("after", content(2, 100_000)).await.unwrap();
    let peak = daemon.resident_peak_bytes().saturating_sub(before) / MIB;
    assert!(peak < 192, "{peak} MiB at the peak");
}

/// Parts of other members, all but their last byte: past the bound they are refused.
#[tokio::test]
async fn parts_that_do_not_end_are_bounded() {
    const PARTS: usize = 600;
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    let before = daemon.resident_bytes();
    let body = content(2, MIB as usize);
    let bytes = frame(&request(Op::PartWrite, 5), None, &body);
    for round in 0..2 {
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..PARTS {
            let mut raw = Raw::greeted(daemon.address);
            raw.send_bytes(&bytes[..bytes.len() - 1]);
            // What was refused is answered before the next frame.
            held.push(raw);
        }
        eventually("all that came is taken or refused", || async {
            let stats = client.stats().await.unwrap();
            (counter_of(&stats, "request_body_bytes") > 255 * MIB).then_some(())
        })
        .await;
        let grown = grown_mib(&daemon, before);
        println!("round {round}: {grown} MiB more for {PARTS} parts");
        assert!(grown < 400, "round {round}: {grown} MiB");
        // Reads and questions still pass.
        assert_eq!(client.get("bystander").await.unwrap().unwrap().bytes, content(1, 100_000));
        for mut raw in held {
            raw.send_bytes(&bytes[bytes.len() - 1..]);
            let answer = raw.receive().unwrap();
            refused += usize::from(answer.header.status == Status::Overloaded);
        }
        println!("round {round}: {refused} refused");
        assert!(refused > PARTS / 4, "{refused} of {PARTS}");
        nothing_held(&client).await;
        client.put("after", content(2, 100_000)).await.unwrap();
        println!("round {round}: {} MiB more after they are gone", grown_mib(&daemon, before));
    }
}

/// Bodies that fill all of the room, and stop: others that come as they should have it, while those wait.
#[tokio::test]
async fn a_body_that_comes_in_one_go_finds_room_among_many_that_stop() {
    const STOPPED: usize = 300;
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    let body = content(2, MIB as usize);
    let put = FrameHeader { object_len: MIB, ..request(Op::Put, 5) };
    let whole = frame(&put, Some(&key("stopped")), &body);
    let (some, rest) = whole.split_at(whole.len() / 2);
    let mut stopped: Vec<Raw> = (0..STOPPED).map(|_| Raw::greeted(daemon.address)).collect();
    stopped.iter_mut().for_each(|raw| raw.send_bytes(some));
    eventually("the room is full", || async {
        (counter(&client, "request_body_bytes").await > 255 * MIB).then_some(())
    })
    .await;
    for number in 0..20 {
        let key = format!("object {number}");
        eventually("there is room for a put", || async {
            let request = client.request().deadline(Duration::from_secs(2));
            match request.put(&key, content(number, MIB as usize)).await {
                Ok(_) => Some(()),
                Err(Error::Overloaded { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }
    let let_go = counter(&client, "request_bodies_let_go").await;
    // One for each of the stopped ones beyond the room, and for each put.
    let needed = STOPPED as u64 - 256 + 21;
    assert!((1..=needed).contains(&let_go), "{let_go} were let go: no more than were needed");
    // They still have their connections, and those that kept their room are served.
    let mut refused = 0;
    for raw in &mut stopped {
        raw.send_bytes(rest);
        refused += usize::from(raw.receive().unwrap().header.status == Status::Overloaded);
    }
    assert!((let_go as usize..STOPPED / 2).contains(&refused), "{refused} of {STOPPED} were refused");
    nothing_held(&client).await;
}

/// The connection stays in the middle of a frame; what came of it is let go with its put.
#[tokio::test]
async fn a_put_that_is_over_holds_nothing_though_its_frame_is_not() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    let mut raw = Raw::greeted(daemon.address);
    let first = FrameHeader { object_len: MIB, deadline_budget_us: 1_000_000, ..request(Op::Put, 9) };
    let bytes = frame(&first, Some(&key("object")), &content(1, MIB as usize));
    raw.send_bytes(&bytes[..bytes.len() / 2]);
    eventually("half of it is held", || async {
        (counter(&client, "request_body_bytes").await >= MIB / 2).then_some(())
    })
    .await;
    raw.expect(Op::Put, 9, Status::DeadlineExceeded);
    nothing_held(&client).await;
    raw.send_bytes(&bytes[bytes.len() / 2..]);
    raw.expect_open();
    nothing_held(&client).await;
    assert!(client.get("object").await.unwrap().is_none());
}
