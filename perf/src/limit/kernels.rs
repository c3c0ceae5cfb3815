//! What one core does with bytes in memory: copies, checksums, codes.

use std::hint::black_box;

use anyhow::Result;
use hedgerow_engine::codec::Codec;
use hedgerow_wire::Code;
use hedgerow_wire::checksum::crc32c;

use super::{Found, Loop};
use crate::clock;
use crate::pattern::Pattern;

/// Bytes of an operation: a stripe.
const LEN: usize = 1 << 20;
/// More than caches hold.
const COLD_BYTES: usize = 256 << 20;

/// All of them.
pub fn loops() -> Result<Vec<Loop>> {
    let mut loops = vec![
        of("copy, in cache", copy(2 * LEN)),
        of("copy, out of cache", copy(COLD_BYTES)),
        of("CRC-32C, in cache", checksum()),
    ];
    for (k, m) in [(4, 2), (10, 4)] {
        let code = Code::new(k, m)?;
        loops.push(of(&format!("encode {code}"), encode(code)));
        loops.push(of(&format!("reconstruct one data part of {code}"), reconstruct(code)?));
    }
    Ok(loops)
}

fn of(name: &str, mut operation: impl FnMut() -> Result<()> + 'static) -> Loop {
    let run = move |seconds: f64| {
        let (begun, mut count) = (clock::now_ns(), 0);
        while clock::now_ns() < begun + (seconds * 1e9) as u64 {
            operation()?;
            count += 1;
        }
        let elapsed_ns = (clock::now_ns() - begun) as f64;
        let bytes = (count * LEN) as f64;
        Ok(Found { bytes_per_second: bytes / elapsed_ns * 1e9, ..Found::default() })
    };
    Loop { name: name.to_owned(), len: LEN, depth: 1, run: Box::new(run) }
}

fn stripe() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    Pattern::default().fill(1, 0, &mut bytes);
    bytes
}

/// From one half of a buffer to the other, further each time.
fn copy(bytes: usize) -> impl FnMut() -> Result<()> {
    let mut buffer = vec![1u8; bytes];
    let mut at = 0;
    move || {
        let (from, to) = buffer.split_at_mut(bytes / 2);
        to[at..at + LEN].copy_from_slice(&from[at..at + LEN]);
        black_box(&to[at]);
        at = (at + LEN) % (bytes / 2);
        Ok(())
    }
}

fn checksum() -> impl FnMut() -> Result<()> {
    let bytes = stripe();
    move || {
        black_box(crc32c(black_box(&bytes)));
        Ok(())
    }
}

fn encode(code: Code) -> impl FnMut() -> Result<()> {
    let part_len = code.part_len(LEN);
    let mut data = stripe();
    data.resize(code.k() * part_len, 0);
    let mut parity = vec![0; code.m() * part_len];
    let mut codec = Codec::new();
    move || {
        let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
        codec.encode(code, &data, &mut buffers)?;
        Ok(())
    }
}

fn reconstruct(code: Code) -> Result<impl FnMut() -> Result<()>> {
    let part_len = code.part_len(LEN);
    let mut parts = stripe();
    parts.resize(code.n() * part_len, 0);
    let mut codec = Codec::new();
    let (data, parity) = parts.split_at_mut(code.k() * part_len);
    codec.encode(code, data, &mut parity.chunks_mut(part_len).collect::<Vec<_>>())?;
    let mut out = vec![0; part_len];
    Ok(move || {
        // The first data part is missing, the first parity part is there instead.
        let there: Vec<(u8, &[u8])> = (0u8..).zip(parts.chunks(part_len)).skip(1).take(code.k()).collect();
        codec.reconstruct(code, &there, &mut [(0, &mut out)])?;
        Ok(())
    })
}
