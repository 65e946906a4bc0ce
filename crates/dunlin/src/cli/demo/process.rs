//! A process of the demo: led by a leash, so that it never outlives the demo, its lines relayed
//! with a tag.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

/// What to start.
pub(super) struct Program {
    /// Stands before each of its lines.
    pub(super) tag: String,
    /// The program and its arguments.
    pub(super) command: Vec<OsString>,
    /// Added to the environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// A private folder made for it and removed after it.
    pub(super) folder: Option<PathBuf>,
}

/// A running process. Letting go of its leash, or dropping it, ends the process.
pub(super) struct Process {
    /// Who it is.
    pub(super) tag: String,
    pid: Option<Pid>,
    leash: Option<ChildStdin>,
}

/// Who has ended, and how.
pub(super) struct Ended {
    /// The program's tag.
    pub(super) tag: String,
    /// As its leash tells it: 128 + signal for one that was killed.
    pub(super) status: io::Result<ExitStatus>,
}

impl Process {
    /// Starts the program; its end will be told to `ended`. `colour` is an ANSI number for its tag.
    pub(super) fn start(
        program: Program,
        colour: u8,
        ended: mpsc::Sender<Ended>,
    ) -> io::Result<Self> {
        let mut leash = Command::new(std::env::current_exe()?);
        leash.arg("leash");
        if let Some(folder) = &program.folder {
            leash.arg("--folder").arg(folder);
        }
        leash.arg("--").args(&program.command).envs(program.environment);
        // Its own group, so that Ctrl-C reaches the demo alone, which then ends all in order.
        leash.process_group(0);
        leash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = leash.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let stdin = child.stdin.take();
        tokio::spawn(follow(child, program.tag.clone(), colour, ended));
        Ok(Self { tag: program.tag, pid, leash: stdin })
    }

    /// Asks the process to end.
    pub(super) fn let_go(&mut self) {
        self.leash = None;
    }

    /// Ends the process and its leash at once. Only while its end has not been told: afterwards
    /// the id may be somebody else's.
    pub(super) fn kill(&self) {
        if let Some(pid) = self.pid {
            // It may be ending by itself just now.
            let _gone = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Relays the process' lines until it ends, then tells so.
async fn follow(mut child: Child, tag: String, colour: u8, ended: mpsc::Sender<Ended>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let label = match io::stderr().is_terminal() {
        true => format!("\x1b[{colour}m{tag}\x1b[0m"),
        false => tag.clone(),
    };
    tokio::join!(relay(stdout, &label), relay(stderr, &label));
    let status = child.wait().await;
    // Nobody listens when the demo is at its end.
    let _told = ended.send(Ended { tag, status }).await;
}

async fn relay(from: Option<impl AsyncRead + Unpin>, label: &str) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A terminal that is gone takes the lines with it, not the demo.
        let _written = writeln!(io::stderr().lock(), "{label} | {line}");
    }
}
