//! One module for each command: its options, and `run`.

pub mod del;
pub mod demo;
pub mod fault;
pub mod get;
pub mod inspect;
pub mod load;
pub mod ping;
pub mod put;
pub mod sim;
pub mod stages;
pub mod stat;
pub mod stats;
pub mod verify;
mod write_options;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use crate::block_on;
use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::failure::Failure;

/// Runs a command to its end.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let context = &Context::new(cli.common)?;
    match cli.command {
        Command::Put(options) => block_on(put::run(context, options)),
        Command::Get(options) => block_on(get::run(context, options)),
        Command::Del(options) => block_on(del::run(context, options)),
        Command::Stat(options) => block_on(stat::run(context, options)),
        Command::Load(options) => block_on(load::run(context, options)),
        Command::Stats(options) => block_on(stats::run(context, options)),
        Command::Fault(options) => block_on(fault::run(context, options)),
        Command::Ping(options) => block_on(ping::run(context, options)),
        Command::Inspect(options) => inspect::run(context, options),
        Command::Verify(options) if options.offline => verify::run_offline(context, options),
        Command::Verify(options) => block_on(verify::run_online(context, options)),
        Command::Sim(options) => sim::run(context, &options),
        Command::Demo(options) => block_on(demo::run(context, options)),
    }
}

/// A key as it was written on the command line.
fn key_bytes(key: &OsStr) -> &[u8] {
    key.as_bytes()
}

/// A key in JSON: its text, or nothing if it has none; the bytes stand beside it in that case.
pub fn key_json(facts: &mut Value, key: &[u8]) {
    match std::str::from_utf8(key) {
        Ok(text) => facts["key"] = json!(text),
        Err(_) => {
            facts["key"] = Value::Null;
            facts["key_hex"] = json!(hex(key));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
