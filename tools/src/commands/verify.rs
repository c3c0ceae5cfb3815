//! `verify`: checks every stored part, of a running daemon or of slab files.

use std::path::{Path, PathBuf};

use clap::Args;
use hedgerow_client::Request;
use hedgerow_client::messages::{DamagedPart, ShardState, ShardStats, VerifyRequest};
use hedgerow_wire::Record;
use hedgerow_wire::limits::VERIFY_PARTS_MAX;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::key_json;
use super::stats::state_name;
use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::offline::{Depth, Device, Shard, SlabState};
use crate::text;

/// Check every stored part, of a running daemon or of slab files.
#[derive(Args, Debug)]
pub struct Verify {
    /// Only these shards of the daemon
    #[arg(long, value_name = "N")]
    shard: Vec<u16>,
    /// Check slab files of a daemon that does not run
    #[arg(long, requires = "files", conflicts_with = "shard")]
    pub offline: bool,
    /// The slab files or devices, with --offline
    #[arg(value_name = "FILE", requires = "offline")]
    files: Vec<PathBuf>,
}

/// Lets the daemon check its shards.
pub async fn run_online(context: &Context, verify: Verify) -> Result<(), Failure> {
    let client = context.connect().await?;
    let stats = context.request(&client).stats().await.map_err(failed("verify"))?;
    let shards = chosen(stats.shards, &verify.shard)?;
    let request = context.long_request(&client);
    let bar = progress_bar(shards.iter().map(|shard| shard.parts).sum(), "parts");
    let mut checked = Vec::new();
    for shard in shards {
        let before = bar.position();
        let one = verify_shard(&request, shard, &bar).await?;
        bar.set_position(before + one.parts);
        checked.push(one);
    }
    bar.finish_and_clear();
    finish(context, checked)
}

fn chosen(mut shards: Vec<ShardStats>, wanted: &[u16]) -> Result<Vec<ShardStats>, Failure> {
    if let Some(missing) = wanted.iter().find(|number| !shards.iter().any(|shard| shard.shard == **number)) {
        return Err(Failure::Usage(format!("there is no shard {missing}: 'hedgerow stats' lists them")));
    }
    shards.retain(|shard| wanted.is_empty() || wanted.contains(&shard.shard));
    Ok(shards)
}

async fn verify_shard(request: &Request, shard: ShardStats, bar: &ProgressBar) -> Result<Checked, Failure> {
    let name = format!("shard {} ({})", shard.shard, shard.path);
    let mut checked =
        Checked { name, shard: Some(shard.shard), path: shard.path.clone(), ..Checked::default() };
    if shard.state != ShardState::Serving {
        let reason = if shard.reason.is_empty() { String::new() } else { format!(": {}", shard.reason) };
        checked.unchecked = Some(format!("it is {}{reason}", state_name(shard.state)));
        return Ok(checked);
    }
    let what = format!("verify shard {}", shard.shard);
    let start = bar.position();
    let mut next = VerifyRequest { shard: shard.shard, cursor: 0, parts_max: VERIFY_PARTS_MAX };
    loop {
        let answer = request.verify(&next).await.map_err(failed(&what))?;
        checked.parts += u64::from(answer.parts_checked);
        checked.bytes += answer.bytes_checked;
        checked.damaged.extend(answer.damaged);
        bar.set_position(start + answer.parts_done);
        if answer.finished {
            return Ok(checked);
        }
        if answer.next_cursor == next.cursor {
            return Err(Failure::Daemon(format!("{what}: the daemon makes no progress")));
        }
        next.cursor = answer.next_cursor;
    }
}

/// Checks slab files.
pub fn run_offline(context: &Context, verify: Verify) -> Result<(), Failure> {
    let mut shards = Vec::new();
    for path in &verify.files {
        let device = Device::open(path)?;
        if device.is_snapshot() {
            // They lie beside the shards, and match what one writes for all of those.
            eprintln!("hedgerow: {}: passed over, it is the index snapshot of a shard", path.display());
            continue;
        }
        if device.in_use() {
            let path = path.display();
            return Err(Failure::Local(format!(
                "{path}: a running daemon uses it; 'hedgerow verify' without --offline asks that daemon"
            )));
        }
        shards.push((path, Shard::open(device)));
    }
    if shards.is_empty() {
        return Err(Failure::Local("verify: none of these files is a shard".to_owned()));
    }
    let lens = shards.iter().filter_map(|(_, shard)| shard.as_ref().ok()).map(|shard| shard.device.len());
    let bar = progress_bar(lens.sum(), "bytes");
    let mut checked = Vec::new();
    for (path, shard) in shards {
        checked.push(match shard {
            Ok(shard) => check_file(path, &shard, &bar),
            Err(Failure::No(why)) => Checked { unchecked: Some(why), ..of_file(path) },
            Err(failure) => return Err(failure),
        });
    }
    bar.finish_and_clear();
    finish(context, checked)
}

fn of_file(path: &Path) -> Checked {
    let path = path.display().to_string();
    Checked { name: path.clone(), path, ..Checked::default() }
}

fn check_file(path: &Path, shard: &Shard, bar: &ProgressBar) -> Checked {
    let mut checked = of_file(path);
    checked.shard = Some(shard.superblock.shard_index);
    checked.copies =
        shard.damaged_copies().map(|(copy, error)| format!("superblock {copy}: {error}")).collect();
    for number in 0..shard.superblock.slabs {
        let slab = shard.slab(number, Depth::Payloads);
        bar.inc(u64::from(shard.superblock.slab_len));
        checked.slabs += u64::from(matches!(slab.state, SlabState::Sealed | SlabState::Open));
        checked.parts += slab.parts.len() as u64;
        checked.bytes += slab.used_bytes();
        checked.unfinished += slab.parts.iter().filter(|part| part.unfinished).count() as u64;
        checked.damaged.extend(slab.damaged());
    }
    checked
}

fn progress_bar(len: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(len);
    let style = match unit {
        "bytes" => "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        _ => "{bar:30} {human_pos} of {human_len} parts, {eta} left",
    };
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn finish(context: &Context, checked: Vec<Checked>) -> Result<(), Failure> {
    let damaged: u64 = checked.iter().map(Checked::damage_count).sum();
    let unchecked = checked.iter().filter(|one| one.unchecked.is_some()).count() as u64;
    context.show(&All(checked))?;
    match (damaged, unchecked) {
        (0, 0) => Ok(()),
        (0, unchecked) => {
            Err(Failure::No(format!("verify: {} not checked", text::counted(unchecked, "shard"))))
        }
        (damaged, _) => Err(Failure::No(format!("verify: damage in {}", text::counted(damaged, "place")))),
    }
}

/// What was found on one shard.
#[derive(Default)]
struct Checked {
    /// What people know it by.
    name: String,
    /// Its position in its daemon's list, if its superblock can be read.
    shard: Option<u16>,
    path: String,
    /// Slabs in use; 0 where a daemon checked.
    slabs: u64,
    parts: u64,
    bytes: u64,
    /// Writes that a crash cut off: nobody was told that they are done.
    unfinished: u64,
    copies: Vec<String>,
    damaged: Vec<DamagedPart>,
    /// Why nothing was checked.
    unchecked: Option<String>,
}

impl Checked {
    fn damage_count(&self) -> u64 {
        (self.copies.len() + self.damaged.len()) as u64
    }

    fn text(&self) -> String {
        if let Some(why) = &self.unchecked {
            return format!("{}: not checked: {why}\n", self.name);
        }
        let verdict = match self.damage_count() {
            0 => "nothing is damaged".to_owned(),
            count => format!("{} damaged", text::count(count)),
        };
        let slabs =
            if self.slabs > 0 { format!("{}, ", text::counted(self.slabs, "slab")) } else { String::new() };
        let parts = text::counted(self.parts, "part");
        let mut out =
            format!("{}: {slabs}{parts}, {} checked: {verdict}\n", self.name, text::bytes(self.bytes));
        if self.unfinished > 0 {
            let unfinished = text::counted(self.unfinished, "write");
            out.push_str(&format!("  {unfinished} at the end cut off by a crash (not counted as damage)\n"));
        }
        for line in self.copies.iter().cloned().chain(self.damaged.iter().map(damage_line)) {
            out.push_str(&format!("  {line}\n"));
        }
        out
    }

    fn json(&self) -> Value {
        let mut facts = json!({
            "shard": self.shard,
            "path": self.path,
            "parts_checked": self.parts,
            "bytes_checked": self.bytes,
            "unfinished": self.unfinished,
            "superblocks_damaged": self.copies,
            "damaged": self.damaged.iter().map(damage_json).collect::<Vec<_>>(),
        });
        if let Some(why) = &self.unchecked {
            facts["not_checked"] = json!(why);
        }
        facts
    }
}

struct All(Vec<Checked>);

impl Facts for All {
    fn json(&self) -> Value {
        let damaged: u64 = self.0.iter().map(Checked::damage_count).sum();
        json!({ "damaged": damaged, "shards": self.0.iter().map(Checked::json).collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        self.0.iter().map(Checked::text).collect()
    }
}

/// A damaged thing in a line.
pub fn damage_line(part: &DamagedPart) -> String {
    let place = format!("slab {}", part.slab);
    if part.key.is_none() && part.offset == 0 {
        return format!("{place}: {}", part.why);
    }
    let record = match part.record {
        Record::OBJECT => String::new(),
        Record(number) => format!("stripe {} of ", number - 1),
    };
    let whose = match &part.key {
        Some(key) => {
            format!("part {} of {record}{}, version {}", part.part, text::key(key.as_bytes()), part.version)
        }
        None => "a part whose head cannot be read".to_owned(),
    };
    format!("{place}, offset {}: {whose}: {}", part.offset, part.why)
}

/// A damaged thing in JSON.
pub fn damage_json(part: &DamagedPart) -> Value {
    let mut facts = json!({ "slab": part.slab, "offset": part.offset, "why": part.why });
    if let Some(key) = &part.key {
        facts["namespace"] = json!(part.namespace.0);
        facts["record"] = json!(part.record.0);
        facts["part"] = json!(part.part);
        facts["version"] = json!(part.version.to_string());
        key_json(&mut facts, key.as_bytes());
    }
    facts
}
