//! A small file system of its own for one shard, which can really be filled: ext4 on a loop device.

use std::fs::OpenOptions;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, fallocate};

use crate::clock;

/// What it has beside the shard: for what the file system keeps for itself.
const SPARE_BYTES: u64 = 64 << 20;
/// The file that fills it grows by so much, and then by half of it, as long as there is room.
const FILL_BYTES: u64 = 64 << 20;

/// It is unmounted when this is dropped.
pub struct Disk {
    mounted: PathBuf,
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Disk {
    /// Makes one in `folder` with a shard's file of so many bytes, none of which has a block yet, at the end of the
    /// link `shard`.
    pub fn new(folder: &Path, shard_bytes: u64, shard: &Path) -> Result<Disk> {
        let (image, mounted) = (folder.join("disk.img"), folder.join("disk"));
        let file = OpenOptions::new().write(true).create_new(true).open(&image)?;
        file.set_len(shard_bytes + SPARE_BYTES)?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), &image])?;
        std::fs::create_dir(&mounted)?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mounted])?;
        let disk = Disk { mounted };
        let path = disk.mounted.join("shard");
        OpenOptions::new().write(true).create_new(true).open(&path)?.set_len(shard_bytes)?;
        symlink(path, shard)?;
        Ok(disk)
    }

    /// Leaves it no block for a while.
    pub fn fill_for(&self, lasts: Duration) -> Result<()> {
        let path = self.mounted.join("filler");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let (mut len, mut step) = (0, FILL_BYTES);
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), len, step) {
                Ok(()) => len += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        drop(file);
        clock::sleep(lasts);
        std::fs::remove_file(&path)?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["--lazy".as_ref(), &self.mounted]) {
            eprintln!("{} stays mounted: {error:#}", self.mounted.display());
        }
    }
}
