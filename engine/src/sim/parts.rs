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
    let cuts = meta.cuts(range);
    let has = |number: u8| parts.iter().find(|(part, _)| *part == number);
    let missing: Vec<u8> =
        cuts.clone().map(|(number, _)| number).filter(|&number| has(number).is_none()).collect();
    let rebuilt = rebuild(codec, meta, parts, &missing)?;
    for (number, inside) in cuts {
        let (_, part) = has(number).or_else(|| rebuilt.iter().find(|(part, _)| *part == number))?;
        bytes.extend_from_slice(&part.as_ref()[inside]);
    }
    Some((bytes, !missing.is_empty()))
}

/// Rebuilds the parts `want` from `have`, if it suffices.
pub(super) fn rebuild(
    codec: &mut Codec,
    meta: &PartMeta,
    have: &[(u8, Slice)],
    want: &[u8],
) -> Option<Vec<(u8, Slice)>> {
    let rebuilt = codec.rebuild(meta.code, meta.part_len(), have, want).ok()?;
    let slices = rebuilt.into_iter().map(|bytes| Slice::new(Rc::from(&bytes[..]), 0..bytes.len()));
    Some(want.iter().copied().zip(slices).collect())
}
