//! The least that a server on this runtime can do: one core, Hedgerow's frame header, and nothing of
//! Hedgerow behind it. Reads go from the socket to one O_DIRECT read (or to memory) and back; writes are
//! one copy and one sequential O_DIRECT write; a ping is answered when its deadline budget is over.
//!
//! What the daemon costs beyond this is the price of its promises.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::io::{DmaBuffer, DmaFile, OpenOptions, ReadResult};
use glommio::net::{TcpListener, TcpStream};
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use hedgerow_engine::shell::limits::{DEVICE_BUFFER_BYTES, IOV_MAX, RECEIVE_BYTES, SPIN, SPIN_RUNTIME, TURN};
use hedgerow_engine::shell::rings;
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::limits::{FRAME_HEADER_LEN, STRIPE_LEN_MAX};
use smallvec::SmallVec;

use crate::clock;
use crate::pattern::Pattern;
use crate::request::{Class, Kind, Request, object_of_key};

/// Lengths of the objects that it holds.
pub const SIZES: [u64; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Bytes of each length on the device.
pub const REGION_BYTES: u64 = 512 << 20;
/// Bytes of each length in memory.
pub const MEMORY_BYTES: u64 = 64 << 20;
/// Bytes that puts write before they begin again in front.
const PUT_BYTES: u64 = 1 << 30;
const BLOCK_LEN: usize = 4096;

/// The set of the objects of length `SIZES[class]` on the device.
pub fn device_set(class: usize) -> u8 {
    b'd' + class as u8
}

/// The set of those in memory.
pub fn memory_set(class: usize) -> u8 {
    b'm' + class as u8
}

enum Body {
    None,
    Lateness([u8; 8]),
    Memory(Rc<Vec<u8>>, usize, usize),
    Device(ReadResult),
}

struct OutFrame {
    head: [u8; FRAME_HEADER_LEN],
    body: Body,
}

impl OutFrame {
    fn body(&self) -> &[u8] {
        match &self.body {
            Body::None => &[],
            Body::Lateness(bytes) => bytes,
            Body::Memory(bytes, at, len) => &bytes[*at..at + len],
            Body::Device(read) => read,
        }
    }

    fn len(&self) -> usize {
        FRAME_HEADER_LEN + self.body().len()
    }

    fn slices<'a>(&'a self, skip: usize, out: &mut SmallVec<[IoSlice<'a>; IOV_MAX]>) {
        if skip < FRAME_HEADER_LEN {
            out.push(IoSlice::new(&self.head[skip..]));
        }
        let body = &self.body()[skip.saturating_sub(FRAME_HEADER_LEN)..];
        if !body.is_empty() {
            out.push(IoSlice::new(body));
        }
    }
}

/// What it serves.
struct Bare {
    file: Rc<DmaFile>,
    puts: Rc<DmaFile>,
    put_at: Cell<u64>,
    memory: [Rc<Vec<u8>>; SIZES.len()],
    /// CRC-32C of every object by class: on the device, in memory.
    checksums: [[Vec<u32>; SIZES.len()]; 2],
    receive: RefCell<Vec<u8>>,
    queue: TaskQueueHandle,
    /// Something came since it was last looked.
    stirred: Cell<bool>,
    lingering: RefCell<Option<Waker>>,
}

struct Peer {
    stream: RefCell<TcpStream>,
    out: RefCell<VecDeque<OutFrame>>,
    writing: Cell<bool>,
}

/// Serves from a new file in `folder` on `core` until the process ends.
pub fn serve(folder: &Path, core: usize) -> Result<()> {
    let path = folder.join("bare-objects");
    let on_device = write_objects(&path)?;
    let puts = folder.join("bare-puts");
    write_zeroes(&puts, PUT_BYTES)?;
    let (memory, in_memory) = memory_objects();
    let builder = LocalExecutorBuilder::new(Placement::Fixed(core))
        .spin_before_park(SPIN_RUNTIME)
        .io_memory(DEVICE_BUFFER_BYTES)
        .ring_depth(1024);
    let handle = builder
        .spawn(move || async move {
            let queue =
                glommio::executor().create_task_queue(Shares::Static(1000), Latency::NotImportant, "bare");
            let memory = memory.map(Rc::new);
            let checksums = [on_device, in_memory];
            listen(path, puts, memory, checksums, queue).await
        })
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    handle.join().map_err(|error| anyhow::anyhow!("{error}"))?
}

async fn listen(
    path: PathBuf,
    puts: PathBuf,
    memory: [Rc<Vec<u8>>; SIZES.len()],
    checksums: [[Vec<u32>; SIZES.len()]; 2],
    queue: TaskQueueHandle,
) -> Result<()> {
    ensure!(rings::counters()[0].1 > 0, "its rings are not set up as the daemon's");
    let open = async |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).dma_open(path).await;
        file.map(Rc::new).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    };
    let bare = Rc::new(Bare {
        file: open(&path).await?,
        puts: open(&puts).await?,
        put_at: Cell::new(0),
        memory,
        checksums,
        receive: RefCell::new(vec![0; RECEIVE_BYTES]),
        queue,
        stirred: Cell::new(false),
        lingering: RefCell::default(),
    });
    spawn(queue, bare.clone().linger());
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| anyhow::anyhow!("{error}"))?;
    let address = listener.local_addr().map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("listening on {address}");
    io::stdout().flush()?;
    spawn(queue, async move {
        while let Ok(stream) = listener.accept().await {
            let there = bare.clone();
            spawn(bare.queue, async move {
                // The generator closes its connections as it likes.
                let _ = there.connection(stream).await;
            });
        }
    });
    std::future::pending().await
}

fn spawn(queue: TaskQueueHandle, task: impl Future<Output = ()> + 'static) {
    match glommio::spawn_local_into(task, queue) {
        Ok(task) => drop(task.detach()),
        Err(error) => unreachable!("the queue lives as long as its executor: {error}"),
    }
}

impl Bare {
    fn stir(&self) {
        self.stirred.set(true);
        if let Some(waker) = self.lingering.borrow_mut().take() {
            waker.wake();
        }
    }

    /// As the daemon's `turns::linger`: its rings are set up in the same way.
    async fn linger(self: Rc<Self>) {
        loop {
            poll_fn(|cx| {
                *self.lingering.borrow_mut() = Some(cx.waker().clone());
                if self.stirred.get() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let mut last = clock::now_ns();
            while clock::now_ns() - last < SPIN.as_nanos() as u64 {
                glommio::timer::sleep(TURN).await;
                if self.stirred.replace(false) {
                    last = clock::now_ns();
                }
            }
        }
    }

    async fn connection(self: Rc<Self>, stream: TcpStream) -> io::Result<()> {
        let _ = stream.set_nodelay(true);
        // SAFETY: the descriptor belongs to `stream`, which lives until the end of the call.
        let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
        // As the daemon's: no pacing on loopback.
        let _ = rustix::net::sockopt::set_tcp_congestion(socket, "cubic");
        let peer = Rc::new(Peer {
            stream: RefCell::new(stream),
            out: RefCell::default(),
            writing: Cell::new(false),
        });
        let mut decoder = Decoder::new();
        let mut put = None;
        loop {
            let count = poll_fn(|cx| {
                let mut buffer = self.receive.borrow_mut();
                Pin::new(&mut *peer.stream.borrow_mut()).poll_read(cx, &mut buffer)
            })
            .await?;
            if count == 0 {
                return Ok(());
            }
            self.stir();
            // Nothing has run in between: the buffer still holds what was received.
            self.steps(&peer, &mut decoder, &mut put, count)?;
            if !peer.out.borrow().is_empty() && !peer.writing.get() {
                peer.drain().await?;
            }
        }
    }

    fn steps(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        decoder: &mut Decoder,
        put: &mut Option<(u64, DmaBuffer, usize)>,
        count: usize,
    ) -> io::Result<()> {
        let buffer = self.receive.borrow();
        let mut input = &buffer[..count];
        loop {
            match decoder.step(&mut input).map_err(io::Error::other)? {
                Step::NeedMore => return Ok(()),
                Step::Header { header, .. } if header.op == Op::Put => {
                    let len = (header.body_len as usize).next_multiple_of(BLOCK_LEN);
                    *put = Some((header.request_id, self.puts.alloc_dma_buffer(len), 0));
                }
                Step::Header { header, key } => {
                    let key = key.as_ref().and_then(|key| object_of_key(key.as_bytes()));
                    self.request(peer, &header, key);
                }
                Step::Body(bytes) => {
                    if let Some((_, body, at)) = put {
                        body.as_bytes_mut()[*at..*at + bytes.len()].copy_from_slice(bytes);
                        *at += bytes.len();
                    }
                }
                Step::End => {
                    if let Some((id, body, _)) = put.take() {
                        self.write(peer, id, body);
                    }
                }
                Step::Refused { error, .. } => return Err(io::Error::other(error)),
            }
        }
    }

    fn request(self: &Rc<Self>, peer: &Rc<Peer>, header: &FrameHeader, key: Option<(u8, u64)>) {
        let id = header.request_id;
        match (header.op, key) {
            (Op::Get, Some((set, object))) if (device_set(0)..=device_set(2)).contains(&set) => {
                let class = usize::from(set - device_set(0));
                let (bare, peer) = (self.clone(), peer.clone());
                spawn(self.queue, async move {
                    let at = class as u64 * REGION_BYTES + object * SIZES[class];
                    let Ok(read) = bare.file.read_at_aligned(at, SIZES[class] as usize).await else { return };
                    bare.stir();
                    peer.answer_get(id, class, bare.checksums[0][class][object as usize], Body::Device(read));
                    // A peer that has gone is noticed by the task that reads from it.
                    let _ = peer.drain().await;
                });
            }
            (Op::Get, Some((set, object))) => {
                let class = usize::from(set - memory_set(0));
                let len = SIZES[class] as usize;
                let body = Body::Memory(self.memory[class].clone(), object as usize * len, len);
                peer.answer_get(id, class, self.checksums[1][class][object as usize], body);
            }
            (Op::Ping, _) => {
                let due = clock::now_ns() + u64::from(header.deadline_budget_us) * 1000;
                let (peer, left) =
                    (peer.clone(), Duration::from_micros(u64::from(header.deadline_budget_us)));
                spawn(self.queue, async move {
                    glommio::timer::sleep(left).await;
                    let late = clock::now_ns().saturating_sub(due).to_le_bytes();
                    let answer = FrameHeader::answer(Op::Ping, id, Status::Ok);
                    peer.push(answer.sealed(None, &[&late]), Body::Lateness(late));
                    let _ = peer.drain().await;
                });
            }
            (op, _) => peer.push(FrameHeader::answer(op, id, Status::Ok).sealed(None, &[]), Body::None),
        }
    }

    fn write(self: &Rc<Self>, peer: &Rc<Peer>, id: u64, body: DmaBuffer) {
        let len = body.len() as u64;
        let at = if self.put_at.get() + len > PUT_BYTES { 0 } else { self.put_at.get() };
        self.put_at.set(at + len);
        let (bare, peer) = (self.clone(), peer.clone());
        spawn(self.queue, async move {
            let written = bare.puts.write_at(body, at).await;
            let status = if written.is_ok() { Status::Ok } else { Status::Internal };
            peer.push(FrameHeader::answer(Op::Put, id, status).sealed(None, &[]), Body::None);
            let _ = peer.drain().await;
        });
    }
}

impl Peer {
    fn answer_get(&self, id: u64, class: usize, checksum: u32, body: Body) {
        let len = SIZES[class];
        let mut header = FrameHeader::answer(Op::Get, id, Status::Ok);
        (header.object_len, header.length) = (len, len);
        self.push(header.sealed_with(None, len as usize, checksum), body);
    }

    fn push(&self, header: FrameHeader, body: Body) {
        self.out.borrow_mut().push_back(OutFrame { head: header.encode(), body });
    }

    /// Sends what waits, unless another task does already.
    async fn drain(&self) -> io::Result<()> {
        if self.writing.replace(true) {
            return Ok(());
        }
        let mut sent = 0;
        while !self.out.borrow().is_empty() {
            let count = match self.send(sent)? {
                Some(count) => count,
                None => {
                    poll_fn(|cx| {
                        let out = self.out.borrow();
                        let mut slices = SmallVec::<[IoSlice<'_>; IOV_MAX]>::new();
                        out[0].slices(sent, &mut slices);
                        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, &slices[0])
                    })
                    .await?
                }
            };
            sent += count;
            let mut out = self.out.borrow_mut();
            while out.front().is_some_and(|first| sent >= first.len()) {
                sent -= out.pop_front().map_or(0, |first| first.len());
            }
        }
        self.writing.set(false);
        Ok(())
    }

    fn send(&self, sent: usize) -> io::Result<Option<usize>> {
        let out = self.out.borrow();
        let mut slices = SmallVec::<[IoSlice<'_>; IOV_MAX]>::new();
        let mut bytes = 0;
        for (place, frame) in out.iter().enumerate() {
            if place > 0 && (slices.len() + 2 > IOV_MAX || bytes > STRIPE_LEN_MAX) {
                break;
            }
            frame.slices(if place == 0 { sent } else { 0 }, &mut slices);
            bytes += frame.len();
        }
        // SAFETY: the descriptor belongs to `self.stream`, which lives as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.stream.borrow().as_raw_fd()) };
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(fd, &slices, &mut Default::default(), flags) {
            Ok(count) => Ok(Some(count)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn seed(set: u8, object: u64) -> u64 {
    let request = Request {
        kind: Kind::Put,
        set,
        object,
        version: 0,
        object_len: 0,
        deadline_us: 0,
        class: Class::Put,
    };
    request.seed()
}

/// Writes the objects of all lengths to a file, every block of it, and gives their checksums.
fn write_objects(path: &Path) -> Result<[Vec<u32>; SIZES.len()]> {
    let pattern = Pattern::default();
    let mut file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut checksums = [const { Vec::new() }; SIZES.len()];
    for (class, &len) in SIZES.iter().enumerate() {
        let mut body = vec![0; len as usize];
        for object in 0..REGION_BYTES / len {
            pattern.fill(seed(device_set(class), object), 0, &mut body);
            checksums[class].push(crc32c(&body));
            file.write_all(&body)?;
        }
    }
    file.sync_all()?;
    Ok(checksums)
}

fn memory_objects() -> ([Vec<u8>; SIZES.len()], [Vec<u32>; SIZES.len()]) {
    let pattern = Pattern::default();
    let mut checksums = [const { Vec::new() }; SIZES.len()];
    let mut memory = [const { Vec::new() }; SIZES.len()];
    for (class, &len) in SIZES.iter().enumerate() {
        memory[class] = vec![0; MEMORY_BYTES as usize];
        for (object, body) in memory[class].chunks_mut(len as usize).enumerate() {
            pattern.fill(seed(memory_set(class), object as u64), 0, body);
            checksums[class].push(crc32c(body));
        }
    }
    (memory, checksums)
}

/// Writes every block of a file, so that later writes find them allocated and written.
pub fn write_zeroes(path: &Path, len: u64) -> Result<()> {
    let mut file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..len >> 20 {
        file.write_all(&zeroes)?;
    }
    file.sync_all()?;
    Ok(())
}
