//! Work that nobody waits for yields to what a client waits for.
//!
//! A thread's nice value is its own on Linux, and threads that it starts inherit it. Rejected: `SCHED_IDLE`, under which a machine that is busy with
//! something else would never commit.

use log::debug;

/// What a thread does behind the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Commits, exchange with peers, checks of what they sent: a peer waits for it, a delivery does not.
    Commits,
    /// Maintenance: it may take as long as it takes.
    Upkeep,
}

/// The calling thread does such work from now on. Where the system refuses, it stays as it is.
pub fn begin(work: Work) {
    let nice = match work {
        Work::Commits => 5,
        Work::Upkeep => 10,
    };
    if let Err(errno) = rustix::process::setpriority_process(None, nice) {
        debug!("a thread keeps its priority: {errno}");
    }
}
