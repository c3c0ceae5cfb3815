//! Opens a connection: the socket, then hello both ways.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use hedgerow_wire::frame::{FrameError, FrameHeader, Op, PROTOCOL_VERSION, Status, flags};
use hedgerow_wire::messages::{HelloAnswer, HelloRequest, Message};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::reader::{FrameReader, Receiver};
use super::{Connected, Connection};
use crate::address::Address;
use crate::error::{self, Broken, Error, Result};
use crate::limits::{CONNECT_TIMEOUT, DEADLINE_MAX};

/// Who the client says that it is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub name: String,
    pub credentials: Vec<u8>,
}

/// The two halves of a socket of either kind.
pub(crate) type Open = Connected<Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>>;

/// Connects to `address` and says hello.
pub(crate) async fn connect(address: &Address, identity: &Identity) -> Result<Open> {
    let addr: Arc<str> = address.to_string().into();
    let failed = |source: io::Error| Error::Connect { addr: addr.to_string(), source: Arc::new(source) };
    let opening = async {
        let (reader, writer) = open(address).await.map_err(failed)?;
        hello(addr.clone(), reader, writer, identity).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

async fn open(address: &Address) -> io::Result<Halves> {
    match address {
        Address::Tcp(addr) => {
            let socket = TcpStream::connect(addr).await?;
            socket.set_nodelay(true)?;
            let (reader, writer) = socket.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Address::Unix(path) => {
            let (reader, writer) = UnixStream::connect(path).await?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
    }
}

async fn hello(
    addr: Arc<str>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    mut writer: Box<dyn AsyncWrite + Send + Unpin>,
    identity: &Identity,
) -> Result<Open> {
    let hello =
        HelloRequest { credentials: identity.credentials.clone(), ..HelloRequest::new(&identity.name) };
    let body = hello.encode().map_err(error::of_message)?;
    let mut frame = Vec::new();
    let mut header = FrameHeader::request(Op::Hello, 1);
    header.deadline_budget_us = CONNECT_TIMEOUT.as_micros() as u32;
    hedgerow_wire::encoder::write_frame(header, None, &body, &mut frame);
    let broken = |broken: Broken| broken.into_error(&addr);
    writer.write_all(&frame).await.map_err(|error| broken(Broken::io(&error)))?;
    let mut reader = FrameReader::new(reader);
    let mut answer = HelloReceiver { answer: None };
    reader.one(&mut answer).await.map_err(broken)?;
    let (header, body) = answer.answer.ok_or_else(|| broken(Broken::Protocol("no hello".to_owned())))?;
    if header.status != Status::Ok {
        return Err(error::of_status(&header, &body, DEADLINE_MAX, 0));
    }
    let hello = HelloAnswer::decode(&body).map_err(|error| broken(Broken::Protocol(error.to_string())))?;
    if hello.version != PROTOCOL_VERSION {
        return Err(broken(Broken::Version(hello.version)));
    }
    Ok(Connected { connection: Connection::new(addr, hello), reader, writer })
}

/// Takes the answer to a hello.
struct HelloReceiver {
    answer: Option<(FrameHeader, BytesMut)>,
}

impl Receiver for HelloReceiver {
    fn begin(&mut self, header: &FrameHeader) -> std::result::Result<Option<BytesMut>, Broken> {
        if header.op != Op::Hello || !header.has(flags::ANSWER | flags::END) {
            return Err(Broken::Protocol(format!("{:?} before the answer to hello", header.op)));
        }
        Ok(Some(BytesMut::with_capacity(header.body_len as usize)))
    }

    fn end(&mut self, header: FrameHeader, body: BytesMut) -> std::result::Result<(), Broken> {
        self.answer = Some((header, body));
        Ok(())
    }

    fn damaged(&mut self, _: FrameHeader, error: FrameError) -> std::result::Result<(), Broken> {
        Err(Broken::Protocol(format!("in the answer to hello: {error}")))
    }
}
