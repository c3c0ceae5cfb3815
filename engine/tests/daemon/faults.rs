//! Targets that stall, fail or give damaged bytes: up to m of them cost nothing but time, more of them
//! are a miss or an error, and never wrong bytes.

use std::time::Duration;

use hedgerow_client::messages::{
    Fault, FaultInfo, FaultKind, FaultPlace, FaultRequest, PartState, ShardState,
};
use hedgerow_client::{Client, Error, ReadPolicy};
use hedgerow_wire::limits::FAULTS_MAX;

use crate::content::{assert_same, content};
use crate::harness::{
    Daemon, Setup, complete, counter, eventually, heal, inject, inject_at, shard_stats, stall, wait_complete,
    wait_complete_by,
};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);
/// Long enough for the reads that run into it, short enough to wait for.
const SHORT: Duration = Duration::from_millis(800);

/// One object of each kind: copies, one stripe, several stripes with a last one that is copies.
const LENGTHS: [usize; 4] = [1000, 100_000, 1 << 20, (2 << 20) + 4097];

async fn store(client: &Client) {
    for len in LENGTHS {
        client.put(format!("object-{len}"), content(len as u64, len)).await.unwrap();
    }
}

async fn check(client: &Client, what: &str) {
    for len in LENGTHS {
        let read = client.get(format!("object-{len}")).await;
        let object = read.unwrap_or_else(|error| panic!("{what}: {len} bytes: {error}"));
        let object = object.unwrap_or_else(|| panic!("{what}: {len} bytes: gone"));
        assert_same(format!("{what}: {len} bytes"), &object.bytes, &content(len as u64, len));
    }
}

/// What too many targets have lost is missing or unavailable; the rest is right.
async fn check_what_is_left(client: &Client) {
    for len in LENGTHS {
        match client.get(format!("object-{len}")).await {
            Ok(Some(object)) => {
                assert_same(format!("{len} bytes"), &object.bytes, &content(len as u64, len));
            }
            Ok(None) | Err(Error::Unavailable) => {}
            Err(error) => panic!("{len} bytes: {error}"),
        }
    }
}

async fn wait_all_complete(client: &Client) {
    for len in LENGTHS {
        wait_complete(client, &format!("object-{len}")).await;
    }
}

fn pairs(shards: u16) -> impl Iterator<Item = [u16; 2]> {
    (0..shards).flat_map(move |a| (a + 1..shards).map(move |b| [a, b]))
}

async fn with_every_pair(setup: Setup, kind: FaultKind, duration: Duration, repaired: bool) -> Daemon {
    let daemon = setup.start();
    let client = daemon.client().await;
    store(&client).await;
    for pair in pairs(6) {
        for shard in pair {
            inject(&client, shard, kind, duration).await;
        }
        check(&client, &format!("{kind:?} of the shards {pair:?}")).await;
        heal(&client).await;
        if repaired {
            wait_all_complete(&client).await;
        }
    }
    drop(setup);
    daemon
}

#[tokio::test]
async fn any_two_targets_of_six_stalled() {
    with_every_pair(Setup::new("4+2"), stall(SHORT), LONG, false).await;
}

#[tokio::test]
async fn any_two_targets_of_six_delayed() {
    let uniform = FaultKind::DelayUniform { min_us: 1_000, max_us: 60_000 };
    for kind in
        [FaultKind::Delay { delay_us: 30_000 }, FaultKind::DelayExponential { mean_us: 30_000 }, uniform]
    {
        let daemon = with_every_pair(Setup::new("4+2"), kind, LONG, false).await;
        assert!(counter(&daemon.client().await, "fault_hits").await > 0, "{kind:?} has struck nothing");
    }
}

#[tokio::test]
async fn any_two_targets_of_six_failing() {
    let daemon = with_every_pair(Setup::new("4+2"), FaultKind::Error, LONG, false).await;
    let client = daemon.client().await;
    let stats = client.stats().await.unwrap();
    assert!(stats.shards.iter().map(|shard| shard.io_errors).sum::<u64>() > 0, "no fault has struck");
}

#[tokio::test]
async fn any_two_targets_of_six_damaged_are_repaired() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = with_every_pair(setup, FaultKind::Damage, LONG, true).await;
    let client = daemon.client().await;
    assert!(counter(&client, "coordinator_parts_repaired").await > 0);
    assert!(counter(&client, "store_parts_damaged").await > 0);
    eventually("nothing is under-redundant", || async {
        (counter(&client, "coordinator_under_redundant").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_damaged_part_is_written_anew() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", content(1, 300_000)).await.unwrap();
    let stat = client.stat("object").await.unwrap().unwrap();
    assert!(complete(&stat), "{stat:?}");
    // The target of the first data part, which every read asks.
    let part = stat.records[0].parts.iter().find(|part| part.part == 0).unwrap();
    let shard = part.target.shard;
    inject(&client, shard, FaultKind::Damage, LONG).await;
    assert_same("damaged", &client.get("object").await.unwrap().unwrap().bytes, &content(1, 300_000));
    heal(&client).await;
    wait_complete(&client, "object").await;
    assert!(shard_stats(&client, shard).await.damaged_parts > 0);
    // All others may go now: the new part does its work.
    let others: Vec<u16> = (0..6).filter(|&other| other != shard).take(2).collect();
    for other in others {
        inject(&client, other, FaultKind::Error, LONG).await;
    }
    assert_same("repaired", &client.get("object").await.unwrap().unwrap().bytes, &content(1, 300_000));
}

/// With one target more than the code can lose, every answer is a miss or an error, and comes.
async fn one_too_many(kind: FaultKind, duration: Duration) {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    store(&client).await;
    let coded = client.stat("object-100000").await.unwrap().unwrap();
    let struck: Vec<u16> = coded.records[0].parts.iter().take(3).map(|part| part.target.shard).collect();
    for &shard in &struck {
        inject(&client, shard, kind, duration).await;
    }
    let request = client.request().deadline(Duration::from_millis(1500));
    let read = request.get("object-100000").await;
    match read {
        Ok(None) | Err(Error::Unavailable | Error::DeadlineExceeded { .. }) => {}
        other => panic!("three of {struck:?} {kind:?}: {other:?}"),
    }
    for len in LENGTHS {
        if let Ok(Some(object)) = request.get(format!("object-{len}")).await {
            assert_same(format!("{len} bytes"), &object.bytes, &content(len as u64, len));
        }
    }
    let put = request.put("new", content(9, 100_000)).await;
    assert!(
        matches!(
            put,
            Err(Error::Unavailable
                | Error::DeadlineExceeded { .. }
                | Error::Indeterminate { .. }
                | Error::Overloaded { .. })
        ),
        "{put:?}"
    );
    heal(&client).await;
    if kind != FaultKind::Damage {
        check(&client, "after it").await;
    }
    drop(daemon);
}

#[tokio::test]
async fn three_targets_stalled_are_one_too_many() {
    one_too_many(stall(Duration::from_secs(8)), LONG).await;
}

#[tokio::test]
async fn three_targets_failing_are_one_too_many() {
    one_too_many(FaultKind::Error, LONG).await;
}

#[tokio::test]
async fn three_targets_damaged_are_one_too_many() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    store(&client).await;
    for shard in 0..3 {
        inject(&client, shard, FaultKind::Damage, LONG).await;
    }
    for _ in 0..3 {
        check_what_is_left(&client).await;
    }
    let lost = client.get("object-100000").await;
    assert!(matches!(lost, Ok(None) | Err(Error::Unavailable)), "three of six damaged: {lost:?}");
    heal(&client).await;
    // What was lost can be written again.
    store(&client).await;
    check(&client, "written again").await;
}

/// Objects whose writes are torn at these shards, read by a daemon that was started anew on their devices.
async fn torn(shards: &[u16], killed: bool) -> (Setup, Daemon) {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("before", content(3, 50_000)).await.unwrap();
    for &shard in shards {
        inject(&client, shard, FaultKind::Torn, LONG).await;
    }
    store(&client).await;
    eventually("a write is torn", || async {
        (counter(&client, "fault_hits").await >= shards.len() as u64).then_some(())
    })
    .await;
    if killed {
        daemon.kill()
    } else {
        daemon.stop()
    }
    let daemon = setup.start();
    (setup, daemon)
}

#[tokio::test]
async fn writes_that_two_targets_tear_are_found_and_repaired() {
    for killed in [false, true] {
        for pair in [[0, 1], [2, 5], [3, 4]] {
            let (_setup, daemon) = torn(&pair, killed).await;
            let client = daemon.client().await;
            check(&client, &format!("torn at {pair:?}, killed: {killed}")).await;
            // Parity, too, is found to be torn when it is read.
            for len in LENGTHS {
                let all = client.request().read_policy(ReadPolicy::All);
                wait_complete_by(&client, &all, &format!("object-{len}")).await;
            }
            check(&client, &format!("torn at {pair:?} and repaired, killed: {killed}")).await;
            let before = client.get("before").await.unwrap().unwrap();
            assert_same("before", &before.bytes, &content(3, 50_000));
        }
    }
}

#[tokio::test]
async fn writes_that_three_targets_tear_are_right_or_missing() {
    for killed in [false, true] {
        let (_setup, daemon) = torn(&[0, 1, 2], killed).await;
        let client = daemon.client().await;
        check_what_is_left(&client).await;
        let lost = client.get("object-1048576").await;
        assert!(matches!(lost, Ok(None) | Err(Error::Unavailable)), "three of six torn: {lost:?}");
        store(&client).await;
        check(&client, "written again").await;
    }
}

/// A write that one target misses is acknowledged, and completed later.
async fn missed_writes(kind: FaultKind, duration: Duration) {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("before", content(3, 50_000)).await.unwrap();
    inject(&client, 2, kind, duration).await;
    store(&client).await;
    check(&client, &format!("written while {kind:?}")).await;
    heal(&client).await;
    wait_all_complete(&client).await;
    check(&client, "completed").await;
    let client = daemon.client().await;
    let after = client.get("before").await.unwrap().unwrap();
    assert_same("before", &after.bytes, &content(3, 50_000));
}

#[tokio::test]
async fn writes_that_a_stalled_target_misses_are_completed() {
    missed_writes(stall(Duration::from_secs(3)), LONG).await;
}

#[tokio::test]
async fn writes_that_a_full_target_misses_are_completed() {
    missed_writes(FaultKind::Full, LONG).await;
}

#[tokio::test]
async fn a_read_that_cannot_be_confirmed_says_so_and_a_strict_one_is_a_miss() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    // Three copies; two must agree that there is nothing newer.
    client.put("copies", "small").await.unwrap();
    let stat = client.stat("copies").await.unwrap().unwrap();
    assert!(stat.confirmed);
    let holders: Vec<u16> = stat.records[0].parts.iter().map(|part| part.target.shard).collect();
    assert_eq!(holders.len(), 3, "{stat:?}");
    for strict in [false, true] {
        let object = client.request();
        let object = if strict { object.strict() } else { object };
        assert!(!object.get("copies").await.unwrap().unwrap().unconfirmed);
    }
    for &shard in &holders[1..] {
        inject(&client, shard, FaultKind::Error, LONG).await;
    }
    // Their indexes still know what they hold, until their devices have failed too often.
    eventually("the failing shards are set aside", || async {
        client.request().read_policy(ReadPolicy::All).get("copies").await.unwrap().unwrap();
        let stats = client.stats().await.unwrap();
        let set_aside = |&shard: &u16| {
            stats.shards.iter().any(|known| known.shard == shard && known.state == ShardState::SetAside)
        };
        holders[1..].iter().all(set_aside).then_some(())
    })
    .await;
    let object = client.get("copies").await.unwrap().unwrap();
    assert_eq!(object.bytes, "small");
    assert!(object.unconfirmed);
    assert!(client.request().strict().get("copies").await.unwrap().is_none());
    let immutable = client.request().immutable().get("copies").await.unwrap().unwrap();
    assert!(!immutable.unconfirmed, "immutable objects need no confirmation");
    heal(&client).await;
    let stat = client.stat("copies").await.unwrap().unwrap();
    assert!(stat.records[0].parts.iter().all(|part| part.state == PartState::Present), "{stat:?}");
    assert!(client.request().strict().get("copies").await.unwrap().is_some());
}

#[tokio::test]
async fn every_kind_is_listed_as_it_was_injected_and_counted_in_the_stats() {
    let setup = Setup::new("1+1").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    let mut wanted = Vec::new();
    for info in FaultInfo::ALL {
        let kind = [(0, 0), (7, 0), (3, 5)].iter().find_map(|&(least, most)| info.kind(least, most)).unwrap();
        let elsewhere = FaultPlace::Peer("192.0.2.1:0".parse().unwrap());
        for place in [FaultPlace::Shard(1), elsewhere].into_iter().filter(|place| place.takes(kind)) {
            let fault = Fault { place, kind, share_ppm: 1, duration_ms: 300_000 };
            let answer = client.fault(&FaultRequest::Inject(fault)).await.unwrap();
            wanted.push((answer.id, fault));
        }
    }
    let listed = client.fault(&FaultRequest::List).await.unwrap().faults;
    // A stall may have ended.
    wanted.retain(|(_, fault)| !matches!(fault.kind, FaultKind::Stall { .. }));
    let found = listed.iter().filter(|active| !matches!(active.fault.kind, FaultKind::Stall { .. }));
    let found: Vec<_> = found.map(|active| (active.id, active.fault)).collect();
    assert_eq!(found, wanted);
    assert!(listed.iter().all(|active| (1..=300_000).contains(&active.remaining_ms)), "{listed:?}");
    eventually("the stats count them", || async {
        (counter(&client, "faults_active").await == wanted.len() as u64).then_some(())
    })
    .await;
    client.fault(&FaultRequest::ClearAll).await.unwrap();
    assert_eq!(counter(&client, "faults_active").await, 0);
}

#[tokio::test]
async fn so_many_faults_and_no_more() {
    let setup = Setup::new("1+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    let place = |number: usize| [FaultPlace::Shard(0), FaultPlace::Connections][number % 2];
    for number in 0..FAULTS_MAX {
        inject_at(&client, place(number), FaultKind::Delay { delay_us: 1 }, 1, LONG).await;
    }
    let more = inject_result(&client, 0).await;
    assert!(matches!(&more, Err(Error::BadRequest { message }) if message.contains("64 faults")), "{more:?}");
    assert_eq!(client.fault(&FaultRequest::List).await.unwrap().faults.len(), FAULTS_MAX);
    client.fault(&FaultRequest::ClearAll).await.unwrap();
    inject_result(&client, 0).await.unwrap();
}

#[tokio::test]
async fn faults_end_by_themselves_are_listed_and_can_be_refused() {
    let setup = Setup::new("1+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    let first = inject(&client, 0, FaultKind::Error, LONG).await;
    let second = inject(&client, 1, FaultKind::Full, Duration::from_millis(50)).await;
    assert_ne!(first, second);
    let ids = || async {
        let answer = client.fault(&FaultRequest::List).await.unwrap();
        answer.faults.iter().map(|fault| fault.id).collect::<Vec<_>>()
    };
    assert!(ids().await.contains(&first));
    eventually("the short one has ended", || async { (ids().await == [first]).then_some(()) }).await;
    client.fault(&FaultRequest::Clear { id: first }).await.unwrap();
    assert!(ids().await.is_empty());
    let fault = |shard| inject_result(&client, shard);
    assert!(matches!(fault(2).await, Err(Error::BadRequest { message }) if message.contains("shard 2")));
    drop(daemon);
    let setup = setup.no_faults();
    let daemon = setup.start();
    let client = daemon.client().await;
    let refused = inject_result(&client, 0).await;
    assert!(matches!(&refused, Err(Error::Refused { .. })), "{refused:?}");
}

async fn inject_result(client: &Client, shard: u16) -> hedgerow_client::Result<()> {
    let place = FaultPlace::Shard(shard);
    let fault = Fault { place, kind: FaultKind::Error, share_ppm: 1_000_000, duration_ms: 1000 };
    client.fault(&FaultRequest::Inject(fault)).await.map(drop)
}
