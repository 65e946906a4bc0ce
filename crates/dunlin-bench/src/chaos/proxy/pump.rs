//! One direction of a link.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::PoisonError,
    thread,
    time::Duration,
};

use super::{Shared, Way};
use crate::clock::{self, SECOND};

/// From the node to the server, or back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Shared {
    /// Passes everything on until its end, which is passed on, too.
    pub(super) fn pump(
        &self,
        mut from: TcpStream,
        mut to: TcpStream,
        direction: Direction,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                self.passable(direction);
                let _ = to.shutdown(Shutdown::Write);
                return Ok(());
            }
            match self.pass(&buffer[..read], &mut to, direction) {
                // Told that nothing more comes: what comes all the same is lost.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                passed => passed?,
            }
        }
    }

    fn pass(&self, mut bytes: &[u8], to: &mut TcpStream, direction: Direction) -> io::Result<()> {
        let mut delayed = false;
        while !bytes.is_empty() {
            let count = match self.passable(direction) {
                Way::Delayed(delay) if !delayed => {
                    thread::sleep(delay);
                    delayed = true;
                    continue;
                }
                Way::Limited(per_second) => {
                    let step = per_second * LIMIT_STEP.as_millis() as u64 / 1000;
                    let count = bytes.len().min(step.max(1) as usize);
                    self.take_turn(direction, count as u64 * SECOND / per_second.max(1));
                    count
                }
                Way::Sliced => 1,
                Way::Open | Way::Delayed(_) | Way::Blocked | Way::Lost | Way::Mute => bytes.len(),
            };
            let (piece, rest) = bytes.split_at(count);
            to.write_all(piece)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Waits until all that came before, of whichever link, has passed a limited way, and for as
    /// long as this takes itself.
    fn take_turn(&self, direction: Direction, nanoseconds: u64) {
        let now = clock::now();
        let mut state = self.lock();
        let free_at = &mut state.free_at[direction as usize];
        *free_at = now.max(*free_at) + nanoseconds;
        let wait = *free_at - now;
        drop(state);
        thread::sleep(Duration::from_nanos(wait));
    }

    /// Waits until something may pass; says how.
    fn passable(&self, direction: Direction) -> Way {
        let mut lost_since = None;
        let mut state = self.lock();
        loop {
            let blocked = match state.way {
                Way::Blocked => true,
                Way::Mute => direction == Direction::Down,
                Way::Lost => {
                    lost_since.get_or_insert_with(clock::now);
                    true
                }
                Way::Open | Way::Delayed(_) | Way::Limited(_) | Way::Sliced => false,
            };
            if state.closed {
                return state.way;
            }
            if blocked {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let Some(since) = lost_since.take() else { return state.way };
            drop(state);
            thread::sleep(until_sent_again(Duration::from_nanos(clock::now() - since)));
            state = self.lock();
        }
    }
}

/// How long it takes from `held` after the first attempt until TCP tries again: 0.2 s after it,
/// then after twice as long each time (RFC 6298, with the least timeout of Linux).
fn until_sent_again(held: Duration) -> Duration {
    let (mut timeout, mut next) = (RETRANSMISSION, RETRANSMISSION);
    while next < held {
        timeout *= 2;
        next += timeout;
    }
    next - held
}

const RETRANSMISSION: Duration = Duration::from_millis(200);
const BUFFER_BYTES: usize = 64 * 1024;
/// What passes a limited way in this time passes at once.
const LIMIT_STEP: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_sent_again_after_twice_as_long_each_time() {
        let cases = [(0, 200), (100, 100), (200, 0), (300, 300), (6000, 200), (8000, 4600)];
        for (held, expected) in cases {
            let [held, expected] = [held, expected].map(Duration::from_millis);
            assert_eq!(until_sent_again(held), expected, "{held:?}");
        }
    }
}
