//! foyer's hybrid cache with many small entries: `hedgerow-perf-foyer fill|open FOLDER ENTRIES VALUE_LEN`.
//!
//! `fill` inserts them, waits until they are on the device, says how many it put, and then waits to be killed. `open`
//! opens what is there, looks entries up until one is found, says that it is ready, then how many of a sample there
//! are. Its files are read and written with direct I/O through io_uring, as those that it is compared with.

use std::hash::BuildHasherDefault;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, IoEngineConfig,
    RecoverMode, UringIoEngineConfig,
};

/// Bytes on the device of an entry that is shorter: it is a page.
const ENTRY_BYTES: usize = 4096;
/// What the device has room for, in relation to the entries: indexes of blobs and blocks that are not full.
const ROOM: f64 = 1.15;
/// Bytes that its flushers may hold. Past it, entries are dropped.
const BUFFER_BYTES: usize = 256 << 20;
/// Entries that are inserted before their flush is waited for: half of that.
const BATCH: u64 = (BUFFER_BYTES / 2 / ENTRY_BYTES) as u64;
/// Entries that are looked up of those that were put.
const SAMPLE: u64 = 2000;

type Cache = HybridCache<u64, Vec<u8>, BuildHasherDefault<std::hash::DefaultHasher>>;

async fn open(folder: &Path, entries: u64) -> Result<Cache> {
    let capacity = (entries as f64 * ENTRY_BYTES as f64 * ROOM) as usize + (256 << 20);
    let device = FsDeviceBuilder::new(folder).with_capacity(capacity).with_direct(true).build()?;
    let engine = BlockEngineConfig::new(device)
        .with_buffer_pool_size(BUFFER_BYTES)
        .with_submit_queue_size_threshold(2 * BUFFER_BYTES);
    let uring: Box<dyn IoEngineConfig> = UringIoEngineConfig::new().boxed();
    let cache = HybridCacheBuilder::new()
        .memory(1 << 20)
        // One that is the same after a restart.
        .with_hash_builder(BuildHasherDefault::default())
        .with_weighter(|_, value: &Vec<u8>| value.len())
        .storage()
        .with_io_engine_config(uring)
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await?;
    Ok(cache)
}

/// The numbers of the entries of a sample, spread over all.
fn sample(entries: u64) -> impl Iterator<Item = u64> {
    (0..SAMPLE.min(entries)).map(move |number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries)
}

async fn fill(folder: &Path, entries: u64, value_len: usize) -> Result<()> {
    let cache = open(folder, entries).await?;
    for number in 0..entries {
        let value = vec![number as u8; value_len];
        cache.storage_writer(number).force().insert(value).context("an entry was refused")?;
        if number % BATCH == BATCH - 1 {
            cache.storage().wait().await;
        }
    }
    cache.storage().wait().await;
    say(&format!("filled {entries}"))?;
    // Until it is killed.
    std::future::pending().await
}

async fn reopen(folder: &Path, entries: u64, value_len: usize) -> Result<()> {
    let cache = open(folder, entries).await?;
    let (mut found, mut asked) = (0, 0);
    for number in sample(entries) {
        asked += 1;
        if let Some(entry) = cache.get(&number).await? {
            if entry.value().len() != value_len || entry.value().iter().any(|byte| *byte != number as u8) {
                bail!("entry {number} has other bytes");
            }
            found += 1;
            if found == 1 {
                say("ready")?;
            }
        }
    }
    say(&format!("found {found} of {asked}"))
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, folder, entries, value_len] = &words[..] else {
        bail!("hedgerow-perf-foyer fill|open FOLDER ENTRIES VALUE_LEN");
    };
    let (folder, entries, value_len) = (Path::new(folder), entries.parse()?, value_len.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match what.as_str() {
        "fill" => runtime.block_on(fill(folder, entries, value_len)),
        "open" => runtime.block_on(reopen(folder, entries, value_len)),
        other => bail!("'{other}': fill or open"),
    }
}
