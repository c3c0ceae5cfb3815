//! Large objects, both ways.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use hedgerow_client::messages::Limits;
use hedgerow_client::{Body, Error, Namespace, ObjectChecksum};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{Status, flags};
use hedgerow_wire::limits::{OBJECT_LEN_MAX, STRIPE_LEN_MAX};
use tokio::sync::mpsc;

use crate::peer::{Act, Config, Event, Peer, STRIPE};
use crate::{assert_error, builder, client, data};

/// A stream of what a channel gives.
struct Channel(mpsc::UnboundedReceiver<io::Result<Bytes>>);

impl Stream for Channel {
    type Item = io::Result<Bytes>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

fn ready(pieces: impl IntoIterator<Item = io::Result<Bytes>>) -> Channel {
    let (sender, receiver) = mpsc::unbounded_channel();
    pieces.into_iter().for_each(|piece| sender.send(piece).unwrap());
    Channel(receiver)
}

#[tokio::test]
async fn bodies_of_any_kind_and_length_are_stored() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    for len in [0, 1, STRIPE - 1, STRIPE, STRIPE + 1, 7 * STRIPE, 9 * STRIPE + 5] {
        let bytes = Bytes::from(data(len as u64, len));
        let pieces = || bytes.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let known = len as u64;
        let bodies = [
            ("bytes", Body::from(bytes.clone())),
            ("reader", Body::reader(&bytes[..])),
            ("known reader", Body::reader(&bytes[..]).with_len(known)),
            ("stream", Body::stream(ready(pieces()))),
            ("known stream", Body::stream(ready(pieces())).with_len(known)),
        ];
        for (kind, body) in bodies {
            let key = format!("{kind} {len}");
            let version = client.put_stream(&key, body).await.unwrap().version;
            let stored = peer.stored(0, &key).unwrap();
            assert!(stored.data == bytes, "{key}");
            assert_eq!((stored.version, stored.checksum), (version, ObjectChecksum::crc32c(crc32c(&bytes))));
            let first = peer.request(&key).await;
            let said = first.has(flags::LEN_UNKNOWN);
            let unknown = !kind.contains("known") && kind != "bytes" && len >= STRIPE;
            assert_eq!(said, unknown, "{key}");
            if !unknown {
                assert_eq!(first.object_len, known, "{key}");
            }
        }
    }
}

#[tokio::test]
async fn options_go_with_the_first_frame_only() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let ttl = std::time::Duration::from_secs(5);
    let kind = client.request().namespace(Namespace(3)).pinned().immutable().ttl(ttl);
    // The peer checks that further frames say nothing that belongs to the first.
    kind.put("key", data(1, 3 * STRIPE)).await.unwrap();
    let stored = peer.stored(3, "key").unwrap();
    assert_eq!((stored.data.len(), stored.ttl_ms), (3 * STRIPE, 5000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_object_goes_both_ways() {
    let limits = Limits::of_protocol(16 << 10, 100);
    let peer = Peer::with(Config { limits, ..Config::default() }).await;
    let client = client(&peer).await;
    let bytes = Bytes::from(data(1, OBJECT_LEN_MAX as usize));
    client.put("whole", bytes.clone()).await.unwrap();
    client.put_stream("streamed", Body::reader(&bytes[..])).await.unwrap();
    let whole = client.get("streamed").await.unwrap().unwrap();
    assert!(whole.bytes == bytes);
    let mut stream = client.get_stream("whole").await.unwrap().unwrap();
    assert_eq!(stream.meta().object_len, OBJECT_LEN_MAX);
    let mut at = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= STRIPE_LEN_MAX && piece == bytes[at..at + piece.len()], "at {at}");
        at += piece.len();
    }
    assert_eq!(at, bytes.len());
    assert_error!(client.put("larger", vec![0; OBJECT_LEN_MAX as usize + 1]).await, Error::TooLarge { .. });
}

#[tokio::test]
async fn credit_is_asked_for_all_of_a_whole_read_at_once() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("small", data(1, 4 * STRIPE));
    client.get("small").await.unwrap();
    peer.store("large", data(1, 30 * STRIPE));
    client.get("large").await.unwrap();
    let grants: Vec<_> = peer.events().into_iter().filter(|e| matches!(e, Event::Credit { .. })).collect();
    let id = peer.request("large").await.request_id;
    assert_eq!(grants, [Event::Credit { id, bytes: 26 * STRIPE as u32 }]);
}

#[tokio::test]
async fn a_slow_consumer_holds_up_only_itself() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let bytes = data(1, 40 * STRIPE);
    peer.store("slow", bytes.clone());
    let mut slow = client.get_stream("slow").await.unwrap().unwrap();
    // It takes nothing, while others go their way on the same connection.
    for i in 0..20 {
        client.put(format!("key {i}"), data(i, 2 * STRIPE)).await.unwrap();
        assert_eq!(client.get(format!("key {i}")).await.unwrap().unwrap().bytes.len(), 2 * STRIPE);
    }
    assert!(!peer.events().iter().any(|event| matches!(event, Event::Credit { .. })));
    let mut got = Vec::new();
    while let Some(piece) = slow.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert!(got == bytes);
    assert!(peer.events().iter().any(|event| matches!(event, Event::Credit { .. })));
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_stream_needs_no_more_credit_than_one_stripe() {
    let mut config = Config::default();
    config.limits.stream_credit = STRIPE as u32;
    let peer = Peer::with(config).await;
    let client = client(&peer).await;
    let bytes = data(1, 10 * STRIPE + 3);
    for act in [Act::SlowCredit, Act::Flags(0)] {
        peer.script("key", [act]);
        client.put("key", bytes.clone()).await.unwrap();
        let mut got = Vec::new();
        let mut stream = client.get_stream("key").await.unwrap().unwrap();
        while let Some(piece) = stream.next().await {
            got.extend_from_slice(&piece.unwrap());
        }
        assert!(got == bytes);
        assert!(client.get("key").await.unwrap().unwrap().bytes == bytes);
    }
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let mut work = tokio::task::JoinSet::new();
    for i in 0..20u64 {
        let client = client.clone();
        let peer_act = if i % 3 == 0 { Some(Act::SlowCredit) } else { None };
        peer.script(&format!("key {i}"), peer_act);
        work.spawn(async move {
            let key = format!("key {i}");
            let bytes = Bytes::from(data(i, (5 + i as usize) * STRIPE + i as usize));
            client.put_stream(&key, Body::reader(&bytes[..])).await.unwrap();
            let mut stream = client.get_stream(&key).await.unwrap().unwrap();
            let mut got = Vec::new();
            while let Some(piece) = stream.next().await {
                got.extend_from_slice(&piece.unwrap());
            }
            assert!(got == bytes, "{key}");
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn small_requests_pass_a_large_put() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.script("large", [Act::NoCredit]);
    let large = tokio::spawn({
        let client = client.clone();
        async move { client.put("large", data(1, 20 * STRIPE)).await }
    });
    peer.request("large").await;
    for i in 0..50 {
        client.put(format!("key {i}"), "x").await.unwrap();
    }
    assert!(!large.is_finished());
    large.abort();
}

#[tokio::test]
async fn a_body_that_fails_takes_the_put_with_it() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let pieces = || (0..5).map(|i| Ok(Bytes::from(data(i, STRIPE)))).chain([Err(io::Error::other("burnt"))]);
    let error = client.put_stream("fails", Body::stream(ready(pieces()))).await.unwrap_err();
    assert!(matches!(&error, Error::Body(source) if source.to_string() == "burnt"), "{error}");
    let id = peer.request("fails").await.request_id;
    peer.seen(|event| *event == Event::Cancel { id }).await;
    let short = data(1, 3 * STRIPE);
    let body = Body::reader(&short[..]).with_len(3 * STRIPE as u64 + 1);
    assert_error!(client.put_stream("short", body).await, Error::Body(_));
    client.ping().await.unwrap();
    assert!(peer.stored(0, "fails").is_none() && peer.stored(0, "short").is_none());
}

#[tokio::test]
async fn an_early_answer_ends_a_put() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let early = [Act::EarlyStatus(Status::Overloaded); 2];
    peer.script("key", early);
    assert_error!(client.put("key", data(1, 50 * STRIPE)).await, Error::Overloaded { .. });
    // Also while the body itself is waited for.
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(Ok(Bytes::from(data(1, STRIPE)))).unwrap();
    assert_error!(client.put_stream("key", Body::stream(Channel(receiver))).await, Error::Overloaded { .. });
    drop(sender);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_put_goes_out_while_its_body_comes_in() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let (sender, receiver) = mpsc::unbounded_channel();
    let put = tokio::spawn(async move { client.put_stream("key", Body::stream(Channel(receiver))).await });
    sender.send(Ok(Bytes::from(data(1, STRIPE)))).unwrap();
    assert!(peer.request("key").await.has(flags::LEN_UNKNOWN));
    sender.send(Ok(Bytes::from(data(2, 5)))).unwrap();
    drop(sender);
    put.await.unwrap().unwrap();
    assert_eq!(peer.stored(0, "key").unwrap().data.len(), STRIPE + 5);
}

#[tokio::test]
async fn streams_are_streams() {
    let peer = Peer::start().await;
    let client = builder().connect(&peer.addr).await.unwrap();
    peer.store("key", data(1, 2 * STRIPE));
    let mut stream = client.get_stream("key").await.unwrap().unwrap();
    assert!(format!("{stream:?}").contains("ended: false"));
    let mut lens = Vec::new();
    while let Some(piece) = std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        lens.push(piece.unwrap().len());
    }
    assert_eq!(lens, [STRIPE, STRIPE]);
    // A stream goes on when its client is gone.
    let mut stream = client.get_stream("key").await.unwrap().unwrap();
    drop(client);
    assert_eq!(stream.next().await.unwrap().unwrap().len(), STRIPE);
    assert_eq!(stream.next().await.unwrap().unwrap().len(), STRIPE);
    assert!(stream.next().await.is_none());
}
