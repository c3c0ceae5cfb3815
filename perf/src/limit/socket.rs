//! The loopback socket: one thread writes the same bytes again and again, to so many connections in turn,
//! and another takes them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use super::{Found, Loop};
use crate::connection::RECEIVE_BYTES;
use crate::{clock, machine};

/// One connection waits for every wake-up of the other end; many keep both ends busy.
const CONNECTIONS: [u32; 2] = [1, 16];

/// A loop for each length of a write. The reading end is on another core.
pub fn loops(sizes: &[usize], other_core: usize) -> Vec<Loop> {
    let mut loops = Vec::new();
    for &len in sizes {
        for depth in CONNECTIONS {
            let run = Box::new(move |seconds| stream(len, depth as usize, other_core, seconds));
            loops.push(Loop { name: "loopback socket, writing end".to_owned(), len, depth, run });
        }
    }
    loops
}

/// Takes everything until all connections are closed. How many bytes came.
fn take(address: SocketAddr, connections: usize, core: usize) -> Result<u64> {
    machine::pin(core)?;
    let connect = |_| {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        anyhow::Ok(stream)
    };
    let mut streams: Vec<TcpStream> = (0..connections).map(connect).collect::<Result<_>>()?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut sum = 0;
    while !streams.is_empty() {
        let mut waited: Vec<PollFd<'_>> =
            streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        poll(&mut waited, None)?;
        let mut ready = waited.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
        let mut failed = None;
        streams.retain_mut(|stream| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match stream.read(&mut buffer) {
                Ok(count) => {
                    sum += count as u64;
                    count > 0
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(sum)
}

fn stream(len: usize, connections: usize, other_core: usize, seconds: f64) -> Result<Found> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || take(address, connections, other_core));
        let accept = |_| Ok(listener.accept()?.0);
        let mut streams: Vec<TcpStream> = (0..connections).map(accept).collect::<Result<_>>()?;
        let bytes = vec![7; len];
        let (begun, cpu) = (clock::now_ns(), clock::thread_cpu_ns());
        let mut sent = 0u64;
        while clock::now_ns() < begun + (seconds * 1e9) as u64 {
            for stream in &mut streams {
                stream.write_all(&bytes)?;
                sent += len as u64;
            }
        }
        let cpu_ns = (clock::thread_cpu_ns() - cpu) as f64;
        drop(streams);
        let Ok(received) = reader.join() else { bail!("the reading end panicked") };
        let elapsed = (clock::now_ns() - begun) as f64 * 1e-9;
        let received = received?;
        ensure!(received == sent, "{received} of {sent} bytes came");
        let bytes = sent as f64;
        Ok(Found { bytes_per_second: bytes / elapsed, cpu_ns_per_byte: cpu_ns / bytes, ..Found::default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_sent_comes() {
        for connections in [1, 3] {
            let found = stream(10_000, connections, 0, 0.01).unwrap();
            assert!(found.bytes_per_second > 0.0 && found.cpu_ns_per_byte > 0.0, "{found:?}");
        }
    }
}
