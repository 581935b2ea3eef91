//! Work that nobody waits for yields to what a client waits for.
//!
//! A thread's nice value is its own on Linux, and threads that it starts inherit it. But a nice value says how much of a processor a thread gets, not how soon another one
//! does: since Linux 6.6 a thread that is woken waits until the one that runs has used up its slice, some milliseconds for each of the seven requests of a delivery where a commit
//! keeps the processor. A thread with a shorter slice does not wait (Linux 6.12, `PREEMPT_SHORT`), so this work gets a long one. It also gets a nice value at which it uses up
//! quickly what the scheduler owes it: at 5 a thread that answers requests and had just run was seen to wait for 6 ms, whereas at 12 the 99th percentile of a delivery beside pushes was
//! about half. And Linux groups threads by login session (`autogroup`): to whoever waits in another session, a mail server say, our nice values mean nothing. By `perf sched`, with 1,000
//! deliveries a second on one processor, those who deliver waited for it longer than 0.7 ms 19 times a second, behind commits and maintenance, and 35 times with a peer, behind pushes too. So pushes, maintenance
//! and the commits of many operations sleep again and again while they compute ([`aside`]): it was 4 to 8 times then, without a peer. A commit that a client at a peer may wait for, that of a few operations, does
//! not. Rejected: `SCHED_IDLE`, under which a machine that is busy with something else would never commit; fewer and larger pushes under load, which were as much in the way.

use std::cell::Cell;
use std::time::{Duration, Instant};

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

/// Does work within which the calling thread steps aside again and again ([`breathe`]).
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    BREATH.with(Breath::begin);
    let done = work();
    BREATH.with(|breath| breath.0.set(None));
    done
}

/// To be called every hundred microseconds of work, or more often: lets others in between, whatever the scheduler owes to whom. Sleeps where the calling thread works [`aside`] and it is
/// time, and says whether it did.
pub fn breathe() -> bool {
    BREATH.with(Breath::draw)
}

thread_local! {
    static BREATH: Breath = const { Breath(Cell::new(None)) };
}

/// When the thread last slept.
struct Breath(Cell<Option<Slept>>);

#[derive(Clone, Copy)]
struct Slept {
    at: Instant,
    /// The thread's own time then.
    own: Duration,
}

impl Breath {
    fn begin(&self) {
        self.0.set(Some(Slept {
            at: Instant::now(),
            own: own_time(),
        }));
    }

    fn draw(&self) -> bool {
        let Some(slept) = self.0.get() else {
            return false;
        };
        // The clock on the wall is asked first: the thread's own takes a system call, and never goes faster.
        let is_time = slept.at.elapsed() >= limits::BREATH_EVERY
            && own_time().saturating_sub(slept.own) >= limits::BREATH_EVERY;
        if is_time {
            std::thread::sleep(limits::BREATH);
            self.begin();
        }
        is_time
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
        let work = || {
            let since = own_time();
            while own_time() - since < limits::BREATH_EVERY {
                std::hint::spin_loop();
            }
        };
        work();
        assert!(!breathe(), "somebody waits for it");
        aside(|| {
            std::thread::sleep(2 * limits::BREATH_EVERY);
            assert!(!breathe(), "it has only slept");
            for _ in 0..3 {
                work();
                assert!(breathe());
                assert!(!breathe(), "it has just slept");
            }
        });
    }
}
