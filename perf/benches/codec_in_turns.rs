//! The codec against its alternatives on one core, sampled in turns, so that a noisy neighbour hits all alike.
//! `cargo bench -p hedgerow-perf --bench codec_in_turns` (add `-- '1024 KiB rebuild 1'` for the rows that have this in
//! their name). Prints the median and the quartiles of 15 samples each, in microseconds for a whole stripe, and how
//! many times as long as `codec` the others take, sample by sample: `codec` is this repository's, `library` the coder
//! of `rusty_erasure`, whose kernels `codec` calls in its own way, `rs-simd` is `reed-solomon-simd`, and `ISA-L` is
//! Intel's, where Debian's `libisal2` is installed. Each has its tables of a loss pattern before it is sampled.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench reads the clock and prints")]

mod aligned;
mod isal;

use std::hint::black_box;
use std::time::{Duration, Instant};

use hedgerow_engine::codec::Codec;
use hedgerow_wire::Code;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use crate::aligned::Aligned;
use crate::isal::Isal;

const SAMPLES: usize = 15;
const SAMPLE_TIME: Duration = Duration::from_micros(2500);

/// Microseconds for one call, over as many calls as fit the sample's time.
fn sample(work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    for calls in 1.. {
        work();
        let elapsed = start.elapsed();
        if elapsed >= SAMPLE_TIME {
            return elapsed.as_secs_f64() * 1e6 / f64::from(calls);
        }
    }
    unreachable!("a sample ends")
}

/// Samples of some ways to do one thing.
type Arm<'a> = (&'static str, &'a mut dyn FnMut());

/// Median and quartiles.
fn quartiles(mut samples: Vec<f64>, digits: usize) -> String {
    samples.sort_by(f64::total_cmp);
    let at = |part: usize| samples[(SAMPLES * part / 4).min(SAMPLES - 1)];
    format!("{:.digits$} [{:.digits$}..{:.digits$}]", at(2), at(1), at(3))
}

/// What is wanted of all rows: those with one of the command line's words in their names; all, if it has none.
fn wanted(title: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    words.peek().is_none() || words.any(|word| title.contains(&word))
}

fn in_turns(title: &str, mut arms: Vec<Arm<'_>>) {
    // Memory is touched and tables are made; and what is compared later is there.
    arms.iter_mut().for_each(|(_, work)| work());
    if !wanted(title) {
        return;
    }
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); arms.len()];
    for _ in 0..SAMPLES {
        for ((_, work), samples) in arms.iter_mut().zip(&mut samples) {
            samples.push(sample(work));
        }
    }
    print!("{title:<36}");
    for (place, ((name, _), of)) in arms.iter().zip(&samples).enumerate() {
        print!("  {name} {}", quartiles(of.clone(), 1));
        if place > 0 {
            let ratios = of.iter().zip(&samples[0]).map(|(other, own)| other / own).collect();
            print!(", x {}", quartiles(ratios, 2));
        }
    }
    println!();
}

fn compare(k: usize, m: usize, stripe_len: usize, isal: Option<&Isal>) {
    let code = Code::new(k as u8, m as u8).expect("a code");
    // The other library takes even lengths only.
    let part_len = code.part_len(stripe_len).next_multiple_of(2);
    let data = Aligned::new(k * part_len);
    let sources: Vec<&[u8]> = data.chunks(part_len).collect();

    let mut codec = Codec::new();
    let mut parity = Aligned::new(m * part_len);
    let mut other_parity = Aligned::new(m * part_len);
    let mut encoder = ReedSolomonEncoder::new(k, m, part_len).expect("a code");
    let mut ours = || {
        let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
        codec.encode(code, &data, &mut buffers).expect("encoded");
    };
    let mut theirs = || {
        sources.iter().for_each(|part| encoder.add_original_shard(part).expect("a shard"));
        let result = encoder.encode().expect("encoded");
        other_parity
            .chunks_mut(part_len)
            .zip(result.recovery_iter())
            .for_each(|(to, from)| to.copy_from_slice(from));
    };
    let mut library_parity = Aligned::new(m * part_len);
    let mut library = library_arm(k, m, &sources, &mut library_parity);
    let mut isal_parity = Aligned::new(m * part_len);
    let mut isal_encoder = isal.map(|isal| isal.encoder(k, m));
    let mut intel = || {
        let mut buffers: Vec<&mut [u8]> = isal_parity.chunks_mut(part_len).collect();
        isal_encoder.iter_mut().for_each(|encoder| encoder.of(&sources, &mut buffers));
    };
    let title = format!("{code} {} KiB", stripe_len >> 10);
    let mut arms: Vec<Arm<'_>> =
        vec![("codec", &mut ours), ("library", &mut library), ("rs-simd", &mut theirs)];
    arms.extend(isal.map(|_| -> Arm<'_> { ("ISA-L", &mut intel) }));
    in_turns(&format!("{title} encode"), arms);

    for lose in [1, m.min(k)] {
        let have: Vec<(u8, &[u8])> =
            (0u8..).zip(sources.iter().copied().chain(parity.chunks(part_len))).skip(lose).collect();
        let mut rebuilt = Aligned::new(lose * part_len);
        let mut ours = || {
            let mut want: Vec<(u8, &mut [u8])> = (0..).zip(rebuilt.chunks_mut(part_len)).collect();
            codec.reconstruct(code, &have, &mut want).expect("rebuilt");
        };
        let mut decoder = ReedSolomonDecoder::new(k, m, part_len).expect("a code");
        let other: Vec<&[u8]> = other_parity.chunks(part_len).collect();
        let mut other_rebuilt = Aligned::new(lose * part_len);
        let mut theirs = || {
            (lose..k).for_each(|i| decoder.add_original_shard(i, sources[i]).expect("a shard"));
            (0..lose).for_each(|i| decoder.add_recovery_shard(i, other[i]).expect("a shard"));
            let result = decoder.decode().expect("decoded");
            for (to, (_, from)) in other_rebuilt.chunks_mut(part_len).zip(result.restored_original_iter()) {
                to.copy_from_slice(from);
            }
        };
        let intel_parity = isal_parity.chunks(part_len).take(lose);
        let intel_have: Vec<&[u8]> = sources[lose..].iter().copied().chain(intel_parity).collect();
        let mut isal_rebuilt = Aligned::new(lose * part_len);
        let mut rebuilder = isal.map(|isal| isal.rebuilder(k, m, lose));
        let mut intel = || {
            let mut want: Vec<&mut [u8]> = isal_rebuilt.chunks_mut(part_len).collect();
            rebuilder.iter_mut().for_each(|rebuilder| rebuilder.of(&intel_have, &mut want));
        };
        let mut arms: Vec<Arm<'_>> = vec![("codec", &mut ours), ("rs-simd", &mut theirs)];
        arms.extend(isal.map(|_| -> Arm<'_> { ("ISA-L", &mut intel) }));
        in_turns(&format!("{title} rebuild {lose}"), arms);
        let lost = &data[..lose * part_len];
        assert!(rebuilt[..] == *lost && other_rebuilt[..] == *lost, "both are right");
        assert!(isal.is_none() || isal_rebuilt[..] == *lost, "ISA-L is right");
    }
    black_box((&parity[..], &other_parity[..]));
}

/// Encodes with the library's own coder.
fn library_arm(k: usize, m: usize, sources: &[&[u8]], parity: &mut [u8]) -> impl FnMut() {
    let coder = rusty_erasure::Matrix::cauchy(k, m).and_then(rusty_erasure::coder).expect("a code");
    let part_len = sources[0].len();
    move || {
        let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
        coder.encode(sources, &mut buffers).expect("encoded");
    }
}

/// The cost of a length that is no multiple of the kernel's step.
fn odd_length(k: usize, m: usize, part_len: usize) {
    let code = Code::new(k as u8, m as u8).expect("a code");
    let data = Aligned::new(k * part_len);
    let sources: Vec<&[u8]> = data.chunks(part_len).collect();
    let (mut parity, mut library_parity) = (Aligned::new(m * part_len), Aligned::new(m * part_len));
    let mut codec = Codec::new();
    let mut ours = || {
        let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
        codec.encode(code, &data, &mut buffers).expect("encoded");
    };
    let mut library = library_arm(k, m, &sources, &mut library_parity);
    in_turns(
        &format!("{code} encode, parts of {part_len} B"),
        vec![("codec", &mut ours), ("library", &mut library)],
    );
}

fn main() {
    hedgerow_perf::machine::pin(0).expect("pinned to a core");
    let isal = Isal::load().map_err(|why| println!("{why}")).ok();
    println!("kernel {}, microseconds for a stripe: median [quartiles] of {SAMPLES}", Codec::new().kernel());
    for part_len in [4096, 4096 + 31, 16_384, 16_384 + 31] {
        odd_length(4, 2, part_len);
        odd_length(10, 4, part_len);
    }
    let codes = [
        (4, 2),
        (10, 4),
        (20, 4),
        (24, 8),
        (40, 8),
        (48, 16),
        (64, 16),
        (100, 28),
        (128, 32),
        (200, 55),
        (128, 127),
    ];
    for (k, m) in codes {
        for stripe_len in [64 << 10, 256 << 10, 1 << 20] {
            compare(k, m, stripe_len, isal.as_ref());
        }
    }
}
