//! How many shards a data folder had when its daemon last started, and how far that may change at a time.
//!
//! A shard that comes or goes at the end of the list takes one place of an object's parts at most: the
//! ring is consistent. So after a change by `d` shards up to `d` of an object's targets are others than
//! those that it was written to, and of an object that was complete
//!
//! - the data are found while `d <= m`;
//! - no read finds nothing, or something older, while `d <= m - s`, with `s` the write quorum's spare: both
//!   would take `m - s + 1` of the first `m + 1` targets to say so (`coordinator/confirm.rs`).
//!
//! A change that is larger is refused. With `m = 0` nothing is promised of an object whose target changes,
//! and any change is taken.

use std::io;
use std::path::{Path, PathBuf};

use hedgerow_wire::Code;

use super::identity::write_durably;

/// Why a daemon does not start with so many shards.
#[derive(Debug, thiserror::Error)]
pub enum ShardCountError {
    /// The note of how many there were cannot be used.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The note.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The note is damaged.
    #[error("{}: holds '{found}' where a number of shards belongs: write there how many the daemon had", path.display())]
    Damaged {
        /// The note.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// Objects would be missing, or older than they were.
    #[error(
        "{asked} shards, and {before} at the last start: code {code} bears a change by {step} at a time, after a larger one objects are \
         missing or older than they were. Start with {next} shards, read every object, and go on from there (docs/operations.md, 'More \
         shards'). If nothing of what is stored matters, remove {} and start again", path.display()
    )]
    TooFar {
        /// Shards at the last start.
        before: usize,
        /// Shards that it is to have.
        asked: usize,
        /// The code.
        code: String,
        /// How far the number may change at a time.
        step: usize,
        /// The number of shards to start with instead.
        next: usize,
        /// The note of the last start.
        path: PathBuf,
    },
}

fn note_path(data: &Path) -> PathBuf {
    data.join("shards")
}

/// Refuses a change of the number of shards that objects of `code` do not bear. Gives the number at the last
/// start, if there was one.
pub fn check(data: &Path, asked: usize, code: Code) -> Result<Option<usize>, ShardCountError> {
    let path = note_path(data);
    let before: usize = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| ShardCountError::Damaged {
            path: path.clone(),
            found: text.trim().chars().take(40).collect(),
        })?,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ShardCountError::Io { path, action: "read it", source }),
    };
    let step = code.m() - code.quorum_spare();
    if code.m() == 0 || before.abs_diff(asked) <= step {
        return Ok(Some(before));
    }
    let next = if asked > before { before + step } else { before - step };
    Err(ShardCountError::TooFar { before, asked, code: code.to_string(), step, next, path })
}

/// Notes that the daemon has started with `shards`.
pub fn note(data: &Path, shards: usize) -> Result<(), ShardCountError> {
    let (path, text) = (note_path(data), format!("{shards}\n"));
    if std::fs::read_to_string(&path).is_ok_and(|noted| noted == text) {
        return Ok(());
    }
    write_durably(&path, text.as_bytes()).map_err(|source| ShardCountError::Io {
        path,
        action: "write it",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_as_far_as_objects_bear_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let code = |text: &str| text.parse::<Code>().unwrap();
        assert!(check(data, 99, code("4+2")).is_ok(), "nothing is known of a new folder");
        note(data, 12).unwrap();
        for (text, step) in [("4+1", 1), ("4+2", 1), ("4+3", 2), ("4+4", 3)] {
            for asked in 8..=16usize {
                match check(data, asked, code(text)) {
                    Ok(before) => {
                        assert!(before == Some(12) && asked.abs_diff(12) <= step, "{text}: {asked} was taken")
                    }
                    Err(ShardCountError::TooFar { before: 12, step: found, next, .. }) => {
                        assert!(asked.abs_diff(12) > step && found == step, "{text}: {asked}");
                        assert_eq!((next.abs_diff(12), next > 12), (step, asked > 12));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(check(data, 40, code("4+0")).is_ok());
        note(data, 13).unwrap();
        assert!(check(data, 14, code("4+2")).is_ok() && check(data, 12, code("4+2")).is_ok());
        std::fs::write(note_path(data), "many").unwrap();
        assert!(matches!(check(data, 12, code("4+2")), Err(ShardCountError::Damaged { .. })));
    }
}
