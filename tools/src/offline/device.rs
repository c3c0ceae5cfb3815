//! A slab file or block device, mapped for reading.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use hedgerow_engine::slab::snapshot::MAGIC;
use memmap2::{Advice, Mmap, MmapOptions};

use crate::failure::Failure;

/// A mapped slab file or block device.
pub struct Device {
    /// Its name, as it was given.
    pub path: PathBuf,
    map: Option<Mmap>,
}

impl Device {
    /// Maps a file or block device.
    pub fn open(path: &Path) -> Result<Device, Failure> {
        let wrong = |error: std::io::Error| Failure::file("read", path, &error);
        let kind = std::fs::metadata(path).map_err(wrong)?.file_type();
        if kind.is_dir() {
            let message = format!("{} is a folder; slab files are the files in it", path.display());
            return Err(Failure::Local(message));
        }
        if !kind.is_file() && !kind.is_block_device() {
            let message = format!("{} is neither a file nor a block device", path.display());
            return Err(Failure::Local(message));
        }
        let mut file = File::open(path).map_err(wrong)?;
        // The metadata of a block device do not know its length.
        let len = file.seek(SeekFrom::End(0)).map_err(wrong)?;
        let len = usize::try_from(len).map_err(|_| wrong(std::io::ErrorKind::FileTooLarge.into()))?;
        if len == 0 {
            return Ok(Device { path: path.to_owned(), map: None });
        }
        // SAFETY: nothing but bytes is made of the mapping, and each of them is checked before it is
        // believed, so that a daemon that writes meanwhile does no harm. A file that is cut while it is
        // mapped ends the process with a signal, as it would end any other reader of a mapping.
        let map = unsafe { MmapOptions::new().len(len).map(&file) }.map_err(wrong)?;
        // Only advice.
        let _ = map.advise(Advice::Sequential);
        Ok(Device { path: path.to_owned(), map: Some(map) })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.len() as u64)
    }

    /// `len` bytes at `offset`, if they are there.
    pub fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.map.as_ref()?.get(start..start.checked_add(len)?)
    }

    /// Whether it is the snapshot of a shard's index, which a clean stop leaves beside the shard.
    pub fn is_snapshot(&self) -> bool {
        self.bytes(0, MAGIC.len()) == Some(&MAGIC[..])
    }

    /// Whether a running daemon holds the folder of this file.
    pub fn in_use(&self) -> bool {
        let lock = self.path.parent().unwrap_or(Path::new("")).join("lock");
        let Ok(metadata) = std::fs::metadata(lock) else { return false };
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        is_locked(&locks, metadata.ino())
    }
}

/// Whether `locks`, as of `/proc/locks`, has an exclusive lock of the whole of a file with this inode.
/// (The device number beside it is not that of the file on all file systems.)
fn is_locked(locks: &str, inode: u64) -> bool {
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK");
        let exclusive = words.any(|word| word == "WRITE");
        let place = words.nth(1).and_then(|place| place.rsplit(':').next()?.parse::<u64>().ok());
        exclusive && place == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"abc").unwrap();
        let device = Device::open(&path).unwrap();
        assert_eq!((device.len(), device.bytes(1, 2)), (3, Some(&b"bc"[..])));
        assert_eq!((device.bytes(1, 3), device.bytes(u64::MAX, 2)), (None, None));
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Device::open(&path).unwrap().bytes(0, 1), None);
        assert!(Device::open(folder.path()).is_err() && Device::open(&folder.path().join("y")).is_err());
    }

    #[test]
    fn locks_are_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:11 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 08:01:22 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 9 08:01:33 0 EOF\n";
        assert_eq!([11, 22, 33].map(|inode| is_locked(locks, inode)), [false, true, false]);
    }
}
