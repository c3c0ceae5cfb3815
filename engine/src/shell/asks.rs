//! Names and bytes of what coordinators ask of shards.

use std::sync::Arc;

use hedgerow_wire::part::PartMeta;

use super::buffers::SharedBytes;
use crate::slab::Token;

/// Who gets a shard's answer. Packed into the [`Token`] of the request: the high 64 bits say which
/// core asked, the low ones its number for it, whole: a coordinator's ids use all bits in the course of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A coordinator's ask, on this core or another.
    Coordinator { core: usize, ask: u64 },
    /// A task of this core that waits in `direct`.
    Direct(u64),
}

/// In place of a core. No machine has so many.
const DIRECT: u64 = u64::MAX;

impl Asker {
    /// The token that stands for it.
    pub fn token(self) -> Token {
        let (high, low) = match self {
            Asker::Coordinator { core, ask } => (core as u64, ask),
            Asker::Direct(number) => (DIRECT, number),
        };
        Token(u128::from(high) << 64 | u128::from(low))
    }

    /// Whom a token stands for.
    pub fn from_token(token: Token) -> Asker {
        let number = token.0 as u64;
        match (token.0 >> 64) as u64 {
            DIRECT => Asker::Direct(number),
            core => Asker::Coordinator { core: core as usize, ask: number },
        }
    }
}

/// The bytes behind a write or a rebuild of the coordinator's.
pub enum OpBytes {
    /// A stripe and its parity, `part_len` bytes a part.
    Stripe { meta: PartMeta, data: Arc<Vec<u8>>, parity: Arc<Vec<u8>> },
    /// Parts that were rebuilt, by number.
    Rebuilt { meta: PartMeta, parts: Vec<(u8, SharedBytes)> },
}

impl OpBytes {
    /// Header and bytes of part `part`, if they are here.
    pub fn part(&self, part: u8) -> Option<(PartMeta, SharedBytes)> {
        match self {
            OpBytes::Stripe { meta, data, parity } => {
                let (len, k) = (meta.part_len(), meta.code.k());
                let number = usize::from(part);
                let bytes = if len == 0 {
                    SharedBytes::new(Vec::new(), 0)
                } else if number < k {
                    SharedBytes::slice_of(data, number * len..(number + 1) * len, 0)
                } else {
                    SharedBytes::slice_of(parity, (number - k) * len..(number - k + 1) * len, 0)
                };
                Some((PartMeta { part, ..meta.clone() }, bytes))
            }
            OpBytes::Rebuilt { meta, parts } => {
                let (_, bytes) = parts.iter().find(|(number, _)| *number == part)?;
                Some((PartMeta { part, ..meta.clone() }, bytes.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_every_asker_there_can_be() {
        for number in [0, 1, 76_715, 1 << 48, u64::MAX] {
            for core in [0, 1, 63, 65_535] {
                let asker = Asker::Coordinator { core, ask: number };
                assert_eq!(Asker::from_token(asker.token()), asker);
            }
            assert_eq!(Asker::from_token(Asker::Direct(number).token()), Asker::Direct(number));
        }
    }
}
