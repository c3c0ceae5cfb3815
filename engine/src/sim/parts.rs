//! Parts and the stripes that they make: what a write cuts up, what a read puts together, what is rebuilt.

use std::ops::Range;
use std::rc::Rc;

use hedgerow_wire::part::PartMeta;

use super::bytes::Slice;
use crate::codec::Codec;

/// The bytes behind a write or a rebuild of the coordinator's.
pub(super) enum OpBytes {
    /// A stripe, padded to its parts, and its parity.
    Stripe { meta: Box<PartMeta>, data: Rc<[u8]>, parity: Rc<[u8]> },
    /// Parts that were rebuilt, by number.
    Rebuilt { meta: Box<PartMeta>, parts: Vec<(u8, Slice)> },
}

impl OpBytes {
    /// Head and bytes of a part, if they are here.
    pub(super) fn part(&self, part: u8) -> Option<(PartMeta, Slice)> {
        match self {
            OpBytes::Stripe { meta, data, parity } => {
                let (len, k, number) = (meta.part_len(), meta.code.k(), usize::from(part));
                let (buffer, at) = if number < k { (data, number) } else { (parity, number - k) };
                let bytes = Slice::new(buffer.clone(), at * len..(at + 1) * len);
                Some((PartMeta { part, ..(**meta).clone() }, bytes))
            }
            OpBytes::Rebuilt { meta, parts } => {
                let (_, bytes) = parts.iter().find(|(number, _)| *number == part)?;
                Some((PartMeta { part, ..(**meta).clone() }, bytes.clone()))
            }
        }
    }
}

/// Cuts `range` of a stripe out of its parts; and whether a part had to be rebuilt for it. `None` if the parts
/// do not suffice, which the coordinator has ruled out.
pub(super) fn assemble(
    codec: &mut Codec,
    meta: &PartMeta,
    parts: &[(u8, Slice)],
    range: Range<usize>,
) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::with_capacity(range.len());
    if range.is_empty() {
        return Some((bytes, false));
    }
    let part_len = meta.part_len();
    let numbers = range.start / part_len..=(range.end - 1) / part_len;
    let has = |number: usize| parts.iter().find(|(part, _)| usize::from(*part) == number);
    let missing: Vec<u8> =
        numbers.clone().filter(|&number| has(number).is_none()).map(|number| number as u8).collect();
    let rebuilt = rebuild(codec, meta, parts, &missing);
    if rebuilt.len() != missing.len() {
        return None;
    }
    for number in numbers {
        let first = number * part_len;
        let inside = range.start.max(first) - first..range.end.min(first + part_len) - first;
        let (_, part) =
            has(number).or_else(|| rebuilt.iter().find(|(part, _)| usize::from(*part) == number))?;
        bytes.extend_from_slice(&part.as_ref()[inside]);
    }
    Some((bytes, !missing.is_empty()))
}

/// Rebuilds the parts `want` from `have`; fewer than asked for if `have` does not suffice.
pub(super) fn rebuild(
    codec: &mut Codec,
    meta: &PartMeta,
    have: &[(u8, Slice)],
    want: &[u8],
) -> Vec<(u8, Slice)> {
    let part_len = meta.part_len();
    let slice = |bytes: Vec<u8>| Slice::new(Rc::from(&bytes[..]), 0..bytes.len());
    if part_len == 0 {
        return want.iter().map(|&part| (part, slice(Vec::new()))).collect();
    }
    if want.is_empty() {
        return Vec::new();
    }
    let have: Vec<(u8, &[u8])> = have.iter().map(|(part, bytes)| (*part, bytes.as_ref())).collect();
    let mut buffers = vec![vec![0; part_len]; want.len()];
    let mut wanted: Vec<(u8, &mut [u8])> =
        want.iter().zip(&mut buffers).map(|(&part, buffer)| (part, buffer.as_mut_slice())).collect();
    if codec.reconstruct(meta.code, &have, &mut wanted).is_err() {
        return Vec::new();
    }
    want.iter().zip(buffers).map(|(&part, buffer)| (part, slice(buffer))).collect()
}
