//! `inspect`: what a slab file holds, read without a daemon.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use hedgerow_wire::part::PartKind;
use hedgerow_wire::{KeyHash, Record, Version};
use serde_json::{Value, json};

use super::key_json;
use super::stat::{kind_name, record_name};
use super::verify::{damage_json, damage_line};
use crate::context::{Context, Facts};
use crate::failure::Failure;
use crate::offline::{Depth, Device, Part, Shard, Slab, SlabState};
use crate::table::{Align, Table};
use crate::text;

/// Show what a slab file holds, without a daemon.
#[derive(Args, Debug)]
pub struct Inspect {
    /// A shard's file or block device
    file: PathBuf,
    /// List every part
    #[arg(long)]
    parts: bool,
}

/// Reads and shows.
pub fn run(context: &Context, inspect: Inspect) -> Result<(), Failure> {
    let shard = Shard::open(Device::open(&inspect.file)?)?;
    let slabs: Vec<Slab> =
        (0..shard.superblock.slabs).map(|number| shard.slab(number, Depth::Heads)).collect();
    let newest = newest(&slabs);
    let in_use = shard.device.in_use();
    let inspected = Inspected { shard, slabs, newest, in_use, parts: inspect.parts, wall_ms: wall_ms() };
    context.show(&inspected)?;
    match inspected.damage_count() {
        0 => Ok(()),
        1 => Err(Failure::No(format!("{}: 1 thing is damaged", inspect.file.display()))),
        count => Err(Failure::No(format!("{}: {count} things are damaged", inspect.file.display()))),
    }
}

#[allow(clippy::disallowed_methods)] // to tell what has expired
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

type Newest = HashMap<(KeyHash, Record), Version>;

/// The newest version of each record.
fn newest(slabs: &[Slab]) -> Newest {
    let mut newest = Newest::new();
    let heads = slabs.iter().flat_map(|slab| &slab.parts).filter_map(|part| part.head.as_ref());
    for head in heads {
        let version = newest.entry((head.meta.key_hash(), head.meta.record)).or_insert(head.meta.version);
        *version = head.meta.version.max(*version);
    }
    newest
}

struct Inspected {
    shard: Shard,
    slabs: Vec<Slab>,
    newest: Newest,
    in_use: bool,
    parts: bool,
    wall_ms: u64,
}

impl Inspected {
    fn damage_count(&self) -> usize {
        let parts: usize = self.slabs.iter().map(|slab| slab.damaged().len()).sum();
        parts + self.shard.damaged_copies().count()
    }

    fn part_state(&self, part: &Part) -> &'static str {
        let Some(head) = &part.head else { return if part.unfinished { "unfinished" } else { "damaged" } };
        let meta = &head.meta;
        match &part.problem {
            Some(_) if part.unfinished => "unfinished",
            Some(_) => "damaged",
            None if self.newest.get(&(meta.key_hash(), meta.record)) != Some(&meta.version) => "superseded",
            None if meta.expired(self.wall_ms) => "expired",
            None if meta.kind == PartKind::Tombstone => "deleted",
            None => "current",
        }
    }

    fn all_parts(&self) -> impl Iterator<Item = (&Slab, &Part)> {
        self.slabs.iter().flat_map(|slab| slab.parts.iter().map(move |part| (slab, part)))
    }

    /// Numbers of parts by their state, in a fixed order.
    fn part_counts(&self) -> Vec<(&'static str, u64)> {
        let states = ["current", "superseded", "deleted", "expired", "unfinished", "damaged"];
        let mut counts = states.map(|state| (state, 0)).to_vec();
        for (_, part) in self.all_parts() {
            let state = self.part_state(part);
            counts.iter_mut().filter(|(name, _)| *name == state).for_each(|(_, count)| *count += 1);
        }
        counts
    }

    fn head_text(&self) -> String {
        let superblock = &self.shard.superblock;
        let mut head = Table::of_pairs();
        let in_use = if self.in_use { ", in use by a running daemon" } else { "" };
        let (path, len) = (self.shard.device.path.display(), text::bytes(self.shard.device.len()));
        head.pair("file", format!("{path}, {len}{in_use}"));
        head.pair("shard", format!("{:032x}, number {}", superblock.shard_id, superblock.shard_index));
        head.pair("daemon", format!("{:032x}, {} parity parts", superblock.daemon_id, superblock.parity));
        for (number, copy) in self.shard.copies.iter().enumerate() {
            let state = match copy {
                Ok(copy) if copy.sequence == superblock.sequence => {
                    format!("write {}, in force", copy.sequence)
                }
                Ok(copy) => format!("write {}, older", copy.sequence),
                Err(error) => error.to_string(),
            };
            head.pair(&format!("superblock {number}"), state);
        }
        let stopped = if superblock.clean_nonce != 0 { "cleanly" } else { "not (in use, or it crashed)" };
        head.pair("stopped", stopped);
        head.pair("forgotten", format!("through version {}", superblock.forgotten_through));
        head.pair("unknown", format!("through version {}", superblock.unknown_through));
        head.pair("generations", format!("evicted through {}", superblock.evicted_through));
        head.pair(
            "slabs",
            format!(
                "{} of {}: {}",
                superblock.slabs,
                text::bytes(u64::from(superblock.slab_len)),
                self.slab_counts()
            ),
        );
        let counts = self.part_counts().into_iter().filter(|(_, count)| *count > 0);
        let counts: Vec<String> =
            counts.map(|(name, count)| format!("{} {name}", text::count(count))).collect();
        head.pair("parts", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") });
        head.to_string()
    }

    fn slab_counts(&self) -> String {
        let states =
            [SlabState::Sealed, SlabState::Open, SlabState::Free, SlabState::Empty, SlabState::Damaged];
        let count = |state| self.slabs.iter().filter(|slab| slab.state == state).count();
        let counts = states.map(|state| (count(state), slab_state(state)));
        let words = counts.iter().filter(|(count, _)| *count > 0);
        words.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }

    fn slabs_text(&self) -> String {
        let mut table = Table::new(&[
            ("slab", Align::Right),
            ("state", Align::Left),
            ("generation", Align::Right),
            ("parts", Align::Right),
            ("used", Align::Right),
            ("highest version", Align::Left),
        ]);
        for slab in self.slabs.iter().filter(|slab| slab.state != SlabState::Empty) {
            table.row([
                slab.number.to_string(),
                slab_state(slab.state).to_owned(),
                slab.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
                text::count(slab.parts.len() as u64),
                text::bytes(slab.used_bytes()),
                slab.highest().map_or_else(|| "-".to_owned(), |version| version.to_string()),
            ]);
        }
        if table.is_empty() { String::new() } else { format!("\n{table}") }
    }

    fn parts_text(&self) -> String {
        let mut table = Table::new(&[
            ("slab", Align::Right),
            ("offset", Align::Right),
            ("state", Align::Left),
            ("record", Align::Left),
            ("part", Align::Right),
            ("code", Align::Left),
            ("length", Align::Right),
            ("version", Align::Left),
            ("namespace", Align::Right),
            ("key", Align::Left),
        ]);
        for (slab, part) in self.all_parts() {
            let meta = part.head.as_ref().map(|head| &head.meta);
            let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            table.row([
                slab.number.to_string(),
                part.offset.to_string(),
                self.part_state(part).to_owned(),
                shown(meta.map(|meta| record_name(meta.kind, meta.record))),
                shown(meta.map(|meta| meta.part.to_string())),
                shown(meta.map(|meta| meta.code.to_string())),
                shown(part.head.as_ref().map(|head| head.payload_len.to_string())),
                shown(meta.map(|meta| meta.version.to_string())),
                shown(meta.map(|meta| meta.namespace.0.to_string())),
                shown(meta.map(|meta| text::key(meta.key.as_bytes()))),
            ]);
        }
        format!("\n{table}")
    }
}

impl Facts for Inspected {
    fn json(&self) -> Value {
        let superblock = &self.shard.superblock;
        let copy = |copy: &Result<_, hedgerow_engine::slab::superblock::SuperblockError>| match copy {
            Ok(hedgerow_engine::slab::superblock::Superblock { sequence, .. }) => {
                json!({ "sequence": sequence })
            }
            Err(error) => json!({ "error": error.to_string() }),
        };
        let mut facts = json!({
            "file": self.shard.device.path.to_string_lossy(),
            "device_len": self.shard.device.len(),
            "in_use": self.in_use,
            "shard_id": format!("{:032x}", superblock.shard_id),
            "daemon_id": format!("{:032x}", superblock.daemon_id),
            "shard": superblock.shard_index,
            "parity": superblock.parity,
            "superblocks": self.shard.copies.iter().map(copy).collect::<Vec<_>>(),
            "clean_stop": superblock.clean_nonce != 0,
            "forgotten_through": superblock.forgotten_through.to_string(),
            "unknown_through": superblock.unknown_through.to_string(),
            "evicted_through": superblock.evicted_through,
            "slab_len": superblock.slab_len,
            "slab_count": superblock.slabs,
            "slabs": self.slabs.iter().filter(|slab| slab.state != SlabState::Empty).map(|slab| self.slab_json(slab)).collect::<Vec<_>>(),
            "part_counts": self.part_counts().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "damaged": self.slabs.iter().flat_map(Slab::damaged).map(|part| damage_json(&part)).collect::<Vec<_>>(),
        });
        if self.parts {
            facts["parts"] = self.all_parts().map(|(slab, part)| self.part_json(slab, part)).collect();
        }
        facts
    }

    fn text(&self) -> String {
        let mut out = self.head_text();
        out.push_str(&self.slabs_text());
        if self.parts {
            out.push_str(&self.parts_text());
        }
        for (number, error) in self.shard.damaged_copies() {
            out.push_str(&format!("damaged: superblock {number}: {error}\n"));
        }
        for part in self.slabs.iter().flat_map(Slab::damaged) {
            out.push_str(&format!("damaged: {}\n", damage_line(&part)));
        }
        out
    }
}

impl Inspected {
    fn slab_json(&self, slab: &Slab) -> Value {
        json!({
            "slab": slab.number, "state": slab_state(slab.state), "generation": slab.generation,
            "offset": self.shard.slab_start(slab.number), "parts": slab.parts.len(),
            "used_bytes": slab.used_bytes(), "highest_version": slab.highest().map(|version| version.to_string()),
        })
    }

    fn part_json(&self, slab: &Slab, part: &Part) -> Value {
        let mut facts = json!({ "slab": slab.number, "offset": part.offset, "state": self.part_state(part) });
        if let Some(problem) = &part.problem {
            facts["problem"] = json!(problem);
        }
        if let Some(head) = &part.head {
            let meta = &head.meta;
            facts["kind"] = json!(kind_name(meta.kind));
            facts["namespace"] = json!(meta.namespace.0);
            facts["record"] = json!(meta.record.0);
            facts["part"] = json!(meta.part);
            facts["code"] = json!(meta.code.to_string());
            facts["len"] = json!(head.payload_len);
            facts["version"] = json!(meta.version.to_string());
            facts["created_ms"] = json!(meta.created_ms);
            facts["expires_ms"] = json!((meta.expires_ms != 0).then_some(meta.expires_ms));
            key_json(&mut facts, meta.key.as_bytes());
        }
        facts
    }
}

fn slab_state(state: SlabState) -> &'static str {
    match state {
        SlabState::Empty => "empty",
        SlabState::Free => "free",
        SlabState::Sealed => "sealed",
        SlabState::Open => "open",
        SlabState::Damaged => "damaged",
    }
}
