//! memcached's meta commands (doc/protocol.txt of memcached 1.6: `mg`, `ms`, `md`). There are no ranges:
//! a range costs the whole item.

use std::io::Write;

use anyhow::{Result, bail};
use hedgerow_wire::frame::Status;

use super::in_order::{Grammar, Then, number};
use super::write_object;
use crate::pattern::Checker;
use crate::request::{Answer, Kind, Request};

/// The grammar.
pub struct Memcached;

impl Grammar for Memcached {
    fn encode(&self, request: &Request, checker: &Checker, out: &mut Vec<u8>) {
        let (command, tail) = match request.kind {
            Kind::Put => ("ms", format!(" {}", request.object_len)),
            Kind::Delete => ("md", String::new()),
            Kind::Get { .. } | Kind::Stat | Kind::DelayedPing => ("mg", " v".to_owned()),
        };
        out.extend_from_slice(command.as_bytes());
        out.push(b' ');
        out.extend_from_slice(request.key().as_bytes());
        // Writing to a vector does not fail.
        let _ = write!(out, "{tail}\r\n");
        if request.kind == Kind::Put {
            write_object(request, checker, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn line(&mut self, line: &[u8], answer: &mut Answer) -> Result<Then> {
        let mut words = line.split(|byte| *byte == b' ');
        let word = words.next().unwrap_or_default();
        answer.status = match word {
            b"VA" | b"HD" => Status::Ok,
            b"EN" | b"NF" => Status::NotFound,
            // Not stored: there is no room that it may take.
            b"NS" => Status::Overloaded,
            b"SERVER_ERROR" | b"CLIENT_ERROR" | b"ERROR" => Status::Internal,
            _ => bail!("'{}' is no answer of memcached", line.escape_ascii()),
        };
        if word == b"VA" {
            return Ok(Then::Body { len: number(words.next().unwrap_or_default())?, trailer: 2 });
        }
        if answer.status == Status::Internal {
            answer.body = line.to_vec();
        }
        Ok(Then::End)
    }

    fn served(&self, request: &Request) -> (u64, u64) {
        (0, request.object_len)
    }
}
