//! A shard whose device was replaced by a blank one: nothing that it has lost makes anything older come
//! back, and what the others hold is whole again by reads.

use std::fs;
use std::time::Duration;

use hedgerow_client::Client;
use hedgerow_client::messages::FaultKind;

use crate::content::{assert_same, content};
use crate::harness::{Setup, counter, heal, inject, wait_complete};

const KEYS: u64 = 12;
/// Copies, parts of one stripe, several stripes.
const LENGTHS: [usize; 3] = [900, 90_000, (1 << 20) + 70_000];

fn len(key: u64) -> usize {
    LENGTHS[key as usize % LENGTHS.len()]
}

async fn put_all(client: &Client, kind: &str, round: u64) {
    for key in 0..KEYS {
        client.put(format!("{kind}-{key}"), content(100 * round + key, len(key))).await.unwrap();
    }
}

/// What was kept is there, what was overwritten is new, what was deleted is gone. Says how many of the
/// overwritten ones are there: an object may be forgotten, but never be old.
async fn check(client: &Client, what: &str) -> u64 {
    let mut there = 0;
    for key in 0..KEYS {
        let kept = client.get(format!("kept-{key}")).await.unwrap();
        let kept = kept.unwrap_or_else(|| panic!("{what}: kept-{key} is gone"));
        assert_same(format!("{what}: kept-{key}"), &kept.bytes, &content(100 + key, len(key)));
        assert!(!kept.unconfirmed, "{what}: kept-{key}");
        if let Some(found) = client.get(format!("overwritten-{key}")).await.unwrap() {
            let expected = content(200 + key, len(key));
            assert_same(format!("{what}: overwritten-{key}"), &found.bytes, &expected);
            there += 1;
        }
        let deleted = client.get(format!("deleted-{key}")).await.unwrap();
        assert!(deleted.is_none(), "{what}: deleted-{key} has come back");
    }
    there
}

async fn replace_one(clean: bool) {
    let setup = Setup::new("4+2").two_cores();
    for replaced in [0usize, 4] {
        let missed = (replaced as u16 + 1) % 6;
        let daemon = setup.start();
        let client = daemon.client().await;
        for kind in ["kept", "overwritten", "deleted"] {
            put_all(&client, kind, 1).await;
        }
        // One shard misses the overwrites and deletes: it holds what is old.
        inject(&client, missed, FaultKind::Error, Duration::from_secs(300)).await;
        put_all(&client, "overwritten", 2).await;
        for key in 0..KEYS {
            client.delete(format!("deleted-{key}")).await.unwrap();
        }
        client.fault(&hedgerow_client::messages::FaultRequest::ClearAll).await.unwrap();
        if clean {
            daemon.stop();
        } else {
            daemon.kill();
        }
        fs::remove_file(setup.shard(replaced)).unwrap();
        let what = format!("shard {replaced} of 6 replaced, {missed} has missed writes, clean stop: {clean}");
        let daemon = setup.start();
        assert!(daemon.said(&format!("blank devices formatted: shards {replaced}")), "{:?}", daemon.said);
        let client = daemon.client().await;
        assert_eq!(check(&client, &what).await, KEYS, "{what}");
        for key in 0..KEYS {
            wait_complete(&client, &format!("kept-{key}")).await;
        }
        assert!(counter(&client, "coordinator_parts_repaired").await > KEYS);
        check(&client, &format!("{what}: completed")).await;
        // What was completed counts: two others may go.
        let others: Vec<u16> = (0..6).filter(|&shard| usize::from(shard) != replaced).take(2).collect();
        for &other in &others {
            inject(&client, other, FaultKind::Error, Duration::from_secs(300)).await;
        }
        for key in 0..KEYS {
            let kept = client.get(format!("kept-{key}")).await.unwrap().expect("kept");
            assert_same(format!("{what}: without {others:?}"), &kept.bytes, &content(100 + key, len(key)));
        }
        heal(&client).await;
        // The next start finds the device as it is by then.
        daemon.kill();
        let daemon = setup.start();
        assert!(!daemon.said("formatted"), "{:?}", daemon.said);
        check(&daemon.client().await, &format!("{what}: started again")).await;
        daemon.stop();
    }
}

#[tokio::test]
async fn a_replaced_shard_resurrects_nothing_and_is_filled_again() {
    replace_one(true).await;
}

#[tokio::test]
async fn a_shard_replaced_after_a_crash_resurrects_nothing_and_is_filled_again() {
    replace_one(false).await;
}
