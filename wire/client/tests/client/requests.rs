//! Every verb and option, as they arrive at the peer and come back.

use std::time::Duration;

use hedgerow_client::messages::{FaultRequest, VerifyRequest};
use hedgerow_client::{
    AckLevel, Address, Client, Error, Namespace, ObjectChecksum, Priority, ReadPolicy, Stored, Version,
};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{Op, Status, flags};
use tokio::task::JoinSet;

use crate::peer::{Act, Config, Event, Peer, stats, verified};
use crate::{assert_error, builder, client, data};

#[tokio::test]
async fn what_is_put_is_got() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    for len in [0, 1, 100, 2048, 2049, 40_000, crate::peer::STRIPE] {
        let key = format!("key {len}");
        let bytes = data(len as u64, len);
        let version = client.put(&key, bytes.clone()).await.unwrap().version;
        let object = client.get(&key).await.unwrap().unwrap();
        assert!(object.bytes == bytes, "length {len}");
        assert_eq!((object.version, object.object_len, object.len), (version, len as u64, len as u64));
        assert_eq!(object.checksum, ObjectChecksum::crc32c(crc32c(&bytes)));
        assert_eq!((object.unconfirmed, object.from_memory, object.ttl), (false, false, None));
        assert_eq!(peer.stored(0, &key).unwrap().checksum, object.checksum);
    }
    assert!(client.get("nothing").await.unwrap().is_none());
    client.put("", "no key").await.unwrap_err();
}

#[tokio::test]
async fn ranges_are_cut_at_the_end() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let bytes = data(1, 3 * crate::peer::STRIPE + 17);
    peer.store("key", bytes.clone());
    let len = bytes.len() as u64;
    for (start, end) in [(0, 1), (5, 10), (0, len), (100, len + 100), (len - 1, len), (65_000, 140_000)] {
        let object = client.get_range("key", start..end).await.unwrap().unwrap();
        let end = end.min(len);
        assert!(object.bytes == bytes[start as usize..end as usize], "{start}..{end}");
        assert_eq!((object.offset, object.len, object.object_len), (start, end - start, len));
        let mut stream = client.request().get_range_stream("key", start..end).await.unwrap().unwrap();
        let mut got = Vec::new();
        while let Some(piece) = stream.next().await {
            got.extend_from_slice(&piece.unwrap());
        }
        assert!(got == object.bytes, "{start}..{end}");
    }
    assert_eq!(client.get_range("key", 7..).await.unwrap().unwrap().bytes.len() as u64, len - 7);
    assert_error!(client.get_range("key", len..).await, Error::RangeNotSatisfiable { object_len } if object_len == len);
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = 9..7;
    assert_error!(client.get_range("key", backwards).await, Error::BadRequest { .. });
    assert!(client.get_range("nothing", 7..).await.unwrap().is_none());
}

#[tokio::test]
async fn deletes_and_stats() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let version = client.put("key", "bytes").await.unwrap().version;
    let stat = client.stat("key").await.unwrap().unwrap();
    assert_eq!((stat.version, stat.object_len), (version, 5));
    assert!(client.delete("key").await.unwrap() > version);
    assert!(client.get("key").await.unwrap().is_none());
    assert!(client.stat("key").await.unwrap().is_none());
    client.delete("key").await.unwrap();
}

#[tokio::test]
async fn verbs_without_a_key() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    client.ping().await.unwrap();
    assert_eq!(client.stats().await.unwrap(), stats());
    assert_eq!(client.fault(&FaultRequest::List).await.unwrap().id, 5);
    let request = VerifyRequest { shard: 1, cursor: 30, parts_max: 12 };
    assert_eq!(client.verify(&request).await.unwrap(), verified(&request));
    peer.script("fault", [Act::Status(Status::Refused)]);
    assert_error!(client.fault(&FaultRequest::ClearAll).await, Error::Refused { message } if message == "the script says so");
    let too_many = VerifyRequest { parts_max: 12, ..request };
    peer.script("verify", [Act::Status(Status::BadRequest)]);
    assert_error!(client.verify(&too_many).await, Error::BadRequest { .. });
}

#[tokio::test]
async fn options_go_with_the_request() {
    let peer = Peer::start().await;
    let client = builder().namespace(Namespace(9)).connect(&peer.addr).await.unwrap();
    client.put("plain", "x").await.unwrap();
    let plain = peer.request("plain").await;
    assert_eq!((plain.namespace, plain.flags, plain.ttl_ms), (Namespace(9), flags::END, 0));
    assert!((1..=50_000_000).contains(&plain.deadline_budget_us));

    let kind = client
        .request()
        .namespace(Namespace(7))
        .deadline(Duration::from_secs(10))
        .priority(Priority::High)
        .trace_id(0xabc);
    let put = kind.clone().ttl(Duration::from_micros(1500)).ack(AckLevel::Synced).pinned().immutable();
    put.put("put", "x").await.unwrap();
    let header = peer.request("put").await;
    assert_eq!(header.flags, flags::END | flags::PINNED | flags::IMMUTABLE);
    assert_eq!((header.namespace, header.ttl_ms, header.ack), (Namespace(7), 2, Some(AckLevel::Synced)));
    assert_eq!((header.priority, header.trace_id), (Priority::High, 0xabc));
    assert!((1..=10_000_000).contains(&header.deadline_budget_us));
    let object = kind.get("put").await.unwrap().unwrap();
    assert_eq!(object.ttl, Some(Duration::from_millis(2)));

    kind.clone().strict().read_policy(ReadPolicy::All).get("strict").await.unwrap();
    let header = peer.request("strict").await;
    assert_eq!(
        (header.op, header.flags, header.read_policy),
        (Op::Get, flags::END | flags::STRICT, ReadPolicy::All)
    );
    kind.clone().max_stale(Duration::from_secs(3)).get("stale").await.unwrap();
    let header = peer.request("stale").await;
    assert_eq!((header.flags, header.max_stale_ms), (flags::END | flags::MAY_BE_STALE, 3000));
    // What means nothing to a verb is ignored by it.
    put.pinned().ttl(Duration::from_secs(1)).strict().stat("put").await.unwrap();
}

#[tokio::test]
async fn conditional_and_immutable_writes() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let first = client.request().if_absent().put("key", "one").await.unwrap().version;
    assert_error!(client.request().if_absent().put("key", "two").await, Error::VersionMismatch { found } if found == first);
    let second = client.request().if_version(first).put("key", "two").await.unwrap().version;
    assert!(second > first);
    assert_error!(
        client.request().if_version(second).put("other", "x").await,
        Error::VersionMismatch { found: Version::ZERO }
    );
    let immutable = client.request().namespace(Namespace(5)).immutable();
    let first = immutable.put("hash", "content").await.unwrap();
    assert!(!first.unchanged);
    let second = immutable.put("hash", "content").await.unwrap();
    assert_eq!(second, Stored { unchanged: true, ..first });
}

#[tokio::test]
async fn flags_of_answers_are_told() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    for len in [10, 5 * crate::peer::STRIPE] {
        peer.store("key", data(2, len));
        peer.script("key", [Act::Flags(flags::UNCONFIRMED), Act::Flags(flags::FROM_MEMORY)]);
        let object = client.get("key").await.unwrap().unwrap();
        assert_eq!((object.unconfirmed, object.from_memory), (true, false));
        let object = client.get("key").await.unwrap().unwrap();
        assert_eq!((object.unconfirmed, object.from_memory), (false, true));
    }
}

#[tokio::test]
async fn a_client_says_who_it_is_and_what_it_is_connected_to() {
    let peer = Peer::start().await;
    let client = Client::builder().name("shop").credentials("secret").connect(&peer.addr).await.unwrap();
    let hello = Event::Hello { name: "shop".to_owned(), credentials: b"secret".to_vec() };
    assert!(peer.events().contains(&hello));
    let daemons = client.daemons();
    assert_eq!((daemons.len(), daemons[0].connections), (1, 1));
    assert_eq!(daemons[0].address, Address::from(&peer.addr));
    assert_eq!(daemons[0].hello.as_ref().unwrap().build, "test peer");
    assert!(format!("{client:?}").contains("deadline"));
}

#[tokio::test]
async fn wrong_settings_are_refused() {
    let check = async |builder: hedgerow_client::Builder, expected: &str| {
        let error = builder.connect("127.0.0.1:1").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(builder().name("x".repeat(257)), "name").await;
    check(builder().credentials(vec![0; 4097]), "credentials").await;
    check(builder().connections_per_daemon(0), "connections_per_daemon").await;
    check(builder().max_in_flight(0), "max_in_flight").await;
    check(builder().keepalive(Duration::ZERO), "keepalive").await;
    let none: Vec<String> = Vec::new();
    assert_error!(builder().connect(none).await, Error::BadRequest { .. });
}

#[tokio::test]
async fn answers_in_any_order_find_their_requests() {
    const REQUESTS: usize = 1000;
    let peer = Peer::with(Config { reversed: REQUESTS, ..Config::default() }).await;
    let client = client(&peer).await;
    for i in 0..REQUESTS {
        // Some are several frames, some are empty, most are small.
        peer.store(&format!("key {i}"), data(i as u64, i % 97 * if i % 100 == 7 { 3000 } else { 10 }));
    }
    let mut gets = JoinSet::new();
    for i in 0..REQUESTS {
        let client = client.clone();
        gets.spawn(async move { (i, client.get(format!("key {i}")).await.unwrap().unwrap()) });
    }
    while let Some(got) = gets.join_next().await {
        let (i, object) = got.unwrap();
        assert!(object.bytes == peer.stored(0, &format!("key {i}")).unwrap().data, "key {i}");
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_of_all_kinds_at_once() {
    let peer = Peer::start().await;
    let client = builder().connections_per_daemon(2).connect(&peer.addr).await.unwrap();
    let mut work = JoinSet::new();
    for i in 0..1000u64 {
        let client = client.clone();
        work.spawn(async move {
            let key = format!("key {i}");
            let bytes = data(i, if i % 50 == 0 { 300_000 } else { (i % 5000) as usize });
            let version = client.put(&key, bytes.clone()).await.unwrap().version;
            let (object, stat) = tokio::join!(client.get(&key), client.stat(&key));
            let object = object.unwrap().unwrap();
            assert!(object.bytes == bytes, "key {i}");
            assert_eq!(object.version, version);
            assert_eq!(stat.unwrap().unwrap().object_len, bytes.len() as u64);
            client.delete(&key).await.unwrap();
            assert!(client.get(&key).await.unwrap().is_none());
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn answers_may_come_in_any_pieces() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    let bytes = data(3, 20_000);
    peer.store("key", bytes.clone());
    peer.script("key", [Act::OneByteWrites]);
    assert!(client.get("key").await.unwrap().unwrap().bytes == bytes);
}

#[tokio::test]
async fn an_answer_that_waits_holds_up_no_other() {
    let peer = Peer::start().await;
    let client = client(&peer).await;
    peer.store("held", data(4, 10));
    peer.script("held", [Act::Hold]);
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.get("held").await }
    });
    peer.request("held").await;
    for i in 0..100 {
        client.put(format!("key {i}"), "x").await.unwrap();
    }
    assert!(!held.is_finished());
    peer.release(1);
    assert_eq!(held.await.unwrap().unwrap().unwrap().bytes.len(), 10);
}
