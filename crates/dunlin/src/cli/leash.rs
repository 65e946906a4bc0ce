//! `dunlin leash -- PROGRAM …`: runs a program that ends when standard input does. Whoever holds
//! the other end of that pipe thus takes the program along, however it goes itself: by closing the
//! pipe, by a crash or by SIGKILL. `dunlin demo` leads all it starts by such leashes.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    os::unix::{fs::DirBuilderExt, process::ExitStatusExt},
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

/// How long the program may take to end by itself after SIGTERM; then it is killed.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, Args)]
pub(super) struct LeashFlags {
    /// Folder that only this user can enter, made for the program and removed after it
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) fn run(flags: &LeashFlags) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(folder) = &flags.folder {
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.with_context(|| format!("making {}", folder.display()))?;
    }
    let ended = runtime.block_on(lead(&flags.command));
    if let Some(folder) = &flags.folder {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(ExitCode::from(exit_code(ended?)))
}

/// Runs the program until it ends, standard input ends, or this process is told to end.
async fn lead(command: &[OsString]) -> anyhow::Result<ExitStatus> {
    let (program, arguments) = command.split_first().expect("clap requires one");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let input_ended = input_ended();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    // All of these are cancel-safe.
    tokio::select! {
        ended = child.wait() => return Ok(ended?),
        _ = input_ended => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(end(&mut child).await?)
}

async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(pid) = pid {
        kill_process(pid, Signal::TERM)?;
    }
    match timeout(PATIENCE, child.wait()).await {
        Ok(ended) => ended,
        Err(_) => {
            child.kill().await?;
            child.wait().await
        }
    }
}

/// Completes at the end of standard input. The thread ends with the process.
fn input_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _read = io::copy(&mut io::stdin(), &mut io::sink());
        // The program may have ended meanwhile.
        let _told = sender.send(());
    });
    receiver
}

/// The program's exit code; 128 + the signal that ended it, as shells have it.
fn exit_code(ended: ExitStatus) -> u8 {
    let code = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
