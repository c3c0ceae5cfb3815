//! RESP2 (redis.io, "Redis serialization protocol"): `GET`, `GETRANGE`, `SET`, `DEL`.

use std::io::Write;

use anyhow::{Result, bail};
use hedgerow_wire::frame::Status;

use super::in_order::{Grammar, Then, number};
use super::write_object;
use crate::pattern::Checker;
use crate::request::{Answer, Kind, Request};

/// The grammar.
pub struct Resp;

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = write!(out, "${}\r\n", bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn command(words: &[&[u8]], more: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "*{}\r\n", words.len() + more);
    words.iter().for_each(|word| bulk(word, out));
}

impl Grammar for Resp {
    fn encode(&self, request: &Request, checker: &Checker, out: &mut Vec<u8>) {
        let key = request.key();
        let key = key.as_bytes();
        match request.kind {
            Kind::Get { offset, length } if request.is_range() => {
                let (first, last) = (offset.to_string(), (offset + length).saturating_sub(1).to_string());
                command(&[b"GETRANGE", key, first.as_bytes(), last.as_bytes()], 0, out);
            }
            Kind::Get { .. } | Kind::Stat | Kind::DelayedPing => command(&[b"GET", key], 0, out),
            Kind::Delete => command(&[b"DEL", key], 0, out),
            Kind::Put => {
                command(&[b"SET", key], 1, out);
                let _ = write!(out, "${}\r\n", request.object_len);
                write_object(request, checker, out);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn line(&mut self, line: &[u8], answer: &mut Answer) -> Result<Then> {
        let Some((kind, rest)) = line.split_first() else { bail!("an empty line") };
        (answer.status, answer.body) = match (kind, rest) {
            (b'$', b"-1") | (b':', b"0") => (Status::NotFound, Vec::new()),
            (b'+' | b':', _) => (Status::Ok, Vec::new()),
            // A range of what is not there is empty.
            (b'$', b"0") if answer.request.is_range() => (Status::NotFound, Vec::new()),
            (b'$', _) => (Status::Ok, Vec::new()),
            (b'-', message) if message.starts_with(b"OOM") => (Status::Overloaded, message.to_vec()),
            (b'-', message) => (Status::Internal, message.to_vec()),
            _ => bail!("'{}' is no answer of RESP2", line.escape_ascii()),
        };
        if *kind == b'$' && rest != b"-1" {
            return Ok(Then::Body { len: number(rest)?, trailer: 2 });
        }
        Ok(Then::End)
    }
}
