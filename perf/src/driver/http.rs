//! HTTP/1.1 (RFC 9112) as far as caches answer it to GET, PUT and DELETE with bodies of known length.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use hedgerow_wire::frame::Status;

use super::in_order::{Grammar, Then, number};
use super::write_object;
use crate::pattern::Checker;
use crate::request::{Answer, Kind, Request};

/// The grammar, and what it has seen of the answer that is coming in.
pub struct Http {
    host: String,
    path: String,
    code: Option<u16>,
    content_len: Option<u64>,
}

impl Http {
    /// `path` as of [`super::Endpoint`].
    pub fn new(address: SocketAddr, path: &str) -> Http {
        Http { host: address.to_string(), path: path.to_owned(), code: None, content_len: None }
    }

    fn path(&self, request: &Request) -> String {
        let key = request.key();
        let path = self.path.replace("{key}", &String::from_utf8_lossy(key.as_bytes()));
        let path = path.replace("{object}", &request.object.to_string());
        path.replace("{len}", &request.object_len.to_string())
    }

    fn status_line(&mut self, line: &[u8], answer: &mut Answer) -> Result<()> {
        let not_http = || format!("'{}' is no status line of HTTP/1.1", line.escape_ascii());
        ensure!(line.starts_with(b"HTTP/1.1 "), not_http());
        let code = number(line.get(9..12).unwrap_or_default()).with_context(not_http)? as u16;
        self.code = Some(code);
        answer.status = match code {
            100..=299 => Status::Ok,
            404 | 410 => Status::NotFound,
            429 | 503 | 507 => Status::Overloaded,
            504 => Status::DeadlineExceeded,
            _ => Status::Internal,
        };
        if let (200, true) = (code, answer.request.is_range()) {
            // All of it, where a range was asked for: not the bytes that are checked for.
            answer.status = Status::Internal;
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8], answer: &mut Answer) -> Result<()> {
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.with_context(|| format!("'{}' is no header field", line.escape_ascii()))?;
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        match &name[..] {
            b"content-length" => self.content_len = Some(number(value)?),
            b"transfer-encoding" => bail!("an answer of unknown length: {}", value.escape_ascii()),
            b"x-cache-status" => answer.through = value != b"HIT",
            _ => {}
        }
        Ok(())
    }

    fn head_end(&mut self) -> Result<Then> {
        let (code, len) = (self.code.take().unwrap_or_default(), self.content_len.take());
        match (code, len) {
            (100..200, _) => Ok(Then::Line),
            (204 | 304, _) => Ok(Then::End),
            (_, Some(len)) => Ok(Then::Body { len, trailer: 0 }),
            (_, None) => bail!("an answer without a length"),
        }
    }
}

impl Grammar for Http {
    fn encode(&self, request: &Request, checker: &Checker, out: &mut Vec<u8>) {
        let method = match request.kind {
            Kind::Put => "PUT",
            Kind::Delete => "DELETE",
            Kind::Get { .. } | Kind::Stat | Kind::DelayedPing => "GET",
        };
        // Writing to a vector does not fail.
        let _ = write!(out, "{method} {} HTTP/1.1\r\nHost: {}\r\n", self.path(request), self.host);
        match request.kind {
            Kind::Get { offset, length } if request.is_range() => {
                let last = (offset + length).saturating_sub(1);
                let _ = write!(out, "Range: bytes={offset}-{last}\r\n\r\n");
            }
            Kind::Put => {
                let kind = "Content-Type: application/octet-stream";
                let _ = write!(out, "{kind}\r\nContent-Length: {}\r\n\r\n", request.object_len);
                write_object(request, checker, out);
            }
            _ => out.extend_from_slice(b"\r\n"),
        }
    }

    fn line(&mut self, line: &[u8], answer: &mut Answer) -> Result<Then> {
        match (self.code, line) {
            (None, _) => self.status_line(line, answer)?,
            (Some(_), b"") => return self.head_end(),
            (Some(_), _) => self.field(line, answer)?,
        }
        Ok(Then::Line)
    }
}
