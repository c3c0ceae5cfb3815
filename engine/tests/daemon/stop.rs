//! SIGTERM: what is under way is finished, the indexes are left behind, and the next start uses them.

use std::time::Duration;

use hedgerow_client::Error;

use crate::content::{assert_same, content};
use crate::harness::{Setup, counter, eventually, inject, stall};
use crate::raw::{Raw, get, key, request};
use hedgerow_client::messages::FaultKind;
use hedgerow_wire::frame::{Op, Status};

#[tokio::test]
async fn a_clean_stop_leaves_snapshots_that_the_next_start_uses_up() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    for number in 0..300u64 {
        client.put(format!("{number}"), content(number, number as usize * 100)).await.unwrap();
    }
    daemon.stop();
    assert_eq!(setup.snapshots(), 6);
    let daemon = setup.start();
    assert!(daemon.said("6 of 6 shards from snapshots"), "{:?}", daemon.said);
    assert_eq!(setup.snapshots(), 0, "a snapshot is good for one start");
    let client = daemon.client().await;
    for number in 0..300u64 {
        let object = client.get(format!("{number}")).await.unwrap().unwrap();
        assert_same(number, &object.bytes, &content(number, number as usize * 100));
    }
    daemon.kill();
    let daemon = setup.start();
    assert!(daemon.said("0 of 6 shards from snapshots"), "{:?}", daemon.said);
    let client = daemon.client().await;
    assert!(client.get("299").await.unwrap().is_some());
}

#[tokio::test]
async fn snapshots_that_are_damaged_or_of_another_time_are_not_believed() {
    let setup = Setup::new("2+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", "first").await.unwrap();
    client.put("other", "kept").await.unwrap();
    daemon.stop();
    let path = |shard: usize| setup.data().join(format!("shard-{shard}.index"));
    let old: Vec<Vec<u8>> = (0..3).map(|shard| std::fs::read(path(shard)).unwrap()).collect();
    for (shard, bytes) in old.iter().enumerate() {
        let mut damaged = bytes.clone();
        match shard {
            0 => damaged[bytes.len() / 2] ^= 1,
            1 => damaged.truncate(bytes.len() - 100),
            _ => damaged.clear(),
        }
        std::fs::write(path(shard), damaged).unwrap();
    }
    let daemon = setup.start();
    assert!(daemon.said("0 of 3 shards from snapshots"), "{:?}", daemon.said);
    let client = daemon.client().await;
    assert_eq!(client.get("object").await.unwrap().unwrap().bytes, "first");
    client.put("object", "second").await.unwrap();
    daemon.stop();
    // The snapshots of the stop before: right by themselves, and wrong by now.
    for (shard, bytes) in old.iter().enumerate() {
        std::fs::write(path(shard), bytes).unwrap();
    }
    let daemon = setup.start();
    let client = daemon.client().await;
    assert_eq!(client.get("object").await.unwrap().unwrap().bytes, "second");
    assert_eq!(client.get("other").await.unwrap().unwrap().bytes, "kept");
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_what_comes_then_is_refused() {
    let setup = Setup::new("2+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", content(1, 100_000)).await.unwrap();
    for shard in 0..3 {
        inject(&client, shard, stall(Duration::from_secs(2)), Duration::from_secs(2)).await;
    }
    let mut raw = Raw::greeted(daemon.address);
    raw.send(&get(7), Some(&key("object")), &[]);
    eventually("the read is under way", || async {
        let stats = client.stats().await.unwrap();
        stats.shards.iter().any(|shard| shard.in_flight > 0).then_some(())
    })
    .await;
    daemon.terminate();
    eventually("it says that it stops", || async { daemon.log().contains("stopping").then_some(()) }).await;
    // It may close before it reads this one; if it answers, it says why not.
    raw.send(&request(Op::Stats, 8), None, &[]);
    let mut statuses = Vec::new();
    while let Some(frame) = raw.receive() {
        if frame.header.request_id == 7 {
            assert_same("drained", &frame.body, &content(1, 100_000));
        }
        statuses.push((frame.header.request_id, frame.header.status));
    }
    assert!(statuses.contains(&(7, Status::Ok)), "{statuses:?}");
    assert!(!statuses.contains(&(8, Status::Ok)), "{statuses:?}");
    assert!(daemon.wait().success());
    let refused = client.request().deadline(Duration::from_millis(300)).get("object").await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    let mut writers = Vec::new();
    for writer in 0..8u64 {
        let client = client.clone();
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let seed = writer << 32 | number;
                match client.put(format!("{seed}"), content(seed, 20_000)).await {
                    Ok(_) => acknowledged.push(seed),
                    Err(Error::ShuttingDown | Error::Indeterminate { .. }) => break,
                    Err(Error::Disconnected { .. } | Error::Connect { .. }) => {
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        }));
    }
    eventually("some are written", || async { (counter(&client, "frames.put").await > 300).then_some(()) })
        .await;
    daemon.stop();
    let daemon = setup.start();
    assert!(daemon.said("6 of 6 shards from snapshots"), "{:?}", daemon.said);
    let after = daemon.client().await;
    let mut count = 0;
    for writer in writers {
        for seed in writer.await.unwrap() {
            let object =
                after.get(format!("{seed}")).await.unwrap().unwrap_or_else(|| panic!("{seed} is lost"));
            assert_same(seed, &object.bytes, &content(seed, 20_000));
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
}

#[tokio::test]
async fn a_stop_with_a_device_that_never_comes_back_ends_all_the_same() {
    let setup = Setup::new("2+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("object", content(1, 100_000)).await.unwrap();
    inject(&client, 1, FaultKind::Vanish, Duration::from_secs(600)).await;
    client.put("other", content(2, 100_000)).await.unwrap();
    daemon.terminate();
    assert!(daemon.wait().success());
    let daemon = setup.start();
    let client = daemon.client().await;
    for (name, seed) in [("object", 1), ("other", 2)] {
        assert_same(name, &client.get(name).await.unwrap().unwrap().bytes, &content(seed, 100_000));
    }
}
