//! What is asked of a daemon beside the load, one request at a time: hello, stats, faults.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use hedgerow_wire::messages::{
    ErrorDetail, Fault, FaultAnswer, FaultRequest, HelloRequest, Message, StatsAnswer,
};

const DEADLINE_US: u32 = 10_000_000;

/// Sends a request without key and waits for its answer's body.
fn ask(socket: &mut TcpStream, op: Op, body: &[u8]) -> Result<Vec<u8>> {
    let header = FrameHeader { deadline_budget_us: DEADLINE_US, ..FrameHeader::request(op, 1) };
    let mut out = Vec::new();
    write_frame(header, None, body, &mut out);
    socket.write_all(&out)?;
    let mut head = [0; FRAME_HEADER_LEN];
    socket.read_exact(&mut head).with_context(|| format!("waiting for the answer to {op:?}"))?;
    let header = FrameHeader::decode(&head)?;
    let mut body = vec![0; header.body_len as usize];
    socket.read_exact(&mut body)?;
    if header.status != Status::Ok {
        let detail = ErrorDetail::decode(&body).unwrap_or_default();
        bail!("{op:?} was answered {:?}: {} {}", header.status, detail.message, detail.field);
    }
    Ok(body)
}

/// The first request of a connection.
pub fn say_hello(socket: &mut TcpStream) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_micros(u64::from(DEADLINE_US))))?;
    ask(socket, Op::Hello, &HelloRequest::new("hedgerow-perf").encode()?).map(drop)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    say_hello(&mut socket)?;
    Ok(socket)
}

/// The daemon's counters.
pub fn stats(address: SocketAddr) -> Result<StatsAnswer> {
    Ok(StatsAnswer::decode(&ask(&mut connect(address)?, Op::Stats, &[])?)?)
}

/// The value of a counter, summed over its labels; an error if the daemon has none of this name.
pub fn counter(stats: &StatsAnswer, name: &str) -> Result<u64> {
    let mut found = stats.counters.iter().filter(|counter| counter.name == name).peekable();
    if found.peek().is_none() {
        bail!("the daemon has no counter '{name}'");
    }
    Ok(found.map(|counter| counter.value).sum())
}

/// Prints the counters that are not zero.
pub fn print_stats(address: SocketAddr) -> Result<()> {
    for counter in stats(address)?.counters.iter().filter(|counter| counter.value > 0) {
        let labels: Vec<String> =
            counter.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
        println!("{} {} {}", counter.name, labels.join(","), counter.value);
    }
    Ok(())
}

/// Injects a fault.
pub fn inject(address: SocketAddr, fault: Fault) -> Result<()> {
    fault_request(address, FaultRequest::Inject(fault))
}

/// Ends all faults.
pub fn clear_faults(address: SocketAddr) -> Result<()> {
    fault_request(address, FaultRequest::ClearAll)
}

fn fault_request(address: SocketAddr, request: FaultRequest) -> Result<()> {
    let answer = ask(&mut connect(address)?, Op::Fault, &request.encode()?)?;
    FaultAnswer::decode(&answer)?;
    Ok(())
}
