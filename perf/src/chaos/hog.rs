//! A process that takes memory until there is none: a hidden command of `hedgerow-perf`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock;
use crate::process::Cgroup;

/// What it takes at a time.
const STEP_BYTES: usize = 1 << 20;
/// What it takes in all where nothing bounds it.
const ALL_BYTES: usize = 512 << 20;

/// A running hog. Dropping it ends it.
pub struct Hog(Child);

impl Hog {
    /// Starts one, in a cgroup if there is one.
    pub fn start(cgroup: Option<&Cgroup>) -> Result<Hog> {
        let program = std::env::current_exe()?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).arg("hog");
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("starting a hog")?;
        let hog = Hog(child);
        // It is the one that the system is to end, and takes nothing before that is said.
        std::fs::write(format!("/proc/{}/oom_score_adj", hog.0.id()), "1000")?;
        if let Some(cgroup) = cgroup {
            cgroup.add(hog.0.id())?;
        }
        Ok(hog)
    }

    /// Whether it has not been ended.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The hog itself.
pub fn run() -> Result<()> {
    clock::sleep(Duration::from_millis(50));
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        if taken.len() * STEP_BYTES >= ALL_BYTES {
            taken.clear();
        }
        taken.push(vec![1; STEP_BYTES]);
        clock::sleep(Duration::from_millis(1));
    }
}
