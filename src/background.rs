//! Work that nobody waits for yields to what a client waits for.
//!
//! A thread's nice value is its own on Linux, and threads that it starts inherit it. But a nice value says how much of a processor a thread gets, not how soon another one
//! does: since Linux 6.6 a thread that is woken waits until the one that runs has used up its slice, some milliseconds for each of the seven requests of a delivery where a commit
//! keeps the processor. A thread with a shorter slice does not wait (Linux 6.12, `PREEMPT_SHORT`), so this work gets a long one. It also gets a nice value at which it uses up
//! quickly what the scheduler owes it: at 5 a thread that answers requests and had just run was seen to wait for 6 ms, whereas at 12 the 99th percentile of a delivery beside pushes was
//! about half. And Linux groups threads by login session (`autogroup`): to whoever waits in another session, a mail server say, our nice values mean nothing. So a push sleeps again and
//! again while it computes ([`Breath`]): with 1,000 deliveries a second the 99th percentile beside a peer was 1.1 to 1.4 times that without one instead of 1.7 times. Rejected: `SCHED_IDLE`, under which a machine that is busy with something else would never commit.

use std::cell::Cell;
use std::time::Duration;

use log::debug;

use crate::limits;

/// What a thread does behind the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Commits, exchange with peers, checks of what they sent: a peer waits for it, a delivery does not.
    Commits,
    /// Maintenance: it may take as long as it takes.
    Upkeep,
}

/// The calling thread does such work from now on, and those that it starts. Where the system refuses, they stay as they are.
pub fn begin(work: Work) {
    let nice = match work {
        Work::Commits => 12,
        Work::Upkeep => 15,
    };
    if let Err(why) = set_slice(nice, limits::BACKGROUND_SLICE) {
        debug!("a thread keeps its priority: {why}");
    }
}

/// Lets others in between, whatever the scheduler owes to whom.
#[derive(Debug)]
pub struct Breath {
    /// The thread's own time when it last slept.
    since: Cell<Duration>,
}

impl Breath {
    /// For the calling thread.
    #[must_use]
    pub fn new() -> Self {
        Self {
            since: Cell::new(own_time()),
        }
    }

    /// To be called every hundred microseconds of work, or more often. Sleeps where it is time, and says whether it did.
    pub fn draw(&self) -> bool {
        let is_time = own_time().saturating_sub(self.since.get()) >= limits::BREATH_EVERY;
        if is_time {
            std::thread::sleep(limits::BREATH);
            self.since.set(own_time());
        }
        is_time
    }
}

impl Default for Breath {
    fn default() -> Self {
        Self::new()
    }
}

/// How long the calling thread has computed in its life.
fn own_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The calling thread's nice value, and how long it may run before another one that is not woken gets its turn (`sched_setattr(2)`, `sched_runtime`). Older kernels look at the nice
/// value alone.
#[allow(
    unsafe_code,
    reason = "the system call has no wrapper in libc nor in rustix"
)]
fn set_slice(nice: i32, slice: Duration) -> std::io::Result<()> {
    let mut attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: slice.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes at the address and may write the field `size`; all of them are ours, initialized, and live for the call.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attributes, 0) };
    match refused {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breath_is_drawn_after_work_and_not_after_rest() {
        let breath = Breath::new();
        std::thread::sleep(2 * limits::BREATH_EVERY);
        assert!(!breath.draw(), "it has only slept");
        for _ in 0..3 {
            let since = own_time();
            while own_time() - since < limits::BREATH_EVERY {
                std::hint::spin_loop();
            }
            assert!(breath.draw());
            assert!(!breath.draw(), "it has just slept");
        }
    }
}
