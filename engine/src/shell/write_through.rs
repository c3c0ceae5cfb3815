//! Writes zeroes to the slabs of a new file before they are first used, in the background: the file system
//! then has nothing left to do for a block when its first part comes.
//!
//! Only while the shard has nothing else to do, and slowly: a request meets one such write at most, and a daemon that
//! lives for a moment only writes next to nothing.

use std::rc::Rc;

use glommio::io::DmaBuffer;

use super::core::Core;
use super::limits::{WRITE_THROUGH_AFTER, WRITE_THROUGH_CHUNK_BYTES, WRITE_THROUGH_PAUSE};
use super::shard::Shard;
use crate::slab::{IoError, LentSlab};

/// Until all slabs were lent once, or the daemon stops, or the device fails.
pub async fn run(core: Rc<Core>, shard: Rc<Shard>) {
    glommio::timer::sleep(WRITE_THROUGH_AFTER).await;
    let mut zeroes = glommio::allocate_dma_buffer(WRITE_THROUGH_CHUNK_BYTES);
    zeroes.as_bytes_mut().fill(0);
    let zeroes = Rc::new(zeroes);
    while !core.stopping() {
        let Some(lent) = shard.store.borrow_mut().lend() else { return };
        shard.writing_through.set(true);
        let written = write(&core, &shard, &lent, &zeroes).await;
        shard.take_back(lent);
        shard.writing_through.set(false);
        core.pump();
        if let Err(error) = written {
            tracing::warn!(shard = shard.target.shard, %error, "a slab could not be written through");
            return;
        }
    }
}

async fn write(
    core: &Rc<Core>,
    shard: &Rc<Shard>,
    lent: &LentSlab,
    zeroes: &Rc<DmaBuffer>,
) -> Result<(), IoError> {
    let mut done = 0;
    // Never beyond the slab's end: what is left of one of another length stays as it is.
    while done + WRITE_THROUGH_CHUNK_BYTES as u64 <= lent.len && !core.stopping() {
        if !shard.set_aside_for().is_empty() {
            return Ok(());
        }
        if shard.in_flight() == 0 {
            shard.device.write(lent.offset + done, zeroes.clone()).await?;
            done += WRITE_THROUGH_CHUNK_BYTES as u64;
            let count = &core.counters.written_through_bytes;
            count.set(count.get() + WRITE_THROUGH_CHUNK_BYTES as u64);
        }
        glommio::timer::sleep(WRITE_THROUGH_PAUSE).await;
    }
    Ok(())
}
