//! The state of one peer, as a drawing, an enum and a check of every step.
//!
//! ```text
//!            head moved, or fetch due
//!   ┌─────► Level ───────────────────► Busy ──┐
//!   │         ▲                         │  │  │ head moved meanwhile, or fetch due
//!   │         └──────── all exchanged ──┘  │◄─┘
//!   │                                      │ error
//!   │        the wait is over              ▼
//!   │   Busy ◄──────────────────────── Waiting
//!   │
//!   any ──── the peer is removed, or the daemon stops ──► Stopped
//! ```
//!
//! A wait doubles from [`limits::BACKOFF_FIRST`] to [`limits::BACKOFF_MOST`] and is jittered by half, so that nodes that lost each other at one moment do
//! not come back at one moment. Success resets it.

use std::time::{Duration, Instant};

use crate::limits;

/// Where a peer's thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The peer has what we have.
    Level,
    /// A push or a fetch is under way.
    Busy,
    /// After an error, until the instant.
    Waiting(Instant),
    /// The end.
    Stopped,
}

/// What moves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// There is something to send, or a fetch is due.
    Work,
    /// Everything was exchanged.
    Done,
    /// It failed.
    Failed,
    /// The wait is over.
    Due,
    /// The peer is gone from the config, or the daemon stops.
    Stop,
}

/// The state machine with its backoff.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    failures: u32,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Level,
            failures: 0,
        }
    }
}

impl Machine {
    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// One step. `jitter` is from 0 to 1.
    ///
    /// # Panics
    /// On a step that is not in the drawing: a defect of the caller.
    pub fn step(&mut self, event: Event, now: Instant, jitter: f64) {
        self.state = match (self.state, event) {
            (_, Event::Stop) => State::Stopped,
            (State::Level | State::Busy, Event::Work) => State::Busy,
            (State::Busy, Event::Done) => {
                self.failures = 0;
                State::Level
            }
            (State::Busy, Event::Failed) => {
                self.failures = self.failures.saturating_add(1);
                State::Waiting(now + backoff(self.failures, jitter))
            }
            (State::Waiting(_), Event::Due) => State::Busy,
            // News does not shorten a wait: a dead peer must cost nothing.
            (State::Waiting(until), Event::Work) => State::Waiting(until),
            (state, event) => unreachable!("because no drawing leads from {state:?} by {event:?}"),
        };
    }
}

/// How long to wait after the `failures`th failure in a row.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = limits::BACKOFF_FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(limits::BACKOFF_MOST);
    doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_bound_and_success_resets_them() {
        let now = Instant::now();
        let mut machine = Machine::default();
        machine.step(Event::Work, now, 1.0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            machine.step(Event::Failed, now, 1.0);
            let State::Waiting(until) = machine.state() else {
                panic!("not waiting")
            };
            waits.push(until - now);
            machine.step(Event::Work, now, 1.0);
            assert_eq!(machine.state(), State::Waiting(until));
            machine.step(Event::Due, until, 1.0);
        }
        assert_eq!(waits[0], limits::BACKOFF_FIRST);
        assert_eq!(waits[1], limits::BACKOFF_FIRST * 2);
        assert_eq!(waits[11], limits::BACKOFF_MOST);
        machine.step(Event::Done, now, 1.0);
        assert_eq!(machine.failures(), 0);
        assert_eq!(machine.state(), State::Level);
    }

    #[test]
    fn jitter_takes_up_to_half_of_the_wait() {
        assert_eq!(backoff(1, 0.0), limits::BACKOFF_FIRST / 2);
        assert_eq!(backoff(u32::MAX, 1.0), limits::BACKOFF_MOST);
    }

    #[test]
    #[should_panic(expected = "no drawing leads")]
    fn a_step_that_is_not_drawn_is_a_defect() {
        Machine::default().step(Event::Done, Instant::now(), 0.0);
    }
}
