//! Puts of several stripes that do not come to their end, and readers that come in between: what is
//! answered is what was done.

use hedgerow_client::{Client, Error, Version};
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Setup, eventually};
use crate::raw::{Raw, frame, key, request};

const MIB: usize = 1 << 20;
const OLD: usize = 3 * MIB;
const NEW: usize = 4 * MIB;

/// A put of [`NEW`] bytes that is under way.
struct HalfPut {
    raw: Raw,
    bytes: Vec<u8>,
    sent: usize,
}

impl HalfPut {
    const ID: u64 = 20;

    /// Sends the first frame, and those of `stripes` stripes in all; returns when all that can be written
    /// of them is: the first stripe is held back until there is a second one.
    fn begin(daemon: &Daemon, first: FrameHeader, stripes: usize) -> HalfPut {
        let mut half = HalfPut { raw: Raw::greeted(daemon.address), bytes: content(9, NEW), sent: MIB };
        let first = FrameHeader { object_len: NEW as u64, flags: first.flags & !flags::END, ..first };
        half.raw.send(&first, Some(&key("object")), &half.bytes[..MIB]);
        (1..stripes).for_each(|_| half.send_stripe());
        if stripes > 1 {
            (0..stripes).for_each(|_| drop(half.raw.expect(Op::Credit, Self::ID, Status::Ok)));
        }
        half
    }

    fn further(&self) -> FrameHeader {
        FrameHeader { flags: 0, offset: self.sent as u64, ..FrameHeader::request(Op::Put, Self::ID) }
    }

    fn send_stripe(&mut self) {
        let end = self.sent + MIB;
        let header = match end == NEW {
            true => FrameHeader { flags: flags::END, object_len: NEW as u64, ..self.further() },
            false => self.further(),
        };
        self.raw.send(&header, None, &self.bytes[self.sent..end]);
        self.sent = end;
    }

    fn answer(&mut self) -> FrameHeader {
        loop {
            let frame = self.raw.receive().unwrap();
            if frame.header.op == Op::Put {
                return frame.header;
            }
        }
    }
}

/// How a put ends that does not come to its end.
#[derive(Clone, Copy, Debug)]
enum Break {
    Deadline,
    Abort,
    Damage,
    Gap,
}

impl Break {
    /// What is answered if nothing was written.
    fn status(self) -> Status {
        match self {
            Break::Deadline => Status::DeadlineExceeded,
            Break::Abort => Status::Cancelled,
            Break::Damage => Status::Corrupt,
            Break::Gap => Status::BadRequest,
        }
    }

    fn run(self, half: &mut HalfPut) {
        match self {
            Break::Deadline => {}
            Break::Abort => {
                let abort = FrameHeader { flags: flags::END | flags::ABORT, ..half.further() };
                half.raw.send(&abort, None, &[]);
            }
            Break::Damage => {
                let mut bytes = frame(&half.further(), None, b"damaged");
                *bytes.last_mut().unwrap() ^= 1;
                half.raw.send_bytes(&bytes);
            }
            Break::Gap => {
                let gap = FrameHeader { offset: half.sent as u64 + 1, ..half.further() };
                half.raw.send(&gap, None, b"beyond a gap");
            }
        }
    }
}

/// What the object is by now: its old content, or nothing.
async fn old_is_there(client: &Client) -> bool {
    match client.get("object").await {
        Ok(Some(object)) => {
            assert_same("what is left", &object.bytes, &content(1, OLD));
            true
        }
        Ok(None) | Err(Error::Unavailable) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_put_that_ends_early_says_whether_anything_was_written() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    for how in [Break::Deadline, Break::Abort, Break::Damage, Break::Gap] {
        for stripes in [1, 2] {
            let version = client.put("object", content(1, OLD)).await.unwrap().version;
            let mut first = request(Op::Put, HalfPut::ID);
            if let Break::Deadline = how {
                first.deadline_budget_us = 3_000_000;
            }
            let mut half = HalfPut::begin(&daemon, first, stripes);
            how.run(&mut half);
            let status = half.answer().status;
            half.raw.expect_open();
            if stripes == 1 {
                assert_eq!(status, how.status(), "{how:?}");
                let object = client.get("object").await.unwrap().unwrap();
                assert_eq!(object.version, version, "{how:?}: nothing was done");
            } else {
                assert_eq!(status, Status::Indeterminate, "{how:?}");
                assert!(!old_is_there(&client).await, "{how:?}: two of its three stripes are gone");
            }
        }
    }
}

/// Its client has more to send, and waits for the credit that stripes bring when they are written.
#[tokio::test]
async fn a_put_whose_stripe_fails_is_answered_at_once() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    let first = FrameHeader { deadline_budget_us: 60_000_000, ..request(Op::Put, HalfPut::ID) };
    let mut half = HalfPut::begin(&daemon, first, 2);
    let newer = client.put("object", content(1, OLD)).await.unwrap().version;
    half.send_stripe();
    let answer = half.answer();
    assert_eq!((answer.status, answer.version), (Status::Superseded, newer));
    assert_same("the newer object", &client.get("object").await.unwrap().unwrap().bytes, &content(1, OLD));
}

/// What is left of an object whose overwriting broke off does not stand in the way of a new one.
#[tokio::test]
async fn an_object_whose_overwriting_broke_off_can_be_written_anew() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", content(1, OLD)).await.unwrap();
    let mut half = HalfPut::begin(&daemon, request(Op::Put, HalfPut::ID), 2);
    Break::Abort.run(&mut half);
    assert_eq!(half.answer().status, Status::Indeterminate);
    eventually("it is gone for good", || async {
        assert!(!old_is_there(&client).await);
        client.request().if_absent().put("object", content(2, OLD)).await.ok()
    })
    .await;
    assert_same("anew", &client.get("object").await.unwrap().unwrap().bytes, &content(2, OLD));
}

#[tokio::test]
async fn readers_do_not_disturb_a_put_of_several_stripes() {
    for memory in ["0", "64M"] {
        let setup = Setup::new("4+2").memory(memory).two_cores();
        let daemon = setup.start();
        let client = daemon.client().await;
        for condition in [0, flags::IF_VERSION] {
            let version = client.put("object", content(1, OLD)).await.unwrap().version;
            let first = FrameHeader {
                flags: condition,
                version: if condition == 0 { Version::ZERO } else { version },
                ..request(Op::Put, HalfPut::ID)
            };
            let mut half = HalfPut::begin(&daemon, first, 3);
            for _ in 0..3 {
                assert!(!old_is_there(&client).await, "its stripes are gone already");
                assert!(client.request().stat("object").await.is_ok());
            }
            half.send_stripe();
            let answer = half.answer();
            assert_eq!(answer.status, Status::Ok, "condition {condition}");
            let object = client.get("object").await.unwrap().unwrap();
            assert_eq!(object.version, answer.version);
            assert_same("the new object", &object.bytes, &content(9, NEW));
        }
    }
}

/// A put that was refused in its first frame, and what follows it, is answered once.
#[tokio::test]
async fn what_follows_an_answered_put_is_passed_over() {
    let setup = Setup::new("2+1");
    let daemon = setup.start();
    let mut half = HalfPut::begin(&daemon, request(Op::Put, HalfPut::ID), 1);
    Break::Gap.run(&mut half);
    assert_eq!(half.answer().status, Status::BadRequest);
    for how in [Break::Gap, Break::Damage, Break::Abort] {
        how.run(&mut half);
    }
    half.send_stripe();
    let wrong = FrameHeader { ttl_ms: 1, ..half.further() };
    half.raw.send(&wrong, None, b"a field that it must not have");
    half.raw.expect_open();
    let stat = FrameHeader { deadline_budget_us: 5_000_000, ..request(Op::Stat, 30) };
    half.raw.send(&stat, Some(&key("object")), &[]);
    half.raw.expect(Op::Stat, 30, Status::NotFound);
}
