//! How a plan's matrix runs over parts of any length and number.
//!
//! The kernels of `rusty_erasure` compute a few rows in one walk over the sources. Their speed
//! depends on how they are called; the constants here are measured, see docs/numbers.md.

use std::ops::Range;

use hedgerow_wire::limits::CODE_PARTS_MAX;
use rusty_erasure::kernel::Kernels;
use smallvec::SmallVec;

use super::Sources;

/// Bytes that the kernels take in their smallest step. They go on byte by byte where less is left, at
/// many times the cost, so the last step is laid over the end of the one before instead.
const STEP_BYTES: usize = 32;
/// As `STEP_BYTES`, of the XOR kernel.
const XOR_STEP_BYTES: usize = 64;
/// Rows that one walk computes. More rows at once leave the kernel fewer registers for each, fewer
/// rows read the sources more often; the less there is to read, the fewer are best.
const ROWS_FEW_SOURCES: usize = 2;
const ROWS_MANY_SOURCES: usize = 4;
/// Up to here a code has few data parts.
const FEW_SOURCES: usize = 16;
/// What several walks go over, sources and outputs, in bytes: it stays in the second-level cache.
const BLOCK_BYTES: usize = 384 << 10;

const _: () = assert!(BLOCK_BYTES / CODE_PARTS_MAX >= 32 * STEP_BYTES);

/// Sets each of `outputs` to the sum of `sources` times its row of `tables`. All have one length.
pub(super) fn multiply_parts(kernels: &Kernels, tables: &[u8], sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let (k, len) = (sources.len(), sources[0].len());
    let rows = if k <= FEW_SOURCES { ROWS_FEW_SOURCES } else { ROWS_MANY_SOURCES };
    let run_len = if outputs.len() <= rows { len } else { BLOCK_BYTES / (k + rows) };
    for run in runs(len, run_len, STEP_BYTES) {
        let mut run_sources = Sources::new();
        run_sources.extend(sources.iter().map(|source| &source[run.clone()]));
        let walks = tables.chunks(rows * k * kernels.table_bytes).zip(outputs.chunks_mut(rows));
        for (tables, outputs) in walks {
            let mut run_outputs: SmallVec<[&mut [u8]; ROWS_MANY_SOURCES]> =
                outputs.iter_mut().map(|output| &mut output[run.clone()]).collect();
            (kernels.encode)(tables, &run_sources, &mut run_outputs);
        }
    }
}

/// Sets `output` to the XOR of `sources`, which are two or more. All have one length.
pub(super) fn xor_parts(sources: &[&[u8]], output: &mut [u8]) {
    for run in runs(output.len(), output.len(), XOR_STEP_BYTES) {
        let mut run_sources = Sources::new();
        run_sources.extend(sources.iter().map(|source| &source[run.clone()]));
        if let Err(error) = rusty_erasure::raid::xor_gen(&run_sources, &mut output[run.clone()]) {
            panic!("{} parts of equal length could not be added: {error}", sources.len());
        }
    }
}

/// Cuts `0..len` (`len > 0`) into runs of about `run_len` bytes, whole steps each. The last one is a
/// step that ends at `len`, over bytes that were done before; nothing but `len` itself is shorter
/// than a step.
fn runs(len: usize, run_len: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = if len < step { len } else { len / step * step };
    let run_len = (run_len / step * step).max(step);
    let last = (whole < len).then(|| len - step..len);
    (0..whole).step_by(run_len).map(move |start| start..whole.min(start + run_len)).chain(last)
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn runs_cover_everything_in_whole_steps() {
        for len in 1..700 {
            for run_len in [1, 32, 100, 128, 1000] {
                let mut end = 0;
                for run in runs(len, run_len, 32) {
                    assert!(run.start <= end && run.end > end, "{len} {run_len}: {run:?} after {end}");
                    assert!(run.len().is_multiple_of(32) || len < 32, "{len} {run_len}: {run:?}");
                    end = run.end;
                }
                assert_eq!(end, len);
            }
        }
    }
}
