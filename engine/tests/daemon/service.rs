//! The client's helper for the tests of services, used as such a test uses it.

use hedgerow_client::Error;
use hedgerow_client::messages::{Fault, FaultKind, FaultPlace};
use hedgerow_client::testing::{Builder, Daemon};

use crate::content::{assert_same, content};

fn builder() -> Builder {
    Daemon::builder().program(env!("CARGO_BIN_EXE_hedgerowd")).folder(env!("CARGO_TARGET_TMPDIR"))
}

#[tokio::test]
async fn a_daemon_is_harmed_killed_and_started_again() {
    let mut daemon = builder().start().unwrap();
    let cache = daemon.client().await.unwrap();
    let get = async || cache.get("object").await.unwrap().unwrap().bytes;
    cache.put("object", content(1, 100_000)).await.unwrap();

    let id = daemon.fault(Fault::new(FaultPlace::Shard(0), FaultKind::Error)).await.unwrap();
    assert_ne!(id, 0);
    assert_same("a shard fails", &get().await, &content(1, 100_000));
    daemon.fault(Fault::new(FaultPlace::Connections, FaultKind::Vanish)).await.unwrap();
    let short = cache.request().deadline(std::time::Duration::from_millis(100));
    let lost = short.get("object").await;
    assert!(matches!(lost, Err(Error::DeadlineExceeded { .. })), "{lost:?}");
    daemon.clear_faults().await.unwrap();
    assert_same("healed", &get().await, &content(1, 100_000));

    daemon.stop().unwrap();
    let stopped = short.get("object").await;
    assert!(matches!(stopped, Err(Error::DeadlineExceeded { .. })), "{stopped:?}");
    daemon.cont().unwrap();
    assert_same("continued", &get().await, &content(1, 100_000));

    let address = daemon.address();
    daemon.kill().unwrap();
    assert!(short.get("object").await.is_err());
    assert!(daemon.stop().is_err() && daemon.cont().is_err());
    daemon.restart().unwrap();
    assert_eq!(daemon.address(), address);
    assert_same("started again", &get().await, &content(1, 100_000));
    assert!(daemon.shard(2).is_file());
    let files = daemon.shard(0).parent().unwrap().to_owned();
    drop(daemon);
    assert!(!files.exists());
}

#[tokio::test]
async fn a_daemon_that_does_not_start_says_why() {
    let failed = builder().flag("--shards", "1").start().unwrap_err().to_string();
    assert!(failed.contains("did not start") && failed.contains("shard"), "{failed}");
    let none = builder().program("/no/such/program").start().unwrap_err();
    assert_eq!(none.kind(), std::io::ErrorKind::NotFound);
    let daemon = builder().code("1+1".parse().unwrap()).start().unwrap();
    let stats = daemon.client().await.unwrap().stats().await.unwrap();
    assert_eq!(stats.shards.len(), 2);
    assert_eq!(daemon.log().unwrap().lines().filter(|line| line.contains("ERROR")).count(), 0);
}
