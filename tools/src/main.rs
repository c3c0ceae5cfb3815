//! `hedgerow`: the command line tool of the Hedgerow object cache.
//!
//! | module | what it is for |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`commands`] | one file for each command |
//! | [`offline`] | slab files, read without a daemon |
//! | [`demo`] | daemons of its own, a real workload, injected faults |
//! | [`context`] | what all commands share: the daemon, the output |
//! | [`failure`] | messages and exit codes |
//!
//! Never: a panic for what a user, a daemon or a damaged file does.

mod cli;
mod commands;
mod context;
mod demo;
mod failure;
mod offline;
mod signals;
mod table;
mod text;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Runs `work` to its end, or until the process is told to stop; what `work` holds (temporary files,
/// daemons) is then cleaned up all the same.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("cannot start: {}", text::io_error(&error))))?;
    let result = runtime.block_on(async {
        // First of all, so that nothing is begun that a signal would leave behind.
        let stop = signals::Signals::catch();
        tokio::select! {
            result = work => result,
            signal = stop.received() => Err(Failure::Interrupted { signal }),
        }
    });
    // Not to wait for a read of standard input that never ends.
    runtime.shutdown_background();
    result
}
