//! `ping`: asks a daemon for an answer.

use std::time::Duration;

use clap::Args;
use hedgerow_client::messages::HelloAnswer;
use serde_json::{Value, json};

use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::text;

/// Ask a daemon for an answer.
#[derive(Args, Debug)]
pub struct Ping {
    /// How many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
}

/// Asks.
pub async fn run(context: &Context, ping: Ping) -> Result<(), Failure> {
    let client = context.connect().await?;
    let hello = client.daemons().into_iter().find_map(|daemon| daemon.hello);
    let request = context.request(&client);
    let mut took = Vec::new();
    for _ in 0..ping.count {
        took.push(request.ping().await.map_err(failed("ping"))?);
    }
    took.sort();
    context.show(&Answered { server: context.server().to_owned(), hello, took })
}

struct Answered {
    server: String,
    hello: Option<HelloAnswer>,
    /// Sorted, at least one.
    took: Vec<Duration>,
}

impl Answered {
    fn median(&self) -> Duration {
        self.took.get(self.took.len() / 2).copied().unwrap_or_default()
    }
}

impl Facts for Answered {
    fn json(&self) -> Value {
        let ns = |duration: Option<&Duration>| duration.map(|took| took.as_nanos() as u64);
        let mut facts = json!({
            "server": self.server,
            "pings": self.took.len(),
            "min_ns": ns(self.took.first()),
            "median_ns": self.median().as_nanos() as u64,
            "max_ns": ns(self.took.last()),
        });
        if let Some(hello) = &self.hello {
            facts["build"] = json!(hello.build);
            facts["daemon_id"] = json!(format!("{:032x}", hello.daemon_id));
            facts["code"] = json!(hello.code.to_string());
            facts["shards"] =
                json!(hello.topology.members.iter().map(|member| member.shards.len()).sum::<usize>());
            facts["faults_allowed"] = json!(hello.features & hedgerow_wire::messages::features::FAULTS != 0);
        }
        facts
    }

    fn text(&self) -> String {
        let build = self.hello.as_ref().map_or("a daemon", |hello| hello.build.as_str());
        let code = self.hello.as_ref().map_or(String::new(), |hello| format!(", code {}", hello.code));
        let times = match self.took.as_slice() {
            [first, .., last] => format!(
                "{} answers, {} to {}, median {}",
                self.took.len(),
                text::duration(*first),
                text::duration(*last),
                text::duration(self.median())
            ),
            _ => text::duration(self.median()),
        };
        format!("{build} at {}{code}: {times}\n", self.server)
    }
}
