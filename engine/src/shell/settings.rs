//! How a daemon runs: defaults, a TOML file, flags, in this order; checked as a whole.
//!
//! A flag replaces what the file says of the same thing. `shards` and `shard` say the same thing in two
//! ways: a flag of either replaces both, and both at once are refused, as flags and in the file.

mod values;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use hedgerow_wire::limits::STRIPE_LEN_MAX;
use hedgerow_wire::{AckLevel, Code, ReadPolicy};
use serde::{Deserialize, Serialize};

use super::limits::{DEVICE_TIMEOUT, DEVICE_TIMEOUT_MIN};
pub use values::{Bytes, ShardSpec};

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
    /// A shard on its own file or block device; repeat for each shard, instead of --shards
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
    /// What an acknowledged write that asks for no more promises: written, synced or buffered [default: written]
    #[arg(long, value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<String>,
    /// How reads ask for parts: hedged or all [default: hedged]
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_policy: Option<String>,
    /// Cores to run on, as 4 (the first four) or 0,2,4-7 [default: all]
    #[arg(long, value_name = "CORES")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "values::optional_word")]
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
    /// Let clients inject faults [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_faults: Option<bool>,
    /// Read settings from a TOML file; flags win over it, --shards or --shard over both of them
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

/// What a daemon can have of its machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores.
    pub cores: NonZero<usize>,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

/// Settings that are complete and fit together.
#[derive(Clone, PartialEq, Eq, Debug)]
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
}

/// Smallest part that an object is cut into, unless told otherwise.
pub const MIN_PART_BYTES: usize = 16 << 10;

/// A shard file smaller than this has no room for the slabs that a store turns over.
pub const SHARD_BYTES_MIN: u64 = 256 << 20;

/// No part with its head is much smaller.
const MEAN_PART_MIN: u64 = 256;
/// Most shards of a daemon.
const SHARDS_MAX: usize = 1024;

/// Length of a shard file that is to be made, if none is given.
const SHARD_SIZE: Bytes = Bytes(1 << 30);

/// The words for acknowledgement levels; the first is the default.
const ACK_LEVELS: [(&str, AckLevel); 3] =
    [("written", AckLevel::Written), ("synced", AckLevel::Synced), ("buffered", AckLevel::Buffered)];

/// The words for read policies; the first is the default.
const READ_POLICIES: [(&str, ReadPolicy); 2] = [("hedged", ReadPolicy::Hedged), ("all", ReadPolicy::All)];

/// What `text` is the word for.
fn meaning<T: Copy>(
    setting: &'static str,
    text: Option<&str>,
    words: &[(&'static str, T)],
) -> Result<T, SettingError> {
    let chosen = text.unwrap_or(words[0].0);
    words.iter().find(|(word, _)| *word == chosen).map(|&(_, meaning)| meaning).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        wrong(setting, chosen, format!("{} or {last}", others.join(", ")))
    })
}

/// The word for `meaning`.
fn word_for<T: PartialEq>(meaning: &T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, known)| known == meaning).map_or("", |&(word, _)| word)
}

impl Flags {
    /// These flags, and `file` where they say nothing.
    fn or(self, file: Flags) -> Flags {
        let (shards, shard) = if self.shards.is_some() || !self.shard.is_empty() {
            (self.shards, self.shard)
        } else {
            (file.shards, file.shard)
        };
        Flags {
            data: self.data.or(file.data),
            shards,
            shard_size: self.shard_size.or(file.shard_size),
            shard,
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
            allow_faults: self.allow_faults.or(file.allow_faults),
            config: None,
            print_config: false,
        }
    }

    /// These flags with what the file that they name adds.
    pub fn with_file(self) -> Result<Flags, SettingError> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| wrong("--config", path.display(), format!("cannot be read: {error}")))?;
        let file = Flags::from_toml(&path, &text)?;
        Ok(self.or(file))
    }

    /// What a TOML file says; `path` is where it was read, for the error.
    pub fn from_toml(path: &Path, text: &str) -> Result<Flags, SettingError> {
        let bad = |why: &str| wrong("--config", path.display(), why);
        let file: Flags = toml::from_str(text).map_err(|error| bad(error.to_string().trim_end()))?;
        if file.shards.is_some() && !file.shard.is_empty() {
            return Err(bad(
                "has both 'shards' and 'shard': 'shards' counts files in the data folder, 'shard' names files or devices, so leave one out",
            ));
        }
        Ok(file)
    }

    /// Complete settings for a daemon on `machine`.
    pub fn settings(self, machine: Machine) -> Result<Settings, SettingError> {
        let code = self.code.unwrap_or_else(|| "4+2".to_owned());
        let code: Code = code.parse().map_err(|error| wrong("--code", &code, error))?;
        let data = self.data.unwrap_or_else(|| "hedgerow-data".into());
        let shards = shards(&data, self.shards, self.shard_size.unwrap_or(SHARD_SIZE), self.shard, code)?;
        let min_part = self.min_part.unwrap_or(Bytes(MIN_PART_BYTES as u64));
        if min_part.0 == 0 || min_part.0 > STRIPE_LEN_MAX as u64 {
            return Err(wrong("--min-part", min_part, "at least 1 byte and at most 1M, for example 16K"));
        }
        let listen = self.listen.unwrap_or_else(|| "127.0.0.1:7400".to_owned());
        let right = "write ADDRESS:PORT with a numeric address, for example 127.0.0.1:7400";
        let listen = listen.parse().map_err(|_| wrong("--listen", &listen, right))?;
        let ack = meaning("--ack", self.ack.as_deref(), &ACK_LEVELS)?;
        let read_policy = meaning("--read-policy", self.read_policy.as_deref(), &READ_POLICIES)?;
        let cores = chosen_cores(self.cores.as_deref(), machine.cores.get())?;
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
            memory_bytes: memory(self.memory.unwrap_or(Bytes(256 << 20)), machine)?,
            ack,
            read_policy,
            cores,
            coordinators,
            mean_part_bytes: self.mean_part.map(|mean| mean.0),
            device_timeout,
            allow_faults: self.allow_faults.unwrap_or(false),
        })
    }

    /// A TOML file of `settings`, which these flags gave. What they leave to the machine stays left to it.
    pub fn to_toml(self, settings: &Settings) -> String {
        let automatic = [
            (self.cores.is_none(), "# cores = \"0-3\"    # all of the machine's, if it is left out\n"),
            (
                self.coordinators.is_none(),
                "# coordinators = 1    # by the number of cores, if it is left out\n",
            ),
            (
                self.mean_part.is_none(),
                "# mean-part = \"16K\"    # by the machine's memory, if it is left out\n",
            ),
        ];
        let flags = Flags {
            data: Some(settings.data.clone()),
            shards: self.shard.is_empty().then_some(settings.shards.len()),
            shard_size: Some(self.shard_size.unwrap_or(SHARD_SIZE)),
            shard: self.shard,
            code: Some(settings.code.to_string()),
            min_part: Some(Bytes(settings.min_part as u64)),
            listen: Some(settings.listen.to_string()),
            memory: Some(Bytes(settings.memory_bytes)),
            ack: Some(settings.ack_word().to_owned()),
            read_policy: Some(settings.read_policy_word().to_owned()),
            cores: self.cores,
            coordinators: self.coordinators,
            mean_part: self.mean_part,
            device_timeout_ms: Some(settings.device_timeout.as_millis() as u64),
            allow_faults: Some(settings.allow_faults),
            config: None,
            print_config: false,
        };
        let set = toml::to_string(&flags);
        let set = set.unwrap_or_else(|error| panic!("settings are always a TOML table: {error}"));
        let left_out = automatic.iter().filter(|(left_out, _)| *left_out).map(|&(_, line)| line);
        std::iter::once(set.as_str()).chain(left_out).collect()
    }
}

impl Settings {
    /// The word for the acknowledgement level.
    pub fn ack_word(&self) -> &'static str {
        word_for(&self.ack, &ACK_LEVELS)
    }

    /// The word for the read policy.
    pub fn read_policy_word(&self) -> &'static str {
        word_for(&self.read_policy, &READ_POLICIES)
    }
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
    let (setting, value, len) = if specs.is_empty() {
        let count = count.unwrap_or(code.n().max(6));
        ("--shards", count.to_string(), count)
    } else {
        check_specs(&specs)?;
        let names: Vec<String> = specs.iter().map(ToString::to_string).collect();
        ("--shard", names.join(", "), specs.len())
    };
    if len < code.n() {
        let right = format!("code {code} keeps its {} parts on different shards: at least so many", code.n());
        return Err(wrong(setting, value, right));
    }
    if len > SHARDS_MAX {
        return Err(wrong(setting, value, format!("at most {SHARDS_MAX} shards")));
    }
    if specs.is_empty() {
        return Ok((0..len).map(|number| (data.join(format!("shard-{number}")), size.0)).collect());
    }
    Ok(specs.into_iter().map(|spec| (spec.path, spec.size.unwrap_or(size).0)).collect())
}

/// What each shard must be by itself, and beside the others.
fn check_specs(specs: &[ShardSpec]) -> Result<(), SettingError> {
    if let Some(small) = specs.iter().find(|spec| spec.size.is_some_and(|size| size.0 < SHARD_BYTES_MIN)) {
        let right = format!("its size must be at least {}", Bytes(SHARD_BYTES_MIN));
        return Err(wrong("--shard", small, right));
    }
    // `a` and `./a` are one file. What is no path at all fails when it is opened.
    let place = |spec: &ShardSpec| std::path::absolute(&spec.path).unwrap_or_else(|_| spec.path.clone());
    let mut places: Vec<(PathBuf, &ShardSpec)> = specs.iter().map(|spec| (place(spec), spec)).collect();
    places.sort_by(|a, b| a.0.cmp(&b.0));
    match places.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(twice) => Err(wrong("--shard", twice[1].1, "is given twice: every shard needs its own")),
        None => Ok(()),
    }
}

/// The bytes of a memory tier that the machine can have.
fn memory(asked: Bytes, machine: Machine) -> Result<u64, SettingError> {
    if asked.0 < machine.memory_bytes {
        return Ok(asked.0);
    }
    let (all, half) = (Bytes(machine.memory_bytes).rounded_down(), Bytes(machine.memory_bytes / 2));
    let right = format!(
        "this machine has {all} of memory, and indexes and buffers need some of it: for example {}",
        half.rounded_down()
    );
    Err(wrong("--memory", asked, right))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str, cores: usize) -> Result<Settings, String> {
        let words = std::iter::once("hedgerowd").chain(line.split_whitespace());
        let flags = Flags::try_parse_from(words).map_err(|error| error.to_string())?;
        flags.settings(machine(cores)).map_err(|error| error.to_string())
    }

    fn machine(cores: usize) -> Machine {
        Machine { cores: NonZero::new(cores).unwrap(), memory_bytes: (23 << 30) + 1 }
    }

    fn flags(line: &str) -> Flags {
        Flags::try_parse_from(std::iter::once("hedgerowd").chain(line.split_whitespace())).unwrap()
    }

    fn file(text: &str) -> Result<Flags, String> {
        Flags::from_toml(Path::new("x.toml"), text).map_err(|error| error.to_string())
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
            ("--shard a --shard a", "--shard = 'a'", "twice"),
            ("--shard a --shard b --shard ./a:1G --code 2+1", "--shard = './a:1G'", "twice"),
            ("--shard a --shard b", "--shard = 'a, b'", "6 parts"),
            ("--shards 2000", "--shards = '2000'", "at most 1024"),
            ("--memory 100T", "--memory = '100T'", "this machine has 23G"),
            ("--memory 24G", "--memory = '24G'", "for example 11G"),
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
    fn printed_settings_give_themselves_on_any_machine() {
        for line in
            ["", "--code 2+1 --ack synced --memory 0 --allow-faults", "--shard a:1G --shard b --code 1+1"]
        {
            let asked = flags(line);
            let first = asked.clone().settings(machine(16)).unwrap();
            let text = asked.to_toml(&first);
            assert!(text.contains("# cores") && text.contains("# coordinators"), "{text}");
            let printed = file(&text).unwrap();
            let again = printed.clone().settings(machine(2)).unwrap();
            assert_eq!(printed.to_toml(&again), text);
            assert_eq!((&again.shards, again.ack, again.code), (&first.shards, first.ack, first.code));
            assert_eq!((again.cores.len(), again.coordinators), (2, 0));
        }
        let asked = flags("--cores 1, --coordinators 0");
        let printed = file(&asked.clone().to_toml(&asked.settings(machine(2)).unwrap())).unwrap();
        assert_eq!((printed.cores.as_deref(), printed.coordinators), (Some("1,"), Some(0)));
    }

    #[test]
    fn files_are_read_as_people_write_them() {
        let read = |text: &str| file(text).unwrap().settings(machine(8)).unwrap();
        assert_eq!(read("memory = 0").memory_bytes, 0);
        assert_eq!(read("memory = 4096\nshard-size = 536870912").shards[0].1, 512 << 20);
        assert_eq!(read("cores = 2").cores, [0, 1]);
        assert_eq!(read("cores = \"2,4-5\"").cores, [2, 4, 5]);
        for (text, says) in [
            ("shard-sice = \"1G\"", "shard-size"),
            ("memory = -1", "'-1' is no size"),
            ("memory = 1.5", "a string or a whole number"),
            ("memory = \"lots\"", "512M"),
            ("shards = 6\nshard = [\"a\"]", "both 'shards' and 'shard'"),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains("x.toml") && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let both = |line: &str, text: &str| flags(line).or(file(text).unwrap()).settings(machine(4)).unwrap();
        let settings = both("--code 2+1", "code = \"8+3\"\nshards = 20");
        assert_eq!((settings.code.to_string().as_str(), settings.shards.len()), ("2+1", 20));
        // Two ways to say one thing: a flag replaces either.
        let named = "code = \"1+1\"\nshard = [\"a\", \"b\"]";
        assert_eq!(both("--shards 8", named).shards.len(), 8);
        assert_eq!(both("", named).shards[1].0, Path::new("b"));
        let settings = both("--shard x --shard y", "code = \"1+1\"\nshards = 8");
        assert_eq!((settings.shards.len(), settings.shards[0].0.as_path()), (2, Path::new("x")));
        let error = Flags::try_parse_from(["hedgerowd", "--shards", "8", "--shard", "a"]).unwrap_err();
        assert!(error.to_string().contains("cannot be used with"), "{error}");
        assert!(!both("--allow-faults=false", "allow-faults = true").allow_faults);
        assert!(both("--allow-faults", "allow-faults = false").allow_faults);
    }
}
