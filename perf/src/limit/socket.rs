//! The loopback socket: one end writes the same bytes again and again, the other takes them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Result, bail};

use super::{Found, Loop};
use crate::{clock, machine};

/// A loop for each length of a write. The reading end is on another core.
pub fn loops(sizes: &[usize], other_core: usize) -> Vec<Loop> {
    let one = |&len: &usize| {
        let run = Box::new(move |seconds| stream(len, other_core, seconds));
        Loop { name: "loopback socket, writing end".to_owned(), len, depth: 1, run }
    };
    sizes.iter().map(one).collect()
}

fn stream(len: usize, other_core: usize, seconds: f64) -> Result<Found> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<u64> {
            machine::pin(other_core)?;
            let mut stream = TcpStream::connect(address)?;
            let mut buffer = vec![0; crate::connection::RECEIVE_BYTES];
            let mut sum = 0;
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(sum),
                    count => sum += count as u64,
                }
            }
        });
        let (mut stream, _) = listener.accept()?;
        let bytes = vec![7; len];
        let (begun, cpu) = (clock::now_ns(), clock::thread_cpu_ns());
        let mut sent = 0u64;
        while clock::now_ns() < begun + (seconds * 1e9) as u64 {
            stream.write_all(&bytes)?;
            sent += len as u64;
        }
        let cpu_ns = (clock::thread_cpu_ns() - cpu) as f64;
        drop(stream);
        let Ok(received) = reader.join() else { bail!("the reading end panicked") };
        let elapsed = (clock::now_ns() - begun) as f64 * 1e-9;
        anyhow::ensure!(received? == sent, "not all of {sent} bytes came");
        let bytes = sent as f64;
        Ok(Found { bytes_per_second: bytes / elapsed, cpu_ns_per_byte: cpu_ns / bytes, ..Found::default() })
    })
}
