//! One peer's thread: pushes this node's head whenever it has moved, fetches when that is due, and waits after errors.
//!
//! Nothing queues here. The thread looks at the head when it is ready for it, so commits made during a push go together in the
//! next, and a dead peer holds no memory.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, after, never, select};
use log::{debug, info, warn};
use parking_lot::Mutex;

use super::send_pack::{self, Target};
use super::state::{Event, Machine, State};
use crate::config::Remote;
use crate::history::Repo;
use crate::maildir::Oid;
use crate::store::PeerStatus;

/// What a peer's thread works with.
pub struct Work {
    /// The repository.
    pub repo: Repo,
    /// This node's name: the ref that is pushed ends with it.
    pub node: String,
    /// The peer, as the repository's config names it.
    pub remote: Remote,
    /// Rings when the head has moved.
    pub bell: Receiver<()>,
    /// Closed when the thread must end.
    pub stop: Receiver<()>,
    /// What `status` shows.
    pub status: Arc<Mutex<PeerStatus>>,
}

/// The thread's body.
pub fn run(work: &Work) {
    let mut machine = Machine::default();
    let mut sent: Option<Oid> = None;
    let mut next_fetch = Instant::now();
    // The first round tells what the peer lacks and has.
    machine.step(Event::Work, Instant::now(), jitter());
    loop {
        match machine.state() {
            State::Stopped => return,
            State::Level => {
                let fetch = match work.remote.fetch_every {
                    Some(_) => after(next_fetch.saturating_duration_since(Instant::now())),
                    None => never(),
                };
                let event = select! {
                    recv(work.stop) -> _ => Event::Stop,
                    recv(work.bell) -> rung => if rung.is_ok() { Event::Work } else { Event::Stop },
                    recv(fetch) -> _ => Event::Work,
                };
                machine.step(event, Instant::now(), jitter());
            }
            State::Waiting(until) => {
                let event = select! {
                    recv(work.stop) -> _ => Event::Stop,
                    recv(after(until.saturating_duration_since(Instant::now()))) -> _ => Event::Due,
                };
                machine.step(event, Instant::now(), jitter());
            }
            State::Busy => {
                let reconnected = machine.failures() > 0;
                match exchange(work, &mut sent, &mut next_fetch, reconnected) {
                    Ok(()) => {
                        if reconnected {
                            info!("peer {}: back", work.remote.name);
                        }
                        let mut status = work.status.lock();
                        status.last_contact = Some(unix_now());
                        status.last_error = None;
                        drop(status);
                        machine.step(Event::Done, Instant::now(), jitter());
                    }
                    Err(why) => {
                        // Once per outage: a dead peer shall not fill the log.
                        if !reconnected {
                            warn!("peer {}: {why}", work.remote.name);
                        }
                        sent = None;
                        work.status.lock().last_error = Some(why);
                        machine.step(Event::Failed, Instant::now(), jitter());
                    }
                }
            }
        }
    }
}

/// Pushes until the peer has the head, then fetches if that is due.
fn exchange(
    work: &Work,
    sent: &mut Option<Oid>,
    next_fetch: &mut Instant,
    reconnected: bool,
) -> Result<(), String> {
    let target = Target {
        url: work.remote.url.clone(),
        refname: format!("refs/mailbraid/peers/{}", work.node),
        ssh_command: work.remote.ssh_command.clone(),
    };
    while let Some(head) = work.repo.head().map_err(|error| error.to_string())? {
        if *sent == Some(head) {
            break;
        }
        let pushed = send_pack::push(&target, head, work.repo.kind(), &work.repo.exchange())
            .map_err(|error| error.to_string())?;
        debug!("peer {}: pushed {head}, {} bytes", work.remote.name, pushed.pack_bytes);
        *sent = Some(head);
    }
    if let Some(every) = work.remote.fetch_every
        && (reconnected || Instant::now() >= *next_fetch)
    {
        work.repo
            .fetch_heads(&work.remote.name, &work.remote.url, work.remote.ssh_command.as_deref(), &work.node)
            .map_err(|error| error.to_string())?;
        *next_fetch = Instant::now() + every.mul_f64(0.75 + jitter() / 2.0);
    }
    Ok(())
}

/// From 0 to 1, for spreading moments apart; its quality does not matter.
fn jitter() -> f64 {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .subsec_nanos();
    f64::from(nanos % 1000) / 1000.0
}

fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs() as i64
}
