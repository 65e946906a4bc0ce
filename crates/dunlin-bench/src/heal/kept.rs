//! What a node remembers for those who come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{
    Size,
    client::{Ask, Client},
    ground::{Ground, Memory},
    join, progress,
};
use crate::{
    clock::{self, SECOND},
    compare::table::{Section, at_most},
    server::Starter,
};

/// 7,660 small publications that are kept among 500 MB that are not.
pub(super) fn small_among_passing(starter: &Starter, size: Size) -> Result<Section> {
    let (small, passing) = (size.of(7660), size.of(500_000_000 / PASSING_BYTES));
    let title = format!("Kept: {small} × 100 bytes among {passing} × {PASSING_BYTES} that pass");
    let ground = Ground::start(starter, 2 * small, &[])?;
    let channels = ["live:passing", "kept"].map(str::to_owned);
    let reader = Reader::start(&ground, channels.into_iter().collect())?;
    let (kept, passed) = ("k".repeat(100), "p".repeat(PASSING_BYTES));
    let pass = |_| Ask::Publish("live:passing".to_owned(), passed.clone());
    progress("something passes first");
    let mut publisher = Client::connect(ground.other.address)?;
    reader.follow(&mut publisher, (0..passing / 10).map(pass))?;
    let memory = Memory::watch(&ground.node)?;
    progress("small ones among it");
    let every = (passing / small).max(1);
    let asks = (0..passing).flat_map(|number| {
        let is_due = number % every == 0 && number / every < small;
        let keep = is_due.then(|| Ask::Publish("kept".to_owned(), kept.clone()));
        keep.into_iter().chain([pass(number)])
    });
    reader.follow(&mut publisher, asks)?;
    let each = memory.growth() * 1024.0 / small as f64;
    reader.stop()?;
    let mut section = Section::new(title, &["KiB more for each that is kept"]);
    section.row(vec![at_most(each, 1.0)], true);
    Ok(section)
}

/// A thousand channels that keep 256 publications of 4 KB: four times what may be remembered.
pub(super) fn many_rings(starter: &Starter, size: Size) -> Result<Section> {
    let (channels, ring) = (size.of(1000), size.of(256 << 20));
    let title = format!("Rings: {channels} channels × 256 × 4 KB, limits.ring_bytes {ring}");
    let setting = format!("limits.ring_bytes={ring}");
    let ground = Ground::start(starter, 256, &["--set", &setting])?;
    let name = |number: usize| format!("ring-{}", number % channels);
    let all = (0..channels).map(name).chain(["live:passing".to_owned()]);
    let reader = Reader::start(&ground, all.collect())?;
    let payload = "r".repeat(4096);
    let publish = |channel| Ask::Publish(channel, payload.clone());
    let mut publisher = Client::connect(ground.other.address)?;
    progress("something passes first");
    let passing = (0..size.of(25_000)).map(|_| publish("live:passing".to_owned()));
    reader.follow(&mut publisher, passing)?;
    let memory = Memory::watch(&ground.node)?;
    progress("all channels are filled");
    reader.follow(&mut publisher, (0..channels * 256).map(|number| publish(name(number))))?;
    let growth = memory.growth();
    reader.stop()?;
    let mut section = Section::new(title, &["MiB more at most"]);
    section.row(vec![at_most(growth, ring as f64 / f64::from(1 << 20))], true);
    Ok(section)
}

/// A client of the measured node that counts what comes.
struct Reader {
    came: Arc<AtomicUsize>,
    task: JoinHandle<Result<()>>,
}

impl Reader {
    fn start(ground: &Ground, channels: Vec<String>) -> Result<Self> {
        let mut client = Client::connect(ground.node.address)?;
        client.subscribe_all(channels.into_iter())?;
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::downgrade(&came);
        let task = thread::spawn(move || {
            while let Some(count) = count.upgrade() {
                let pushes = client.pushes(Duration::ZERO)?;
                let publications = pushes.iter().filter(|push| push.publication.is_some()).count();
                count.fetch_add(publications, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self { came, task })
    }

    /// Publishes all and waits for it, no faster than it comes: what a slow reader costs a node is
    /// another matter.
    fn follow(
        &self,
        publisher: &mut Client,
        publishes: impl IntoIterator<Item = Ask>,
    ) -> Result<()> {
        let (mut publishes, mut due) =
            (publishes.into_iter().peekable(), self.came.load(Ordering::Relaxed));
        while publishes.peek().is_some() {
            let answers = publisher.ask_all(publishes.by_ref().take(WINDOW), WINDOW, drop)?;
            ensure!(answers.refused == 0, "publishes were refused: {:?}", answers.first_refusal);
            due += answers.times.len();
            let until = clock::now() + PATIENCE_NS;
            while self.came.load(Ordering::Relaxed) < due {
                let is_over = self.task.is_finished() || clock::now() > until;
                ensure!(!is_over, "not everything came to the reader");
                thread::yield_now();
            }
        }
        Ok(())
    }

    fn stop(self) -> Result<()> {
        drop(self.came);
        join([self.task])
    }
}

const PASSING_BYTES: usize = 16_000;
const WINDOW: usize = 32;
const PATIENCE_NS: u64 = 60 * SECOND;
