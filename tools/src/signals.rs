//! Being told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of the first signal that tells the process to stop. Never, if signals cannot be had:
/// they then end the process in the ordinary way.
pub async fn interrupted() -> i32 {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [interrupt, terminate, hangup] = kinds.map(|kind| signal(kind).ok());
    tokio::select! {
        () = received(interrupt) => kinds[0].as_raw_value(),
        () = received(terminate) => kinds[1].as_raw_value(),
        () = received(hangup) => kinds[2].as_raw_value(),
    }
}

async fn received(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
