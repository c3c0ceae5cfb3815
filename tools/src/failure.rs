//! How the tool fails: a message on standard error, and an exit code that scripts can rely on.

use std::io;
use std::process::ExitCode;

use hedgerow_client::Error;

use crate::text;

/// The exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the answer is no: no such object, a condition is not met, damage was found,
     some of the files were not stored
  2  the command line is wrong
  3  the daemon cannot be reached, refused, or failed
  4  a local file or program is in the way
  128 + N  ended by signal N";

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no: an object is not there, a condition is not met, something is damaged.
    No(String),
    /// The command line is wrong in a way that clap cannot see.
    Usage(String),
    /// The daemon cannot be reached, refused, or failed.
    Daemon(String),
    /// A local file, or another program, is in the way.
    Local(String),
    /// Nobody reads what is written: the end, in silence.
    OutputClosed,
    /// The process was told to stop.
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
}

const SIGPIPE: u8 = 13;

impl Failure {
    /// Something about a local file or program.
    pub fn local(message: impl Into<String>) -> Failure {
        Failure::Local(message.into())
    }

    /// A local file or folder that the system does not let us `action`.
    pub fn file(action: &str, path: &std::path::Path, error: &io::Error) -> Failure {
        Failure::Local(format!("cannot {action} {}: {}", path.display(), text::io_error(error)))
    }

    /// An error while writing to standard output.
    pub fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Local(format!("cannot write to standard output: {}", text::io_error(error))),
        }
    }

    /// What the client says of a request; `what` is what the request was about.
    pub fn request(what: &str, error: Error) -> Failure {
        let message = format!("{what}: {error}");
        match error {
            Error::Connect { addr, source } => Failure::Daemon(cannot_connect(&addr, &source)),
            Error::VersionMismatch { found } if found == hedgerow_wire::Version::ZERO => {
                Failure::No(format!("{what}: there is no such object, and the write was meant for one"))
            }
            Error::VersionMismatch { .. } | Error::Superseded { .. } | Error::RangeNotSatisfiable { .. } => {
                Failure::No(message)
            }
            Error::InvalidKey(_) => Failure::Usage(message),
            Error::Body(_) => Failure::Local(message),
            Error::DeadlineExceeded { deadline } => {
                let deadline = text::duration(deadline);
                Failure::Daemon(format!("{what}: not done within {deadline} (--deadline allows more)"))
            }
            Error::Indeterminate { .. } => {
                Failure::Daemon(format!("{message}; 'hedgerow stat' shows what is there"))
            }
            Error::Overloaded { .. } => Failure::Daemon(format!("{message} (try again later)")),
            _ => Failure::Daemon(message),
        }
    }

    /// Writes the message, if there is one to write, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (code, message) = match self {
            Failure::No(message) => (1, Some(message)),
            Failure::Usage(message) => (2, Some(message)),
            Failure::Daemon(message) => (3, Some(message)),
            Failure::Local(message) => (4, Some(message)),
            Failure::OutputClosed => (128 + SIGPIPE, None),
            Failure::Interrupted { signal } => (128 + *signal as u8, None),
        };
        if let Some(message) = message {
            eprintln!("hedgerow: {message}");
        }
        ExitCode::from(code)
    }
}

/// A sentence about a connection that cannot be made, with what to do about it.
fn cannot_connect(addr: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            " (is hedgerowd running? start it with 'hedgerowd')"
        }
        io::ErrorKind::TimedOut => " (is the address right, and the way there open?)",
        _ => "",
    };
    format!("cannot connect to {addr}: {}{hint}", text::io_error(error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn messages_say_what_to_do() {
        let check = |error: Error, expected: &str| {
            let message = match Failure::request("get cat", error) {
                Failure::No(message) => format!("1 {message}"),
                Failure::Usage(message) => format!("2 {message}"),
                Failure::Daemon(message) => format!("3 {message}"),
                Failure::Local(message) => format!("4 {message}"),
                other => format!("{other:?}"),
            };
            assert_eq!(message, expected);
        };
        let refused = Arc::new(io::Error::from_raw_os_error(111));
        check(
            Error::Connect { addr: "127.0.0.1:7400".to_owned(), source: refused },
            "3 cannot connect to 127.0.0.1:7400: connection refused (is hedgerowd running? start it with 'hedgerowd')",
        );
        check(
            Error::DeadlineExceeded { deadline: std::time::Duration::from_millis(50) },
            "3 get cat: not done within 50 ms (--deadline allows more)",
        );
        check(
            Error::RangeNotSatisfiable { object_len: 7 },
            "1 get cat: the range lies outside of the object, which has 7 bytes",
        );
        check(
            Error::Overloaded { client_limit: None },
            "3 get cat: the daemon is overloaded (try again later)",
        );
    }
}
