//! One peer's thread: pushes our head there, and fetches what is there.
//!
//! Its states are drawn in [`super::state`]. What it does when busy:
//!
//! 1. push, if our head is not what the peer's ref has. Commits made during a push go together in the next. A head that the peer itself has told us is said back
//!    no sooner than the next fetch: it would be an echo of each of its pushes;
//! 2. fetch, if it is due: at the start, after a failure, at an interval, and when the peer has a head of a former life of this node. Also where it has refused the push;
//! 3. when it has been quiet for a moment, open the connection for the next push, if there is none: a mailbraid takes all pushes over one, git one each. So a push is one message
//!    and its answer: the processes at the other end have started by then. Not at once: those processes would compete with what the last push has set going there. If that
//!    connection has broken while it waited, a new one is made, and only its failure counts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use log::{debug, info, warn};
use parking_lot::{Condvar, Mutex};

use super::connection::{Address, Connection, ConnectionError, Service, ssh_command};
use super::direct::Direct;
use super::doing::Doing;
use super::heads::{Considered, PEERS, REFUSED};
use super::send_pack::{Line, PushError, Target};
use super::state::{Event, Machine, State};
use super::stream::Traffic;
use super::{Shared, jitter, one_line, unix_now};
use crate::background::{self, Work};
use crate::config::{FETCH_EVERY, PEER_TIMEOUT, Peer};
use crate::history::{HEAD_REF, HistoryError, Memory, Repo};
use crate::limits;
use crate::maildir::Oid;

/// A peer as other threads see it.
pub(super) struct Link {
    peer: Peer,
    wake: Sender<Wake>,
    view: Mutex<View>,
    changed: Condvar,
    interrupt: AtomicBool,
    traffic: Arc<Traffic>,
}

/// What is known of the exchange with it.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Our head as the peer has it.
    pub(super) pushed: Option<Oid>,
    /// Seconds since the epoch.
    pub(super) last_contact: Option<i64>,
    /// Of the last exchange, if it failed.
    pub(super) last_error: Option<String>,
    /// What goes on with it at this moment.
    pub(super) doing: Option<Doing>,
    /// Exchanges that failed, ever.
    failures: u64,
}

enum Wake {
    /// Try now, whatever the backoff says.
    Hurry,
    End,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("{url}: {why}")]
    Fetch { url: String, why: HistoryError },
    #[error(transparent)]
    Here(HistoryError),
    #[error("the peer refused head {head} of this node: `mailbraid status` there says why")]
    RefusedThere { head: Oid },
}

impl ExchangeError {
    /// That the peer is out of reach.
    fn unreachable(&self) -> Option<&ConnectionError> {
        match self {
            Self::Push(PushError::Connection(why)) | Self::Connection(why) => {
                why.is_unreachable().then_some(why)
            }
            _ => None,
        }
    }
}

impl Link {
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn view(&self) -> View {
        self.view.lock().clone()
    }

    /// What goes on, in words, if it has gone on for so long.
    pub(super) fn progress(&self, since: Duration) -> Option<String> {
        let view = self.view.lock();
        let doing = view.doing.as_ref()?;
        doing.is_older(since).then(|| doing.text(&self.traffic))
    }

    /// Ends the thread as soon as it is not waiting for the peer.
    pub(super) fn end(&self) {
        self.interrupt.store(true, Ordering::SeqCst);
        let _ = self.wake.send(Wake::End);
    }

    /// Asks for an exchange now. Returns the failures so far, for [`Link::wait_pushed`].
    pub(super) fn hurry(&self) -> u64 {
        let failures = self.view.lock().failures;
        let _ = self.wake.send(Wake::Hurry);
        failures
    }

    /// Waits until what the peer has of us satisfies `has`, or an exchange has failed since `failures` was told.
    ///
    /// # Errors
    /// Why it has not.
    pub(super) fn wait_pushed(
        &self,
        has: &dyn Fn(Oid) -> bool,
        failures: u64,
        deadline: Instant,
    ) -> Result<(), String> {
        let mut view = self.view.lock();
        loop {
            if view.pushed.is_some_and(has) {
                return Ok(());
            }
            if view.failures > failures {
                return Err(view.last_error.clone().unwrap_or_default());
            }
            if self.changed.wait_until(&mut view, deadline).timed_out() {
                return Err("no answer yet".to_owned());
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock());
        self.changed.notify_all();
    }

    /// Says what goes on, in `status` and, for who wants to know each moment, in the log.
    fn begin(&self, doing: fn(&Traffic) -> Doing) {
        let doing = doing(&self.traffic);
        debug!("peer {}: {} begins", self.peer.name, doing.name());
        self.view.lock().doing = Some(doing);
    }

    fn finish(&self) {
        if let Some(doing) = self.view.lock().doing.take() {
            debug!("peer {}: {} ends", self.peer.name, doing.name());
        }
    }
}

/// Starts the thread of a peer.
pub(super) fn start(shared: &Arc<Shared>, peer: Peer) -> io::Result<(Arc<Link>, JoinHandle<()>)> {
    let (wake, inbox) = crossbeam_channel::unbounded();
    let link = Arc::new(Link {
        peer,
        wake,
        view: Mutex::new(View::default()),
        changed: Condvar::new(),
        interrupt: AtomicBool::new(false),
        traffic: Arc::default(),
    });
    let mut exchange = Exchange {
        shared: Arc::clone(shared),
        repo: shared.store.repo().clone(),
        link: Arc::clone(&link),
        fetch_at: Instant::now(),
        line: None,
        takes_many: None,
        failures: 0,
        away: None,
        told: None,
        memory: Memory::default(),
        echo_at: Instant::now(),
        complained: false,
    };
    let moved = shared.store.watch_head();
    let thread = std::thread::Builder::new()
        .name(format!("mb-peer-{}", link.peer.name))
        .spawn(move || {
            background::begin(Work::Commits);
            exchange.run(&moved, &inbox);
        })?;
    Ok((link, thread))
}

struct Exchange {
    shared: Arc<Shared>,
    repo: Repo,
    link: Arc<Link>,
    fetch_at: Instant,
    /// The open connection for the next push.
    line: Option<Line>,
    /// Whether it takes many pushes over one connection; `None` where that is not known.
    takes_many: Option<bool>,
    /// Exchanges that failed, one after the other.
    failures: u32,
    /// While ssh finds nobody: where to look for the peer, if that is known, and what ssh has said.
    away: Option<(Option<Direct>, ConnectionError)>,
    /// Our head as the peer's ref has it.
    told: Option<Oid>,
    /// Of the last push.
    memory: Memory,
    /// Before this time nothing is pushed that the peer has said itself.
    echo_at: Instant,
    /// The log has heard of the failure.
    complained: bool,
}

impl Exchange {
    fn run(&mut self, moved: &Receiver<()>, inbox: &Receiver<Wake>) {
        let mut machine = Machine::default();
        let step = |machine: &mut Machine, event| machine.step(event, Instant::now(), jitter());
        step(&mut machine, Event::Work);
        let mut may_open = true;
        loop {
            // The word to end may lie behind others, and a peer that was removed is told nothing more.
            if self.link.interrupt.load(Ordering::SeqCst) {
                return;
            }
            match machine.state() {
                State::Busy => {
                    let done = self.exchange();
                    may_open = true;
                    self.link.finish();
                    let event = if done.is_ok() {
                        Event::Done
                    } else {
                        Event::Failed
                    };
                    self.tell(done);
                    step(&mut machine, event);
                }
                State::Level => {
                    let mut pause = self.fetch_at.saturating_duration_since(Instant::now());
                    let opens = self.line.is_none() && may_open && pause > limits::LINE_REST;
                    if opens {
                        pause = limits::LINE_REST;
                    }
                    select! {
                        recv(moved) -> word => match word {
                            Ok(()) => step(&mut machine, Event::Work),
                            // The store is gone.
                            Err(_) => step(&mut machine, Event::Stop),
                        },
                        recv(inbox) -> word => match word {
                            Ok(Wake::Hurry) => step(&mut machine, Event::Work),
                            Ok(Wake::End) | Err(_) => step(&mut machine, Event::Stop),
                        },
                        // One that fails is noticed by the next exchange.
                        default(pause) => if opens {
                            self.line = self.open_line().ok();
                            may_open = false;
                        } else {
                            step(&mut machine, Event::Work);
                        },
                    }
                }
                State::Waiting(until) => {
                    let pause = until.saturating_duration_since(Instant::now());
                    select! {
                        recv(inbox) -> word => match word {
                            Ok(Wake::Hurry) => step(&mut machine, Event::Due),
                            Ok(Wake::End) | Err(_) => step(&mut machine, Event::Stop),
                        },
                        default(pause) => step(&mut machine, Event::Due),
                    }
                }
                State::Stopped => return,
            }
        }
    }

    fn tell(&mut self, done: Result<(), ExchangeError>) {
        let name = &self.link.peer.name;
        match done {
            Ok(()) => {
                self.failures = 0;
                self.away = None;
                if std::mem::take(&mut self.complained) {
                    info!("peer {name}: the exchange works again");
                }
                self.link.note(|view| {
                    view.last_contact = Some(unix_now());
                    view.last_error = None;
                });
            }
            Err(why) => {
                let away = why.unreachable().cloned();
                let why = one_line(&why);
                if !std::mem::replace(&mut self.complained, true) {
                    warn!("peer {name}: {why}; it is tried again");
                }
                self.line = None;
                self.failures += 1;
                self.note_away(away);
                if self.failures.is_multiple_of(limits::ASK_AGAIN) {
                    self.takes_many = None;
                }
                self.link.note(|view| {
                    view.last_error = Some(why);
                    view.failures += 1;
                });
            }
        }
    }

    fn exchange(&mut self) -> Result<(), ExchangeError> {
        if let Some((Some(direct), why)) = &self.away
            && !self.failures.is_multiple_of(limits::ASK_SSH)
            && !direct.answers()
        {
            return Err(ExchangeError::Connection(why.clone()));
        }
        let mut due = Instant::now() >= self.fetch_at;
        let mut pushed = self.push();
        if let Err(ExchangeError::Push(PushError::FormerLife { theirs, .. })) = pushed {
            // Our head may have moved since it was read, and the peer have fetched it.
            if self.is_ours(theirs)? {
                pushed = self.push();
            } else {
                due = true;
            }
        }
        // Who is out of reach is not called twice; who refuses a push, its disk being full, has mail for us all the same.
        let reached = !matches!(pushed, Err(ExchangeError::Push(PushError::Connection(_))));
        let mut fetched = Ok(());
        if due && reached {
            self.fetch_at = Instant::now() + self.seconds(FETCH_EVERY, limits::FETCH_EVERY);
            fetched = self.fetch();
        }
        if !reached || fetched.is_err() {
            // Whatever it missed comes at once when it is back.
            self.fetch_at = Instant::now();
        }
        pushed.and(fetched)
    }

    fn note_away(&mut self, away: Option<ConnectionError>) {
        // Its configuration may have been mended meanwhile.
        let asks = self.failures.is_multiple_of(limits::ASK_SSH);
        let known = self.away.take().filter(|_| !asks);
        self.away = away.map(|why| match known {
            Some((direct, _)) => (direct, why),
            None => (self.target().address.direct(), why),
        });
    }

    fn is_ours(&self, commit: Oid) -> Result<bool, ExchangeError> {
        let head = self.repo.head().map_err(ExchangeError::Here)?;
        let reader = self.repo.reader();
        Ok(reader.surely_has(commit)
            && head.is_some_and(|head| reader.is_contained(commit, head).unwrap_or(false)))
    }

    fn seconds(&self, key: &str, usual: Duration) -> Duration {
        let set = self.repo.config_string(key).ok().flatten();
        let seconds = set.and_then(|text| text.parse().ok());
        seconds
            .filter(|seconds| *seconds > 0)
            .map_or(usual, Duration::from_secs)
    }

    fn target(&self) -> Target {
        let configured = self.repo.config_string("core.sshCommand").ok().flatten();
        let configured = configured.or_else(|| std::env::var("GIT_SSH_COMMAND").ok());
        Target {
            address: Address {
                url: self.link.peer.url.clone(),
                ssh_command: Some(ssh_command(
                    configured.as_deref(),
                    &self.shared.store.layout().root().join("local"),
                )),
                patience: self.seconds(PEER_TIMEOUT, limits::PEER_SILENCE),
                traffic: Arc::clone(&self.link.traffic),
            },
            refname: format!("{PEERS}{}", self.shared.store.node()),
        }
    }

    fn open_line(&mut self) -> Result<Line, PushError> {
        let (target, kind) = (self.target(), self.repo.kind());
        if !target.address.is_ssh() || self.takes_many == Some(false) {
            return Line::open(&target, Service::Receive, kind);
        }
        let many = Line::open(&target, Service::Pushes, kind);
        match many {
            Ok(ref line) => self.takes_many = Some(line.service() == Service::Pushes),
            // A peer that is out of reach is so for git too, and would be waited for twice, and be called twice as often while it is dead. But an ssh server may say
            // the same of a command that it does not know.
            Err(ref why)
                if self.takes_many.is_none()
                    && (!why.is_unreachable()
                        || (self.failures + 1).is_multiple_of(limits::ASK_AGAIN)) =>
            {
                let one = Line::open(&target, Service::Receive, kind);
                if one.is_ok() {
                    self.takes_many = Some(false);
                }
                return one;
            }
            Err(_) => {}
        }
        many
    }

    fn push(&mut self) -> Result<(), ExchangeError> {
        let Some(head) = self.repo.head().map_err(ExchangeError::Here)? else {
            return Ok(());
        };
        if self.told == Some(head) {
            return Ok(());
        }
        let said = self.shared.heads.known(&self.link.peer.name);
        if said == Some(head) && Instant::now() < self.echo_at {
            self.link.note(|view| view.pushed = Some(head));
            return Ok(());
        }
        let kind = self.repo.kind();
        let memory = std::mem::take(&mut self.memory);
        let reader = self.repo.reader().remembering(memory);
        let waiting = self.line.take();
        self.link.begin(Doing::sending);
        let send = |line: Result<Line, PushError>, said| {
            let mut line = line?;
            background::aside(|| line.send(head, said, kind, &reader))?;
            Ok((line.service() == Service::Pushes).then_some(line))
        };
        let line = waiting.map_or_else(|| self.open_line(), Ok);
        let mut done = send(line, said);
        if matches!(
            done,
            Err(PushError::Connection(_) | PushError::Refused { .. })
        ) {
            // What the peer said once it may have lost.
            done = send(self.open_line(), None);
        }
        self.memory = reader.into_memory();
        self.line = done?;
        self.told = Some(head);
        self.echo_at = Instant::now() + self.seconds(FETCH_EVERY, limits::FETCH_EVERY);
        self.link.finish();
        self.link.note(|view| {
            view.pushed = Some(head);
            view.last_contact = Some(unix_now());
        });
        Ok(())
    }

    fn fetch(&mut self) -> Result<(), ExchangeError> {
        let address = self.target().address;
        self.link.begin(Doing::receiving);
        let mut connection = Connection::open(&address, Service::Upload, self.repo.kind())?;
        let own = self.shared.store.node();
        let refused = format!("{REFUSED}{own}");
        let mut refused_there = None;
        for advertised in connection.handshake.refs.iter().flatten() {
            let (name, id, _) = advertised.unpack();
            if name == refused.as_bytes() {
                refused_there = id.and_then(|id| Oid::from_bytes(id.as_bytes()));
            }
        }
        let wanted = |name: &str| name == HEAD_REF || name.starts_with(PEERS);
        let received = self
            .repo
            .fetch(
                &mut connection.transport,
                &mut connection.handshake,
                &wanted,
                &self.link.interrupt,
            )
            .map_err(|why| ExchangeError::Fetch {
                url: address.url.clone(),
                why,
            })?;
        drop(connection);
        self.link.finish();
        if received.objects > 0 {
            info!(
                "peer {}: {} objects fetched",
                self.link.peer.name, received.objects
            );
        }
        self.link.begin(Doing::checking);
        for (name, head) in &received.refs {
            let node = match name.strip_prefix(PEERS) {
                Some(node) => node,
                None => self.link.peer.name.as_str(),
            };
            let considered = self.shared.heads.consider(node, *head, false);
            match considered.map_err(ExchangeError::Here)? {
                // Told in `status`, and the rest of the exchange goes on.
                Considered::Refused(_) | Considered::Known | Considered::Offered => {}
                Considered::Later => self.fetch_at = Instant::now() + limits::REFS_LOOK,
            }
        }
        self.link.finish();
        // Only while it is what we would still push: a head that was mended since has another id.
        if let Some(head) = refused_there
            && self.link.view.lock().pushed == Some(head)
        {
            return Err(ExchangeError::RefusedThere { head });
        }
        Ok(())
    }
}
