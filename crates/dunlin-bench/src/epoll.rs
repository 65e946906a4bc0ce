//! epoll as this crate needs it: level-triggered, numbered, with a deadline in nanoseconds.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::clock::SECOND;

/// What a descriptor became ready for.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    /// The number the descriptor was added with.
    pub(crate) token: usize,
    /// Bytes can be read, or the peer is gone (a read tells).
    pub(crate) readable: bool,
    /// Bytes can be written, or the peer is gone (a write tells).
    pub(crate) writable: bool,
}

/// An epoll descriptor and room for one turn of events.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<u64>,
    events: Vec<Event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // epoll_wait counts milliseconds; a timer descriptor counts nanoseconds.
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self { epoll, timer, armed: None, events: Vec::with_capacity(EVENTS_PER_TURN) })
    }

    /// Watches for bytes to read.
    pub(crate) fn add_readable(&self, fd: impl AsFd, token: usize) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token as u64), EventFlags::IN)
    }

    /// Watches for room to write only; a connecting socket is connected once it has room.
    pub(crate) fn add_writable(&self, fd: impl AsFd, token: usize) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token as u64), EventFlags::OUT)
    }

    /// Watches for bytes to read and, if `writable`, for room to write as well.
    pub(crate) fn watch(&self, fd: impl AsFd, token: usize, writable: bool) -> io::Result<()> {
        self.watch_for(fd, token, true, writable)
    }

    /// Watches for what is asked for; that the peer is gone is told in any case.
    pub(crate) fn watch_for(
        &self,
        fd: impl AsFd,
        token: usize,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, readable);
        flags.set(EventFlags::OUT, writable);
        epoll::modify(&self.epoll, fd, EventData::new_u64(token as u64), flags)
    }

    /// Watches no longer.
    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits until something is ready or the clock shows `deadline` (nanoseconds, `clock::now`).
    pub(crate) fn wait(&mut self, deadline: Option<u64>) -> io::Result<()> {
        if self.armed != deadline {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            // A value of zero disarms; no deadline that matters is the moment of boot.
            let at = deadline.unwrap_or(0);
            let it_value = Timespec { tv_sec: (at / SECOND) as _, tv_nsec: (at % SECOND) as _ };
            let spec = Itimerspec { it_interval: zero, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
            self.armed = deadline;
        }
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(io::Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How many descriptors the last `wait` found ready, the timer included.
    pub(crate) fn ready_count(&self) -> usize {
        self.events.len()
    }

    /// The `index`-th of them; `None` for the timer.
    #[inline]
    pub(crate) fn ready(&self, index: usize) -> Option<Ready> {
        let event = self.events[index];
        let token = event.data.u64();
        let flags = event.flags;
        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        (token != TIMER).then_some(Ready {
            token: token as usize,
            readable: gone || flags.contains(EventFlags::IN),
            writable: gone || flags.contains(EventFlags::OUT),
        })
    }
}

const EVENTS_PER_TURN: usize = 1024;
const TIMER: u64 = u64::MAX;
