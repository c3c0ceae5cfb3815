//! What is remembered of the shapes of objects: how many data parts an object record has, so that a read
//! asks for no more parts than it needs. Lossy and of fixed size: a wrong guess costs a part read.

use std::cell::RefCell;

use hedgerow_wire::{Code, KeyHash};

/// Keys that are remembered, at most.
const SLOTS: usize = 1 << 17;

/// One byte for the key, one for its `k`.
pub struct Shapes(RefCell<Box<[[u8; 2]]>>);

impl Default for Shapes {
    fn default() -> Shapes {
        Shapes(RefCell::new(vec![[0; 2]; SLOTS].into_boxed_slice()))
    }
}

fn slot(hash: KeyHash) -> (usize, u8) {
    ((hash.0 as usize) % SLOTS, (hash.0 >> 40) as u8)
}

impl Shapes {
    /// The code that the object record of a key is thought to have; its `m` is that of `code`.
    pub fn get(&self, hash: KeyHash, code: Code) -> Option<Code> {
        let (at, tag) = slot(hash);
        let [known, k] = self.0.borrow()[at];
        if known != tag { None } else { Code::new(k, code.m() as u8).ok() }
    }

    /// The object record of a key has this code.
    pub fn note(&self, hash: KeyHash, code: Code) {
        let (at, tag) = slot(hash);
        self.0.borrow_mut()[at] = [tag, code.k() as u8];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_known_by_its_key() {
        let shapes = Shapes::default();
        let code = |k| Code::new(k, 2).unwrap();
        assert_eq!(shapes.get(KeyHash(7), code(4)), None);
        shapes.note(KeyHash(7), code(1));
        assert_eq!(shapes.get(KeyHash(7), code(4)), Some(code(1)));
        assert_eq!(shapes.get(KeyHash(7 | 1 << 40), code(4)), None, "another key of the same slot");
    }
}
