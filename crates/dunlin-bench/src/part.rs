//! Further load processes: each opens its share of the connections and checks what arrives there.
//! Parent and part talk in lines of JSON: plan down, `ready` up, times down, counts down, tally up.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::SECOND,
    load::{Load, Plan, Tally},
};

/// When to start and stop measuring; all processes read the same clock.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Times {
    /// End of the warm-up.
    pub(crate) from: u64,
    /// End of publishing.
    pub(crate) until: u64,
}

/// A started part, seen from its parent. It is killed if it is dropped before it is done.
pub(crate) struct Part {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Part {
    /// Starts a process with its own share of `plan`.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("part").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a load process")?;
        let input = child.stdin.take().context("a load process has no stdin")?;
        let output = child.stdout.take().context("a load process has no stdout")?;
        let mut part = Self { child, input, output: BufReader::new(output) };
        part.tell(plan)?;
        Ok(part)
    }

    /// Waits until its connections are open.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let ready: String = self.hear()?;
        ensure!(ready == READY, "a load process says {ready}");
        Ok(())
    }

    /// Sends the times, later the counts.
    pub(crate) fn tell(&mut self, value: &impl Serialize) -> Result<()> {
        write_line(&mut self.input, value).context("a load process ended early")
    }

    /// Waits for what it saw.
    pub(crate) fn finish(mut self) -> Result<Tally> {
        let tally = self.hear()?;
        self.child.wait()?;
        Ok(tally)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a load process ended early");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part itself (`dunlin-bench part`).
pub(crate) fn serve() -> Result<()> {
    let lines = read_lines();
    let plan: Plan = parse(&lines.recv()?)?;
    let mut load = Load::open(plan)?;
    write_line(&mut io::stdout(), &READY)?;

    let times: Times = parse(&listen_for(&lines, &mut load)?)?;
    load.warm_up(times.from)?;
    load.measure(times.until, || Ok(()))?;
    let sent: Vec<Option<u32>> = parse(&listen_for(&lines, &mut load)?)?;
    load.drain(&sent)?;
    load.wake_stalled()?;
    write_line(&mut io::stdout(), &load.finish(&sent))
}

/// The next line; the load goes on receiving meanwhile.
fn listen_for(lines: &Receiver<String>, load: &mut Load) -> Result<String> {
    loop {
        match lines.try_recv() {
            Ok(line) => return Ok(line),
            Err(TryRecvError::Empty) => load.listen(SECOND / 100)?,
            Err(TryRecvError::Disconnected) => bail!("the first load process ended early"),
        }
    }
}

fn read_lines() -> Receiver<String> {
    let (sender, lines) = sync_channel(1);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).context("not a line of this protocol")
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

const READY: &str = "ready";
