//! Objects of every size around every boundary come back as they were, from wherever they are read.

use std::collections::BTreeSet;

use bytes::Bytes;
use hedgerow_client::{Body, Client, Error};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::content::{assert_same, content, random};
use crate::harness::{Setup, eventually};

const MIB: usize = 1 << 20;

/// Lengths around each boundary of the way of an object: blocks (with the part's head before the
/// bytes), the smallest part times k, stripes, the initial credit, slabs, the limit.
fn lengths(random: &mut SmallRng) -> Vec<usize> {
    let around = |center: usize| [center.saturating_sub(1), center, center + 1];
    // Keys have 5 bytes here.
    let head = 192 + 4 + 5;
    let mut all: BTreeSet<usize> = BTreeSet::new();
    for center in [1, 64, 4096, 4096 - head, 2 * 4096 - head, 3 * 4096 - head, 65_536] {
        all.extend(around(center));
    }
    all.extend((1..=5).flat_map(|k| around(k * (16 << 10))));
    all.extend((1..=5).flat_map(|stripes| around(stripes * MIB)));
    for _ in 0..25 {
        let most = 1 << random.random_range(0..22);
        all.insert(random.random_range(0..=most));
    }
    all.into_iter().collect()
}

/// An object's key (always 5 bytes) and content.
fn object(len: usize) -> (String, Vec<u8>) {
    (format!("{len:05x}"), content(len as u64, len))
}

/// Stores in each of the ways that there are.
async fn store(client: &Client, number: usize, len: usize) {
    let (key, bytes) = object(len);
    let stored = match number % 3 {
        0 => client.put(&key, bytes).await,
        1 => client.put_stream(&key, Body::from(Bytes::from(bytes))).await,
        _ => client.put_stream(&key, Body::reader(bytes.as_slice())).await,
    };
    stored.unwrap_or_else(|error| panic!("{len} bytes: {error}"));
}

async fn check_whole(client: &Client, len: usize, from_memory: Option<bool>) {
    let (key, bytes) = object(len);
    let object = client.get(&key).await.unwrap().unwrap_or_else(|| panic!("{len} bytes: gone"));
    assert_same(format!("{len} bytes"), &object.bytes, &bytes);
    assert_eq!((object.object_len, object.offset, object.len), (len as u64, 0, len as u64));
    assert!(!object.unconfirmed, "{len} bytes: unconfirmed");
    if let Some(from_memory) = from_memory {
        assert_eq!(object.from_memory, from_memory, "{len} bytes");
    }
}

/// What was read whole from devices comes from memory before long, if there is any.
async fn check_filled(client: &Client, len: usize, memory: bool) {
    if memory && len <= MIB {
        eventually(format!("{len} bytes come from memory"), || async {
            check_whole(client, len, None).await;
            client.get(object(len).0).await.unwrap().unwrap().from_memory.then_some(())
        })
        .await;
    } else if !memory {
        check_whole(client, len, Some(false)).await;
    }
}

async fn check_stream(client: &Client, len: usize) {
    let (key, bytes) = object(len);
    let mut stream = client.get_stream(&key).await.unwrap().unwrap();
    let mut got = Vec::with_capacity(len);
    while let Some(piece) = stream.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert_same(format!("{len} bytes, streamed"), &got, &bytes);
}

async fn check_ranges(client: &Client, len: usize, random: &mut SmallRng) {
    let (key, bytes) = object(len);
    let mut ranges = vec![(0, 1), (len.saturating_sub(1), len), (0, len + 1000), (len / 2, len)];
    for _ in 0..4 {
        let start = random.random_range(0..len.max(1));
        ranges.push((start, start + random.random_range(1..=len.max(1))));
    }
    let edges = [4096, 16 << 10, 64 << 10, MIB, 2 * MIB];
    ranges.extend(edges.into_iter().filter(|edge| edge + 1 < len).map(|edge| (edge - 1, edge + 1)));
    for (start, end) in ranges {
        let what = format!("{len} bytes, of them {start}..{end}");
        let read = client.get_range(&key, start as u64..end as u64).await;
        if start >= len && len > 0 || end <= start {
            continue;
        }
        let object = read.unwrap_or_else(|error| panic!("{what}: {error}")).unwrap();
        assert_same(&what, &object.bytes, &bytes[start..end.min(len)]);
        assert_eq!((object.object_len, object.offset), (len as u64, start as u64), "{what}");
    }
    for start in [len, len + 1, len + MIB] {
        let read = client.get_range(&key, start as u64..start as u64 + 10).await;
        match read {
            Ok(Some(object)) if len == 0 && start == 0 => assert!(object.bytes.is_empty()),
            Err(Error::RangeNotSatisfiable { object_len }) => assert_eq!(object_len, len as u64),
            other => panic!("{len} bytes, from {start}: {other:?}"),
        }
    }
}

async fn check(name: &str, setup: Setup, memory: bool) {
    let mut random = random(name);
    let lengths = lengths(&mut random);
    let daemon = setup.start();
    let client = daemon.client().await;
    for (number, &len) in lengths.iter().enumerate() {
        store(&client, number, len).await;
        // A write stays in the memory tier; small ones for sure, all of a stream not.
        check_whole(&client, len, (len < MIB).then_some(memory)).await;
        check_ranges(&client, len, &mut random).await;
        check_stream(&client, len).await;
    }
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    for &len in &lengths {
        check_ranges(&client, len, &mut random).await;
        check_whole(&client, len, None).await;
        check_filled(&client, len, memory).await;
    }
    daemon.kill();
    let daemon = setup.start();
    let client = daemon.client().await;
    for &len in &lengths {
        check_whole(&client, len, (len < MIB).then_some(false)).await;
        check_stream(&client, len).await;
    }
}

#[tokio::test]
async fn every_length_from_devices_on_one_core() {
    check("every_length_from_devices_on_one_core", Setup::new("4+2"), false).await;
}

#[tokio::test]
async fn every_length_from_memory_on_two_cores() {
    let setup = Setup::new("4+2").memory("256M").two_cores();
    check("every_length_from_memory_on_two_cores", setup, true).await;
}

#[tokio::test]
async fn the_largest_objects() {
    let mut random = random("the_largest_objects");
    let setup = Setup::new("4+2").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    // 32 MiB is the length of a slab, 64 MiB the limit.
    let lengths = [32 * MIB - 1, 32 * MIB, 32 * MIB + 1, 64 * MIB - 1, 64 * MIB];
    for (number, len) in lengths.into_iter().enumerate() {
        store(&client, number, len).await;
        check_whole(&client, len, None).await;
        check_ranges(&client, len, &mut random).await;
    }
    let too_large = client.put("large", vec![7; 64 * MIB + 1]).await;
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    assert!(client.get("large").await.unwrap().is_none());
    daemon.stop();
    let daemon = setup.start();
    let client = daemon.client().await;
    for len in lengths {
        check_stream(&client, len).await;
    }
}

#[tokio::test]
async fn a_stream_of_unknown_length_beyond_the_limit_is_refused() {
    let setup = Setup::new("2+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    let endless = vec![7; 64 * MIB + 1];
    let refused = client.put_stream("large", Body::reader(endless.as_slice())).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert!(client.get("large").await.unwrap().is_none());
    client.put("small", "after it").await.unwrap();
    assert_eq!(client.get("small").await.unwrap().unwrap().bytes, "after it");
}
