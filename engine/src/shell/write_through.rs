//! Writes zeroes to the slabs of a new file before they are first used, in the background: the file system
//! then has nothing left to do for a block when its first part comes.
//!
//! Only while the shard has nothing else to do, and slowly: a request meets one such write at most, and a daemon that
//! lives for a moment only writes next to nothing.

use std::rc::Rc;

use glommio::io::DmaBuffer;

use super::buffers::DeviceBuffer;
use super::core::Core;
use super::limits::{
    WRITE_THROUGH_AFTER, WRITE_THROUGH_BUSY_MAX, WRITE_THROUGH_CHUNK_BYTES, WRITE_THROUGH_PAUSE,
};
use super::shard::Shard;
use crate::slab::LentSlab;

/// Writes whatever slab is lent, until the daemon stops.
pub async fn run(core: Rc<Core>, shard: Rc<Shard>) {
    let mut zeroes = glommio::allocate_dma_buffer(WRITE_THROUGH_CHUNK_BYTES);
    zeroes.as_bytes_mut().fill(0);
    let zeroes = Rc::new(zeroes);
    while !core.stopping() {
        glommio::timer::sleep(WRITE_THROUGH_AFTER).await;
        let mut idle = true;
        while idle && let Some(lent) = { shard.store.borrow_mut().lend() } {
            shard.writing_through.set(true);
            let written_bytes = write(&core, &shard, &lent, &zeroes).await;
            idle = written_bytes > 0 && written_bytes + WRITE_THROUGH_CHUNK_BYTES as u64 > lent.len;
            // One of which a part was written is not begun anew: a busy shard would never be done with it.
            shard.take_back(lent, written_bytes > 0);
            shard.writing_through.set(false);
            core.pump();
        }
    }
}

/// Writes a slab that is lent; how many bytes of it. Less than all if the device fails, the daemon stops, or the
/// shard was busy for long.
async fn write(core: &Rc<Core>, shard: &Rc<Shard>, lent: &LentSlab, zeroes: &Rc<DmaBuffer>) -> u64 {
    let (mut done, mut busy) = (0, 0);
    // Never beyond the slab's end: what is left of one of another length stays as it is.
    while done + WRITE_THROUGH_CHUNK_BYTES as u64 <= lent.len
        && busy < WRITE_THROUGH_BUSY_MAX
        && !core.stopping()
        && shard.set_aside_for().is_empty()
    {
        if shard.in_flight() == 0 {
            let buf = DeviceBuffer::Frozen(zeroes.clone());
            if let Err(error) = shard.write_outside(lent.offset + done, buf).await {
                tracing::debug!(shard = shard.target.shard, %error, "a slab could not be written through");
                break;
            }
            (done, busy) = (done + WRITE_THROUGH_CHUNK_BYTES as u64, 0);
            let count = &core.counters.written_through_bytes;
            count.set(count.get() + WRITE_THROUGH_CHUNK_BYTES as u64);
        } else {
            busy += 1;
        }
        glommio::timer::sleep(WRITE_THROUGH_PAUSE).await;
    }
    done
}
