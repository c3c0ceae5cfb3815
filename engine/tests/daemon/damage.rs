//! Damage on the devices while the daemon is away: never a wrong byte, and up to m shards cost nothing.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hedgerow_client::{Client, Error};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::content::{assert_same, content, random};
use crate::harness::{Setup, counter};

const OBJECTS: u64 = 400;

fn len(number: u64) -> usize {
    (number * number * 7 % 120_000) as usize
}

async fn store(client: &Client) {
    for number in 0..OBJECTS {
        client.put(format!("{number}"), content(number, len(number))).await.unwrap();
    }
    client.put("large", content(9999, 9 << 20)).await.unwrap();
}

/// Reads everything; says how many are there. What is there is right.
async fn check(client: &Client, what: &str) -> u64 {
    let mut there = 0;
    let names = (0..OBJECTS).map(|number| (format!("{number}"), number, len(number)));
    for (name, seed, len) in names.chain([("large".to_owned(), 9999, 9 << 20)]) {
        match client.get(&name).await {
            Ok(Some(object)) => {
                assert_same(format!("{what}: {name}"), &object.bytes, &content(seed, len));
                there += 1;
            }
            Ok(None) | Err(Error::Unavailable) => {}
            Err(error) => panic!("{what}: {name}: {error}"),
        }
    }
    there
}

/// Where something stands: the superblocks, and the slabs up to the first large hole.
const USED: u64 = 48 << 20;

fn flip(path: &Path, places: impl Iterator<Item = u64>) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    for place in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[byte[0] ^ 0x55], place).unwrap();
    }
}

fn wipe(path: &Path, from: u64, len: usize, random: &mut SmallRng) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&content(random.random(), len), from).unwrap();
}

/// Damages the file of a shard in one of several ways.
fn damage(path: &Path, kind: usize, random: &mut SmallRng) {
    match kind {
        // Single bytes, anywhere behind the superblocks.
        0 => flip(
            path,
            (0..2000).map(|_| random.random_range(128 << 10..USED)).collect::<Vec<_>>().into_iter(),
        ),
        // The header of the first slab, and the start of its parts.
        1 => flip(path, (0..20).map(|n| (128 << 10) + n * 400)),
        // Two of three superblocks, one of them torn.
        2 => {
            flip(path, [50, 4096 + 100].into_iter());
            wipe(path, 4096 + 512, 3584, random);
        }
        // A long run in the middle of a slab.
        3 => wipe(path, 1 << 20, 2 << 20, random),
        // The end of the first slab, where its contents are.
        _ => wipe(path, (128 << 10) + (32 << 20) - (256 << 10), 256 << 10, random),
    }
}

#[tokio::test]
async fn any_damage_to_two_shards_of_six_costs_nothing() {
    let mut random = random("any_damage_to_two_shards_of_six_costs_nothing");
    let setup = Setup::new("4+2");
    for kind in 0..5 {
        let daemon = setup.start();
        let client = daemon.client().await;
        store(&client).await;
        if kind % 2 == 0 {
            daemon.stop();
        } else {
            daemon.kill();
        }
        let first = random.random_range(0..6);
        let second = (first + random.random_range(1..6)) % 6;
        for shard in [first, second] {
            damage(&setup.shard(shard), kind, &mut random);
        }
        let what = format!("damage {kind} to the shards {first} and {second}");
        let daemon = setup.start();
        let client = daemon.client().await;
        assert!(!daemon.said("set aside"), "{what}: {:?}", daemon.said);
        assert_eq!(check(&client, &what).await, OBJECTS + 1, "{what}");
        daemon.stop();
    }
}

#[tokio::test]
async fn damage_to_all_shards_gives_misses_and_no_wrong_bytes() {
    let mut random = random("damage_to_all_shards_gives_misses_and_no_wrong_bytes");
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    store(&client).await;
    daemon.kill();
    for shard in 0..6 {
        for kind in [0, 1, 3] {
            damage(&setup.shard(shard), kind, &mut random);
        }
    }
    let daemon = setup.start();
    let client = daemon.client().await;
    let there = check(&client, "damaged everywhere").await;
    println!("{there} of {} are left", OBJECTS + 1);
    assert!(there < OBJECTS, "the damage has struck nothing");
    store(&client).await;
    assert_eq!(check(&client, "written again").await, OBJECTS + 1);
    assert!(counter(&client, "store_parts_damaged").await > 0);
}
