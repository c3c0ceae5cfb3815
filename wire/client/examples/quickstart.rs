//! Stores, reads and deletes an object: `cargo run --example quickstart -- 127.0.0.1:7400`.

use std::time::Duration;

use hedgerow_client::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> hedgerow_client::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    let cache =
        Client::builder().name("quickstart").deadline(Duration::from_millis(500)).connect(addr).await?;

    let stored = cache.request().ttl(Duration::from_secs(60)).put("greeting", "hello, hedge").await?;
    say(format!("stored as version {}", stored.version));

    match cache.get("greeting").await {
        Ok(Some(object)) => say(format!("read {} bytes", object.bytes.len())),
        Ok(None) => say("evicted already".to_owned()),
        Err(Error::DeadlineExceeded { .. }) => say("too slow to be of use".to_owned()),
        Err(error) => return Err(error),
    }

    cache.delete("greeting").await?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the purpose of an example")]
fn say(text: String) {
    println!("{text}");
}
