//! Codes other than 4+2, and other divisions of the machine.

use hedgerow_client::Client;
use hedgerow_client::messages::FaultKind;

use crate::content::{assert_same, content};
use crate::harness::{BOUND, Daemon, Setup, heal, inject, machine_cores, wait_complete};

const LENGTHS: [usize; 12] =
    [0, 1, 4096, 16_383, 16_384, 32_767, 32_768, 163_839, 163_840, 1 << 20, (1 << 20) + 1, 5_000_000];

async fn store(client: &Client) {
    for len in LENGTHS {
        client.put(format!("{len}"), content(len as u64, len)).await.unwrap();
    }
}

async fn check_all(client: &Client, what: &str) {
    for len in LENGTHS {
        let object = client.get(format!("{len}")).await;
        let object = object.unwrap_or_else(|error| panic!("{what}: {len} bytes: {error}"));
        let object = object.unwrap_or_else(|| panic!("{what}: {len} bytes: a miss"));
        assert_same(format!("{what}: {len} bytes"), &object.bytes, &content(len as u64, len));
        if len > 2 {
            let (from, to) = (len / 3, len / 3 + len / 2);
            let part = client.get_range(format!("{len}"), from as u64..to as u64).await.unwrap().unwrap();
            assert_same(format!("{what}: {from}..{to}"), &part.bytes, &content(len as u64, len)[from..to]);
        }
    }
}

/// Stores, loses as many targets as the code allows, starts again, in every way that matters.
async fn check(setup: Setup) -> Daemon {
    let m = setup.code.m() as u16;
    let daemon = setup.start();
    let client = daemon.client().await;
    store(&client).await;
    check_all(&client, "healthy").await;
    let n = setup.shards as u16;
    for first in 0..n {
        for shard in 0..m {
            inject(&client, (first + shard) % n, FaultKind::Error, BOUND).await;
        }
        check_all(&client, &format!("{m} targets from {first} on lost")).await;
        heal(&client).await;
    }
    for len in LENGTHS {
        wait_complete(&client, &format!("{len}")).await;
    }
    daemon.stop();
    let daemon = setup.start();
    check_all(&daemon.client().await, "started again").await;
    daemon.kill();
    // Files of shards that are gone for good are made anew. They cannot say that nothing newer was on them,
    // so that more of them than the spare of a quorum leave what the others hold unconfirmed.
    for shard in 0..setup.code.n() - setup.code.write_quorum() {
        std::fs::remove_file(setup.shard(shard)).unwrap();
    }
    let daemon = setup.start();
    check_all(&daemon.client().await, "with new shards").await;
    drop(setup);
    daemon
}

#[tokio::test]
async fn one_part_without_parity() {
    check(Setup::new("1+0")).await;
}

#[tokio::test]
async fn striped_without_parity() {
    check(Setup::new("3+0")).await;
}

#[tokio::test]
async fn three_copies() {
    check(Setup::new("1+2")).await;
}

#[tokio::test]
async fn two_and_one() {
    check(Setup::new("2+1").two_cores()).await;
}

#[tokio::test]
async fn ten_and_four_on_fourteen_shards() {
    check(Setup::new("10+4").two_cores().memory("64M")).await;
}

#[tokio::test]
async fn more_shards_than_parts() {
    let setup = Setup::with_shards("2+2".parse().unwrap(), 9).two_cores();
    check(setup).await;
}

#[tokio::test]
async fn a_core_that_only_coordinates() {
    if machine_cores() < 2 {
        println!("skipped: this machine has one core");
        return;
    }
    let daemon = check(Setup::new("4+2").two_cores().memory("64M").flag("--coordinators=1")).await;
    assert!(daemon.said("1 coordinate"), "{:?}", daemon.said);
}
