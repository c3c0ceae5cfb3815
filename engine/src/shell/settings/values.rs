//! The values of settings that are more than a word or a number: how they are written and read.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, written as a number with an optional K, M, G or T (powers of 1024; `KiB` and so on too).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bytes(pub u64);

const UNITS: [(u32, &str); 4] = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];

impl Bytes {
    /// Not more than this, in a unit of which it has a few: to be said, not to be counted with.
    pub fn rounded_down(self) -> Bytes {
        let shift = UNITS.iter().map(|&(shift, _)| shift).find(|shift| self.0 >> shift >= 4).unwrap_or(0);
        Bytes(self.0 >> shift << shift)
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Bytes, String> {
        let digits = text.trim().trim_end_matches("iB").trim_end_matches('B');
        let (number, shift) = match digits.chars().last() {
            Some('k' | 'K') => (&digits[..digits.len() - 1], 10),
            Some('m' | 'M') => (&digits[..digits.len() - 1], 20),
            Some('g' | 'G') => (&digits[..digits.len() - 1], 30),
            Some('t' | 'T') => (&digits[..digits.len() - 1], 40),
            _ => (digits, 0),
        };
        let wrong = || format!("'{text}' is no size: write for example 512M, 1G or 1073741824");
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        number.checked_shl(shift).filter(|n| n >> shift == number).map(Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in UNITS {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A shard's device: `PATH` or `PATH:SIZE`. A path that has a colon of its own is written `PATH:`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardSpec {
    /// A file or a block device.
    pub path: PathBuf,
    /// Length of a file that is to be made.
    pub size: Option<Bytes>,
}

impl std::str::FromStr for ShardSpec {
    type Err = String;
    fn from_str(text: &str) -> Result<ShardSpec, String> {
        match text.rsplit_once(':') {
            Some(("", _)) => Err(format!("'{text}' is no shard: write PATH or PATH:SIZE")),
            Some((path, "")) => Ok(ShardSpec { path: path.into(), size: None }),
            Some((path, size)) => {
                let wrong = |error| format!("in '{text}': {error} (a path with a colon is written 'PATH:')");
                Ok(ShardSpec { path: path.into(), size: Some(size.parse().map_err(wrong)?) })
            }
            None if text.is_empty() => Err("'' is no shard: write PATH or PATH:SIZE".to_owned()),
            None => Ok(ShardSpec { path: text.into(), size: None }),
        }
    }
}

impl fmt::Display for ShardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.size {
            Some(size) => write!(f, "{path}:{size}"),
            None if path.to_string().contains(':') => write!(f, "{path}:"),
            None => write!(f, "{path}"),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        word(d)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for ShardSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShardSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// Reads what a file may write as a string or as a plain number.
pub(super) fn word<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    struct Word;
    impl Visitor<'_> for Word {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a whole number")
        }
        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    d.deserialize_any(Word)
}

/// [`word`] for a setting that may be left out.
pub(super) fn optional_word<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    word(d).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_written_and_rounded() {
        for (text, bytes, written) in
            [("0", 0, "0"), ("1024", 1024, "1K"), ("512MiB", 512 << 20, "512M"), ("3 T", 3 << 40, "3T")]
        {
            let read: Bytes = text.parse().unwrap();
            assert_eq!((read, read.to_string().as_str()), (Bytes(bytes), written));
        }
        for wrong in ["", "G", "-1", "1.5G", "big", "99999999999T"] {
            assert!(wrong.parse::<Bytes>().unwrap_err().contains("512M"), "{wrong}");
        }
        for (exact, rounded) in [(3, "3"), (5000, "4K"), ((23 << 30) + 77, "23G"), ((3 << 30) + 77, "3G")] {
            assert_eq!(Bytes(exact).rounded_down().to_string(), rounded);
        }
    }

    #[test]
    fn shards_are_read_and_written() {
        let size = |bytes| Some(Bytes(bytes));
        for (text, path, expected) in [
            ("/dev/nvme1n1", "/dev/nvme1n1", None),
            ("a:1G", "a", size(1 << 30)),
            ("/dev/disk/by-id/usb-0:0:", "/dev/disk/by-id/usb-0:0", None),
            ("by-path/0000:00:1G", "by-path/0000:00", size(1 << 30)),
        ] {
            let read: ShardSpec = text.parse().unwrap();
            assert_eq!((read.path.to_str(), read.size), (Some(path), expected));
            assert_eq!(read.to_string(), text);
        }
        for wrong in ["", ":", ":1G"] {
            assert!(wrong.parse::<ShardSpec>().unwrap_err().contains("PATH:SIZE"), "{wrong}");
        }
        let colon = "/dev/disk/by-path/pci-0000:00:1f.2".parse::<ShardSpec>().unwrap_err();
        assert!(colon.contains("1f.2") && colon.contains("'PATH:'"), "{colon}");
    }
}
