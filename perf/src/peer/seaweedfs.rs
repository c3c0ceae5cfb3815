//! SeaweedFS with erasure-coded volumes: a master, four volume servers, and one volume of all objects,
//! which is coded 10+4 after they were put.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Resources, Running};
use crate::clock;
use crate::process::free_port;

const SERVERS: usize = 4;
const PROGRAM: &str = "weed";
/// Data and parity shards of a coded volume.
const SHARDS: usize = 14;
/// How long the volume servers may take to join their master.
const JOIN_WAIT: Duration = Duration::from_secs(30);

/// What is needed to code the volumes.
pub struct Cluster {
    /// The master, as its tools want it: address and gRPC port.
    master: String,
    /// The volume that all objects are on.
    volume: String,
    folder: PathBuf,
    /// The volume servers, in the order of their processes, which come after the master's.
    servers: Vec<SocketAddr>,
}

/// Starts it. Objects have a path of their number then.
pub fn start(running: &mut Running, resources: &Resources) -> Result<()> {
    let (port, grpc) = (free_port()?, free_port()?);
    let master: SocketAddr = ([127, 0, 0, 1], port).into();
    let folder = &resources.folder;
    std::fs::create_dir_all(folder.join("master"))?;
    let arguments = format!(
        "master -ip 127.0.0.1 -ip.bind 127.0.0.1 -port {port} -port.grpc {grpc} -mdir {}/master -telemetry=false -volumeSizeLimitMB 30000",
        folder.display()
    );
    // Five processes share the memory; half of it is for pages of their files.
    let heap = format!("GOMEMLIMIT={}", resources.memory_bytes / 2 / (SERVERS as u64 + 1));
    let words = |text: String| {
        let mut words = vec![heap.clone(), PROGRAM.to_owned()];
        words.extend(text.split_whitespace().map(str::to_owned));
        words
    };
    running.spawn(resources, "env", &words(arguments))?;
    running.wait_for(master)?;
    let mut addresses = Vec::new();
    for server in 0..SERVERS {
        let (own, own_grpc) = (free_port()?, free_port()?);
        let data = folder.join(format!("volume{server}"));
        std::fs::create_dir_all(&data)?;
        let arguments = format!(
            "volume -ip 127.0.0.1 -ip.bind 127.0.0.1 -port {own} -port.grpc {own_grpc} -dir {} -max 20 -master 127.0.0.1:{port}.{grpc} -minFreeSpace 1 -volume.allowUntrustedRemoteEndpoints",
            data.display()
        );
        running.spawn(resources, "env", &words(arguments))?;
        addresses.push(SocketAddr::from(([127, 0, 0, 1], own)));
    }
    for address in &addresses {
        running.wait_for(*address)?;
    }
    let assigned = assign(master, resources.objects)?;
    let text = |name: &str| assigned[name].as_str().map(str::to_owned).context("no place for objects");
    let fid = text("fid")?;
    let volume = fid.split(',').next().unwrap_or_default().to_owned();
    running.endpoint.http_path = format!("/{fid}_{{object}}");
    running.endpoint.address = text("url")?.parse()?;
    let master = format!("127.0.0.1:{port}.{grpc}");
    running.cluster = Some(Cluster { master, volume, folder: folder.clone(), servers: addresses });
    Ok(())
}

/// Asks the master for a run of numbers on one volume.
fn assign(master: SocketAddr, objects: u64) -> Result<Value> {
    let until = clock::now_ns() + JOIN_WAIT.as_nanos() as u64;
    let path = format!("/dir/assign?collection=b&replication=000&count={objects}");
    loop {
        let answer = http_get(master, &path)?;
        if answer["fid"].is_string() {
            ensure!(answer["count"].as_u64() == Some(objects), "{answer} for {objects} objects");
            return Ok(answer);
        }
        if clock::now_ns() > until {
            bail!("SeaweedFS has no place for objects: {answer}");
        }
        clock::sleep(Duration::from_millis(200));
    }
}

fn http_get(address: SocketAddr, path: &str) -> Result<Value> {
    use std::io::Read;
    let mut socket = std::net::TcpStream::connect(address)?;
    write!(socket, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").context("an answer without a body")?.1;
    serde_json::from_str(body).with_context(|| format!("'{body}' is no JSON"))
}

impl Cluster {
    /// Codes the volume and spreads its shards over the servers.
    pub fn encode(&self) -> Result<()> {
        let volume = &self.volume;
        let commands = format!("lock\nec.encode -collection b -volumeId {volume} -force\nunlock\nexit\n");
        let said = self.shell(&commands)?;
        // The shell's status says nothing of its commands.
        let shards = self.shards()?;
        ensure!(shards == SHARDS, "{shards} of {SHARDS} shards after ec.encode; weed shell said:\n{said}");
        Ok(())
    }

    /// The place among its processes of a volume server that is not at this address.
    pub fn another_server(&self, address: SocketAddr) -> Result<usize> {
        let place = self.servers.iter().position(|server| *server != address).context("no other server")?;
        Ok(place + 1)
    }

    /// Runs commands. What was said.
    fn shell(&self, commands: &str) -> Result<String> {
        let mut shell = Command::new(PROGRAM)
            .args(["shell", &format!("-master={}", self.master)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(&self.folder)
            .spawn()
            .context("starting weed shell")?;
        shell.stdin.take().context("weed shell's input")?.write_all(commands.as_bytes())?;
        let output = shell.wait_with_output()?;
        Ok((String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr)).into_owned())
    }

    /// Shards of volumes that lie in the servers' folders.
    fn shards(&self) -> Result<usize> {
        let mut count = 0;
        for server in 0..SERVERS {
            for file in std::fs::read_dir(self.folder.join(format!("volume{server}")))? {
                let name = file?.file_name().to_string_lossy().into_owned();
                let extension = name.rsplit_once(".ec").map(|(_, number)| number);
                count += usize::from(extension.is_some_and(|number| number.parse::<u8>().is_ok()));
            }
        }
        Ok(count)
    }
}
