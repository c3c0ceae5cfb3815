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
use crate::slab::{IoError, LentSlab};

/// Until all slabs were written, or the daemon stops, or the device fails.
pub async fn run(core: Rc<Core>, shard: Rc<Shard>) {
    let mut zeroes = glommio::allocate_dma_buffer(WRITE_THROUGH_CHUNK_BYTES);
    zeroes.as_bytes_mut().fill(0);
    let zeroes = Rc::new(zeroes);
    while !core.stopping() && shard.set_aside_for().is_empty() {
        glommio::timer::sleep(WRITE_THROUGH_AFTER).await;
        let mut free = true;
        while free {
            let Some(lent) = shard.store.borrow_mut().lend() else { return };
            shard.writing_through.set(true);
            let written = write(&core, &shard, &lent, &zeroes).await;
            free = written == Ok(true);
            shard.take_back(lent, free);
            shard.writing_through.set(false);
            core.pump();
            if let Err(error) = written {
                tracing::warn!(shard = shard.target.shard, %error, "a slab could not be written through");
                return;
            }
        }
    }
}

/// Writes a slab that is lent; whether all of it. A shard that has been busy for long has it back before.
async fn write(
    core: &Rc<Core>,
    shard: &Rc<Shard>,
    lent: &LentSlab,
    zeroes: &Rc<DmaBuffer>,
) -> Result<bool, IoError> {
    let (mut done, mut busy) = (0, 0);
    // Never beyond the slab's end: what is left of one of another length stays as it is.
    while done + WRITE_THROUGH_CHUNK_BYTES as u64 <= lent.len {
        if core.stopping() || !shard.set_aside_for().is_empty() || busy == WRITE_THROUGH_BUSY_MAX {
            return Ok(false);
        }
        if shard.in_flight() == 0 {
            let buf = DeviceBuffer::Frozen(zeroes.clone());
            shard.write_outside(lent.offset + done, buf).await?;
            (done, busy) = (done + WRITE_THROUGH_CHUNK_BYTES as u64, 0);
            let count = &core.counters.written_through_bytes;
            count.set(count.get() + WRITE_THROUGH_CHUNK_BYTES as u64);
        } else {
            busy += 1;
        }
        glommio::timer::sleep(WRITE_THROUGH_PAUSE).await;
    }
    Ok(true)
}
