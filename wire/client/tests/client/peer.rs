//! A peer for tests that speaks the real protocol over real sockets, with a map behind it, and
//! misbehaves where a script says so. It checks every request with the rules of `hedgerow-wire`; a
//! client that breaks one fails its test when the peer is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use hedgerow_client::messages::{
    ErrorDetail, FaultAnswer, FaultRequest, HelloAnswer, HelloRequest, Limits, Message, StatAnswer,
    StatsAnswer, Topology, VerifyAnswer, VerifyRequest, features,
};
use hedgerow_client::{Code, Key, Namespace, ObjectChecksum, Version};
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::part::PartKind;
use hedgerow_wire::request::{check_request, is_further_put};
use hedgerow_wire::stream::{Progress, PutStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

/// What the peer does with a request instead of answering it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Answers with this status.
    Status(Status),
    /// Never answers.
    Silence,
    /// Closes the connection.
    Close,
    /// Does it, and closes the connection instead of answering.
    DoAndClose,
    /// Closes the connection in the middle of the answer's last frame.
    CloseMidAnswer,
    /// A bit of the body of the answer's last frame is wrong.
    DamageBody,
    /// All frames are right but the object is not what its writer stored.
    DamageObject,
    /// A bit of the header of the answer's first frame is wrong.
    DamageHeader,
    /// After so many frames: abort with this status.
    AbortAfter(usize, Status),
    /// Answers once it is released.
    Hold,
    /// Writes the answer byte by byte.
    OneByteWrites,
    /// Answers another op.
    WrongOp,
    /// Frames leave something out.
    WrongOffset,
    /// Answers a get with more than the credit allows.
    IgnoreCredit,
    /// Grants a put no credit.
    NoCredit,
    /// Grants a put one stripe, and only when it has not enough left for one.
    SlowCredit,
    /// Grants more credit than anyone may.
    TooMuchCredit,
    /// Answers with these flags too.
    Flags(u16),
    /// Sends a request of its own.
    AskBack,
    /// Complains of the client's frames as a daemon does that lost the framing, and closes.
    Complain,
    /// Answers the first frame of a put with this status.
    EarlyStatus(Status),
}

/// What the peer saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Hello { name: String, credentials: Vec<u8> },
    Request { connection: usize, header: Box<FrameHeader>, key: Vec<u8> },
    Cancel { id: u64 },
    Credit { id: u64, bytes: u32 },
    Closed { connection: usize },
}

#[derive(Clone)]
pub struct Config {
    pub limits: Limits,
    pub features: u64,
    /// Answers a hello with this instead of `Ok`.
    pub hello: Status,
    /// Protocol version in the answer to a hello.
    pub version: u8,
    /// Answers to gets are kept until there are so many, then sent in reverse order.
    pub reversed: usize,
}

pub const STRIPE: usize = 64 << 10;

impl Default for Config {
    fn default() -> Config {
        let limits = Limits::of_protocol(16 << 10, 2048);
        let limits = Limits { stripe_len: STRIPE as u32, stream_credit: 4 * STRIPE as u32, ..limits };
        Config {
            limits,
            features: features::KNOWN,
            hello: Status::Ok,
            version: hedgerow_wire::frame::PROTOCOL_VERSION,
            reversed: 0,
        }
    }
}

#[derive(Clone)]
pub struct Stored {
    pub data: Vec<u8>,
    pub version: Version,
    pub checksum: ObjectChecksum,
    pub ttl_ms: u64,
}

type Store = HashMap<(u32, Vec<u8>), Stored>;

pub struct Peer {
    pub addr: String,
    shared: Arc<Shared>,
    accept: AbortHandle,
}

struct Shared {
    config: Config,
    store: Mutex<Store>,
    script: Mutex<HashMap<Vec<u8>, VecDeque<Act>>>,
    events: watch::Sender<Vec<Event>>,
    violations: Mutex<Vec<String>>,
    connections: Mutex<Vec<AbortHandle>>,
    versions: Mutex<u64>,
    gate: Semaphore,
    reversed: Mutex<Vec<Vec<Vec<u8>>>>,
}

type Socket = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> Socket {
        match self {
            Listener::Tcp(listener) => {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let (reader, writer) = socket.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Listener::Unix(listener) => {
                let (reader, writer) = listener.accept().await.unwrap().0.into_split();
                (Box::new(reader), Box::new(writer))
            }
        }
    }
}

impl Peer {
    /// One on a port that the system chooses.
    pub async fn start() -> Peer {
        Peer::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        Peer::serve(addr, config, Listener::Tcp(listener))
    }

    /// One on a Unix-domain socket, `unix:path`.
    pub fn at_path(addr: &str) -> Peer {
        let listener = UnixListener::bind(addr.strip_prefix("unix:").unwrap()).unwrap();
        Peer::serve(addr.to_owned(), Config::default(), Listener::Unix(listener))
    }

    fn serve(addr: String, config: Config, listener: Listener) -> Peer {
        let shared = Arc::new(Shared {
            config,
            store: Mutex::default(),
            script: Mutex::default(),
            events: watch::Sender::default(),
            violations: Mutex::default(),
            connections: Mutex::default(),
            versions: Mutex::new(100),
            gate: Semaphore::new(0),
            reversed: Mutex::default(),
        });
        let serving = shared.clone();
        let accept = tokio::spawn(async move {
            for number in 0.. {
                let socket = listener.accept().await;
                let task = tokio::spawn(Conversation::run(number, socket, serving.clone()));
                serving.connections.lock().unwrap().push(task.abort_handle());
            }
        });
        Peer { addr, shared, accept: accept.abort_handle() }
    }

    /// The next requests of `key` (or, without a key, of the op's name) meet these.
    pub fn script(&self, key: &str, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().unwrap().entry(key.into()).or_default().extend(acts);
    }

    /// Lets `answers` answers go that are held.
    pub fn release(&self, answers: usize) {
        self.shared.gate.add_permits(answers);
    }

    /// Closes every connection.
    pub fn close_all(&self) {
        self.shared.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
    }

    pub fn stored(&self, namespace: u32, key: &str) -> Option<Stored> {
        self.shared.store.lock().unwrap().get(&(namespace, key.into())).cloned()
    }

    pub fn store(&self, key: &str, data: Vec<u8>) -> Version {
        let checksum = ObjectChecksum::crc32c(hedgerow_wire::checksum::crc32c(&data));
        let version = self.shared.next_version();
        let stored = Stored { data, version, checksum, ttl_ms: 0 };
        self.shared.store.lock().unwrap().insert((0, key.into()), stored);
        version
    }

    pub fn events(&self) -> Vec<Event> {
        self.shared.events.borrow().clone()
    }

    /// Waits until `wanted` is among the events (or is true of one), and gives it.
    pub async fn seen(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut events = self.shared.events.subscribe();
        let events = events.wait_for(|events| events.iter().any(&wanted)).await.unwrap();
        events.iter().find(|event| wanted(event)).unwrap().clone()
    }

    /// Waits for a request of `key`, and gives its header.
    pub async fn request(&self, key: &str) -> FrameHeader {
        let wanted = |event: &Event| matches!(event, Event::Request { key: k, .. } if k == key.as_bytes());
        match self.seen(wanted).await {
            Event::Request { header, .. } => *header,
            _ => unreachable!(),
        }
    }

    /// Headers of all requests of `key` so far.
    pub fn requests(&self, key: &str) -> Vec<FrameHeader> {
        let header = |event: Event| match event {
            Event::Request { header, key: k, .. } if k == key.as_bytes() => Some(*header),
            _ => None,
        };
        self.events().into_iter().filter_map(header).collect()
    }

    pub fn connections(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Hello { .. })).count()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accept.abort();
        self.close_all();
        let violations = self.shared.violations.lock().unwrap();
        if !std::thread::panicking() {
            assert!(violations.is_empty(), "the client broke the protocol: {violations:?}");
        }
    }
}

impl Shared {
    fn log(&self, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }

    fn next_version(&self) -> Version {
        let mut last = self.versions.lock().unwrap();
        *last += 1;
        Version { hlc: *last << 16, coordinator: 3 }
    }

    fn violation(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }
}

enum Out {
    Bytes(Vec<u8>),
    OneByOne(Vec<u8>),
    Close,
}

struct Put {
    stream: PutStream,
    first: FrameHeader,
    key: Key,
    data: Vec<u8>,
    act: Option<Act>,
    left: u64,
}

struct Conversation {
    number: usize,
    shared: Arc<Shared>,
    out: mpsc::UnboundedSender<Out>,
    puts: HashMap<u64, Put>,
    /// Puts that are answered while more of them may be on the way.
    passed_over: Vec<u64>,
    gets: Arc<Mutex<HashMap<u64, Arc<Semaphore>>>>,
}

/// Tells of the end of a connection, however it comes.
struct Closing(usize, Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.1.log(Event::Closed { connection: self.0 });
    }
}

impl Conversation {
    async fn run(number: usize, (mut reader, writer): Socket, shared: Arc<Shared>) {
        let (out, outbox) = mpsc::unbounded_channel();
        let _closing = Closing(number, shared.clone());
        let mut conversation = Conversation {
            number,
            shared,
            out,
            puts: HashMap::new(),
            passed_over: Vec::new(),
            gets: Arc::default(),
        };
        let listening = async {
            let mut decoder = Decoder::new();
            let mut buffer = vec![0; 1 << 16];
            let mut frame = None;
            loop {
                let len = reader.read(&mut buffer).await.unwrap_or(0);
                if len == 0 {
                    return;
                }
                conversation.decode(&mut decoder, &buffer[..len], &mut frame);
            }
        };
        tokio::select! { () = listening => {}, () = talk(writer, outbox) => {} }
    }

    fn decode(
        &mut self,
        decoder: &mut Decoder,
        mut input: &[u8],
        frame: &mut Option<(FrameHeader, Option<Key>, Vec<u8>)>,
    ) {
        loop {
            match decoder.step(&mut input) {
                Ok(Step::NeedMore) => return,
                Ok(Step::Header { header, key }) => *frame = Some((header, key, Vec::new())),
                Ok(Step::Body(bytes)) => frame.as_mut().unwrap().2.extend_from_slice(bytes),
                Ok(Step::End) => {
                    let (header, key, body) = frame.take().unwrap();
                    self.handle(header, key, body);
                }
                Ok(Step::Refused { error, .. }) => self.shared.violation(error.to_string()),
                Err(error) => return self.shared.violation(error.to_string()),
            }
        }
    }

    fn handle(&mut self, header: FrameHeader, key: Option<Key>, body: Vec<u8>) {
        if let Err(refusal) = check_request(&header, key.as_ref()) {
            self.shared.violation(format!("{refusal}: {header:?}"));
        }
        let id = header.request_id;
        match header.op {
            Op::Put if is_further_put(&header) => return self.put_frame(header, body),
            Op::Cancel => {
                self.shared.log(Event::Cancel { id });
                self.puts.remove(&id);
                if let Some(credit) = self.gets.lock().unwrap().remove(&id) {
                    credit.close();
                }
                return;
            }
            Op::Credit => {
                self.shared.log(Event::Credit { id, bytes: header.credit });
                if let Some(credit) = self.gets.lock().unwrap().get(&id) {
                    credit.add_permits(header.credit as usize);
                }
                return;
            }
            Op::Hello => return self.hello(&header, &body),
            _ => {}
        }
        let name = key.as_ref().map_or_else(
            || format!("{:?}", header.op).to_lowercase().into_bytes(),
            |key| key.as_bytes().to_vec(),
        );
        let event =
            Event::Request { connection: self.number, header: Box::new(header.clone()), key: name.clone() };
        self.shared.log(event);
        let act = self.shared.script.lock().unwrap().get_mut(&name).and_then(VecDeque::pop_front);
        self.act(act, header, key, body);
    }

    fn act(&mut self, act: Option<Act>, header: FrameHeader, key: Option<Key>, body: Vec<u8>) {
        match act {
            Some(Act::Status(status)) => self.refuse(&header, status),
            Some(Act::Silence) => {}
            Some(Act::Close) => self.send(Out::Close),
            Some(Act::AskBack) => {
                let mut bytes = Vec::new();
                write_frame(FrameHeader::request(Op::Ping, 9), None, &[], &mut bytes);
                self.send(Out::Bytes(bytes));
            }
            Some(Act::Complain) => {
                let detail = ErrorDetail::new(Status::BadRequest, "what is this").encode();
                let mut bytes = Vec::new();
                let answer = FrameHeader::answer(Op::Hello, 0, Status::BadRequest);
                write_frame(answer, None, &detail, &mut bytes);
                self.send(Out::Bytes(bytes));
            }
            _ => match header.op {
                Op::Put => self.begin_put(act, header, key.unwrap(), body),
                Op::Get => self.get(act, header, key.unwrap()),
                _ => self.other(act, header, key, &body),
            },
        }
    }

    fn send(&self, out: Out) {
        drop(self.out.send(out));
    }

    fn refuse(&self, header: &FrameHeader, status: Status) {
        let mut answer = FrameHeader::answer(header.op, header.request_id, status);
        answer.object_len = 4242;
        answer.version = Version { hlc: 7 << 16, coordinator: 7 };
        let detail = ErrorDetail::new(status, "the script says so").encode();
        self.answer(None, vec![(answer, detail)]);
    }

    /// Hands frames to the socket as `act` says.
    fn answer(&self, act: Option<Act>, frames: Vec<(FrameHeader, Vec<u8>)>) {
        let mut frames: Vec<Vec<u8>> = frames
            .into_iter()
            .map(|(mut header, body)| {
                if let Some(Act::Flags(more)) = act {
                    header.flags |= more;
                }
                if act == Some(Act::WrongOp) {
                    header.op = Op::Stat;
                }
                let mut bytes = Vec::new();
                write_frame(header, None, &body, &mut bytes);
                bytes
            })
            .collect();
        match act {
            Some(Act::DoAndClose) => return self.send(Out::Close),
            Some(Act::DamageHeader) => frames[0][50] ^= 1,
            Some(Act::DamageBody) => *frames.last_mut().unwrap().last_mut().unwrap() ^= 1,
            Some(Act::CloseMidAnswer) => {
                let last = frames.last_mut().unwrap();
                last.truncate(last.len() / 2);
            }
            _ => {}
        }
        for bytes in frames {
            self.send(if act == Some(Act::OneByteWrites) { Out::OneByOne(bytes) } else { Out::Bytes(bytes) });
        }
        if act == Some(Act::CloseMidAnswer) {
            self.send(Out::Close);
        }
    }

    fn hello(&self, header: &FrameHeader, body: &[u8]) {
        let config = &self.shared.config;
        let hello = HelloRequest::decode(body).unwrap();
        self.shared.log(Event::Hello { name: hello.client_name, credentials: hello.credentials });
        if config.hello != Status::Ok {
            return self.refuse(header, config.hello);
        }
        let answer = HelloAnswer {
            daemon_id: 1,
            version: config.version,
            features: config.features,
            build: "test peer".to_owned(),
            code: Code::new(4, 2).unwrap(),
            limits: config.limits,
            topology: Topology { epoch: 1, members: Vec::new() },
        };
        let header = FrameHeader::answer(Op::Hello, header.request_id, Status::Ok);
        self.answer(None, vec![(header, answer.encode().unwrap())]);
    }

    fn begin_put(&mut self, act: Option<Act>, header: FrameHeader, key: Key, body: Vec<u8>) {
        if let Some(Act::EarlyStatus(status)) = act {
            self.passed_over.push(header.request_id);
            return self.refuse(&header, status);
        }
        let credit = self.shared.config.limits.stream_credit;
        let (stream, progress) = match PutStream::begin(&header, credit) {
            Ok(begun) => begun,
            Err(refusal) => return self.shared.violation(refusal.to_string()),
        };
        let left = u64::from(credit) - body.len() as u64;
        let put = Put { stream, first: header.clone(), key, data: body, act, left };
        self.put_went_on(put, &header, progress);
    }

    fn put_frame(&mut self, header: FrameHeader, body: Vec<u8>) {
        let Some(mut put) = self.puts.remove(&header.request_id) else {
            if !self.passed_over.contains(&header.request_id) {
                self.shared.violation(format!("a frame of a put that nobody began: {header:?}"));
            }
            return;
        };
        match put.stream.frame(&header) {
            Ok(progress) => {
                put.left -= body.len() as u64;
                put.data.extend_from_slice(&body);
                self.put_went_on(put, &header, progress);
            }
            Err(refusal) => self.shared.violation(refusal.to_string()),
        }
    }

    fn put_went_on(&mut self, mut put: Put, last: &FrameHeader, progress: Progress) {
        let stripe = u64::from(self.shared.config.limits.stripe_len);
        match progress {
            Progress::Aborted => self.refuse(&put.first, Status::Cancelled),
            Progress::End { .. } => self.commit(put, last),
            Progress::More => {
                let grant = match put.act {
                    Some(Act::NoCredit) => 0,
                    Some(Act::SlowCredit) if put.left >= stripe => 0,
                    Some(Act::SlowCredit) => stripe as u32,
                    _ => last.body_len,
                };
                let repeats = if put.act == Some(Act::TooMuchCredit) { 600 } else { 1 };
                let credit = if repeats > 1 { u32::MAX } else { grant };
                for _ in 0..if grant > 0 { repeats } else { 0 } {
                    let header = FrameHeader {
                        credit,
                        ..FrameHeader::answer(Op::Credit, last.request_id, Status::Ok)
                    };
                    self.answer(None, vec![(header, Vec::new())]);
                }
                if repeats == 1 && grant > 0 {
                    put.stream.grant(grant).unwrap();
                    put.left += u64::from(grant);
                } else if repeats > 1 {
                    put.stream.grant(u32::MAX).unwrap();
                    put.left += u64::from(u32::MAX);
                }
                self.puts.insert(last.request_id, put);
            }
        }
    }

    fn commit(&self, put: Put, last: &FrameHeader) {
        let place = (put.first.namespace.0, put.key.as_bytes().to_vec());
        let mut store = self.shared.store.lock().unwrap();
        let there = store.get(&place).map_or(Version::ZERO, |stored| stored.version);
        let mut answer = FrameHeader::answer(Op::Put, put.first.request_id, Status::Ok);
        if put.first.has(flags::IF_VERSION) && there != put.first.version {
            answer.status = Status::VersionMismatch;
            answer.version = there;
        } else if put.first.has(flags::IMMUTABLE) && there != Version::ZERO {
            answer.version = there;
            answer.flags |= flags::UNCHANGED;
        } else {
            answer.version = self.shared.next_version();
            let checksum = last.object_checksum;
            let stored =
                Stored { data: put.data, version: answer.version, checksum, ttl_ms: put.first.ttl_ms };
            store.insert(place, stored);
        }
        drop(store);
        self.answer_later(put.act, vec![(answer, Vec::new())]);
    }

    fn answer_later(&self, act: Option<Act>, frames: Vec<(FrameHeader, Vec<u8>)>) {
        if act != Some(Act::Hold) {
            return self.answer(act, frames);
        }
        let (shared, out) = (self.shared.clone(), self.out.clone());
        tokio::spawn(async move {
            shared.gate.acquire().await.unwrap().forget();
            for (header, body) in frames {
                let mut bytes = Vec::new();
                write_frame(header, None, &body, &mut bytes);
                drop(out.send(Out::Bytes(bytes)));
            }
        });
    }

    fn get(&self, act: Option<Act>, header: FrameHeader, key: Key) {
        let place = (header.namespace.0, key.as_bytes().to_vec());
        let Some(stored) = self.shared.store.lock().unwrap().get(&place).cloned() else {
            return self.answer_later(
                act,
                vec![(FrameHeader::answer(Op::Get, header.request_id, Status::NotFound), Vec::new())],
            );
        };
        let object_len = stored.data.len() as u64;
        if header.offset > 0 && header.offset >= object_len {
            let mut answer = FrameHeader::answer(Op::Get, header.request_id, Status::RangeNotSatisfiable);
            answer.object_len = object_len;
            return self.answer(None, vec![(answer, Vec::new())]);
        }
        let end = header.offset.saturating_add(header.length).min(object_len);
        let frames = self.get_frames(act, &header, &stored, end);
        if let Some(Act::AbortAfter(count, status)) = act {
            let mut frames: Vec<_> = frames.into_iter().take(count).collect();
            let mut abort = FrameHeader::answer(Op::Get, header.request_id, status);
            abort.flags |= flags::ABORT;
            frames.push((abort, Vec::new()));
            return self.answer(None, frames);
        }
        if self.shared.config.reversed > 0 {
            return self.keep_to_reverse(frames);
        }
        let small = frames.len() == 1 || act == Some(Act::IgnoreCredit);
        if small || act.is_some_and(|act| act != Act::Hold && !matches!(act, Act::Flags(_))) {
            return self.answer_later(act, frames);
        }
        self.send_by_credit(act, header.request_id, frames);
    }

    fn get_frames(
        &self,
        act: Option<Act>,
        header: &FrameHeader,
        stored: &Stored,
        end: u64,
    ) -> Vec<(FrameHeader, Vec<u8>)> {
        let stripe = u64::from(self.shared.config.limits.stripe_len);
        let mut frames = Vec::new();
        let mut offset = header.offset;
        loop {
            let next = ((offset / stripe + 1) * stripe).min(end);
            let mut answer = FrameHeader::answer(Op::Get, header.request_id, Status::Ok);
            answer.version = stored.version;
            answer.object_len = stored.data.len() as u64;
            answer.length = end - header.offset;
            answer.offset = offset;
            answer.ttl_ms = stored.ttl_ms;
            answer.object_checksum = stored.checksum;
            if act == Some(Act::DamageObject) {
                answer.object_checksum.bits ^= 1;
            }
            if act == Some(Act::WrongOffset) && offset > 0 {
                answer.offset += 1;
            }
            if next < end {
                answer.flags &= !flags::END;
            }
            frames.push((answer, stored.data[offset as usize..next as usize].to_vec()));
            if next == end {
                return frames;
            }
            offset = next;
        }
    }

    fn keep_to_reverse(&self, frames: Vec<(FrameHeader, Vec<u8>)>) {
        let mut kept = self.shared.reversed.lock().unwrap();
        kept.push(
            frames
                .into_iter()
                .map(|(header, body)| {
                    let mut bytes = Vec::new();
                    write_frame(header, None, &body, &mut bytes);
                    bytes
                })
                .collect(),
        );
        if kept.len() == self.shared.config.reversed {
            for bytes in kept.drain(..).rev().flatten() {
                self.send(Out::Bytes(bytes));
            }
        }
    }

    /// As a daemon does: each stream on its own, never beyond its credit.
    fn send_by_credit(&self, act: Option<Act>, id: u64, frames: Vec<(FrameHeader, Vec<u8>)>) {
        let credit = Arc::new(Semaphore::new(self.shared.config.limits.stream_credit as usize));
        self.gets.lock().unwrap().insert(id, credit.clone());
        let (shared, out) = (self.shared.clone(), self.out.clone());
        tokio::spawn(async move {
            for (mut header, body) in frames {
                if act == Some(Act::Hold) {
                    shared.gate.acquire().await.unwrap().forget();
                }
                if let Some(Act::Flags(more)) = act {
                    header.flags |= more;
                }
                match credit.acquire_many(body.len() as u32).await {
                    Ok(permits) => permits.forget(),
                    Err(_) => return,
                }
                let mut bytes = Vec::new();
                write_frame(header, None, &body, &mut bytes);
                drop(out.send(Out::Bytes(bytes)));
                tokio::task::yield_now().await;
            }
        });
    }

    fn other(&self, act: Option<Act>, header: FrameHeader, key: Option<Key>, body: &[u8]) {
        let mut answer = FrameHeader::answer(header.op, header.request_id, Status::Ok);
        let place = key.as_ref().map(|key| (header.namespace.0, key.as_bytes().to_vec()));
        let body = match header.op {
            Op::Delete => {
                self.shared.store.lock().unwrap().remove(&place.unwrap());
                answer.version = self.shared.next_version();
                Vec::new()
            }
            Op::Stat => match self.shared.store.lock().unwrap().get(&place.unwrap()) {
                Some(stored) => stat(key.unwrap(), stored).encode().unwrap(),
                None => {
                    answer.status = Status::NotFound;
                    Vec::new()
                }
            },
            Op::Stats => stats().encode().unwrap(),
            Op::Fault => {
                FaultRequest::decode(body).unwrap();
                FaultAnswer { id: 5, faults: Vec::new() }.encode().unwrap()
            }
            Op::Verify => {
                let request = VerifyRequest::decode(body).unwrap();
                verified(&request).encode().unwrap()
            }
            _ => Vec::new(),
        };
        self.answer_later(act, vec![(answer, body)]);
    }
}

fn stat(key: Key, stored: &Stored) -> StatAnswer {
    StatAnswer {
        namespace: Namespace(0),
        key,
        version: stored.version,
        kind: PartKind::Sole,
        object_len: stored.data.len() as u64,
        stripe_size: STRIPE as u32,
        code: Code::new(4, 2).unwrap(),
        created_ms: 0,
        expires_ms: 0,
        checksum: stored.checksum,
        pinned: false,
        confirmed: true,
        from_memory: false,
        tags: Vec::new(),
        records: Vec::new(),
    }
}

pub fn stats() -> StatsAnswer {
    StatsAnswer {
        uptime_ms: 77,
        build: "test peer".to_owned(),
        counters: Vec::new(),
        histograms: Vec::new(),
        shards: Vec::new(),
    }
}

pub fn verified(request: &VerifyRequest) -> VerifyAnswer {
    VerifyAnswer {
        next_cursor: request.cursor + u64::from(request.parts_max),
        parts_checked: request.parts_max,
        bytes_checked: 0,
        damaged: Vec::new(),
        finished: true,
        parts_done: 0,
        parts_total: 0,
    }
}

async fn talk(mut writer: Box<dyn AsyncWrite + Send + Unpin>, mut outbox: mpsc::UnboundedReceiver<Out>) {
    while let Some(out) = outbox.recv().await {
        let done = match out {
            Out::Bytes(bytes) => writer.write_all(&bytes).await,
            Out::OneByOne(bytes) => {
                async {
                    for byte in bytes {
                        writer.write_all(&[byte]).await?;
                        tokio::task::yield_now().await;
                    }
                    Ok(())
                }
                .await
            }
            Out::Close => return,
        };
        if done.is_err() {
            return;
        }
    }
}
