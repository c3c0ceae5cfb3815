//! An origin for read-through caches: answers `GET /KEY-LENGTH` with the bytes that the load generator
//! expects of that object. It keeps nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Result;
use hedgerow_wire::limits::OBJECT_LEN_MAX;

use crate::pattern::Pattern;
use crate::request::object_of_key;
use crate::sources::get;

/// Serves on a port that the system chooses, until the process ends.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let pattern = Arc::new(Pattern::default());
    for stream in listener.incoming() {
        let (stream, pattern) = (stream?, pattern.clone());
        // A connection that breaks is the peer's to open again.
        std::thread::spawn(move || answer_all(stream, &pattern));
    }
    Ok(())
}

fn answer_all(mut stream: TcpStream, pattern: &Pattern) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let (mut first, mut line) = (String::new(), String::new());
    loop {
        first.clear();
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        line.clear();
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
        stream.write_all(&answer(&first, pattern))?;
    }
}

/// The answer to a request line.
fn answer(line: &str, pattern: &Pattern) -> Vec<u8> {
    let path = line.strip_prefix("GET /").and_then(|rest| rest.split(' ').next());
    let parsed = path.and_then(|path| {
        let (key, len) = path.split_once('-')?;
        Some((object_of_key(key.as_bytes())?, len.parse().ok().filter(|len| *len <= OBJECT_LEN_MAX)?))
    });
    let Some(((set, object), len)) = parsed else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    let mut out = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    let body_at = out.len();
    out.resize(body_at + len as usize, 0);
    pattern.fill(get(set, object, len).seed(), 0, &mut out[body_at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_with_the_bytes_of_the_object() {
        let pattern = Pattern::default();
        let found = answer("GET /l00000000000000ff-5000 HTTP/1.1\r\n", &pattern);
        let body = &found[found.len() - 5000..];
        assert!(found.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"));
        assert!(pattern.check_all(get(b'l', 255, 5000).seed(), 0, body));
        for line in ["", "GET /x HTTP/1.1", "GET /lzz-5 HTTP/1.1", "GET /l01-99999999999999 HTTP/1.1"] {
            assert!(answer(line, &pattern).starts_with(b"HTTP/1.1 404"), "{line}");
        }
    }
}
