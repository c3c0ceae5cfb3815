//! Async client of the Hedgerow object cache (tokio).
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use hedgerow_client::{Client, Namespace};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> hedgerow_client::Result<()> {
//!     let cache = Client::connect("127.0.0.1:7400").await?;
//!     cache.put("greeting", "hello").await?;
//!     if let Some(object) = cache.get("greeting").await? {
//!         println!("{} bytes, version {}", object.bytes.len(), object.version);
//!     }
//!
//!     // Options come first, then the verb; what is kept can be used again.
//!     let thumbnails = cache.request().namespace(Namespace(7)).deadline(Duration::from_millis(50));
//!     thumbnails.clone().ttl(Duration::from_secs(3600)).put("cat", vec![0; 4096]).await?;
//!     match thumbnails.get("cat").await {
//!         Ok(Some(cat)) => println!("{} bytes", cat.bytes.len()),
//!         Ok(None) => println!("not cached"),
//!         Err(error) => println!("as good as not cached: {error}"),
//!     }
//!
//!     // Large objects come piece by piece.
//!     if let Some(mut video) = cache.get_stream("video").await? {
//!         while let Some(piece) = video.next().await {
//!             println!("{} bytes", piece?.len());
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What it promises
//!
//! * **Deadlines.** Every request has one and is done by then, by the client's own clock. Dropping a
//!   request's future, or a stream, cancels it at the daemon too.
//! * **Bytes.** Frames are checked by header, key and body checksums, a whole read by the CRC-32C that
//!   its writer gave. What fails a check is [`Error::Corrupt`], never data.
//! * **Repetition.** A request of which nothing was sent moves to the next connection. Reads (and puts
//!   of immutable objects) are repeated once if their connection breaks. Any other write that was sent
//!   is never repeated: if its answer is lost, it is [`Error::Indeterminate`].
//! * **Bounds.** Requests under way, bytes ahead of a stream's consumer, bytes ahead of a daemon's
//!   credit: all are limited (see [`limits`]).
//!
//! # Tests of services
//!
//! With the feature `testing`, the module `testing` starts real daemons that are slowed, damaged and killed on purpose.
//!
//! # How it works
//!
//! A connection has one task that reads and one that writes. Requests of any number of tasks share
//! it: their frames go out together in vectored writes, their answers come in any order. Frames of
//! large puts let small requests pass. The bodies of large answers are received straight into the
//! memory that the caller gets.

mod address;
mod backoff;
mod body;
mod call;
mod client;
mod clock;
mod connection;
mod error;
pub mod limits;
mod object;
mod pool;
mod request;
#[cfg(feature = "testing")]
pub mod testing;

pub use address::{Address, Addresses};
pub use body::Body;
pub use client::{Builder, Client};
pub use error::{Error, Result};
pub use hedgerow_wire::messages;
pub use hedgerow_wire::{
    AckLevel, ChecksumKind, Code, Key, Namespace, ObjectChecksum, Priority, ReadPolicy, Version,
};
pub use object::{Object, ObjectMeta, ObjectStream};
pub use pool::DaemonStatus;
pub use request::{Request, Stored};
