//! Names and bytes of what coordinators ask of shards.

use std::sync::Arc;

use hedgerow_wire::part::PartMeta;

use super::buffers::SharedBytes;
use crate::slab::Token;

/// Who gets a shard's answer. Packed into the [`Token`] of the request: the high 16 bits say which
/// core asked, the low 48 its number for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A coordinator's ask, on this core or another.
    Coordinator { core: usize, ask: u64 },
    /// A task of this core that waits in `direct`.
    Direct(u64),
}

const DIRECT: u64 = 0xffff;
const ASK_BITS: u32 = 48;

impl Asker {
    /// The token that stands for it.
    pub fn token(self) -> Token {
        match self {
            Asker::Coordinator { core, ask } => {
                assert!(ask >> ASK_BITS == 0 && (core as u64) < DIRECT);
                Token((core as u64) << ASK_BITS | ask)
            }
            Asker::Direct(number) => Token(DIRECT << ASK_BITS | number),
        }
    }

    /// Whom a token stands for.
    pub fn from_token(token: Token) -> Asker {
        let number = token.0 & ((1 << ASK_BITS) - 1);
        match token.0 >> ASK_BITS {
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
