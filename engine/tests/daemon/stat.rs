//! What stat says of objects when targets do not answer, and after other shapes of the same key.

use std::time::Duration;

use hedgerow_client::messages::{FaultKind, PartState};
use hedgerow_client::{Client, Code};

use crate::content::content;
use crate::harness::{Setup, complete, inject, stall};

const LONG: Duration = Duration::from_secs(300);
const MIB: usize = 1 << 20;

#[tokio::test]
async fn targets_that_do_not_answer_are_told() {
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    for (key, len) in [("small", 9), ("one", 300_000), ("large", 8 * MIB)] {
        client.put(key, content(1, len)).await.unwrap();
    }
    // The parts are read from the devices, not from slabs that are still open.
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    inject(&client, 0, stall(LONG), LONG).await;
    inject(&client, 3, FaultKind::Error, LONG).await;
    let request = client.request().deadline(Duration::from_secs(5));
    for (key, records, copies) in [("small", 1, 3), ("one", 1, 6), ("large", 9, 6)] {
        let stat = request.stat(key).await.unwrap().unwrap();
        assert_eq!(stat.records.len(), records, "{key}");
        for (number, record) in stat.records.iter().enumerate() {
            let n = if key == "large" && number == 0 { 3 } else { copies };
            assert_eq!(record.parts.len(), n, "{key}, record {number}");
            for part in &record.parts {
                let struck = [0, 3].contains(&part.target.shard);
                assert_eq!(part.state != PartState::Present, struck, "{key}, record {number}: {part:?}");
                if part.target.shard == 0 {
                    assert_eq!(part.state, PartState::Unreachable);
                }
            }
        }
    }
}

async fn check(client: &Client, key: &str, len: usize, code: &str) {
    let stat = client.stat(key).await.unwrap().unwrap();
    let code: Code = code.parse().unwrap();
    assert_eq!((stat.object_len, stat.code), (len as u64, code), "{key}, {len} bytes");
    let last = stat.records.last().unwrap();
    assert_eq!((last.code, last.parts.len()), (code, code.n()), "{key}, {len} bytes: {stat:#?}");
    assert!(complete(&stat), "{key}, {len} bytes: {stat:#?}");
}

#[tokio::test]
async fn only_parts_of_the_present_version_count() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    let shapes = [(9, "1+2"), (40_000, "2+2"), (300_000, "4+2"), (3 * MIB, "4+2")];
    for (before, _) in shapes {
        for (len, code) in shapes {
            for deleted in [false, true] {
                let key = format!("{before}-{len}-{deleted}");
                client.put(&key, content(1, before)).await.unwrap();
                if deleted {
                    client.delete(&key).await.unwrap();
                }
                client.put(&key, content(2, len)).await.unwrap();
                crate::harness::wait_complete(&client, &key).await;
                check(&client, &key, len, code).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_left_of_an_older_version_is_told_as_such() {
    let setup = Setup::new("4+2");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("key", content(1, 300_000)).await.unwrap();
    let before = client.stat("key").await.unwrap().unwrap();
    // One of the targets misses the overwriting, of another shape.
    let missing = before.records[0].parts[1].target.shard;
    inject(&client, missing, FaultKind::Full, LONG).await;
    let version = client.put("key", content(2, 9)).await.unwrap().version;
    let stat = client.stat("key").await.unwrap().unwrap();
    assert_eq!((stat.version, stat.code.to_string()), (version, "1+2".to_owned()));
    let states: Vec<PartState> = stat.records[0].parts.iter().map(|part| part.state).collect();
    assert_eq!(states, [PartState::Present, PartState::Older, PartState::Present]);
    assert_eq!(stat.records[0].parts[1].version, before.version);
}
