//! Opens a core's shards: the device, the store on it, the snapshot that a clean stop left.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::{Member, Target, Version};

use super::buffers::DmaBuffers;
use super::clock;
use super::core::Core;
use super::device::{Device, DeviceEffect};
use super::identity;
use super::oneshot::Signal;
use super::settings::Settings;
use super::shard::Shard;
use super::write_through;
use crate::slab::{Opening, StoreConfig};

/// What opening a shard found.
#[derive(Clone, Debug)]
pub struct OpenedShard {
    /// Highest version on it.
    pub highest: Version,
    /// Parts in its index.
    pub parts: u64,
    /// Capacity in bytes.
    pub capacity_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// A snapshot of the index was used.
    pub from_snapshot: bool,
    /// The device was blank, and has been formatted.
    pub formatted: bool,
}

/// The address of a shard of this daemon.
pub fn target(shard: usize) -> Target {
    Target { member: Member(0), shard: shard as u16 }
}

/// The file that a clean stop leaves for a shard.
pub fn snapshot_path(settings: &Settings, shard: usize) -> PathBuf {
    settings.data.join(format!("shard-{shard}.index"))
}

/// Opens a shard of this core on a device of `len` bytes. An error says what is wrong, for a person.
pub async fn open_shard(core: &Rc<Core>, shard: usize, len: u64) -> Result<OpenedShard, String> {
    let settings = &core.shared.settings;
    let path = &settings.shards[shard].0;
    let begun = clock::timestamp();
    let device = Device::open(path).await.map_err(|error| error.to_string())?;
    let snapshot_path = snapshot_path(settings, shard);
    let snapshot = std::fs::File::open(&snapshot_path).ok().and_then(|file| {
        // SAFETY: the file is the daemon's own and held by its lock; nobody shortens it while it is
        // mapped. What it holds is checked and refused if it is wrong.
        let map = unsafe { memmap2::Mmap::map(&file) }.ok()?;
        Some(Box::new(map) as Box<dyn AsRef<[u8]>>)
    });
    let seed = identity::random_u128().map_err(|error| error.to_string())? as u64;
    let config = StoreConfig {
        parity: settings.code.m() as u8,
        boot: identity::boot(),
        index_capacity: Some((len / core.shared.mean_part_bytes).max(1024) as usize),
        ..StoreConfig::new(core.shared.daemon_id, shard as u16, len, seed)
    };
    let mut opening = Opening::new(config, DmaBuffers, snapshot, clock::now());
    let device = Rc::new(device);
    drive_opening(core, &device, &mut opening).await;
    let progress = opening.progress();
    let store = opening.finish().map_err(|error| format!("{}: {error}", path.display()))?;
    let _ = std::fs::remove_file(&snapshot_path);
    let stats = store.stats();
    let report = OpenedShard {
        highest: store.highest_version(),
        parts: stats.parts,
        capacity_bytes: len,
        took: clock::timestamp().since(begun),
        from_snapshot: progress.from_snapshot,
        formatted: progress.formatted,
    };
    let shard = Rc::new(Shard::new(target(shard), len, store, device));
    core.shards.borrow_mut().insert(shard.target.shard, shard.clone());
    if report.formatted && std::fs::metadata(shard.device.path()).is_ok_and(|found| found.is_file()) {
        core.spawn(write_through::run(core.clone(), shard));
    }
    Ok(report)
}

/// Carries out what an opening store asks of its device, several operations at a time.
async fn drive_opening(core: &Rc<Core>, device: &Rc<Device>, opening: &mut Opening<DmaBuffers>) {
    let completed = Rc::new(RefCell::new(VecDeque::new()));
    let signal = Rc::new(Signal::default());
    loop {
        while let Some(effect) = opening.poll() {
            let Ok(operation) = DeviceEffect::from_effect(effect) else { continue };
            let (device, completed, signal) = (device.clone(), completed.clone(), signal.clone());
            core.spawn(async move {
                let done = device.perform(operation).await;
                completed.borrow_mut().push_back(done);
                signal.raise();
            });
        }
        if opening.done() {
            return;
        }
        let next = completed.borrow_mut().pop_front();
        match next {
            Some((io, result)) => opening.complete(io, result, clock::now()),
            None => signal.wait().await,
        }
    }
}
