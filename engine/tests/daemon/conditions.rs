//! Conditional and concurrent writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use std::time::Duration;

use hedgerow_client::messages::{FaultKind, PartState, StatPart};
use hedgerow_client::{Client, Error, Object, Stored, Version};

use crate::content::{assert_same, content};
use crate::harness::{Setup, inject, stall};

const MIB: usize = 1 << 20;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);

#[track_caller]
fn mismatch<T: std::fmt::Debug>(result: Result<T, Error>, version: Version) {
    match result {
        Err(Error::VersionMismatch { found }) => assert_eq!(found, version),
        other => panic!("no mismatch: {other:?}"),
    }
}

#[tokio::test]
async fn a_write_on_condition_is_done_if_it_holds_and_not_otherwise() {
    let setup = Setup::new("4+2").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    let absent = Version { hlc: 77, coordinator: 3 };
    for len in [0, 100, 100_000, 3 * MIB] {
        let key = format!("{len}");
        let bytes = || content(len as u64, len);
        let on = |version| client.request().if_version(version);
        mismatch(on(absent).put(&key, bytes()).await, Version::ZERO);
        mismatch(on(absent).delete(&key).await, Version::ZERO);
        let first = client.request().if_absent().put(&key, bytes()).await.unwrap().version;
        mismatch(client.request().if_absent().put(&key, "other").await, first);
        mismatch(on(absent).put(&key, "other").await, first);
        let second = on(first).put(&key, bytes()).await.unwrap().version;
        assert!(second > first);
        mismatch(on(first).put(&key, "other").await, second);
        mismatch(on(first).delete(&key).await, second);
        assert_same(&key, &client.get(&key).await.unwrap().unwrap().bytes, &bytes());
        on(second).delete(&key).await.unwrap();
        assert!(client.get(&key).await.unwrap().is_none());
        mismatch(on(second).put(&key, "other").await, Version::ZERO);
        client.request().if_absent().put(&key, bytes()).await.unwrap();
        assert_same(&key, &client.get(&key).await.unwrap().unwrap().bytes, &bytes());
    }
}

#[tokio::test]
async fn conditions_hold_over_a_restart() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    let version = client.put("key", "first").await.unwrap().version;
    client.put("deleted", "x").await.unwrap();
    client.delete("deleted").await.unwrap();
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    mismatch(client.request().if_absent().put("key", "other").await, version);
    client.request().if_version(version).put("key", "second").await.unwrap();
    client.request().if_absent().put("deleted", "again").await.unwrap();
    assert_eq!(client.get("key").await.unwrap().unwrap().bytes, "second");
    assert_eq!(client.get("deleted").await.unwrap().unwrap().bytes, "again");
}

#[tokio::test]
async fn an_immutable_object_is_written_once() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await.request().immutable();
    for len in [0, 100, 100_000, 3 * MIB] {
        let key = format!("{len}");
        let first = client.put(&key, content(1, len)).await.unwrap();
        assert!(!first.unchanged);
        let (version, unchanged) = (first.version, true);
        for _ in 0..3 {
            let again = client.put(&key, content(2, len / 2)).await.unwrap();
            assert_eq!(again, Stored { version, unchanged });
        }
        let object = client.get(&key).await.unwrap().unwrap();
        assert_same(&key, &object.bytes, &content(1, len));
        assert_eq!((object.version, object.unconfirmed), (version, false));
        assert_eq!(client.stat(&key).await.unwrap().unwrap().version, version);
    }
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await.request().immutable();
    client.put("100", "another").await.unwrap();
    assert_same("100", &client.get("100").await.unwrap().unwrap().bytes, &content(1, 100));
}

/// Many clients want to be the first.
async fn race(
    clients: &[Client],
    key: &str,
    len: usize,
    immutable: bool,
) -> Vec<(u64, Result<Version, Error>)> {
    let mut racers = Vec::new();
    for number in 0..24u64 {
        let request = clients[number as usize % clients.len()].request();
        let request = if immutable { request.immutable() } else { request.if_absent() };
        let key = key.to_owned();
        racers.push(tokio::spawn(async move {
            let stored = request.put(&key, content(number, len)).await;
            (number, stored.map(|stored| stored.version))
        }));
    }
    let mut results = Vec::new();
    for racer in racers {
        results.push(racer.await.unwrap());
    }
    results
}

#[tokio::test]
async fn of_many_that_want_to_be_first_exactly_one_is() {
    let setup = Setup::new("4+2").memory("64M").two_cores();
    let daemon = setup.start();
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(daemon.client().await);
    }
    for round in 0..30 {
        let len = [10, 50_000, 2 * MIB + 1][round % 3];
        let key = format!("absent-{round}");
        let results = race(&clients, &key, len, false).await;
        let winners: Vec<u64> =
            results.iter().filter(|(_, result)| result.is_ok()).map(|(number, _)| *number).collect();
        assert_eq!(winners.len(), 1, "round {round}: {results:?}");
        let object = clients[0].get(&key).await.unwrap().unwrap();
        assert_same(&key, &object.bytes, &content(winners[0], len));
        for (_, result) in &results {
            if let Err(error) = result {
                assert!(
                    matches!(error, Error::VersionMismatch { found } if *found == object.version),
                    "{error}"
                );
            }
        }
        let key = format!("immutable-{round}");
        let results = race(&clients, &key, len, true).await;
        let object = clients[0].request().immutable().get(&key).await.unwrap().unwrap();
        let mut versions: Vec<Version> = results.iter().map(|(_, r)| *r.as_ref().unwrap()).collect();
        versions.dedup();
        assert_eq!(versions, [object.version], "round {round}: all are told of the one that there is");
        assert!((0..24).any(|number| object.bytes == content(number, len)));
    }
}

#[tokio::test]
async fn a_counter_that_many_count_up_misses_nothing() {
    let setup = Setup::new("2+1").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("counter", "0").await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let client = daemon.client().await;
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            while done < 25 {
                let object = client.get("counter").await.unwrap().unwrap();
                let count: u64 = std::str::from_utf8(&object.bytes).unwrap().parse().unwrap();
                let next = (count + 1).to_string();
                match client.request().if_version(object.version).put("counter", next).await {
                    Ok(_) => done += 1,
                    Err(Error::VersionMismatch { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(client.get("counter").await.unwrap().unwrap().bytes, "200");
}

/// What was written under a version: nothing for a delete.
type History = Arc<Mutex<HashMap<Version, Option<(u64, usize)>>>>;

/// Reads must give exactly what was written under the version that they say.
async fn overwrite_concurrently(setup: Setup, lengths: &'static [usize]) {
    let daemon = setup.start();
    let history = History::default();
    let mut tasks = Vec::new();
    for writer in 0..6u64 {
        let (client, history) = (daemon.client().await, history.clone());
        tasks.push(tokio::spawn(async move {
            for number in 0..40u64 {
                let seed = writer << 32 | number;
                let len = lengths[(number as usize + writer as usize) % lengths.len()];
                let deletes = number % 9 == 8;
                let written = match deletes {
                    true => client.delete("key").await,
                    false => client.put("key", content(seed, len)).await.map(|stored| stored.version),
                };
                match written {
                    Ok(version) => {
                        let value = (!deletes).then_some((seed, len));
                        assert!(history.lock().unwrap().insert(version, value).is_none(), "a version twice");
                        // Later writes only may hide it.
                        let now = client.get("key").await.unwrap();
                        let fresh = |object: Object| object.unconfirmed || object.version >= version;
                        assert!(now.is_none_or(fresh), "{version} went back");
                    }
                    Err(Error::Superseded { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    let mut seen = Vec::new();
    let client = daemon.client().await;
    while tasks.iter().any(|task| !task.is_finished()) {
        if let Some(object) = client.get("key").await.unwrap() {
            seen.push((object.version, object.bytes.clone(), object.unconfirmed));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let history = history.lock().unwrap().clone();
    for (version, bytes, _) in &seen {
        // Not in the history: a write whose acknowledgement said `superseded`.
        if let Some(value) = history.get(version) {
            let (seed, len) = value.expect("a read gave a deleted version");
            assert_same(version, bytes, &content(seed, len));
        }
    }
    // What could not be confirmed in time says so, and may be older.
    let confirmed = seen.iter().filter(|(.., unconfirmed)| !unconfirmed);
    let versions: Vec<Version> = confirmed.map(|(version, ..)| *version).collect();
    assert!(versions.is_sorted(), "one client read an older version after a newer one");
    let newest = history.iter().max_by_key(|(version, _)| **version).unwrap();
    let last = client.get("key").await.unwrap();
    match newest.1 {
        Some((seed, len)) => assert_same("last", &last.unwrap().bytes, &content(*seed, *len)),
        None => assert!(last.is_none()),
    }
}

#[tokio::test]
async fn concurrent_overwrites_of_small_objects() {
    let lengths = &[0, 10, 5000, 70_000];
    overwrite_concurrently(Setup::new("4+2").memory("64M").two_cores(), lengths).await;
}

#[tokio::test]
async fn concurrent_overwrites_of_objects_of_all_kinds_from_devices() {
    let lengths = &[10, MIB + 1, 100_000, 3 * MIB];
    overwrite_concurrently(Setup::new("4+2").two_cores(), lengths).await;
}

#[tokio::test]
async fn an_object_whose_holders_stall_is_not_absent() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    // One target of the three misses its copy of some key.
    inject(&client, 0, FaultKind::Full, LONG).await;
    let mut found = None;
    for number in 0..8 {
        let key = format!("copies-{number}");
        let version = client.put(&key, "acknowledged").await.unwrap().version;
        let stat = client.stat(&key).await.unwrap().unwrap();
        let on = |state| stat.records[0].parts.iter().filter(move |part: &&StatPart| part.state == state);
        let holders: Vec<u16> = on(PartState::Present).map(|part| part.target.shard).collect();
        if on(PartState::Absent).any(|part| part.target.shard == 0) && holders.len() == 2 {
            found = Some((key, version, holders));
            break;
        }
    }
    let (key, version, holders) = found.expect("a key of which the target says that it holds nothing");
    // Nobody remembers that it is a small object: all of its targets are asked.
    drop(client);
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    for shard in holders {
        inject(&client, shard, stall(Duration::from_secs(1)), LONG).await;
    }
    mismatch(client.request().if_absent().put(&key, "other").await, version);
}
