//! What all commands share: how the daemon is reached, and how facts are written.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use hedgerow_client::{Client, Error, Namespace, Request};
use serde_json::Value;

use crate::cli::Common;
use crate::failure::Failure;
use crate::text;

/// Port of a server that is named without one.
const PORT_DEFAULT: u16 = 7400;
/// Deadline of commands that move an object's bytes, or check many parts.
const DEADLINE_LONG: Duration = hedgerow_client::limits::DEADLINE_MAX;

/// What a command has to say, in both forms.
pub trait Facts {
    /// For programs.
    fn json(&self) -> Value;
    /// For people: whole lines.
    fn text(&self) -> String;
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Context {
    server: String,
    /// Facts are written as JSON.
    pub json: bool,
    deadline: Option<Duration>,
    namespace: Namespace,
}

impl Context {
    /// The context of a command line.
    pub fn new(common: Common) -> Result<Context, Failure> {
        let longest = hedgerow_client::limits::DEADLINE_MAX;
        if common.deadline.is_some_and(|deadline| deadline > longest || deadline.is_zero()) {
            return Err(Failure::Usage(format!(
                "--deadline must be above 0 and at most {}",
                text::duration(longest)
            )));
        }
        let server = with_port(&common.server);
        if !is_address(&server) {
            let given = &common.server;
            return Err(Failure::Usage(format!("--server '{given}': write HOST, HOST:PORT or unix:PATH")));
        }
        Ok(Context {
            server,
            json: common.json,
            deadline: common.deadline,
            namespace: Namespace(common.namespace),
        })
    }

    /// Where the daemon listens.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Connects to the daemon.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let builder = Client::builder()
            .name(concat!("hedgerow/", env!("CARGO_PKG_VERSION")))
            .namespace(self.namespace)
            .fail_fast(true);
        let connecting = builder.connect(self.server.as_str());
        let patience = self.deadline.unwrap_or(hedgerow_client::limits::CONNECT_TIMEOUT * 2);
        match tokio::time::timeout(patience, connecting).await {
            Ok(client) => client.map_err(|error| Failure::request("connecting", error)),
            Err(_) => {
                let waited = text::duration(patience);
                Err(Failure::Daemon(format!("cannot connect to {}: no answer within {waited}", self.server)))
            }
        }
    }

    /// A short request.
    pub fn request(&self, client: &Client) -> Request {
        client.request().deadline(self.deadline.unwrap_or(hedgerow_client::limits::DEADLINE_DEFAULT))
    }

    /// A request that moves an object's bytes, or checks many parts.
    pub fn long_request(&self, client: &Client) -> Request {
        client.request().deadline(self.deadline.unwrap_or(DEADLINE_LONG))
    }

    /// Writes facts to standard output, in the form that was asked for.
    pub fn show(&self, facts: &impl Facts) -> Result<(), Failure> {
        let text = if self.json { format!("{:#}\n", facts.json()) } else { facts.text() };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }
}

/// Adds the default port to an address that has none.
fn with_port(server: &str) -> String {
    if server.starts_with("unix:") {
        return server.to_owned();
    }
    match server.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{PORT_DEFAULT}"),
        Ok(IpAddr::V4(address)) => format!("{address}:{PORT_DEFAULT}"),
        Err(_) if server.ends_with(']') || !server.contains(':') => format!("{server}:{PORT_DEFAULT}"),
        Err(_) => server.to_owned(),
    }
}

/// Whether there is a host and a port, or a path. What they are good for is seen when they are used.
fn is_address(server: &str) -> bool {
    match server.strip_prefix("unix:") {
        Some(path) => !path.is_empty(),
        None => {
            let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
            server.rsplit_once(':').is_some_and(|(host, number)| !host.is_empty() && port(number))
        }
    }
}

/// What a request that found nothing is answered with.
pub fn not_found(what: &str) -> Failure {
    Failure::No(format!("{what}: not found"))
}

/// Fails with what the client says of a request about `what`.
pub fn failed(what: &str) -> impl Fn(Error) -> Failure + '_ {
    move |error| Failure::request(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_port_gets_the_default_one() {
        for (given, expected) in [
            ("10.0.0.1", "10.0.0.1:7400"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("cache.example", "cache.example:7400"),
            ("cache.example:99", "cache.example:99"),
            ("::1", "[::1]:7400"),
            ("[::1]", "[::1]:7400"),
            ("[::1]:5", "[::1]:5"),
            ("unix:/run/x", "unix:/run/x"),
        ] {
            assert_eq!(with_port(given), expected);
            assert!(is_address(expected), "{expected}");
        }
        for wrong in ["", ":7400", "host:", "host:0", "host:seven", "1.2.3.4:99999", "unix:"] {
            assert!(!is_address(&with_port(wrong)), "{wrong}");
        }
    }
}
