//! Every way in which a request can fail.

use std::time::Duration;

use bytes::Bytes;
use hedgerow_client::{Body, Error, Result};
use hedgerow_wire::frame::{Status, flags};

use crate::peer::{Act, Config, Event, Peer, STRIPE};
use crate::{SHORT, assert_error, builder, client, data};

#[tokio::test]
async fn every_status_is_its_error() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    type Check = fn(&Error) -> bool;
    let cases: [(Status, Check); 14] = [
        (Status::Superseded, |e| matches!(e, Error::Superseded { version } if version.coordinator == 7)),
        (
            Status::VersionMismatch,
            |e| matches!(e, Error::VersionMismatch { found } if found.coordinator == 7),
        ),
        (
            Status::DeadlineExceeded,
            |e| matches!(e, Error::DeadlineExceeded { deadline } if deadline.as_secs() == 50),
        ),
        (Status::Indeterminate, |e| matches!(e, Error::Indeterminate { .. })),
        (Status::Overloaded, |e| matches!(e, Error::Overloaded { client_limit: None })),
        (Status::Unavailable, |e| matches!(e, Error::Unavailable)),
        (
            Status::BadRequest,
            |e| matches!(e, Error::BadRequest { message } if message == "the script says so"),
        ),
        (Status::Corrupt, |e| matches!(e, Error::Corrupt { .. })),
        (Status::RangeNotSatisfiable, |e| matches!(e, Error::RangeNotSatisfiable { object_len: 4242 })),
        (Status::TooLarge, |e| matches!(e, Error::TooLarge { limit_bytes: 0x400_0000 })),
        (Status::Refused, |e| matches!(e, Error::Refused { .. })),
        (Status::Unsupported, |e| matches!(e, Error::Unsupported { .. })),
        (Status::Cancelled, |e| matches!(e, Error::Internal { .. })),
        (Status::Internal, |e| matches!(e, Error::Internal { .. })),
    ];
    for (status, right) in cases {
        peer.script("key", [Act::Status(status), Act::Status(status), Act::Status(status)]);
        let errors = [
            client.put("key", "x").await.unwrap_err(),
            client.get("key").await.unwrap_err(),
            client.get_stream("key").await.map(|_| ()).unwrap_err(),
        ];
        for error in errors {
            assert!(right(&error), "{status:?}: {error:?}");
        }
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn what_a_request_cannot_say_is_refused_here() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    for key in [vec![], vec![b'k'; 1025]] {
        assert_error!(client.get(&key).await, Error::InvalidKey(error) if error.len == key.len());
        assert_error!(client.put(&key, "x").await, Error::InvalidKey(_));
        assert_error!(client.delete(&key).await, Error::InvalidKey(_));
    }
    client.get(vec![b'k'; 1024]).await.unwrap();
    let long = client.request().deadline(Duration::from_secs(61));
    assert_error!(long.get("key").await, Error::BadRequest { message } if message.contains("61s"));
    let gone = client.request().ttl(Duration::ZERO);
    assert_error!(gone.put("key", "x").await, Error::BadRequest { .. });
}

#[tokio::test]
async fn objects_that_are_too_large_are_not_sent() {
    let mut config = Config::default();
    config.limits.object_len_max = 2 * STRIPE as u64 + 5;
    let peer = Peer::with(config).await;
    let client = client(&peer).await;
    let limit = 2 * STRIPE + 5;
    client.put("fits", data(1, limit)).await.unwrap();
    let too_large = data(1, limit + 1);
    assert_error!(client.put("large", too_large.clone()).await, Error::TooLarge { limit_bytes } if limit_bytes == limit as u64);
    assert_error!(
        client.put_stream("known", Body::reader(&too_large[..]).with_len(limit as u64 + 1)).await,
        Error::TooLarge { .. }
    );
    assert!(peer.requests("large").is_empty() && peer.requests("known").is_empty());
    assert_error!(client.put_stream("unknown", Body::reader(&too_large[..])).await, Error::TooLarge { .. });
    client.ping().await.unwrap();
    assert!(peer.stored(0, "unknown").is_none());
}

#[tokio::test]
async fn a_daemon_without_streams_gets_single_frames_only() {
    let peer = Peer::with(Config { features: 0, ..Config::default() }).await;
    let client = client(&peer).await;
    client.put("small", data(1, STRIPE)).await.unwrap();
    assert_error!(client.put("large", data(1, STRIPE + 1)).await, Error::Unsupported { .. });
}

#[tokio::test]
async fn damage_on_the_way_is_never_data() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    for len in [1, 5000, 3 * STRIPE + 9] {
        peer.store("key", data(1, len));
        peer.script("key", [Act::DamageBody, Act::DamageObject]);
        assert_error!(client.get("key").await, Error::Corrupt { what } if what.contains("body"));
        assert_error!(client.get("key").await, Error::Corrupt { what } if what.contains("whole"));
        // The connection goes on.
        assert_eq!(client.get("key").await.unwrap().unwrap().bytes.len(), len);
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn damage_in_a_stream_ends_it_before_its_last_piece() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let bytes = data(1, 3 * STRIPE + 9);
    peer.store("key", bytes.clone());
    for act in [Act::DamageBody, Act::DamageObject] {
        peer.script("key", [act]);
        let (got, error) = drain(client.get_stream("key").await).await;
        assert!(got == bytes[..3 * STRIPE], "{act:?}");
        assert_error!(error, Error::Corrupt { .. });
    }
}

/// All pieces of a stream, and how it ended.
async fn drain(stream: Result<Option<hedgerow_client::ObjectStream>>) -> (Vec<u8>, Result<()>) {
    let mut stream = stream.unwrap().unwrap();
    let mut got = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => {
                assert!(stream.next().await.is_none());
                return (got, Err(error));
            }
        }
    }
    (got, Ok(()))
}

#[tokio::test]
async fn an_abort_takes_back_what_came_before() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("key", data(1, 3 * STRIPE + 9));
    for frames in [0, 1, 3] {
        peer.script("key", [Act::AbortAfter(frames, Status::Unavailable); 2]);
        assert_error!(client.get("key").await, Error::Unavailable);
        if frames > 0 {
            let (got, error) = drain(client.get_stream("key").await).await;
            assert_eq!(got.len(), frames * STRIPE);
            assert_error!(error, Error::Unavailable);
        } else {
            assert_error!(client.get_stream("key").await, Error::Unavailable);
        }
    }
    // One that gives no reason.
    peer.script("key", [Act::AbortAfter(2, Status::Ok)]);
    assert_error!(client.get("key").await, Error::Internal { .. });
}

#[tokio::test]
async fn a_deadline_ends_a_request_whatever_the_daemon_does() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let hasty = client.request().deadline(SHORT);
    peer.script("read", [Act::Silence; 3]);
    assert_error!(hasty.get("read").await, Error::DeadlineExceeded { deadline } if deadline == SHORT);
    assert_error!(hasty.stat("read").await, Error::DeadlineExceeded { .. });
    assert_error!(hasty.get_stream("read").await, Error::DeadlineExceeded { .. });
    peer.script("write", [Act::Silence; 2]);
    assert_error!(hasty.put("write", "x").await, Error::Indeterminate { reason } if reason.contains("300ms"));
    assert_error!(hasty.delete("write").await, Error::Indeterminate { .. });
    // Each was cancelled.
    for header in peer.requests("read").iter().chain(&peer.requests("write")) {
        let id = header.request_id;
        assert!(header.deadline_budget_us <= 300_000);
        peer.seen(|event| *event == Event::Cancel { id }).await;
    }
    // The connection is none the worse.
    client.ping().await.unwrap();
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_deadline_in_the_midst_of_a_stream() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let hasty = client.request().deadline(SHORT);
    peer.store("read", data(1, 3 * STRIPE));
    peer.script("read", [Act::Hold; 2]);
    peer.release(1);
    let (got, error) = drain(hasty.get_stream("read").await).await;
    assert!(got.len() <= STRIPE);
    assert_error!(error, Error::DeadlineExceeded { .. });
    // Its last frame is not sent, so nothing can have been stored.
    peer.script("write", [Act::NoCredit]);
    assert_error!(hasty.put("write", data(1, 20 * STRIPE)).await, Error::DeadlineExceeded { .. });
    for key in ["read", "write"] {
        let id = peer.request(key).await.request_id;
        peer.seen(|event| *event == Event::Cancel { id }).await;
    }
    assert!(peer.stored(0, "write").is_none());
}

#[tokio::test]
async fn a_request_that_is_dropped_is_cancelled() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("stream", data(1, 100 * STRIPE));
    peer.script("get", [Act::Silence]);
    let get = tokio::spawn({
        let client = client.clone();
        async move { client.get("get").await }
    });
    let id = peer.request("get").await.request_id;
    get.abort();
    peer.seen(|event| *event == Event::Cancel { id }).await;
    let mut stream = client.get_stream("stream").await.unwrap().unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let id = peer.request("stream").await.request_id;
    peer.seen(|event| *event == Event::Cancel { id }).await;
    // What was on its way is passed over.
    client.ping().await.unwrap();
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once() {
    let peer = Peer::start().await;
    let client = builder().max_in_flight(2).connect(&peer.addr).await.unwrap();
    peer.store("held", data(1, 10));
    peer.store("stream", data(1, 20 * STRIPE));
    peer.script("held", [Act::Hold]);
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.get("held").await }
    });
    peer.request("held").await;
    let stream = client.get_stream("stream").await.unwrap().unwrap();
    assert_error!(client.get("other").await, Error::Overloaded { client_limit: Some(2) });
    assert_error!(client.put("other", "x").await, Error::Overloaded { client_limit: Some(2) });
    drop(stream);
    client.put("other", "x").await.unwrap();
    peer.release(1);
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_daemons_own_bound_is_waited_for() {
    let mut config = Config::default();
    config.limits.requests_max = 1;
    let peer = Peer::with(config).await;
    let client = client(&peer).await;
    peer.store("held", data(1, 10));
    peer.script("held", [Act::Hold]);
    let ask = |key: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.get(key).await })
    };
    let held = ask("held");
    peer.request("held").await;
    let others: Vec<_> = (0..10).map(|_| ask("other")).collect();
    assert_error!(client.request().deadline(SHORT).put("hasty", "x").await, Error::DeadlineExceeded { .. });
    assert!(peer.requests("other").is_empty() && peer.requests("hasty").is_empty());
    peer.release(1);
    held.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_daemon_that_breaks_the_protocol_loses_its_connection() {
    for act in [
        Act::WrongOp,
        Act::WrongOffset,
        Act::DamageHeader,
        Act::AskBack,
        Act::Complain,
        Act::Flags(flags::ABORT),
    ] {
        let peer = Peer::start().await;
        let client = client(&peer).await;
        peer.store("key", data(1, 3 * STRIPE));
        peer.script("key", [act]);
        let result = client.get("key").await;
        if act == Act::Flags(flags::ABORT) {
            // An abort is a legal end; the frames after it concern nobody.
            assert_error!(result, Error::Internal { .. });
            continue;
        }
        assert_error!(result, Error::Protocol { addr, .. } if addr == peer.addr);
        assert_eq!(client.get("key").await.unwrap().unwrap().bytes.len(), 3 * STRIPE);
        assert_eq!(peer.connections(), 2, "{act:?}");
    }
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.script("key", [Act::Complain]);
    assert_error!(client.get("key").await, Error::Protocol { what, .. } if what.contains("what is this"));
}

#[tokio::test]
async fn credit_that_is_not_kept_to_breaks_the_connection() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("read", data(1, 20 * STRIPE));
    peer.script("read", [Act::IgnoreCredit]);
    let mut stream = client.get_stream("read").await.unwrap().unwrap();
    peer.seen(|event| matches!(event, Event::Closed { .. })).await;
    let error = loop {
        if let Err(error) = stream.next().await.unwrap() {
            break error;
        }
    };
    assert!(matches!(&error, Error::Protocol { what, .. } if what.contains("were allowed")), "{error}");
    peer.script("write", [Act::TooMuchCredit]);
    let put = client.put_stream("write", Body::reader(Endless)).await;
    assert_error!(put, Error::Protocol { what, .. } if what.contains("credit"));
}

/// A reader that gives a little, then nothing for ever.
struct Endless;

impl tokio::io::AsyncRead for Endless {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if out.remaining() < STRIPE {
            return std::task::Poll::Pending;
        }
        let len = out.remaining();
        out.put_slice(&Bytes::from(vec![1; len]));
        std::task::Poll::Ready(Ok(()))
    }
}
