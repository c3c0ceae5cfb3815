//! A device that takes an operation and never completes it: its shard is set aside, and the daemon goes on.

use std::time::Duration;

use hedgerow_client::messages::{FaultKind, FaultRequest, PartState, ShardState};

use crate::content::{assert_same, content};
use crate::harness::{Setup, counter, eventually, inject, shard_stats, wait_complete};

const LEN: usize = 100_000;

#[tokio::test]
async fn a_shard_whose_device_never_answers_is_set_aside_until_the_next_start() {
    let setup = Setup::new("4+2").flag("--device-timeout-ms=600");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("before", content(1, LEN)).await.unwrap();
    inject(&client, 2, FaultKind::Vanish, Duration::from_secs(600)).await;
    client.put("while", content(2, LEN)).await.unwrap();
    let stuck = eventually("the shard is set aside", || async {
        let stats = shard_stats(&client, 2).await;
        (stats.state == ShardState::SetAside).then_some(stats)
    })
    .await;
    for text in ["a write", "600ms", "restart the daemon", setup.shard(2).to_str().unwrap()] {
        assert!(stuck.reason.contains(text), "'{}' does not say '{text}'", stuck.reason);
        assert!(daemon.log().contains(text), "the log does not say '{text}': {}", daemon.log());
    }
    assert_eq!(counter(&client, "shards_stuck").await, 1);
    // The device is well again, but what it did with what it took nobody knows.
    client.fault(&FaultRequest::ClearAll).await.unwrap();
    for seed in 10..30 {
        client.put(format!("{seed}"), content(seed, LEN)).await.unwrap();
        let read = client.get(format!("{seed}")).await.unwrap().unwrap();
        assert_same(seed, &read.bytes, &content(seed, LEN));
    }
    let stat = client.stat("before").await.unwrap().unwrap();
    let there = stat.records[0].parts.iter().find(|part| part.target.shard == 2).unwrap();
    assert_eq!(there.state, PartState::Unreachable, "it is answered at once: {stat:?}");
    assert_eq!(shard_stats(&client, 2).await.state, ShardState::SetAside);
    assert_eq!(counter(&client, "store_requests_under_way").await, 0, "nobody waits for it");
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    assert_eq!(shard_stats(&client, 2).await.state, ShardState::Serving);
    for (name, seed) in [("before", 1), ("while", 2), ("12", 12)] {
        assert_same(name, &client.get(name).await.unwrap().unwrap().bytes, &content(seed, LEN));
        wait_complete(&client, name).await;
    }
}

/// Nobody uses the shard: what writes its new file through finds it out.
#[tokio::test]
async fn a_device_that_never_completes_what_writes_a_file_through_is_stuck_too() {
    let setup = Setup::new("1+1").flag("--device-timeout-ms=600");
    let daemon = setup.start();
    let client = daemon.client().await;
    eventually("files are being written through", || async {
        (counter(&client, "written_through_bytes").await > 0).then_some(())
    })
    .await;
    inject(&client, 0, FaultKind::Vanish, Duration::from_secs(600)).await;
    let stuck = eventually("the shard is set aside", || async {
        let stats = shard_stats(&client, 0).await;
        (stats.state == ShardState::SetAside).then_some(stats)
    })
    .await;
    assert!(stuck.reason.contains("a write"), "{}", stuck.reason);
    assert_eq!(shard_stats(&client, 1).await.state, ShardState::Serving);
    daemon.stop();
}

#[tokio::test]
async fn operations_that_take_their_time_set_nothing_aside() {
    let setup = Setup::new("1+1").flag("--device-timeout-ms=600");
    let daemon = setup.start();
    let client = daemon.client().await;
    let slow = FaultKind::Delay { delay_us: 200_000 };
    inject(&client, 0, slow, Duration::from_secs(600)).await;
    for seed in 0..8 {
        client.put(format!("{seed}"), content(seed, LEN)).await.unwrap();
    }
    assert_eq!(counter(&client, "shards_stuck").await, 0);
    assert_eq!(shard_stats(&client, 0).await.state, ShardState::Serving);
}
