//! Being told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that tell the process to stop; caught from when this is made.
pub struct Signals {
    caught: [(i32, Option<Signal>); 3],
}

impl Signals {
    /// Catches them. One that cannot be caught ends the process in the ordinary way.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn catch() -> Signals {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Signals { caught: kinds.map(|kind| (kind.as_raw_value(), signal(kind).ok())) }
    }

    /// The number of the first one that comes.
    pub async fn received(self) -> i32 {
        let [interrupt, terminate, hangup] = self.caught.map(received);
        tokio::select! {
            number = interrupt => number,
            number = terminate => number,
            number = hangup => number,
        }
    }
}

async fn received((number, signal): (i32, Option<Signal>)) -> i32 {
    match signal {
        Some(mut signal) => {
            signal.recv().await;
            number
        }
        None => std::future::pending().await,
    }
}
