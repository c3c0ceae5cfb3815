//! What is on the device of one shard is exchanged, put back to what it was, or lost while the daemon is away:
//! no answer is wrong, nothing old is taken for new, and what the others hold is there.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hedgerow_client::Client;
use rand::Rng;

use crate::content::{content, random};
use crate::harness::{Daemon, Setup, counter, shard_stats};

/// Of each kind: more than a hundred parts on each shard.
const KEYS: u64 = 48;
const SHARDS: usize = 6;
/// Bytes of a shard's file that hold something, the first two slabs among them.
const USED: usize = 66 << 20;
const SLABS_START: u64 = 128 << 10;
const SLAB: u64 = 32 << 20;

/// Copies, parts of one stripe, several stripes.
fn len(key: u64) -> usize {
    [900, 20_000, 90_000, (1 << 20) + 70_000][key as usize % 4]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    BytesFlipped,
    PartsSwapped,
    SlabsSwapped,
    OlderCopy,
    BlocksZeroed,
    OtherDaemon,
    OtherShard,
    Halved,
    Emptied,
}

const DAMAGES: [Damage; 9] = [
    Damage::BytesFlipped,
    Damage::PartsSwapped,
    Damage::SlabsSwapped,
    Damage::OlderCopy,
    Damage::BlocksZeroed,
    Damage::OtherDaemon,
    Damage::OtherShard,
    Damage::Halved,
    Damage::Emptied,
];

fn read(path: &Path, from: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(path).unwrap().read_exact_at(&mut bytes, from).unwrap();
    bytes
}

fn write(path: &Path, from: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, from).unwrap();
}

/// Damages the file of a shard. `older` is the beginning of what it was, `others` are files that are not its own.
fn damage(kind: Damage, path: &Path, older: &[u8], others: [&Path; 2]) {
    let swap = |a: u64, b: u64, len: usize| {
        let (bytes_a, bytes_b) = (read(path, a, len), read(path, b, len));
        write(path, a, &bytes_b);
        write(path, b, &bytes_a);
    };
    match kind {
        Damage::BytesFlipped => {
            let mut bytes = read(path, SLABS_START, USED - SLABS_START as usize);
            bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 0x20);
            write(path, SLABS_START, &bytes);
        }
        Damage::PartsSwapped => {
            for piece in 0..200 {
                let at = SLABS_START + 4096 + piece * 32_768;
                swap(at, at + 16_384, 8192);
            }
        }
        Damage::SlabsSwapped => swap(SLABS_START, SLABS_START + SLAB, SLAB as usize),
        Damage::OlderCopy => write(path, 0, older),
        Damage::BlocksZeroed => {
            for block in (SLABS_START..USED as u64).step_by(3 * 4096) {
                write(path, block, &[0; 4096]);
            }
        }
        Damage::OtherDaemon => write(path, 0, &read(others[0], 0, USED)),
        Damage::OtherShard => write(path, 0, &read(others[1], 0, USED)),
        Damage::Halved | Damage::Emptied => {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let len = file.metadata().unwrap().len();
            file.set_len(if kind == Damage::Halved { len / 2 } else { 0 }).unwrap();
        }
    }
}

async fn put_all(client: &Client, kind: &str, round: u64) {
    for key in 0..KEYS {
        let bytes = content(1000 * round + key, len(key));
        client.put(format!("{kind}-{key}"), bytes).await.unwrap();
    }
}

fn end(daemon: Daemon, clean: bool) {
    if clean { daemon.stop() } else { daemon.kill() }
}

/// What was found of the objects.
#[derive(Default, Debug)]
struct Found {
    right: u64,
    missing: u64,
    unconfirmed: u64,
    old_as_new: u64,
    wrong: u64,
}

async fn check(client: &Client) -> Found {
    let mut found = Found::default();
    for key in 0..KEYS {
        for (kind, round) in [("kept", 1), ("overwritten", 2), ("deleted", 0)] {
            let object = client.get(format!("{kind}-{key}")).await.unwrap();
            let old = kind != "kept"
                && object.as_ref().is_some_and(|object| object.bytes == content(1000 + key, len(key)));
            let right = match &object {
                Some(object) => round > 0 && object.bytes == content(1000 * round + key, len(key)),
                None => kind == "deleted",
            };
            let unconfirmed = object.as_ref().is_some_and(|object| object.unconfirmed);
            found.right += u64::from(right);
            found.unconfirmed += u64::from(unconfirmed);
            found.missing += u64::from(!right && object.is_none());
            found.old_as_new += u64::from(old && !unconfirmed);
            found.wrong += u64::from(!right && !old && object.is_some());
        }
    }
    found
}

async fn exchange(clean: bool) {
    let ending = if clean { "clean stop" } else { "SIGKILL" };
    let mut random = random("exchange");
    println!("| {ending} | right | missing | unconfirmed | old as new | wrong | how it was found |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    let other = Setup::new("4+2");
    let stranger = other.start();
    put_all(&stranger.client().await, "kept", 7).await;
    stranger.stop();
    for kind in DAMAGES {
        let setup = Setup::new("4+2");
        let victim = random.random_range(0..SHARDS);
        let daemon = setup.start();
        let client = daemon.client().await;
        for kind in ["kept", "overwritten", "deleted"] {
            put_all(&client, kind, 1).await;
        }
        end(daemon, clean);
        let older = read(&setup.shard(victim), 0, USED);
        let daemon = setup.start();
        let client = daemon.client().await;
        put_all(&client, "overwritten", 2).await;
        for key in 0..KEYS {
            client.delete(format!("deleted-{key}")).await.unwrap();
        }
        end(daemon, clean);
        let others = [&*other.shard(victim), &*setup.shard((victim + 1) % SHARDS)];
        damage(kind, &setup.shard(victim), &older, others);
        let what = format!("{kind:?} on shard {victim} after a {ending}");
        let daemon = setup.start();
        let client = daemon.client().await;
        let found = check(&client).await;
        let parts = shard_stats(&client, ((victim + 1) % SHARDS) as u16).await.parts;
        assert!(parts >= 100, "{parts} parts on a shard");
        let mut how: Vec<String> = ["set aside", "devices formatted"]
            .into_iter()
            .filter(|text| daemon.said(text))
            .map(|text| format!("said at start: {text}"))
            .collect();
        for name in ["store_parts_damaged", "coordinator_parts_repaired"] {
            how.push(format!("{name} {}", counter(&client, name).await));
        }
        println!(
            "| {kind:?} | {} | {} | {} | {} | {} | {} |",
            found.right,
            found.missing,
            found.unconfirmed,
            found.old_as_new,
            found.wrong,
            how.join(", ")
        );
        assert_eq!((found.old_as_new, found.wrong), (0, 0), "{what}: {found:?}");
        assert_eq!(found.right, 3 * KEYS, "{what}: one shard of six costs nothing: {found:?}");
        let refused = [Damage::OtherDaemon, Damage::OtherShard, Damage::Halved].contains(&kind);
        assert_eq!(daemon.said("set aside"), refused, "{what}: {:?}", daemon.said);
        end(daemon, clean);
        fs::remove_dir_all(setup.data()).unwrap();
    }
}

#[tokio::test]
async fn one_shard_exchanged_after_a_kill_serves_nothing_old() {
    exchange(false).await;
}

#[tokio::test]
async fn one_shard_exchanged_after_a_clean_stop_serves_nothing_old() {
    exchange(true).await;
}
