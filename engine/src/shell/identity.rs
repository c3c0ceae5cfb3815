//! The daemon's folder: whose it is, and that only one daemon uses it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon runs on it.
    #[error("{}: another hedgerowd uses this folder: stop it, or choose another one with --data", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The file with the id is damaged.
    #[error("{}: holds '{found}' where a daemon's id (32 hexadecimal digits) belongs: put the right one back, or remove the file and all shards with it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
}

/// A daemon's hold on its folder.
pub struct Identity {
    /// The daemon's own random id.
    pub daemon_id: u128,
    _lock: File,
}

/// Random bytes of the system's.
pub fn random_u128() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// Tells runs of the machine apart; 0 if the system does not say which one this is.
pub fn boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&id.trim().replace('-', ""), 16).map_or(0, |id| id as u64)
}

/// Takes hold of the folder `data`, which is made if it is not there.
pub fn take(data: &Path) -> Result<Identity, IdentityError> {
    let error = |path: &Path, action| {
        let path = path.to_owned();
        move |source| IdentityError::Io { path, action, source }
    };
    std::fs::create_dir_all(data).map_err(error(data, "make the folder"))?;
    let lock_path = data.join("lock");
    let lock = File::create(&lock_path).map_err(error(&lock_path, "make it"))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN) => return Err(IdentityError::InUse { path: data.to_owned() }),
        Err(errno) => return Err(error(&lock_path, "lock it")(errno.into())),
    }
    let path = data.join("daemon-id");
    let daemon_id = match std::fs::read_to_string(&path) {
        Ok(text) => match u128::from_str_radix(text.trim(), 16) {
            Ok(id) if text.trim().len() == 32 => id,
            _ => return Err(IdentityError::Damaged { path, found: text.trim().chars().take(40).collect() }),
        },
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let id = random_u128().map_err(error(Path::new("/dev/urandom"), "read it"))?;
            write_durably(&path, format!("{id:032x}\n").as_bytes()).map_err(error(&path, "write it"))?;
            id
        }
        Err(source) => return Err(error(&path, "read it")(source)),
    };
    Ok(Identity { daemon_id, _lock: lock })
}

/// Writes a file so that after a crash it is whole or not there.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_folder_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("deep/data");
        assert!(boot() != 0 && boot() == boot());
        let first = take(&data).unwrap();
        assert!(matches!(take(&data), Err(IdentityError::InUse { .. })));
        let id = first.daemon_id;
        drop(first);
        assert_eq!(take(&data).unwrap().daemon_id, id);
        std::fs::write(data.join("daemon-id"), "not an id").unwrap();
        assert!(matches!(take(&data), Err(IdentityError::Damaged { .. })));
    }
}
