//! `load`: stores all files of a folder, many at a time.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use hedgerow_client::{Body, Error, Request};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::write_options::WriteOptions;
use crate::context::{Context, Facts};
use crate::failure::Failure;
use crate::text;

/// Store all files of a folder: their keys are their paths below it.
#[derive(Args, Debug)]
pub struct Load {
    /// The folder
    folder: PathBuf,
    /// Put before every key
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: OsString,
    /// Files under way at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,
    #[command(flatten)]
    write: WriteOptions,
}

/// Failures that are written out; of the others only the number.
const FAILURES_SHOWN: usize = 20;

/// A file to be stored.
struct Found {
    path: PathBuf,
    key: Vec<u8>,
    len: u64,
}

/// Stores them.
pub async fn run(context: &Context, load: Load) -> Result<(), Failure> {
    let tree = walk(&load.folder, load.prefix.as_bytes())?;
    let client = context.connect().await?;
    let request = load.write.apply(context.long_request(&client));
    let bar = progress_bar(tree.files.iter().map(|file| file.len).sum());
    let started = now();
    let mut done = Loaded { skipped: tree.skipped, ..Loaded::default() };
    store_all(&request, tree.files, usize::from(load.parallel), &bar, &mut done).await;
    bar.finish_and_clear();
    done.took = now() - started;
    done.report_failures();
    context.show(&done)?;
    done.into_result()
}

#[allow(clippy::disallowed_methods)] // measures, for the summary
fn now() -> Instant {
    Instant::now()
}

fn progress_bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

async fn store_all(
    request: &Request,
    files: Vec<Found>,
    parallel: usize,
    bar: &ProgressBar,
    done: &mut Loaded,
) {
    let mut under_way = JoinSet::new();
    let mut files = files.into_iter();
    loop {
        while under_way.len() < parallel && done.unreachable.is_none() {
            let Some(file) = files.next() else { break };
            under_way.spawn(store(request.clone(), file));
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok((file, result))) => {
                bar.inc(file.len);
                done.count(file, result);
            }
            Some(Err(error)) => done.failures.push(("a file".to_owned(), error.to_string())),
        }
    }
    done.not_tried = files.len() as u64;
}

async fn store(request: Request, file: Found) -> (Found, Result<(), Error>) {
    let result = match tokio::fs::File::open(&file.path).await {
        Ok(reader) => {
            request.put_stream(&file.key, Body::reader(reader).with_len(file.len)).await.map(|_| ())
        }
        Err(error) => Err(Error::Body(error.into())),
    };
    (file, result)
}

/// What a folder holds.
#[derive(Default)]
struct Tree {
    files: Vec<Found>,
    skipped: u64,
}

/// All regular files below `folder`, in the order of their keys. Links to files are followed, links
/// to folders are not (they may lead in circles).
fn walk(folder: &Path, prefix: &[u8]) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    let mut folders = vec![(folder.to_owned(), prefix.to_vec())];
    while let Some((folder, prefix)) = folders.pop() {
        for (name, path) in entries(&folder)? {
            let mut key = prefix.clone();
            key.extend_from_slice(name.as_bytes());
            let linked = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && !linked => {
                    key.push(b'/');
                    folders.push((path, key));
                }
                Ok(metadata) if metadata.is_file() => {
                    tree.files.push(Found { path, key, len: metadata.len() })
                }
                _ => tree.skipped += 1,
            }
        }
    }
    tree.files.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(tree)
}

fn entries(folder: &Path) -> Result<BTreeMap<OsString, PathBuf>, Failure> {
    let wrong = |error: std::io::Error| Failure::file("read the folder", folder, &error);
    let entry =
        |entry: std::io::Result<std::fs::DirEntry>| entry.map(|entry| (entry.file_name(), entry.path()));
    std::fs::read_dir(folder).map_err(wrong)?.map(entry).collect::<Result<_, _>>().map_err(wrong)
}

/// How it went.
#[derive(Default)]
struct Loaded {
    files: u64,
    bytes: u64,
    /// There before, and not to be replaced.
    present: u64,
    /// No regular files.
    skipped: u64,
    /// Left because the daemon is gone.
    not_tried: u64,
    failures: Vec<(String, String)>,
    /// The daemon is gone.
    unreachable: Option<Failure>,
    took: Duration,
}

impl Loaded {
    fn count(&mut self, file: Found, result: Result<(), Error>) {
        let name = text::key(OsStr::as_bytes(file.path.as_os_str()));
        match result {
            Ok(()) => {
                self.files += 1;
                self.bytes += file.len;
            }
            // Without --if-absent no condition is sent.
            Err(Error::VersionMismatch { .. }) => self.present += 1,
            Err(Error::Body(source)) => self.failures.push((name, text::io_error(&source))),
            Err(error) => {
                let gone = matches!(error, Error::Connect { .. } | Error::ShuttingDown);
                self.failures.push((name, error.to_string()));
                if gone {
                    self.unreachable = Some(Failure::request("load", error));
                }
            }
        }
    }

    fn report_failures(&self) {
        for (name, why) in self.failures.iter().take(FAILURES_SHOWN) {
            eprintln!("hedgerow: load {name}: {why}");
        }
        if self.failures.len() > FAILURES_SHOWN {
            eprintln!("hedgerow: load: and {} failures more", self.failures.len() - FAILURES_SHOWN);
        }
    }

    fn into_result(self) -> Result<(), Failure> {
        match self.unreachable {
            Some(failure) => Err(failure),
            None if self.failures.is_empty() => Ok(()),
            None => {
                let failed = text::counted(self.failures.len() as u64, "file");
                Err(Failure::No(format!("load: {failed} not stored")))
            }
        }
    }

    fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

impl Facts for Loaded {
    fn json(&self) -> Value {
        let failures: Vec<Value> =
            self.failures.iter().map(|(file, why)| json!({ "file": file, "why": why })).collect();
        json!({
            "files": self.files, "bytes": self.bytes, "took_ms": self.took.as_millis() as u64,
            "bytes_per_second": self.bytes_per_second().round() as u64, "present": self.present,
            "skipped": self.skipped, "not_tried": self.not_tried, "failures": failures,
        })
    }

    fn text(&self) -> String {
        let rate = self.files as f64 / self.took.as_secs_f64().max(1e-9);
        let mut out = format!(
            "{} ({}) stored in {}: {:.0} files/s, {}/s\n",
            text::counted(self.files, "file"),
            text::bytes(self.bytes),
            text::duration(self.took),
            rate,
            text::bytes(self.bytes_per_second() as u64)
        );
        for (number, what) in [
            (self.present, "left as they were (--if-absent)"),
            (self.skipped, "skipped (no regular files)"),
            (self.failures.len() as u64, "failed"),
            (self.not_tried, "not tried"),
        ] {
            if number > 0 {
                out.push_str(&format!("{} {what}\n", text::count(number)));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        for (name, len) in [("a", 1), ("b/c/d", 3), ("b.txt", 2)] {
            std::fs::write(root.join(name), vec![0; len]).unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("b/circle")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", root.join("broken")).unwrap();
        let tree = walk(root, b"x/").unwrap();
        let found: Vec<_> = tree.files.iter().map(|file| (text::key(&file.key), file.len)).collect();
        let expected = [("x/a", 1), ("x/b.txt", 2), ("x/b/c/d", 3), ("x/link", 1)];
        assert_eq!(found, expected.map(|(key, len)| (key.to_owned(), len)));
        assert_eq!(tree.skipped, 2);
        assert!(walk(&root.join("a"), b"").is_err());
    }
}
