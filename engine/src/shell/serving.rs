//! What a core does beside requests: takes connections, looks after them, stops.

use std::net::TcpListener as StdListener;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use glommio::net::TcpListener;

use super::clock;
use super::connection;
use super::core::Core;
use super::identity;
use super::limits::{CONNECTIONS_MAX, DRAIN_MAX, HOUSEKEEPING, UNFINISHED_MAX};
use super::opening::snapshot_path;
use super::shard::Shard;

/// Takes connections and deals them to the cores in turn: the system's own dealing (one listener a
/// core) leaves some cores without any when there are few connections.
pub async fn accept(core: Rc<Core>, listener: StdListener) {
    // SAFETY: the descriptor was just given up by the listener that owned it.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let cores = core.shared.settings.cores.len();
    let mut next = 0;
    loop {
        match listener.shared_accept().await {
            Ok(accepted) => {
                if core.stopping() || core.shared.connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
                    // Bound and dropped: closed. The client sees it at once and may try another daemon.
                    drop(accepted.bind_to_executor());
                    continue;
                }
                core.shared.connections.fetch_add(1, Ordering::Relaxed);
                core.run_on(next, move |there| {
                    let stream = accepted.bind_to_executor();
                    there.spawn(connection::serve(there.clone(), stream));
                });
                next = (next + 1) % cores;
            }
            Err(error) => {
                // Out of descriptors, most likely: closing connections makes room.
                tracing::warn!(%error, "cannot take a connection");
                glommio::timer::sleep(HOUSEKEEPING).await;
            }
        }
    }
}

/// Until the daemon is told to stop.
pub async fn housekeeping(core: &Rc<Core>) {
    while !core.stopping() {
        glommio::timer::sleep(HOUSEKEEPING).await;
        let limit = core.shared.settings.device_timeout;
        let stuck = core.shards.borrow().values().filter(|shard| shard.give_up_if_stuck(limit)).count();
        if stuck > 0 {
            core.pump();
        }
        let before = clock::timestamp() - UNFINISHED_MAX;
        let closed = core.connections.close_stalled(before);
        if closed > 0 {
            tracing::debug!(closed, "connections closed that left a frame unfinished");
        }
    }
}

async fn wait_until(limit: Duration, done: impl Fn() -> bool) {
    let end = clock::timestamp() + limit;
    while !done() && clock::timestamp() < end {
        glommio::timer::sleep(Duration::from_millis(5)).await;
    }
}

/// Finishes what is under way, closes the stores and leaves snapshots of their indexes.
pub async fn stop(core: &Rc<Core>) {
    wait_until(DRAIN_MAX, || core.connections.requests.get() == 0 && !core.connections.sending()).await;
    // Other cores' requests may still need this core's shards: all wait for each other.
    core.shared.drained.fetch_add(1, Ordering::AcqRel);
    let cores = core.shared.settings.cores.len();
    wait_until(DRAIN_MAX, || core.shared.drained.load(Ordering::Acquire) >= cores).await;
    core.connections.close_all();
    let shards: Vec<Rc<Shard>> = core.shards.borrow().values().cloned().collect();
    for shard in &shards {
        shard.begin_close();
    }
    core.pump();
    // What a stuck device has taken it may never complete.
    let over = |shard: &Rc<Shard>| {
        shard.closed() && (!shard.writing_through.get() || !shard.set_aside_for().is_empty())
    };
    wait_until(DRAIN_MAX, || shards.iter().all(over)).await;
    for shard in &shards {
        if !shard.closed() {
            tracing::warn!(
                shard = shard.target.shard,
                "could not be closed in time: its next start scans it"
            );
            continue;
        }
        let mut bytes = Vec::new();
        if !shard.store.borrow().snapshot(&mut bytes) {
            continue;
        }
        let path = snapshot_path(&core.shared.settings, usize::from(shard.target.shard));
        if let Err(error) = identity::write_durably(&path, &bytes) {
            tracing::warn!(path = %path.display(), %error, "cannot write the snapshot: the next start scans");
        }
    }
}
