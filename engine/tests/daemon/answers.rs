//! Answers that come late, not at all, in part or with a bit wrong: a client gets the right bytes or an error that
//! says what happened, and whoever injected the fault can end it.

use std::time::{Duration, Instant};

use hedgerow_client::messages::{Fault, FaultKind, FaultPlace, FaultRequest};
use hedgerow_client::{Client, Error};
use hedgerow_wire::frame::{Op, Status};
use hedgerow_wire::limits::FRAME_HEADER_LEN;

use crate::content::{assert_same, content};
use crate::harness::{Daemon, Setup, counter, eventually, inject_at};
use crate::raw::{Raw, get, key};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);
/// A deadline that only a hang reaches.
const CALM: Duration = Duration::from_secs(50);
const ALL: u32 = Fault::SHARE_ALL_PPM;

/// Copies, one stripe, several stripes.
const LENGTHS: [usize; 3] = [1000, 100_000, (2 << 20) + 4097];

async fn started(setup: &Setup) -> (Daemon, Client) {
    let daemon = setup.start();
    let client = daemon.client().await;
    for len in LENGTHS {
        client.put(name(len), content(len as u64, len)).await.unwrap();
    }
    (daemon, client)
}

fn name(len: usize) -> String {
    format!("object-{len}")
}

async fn clear(client: &Client) {
    client.fault(&FaultRequest::ClearAll).await.unwrap();
}

/// Gets every object, which is right or fails with an error that `may_be`; whether it was right.
async fn get_all(client: &Client, deadline: Duration, may_be: fn(&Error) -> bool) -> Vec<bool> {
    let mut right = Vec::new();
    for len in LENGTHS {
        match client.request().deadline(deadline).get(name(len)).await {
            Ok(Some(object)) => {
                assert_same(name(len), &object.bytes, &content(len as u64, len));
                right.push(true);
            }
            Ok(None) => panic!("{} is said to be missing", name(len)),
            Err(error) => {
                assert!(may_be(&error), "{}: {error:?}", name(len));
                right.push(false);
            }
        }
    }
    right
}

#[tokio::test]
async fn late_answers_are_right() {
    let setup = Setup::new("2+1").two_cores();
    let (_daemon, client) = started(&setup).await;
    let ms = |ms: u32| ms * 1000;
    for (kind, least) in [
        (FaultKind::Delay { delay_us: ms(40) }, Duration::from_millis(40)),
        (FaultKind::DelayUniform { min_us: ms(10), max_us: ms(50) }, Duration::from_millis(10)),
        (FaultKind::DelayExponential { mean_us: ms(30) }, Duration::ZERO),
        (FaultKind::Stall { stall_ms: 300 }, Duration::from_millis(300)),
    ] {
        let begun = Instant::now();
        let id = inject_at(&client, FaultPlace::Connections, kind, ALL, LONG).await;
        assert!(get_all(&client, CALM, |_| false).await.iter().all(|&right| right));
        assert!(begun.elapsed() >= least, "{kind:?}: after {:?}", begun.elapsed());
        let listed = client.fault(&FaultRequest::List).await.unwrap().faults;
        let stalled = matches!(kind, FaultKind::Stall { .. });
        assert!(stalled || listed.iter().any(|fault| fault.id == id && fault.hits > 0), "{listed:?}");
        clear(&client).await;
    }
    assert!(counter(&client, "fault_hits").await > 0);
}

#[tokio::test]
async fn late_answers_keep_their_order() {
    let setup = Setup::new("2+1");
    let (_daemon, client) = started(&setup).await;
    let uniform = FaultKind::DelayUniform { min_us: 0, max_us: 5_000 };
    inject_at(&client, FaultPlace::Connections, uniform, 500_000, LONG).await;
    let reads = (0..40).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { get_all(&client, CALM, |_| false).await })
    });
    for read in reads.collect::<Vec<_>>() {
        assert!(read.await.unwrap().iter().all(|&right| right));
    }
}

#[tokio::test]
async fn answers_that_are_never_sent_are_deadlines() {
    let setup = Setup::new("2+1").two_cores();
    let (daemon, client) = started(&setup).await;
    let id = inject_at(&client, FaultPlace::Connections, FaultKind::Vanish, 300_000, LONG).await;
    let mut right = Vec::new();
    while !(right.contains(&true) && right.contains(&false)) {
        let late =
            |error: &Error| matches!(error, Error::DeadlineExceeded { .. } | Error::Disconnected { .. });
        right.extend(get_all(&client, Duration::from_millis(300), late).await);
    }
    client.fault(&FaultRequest::Clear { id }).await.unwrap();
    // A write is done, and its answer lost.
    inject_at(&client, FaultPlace::Connections, FaultKind::Vanish, ALL, LONG).await;
    let put = client.request().deadline(Duration::from_millis(300)).put("new", content(9, 5000)).await;
    assert!(matches!(put, Err(Error::Indeterminate { .. })), "{put:?}");
    // Whoever comes anew can still end it.
    let other = daemon.client().await;
    clear(&other).await;
    let new = other.get("new").await.unwrap().unwrap();
    assert_same("new", &new.bytes, &content(9, 5000));
}

#[tokio::test]
async fn one_connection_is_struck_and_no_other() {
    let setup = Setup::new("2+1").two_cores();
    let (daemon, client) = started(&setup).await;
    let (mut struck, mut spared) = (Raw::greeted(daemon.address), Raw::greeted(daemon.address));
    let damage = FaultKind::Damage;
    inject_at(&client, FaultPlace::Peer(struck.address()), FaultKind::Vanish, ALL, LONG).await;
    inject_at(&client, FaultPlace::Peer("192.0.2.1:0".parse().unwrap()), damage, ALL, LONG).await;
    let key = key(&name(1000));
    for raw in [&mut struck, &mut spared] {
        raw.send(&get(2), Some(&key), &[]);
    }
    assert_same("spared", &spared.expect(Op::Get, 2, Status::Ok).body, &content(1000, 1000));
    eventually("the answer is struck", || async {
        (counter(&client, "fault_hits").await == 1).then_some(())
    })
    .await;
    clear(&client).await;
    // The answer that was struck never comes, the next one does.
    struck.send(&get(3), Some(&key), &[]);
    struck.expect(Op::Get, 3, Status::Ok);
    // All ports of a host.
    let host = FaultPlace::Peer("127.0.0.1:0".parse().unwrap());
    inject_at(&client, host, FaultKind::Cut { after_bytes: 0 }, ALL, LONG).await;
    for mut raw in [struck, spared, Raw::greeted(daemon.address)] {
        raw.send(&get(4), Some(&key), &[]);
        assert_eq!(raw.receive_all(), []);
    }
}

#[tokio::test]
async fn a_connection_is_cut_at_the_byte() {
    let setup = Setup::new("2+1");
    let (daemon, client) = started(&setup).await;
    let len = 100_000;
    let frame = FRAME_HEADER_LEN + len;
    let key = key(&name(len));
    let mut whole = Raw::greeted(daemon.address);
    whole.send(&get(2), Some(&key), &[]);
    let whole = whole.receive_exactly(frame);
    for after in
        [0, 1, FRAME_HEADER_LEN - 1, FRAME_HEADER_LEN, FRAME_HEADER_LEN + 1, 65_536, frame - 1, frame]
    {
        let mut raw = Raw::greeted(daemon.address);
        let cut = FaultKind::Cut { after_bytes: after as u32 };
        inject_at(&client, FaultPlace::Peer(raw.address()), cut, ALL, LONG).await;
        raw.send(&get(2), Some(&key), &[]);
        assert_same(format!("cut after {after}"), &raw.receive_all(), &whole[..after]);
    }
    clear(&client).await;
    // Over several answers.
    inject_at(&client, FaultPlace::Connections, FaultKind::Cut { after_bytes: 250_000 }, ALL, LONG).await;
    let mut raw = Raw::greeted(daemon.address);
    for id in 2..6 {
        raw.send(&get(id), Some(&key), &[]);
    }
    assert_eq!(raw.receive_all().len(), 250_000);
}

#[tokio::test]
async fn clients_of_connections_that_are_cut_get_right_bytes_or_an_error() {
    let setup = Setup::new("2+1").two_cores();
    let (_daemon, client) = started(&setup).await;
    for after_bytes in [100, 1_500_000] {
        inject_at(&client, FaultPlace::Connections, FaultKind::Cut { after_bytes }, ALL, LONG).await;
        let mut right: Vec<bool> = Vec::new();
        while right.iter().filter(|&&right| !right).count() < 4 {
            let cut = |error: &Error| matches!(error, Error::Disconnected { .. } | Error::Connect { .. });
            right.extend(get_all(&client, Duration::from_secs(20), cut).await);
        }
        clear(&client).await;
    }
    eventually("the client is connected again", || async { client.ping().await.ok() }).await;
    assert!(get_all(&client, CALM, |_| false).await.iter().all(|&right| right));
}

#[tokio::test]
async fn answers_with_a_bit_wrong_are_found() {
    let setup = Setup::new("2+1").two_cores();
    let (_daemon, client) = started(&setup).await;
    inject_at(&client, FaultPlace::Connections, FaultKind::Damage, 200_000, LONG).await;
    let mut right = Vec::new();
    while right.len() < 60 || !right.contains(&false) {
        let found = |error: &Error| {
            matches!(
                error,
                Error::Corrupt { .. }
                    | Error::Protocol { .. }
                    | Error::Disconnected { .. }
                    | Error::Connect { .. }
            )
        };
        right.extend(get_all(&client, Duration::from_secs(20), found).await);
    }
    assert!(right.contains(&true));
    clear(&client).await;
    eventually("the client is connected again", || async { client.ping().await.ok() }).await;
    assert!(get_all(&client, CALM, |_| false).await.iter().all(|&right| right));
}
