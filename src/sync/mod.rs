//! Exchange with peers.
//!
//! ```text
//! head moves ──► mb-peer-NAME, one a peer ──► push to refs/mailbraid/peers/<own> there
//!                     └─ fetch, at an interval ──┐
//! refs/mailbraid/peers/* ──► mb-watch (notify) ──┴─► Heads: check ──► Store::offer ──► braid
//! repo.git/config ─────────► mb-watch ──► peers come and go
//! ```
//!
//! Rules:
//! - A peer's thread is its own: what one peer does, or does not, costs the others nothing.
//! - Only our own head is pushed, and only over an ancestor of it: a push is never refused as no fast-forward, and never loses anything.
//! - What a peer sends is checked before the store hears of it ([`verify`]).

pub mod connection;
pub mod deflate;
mod direct;
mod doing;
pub mod heads;
mod peer;
pub mod receive_pack;
pub mod send_pack;
pub mod state;
pub mod stream;
pub mod verify;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;
use log::{info, warn};
use parking_lot::Mutex;

use crate::background::{self, Work};
use crate::config::{self, Peer};
use crate::history::HistoryError;
use crate::limits;
use crate::maildir::Oid;
use crate::store::{PeerStatus, Store};
use heads::Heads;
use peer::Link;

/// The exchange of one mounted store.
pub struct Sync {
    shared: Arc<Shared>,
    watch: Mutex<Option<JoinHandle<()>>>,
    stop: Sender<()>,
}

/// A reason on one line, as `status` and a report have it.
fn one_line(why: &dyn std::fmt::Display) -> String {
    let why = why.to_string();
    why.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What its threads share.
struct Shared {
    store: Arc<Store>,
    heads: Heads,
    links: Mutex<BTreeMap<String, Running>>,
    stopping: AtomicBool,
}

struct Running {
    link: Arc<Link>,
    thread: JoinHandle<()>,
}

impl Sync {
    /// Starts the exchange.
    ///
    /// # Errors
    /// Where the refs cannot be read or a thread cannot be started.
    pub fn start(store: &Arc<Store>) -> Result<Arc<Self>, HistoryError> {
        let shared = Arc::new(Shared {
            store: Arc::clone(store),
            heads: Heads::new(store)?,
            links: Mutex::new(BTreeMap::new()),
            stopping: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&shared);
        store.set_peer_status(Box::new(move || {
            weak.upgrade()
                .map(|shared| shared.status())
                .unwrap_or_default()
        }));
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let watch = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("mb-watch".to_owned())
                .spawn(move || {
                    background::begin(Work::Commits);
                    watch::run(&shared, &stopped);
                })
                .map_err(HistoryError::io("start a thread for", store.repo().path()))?
        };
        Ok(Arc::new(Self {
            shared,
            watch: Mutex::new(Some(watch)),
            stop,
        }))
    }

    /// Waits until every peer that can be reached has our head.
    ///
    /// # Errors
    /// One line that names those that have not.
    pub fn flush(&self) -> Result<(), String> {
        let missing = self.shared.level(Instant::now() + limits::HOLDER_WAIT);
        if missing.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = missing
            .into_iter()
            .map(|(name, why)| format!("{name} ({why})"))
            .collect();
        Err(format!(
            "committed here, but not at {}; it is tried on and on",
            lines.join(", ")
        ))
    }

    /// Gives the peers a moment to take the last commits, then ends the threads. One that waits for a dead peer is left to the end of the process.
    pub fn stop(&self) {
        if self.shared.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        let _ = self.shared.level(Instant::now() + limits::FAREWELL);
        let _ = self.stop.try_send(());
        let links = std::mem::take(&mut *self.shared.links.lock());
        for running in links.values() {
            running.link.end();
        }
        let deadline = Instant::now() + limits::FAREWELL;
        let threads = links.into_values().map(|running| running.thread);
        for thread in threads.chain(self.watch.lock().take()) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(limits::HOLDER_POLL);
            }
            if thread.is_finished() && thread.join().is_err() {
                warn!("a thread of the exchange panicked");
            }
        }
    }
}

impl Shared {
    /// All peers, to be asked without the lock.
    fn links(&self) -> Vec<Arc<Link>> {
        let links = self.links.lock();
        let links = links.values().map(|running| Arc::clone(&running.link));
        links.collect()
    }

    /// Waits until all peers have our head; those that have not, and why, once each was tried or the time is over.
    fn level(&self, deadline: Instant) -> BTreeMap<String, String> {
        let Ok(Some(head)) = self.store.repo().head() else {
            return BTreeMap::new();
        };
        let asked: Vec<(Arc<Link>, u64)> = self
            .links()
            .into_iter()
            .map(|link| {
                let failures = link.hurry();
                (link, failures)
            })
            .collect();
        let mut missing = BTreeMap::new();
        for (link, failures) in asked {
            let reader = self.store.repo().reader();
            let has = |pushed: Oid| reader.is_contained(head, pushed).unwrap_or(false);
            if let Err(why) = link.wait_pushed(&has, failures, deadline) {
                missing.insert(link.peer().name.clone(), why);
            }
        }
        missing
    }

    /// Says how far exchanges are that take long: a node that joins gets everything in one.
    fn tell_progress(&self, said: &mut BTreeMap<String, Instant>) {
        let links = self.links.lock();
        for (name, running) in links.iter() {
            let Some(text) = running.link.progress(limits::PROGRESS_EVERY) else {
                said.remove(name);
                continue;
            };
            let due = said
                .get(name)
                .is_none_or(|at| at.elapsed() >= limits::PROGRESS_EVERY);
            if due {
                info!("peer {name}: {text}");
                said.insert(name.clone(), Instant::now());
            }
        }
    }

    /// Who has just pushed can be reached: those that were given up for a while are tried at once.
    fn call_back(&self, nodes: &[String]) {
        let links = self.links.lock();
        for running in nodes.iter().filter_map(|node| links.get(node)) {
            if running.link.view().last_error.is_some() {
                running.link.hurry();
            }
        }
    }

    /// Threads for the peers that the config names, and for no others.
    fn follow_config(self: &Arc<Self>, said: &mut Vec<String>) {
        let (peers, faults) = match config::peers(self.store.repo()) {
            Ok(found) => found,
            Err(error) => (Vec::new(), vec![error.to_string()]),
        };
        if *said != faults {
            for fault in &faults {
                warn!("{fault}");
            }
            *said = faults;
        }
        let wanted: BTreeMap<String, Peer> = peers
            .into_iter()
            .map(|peer| (peer.name.clone(), peer))
            .collect();
        let mut links = self.links.lock();
        if self.stopping.load(Ordering::SeqCst) {
            return;
        }
        links.retain(|name, running| {
            let stays = wanted.get(name) == Some(running.link.peer());
            if !stays {
                info!(
                    "peer {name} is no longer configured as {}",
                    running.link.peer().url
                );
                running.link.end();
            }
            stays
        });
        for (name, peer) in wanted {
            if links.contains_key(&name) {
                continue;
            }
            if name == self.store.node() {
                let fault = format!(
                    "peer {name} has this node's own name; give it the name of the peer's node"
                );
                if !said.contains(&fault) {
                    warn!("{fault}");
                    said.push(fault);
                }
                continue;
            }
            info!("peer {name} at {}", peer.url);
            match peer::start(self, peer) {
                Ok((link, thread)) => {
                    links.insert(name, Running { link, thread });
                }
                Err(error) => warn!("peer {name}: {error}"),
            }
        }
    }

    fn status(&self) -> Vec<PeerStatus> {
        let mut refused = self.store.unbraided();
        refused.extend(self.heads.refused());
        let mut heard = self.heads.heard();
        let head = self.store.repo().head().ok().flatten();
        let mut peers = Vec::new();
        for link in self.links() {
            let view = link.view();
            let name = link.peer().name.clone();
            let has: Vec<Oid> = view
                .pushed
                .into_iter()
                .chain(self.heads.known(&name))
                .collect();
            let lag = head.map_or(0, |head| {
                let reader = self.store.repo().reader();
                let between = reader.commits_between(head, &has, limits::LAG_COUNTED);
                between.map_or(0, |commits| commits.len() as u64)
            });
            peers.push(PeerStatus {
                url: link.peer().url.clone(),
                lag,
                last_contact: view.last_contact.max(heard.remove(&name)),
                last_error: view.last_error,
                refused: refused.remove(&name),
                doing: link.progress(Duration::ZERO),
                name,
            });
        }
        // Those that call us and are not called.
        let own = self.store.node();
        let names: std::collections::BTreeSet<String> = heard
            .keys()
            .chain(refused.keys())
            .filter(|name| *name != own)
            .cloned()
            .collect();
        for name in names {
            peers.push(PeerStatus {
                url: String::new(),
                lag: 0,
                last_contact: heard.get(&name).copied(),
                last_error: None,
                refused: refused.get(&name).cloned(),
                doing: None,
                name,
            });
        }
        peers
    }
}

fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs() as i64
}

/// From 0 to 1.
fn jitter() -> f64 {
    let mut raw = [0; 4];
    // Without random numbers nodes come back at one moment, which is no more than unpleasant.
    let _ = rustix::rand::getrandom(&mut raw, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_le_bytes(raw)) / f64::from(u32::MAX)
}
