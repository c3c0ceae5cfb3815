//! `put`: stores a file, or standard input, under a key.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};

use clap::Args;
use hedgerow_client::{Body, Error, Stored, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};

use super::write_options::WriteOptions;
use super::{key_bytes, key_json};
use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::text;

/// Store a file, or standard input, under a key.
#[derive(Args, Debug)]
pub struct Put {
    /// The key, 1 to 1,024 bytes
    key: OsString,
    /// The file, or - for standard input (up to 64 MiB)
    file: PathBuf,
    /// Only if the object's version is this one
    #[arg(long, value_name = "VERSION", value_parser = text::parse_version, conflicts_with = "if_absent")]
    if_version: Option<Version>,
    #[command(flatten)]
    write: WriteOptions,
}

/// Stores it.
pub async fn run(context: &Context, put: Put) -> Result<(), Failure> {
    let key = key_bytes(&put.key);
    let what = format!("put {}", text::key(key));
    // First the file: what is wrong with it needs no daemon to be seen.
    let counter = Arc::new(AtomicU64::new(0));
    let body = open(&put.file, &counter).await?;
    let client = context.connect().await?;
    let mut request = put.write.apply(context.long_request(&client));
    if let Some(version) = put.if_version {
        request = request.if_version(version);
    }
    let stored = request.put_stream(key, body).await.map_err(|error| match error {
        Error::VersionMismatch { found } if put.if_version.is_none() => {
            Failure::No(format!("{what}: there is one already (version {found})"))
        }
        Error::Body(source) => {
            let name = put.file.display();
            Failure::Local(format!("{what}: cannot read {name}: {}", text::io_error(&source)))
        }
        error => failed(&what)(error),
    })?;
    context.show(&Outcome { key: key.to_vec(), stored, len: counter.load(Ordering::Relaxed) })
}

/// What is to be stored, and a count of what was read of it.
async fn open<'a>(path: &Path, counter: &Arc<AtomicU64>) -> Result<Body<'a>, Failure> {
    if path == Path::new("-") {
        return Ok(Body::reader(Counted { inner: tokio::io::stdin(), count: counter.clone() }));
    }
    let wrong = |error: std::io::Error| Failure::file("read", path, &error);
    let file = tokio::fs::File::open(path).await.map_err(wrong)?;
    let metadata = file.metadata().await.map_err(wrong)?;
    if metadata.is_dir() {
        return Err(Failure::Local(format!(
            "{} is a folder ('hedgerow load' stores folders)",
            path.display()
        )));
    }
    let body = Body::reader(Counted { inner: file, count: counter.clone() });
    // Only a regular file knows its length, and the files of /proc do not know theirs.
    Ok(if metadata.is_file() && metadata.len() > 0 { body.with_len(metadata.len()) } else { body })
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.count.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

struct Outcome {
    key: Vec<u8>,
    stored: Stored,
    len: u64,
}

impl Facts for Outcome {
    fn json(&self) -> Value {
        let Stored { version, unchanged } = self.stored;
        let mut facts =
            json!({ "version": version.to_string(), "object_len": self.len, "unchanged": unchanged });
        key_json(&mut facts, &self.key);
        facts
    }

    fn text(&self) -> String {
        let (key, Stored { version, unchanged }) = (text::key(&self.key), self.stored);
        if unchanged {
            return format!("{key}: there was one already, nothing stored, version {version}\n");
        }
        format!("{key}: {} stored, version {version}\n", text::bytes(self.len))
    }
}
