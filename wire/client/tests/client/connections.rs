//! Connections that cannot be made, that break, that come back.

use std::time::Duration;

use bytes::Bytes;
use hedgerow_client::{Body, Client, Error};
use hedgerow_wire::frame::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::peer::{Act, Config, Event, Peer, STRIPE};
use crate::{SHORT, assert_error, builder, client, data};

#[tokio::test]
async fn a_daemon_that_is_not_there() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(closed).await.unwrap_err();
    assert!(matches!(&error, Error::Connect { addr, .. } if *addr == closed.to_string()), "{error}");
    assert_error!(Client::connect("unix:/nowhere/at/all").await, Error::Connect { .. });
    assert_error!(Client::connect("no port").await, Error::Connect { .. });
}

#[tokio::test]
async fn a_daemon_that_does_not_take_this_client() {
    let check = async |config: Config, right: fn(&Error) -> bool| {
        let peer = Peer::with(config).await;
        let error = builder().connect(&peer.addr).await.unwrap_err();
        assert!(right(&error), "{error:?}");
    };
    let hello = |hello| Config { hello, ..Config::default() };
    check(hello(Status::Refused), |e| matches!(e, Error::Refused { .. })).await;
    check(hello(Status::Unsupported), |e| matches!(e, Error::Unsupported { .. })).await;
    check(hello(Status::ShuttingDown), |e| matches!(e, Error::ShuttingDown)).await;
    let other = Config { version: 9, ..Config::default() };
    check(other, |e| matches!(e, Error::Unsupported { version: 9, .. })).await;
}

#[tokio::test]
async fn something_else_listens_there() {
    let check = async |says: &'static [u8], right: fn(&Error) -> bool| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut hello = [0; 160];
                socket.read_exact(&mut hello).await.unwrap();
                socket.write_all(says).await.unwrap();
            }
        });
        let error = builder().connect(addr).await.unwrap_err();
        assert!(right(&error), "{error:?}");
        serving.abort();
    };
    check(b"HTTP/1.1 400 Bad Request\r\n", |e| matches!(e, Error::Protocol { .. })).await;
    check(b"HgFr\x07", |e| matches!(e, Error::Unsupported { version: 7, .. })).await;
    check(b"", |e| matches!(e, Error::Disconnected { .. })).await;
}

#[tokio::test]
async fn a_lost_read_is_repeated_once() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("key", data(1, 3 * STRIPE));
    for act in [Act::Close, Act::CloseMidAnswer] {
        peer.script("key", [act]);
        assert_eq!(client.get("key").await.unwrap().unwrap().bytes.len(), 3 * STRIPE);
        peer.script("key", [act, act]);
        assert_error!(client.get("key").await, Error::Disconnected { addr, .. } if addr == peer.addr);
    }
    peer.script("key", [Act::Close]);
    client.get_stream("key").await.unwrap().unwrap();
    peer.script("key", [Act::Close]);
    client.stat("key").await.unwrap().unwrap();
    peer.script("ping", [Act::Close]);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_lost_write_is_never_repeated() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    for act in [Act::Close, Act::DoAndClose] {
        let key = format!("{act:?}");
        peer.script(&key, [act]);
        assert_error!(client.put(&key, "x").await, Error::Indeterminate { reason } if reason.contains("broke"));
        assert_eq!(peer.requests(&key).len(), 1);
        assert_eq!(peer.stored(0, &key).is_some(), act == Act::DoAndClose);
        peer.script(&key, [act]);
        assert_error!(client.request().if_absent().put(&key, "x").await, Error::Indeterminate { .. });
        assert_eq!(peer.requests(&key).len(), 2);
        peer.script(&key, [act]);
        assert_error!(client.delete(&key).await, Error::Indeterminate { .. });
        assert_eq!(peer.requests(&key).len(), 3);
    }
    // One whose key says what it holds may be done twice.
    peer.script("hash", [Act::DoAndClose]);
    let version = client.request().immutable().put("hash", "content").await.unwrap().version;
    assert_eq!(peer.requests("hash").len(), 2);
    assert_eq!(peer.stored(0, "hash").unwrap().version, version);
}

#[tokio::test]
async fn a_put_that_breaks_off_has_no_effect_and_says_so() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<std::io::Result<Bytes>>();
    struct Channel(tokio::sync::mpsc::UnboundedReceiver<std::io::Result<Bytes>>);
    impl futures_core::Stream for Channel {
        type Item = std::io::Result<Bytes>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            self.0.poll_recv(context)
        }
    }
    sender.send(Ok(Bytes::from(data(1, 2 * STRIPE)))).unwrap();
    let put = tokio::spawn(async move { client.put_stream("key", Body::stream(Channel(receiver))).await });
    peer.request("key").await;
    peer.close_all();
    assert_error!(put.await.unwrap(), Error::Disconnected { .. });
    assert!(peer.stored(0, "key").is_none());
    drop(sender);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("key", data(1, 3 * STRIPE));
    peer.script("key", [Act::CloseMidAnswer]);
    let mut stream = client.get_stream("key").await.unwrap().unwrap();
    let mut len = 0;
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(piece) => len += piece.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Disconnected { addr, .. } if *addr == peer.addr), "{error}");
    assert_eq!(len, 2 * STRIPE);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn what_was_not_sent_moves_to_the_next_connection() {
    let dir = tempfile::tempdir().unwrap();
    let addr = format!("unix:{}", dir.path().join("socket").display());
    let client = builder().connect_lazily(&addr).unwrap();
    let bytes = data(1, 5 * STRIPE);
    let requests: Vec<_> = (0..10)
        .map(|i| {
            let (client, bytes) = (client.clone(), Bytes::from(bytes.clone()));
            tokio::spawn(async move {
                let key = format!("key {i}");
                match i % 3 {
                    0 => client.put(&key, bytes).await.map(drop),
                    1 => client.put_stream(&key, Body::reader(&bytes[..])).await.map(drop),
                    _ => client.get(&key).await.map(drop),
                }
            })
        })
        .collect();
    let hasty = client.request().deadline(SHORT);
    assert_error!(hasty.put("hasty", "x").await, Error::Connect { addr: to, .. } if to == addr);
    assert!(client.daemons()[0].error.is_some());
    let peer = Peer::at_path(&addr);
    for request in requests {
        request.await.unwrap().unwrap();
    }
    // The daemon goes, and comes back.
    std::fs::remove_file(dir.path().join("socket")).unwrap();
    drop(peer);
    let again = tokio::spawn({
        let client = client.clone();
        async move { client.get("key 0").await }
    });
    assert_error!(hasty.get("hasty").await, Error::Connect { .. } | Error::DeadlineExceeded { .. });
    let peer = Peer::at_path(&addr);
    assert!(again.await.unwrap().unwrap().is_none());
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn who_does_not_want_to_wait_for_a_connection_need_not() {
    let client = builder().fail_fast(true).connect_lazily("unix:/nowhere/at/all").unwrap();
    assert_error!(client.get("key").await, Error::Connect { .. });
    assert_error!(client.put("key", "x").await, Error::Connect { .. });
    assert_error!(client.get_stream("key").await, Error::Connect { .. });
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    // A daemon that says hello and then nothing, as one whose machine has vanished.
    let peer = Peer::start().await;
    let client = builder().keepalive(Duration::from_millis(100)).connect(&peer.addr).await.unwrap();
    peer.script("ping", [Act::Silence]);
    peer.script("key", [Act::Silence]);
    // The read is lost with the connection and repeated on the next one (which a machine that is
    // too busy may give up too).
    while client.get("key").await.is_err() {}
    peer.seen(|event| *event == Event::Closed { connection: 0 }).await;
}

#[tokio::test]
async fn several_connections_share_the_load() {
    let peer = Peer::start().await;
    let client = builder().connections_per_daemon(3).connect(&peer.addr).await.unwrap();
    while client.daemons()[0].connections < 3 {
        tokio::task::yield_now().await;
    }
    peer.script("key", [Act::Hold; 9]);
    let held: Vec<_> = (0..9)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("key").await })
        })
        .collect();
    while peer.requests("key").len() < 9 {
        tokio::task::yield_now().await;
    }
    for number in 0..3 {
        let on = |event: &Event| matches!(event, Event::Request { connection, .. } if *connection == number);
        assert_eq!(peer.events().iter().filter(|event| on(event)).count(), 3);
    }
    peer.release(9);
    for held in held {
        held.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_key_keeps_to_its_daemon_while_it_is_up() {
    let peers = [Peer::start().await, Peer::start().await, Peer::start().await];
    let addrs = peers.each_ref().map(|peer| peer.addr.clone());
    let connected = async || {
        let client = builder().connect(addrs.clone()).await.unwrap();
        while client.daemons().iter().any(|daemon| daemon.connections == 0) {
            tokio::task::yield_now().await;
        }
        client
    };
    for client in [connected().await, connected().await] {
        for i in 0..60 {
            client.get(format!("key {i}")).await.unwrap();
        }
    }
    let mut seen = 0;
    for peer in &peers {
        let here = (0..60).filter(|i| !peer.requests(&format!("key {i}")).is_empty()).count();
        let twice = (0..60).filter(|i| peer.requests(&format!("key {i}")).len() == 2).count();
        assert_eq!(here, twice, "both clients ask the same daemon for a key");
        assert!(here > 0);
        seen += here;
    }
    assert_eq!(seen, 60);
}

#[tokio::test]
async fn a_daemon_that_shuts_down_sends_its_clients_elsewhere() {
    let peers = [Peer::start().await, Peer::start().await];
    let client = builder().connect(peers.each_ref().map(|peer| peer.addr.clone())).await.unwrap();
    while client.daemons().iter().any(|daemon| daemon.connections == 0) {
        tokio::task::yield_now().await;
    }
    peers[0].script("key", vec![Act::Status(Status::ShuttingDown); 9]);
    for i in 0..20 {
        // Whichever daemon is the key's: the first one answers so only until it is avoided.
        peers[0].script(&format!("key {i}"), vec![Act::Status(Status::ShuttingDown); 9]);
        client.put(format!("key {i}"), "x").await.unwrap();
    }
    let asked = (0..20).map(|i| peers[0].requests(&format!("key {i}")).len()).sum::<usize>();
    assert_eq!(asked, 1);
    // With nowhere else to go it is an error.
    let client = builder().connect(&peers[0].addr).await.unwrap();
    assert_error!(client.get("key").await, Error::ShuttingDown);
}

#[tokio::test]
async fn other_daemons_take_over_from_one_that_is_gone() {
    let peers = [Peer::start().await, Peer::start().await];
    let client = builder().connect(peers.each_ref().map(|peer| peer.addr.clone())).await.unwrap();
    while client.daemons().iter().any(|daemon| daemon.connections == 0) {
        tokio::task::yield_now().await;
    }
    let [gone, left] = peers;
    drop(gone);
    for i in 0..20 {
        client.get(format!("key {i}")).await.unwrap();
        client.ping().await.unwrap();
    }
    assert!(!left.events().is_empty());
}

#[tokio::test]
async fn connections_end_with_the_last_client() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let clone = client.clone();
    drop(client);
    clone.ping().await.unwrap();
    drop(clone);
    peer.seen(|event| *event == Event::Closed { connection: 0 }).await;
}
