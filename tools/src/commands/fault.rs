//! `fault`: injects, lists and ends faults of a daemon that was started with `--allow-faults`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hedgerow_client::messages::{
    ActiveFault, Fault as Injected, FaultAnswer, FaultKind, FaultPlace, FaultRequest,
};
use serde_json::{Value, json};

use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

/// What to do about faults.
#[derive(Subcommand, Debug)]
pub enum Fault {
    /// Let a shard misbehave for a while
    Inject(Inject),
    /// List the faults that are active
    List,
    /// End a fault, or all of them
    Clear {
        /// The fault's number, as 'list' shows it; all if it is left out
        id: Option<u64>,
    },
}

/// Let a shard misbehave for a while.
#[derive(Args, Debug)]
pub struct Inject {
    /// The shard's position in the daemon's list ('hedgerow stats' shows it)
    #[arg(long, value_name = "N")]
    shard: u16,
    /// What it does
    #[arg(value_enum)]
    what: What,
    /// How much, for delay and stall: 50ms, 2s
    #[arg(value_parser = text::parse_duration)]
    amount: Option<Duration>,
    /// Share of its operations that are struck
    #[arg(long, value_name = "PERCENT", default_value = "100%", value_parser = text::parse_share)]
    share: u32,
    /// How long the fault lasts, up to 10m
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = text::parse_duration)]
    lasts: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum What {
    /// Each operation takes AMOUNT longer
    Delay,
    /// Nothing is done for AMOUNT, then all at once
    Stall,
    /// Operations fail
    Error,
    /// Bytes that are read are wrong
    Damage,
    /// The device has no room
    Full,
    /// Operations never come back
    Vanish,
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
    let amount = || {
        let missing = "delay and stall need to know how much: for example 'delay 50ms'";
        inject.amount.filter(|amount| !amount.is_zero()).ok_or_else(|| Failure::Usage(missing.to_owned()))
    };
    let none = |kind| match inject.amount {
        None => Ok(kind),
        Some(_) => Err(Failure::Usage("only delay and stall take a duration".to_owned())),
    };
    let kind = match inject.what {
        What::Delay => {
            FaultKind::Delay { delay_us: bounded(amount()?.as_micros(), "a delay takes 1us to 1h")? }
        }
        What::Stall => {
            FaultKind::Stall { stall_ms: bounded(amount()?.as_millis(), "a stall takes 1ms to 49d")? }
        }
        What::Error => none(FaultKind::Error)?,
        What::Damage => none(FaultKind::Damage)?,
        What::Full => none(FaultKind::Full)?,
        What::Vanish => none(FaultKind::Vanish)?,
    };
    let too_long = "a fault lasts 1ms to 10m (--for)";
    let lasts = bounded(inject.lasts.as_millis(), too_long)?;
    if lasts > hedgerow_wire::limits::FAULT_DURATION_MS_MAX {
        return Err(Failure::Usage(too_long.to_owned()));
    }
    Ok(Injected { place: FaultPlace::Shard(inject.shard), kind, share_ppm: inject.share, duration_ms: lasts })
}

/// An amount that is not nothing and has room in its field, of a little more than what `right` says.
fn bounded(amount: u128, right: &str) -> Result<u32, Failure> {
    match u32::try_from(amount) {
        Ok(amount) if amount > 0 => Ok(amount),
        _ => Err(Failure::Usage(right.to_owned())),
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
        FaultPlace::Connection(0) => "all connections".to_owned(),
        FaultPlace::Connection(number) => format!("connection {number}"),
    }
}

fn kind_text(kind: FaultKind) -> String {
    let name = kind_name(kind);
    match kind {
        FaultKind::Delay { delay_us } => {
            format!("{name} {}", text::duration(Duration::from_micros(u64::from(delay_us))))
        }
        FaultKind::Stall { stall_ms } => {
            format!("{name} {}", text::duration(Duration::from_millis(u64::from(stall_ms))))
        }
        _ => name.to_owned(),
    }
}

fn kind_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Delay { .. } => "delay",
        FaultKind::Stall { .. } => "stall",
        FaultKind::Error => "error",
        FaultKind::Damage => "damage",
        FaultKind::Full => "full",
        FaultKind::Vanish => "vanish",
    }
}

fn fault_json(active: &ActiveFault) -> Value {
    let mut facts = json!({
        "id": active.id,
        "fault": kind_name(active.fault.kind),
        "share_ppm": active.fault.share_ppm,
        "remaining_ms": active.remaining_ms,
        "hits": active.hits,
    });
    match active.fault.place {
        FaultPlace::Shard(shard) => facts["shard"] = json!(shard),
        FaultPlace::Connection(number) => facts["connection"] = json!(number),
    }
    match active.fault.kind {
        FaultKind::Delay { delay_us } => facts["delay_us"] = json!(delay_us),
        FaultKind::Stall { stall_ms } => facts["stall_ms"] = json!(stall_ms),
        _ => {}
    }
    facts
}
