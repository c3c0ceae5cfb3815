//! The Hedgerow daemon. See `hedgerowd --help`.
#![allow(clippy::print_stdout)] // what it runs with is said on standard output, for people and tests

use std::io::Write;
use std::num::NonZero;
use std::process::ExitCode;

use clap::Parser;
use hedgerow_engine::shell::daemon::{self, Daemon};
use hedgerow_engine::shell::settings::{Bytes, Flags, Machine, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A setting is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    // A core whose invariant is broken must not leave the others waiting for it: the process ends, and a
    // restart finds everything that was acknowledged.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    let flags = Flags::parse();
    let print_config = flags.print_config;
    let complete = flags.with_file().and_then(|flags| Ok((flags.clone().settings(machine())?, flags)));
    let (settings, flags) = match complete {
        Ok(complete) => complete,
        Err(error) => {
            eprintln!("hedgerowd: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if print_config {
        print!("{}", flags.to_toml(&settings));
        return ExitCode::SUCCESS;
    }
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hedgerowd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn machine() -> Machine {
    let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let known = std::fs::read_to_string("/proc/meminfo").ok();
    let total_kib = known.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    // A machine that does not say what it has refuses nothing.
    Machine { cores, memory_bytes: total_kib.map_or(u64::MAX, |kib| kib << 10) }
}

fn serve(settings: Settings) -> Result<(), String> {
    // Before anything starts: a signal during start-up is not lost.
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("cannot take signals: {error}"))?;
    let daemon = daemon::start(settings).map_err(|error| error.to_string())?;
    describe(&daemon).map_err(|error| format!("cannot write to standard output: {error}"))?;
    let stopper = daemon.stopper();
    let handle = signals.handle();
    let waiter = std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            eprintln!("hedgerowd: stopping");
            stopper.stop();
        }
        // A second signal ends the process at once.
        if signals.forever().next().is_some() {
            std::process::exit(130);
        }
    });
    let ended = daemon.join();
    handle.close();
    let _ = waiter.join();
    ended
}

/// `1 shard`, `2 shards`.
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn describe(daemon: &Daemon) -> std::io::Result<()> {
    let settings = daemon.settings();
    let mut out = std::io::stdout().lock();
    let capacity: u64 = daemon.shards.iter().flatten().map(|shard| shard.capacity_bytes).sum();
    let parts: u64 = daemon.shards.iter().flatten().map(|shard| shard.parts).sum();
    let snapshots = daemon.shards.iter().flatten().filter(|shard| shard.from_snapshot).count();
    let slowest = daemon.shards.iter().flatten().map(|shard| shard.took).max().unwrap_or_default();
    let role = match settings.coordinators {
        0 => "every core does both".to_owned(),
        count => format!("{count} coordinate"),
    };
    writeln!(out, "hedgerowd {} in {}", env!("CARGO_PKG_VERSION"), settings.data.display())?;
    writeln!(
        out,
        "code {} ({}), parts of at least {}, reads {}, writes {}",
        settings.code,
        daemon.kernel,
        Bytes(settings.min_part as u64),
        settings.read_policy_word(),
        settings.ack_word()
    )?;
    writeln!(
        out,
        "{}, {} in all, {} found in {slowest:.1?}, {snapshots} of {} shards from snapshots; memory {}; {}, {role}",
        counted(daemon.shards.len() as u64, "shard"),
        Bytes(capacity),
        counted(parts, "part"),
        daemon.shards.len(),
        Bytes(settings.memory_bytes),
        counted(settings.cores.len() as u64, "core")
    )?;
    let (mean, index_bytes) = daemon.index_size();
    writeln!(out, "indexes for parts of {mean} bytes on average: {} MiB", index_bytes.div_ceil(1 << 20))?;
    let formatted: Vec<String> = (0..daemon.shards.len())
        .filter(|&shard| daemon.shards[shard].as_ref().is_ok_and(|opened| opened.formatted))
        .map(|shard| shard.to_string())
        .collect();
    if !formatted.is_empty() {
        writeln!(out, "blank devices formatted: shards {}", formatted.join(", "))?;
    }
    for reason in daemon.shards.iter().filter_map(|shard| shard.as_ref().err()) {
        writeln!(out, "warning: a shard is set aside: {reason}")?;
    }
    if let Some(before) = daemon.shards_before.filter(|before| *before != daemon.shards.len()) {
        writeln!(
            out,
            "warning: {} shards, and {before} at the last start: some parts are to be elsewhere; read every object before the next change (docs/operations.md, 'More shards')",
            daemon.shards.len()
        )?;
    }
    if daemon.failure_domains() < settings.code.n() {
        writeln!(
            out,
            "note: {} on {}: a device that fails takes all of its shards with it",
            counted(daemon.shards.len() as u64, "shard"),
            counted(daemon.failure_domains() as u64, "device")
        )?;
    }
    if settings.allow_faults {
        writeln!(out, "warning: faults may be injected by any client (--allow-faults)")?;
    }
    writeln!(out, "listening on {}", daemon.address())?;
    out.flush()
}
