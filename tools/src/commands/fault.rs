//! `fault`: injects, lists and ends faults of a daemon that was started with `--allow-faults`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use hedgerow_client::messages::{
    ActiveFault, Fault as Injected, FaultAmount, FaultAnswer, FaultInfo, FaultKind, FaultPlace, FaultRequest,
};
use serde_json::{Value, json};

use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

/// What to do about faults.
#[derive(Subcommand, Debug)]
pub enum Fault {
    /// Let a shard, or connections, misbehave for a while
    Inject(Inject),
    /// List the faults that are active
    List,
    /// End a fault, or all of them
    Clear {
        /// The fault's number, as 'list' shows it; all if it is left out
        id: Option<u64>,
    },
}

/// Let a shard, or connections, misbehave for a while.
#[derive(Args, Debug)]
pub struct Inject {
    #[command(flatten)]
    place: Place,
    /// What it does
    #[arg(value_enum)]
    what: What,
    /// How much: 50ms, 2s; bytes for cut
    amount: Option<String>,
    /// The most, for delay-uniform
    amount_max: Option<String>,
    /// Share of its operations, or answers, that are struck
    #[arg(long, value_name = "PERCENT", default_value = "100%", value_parser = text::parse_share)]
    share: u32,
    /// How long the fault lasts, up to 10m
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = text::parse_duration)]
    lasts: Duration,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Place {
    /// The shard's position in the daemon's list ('hedgerow stats' shows it)
    #[arg(long, value_name = "N")]
    shard: Option<u16>,
    /// All connections, those that are made later included
    #[arg(long)]
    connections: bool,
    /// The connection from this address; port 0: all from this host
    #[arg(long, value_name = "IP:PORT")]
    peer: Option<SocketAddr>,
}

impl Place {
    fn named(&self) -> FaultPlace {
        match (self.shard, self.peer) {
            (Some(shard), _) => FaultPlace::Shard(shard),
            (None, Some(peer)) => FaultPlace::Peer(peer),
            (None, None) => FaultPlace::Connections,
        }
    }
}

/// A kind of fault, as the command line names it.
#[derive(Clone, Copy)]
struct What(&'static FaultInfo);

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl ValueEnum for What {
    fn value_variants<'a>() -> &'a [What] {
        static ALL: std::sync::LazyLock<Vec<What>> =
            std::sync::LazyLock::new(|| FaultInfo::ALL.iter().map(What).collect());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name).help(self.0.about))
    }
}

/// Asks, and shows what is active then.
pub async fn run(context: &Context, fault: Fault) -> Result<(), Failure> {
    let request = match fault {
        Fault::Inject(inject) => FaultRequest::Inject(injected(&inject)?),
        Fault::List => FaultRequest::List,
        Fault::Clear { id: Some(id) } => FaultRequest::Clear { id },
        Fault::Clear { id: None } => FaultRequest::ClearAll,
    };
    let client = context.connect().await?;
    let asking = context.request(&client);
    if let FaultRequest::Clear { id } = request {
        let before = asking.fault(&FaultRequest::List).await.map_err(failed("fault"))?;
        if !before.faults.iter().any(|active| active.id == id) {
            return Err(Failure::No(format!("fault clear: there is no fault {id} (any more)")));
        }
    }
    let answer = asking.fault(&request).await.map_err(failed("fault"))?;
    context.show(&Active(answer))
}

fn injected(inject: &Inject) -> Result<Injected, Failure> {
    let place = inject.place.named();
    let kind = kind(inject)?;
    if !place.takes(kind) {
        let name = inject.what.0.name;
        return Err(Failure::Usage(format!("'{name}' does not strike {}", places(place))));
    }
    let duration_ms = u32::try_from(inject.lasts.as_millis()).unwrap_or(u32::MAX);
    if !(1..=hedgerow_wire::limits::FAULT_DURATION_MS_MAX).contains(&duration_ms) {
        return Err(Failure::Usage("a fault lasts 1ms to 10m (--for)".to_owned()));
    }
    Ok(Injected { place, kind, share_ppm: inject.share, duration_ms })
}

/// The kind of fault with its amounts.
fn kind(inject: &Inject) -> Result<FaultKind, Failure> {
    let info = inject.what.0;
    let (needs, scale_ns) = match info.amount {
        FaultAmount::None => ("no amount", 1),
        FaultAmount::Us => ("a time from 1us to 1m: for example '50ms'", 1_000),
        FaultAmount::RangeUs => ("the least and the most of a time, up to 1m: for example '0 90ms'", 1_000),
        FaultAmount::Ms => ("a time from 1ms to 10m: for example '2s'", 1_000_000),
        FaultAmount::Bytes => ("a number of bytes: for example '4096'", 1),
    };
    let wrong = || Failure::Usage(format!("'{}' takes {needs}", info.name));
    let number = |text: &Option<String>| match (text.as_deref(), info.amount) {
        (None, _) => Ok(0),
        (Some(text), FaultAmount::Bytes) => text.parse().map_err(|_| wrong()),
        (Some("0"), FaultAmount::RangeUs) => Ok(0),
        (Some(_), FaultAmount::None) => Err(wrong()),
        (Some(text), _) => {
            let time = text::parse_duration(text).map_err(|_| wrong())?;
            u64::try_from(time.as_nanos() / scale_ns).map_err(|_| wrong())
        }
    };
    if info.amount == FaultAmount::Bytes && inject.amount.is_none() {
        return Err(wrong());
    }
    info.kind(number(&inject.amount)?, number(&inject.amount_max)?).ok_or_else(wrong)
}

fn places(place: FaultPlace) -> &'static str {
    match place {
        FaultPlace::Shard(_) => "shards",
        FaultPlace::Connections | FaultPlace::Peer(_) => "connections",
    }
}

struct Active(FaultAnswer);

impl Facts for Active {
    fn json(&self) -> Value {
        let id = (self.0.id != 0).then_some(self.0.id);
        json!({ "id": id, "faults": self.0.faults.iter().map(fault_json).collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        if self.0.faults.is_empty() {
            return "no fault is active\n".to_owned();
        }
        let mut table = Table::new(&[
            ("id", Align::Right),
            ("place", Align::Left),
            ("fault", Align::Left),
            ("share", Align::Right),
            ("ends in", Align::Right),
            ("struck", Align::Right),
        ]);
        for active in &self.0.faults {
            table.row([
                active.id.to_string(),
                place_name(active.fault.place),
                kind_text(active.fault.kind),
                format!("{}%", f64::from(active.fault.share_ppm) / 10_000.0),
                text::duration(Duration::from_millis(u64::from(active.remaining_ms))),
                text::count(active.hits),
            ]);
        }
        table.to_string()
    }
}

fn place_name(place: FaultPlace) -> String {
    match place {
        FaultPlace::Shard(shard) => format!("shard {shard}"),
        FaultPlace::Connections => "all connections".to_owned(),
        FaultPlace::Peer(peer) if peer.port() == 0 => format!("connections from {}", peer.ip()),
        FaultPlace::Peer(peer) => format!("connection from {peer}"),
    }
}

fn kind_text(kind: FaultKind) -> String {
    let info = kind.info();
    let (amount, amount_max) = kind.amounts();
    let us = |us| text::duration(Duration::from_micros(us));
    match info.amount {
        FaultAmount::None => info.name.to_owned(),
        FaultAmount::Us => format!("{} {}", info.name, us(amount)),
        FaultAmount::RangeUs => format!("{} {} to {}", info.name, us(amount), us(amount_max)),
        FaultAmount::Ms => format!("{} {}", info.name, text::duration(Duration::from_millis(amount))),
        FaultAmount::Bytes => format!("{} after {}", info.name, text::bytes(amount)),
    }
}

fn fault_json(active: &ActiveFault) -> Value {
    let info = active.fault.kind.info();
    let mut facts = json!({
        "id": active.id,
        "fault": info.name,
        "share_ppm": active.fault.share_ppm,
        "remaining_ms": active.remaining_ms,
        "hits": active.hits,
    });
    match active.fault.place {
        FaultPlace::Shard(shard) => facts["shard"] = json!(shard),
        FaultPlace::Connections => facts["connections"] = json!(true),
        FaultPlace::Peer(peer) => facts["peer"] = json!(peer.to_string()),
    }
    let (amount, amount_max) = active.fault.kind.amounts();
    match info.amount {
        FaultAmount::None => {}
        FaultAmount::Us => facts["delay_us"] = json!(amount),
        FaultAmount::RangeUs => {
            facts["min_us"] = json!(amount);
            facts["max_us"] = json!(amount_max);
        }
        FaultAmount::Ms => facts["stall_ms"] = json!(amount),
        FaultAmount::Bytes => facts["after_bytes"] = json!(amount),
    }
    facts
}
