//! What the verbs mean: versions, deletes, expiry, namespaces, levels, streams that break off.

use std::time::Duration;

use bytes::Bytes;
use hedgerow_client::messages::FaultKind;
use hedgerow_client::{AckLevel, Body, Client, Error, Namespace, Priority, ReadPolicy};
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::part::PartKind;

use crate::content::{assert_same, content};
use crate::harness::{Setup, counter, eventually, inject, stall};
use crate::raw::{Raw, get, key};

const MIB: usize = 1 << 20;

async fn text(client: &Client, key: &str) -> Option<Bytes> {
    client.get(key).await.unwrap().map(|object| object.bytes)
}

/// The whole life of a key, with objects of one and of several stripes in turn.
async fn overwrite_delete_and_put_again(setup: Setup) {
    let daemon = setup.start();
    let client = daemon.client().await;
    let mut last = hedgerow_client::Version::ZERO;
    let lengths = [10, 3 * MIB, 0, 100_000, 2 * MIB + 1, 2 * MIB, 5, 5];
    for (round, len) in lengths.into_iter().enumerate() {
        let bytes = content(round as u64, len);
        let version = client.put("key", bytes.clone()).await.unwrap().version;
        assert!(version > last, "versions grow");
        let object = client.get("key").await.unwrap().unwrap();
        assert_same(format!("round {round}"), &object.bytes, &bytes);
        assert_eq!(object.version, version);
        let stat = client.stat("key").await.unwrap().unwrap();
        assert_eq!((stat.version, stat.object_len), (version, len as u64));
        assert_eq!(stat.kind == PartKind::Head, len > MIB, "{stat:?}");
        last = version;
        if round % 2 == 1 {
            let deleted = client.delete("key").await.unwrap();
            assert!(deleted > last);
            assert!(text(&client, "key").await.is_none(), "round {round}");
            assert!(client.stat("key").await.unwrap().is_none_or(|stat| stat.kind == PartKind::Tombstone));
            last = deleted;
        }
    }
    // A delete of nothing is one all the same.
    assert!(client.delete("never").await.unwrap() > hedgerow_client::Version::ZERO);
    assert!(text(&client, "never").await.is_none());
    client.put("key", "last").await.unwrap();
    client.put("gone", "x").await.unwrap();
    client.delete("gone").await.unwrap();
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    assert_eq!(text(&client, "key").await.unwrap(), "last");
    assert!(text(&client, "gone").await.is_none(), "a delete survives a kill");
    let version = client.put("key", "after").await.unwrap().version;
    assert!(version > last, "versions go on growing after a restart");
}

#[tokio::test]
async fn overwrite_delete_and_put_again_from_devices() {
    overwrite_delete_and_put_again(Setup::new("4+2")).await;
}

#[tokio::test]
async fn overwrite_delete_and_put_again_with_memory() {
    overwrite_delete_and_put_again(Setup::new("4+2").memory("64M").two_cores()).await;
}

#[tokio::test]
async fn objects_expire_everywhere() {
    let setup = Setup::new("4+2").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    let short = client.request().ttl(Duration::from_millis(1500));
    short.put("small", "small").await.unwrap();
    short.put("large", content(1, 2 * MIB + 7)).await.unwrap();
    client.request().ttl(Duration::from_secs(3600)).put("long", "long").await.unwrap();
    client.put("for ever", "for ever").await.unwrap();
    // On a slow machine they may have expired already; then they are gone, and nothing else.
    if let Some(object) = client.get("small").await.unwrap() {
        assert!(object.ttl.unwrap() <= Duration::from_millis(1500));
    }
    let long = client.get("long").await.unwrap().unwrap().ttl.unwrap();
    assert!(long > Duration::from_secs(3000) && long <= Duration::from_secs(3600), "{long:?}");
    assert!(client.get("for ever").await.unwrap().unwrap().ttl.is_none());
    for key in ["small", "large"] {
        eventually(format!("{key} expires"), || async {
            client.get(key).await.unwrap().is_none().then_some(())
        })
        .await;
        assert!(client.get_range(key, 0..1).await.unwrap().is_none());
        assert!(client.get_stream(key).await.unwrap().is_none());
        // What has expired is not there for a condition either.
        client.request().if_absent().put(key, "again").await.unwrap();
        assert_eq!(text(&client, key).await.unwrap(), "again");
    }
    short.put("small", "small").await.unwrap();
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    eventually("it expires after a restart", || async {
        text(&client, "small").await.is_none().then_some(())
    })
    .await;
    assert_eq!(text(&client, "long").await.unwrap(), "long");
}

#[tokio::test]
async fn namespaces_are_apart_and_keys_are_bytes() {
    let setup = Setup::new("2+1").memory("16M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    let spaces = [0, 1, 2, u32::MAX];
    for space in spaces {
        client.request().namespace(Namespace(space)).put("key", format!("{space}")).await.unwrap();
    }
    client.request().namespace(Namespace(1)).delete("key").await.unwrap();
    for space in spaces {
        let object = client.request().namespace(Namespace(space)).get("key").await.unwrap();
        let expected = (space != 1).then(|| format!("{space}"));
        assert_eq!(object.map(|object| object.bytes), expected.map(Bytes::from));
    }
    let keys = [vec![0], vec![0, 0], vec![0xff; 1024], (0..=255).collect(), b"a/b\n".to_vec(), vec![7; 1023]];
    for key in &keys {
        client.put(key, key.clone()).await.unwrap();
    }
    for key in &keys {
        assert_eq!(client.get(key).await.unwrap().unwrap().bytes, *key);
        assert_eq!(client.stat(key).await.unwrap().unwrap().key.as_bytes(), key);
    }
    assert!(matches!(client.put("", "x").await, Err(Error::InvalidKey(_))));
    assert!(matches!(client.get(vec![1; 1025]).await, Err(Error::InvalidKey(_))));
}

#[tokio::test]
async fn every_level_priority_and_policy_reads_what_was_written() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    for (number, ack) in [AckLevel::Written, AckLevel::Synced, AckLevel::Buffered].into_iter().enumerate() {
        for len in [0, 3000, 200_000, 3 * MIB] {
            let key = format!("{ack:?}-{len}");
            let bytes = content(number as u64, len);
            client.request().ack(ack).put(&key, bytes.clone()).await.unwrap();
            for policy in [ReadPolicy::Default, ReadPolicy::Hedged, ReadPolicy::All] {
                for priority in [Priority::Normal, Priority::High, Priority::Low] {
                    let read = client.request().read_policy(policy).priority(priority).trace_id(7);
                    let object = read.get(&key).await.unwrap().unwrap();
                    assert_same(format!("{key} {policy:?} {priority:?}"), &object.bytes, &bytes);
                }
            }
        }
    }
    assert!(counter(&client, "store_flushes").await > 0, "nothing was flushed for `synced`");
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    for (number, ack) in [AckLevel::Written, AckLevel::Synced].into_iter().enumerate() {
        for len in [0, 3000, 200_000, 3 * MIB] {
            let object = client.get(format!("{ack:?}-{len}")).await.unwrap().unwrap();
            assert_same(format!("{ack:?}-{len}"), &object.bytes, &content(number as u64, len));
        }
    }
}

#[tokio::test]
async fn a_level_that_is_said_holds_whatever_the_daemon_does_by_default() {
    let setup = Setup::new("2+1").flag("--ack=buffered");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("before", "x").await.unwrap();
    // Nothing is completed by a device any more.
    for shard in 0..3 {
        inject(&client, shard, stall(Duration::from_secs(300)), Duration::from_secs(300)).await;
    }
    client.put("default", "x").await.unwrap();
    client.request().ack(AckLevel::Buffered).put("buffered", "x").await.unwrap();
    let short = client.request().deadline(Duration::from_millis(500));
    for ack in [AckLevel::Written, AckLevel::Synced] {
        let put = short.clone().ack(ack).put(format!("{ack:?}"), "x").await;
        assert!(matches!(put, Err(Error::Indeterminate { .. })), "{ack:?}: {put:?}");
        let deleted = short.clone().ack(ack).delete("before").await;
        assert!(matches!(deleted, Err(Error::Indeterminate { .. })), "{ack:?}: {deleted:?}");
    }
}

#[tokio::test]
async fn the_policy_all_asks_every_target() {
    let setup = Setup::new("4+2").flag("--read-policy=all");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("key", content(1, 300_000)).await.unwrap();
    let before = counter(&client, "coordinator_part_reads").await;
    for _ in 0..10 {
        assert_same("all", &client.get("key").await.unwrap().unwrap().bytes, &content(1, 300_000));
    }
    let asked = counter(&client, "coordinator_part_reads").await - before;
    assert!(asked >= 60, "10 reads of 6 parts asked for {asked}");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_old_object_or_none() {
    let setup = Setup::new("4+2").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("old", "old").await.unwrap();
    for key in ["old", "new"] {
        for len in [1000, MIB, 3 * MIB, 9 * MIB] {
            let breaks_off = Body::reader(Broken { left: len }).with_len(20 << 20);
            let failed = client.put_stream(key, breaks_off).await;
            assert!(matches!(failed, Err(Error::Body(_))), "{failed:?}");
            let unknown = client.put_stream(key, Body::reader(Broken { left: len })).await;
            assert!(matches!(unknown, Err(Error::Body(_))), "{unknown:?}");
        }
    }
    assert_eq!(text(&client, "old").await.unwrap(), "old");
    assert!(text(&client, "new").await.is_none());
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    assert_eq!(text(&client, "old").await.unwrap(), "old");
    assert!(text(&client, "new").await.is_none());
}

/// A reader that fails after so many bytes.
struct Broken {
    left: usize,
}

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.left == 0 {
            return std::task::Poll::Ready(Err(std::io::Error::other("it broke off")));
        }
        let count = self.left.min(buffer.remaining());
        buffer.put_slice(&vec![7; count]);
        self.left -= count;
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_read_that_is_under_way_during_an_overwrite_gives_one_version() {
    let setup = Setup::new("4+2").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    let of = |round: u64| vec![round as u8; 12 * MIB];
    client.put("key", of(0)).await.unwrap();
    for round in 1..8 {
        let mut stream = client.get_stream("key").await.unwrap().unwrap();
        let mut got = stream.next().await.unwrap().unwrap().to_vec();
        client.put("key", of(round)).await.unwrap();
        // The old stripes may be gone by now; then the stream ends with an error, and is not a mix.
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => got.extend_from_slice(&piece),
                Err(Error::Unavailable) => break,
                Err(error) => panic!("round {round}: {error:?}"),
            }
        }
        assert!(got.iter().all(|&byte| u64::from(byte) == round - 1), "round {round}: a mix");
        assert_same(round, &text(&client, "key").await.unwrap(), &of(round));
    }
}

#[tokio::test]
async fn small_requests_pass_large_ones() {
    let setup = Setup::new("2+1").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("small", "small").await.unwrap();
    client.put("large", content(1, 48 << 20)).await.unwrap();
    // A stream that nobody reads on holds up nothing on its connection.
    let mut stream = client.get_stream("large").await.unwrap().unwrap();
    for _ in 0..200 {
        assert_eq!(text(&client, "small").await.unwrap(), "small");
    }
    let mut got = Vec::new();
    while let Some(piece) = stream.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert_same("large", &got, &content(1, 48 << 20));
    // Nor does a put that waits for its devices.
    for shard in 0..3 {
        inject(&client, shard, stall(Duration::from_millis(700)), Duration::from_secs(1)).await;
    }
    let (put, read) = tokio::join!(client.put("slow", content(2, 6 << 20)), async {
        client.ping().await.unwrap();
        text(&client, "small").await
    });
    put.unwrap();
    assert_eq!(read.unwrap(), "small");
    inject(&client, 0, FaultKind::Delay { delay_us: 1000 }, Duration::from_millis(1)).await;
    assert_same("slow", &text(&client, "slow").await.unwrap(), &content(2, 6 << 20));
}

/// Its stream waits for credit while its time comes: what has come of it is to be forgotten.
#[tokio::test]
async fn an_object_that_expires_while_it_is_read_is_not_there() {
    const LARGE: usize = 8 << 20;
    for memory in ["0", "64M"] {
        let setup = Setup::new("4+2").memory(memory);
        let daemon = setup.start();
        let client = daemon.client().await;
        let mut raw = Raw::greeted(daemon.address);
        let mut ttl = Duration::from_millis(1000);
        // On a slow machine it may have expired before its first byte: then it is given more time.
        let mut came = loop {
            client.request().ttl(ttl).put("large", content(1, LARGE)).await.unwrap();
            raw.send(&get(7), Some(&key("large")), &[]);
            let first = raw.receive().unwrap();
            if first.header.status == Status::Ok {
                break first.body.len();
            }
            assert_eq!((first.header.status, first.header.has(flags::ABORT)), (Status::NotFound, false));
            ttl *= 4;
        };
        while came < hedgerow_wire::limits::STREAM_CREDIT_INITIAL_BYTES as usize {
            came += raw.expect_get().body.len();
        }
        eventually("it expires", || async { client.get("large").await.unwrap().is_none().then_some(()) })
            .await;
        raw.send(&FrameHeader { credit: 8 << 20, ..FrameHeader::request(Op::Credit, 7) }, None, &[]);
        let end = raw.expect(Op::Get, 7, Status::NotFound);
        assert!(end.header.has(flags::ABORT) && end.header.has(flags::END));
        raw.expect_open();
    }
}
