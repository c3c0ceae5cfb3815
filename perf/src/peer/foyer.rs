//! The foyer crate, whose hybrid cache is opened again after a SIGKILL: a program of its own (`perf/peers/foyer`),
//! built when it is wanted, so that nothing else depends on it.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::process::confined;

/// Where its package lies.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/foyer/Cargo.toml");

/// foyer with its entries on the device.
pub struct Foyer {
    program: PathBuf,
    folder: PathBuf,
    entries: u64,
    value_len: u64,
    core: usize,
}

/// What opening it found.
pub struct Opened {
    /// From the start of the process until the first entry was found.
    pub ready_after: Duration,
    /// Of entries that were looked up, the share that was there.
    pub found_share: f64,
}

/// A run of its program. Dropping it ends it as a crash would.
struct Run {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    begun_ns: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    /// The rest of its next line, which begins with `word`.
    fn hear(&mut self, word: &str) -> Result<String> {
        let line = self.said.next().with_context(|| format!("foyer ended before it said '{word}'"))??;
        let rest = line.strip_prefix(word).with_context(|| format!("foyer said '{line}', not '{word}'"))?;
        Ok(rest.trim().to_owned())
    }
}

impl Foyer {
    /// Builds the program, fills a cache in an empty folder, and kills it.
    pub fn fill(folder: &Path, entries: u64, value_len: u64, core: usize) -> Result<Foyer> {
        let program = build()?;
        std::fs::create_dir_all(folder)?;
        let foyer = Foyer { program, folder: folder.to_owned(), entries, value_len, core };
        let mut run = foyer.start("fill")?;
        run.hear("filled")?;
        eprintln!("foyer filled in {:.0} s", (clock::now_ns() - run.begun_ns) as f64 * 1e-9);
        Ok(foyer)
    }

    fn start(&self, what: &str) -> Result<Run> {
        let mut command = Command::new(&self.program);
        command.arg(what).arg(&self.folder).args([self.entries.to_string(), self.value_len.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let begun_ns = clock::now_ns();
        let mut child = confined(&[self.core], None, || {
            command.spawn().with_context(|| format!("starting {}", self.program.display()))
        })?;
        let said = BufReader::new(child.stdout.take().context("foyer's output")?).lines();
        Ok(Run { child, said, begun_ns })
    }

    /// Opens it again. It is killed after that.
    pub fn open(&self) -> Result<Opened> {
        let mut run = self.start("open")?;
        run.hear("ready")?;
        let ready_after = Duration::from_nanos(clock::now_ns() - run.begun_ns);
        let found = run.hear("found")?;
        let (found, asked) = found.split_once(" of ").with_context(|| format!("'{found}'"))?;
        let found_share = found.parse::<f64>()? / asked.parse::<f64>()?.max(1.0);
        Ok(Opened { ready_after, found_share })
    }
}

/// Builds its program beside this one.
fn build() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target =
        own.parent().and_then(Path::parent).context("the folder of this program")?.join("peer-foyer");
    eprintln!("+ cargo build --release --manifest-path {MANIFEST} --target-dir {}", target.display());
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--manifest-path", MANIFEST, "--target-dir"])
        .arg(&target)
        .stdout(std::io::stderr())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "foyer could not be built: cargo ended with {status}");
    Ok(target.join("release/hedgerow-perf-foyer"))
}
