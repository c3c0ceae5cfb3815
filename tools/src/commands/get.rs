//! `get`: reads an object, or a range of it, to standard output or a file.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use hedgerow_client::{Client, Error, ObjectMeta, ObjectStream, ReadPolicy, Request};
use serde_json::{Value, json};
use tempfile::TempPath;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{key_bytes, key_json};
use crate::context::{Context, Facts, failed, not_found};
use crate::failure::Failure;
use crate::text;

/// Read an object to standard output or a file.
#[derive(Args, Debug)]
pub struct Get {
    /// The key
    key: OsString,
    /// Write to this file, which appears once all is there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only these bytes: FIRST-LAST (both included), FIRST- or -LENGTH (the last ones), as in HTTP
    #[arg(long, value_parser = parse_range, allow_hyphen_values = true)]
    range: Option<Range>,
    /// How the parts are asked for [default: as the daemon is set]
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Rather nothing than an answer that could not be confirmed to be the newest
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// As many parts as are needed; a spare as soon as one is late
    Hedged,
    /// Every part at once
    All,
}

/// A range of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Range {
    /// From the first to the last, or to the end.
    From { first: u64, last: Option<u64> },
    /// So many at the end.
    Suffix { len: u64 },
}

fn parse_range(given: &str) -> Result<Range, String> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok())?
    };
    let read = || {
        let (first, last) = given.split_once('-')?;
        if first.is_empty() {
            return number(last).filter(|&len| len > 0).map(|len| Range::Suffix { len });
        }
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        last.is_none_or(|last| last >= first && last < u64::MAX).then_some(Range::From { first, last })
    };
    read().ok_or_else(|| format!("'{given}' is no range: write 0-99, 100- or -100"))
}

/// Reads it.
pub async fn run(context: &Context, get: Get) -> Result<(), Failure> {
    let key = key_bytes(&get.key);
    let what = format!("get {}", text::key(key));
    let file = get.output.as_deref().filter(|path| *path != Path::new("-"));
    if context.json && file.is_none() {
        return Err(Failure::Usage(
            "--json needs a file for the object itself: get KEY -o FILE --json".to_owned(),
        ));
    }
    let client = context.connect().await?;
    let request = request(context, &client, &get);
    let stream = open(&request, key, get.range).await.map_err(failed(&what))?;
    let stream = stream.ok_or_else(|| not_found(&what))?;
    let meta = stream.meta().clone();
    match file {
        None => {
            let copied = copy(stream, tokio::io::stdout()).await;
            copied.map_err(|error| error.into_failure(&what, Failure::output))
        }
        Some(path) => {
            to_file(stream, path, &what).await?;
            let read = Read { key: key.to_vec(), path: path.to_owned(), meta };
            if context.json { context.show(&read) } else { Ok(()) }
        }
    }
}

fn request(context: &Context, client: &Client, get: &Get) -> Request {
    let mut request = context.long_request(client);
    if get.strict {
        request = request.strict();
    }
    match get.policy {
        None => request,
        Some(Policy::Hedged) => request.read_policy(ReadPolicy::Hedged),
        Some(Policy::All) => request.read_policy(ReadPolicy::All),
    }
}

async fn open(request: &Request, key: &[u8], range: Option<Range>) -> Result<Option<ObjectStream>, Error> {
    match range {
        None => request.get_stream(key).await,
        Some(Range::From { first, last: None }) => request.get_range_stream(key, first..).await,
        Some(Range::From { first, last: Some(last) }) => request.get_range_stream(key, first..=last).await,
        Some(Range::Suffix { len }) => open_suffix(request, key, len).await,
    }
}

/// Times that the end of an object is looked for while others write it.
const SUFFIX_ATTEMPTS: usize = 8;

/// The last `len` bytes. Where they begin depends on the object's length, which a first short read
/// tells; if the object is another one by then, it is done again.
async fn open_suffix(request: &Request, key: &[u8], len: u64) -> Result<Option<ObjectStream>, Error> {
    for _ in 0..SUFFIX_ATTEMPTS {
        let start = match request.get_range(key, 0..1).await {
            Ok(Some(start)) => start,
            Ok(None) => return Ok(None),
            // The last bytes of nothing are nothing.
            Err(Error::RangeNotSatisfiable { object_len: 0 }) => return request.get_stream(key).await,
            Err(error) => return Err(error),
        };
        let first = start.meta.object_len.saturating_sub(len);
        match request.get_range_stream(key, first..).await {
            Ok(Some(stream)) if stream.meta().version == start.meta.version => return Ok(Some(stream)),
            Ok(None) => return Ok(None),
            // It has become another one, perhaps a shorter one.
            Ok(Some(_)) | Err(Error::RangeNotSatisfiable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let message = "the object changes faster than its end can be found".to_owned();
    Err(Error::BadRequest { message })
}

/// Why a copy ended early.
enum CopyError {
    Read(Error),
    Write(std::io::Error),
}

impl CopyError {
    fn into_failure(self, what: &str, write: impl Fn(&std::io::Error) -> Failure) -> Failure {
        match self {
            CopyError::Read(error) => Failure::request(&format!("{what}: the output is incomplete"), error),
            CopyError::Write(error) => write(&error),
        }
    }
}

async fn copy(mut stream: ObjectStream, mut out: impl AsyncWrite + Unpin) -> Result<(), CopyError> {
    while let Some(piece) = stream.next().await {
        out.write_all(&piece.map_err(CopyError::Read)?).await.map_err(CopyError::Write)?;
    }
    out.flush().await.map_err(CopyError::Write)
}

/// Writes to a temporary file beside `path` that takes its name at the end. What is no regular file
/// (a device, a pipe) is written to as it is.
async fn to_file(stream: ObjectStream, path: &Path, what: &str) -> Result<(), Failure> {
    let cannot_write = |error: &std::io::Error| Failure::file("write", path, error);
    let special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    if special {
        let file = tokio::fs::OpenOptions::new().write(true).open(path).await;
        let file = file.map_err(|error| cannot_write(&error))?;
        return copy(stream, file).await.map_err(|error| error.into_failure(what, cannot_write));
    }
    let (file, temporary) = create_beside(path).map_err(|error| cannot_write(&error))?;
    copy(stream, tokio::fs::File::from_std(file))
        .await
        .map_err(|error| error.into_failure(what, cannot_write))?;
    temporary.persist(path).map_err(|error| cannot_write(&error.error))
}

/// An empty file in the folder of `path`, gone unless it is given a name, with the permissions that
/// any new file gets.
fn create_beside(path: &Path) -> std::io::Result<(std::fs::File, TempPath)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => Permissions::from_mode(0o666),
    };
    let file = tempfile::Builder::new().prefix(".hedgerow-").permissions(permissions).tempfile_in(folder)?;
    Ok(file.into_parts())
}

struct Read {
    key: Vec<u8>,
    path: PathBuf,
    meta: ObjectMeta,
}

impl Facts for Read {
    fn json(&self) -> Value {
        let meta = &self.meta;
        let mut facts = json!({
            "file": self.path.to_string_lossy(),
            "version": meta.version.to_string(),
            "object_len": meta.object_len,
            "offset": meta.offset,
            "len": meta.len,
            "confirmed": !meta.unconfirmed,
            "from_memory": meta.from_memory,
            "ttl_ms": meta.ttl.map(|ttl| ttl.as_millis() as u64),
        });
        key_json(&mut facts, &self.key);
        facts
    }

    fn text(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_in_http() {
        let from = |first, last| Ok(Range::From { first, last });
        for (given, expected) in [
            ("0-0", from(0, Some(0))),
            ("5-99", from(5, Some(99))),
            ("5-", from(5, None)),
            ("-7", Ok(Range::Suffix { len: 7 })),
        ] {
            assert_eq!(parse_range(given), expected);
        }
        for wrong in ["", "-", "5", "9-5", "-0", "a-b", "1-2-3", "+1-2", "0-18446744073709551615"] {
            assert!(parse_range(wrong).unwrap_err().contains("0-99"), "{wrong}");
        }
    }
}
