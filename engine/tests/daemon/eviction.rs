//! Several times as much as fits: what is there is right, what is read stays longer, memory is bounded.

use std::time::Duration;

use hedgerow_client::{Client, Error};
use rand::Rng;

use crate::content::{assert_same, content, random};
use crate::harness::{Setup, counter, eventually};

/// User bytes that fit on three shards of 256 MiB with the code 2+1, roughly.
const CAPACITY: usize = 420 << 20;
const LEN: usize = 400_000;
const HOT: u64 = 60;

async fn there(client: &Client, number: u64) -> bool {
    match client.get(format!("{number}")).await {
        Ok(Some(object)) => {
            assert_same(number, &object.bytes, &content(number, len(number)));
            true
        }
        Ok(None) | Err(Error::Unavailable) => false,
        Err(error) => panic!("{number}: {error}"),
    }
}

/// Some have several stripes.
fn len(number: u64) -> usize {
    if number % 37 == 5 { 3_000_000 } else { LEN + number as usize % 5000 }
}

#[tokio::test]
async fn three_times_as_much_as_fits() {
    let mut random = random("three_times_as_much_as_fits");
    let setup = Setup::new("2+1").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await.request().deadline(Duration::from_secs(30));
    let plain = daemon.client().await;
    let mut written = 0;
    let mut number = 0;
    while written < 3 * CAPACITY {
        client.put(format!("{number}"), content(number, len(number))).await.unwrap();
        written += len(number);
        number += 1;
        if number > HOT && number % 40 == 0 {
            for hot in 0..HOT {
                there(&plain, hot).await;
            }
            // Somebody reads what is there, too.
            there(&plain, random.random_range(HOT..number)).await;
        }
    }
    assert!(counter(&plain, "store_slabs_evicted").await > 0, "nothing was evicted");
    let (mut hot, mut cold, mut recent) = (0, 0, 0);
    for one in 0..number {
        let is = u64::from(there(&plain, one).await);
        match one {
            _ if one < HOT => hot += is,
            // Written when the hot ones were.
            _ if one < 6 * HOT => cold += is,
            _ if one >= number - HOT => recent += is,
            _ => {}
        }
    }
    println!("of {number} objects: {hot} of {HOT} hot, {cold} of {} cold, {recent} of {HOT} recent", 5 * HOT);
    assert!(hot * 5 > cold, "hot objects do not survive more often than cold ones");
    assert!(hot >= HOT / 2, "{hot} of {HOT} hot objects are left");
    assert_eq!(recent, HOT, "what was written last was evicted");
    assert!(daemon.resident_bytes() < 1 << 30, "{} MiB", daemon.resident_bytes() >> 20);
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    for one in number - HOT..number {
        assert!(there(&client, one).await, "{one} was not there after a restart");
    }
    for _ in 0..200 {
        there(&client, random.random_range(0..number)).await;
    }
}

#[tokio::test]
async fn deleted_and_overwritten_objects_do_not_come_back_by_eviction() {
    let setup = Setup::new("1+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    // Old values lie in the oldest slabs, deletes and new values in later ones.
    for number in 0..200u64 {
        client.put(format!("deleted-{number}"), content(number, 50_000)).await.unwrap();
        client.put(format!("changed-{number}"), content(number, 50_000)).await.unwrap();
    }
    for number in 0..200u64 {
        client.delete(format!("deleted-{number}")).await.unwrap();
        client.put(format!("changed-{number}"), content(number + 1000, 50_000)).await.unwrap();
    }
    let check = |client: Client, round: u64| async move {
        for number in 0..200u64 {
            let deleted = client.get(format!("deleted-{number}")).await.unwrap();
            assert!(deleted.is_none(), "round {round}: deleted-{number} came back");
            if let Some(object) = client.get(format!("changed-{number}")).await.unwrap() {
                assert_same(number, &object.bytes, &content(number + 1000, 50_000));
            }
        }
    };
    for round in 0..4u64 {
        for number in 0..100u64 {
            client.put(format!("fill-{round}-{number}"), content(number, 1 << 20)).await.unwrap();
        }
        check(client.clone(), round).await;
    }
    assert!(counter(&client, "store_slabs_evicted").await > 0, "nothing was evicted");
    daemon.kill();
    let daemon = setup.start();
    check(daemon.client().await, 99).await;
}

#[tokio::test]
async fn the_memory_tier_is_bounded() {
    let setup = Setup::new("2+1").memory("32M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    for number in 0..300u64 {
        client.put(format!("{number}"), content(number, len(number))).await.unwrap();
    }
    for number in 0..300 {
        assert!(there(&client, number).await);
    }
    assert!(counter(&client, "memory_bytes").await <= 32 << 20);
    assert!(counter(&client, "memory_evicted").await > 0);
    eventually("some come from memory", || async {
        client.get("299").await.unwrap().unwrap().from_memory.then_some(())
    })
    .await;
}
