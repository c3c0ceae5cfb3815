//! The ways to keep objects that are compared: a code, and a policy of reads.

use anyhow::Result;
use hedgerow_engine::shell::settings::MIN_PART_BYTES;
use hedgerow_wire::Code;

/// A way to keep objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct System {
    /// Its name, on the command line too.
    pub name: &'static str,
    k: u8,
    m: u8,
    /// What `--read-policy` is told.
    pub policy: &'static str,
}

/// All of them. Without parity there is no spare to ask for: those reads wait for all `k` parts.
pub const SYSTEMS: [System; 5] = [
    System { name: "4+2 hedged", k: 4, m: 2, policy: "hedged" },
    System { name: "4+2 all", k: 4, m: 2, policy: "all" },
    System { name: K_OF_K, k: 4, m: 0, policy: "hedged" },
    System { name: "whole copy", k: 1, m: 0, policy: "hedged" },
    System { name: "2 copies", k: 1, m: 1, policy: "hedged" },
];

/// The system that others' tails are held against.
pub const K_OF_K: &str = "k-of-k";

impl System {
    /// The code that the daemon is started with.
    pub fn code(&self) -> Result<Code> {
        Ok(Code::new(self.k, self.m)?)
    }

    /// The code of an object of this length.
    pub fn code_of(&self, object_len: u64) -> Result<Code> {
        Ok(self.code()?.for_stripe(object_len as usize, MIN_PART_BYTES))
    }
}

impl std::str::FromStr for &'static System {
    type Err = String;
    fn from_str(text: &str) -> Result<&'static System, String> {
        let names = || SYSTEMS.iter().map(|system| system.name).collect::<Vec<_>>().join("', '");
        SYSTEMS.iter().find(|system| system.name == text).ok_or_else(|| format!("there are: '{}'", names()))
    }
}
