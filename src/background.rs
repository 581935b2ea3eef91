//! Work that nobody waits for yields to what a client waits for.
//!
//! A thread's nice value is its own on Linux, and threads that it starts inherit it. But a nice value says how much of a processor a thread gets, not how soon another one
//! does: since Linux 6.6 a thread that is woken waits until the one that runs has used up its slice, some milliseconds for each of the seven requests of a delivery where a commit
//! keeps the processor. A thread with a shorter slice does not wait (Linux 6.12, `PREEMPT_SHORT`), so this work gets a long one. It also gets a nice value at which it uses up
//! quickly what the scheduler owes it: at 5 a thread that answers requests and had just run was seen to wait for 6 ms, whereas at 12 the 99th percentile of a delivery beside pushes was
//! about half. Rejected: `SCHED_IDLE`, under which a machine that is busy with something else would never commit.

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
