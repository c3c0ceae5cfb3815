//! Erasure codes: `k` data parts and `m` parity parts of equal length, any `k` of which give back all
//! the others.
//!
//! One family serves every code up to 255 parts: systematic Reed-Solomon over GF(2^8), whose
//! generator is a Cauchy matrix scaled so that the first parity part is the plain XOR of the data
//! (see [`generator`]). `k = 1` is copying, `m = 0` is nothing. Parts may have any length.
//!
//! Coding is a matrix times the parts. The matrix of one loss pattern is a *plan*: built once, kept
//! in a bounded cache, and shared by encoding (the pattern "all data there, all parity lost") and
//! reconstruction. With its plan in the cache, a call allocates nothing.
//!
//! Stored data depends on the generator: it never changes. This room knows nothing of objects,
//! stripes or devices.

mod generator;
mod kernel;
mod parts;
mod plan;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use hedgerow_wire::Code;
use hedgerow_wire::limits::CODE_PARTS_MAX;
use rusty_erasure::kernel::Kernels;
use smallvec::SmallVec;

use self::parts::PartSet;
use self::plan::{PlanCache, PlanKey};

/// Parts' bytes, in the order of their numbers. On the stack for every code that there is, and large:
/// made empty and then filled where it stands, since moving one costs more than coding a small part.
type Sources<'a> = SmallVec<[&'a [u8]; CODE_PARTS_MAX]>;
type Outputs<'a> = SmallVec<[&'a mut [u8]; CODE_PARTS_MAX]>;

/// Why parts cannot be coded. Nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// Fewer parts were given than the code has data parts.
    #[error("{found} parts are not enough, the code needs {needed}")]
    TooFewParts {
        /// Parts that were given.
        found: usize,
        /// Parts that are needed: the code's `k`.
        needed: usize,
    },
    /// The same part was given, or asked for, twice.
    #[error("part {part} comes twice")]
    PartTwice {
        /// Its number.
        part: u8,
    },
    /// The code has no part of this number.
    #[error("there is no part {part} in a code of {n} parts")]
    PartOutOfRange {
        /// The number that was given.
        part: u8,
        /// Parts of the code.
        n: usize,
    },
    /// A part has another length than the others.
    #[error("part {part} has {found} bytes, the others have {expected}")]
    PartLength {
        /// Its number.
        part: u8,
        /// Length of the first part, in bytes.
        expected: usize,
        /// Length of this part, in bytes.
        found: usize,
    },
    /// The data to be encoded is not `k` parts of the parity's length.
    #[error("{found} bytes of data are given, {expected} are expected")]
    DataLength {
        /// `k` times the length of a parity part, in bytes.
        expected: usize,
        /// Length of the data, in bytes.
        found: usize,
    },
    /// There are not `m` buffers for the parity parts.
    #[error("{found} buffers for parity are given, the code has {expected} parity parts")]
    ParityCount {
        /// The code's `m`.
        expected: usize,
        /// Buffers that were given.
        found: usize,
    },
}

/// Encodes and reconstructs. One per core: it keeps the plans that the core uses.
pub struct Codec {
    kernels: Kernels,
    plans: PlanCache,
}

impl Codec {
    /// A codec with the fastest kernel that this processor has, and no plans yet.
    pub fn new() -> Codec {
        Codec::with_kernels(rusty_erasure::best_kernels())
    }

    fn with_kernels(kernels: Kernels) -> Codec {
        Codec { kernels, plans: PlanCache::new() }
    }

    /// Name of the kernel in use, such as `x86_64/avx2_gfni`.
    pub fn kernel(&self) -> &'static str {
        self.kernels.name
    }

    /// Computes the parity parts of a stripe. `data` is its `k` data parts one after the other, the
    /// last one padded with zeroes; `parity` is `m` buffers of one part's length, overwritten with
    /// the parts `k..n`.
    pub fn encode(&mut self, code: Code, data: &[u8], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        if parity.len() != code.m() {
            return Err(CodecError::ParityCount { expected: code.m(), found: parity.len() });
        }
        let part_len = parity.first().map_or(data.len() / code.k(), |part| part.len());
        for (part, bytes) in (code.k()..).zip(parity.iter()) {
            check_len(part as u8, bytes.len(), part_len)?;
        }
        if data.len() != code.k() * part_len {
            return Err(CodecError::DataLength { expected: code.k() * part_len, found: data.len() });
        }
        if code.m() == 0 || part_len == 0 {
            return Ok(());
        }
        if code.k() == 1 {
            parity.iter_mut().for_each(|copy| copy.copy_from_slice(data));
            return Ok(());
        }
        let key =
            PlanKey { code, have: PartSet::range(0, code.k()), want: PartSet::range(code.k(), code.n()) };
        let mut sources = Sources::new();
        sources.extend(data.chunks_exact(part_len));
        self.plans.get(&key, &self.kernels).apply(&self.kernels, &sources, parity);
        Ok(())
    }

    /// Rebuilds parts of a stripe. `have` is at least `k` distinct parts (number, bytes) of equal
    /// length, in any order; `want` is the distinct parts to write (number, buffer of that length),
    /// data and parity alike, in any order. A wanted part that is in `have` is copied.
    pub fn reconstruct(
        &mut self,
        code: Code,
        have: &[(u8, &[u8])],
        want: &mut [(u8, &mut [u8])],
    ) -> Result<(), CodecError> {
        let (have_set, want_set) = check_parts(code, have, want)?;
        let missing = want_set.without(&have_set);
        if missing.len() < want.len() {
            copy_present(have, want);
        }
        let part_len = have[0].1.len();
        if missing.is_empty() || part_len == 0 {
            return Ok(());
        }
        if code.k() == 1 {
            want.iter_mut().for_each(|(_, copy)| copy.copy_from_slice(have[0].1));
            return Ok(());
        }
        // The lowest numbers: with every data part that is there, the least is left to compute.
        let key = PlanKey { code, have: have_set.lowest(code.k()), want: missing };
        let mut sources = Sources::new();
        sources.resize(code.k(), &[]);
        for &(part, bytes) in have.iter().filter(|(part, _)| key.have.contains(*part)) {
            sources[key.have.rank(part)] = bytes;
        }
        let mut outputs = Outputs::new();
        outputs.resize_with(missing.len(), Default::default);
        for (part, bytes) in want.iter_mut().filter(|(part, _)| missing.contains(*part)) {
            outputs[missing.rank(*part)] = bytes;
        }
        self.plans.get(&key, &self.kernels).apply(&self.kernels, &sources, &mut outputs);
        Ok(())
    }

    /// As [`Codec::reconstruct`], into memory that it takes: the parts `want`, of `part_len` bytes each, in their
    /// order. Parts without bytes need nothing to be rebuilt from.
    pub fn rebuild<B: AsRef<[u8]>>(
        &mut self,
        code: Code,
        part_len: usize,
        have: &[(u8, B)],
        want: &[u8],
    ) -> Result<SmallVec<[Vec<u8>; 8]>, CodecError> {
        let mut buffers: SmallVec<[Vec<u8>; 8]> = want.iter().map(|_| vec![0; part_len]).collect();
        if want.is_empty() || part_len == 0 {
            return Ok(buffers);
        }
        let have: SmallVec<[(u8, &[u8]); 16]> =
            have.iter().map(|(part, bytes)| (*part, bytes.as_ref())).collect();
        let mut wanted: SmallVec<[(u8, &mut [u8]); 8]> =
            want.iter().zip(&mut buffers).map(|(&part, buffer)| (part, buffer.as_mut_slice())).collect();
        self.reconstruct(code, &have, &mut wanted)?;
        drop(wanted);
        Ok(buffers)
    }
}

impl Default for Codec {
    fn default() -> Codec {
        Codec::new()
    }
}

fn check_len(part: u8, found: usize, expected: usize) -> Result<(), CodecError> {
    if found == expected { Ok(()) } else { Err(CodecError::PartLength { part, expected, found }) }
}

/// Checks everything about `have` and `want` that `reconstruct` promises; their numbers as sets.
fn check_parts(
    code: Code,
    have: &[(u8, &[u8])],
    want: &[(u8, &mut [u8])],
) -> Result<(PartSet, PartSet), CodecError> {
    let part_len = have.first().map_or(0, |(_, bytes)| bytes.len());
    let collect = |parts: &mut dyn Iterator<Item = (u8, usize)>| {
        let mut set = PartSet::default();
        for (part, len) in parts {
            if usize::from(part) >= code.n() {
                return Err(CodecError::PartOutOfRange { part, n: code.n() });
            }
            if !set.insert(part) {
                return Err(CodecError::PartTwice { part });
            }
            check_len(part, len, part_len)?;
        }
        Ok(set)
    };
    let have_set = collect(&mut have.iter().map(|(part, bytes)| (*part, bytes.len())))?;
    if have_set.len() < code.k() {
        return Err(CodecError::TooFewParts { found: have_set.len(), needed: code.k() });
    }
    let want_set = collect(&mut want.iter().map(|(part, bytes)| (*part, bytes.len())))?;
    Ok((have_set, want_set))
}

fn copy_present(have: &[(u8, &[u8])], want: &mut [(u8, &mut [u8])]) {
    for (part, copy) in want {
        if let Some((_, bytes)) = have.iter().find(|(number, _)| number == part) {
            copy.copy_from_slice(bytes);
        }
    }
}
