//! A shard's device: a preallocated file or a block device, opened O_DIRECT.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};

use super::buffers::{DeviceBuffer, DmaBuffers};
use super::limits::DEVICE_READS_MAX;
use super::permits::Permits;
use crate::slab::layout::BLOCK_LEN;
use crate::slab::{Effect, IoError, IoId, IoResult};

/// Why a device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The device.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not something a shard can live on.
    #[error("{}: is neither a regular file nor a block device", path.display())]
    Kind {
        /// The device.
        path: PathBuf,
    },
    /// Too little room on the file system.
    #[error("{}: needs {need} bytes, with the other new shard files, and the file system has {free} free: use a smaller --shard-size, fewer --shards or another --data folder", path.display())]
    NoSpace {
        /// The device.
        path: PathBuf,
        /// Bytes that it, or all files to be made on its file system, need.
        need: u64,
        /// Bytes free.
        free: u64,
    },
}

/// [`prepare`]s all shards. If a file system says that it has no room for all the files that are to be made there,
/// none is.
pub fn prepare_all(shards: &[(PathBuf, u64)]) -> Vec<Result<u64, DeviceError>> {
    let mut new_bytes = BTreeMap::new();
    for (path, size) in shards {
        if let Some(file_system) = new_file_on(path) {
            *new_bytes.entry(file_system).or_default() += size;
        }
    }
    let room = |path: &Path| {
        let need =
            new_file_on(path).and_then(|file_system| new_bytes.get(&file_system).copied()).unwrap_or(0);
        let free = free_bytes(folder(path));
        if need <= free { Ok(()) } else { Err(DeviceError::NoSpace { path: path.to_owned(), need, free }) }
    };
    // Looked at before the first file is made.
    let rooms: Vec<Result<(), DeviceError>> = shards.iter().map(|(path, _)| room(path)).collect();
    rooms
        .into_iter()
        .zip(shards)
        .map(|(room, (path, size))| room.and_then(|()| prepare(path, *size)))
        .collect()
}

/// The file system on which the file at `path` is to be made, if there is none yet, or one without a byte.
fn new_file_on(path: &Path) -> Option<u64> {
    let found = std::fs::metadata(path);
    let to_be_made = found.map_or(true, |found| found.is_file() && found.len() == 0);
    to_be_made.then(|| std::fs::metadata(folder(path)).ok().map(|found| found.dev())).flatten()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Bytes free on the file system of a folder; no limit if that cannot be told.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |found| found.f_bavail * found.f_frsize)
}

/// Makes sure that the file at `path` exists with its blocks allocated and returns its length in
/// bytes. An existing file or a block device is taken as long as it is; `size` is for a new file.
fn prepare(path: &Path, size: u64) -> Result<u64, DeviceError> {
    let error = |action| move |source| DeviceError::Io { path: path.to_owned(), action, source };
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
        .map_err(error("open it for reading and writing"))?;
    let kind = file.metadata().map_err(error("look at it"))?;
    if kind.file_type().is_block_device() {
        return io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(error("find its size"));
    }
    if !kind.is_file() {
        return Err(DeviceError::Kind { path: path.to_owned() });
    }
    if kind.len() > 0 {
        return Ok(kind.len());
    }
    if let Err(source) = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size) {
        // Nothing of a file that could not be made is left behind, before it is looked at what is free.
        drop(file);
        let _ = std::fs::remove_file(path);
        let free = free_bytes(folder(path));
        return Err(match source {
            rustix::io::Errno::NOSPC => DeviceError::NoSpace { path: path.to_owned(), need: size, free },
            other => error("allocate its blocks")(other.into()),
        });
    }
    // The runtime finds out whether a device can be polled by reading the first file that it opens
    // there, and takes a hole for a yes: let the first block be real.
    file.write_all_at(&[0; 4096], 0).and_then(|()| file.sync_all()).map_err(error("write to it"))?;
    Ok(size)
}

/// An open device. All of its I/O goes through [`Device::perform`].
pub struct Device {
    file: DmaFile,
    path: PathBuf,
    /// Turns to read.
    reads: Rc<Permits>,
}

fn io_error(error: &glommio::GlommioError<()>) -> IoError {
    let source = match error {
        glommio::GlommioError::IoError(source) => source.raw_os_error(),
        glommio::GlommioError::EnhancedIoError { source, .. } => source.raw_os_error(),
        _ => None,
    };
    IoError::from_os(source.unwrap_or(libc::EIO))
}

impl Device {
    /// Opens what [`prepare`] made sure of.
    pub async fn open(path: &Path) -> Result<Device, DeviceError> {
        let file = OpenOptions::new().read(true).write(true).dma_open(path).await.map_err(|e| {
            DeviceError::Io { path: path.to_owned(), action: "open it O_DIRECT", source: e.into() }
        })?;
        Ok(Device { file, path: path.to_owned(), reads: Permits::new(DEVICE_READS_MAX) })
    }

    /// The device's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does what a store asks of its device.
    pub async fn perform(&self, effect: DeviceEffect) -> (IoId, IoResult<DmaBuffers>) {
        match effect {
            DeviceEffect::Read { io, offset, len } => {
                let turn = self.reads.take().await;
                let read = self.file.read_at_aligned(offset, len).await;
                drop(turn);
                let result = read.map_err(|e| io_error(&e)).and_then(|buffer| {
                    if buffer.len() == len {
                        Ok(DeviceBuffer::Read(buffer))
                    } else {
                        Err(IoError::from_os(libc::EIO))
                    }
                });
                (io, IoResult::Read(result))
            }
            DeviceEffect::Write { io, offset, buf } => {
                let DeviceBuffer::Frozen(buffer) = buf else {
                    unreachable!("a store writes only buffers that it has frozen");
                };
                (io, IoResult::Done(self.write(offset, buffer).await))
            }
            DeviceEffect::Flush { io } => {
                (io, IoResult::Done(self.file.fdatasync().await.map_err(|e| io_error(&e))))
            }
            // Advisory, and slow on many devices: the blocks are overwritten anyway.
            DeviceEffect::Discard { io } => (io, IoResult::Done(Ok(()))),
        }
    }

    /// Writes all of `buffer` at `offset`, block aligned.
    async fn write(&self, offset: u64, buffer: Rc<DmaBuffer>) -> Result<(), IoError> {
        let len = buffer.len();
        match self.file.write_rc_at(buffer, offset).await {
            Ok(written) if written == len => Ok(()),
            Ok(_) => Err(IoError::from_os(libc::EIO)),
            Err(error) => Err(io_error(&error)),
        }
    }
}

/// The effects of a store that concern its device.
pub enum DeviceEffect {
    /// Read `len` bytes at `offset`.
    Read { io: IoId, offset: u64, len: usize },
    /// Write `buf` at `offset`.
    Write { io: IoId, offset: u64, buf: DeviceBuffer },
    /// Make what was written durable.
    Flush { io: IoId },
    /// Advice.
    Discard { io: IoId },
}

impl DeviceEffect {
    /// The device's share of a store's effects; the others are given back.
    pub fn from_effect(effect: Effect<DmaBuffers>) -> Result<DeviceEffect, Effect<DmaBuffers>> {
        match effect {
            Effect::Read { io, offset, len } => Ok(DeviceEffect::Read { io, offset, len }),
            Effect::Write { io, offset, buf } => Ok(DeviceEffect::Write { io, offset, buf }),
            Effect::Flush { io } => Ok(DeviceEffect::Flush { io }),
            Effect::Discard { io, .. } => Ok(DeviceEffect::Discard { io }),
            other => Err(other),
        }
    }

    /// A write of the first blocks alone: at least one, and not all if there are several. How many is drawn from
    /// `draw`.
    pub fn torn(self, draw: u64) -> DeviceEffect {
        match self {
            DeviceEffect::Write { io, offset, buf } if buf.as_ref().len() > BLOCK_LEN => {
                let blocks = buf.as_ref().len() / BLOCK_LEN;
                let kept = (1 + draw % (blocks as u64 - 1)) as usize * BLOCK_LEN;
                let mut first = glommio::allocate_dma_buffer(kept);
                first.as_bytes_mut().copy_from_slice(&buf.as_ref()[..kept]);
                DeviceEffect::Write { io, offset, buf: DeviceBuffer::Frozen(Rc::new(first)) }
            }
            whole => whole,
        }
    }

    /// What it is, for people.
    pub fn name(&self) -> &'static str {
        match self {
            DeviceEffect::Read { .. } => "a read",
            DeviceEffect::Write { .. } => "a write",
            DeviceEffect::Flush { .. } => "a flush",
            DeviceEffect::Discard { .. } => "a discard",
        }
    }

    /// Which operation it is.
    pub fn io(&self) -> IoId {
        match self {
            DeviceEffect::Read { io, .. }
            | DeviceEffect::Write { io, .. }
            | DeviceEffect::Flush { io }
            | DeviceEffect::Discard { io } => *io,
        }
    }
}
