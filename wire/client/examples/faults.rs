//! A service's own test of how it lives with a bad cache, as a program:
//! `cargo run -p hedgerow-client --features testing --example faults`, with `hedgerowd` built.
#![allow(clippy::print_stdout)] // it is a program

use std::time::Duration;

use hedgerow_client::messages::{Fault, FaultKind, FaultPlace};
use hedgerow_client::testing::Daemon;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut daemon = Daemon::builder().start()?;
    let cache = daemon.client().await?;
    cache.put("greeting", "hello").await?;
    let brief = cache.request().deadline(Duration::from_millis(200));

    let delay = FaultKind::DelayExponential { mean_us: 50_000 };
    daemon.fault(Fault::new(FaultPlace::Shard(0), delay)).await?;
    println!("a slow device: {:?}", brief.get("greeting").await);
    daemon.fault(Fault::new(FaultPlace::Connections, FaultKind::Vanish)).await?;
    println!("no answers: {:?}", brief.get("greeting").await);
    daemon.clear_faults().await?;

    daemon.kill()?;
    println!("killed: {:?}", brief.get("greeting").await);
    daemon.restart()?;
    println!("back: {:?}", cache.get("greeting").await);
    Ok(())
}
