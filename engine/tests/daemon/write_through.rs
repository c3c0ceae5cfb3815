//! New files are written through in the background, and nothing that is stored meanwhile suffers.

use crate::content::{assert_same, content};
use crate::harness::{Setup, counter, eventually};

const SLAB_BYTES: u64 = 32 << 20;

#[tokio::test]
async fn new_files_are_written_through_and_nothing_stored_is_touched() {
    let setup = Setup::new("1+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    let mut stored = 0;
    // Past the end of the first slabs of both shards, so that slabs were lent, given back and lent again.
    while counter(&client, "written_through_bytes").await < 3 * SLAB_BYTES {
        let len = 1000 + (stored as usize * 7919) % 300_000;
        client.put(format!("{stored}"), content(stored, len)).await.unwrap();
        stored += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let check = |client: hedgerow_client::Client, stored: u64| async move {
        for seed in 0..stored {
            let len = 1000 + (seed as usize * 7919) % 300_000;
            let read = client.get(format!("{seed}")).await.unwrap().unwrap();
            assert_same(format!("object {seed}"), &read.bytes, &content(seed, len));
        }
    };
    check(client.clone(), stored).await;
    // A kill in the middle of it, and a clean stop.
    daemon.kill();
    let daemon = setup.start();
    check(daemon.client().await, stored).await;
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    check(client.clone(), stored).await;
    // Only new files are.
    eventually("the daemon is up for long enough", || async {
        let stats = client.stats().await.unwrap();
        (stats.uptime_ms > 3000).then_some(())
    })
    .await;
    assert_eq!(counter(&client, "written_through_bytes").await, 0);
}
