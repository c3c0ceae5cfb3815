//! `stat`: what is known of an object, down to where each part lies.

use std::ffi::OsString;

use clap::Args;
use hedgerow_client::ChecksumKind;
use hedgerow_client::messages::{PartState, StatAnswer, StatPart, StatRecord};
use hedgerow_wire::Record;
use hedgerow_wire::part::PartKind;
use serde_json::{Value, json};

use super::{key_bytes, key_json};
use crate::context::{Context, Facts, failed, not_found};
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

/// Show what is known of an object, down to where each part lies.
#[derive(Args, Debug)]
pub struct Stat {
    /// The key
    key: OsString,
}

/// Asks and shows.
pub async fn run(context: &Context, stat: Stat) -> Result<(), Failure> {
    let key = key_bytes(&stat.key);
    let what = format!("stat {}", text::key(key));
    let client = context.connect().await?;
    let answer = context.request(&client).stat(key).await.map_err(failed(&what))?;
    let answer = answer.ok_or_else(|| not_found(&what))?;
    context.show(&Known(answer))
}

struct Known(StatAnswer);

impl Facts for Known {
    fn json(&self) -> Value {
        let answer = &self.0;
        let mut facts = json!({
            "namespace": answer.namespace.0,
            "version": answer.version.to_string(),
            "kind": kind_name(answer.kind),
            "object_len": answer.object_len,
            "stripe_size": answer.stripe_size,
            "code": answer.code.to_string(),
            "created_ms": answer.created_ms,
            "expires_ms": (answer.expires_ms != 0).then_some(answer.expires_ms),
            "checksum": checksum(answer),
            "pinned": answer.pinned,
            "confirmed": answer.confirmed,
            "from_memory": answer.from_memory,
            "records": answer.records.iter().map(record_json).collect::<Vec<_>>(),
        });
        key_json(&mut facts, answer.key.as_bytes());
        facts
    }

    fn text(&self) -> String {
        let answer = &self.0;
        let mut head = Table::of_pairs();
        head.pair("key", text::key(answer.key.as_bytes()));
        head.pair("namespace", answer.namespace.0);
        head.pair("version", answer.version);
        head.pair("length", length(answer));
        head.pair("written", text::time_ms(answer.created_ms));
        head.pair(
            "expires",
            if answer.expires_ms == 0 { "never".into() } else { text::time_ms(answer.expires_ms) },
        );
        head.pair("code", format!("{} (any {} of {} parts)", answer.code, answer.code.k(), answer.code.n()));
        head.pair("checksum", checksum(answer).unwrap_or_else(|| "none given".to_owned()));
        head.pair("state", state(answer));
        format!("{head}\n{}", parts(answer))
    }
}

fn length(answer: &StatAnswer) -> String {
    let stripes = answer.object_len.div_ceil(u64::from(answer.stripe_size.max(1))).max(1);
    format!(
        "{} ({}), {}",
        text::counted(answer.object_len, "byte"),
        text::bytes(answer.object_len),
        text::counted(stripes, "stripe")
    )
}

fn checksum(answer: &StatAnswer) -> Option<String> {
    match answer.checksum.kind {
        ChecksumKind::None => None,
        ChecksumKind::Crc32c => Some(format!("crc32c:{:08x}", answer.checksum.bits)),
        ChecksumKind::Opaque128 => Some(format!("opaque:{:032x}", answer.checksum.bits)),
    }
}

fn state(answer: &StatAnswer) -> String {
    let present = |record: &StatRecord| {
        let present = record.parts.iter().filter(|part| part.state == PartState::Present).count();
        record.code.n().saturating_sub(present)
    };
    let missing: usize = answer.records.iter().map(present).sum();
    let mut words =
        vec![if answer.confirmed { "confirmed" } else { "not confirmed to be the newest" }.to_owned()];
    words.push(match missing {
        0 => "all parts present".to_owned(),
        missing => format!("{} missing", text::counted(missing as u64, "part")),
    });
    if answer.from_memory {
        words.push("in memory".to_owned());
    }
    if answer.pinned {
        words.push("pinned".to_owned());
    }
    words.join(", ")
}

fn parts(answer: &StatAnswer) -> Table {
    let mut table = Table::new(&[
        ("record", Align::Left),
        ("part", Align::Right),
        ("target", Align::Left),
        ("state", Align::Left),
        ("length", Align::Right),
        ("slab", Align::Right),
        ("offset", Align::Right),
        ("version", Align::Left),
    ]);
    for record in &answer.records {
        for part in &record.parts {
            let held = !matches!(part.state, PartState::Absent | PartState::Unreachable);
            let shown =
                |value: u64, known: bool| if held && known { value.to_string() } else { "-".to_owned() };
            let placed = part.slab_generation != 0;
            table.row([
                record_name(answer.kind, record.record),
                shown(u64::from(part.part), true),
                part.target.to_string(),
                state_name(part.state).to_owned(),
                shown(u64::from(part.len), true),
                shown(u64::from(part.slab), placed),
                shown(u64::from(part.offset), placed),
                if held { part.version.to_string() } else { "-".to_owned() },
            ]);
        }
    }
    table
}

/// What a record is called.
pub fn record_name(kind: PartKind, record: Record) -> String {
    match (record, kind) {
        (Record::OBJECT, PartKind::Head) => "head".to_owned(),
        (Record::OBJECT, PartKind::Tombstone) => "tombstone".to_owned(),
        (Record::OBJECT, _) => "object".to_owned(),
        (Record(number), _) => format!("stripe {}", number - 1),
    }
}

/// What a kind of part is called.
pub fn kind_name(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Sole => "sole",
        PartKind::Head => "head",
        PartKind::Stripe => "stripe",
        PartKind::Tombstone => "tombstone",
    }
}

fn state_name(state: PartState) -> &'static str {
    match state {
        PartState::Present => "present",
        PartState::Absent => "absent",
        PartState::Older => "older",
        PartState::Newer => "newer",
        PartState::Damaged => "damaged",
        PartState::Unreachable => "unreachable",
    }
}

fn record_json(record: &StatRecord) -> Value {
    json!({
        "record": record.record.0,
        "stripe_len": record.stripe_len,
        "code": record.code.to_string(),
        "parts": record.parts.iter().map(part_json).collect::<Vec<_>>(),
    })
}

fn part_json(part: &StatPart) -> Value {
    let held = !matches!(part.state, PartState::Absent | PartState::Unreachable);
    let placed = held && part.slab_generation != 0;
    json!({
        "member": part.target.member.0,
        "shard": part.target.shard,
        "state": state_name(part.state),
        "part": held.then_some(part.part),
        "version": held.then(|| part.version.to_string()),
        "len": held.then_some(part.len),
        "slab": placed.then_some(part.slab),
        "slab_generation": placed.then_some(part.slab_generation),
        "offset": placed.then_some(part.offset),
    })
}
