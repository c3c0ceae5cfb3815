//! How a daemon runs: defaults, a TOML file, flags, in this order; checked as a whole.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use hedgerow_wire::limits::STRIPE_LEN_MAX;
use hedgerow_wire::{AckLevel, Code, ReadPolicy};
use serde::{Deserialize, Serialize};

use super::limits::{DEVICE_TIMEOUT, DEVICE_TIMEOUT_MIN};

/// Bytes, written as a number with an optional K, M, G or T (powers of 1024; `KiB` and so on too).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bytes(pub u64);

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

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A shard's device: `PATH` or `PATH:SIZE`.
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
        if text.is_empty() {
            return Err("'' is no shard: write PATH or PATH:SIZE".to_owned());
        }
        match text.rsplit_once(':') {
            Some((path, size)) if !path.is_empty() => {
                let size = size.parse().map_err(|error| format!("in '{text}': {error}"))?;
                Ok(ShardSpec { path: path.into(), size: Some(size) })
            }
            _ => Ok(ShardSpec { path: text.into(), size: None }),
        }
    }
}

impl std::fmt::Display for ShardSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.size {
            Some(size) => write!(f, "{}:{size}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

macro_rules! text_serde {
    ($($name:ty),+) => { $(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+ };
}
text_serde!(Bytes, ShardSpec);

/// The flags of hedgerowd; the TOML file has the same names.
#[derive(Parser, Serialize, Deserialize, Clone, Default, Debug)]
#[command(
    name = "hedgerowd",
    version,
    about = "The Hedgerow daemon: an erasure-coded object cache.",
    long_about = "The Hedgerow daemon: an erasure-coded object cache.\n\nWithout any flag it serves on 127.0.0.1:7400 from ./hedgerow-data, with six shard files of 1 GiB and code 4+2."
)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Flags {
    /// Folder of the daemon's files [default: hedgerow-data]
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// How many shard files to keep in the folder [default: 6, or as many as the code has parts]
    #[arg(long, value_name = "COUNT", conflicts_with = "shard")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// Size of a shard file that is to be made [default: 1G]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_size: Option<Bytes>,
    /// A shard on its own file or block device; repeat for each shard
    #[arg(long, value_name = "PATH[:SIZE]")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shard: Vec<ShardSpec>,
    /// Data and parity parts of an object [default: 4+2]
    #[arg(long, value_name = "K+M")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Smallest part that an object is cut into [default: 16K]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_part: Option<Bytes>,
    /// Address to listen on; port 0 lets the system choose [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Size of the memory tier over all cores; 0 is none [default: 256M]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// What an acknowledged write promises: written, synced or buffered [default: written]
    #[arg(long, value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<String>,
    /// How reads ask for parts: hedged or all [default: hedged]
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_policy: Option<String>,
    /// Cores to run on, as 4 (the first four) or 0,2,4-7 [default: all]
    #[arg(long, value_name = "CORES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<String>,
    /// How many of them only coordinate; 0: every core does both [default: 0 up to 3 cores, else a quarter]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinators: Option<usize>,
    /// Mean size of a part that the indexes are made for; more parts than that are evicted early
    /// [default: 4352, or what an eighth of the machine's memory suffices for]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_part: Option<Bytes>,
    /// Milliseconds after which a shard is set aside whose device does not complete an operation
    /// [default: 30000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_timeout_ms: Option<u64>,
    /// Let clients inject faults
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_faults: bool,
    /// Read settings from a TOML file; flags win over it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the settings as a TOML file, and exit
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
}

/// A setting that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = '{value}': {right}")]
pub struct SettingError {
    /// Its name, as a flag.
    pub setting: &'static str,
    /// What it was.
    pub value: String,
    /// What would be right.
    pub right: String,
}

fn wrong(setting: &'static str, value: impl ToString, right: impl ToString) -> SettingError {
    SettingError { setting, value: value.to_string(), right: right.to_string() }
}

/// Settings that are complete and fit together.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the daemon's files.
    pub data: PathBuf,
    /// The shards' devices, with the size of files that are to be made.
    pub shards: Vec<(PathBuf, u64)>,
    /// Code of an object that is large enough.
    pub code: Code,
    /// Smallest part that an object is cut into, in bytes.
    pub min_part: usize,
    /// Length of a stripe in bytes.
    pub stripe_len: usize,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The memory tier over all cores, in bytes.
    pub memory_bytes: u64,
    /// Acknowledgement level of writes that do not say one.
    pub ack: AckLevel,
    /// Policy of reads that do not say one.
    pub read_policy: ReadPolicy,
    /// Cores to run on, by the system's numbers.
    pub cores: Vec<usize>,
    /// How many of them, the first ones, only coordinate. 0: every core does both.
    pub coordinators: usize,
    /// Mean size of a part that the indexes are made for, in bytes, if it is set.
    pub mean_part_bytes: Option<u64>,
    /// How long a device operation may be under way before its shard is set aside.
    pub device_timeout: Duration,
    /// Clients may inject faults.
    pub allow_faults: bool,
    /// How long an idle core looks for work before it sleeps.
    pub spin: Duration,
}

/// How long an idle core spins: waking a sleeping one costs about as much.
const SPIN: Duration = Duration::from_micros(50);

/// A shard file smaller than this has no room for the slabs that a store turns over.
pub const SHARD_BYTES_MIN: u64 = 256 << 20;

/// No part with its head is much smaller.
const MEAN_PART_MIN: u64 = 256;

impl Flags {
    /// These flags, and `file` where they say nothing.
    fn or(self, file: Flags) -> Flags {
        Flags {
            data: self.data.or(file.data),
            shards: self.shards.or(file.shards),
            shard_size: self.shard_size.or(file.shard_size),
            shard: if self.shard.is_empty() { file.shard } else { self.shard },
            code: self.code.or(file.code),
            min_part: self.min_part.or(file.min_part),
            listen: self.listen.or(file.listen),
            memory: self.memory.or(file.memory),
            ack: self.ack.or(file.ack),
            read_policy: self.read_policy.or(file.read_policy),
            cores: self.cores.or(file.cores),
            coordinators: self.coordinators.or(file.coordinators),
            mean_part: self.mean_part.or(file.mean_part),
            device_timeout_ms: self.device_timeout_ms.or(file.device_timeout_ms),
            allow_faults: self.allow_faults || file.allow_faults,
            config: None,
            print_config: false,
        }
    }

    /// These flags with what the file that they name adds.
    pub fn with_file(self) -> Result<Flags, SettingError> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| wrong("--config", path.display(), format!("cannot be read: {error}")))?;
        let file = parse_file(&path, &text)?;
        Ok(self.or(file))
    }

    /// Complete settings on a machine that has `cores` cores.
    pub fn settings(self, cores: NonZero<usize>) -> Result<Settings, SettingError> {
        let code = self.code.unwrap_or_else(|| "4+2".to_owned());
        let code: Code = code.parse().map_err(|error| wrong("--code", &code, error))?;
        let data = self.data.unwrap_or_else(|| "hedgerow-data".into());
        let shard_size = self.shard_size.unwrap_or(Bytes(1 << 30));
        let shards = shards(&data, self.shards, shard_size, self.shard, code)?;
        let min_part = self.min_part.unwrap_or(Bytes(16 << 10));
        if min_part.0 == 0 || min_part.0 > STRIPE_LEN_MAX as u64 {
            return Err(wrong("--min-part", min_part, "at least 1 byte and at most 1M, for example 16K"));
        }
        let listen = self.listen.unwrap_or_else(|| "127.0.0.1:7400".to_owned());
        let listen = listen
            .parse()
            .map_err(|_| wrong("--listen", &listen, "write ADDRESS:PORT, for example 127.0.0.1:7400"))?;
        let ack = match self.ack.as_deref() {
            None | Some("written") => AckLevel::Written,
            Some("synced") => AckLevel::Synced,
            Some("buffered") => AckLevel::Buffered,
            Some(other) => return Err(wrong("--ack", other, "written, synced or buffered")),
        };
        let read_policy = match self.read_policy.as_deref() {
            None | Some("hedged") => ReadPolicy::Hedged,
            Some("all") => ReadPolicy::All,
            Some(other) => return Err(wrong("--read-policy", other, "hedged or all")),
        };
        let cores = chosen_cores(self.cores.as_deref(), cores.get())?;
        let coordinators = self.coordinators.unwrap_or(if cores.len() <= 3 { 0 } else { cores.len() / 4 });
        if coordinators >= cores.len() {
            let right = format!("fewer than the {} cores, since shards need one too", cores.len());
            return Err(wrong("--coordinators", coordinators, right));
        }
        if let Some(mean) = self.mean_part.filter(|mean| mean.0 < MEAN_PART_MIN) {
            return Err(wrong("--mean-part", mean, format!("at least {MEAN_PART_MIN}, for example 16K")));
        }
        let device_timeout = self.device_timeout_ms.map_or(DEVICE_TIMEOUT, Duration::from_millis);
        if device_timeout < DEVICE_TIMEOUT_MIN {
            let right = format!("at least {}", DEVICE_TIMEOUT_MIN.as_millis());
            return Err(wrong("--device-timeout-ms", device_timeout.as_millis(), right));
        }
        Ok(Settings {
            data,
            shards,
            code,
            min_part: min_part.0 as usize,
            stripe_len: STRIPE_LEN_MAX,
            listen,
            memory_bytes: self.memory.unwrap_or(Bytes(256 << 20)).0,
            ack,
            read_policy,
            cores,
            coordinators,
            mean_part_bytes: self.mean_part.map(|mean| mean.0),
            device_timeout,
            allow_faults: self.allow_faults,
            spin: SPIN,
        })
    }
}

fn parse_file(path: &Path, text: &str) -> Result<Flags, SettingError> {
    toml::from_str(text).map_err(|error| wrong("--config", path.display(), error.to_string().trim_end()))
}

fn shards(
    data: &Path,
    count: Option<usize>,
    size: Bytes,
    specs: Vec<ShardSpec>,
    code: Code,
) -> Result<Vec<(PathBuf, u64)>, SettingError> {
    if size.0 < SHARD_BYTES_MIN {
        return Err(wrong("--shard-size", size, format!("at least {}", Bytes(SHARD_BYTES_MIN))));
    }
    let shards: Vec<(PathBuf, u64)> = if specs.is_empty() {
        let count = count.unwrap_or(code.n().max(6));
        (0..count).map(|number| (data.join(format!("shard-{number}")), size.0)).collect()
    } else {
        let small = specs.iter().find(|spec| spec.size.is_some_and(|size| size.0 < SHARD_BYTES_MIN));
        if let Some(small) = small {
            return Err(wrong(
                "--shard",
                small,
                format!("its size must be at least {}", Bytes(SHARD_BYTES_MIN)),
            ));
        }
        specs.into_iter().map(|spec| (spec.path, spec.size.unwrap_or(size).0)).collect()
    };
    if shards.len() < code.n() {
        let right =
            format!("code {code} keeps its {} parts on different shards: at least that many", code.n());
        return Err(wrong("--shards", shards.len(), right));
    }
    if shards.len() > 1024 {
        return Err(wrong("--shards", shards.len(), "at most 1024"));
    }
    let mut paths: Vec<&PathBuf> = shards.iter().map(|(path, _)| path).collect();
    paths.sort();
    if let Some(twice) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong("--shard", twice[0].display(), "is given twice: every shard needs its own"));
    }
    Ok(shards)
}

/// The cores that a text names, of a machine that has `present`.
fn chosen_cores(text: Option<&str>, present: usize) -> Result<Vec<usize>, SettingError> {
    let Some(text) = text else { return Ok((0..present).collect()) };
    let bad = |why: String| wrong("--cores", text, why);
    let how = "write how many (4), or which (0,2,4-7)";
    let mut cores = Vec::new();
    if let Ok(count) = text.parse::<usize>() {
        if count == 0 || count > present {
            return Err(bad(format!("this machine has {present}: {how}")));
        }
        return Ok((0..count).collect());
    }
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let parse = |number: &str| number.trim().parse::<usize>().map_err(|_| bad(how.to_owned()));
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last || last >= present {
            return Err(bad(format!("this machine has the cores 0 to {}: {how}", present - 1)));
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    if cores.is_empty() { Err(bad(how.to_owned())) } else { Ok(cores) }
}

impl Settings {
    /// The settings as a TOML file that gives them.
    pub fn to_toml(&self) -> String {
        let flags = Flags {
            data: Some(self.data.clone()),
            shard: self
                .shards
                .iter()
                .map(|(path, size)| ShardSpec { path: path.clone(), size: Some(Bytes(*size)) })
                .collect(),
            code: Some(self.code.to_string()),
            min_part: Some(Bytes(self.min_part as u64)),
            listen: Some(self.listen.to_string()),
            memory: Some(Bytes(self.memory_bytes)),
            ack: Some(format!("{:?}", self.ack).to_lowercase()),
            read_policy: Some(format!("{:?}", self.read_policy).to_lowercase()),
            cores: Some(self.cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",") + ","),
            coordinators: Some(self.coordinators),
            mean_part: self.mean_part_bytes.map(Bytes),
            device_timeout_ms: Some(self.device_timeout.as_millis() as u64),
            allow_faults: self.allow_faults,
            ..Flags::default()
        };
        toml::to_string(&flags).unwrap_or_else(|error| panic!("settings are always a TOML table: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str, cores: usize) -> Result<Settings, String> {
        let words = std::iter::once("hedgerowd").chain(line.split_whitespace());
        let flags = Flags::try_parse_from(words).map_err(|error| error.to_string())?;
        flags.settings(NonZero::new(cores).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_suit_any_machine() {
        for (cores, coordinators) in [(1, 0), (2, 0), (3, 0), (4, 1), (64, 16)] {
            let settings = settings("", cores).unwrap();
            assert_eq!((settings.cores.len(), settings.coordinators), (cores, coordinators));
            assert_eq!(settings.shards.len(), 6);
            assert_eq!(settings.listen.to_string(), "127.0.0.1:7400");
        }
        assert_eq!(settings("--code 10+4", 2).unwrap().shards.len(), 14);
    }

    #[test]
    fn wrong_settings_are_refused_with_name_value_and_what_is_right() {
        let cases = [
            ("--code 4", "--code = '4'", "4+2"),
            ("--code 200+100", "--code = '200+100'", "255"),
            ("--code 0+2", "--code = '0+2'", "1 <= k"),
            ("--shards 5", "--shards = '5'", "6 parts"),
            ("--shard-size 1M", "--shard-size = '1M'", "256M"),
            ("--shard-size banana", "banana", "512M"),
            ("--shard a --shard a --code 1+1", "--shard = 'a'", "twice"),
            ("--shard a:5M --shard b --code 1+1", "--shard = 'a:5M'", "256M"),
            ("--min-part 0", "--min-part = '0'", "16K"),
            ("--listen nowhere", "--listen = 'nowhere'", "127.0.0.1:7400"),
            ("--ack maybe", "--ack = 'maybe'", "written"),
            ("--read-policy some", "--read-policy = 'some'", "hedged or all"),
            ("--cores 3", "--cores = '3'", "has 2"),
            ("--cores 1-x", "--cores = '1-x'", "4-7"),
            ("--cores 5-", "--cores = '5-'", "4-7"),
            ("--mean-part 100", "--mean-part = '100'", "16K"),
            ("--device-timeout-ms 10", "--device-timeout-ms = '10'", "500"),
            ("--coordinators 2", "--coordinators = '2'", "fewer than the 2"),
            ("--config /nonexistent", "", ""),
        ];
        for (line, names, right) in cases {
            if let Err(error) = settings(line, 2) {
                assert!(error.contains(names) && error.contains(right), "{line}: {error}");
            } else {
                assert!(names.is_empty(), "{line} was taken");
            }
        }
    }

    #[test]
    fn printed_settings_give_themselves() {
        let first = settings("--code 2+1 --cores 1, --ack synced --memory 0 --allow-faults", 2).unwrap();
        let text = first.to_toml();
        let file = parse_file(Path::new("x.toml"), &text).unwrap();
        let again = file.settings(NonZero::new(2).unwrap()).unwrap();
        assert_eq!(again.to_toml(), text);
        assert_eq!(again.cores, [1]);
        let error = parse_file(Path::new("x.toml"), "shard-sice = \"1G\"").unwrap_err().to_string();
        assert!(error.contains("shard-sice") && error.contains("shard-size"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = parse_file(Path::new("x.toml"), "code = \"8+3\"\nshards = 20").unwrap();
        let flags = Flags::try_parse_from(["hedgerowd", "--code", "2+1"]).unwrap().or(file);
        let settings = flags.settings(NonZero::new(1).unwrap()).unwrap();
        assert_eq!((settings.code.to_string().as_str(), settings.shards.len()), ("2+1", 20));
    }
}
