//! The client against a peer that speaks the real protocol over loopback sockets.
//!
//! No test waits for a time to pass before it looks: tests wait for what the peer has seen, or for
//! the outcome itself. Short deadlines appear only where their passing is the outcome.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod connections;
mod errors;
mod peer;
mod requests;
mod streams;

use std::time::Duration;

use hedgerow_client::{Builder, Client, Error};
use peer::Peer;

/// A deadline that only a peer that never answers lets pass.
const SHORT: Duration = Duration::from_millis(300);

/// Deadlines that no test lets pass on a machine that is merely busy.
fn builder() -> Builder {
    Client::builder().name("test").deadline(Duration::from_secs(50)).keepalive(Duration::from_secs(50))
}

async fn client(peer: &Peer) -> Client {
    builder().connect(&peer.addr).await.unwrap()
}

/// `len` bytes that tell where they come from.
fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Compares errors by their variant.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("{:?}, expected {}", other.map(|_| "no error"), stringify!($pattern)),
        }
    };
}
pub(crate) use assert_error;

#[test]
fn errors_are_of_one_size() {
    // Every request's result holds one.
    assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
}
