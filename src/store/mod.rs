//! The one owner of the head: drains the journal, commits, and braids into the live tree.
//!
//! ```text
//!  fs ── append, wait_durable ──► journal ◄── read, release ── store thread ──► repository
//!  fs ◄─────────── committed(seq), braided(changes) ───────────────┘   ▲
//!                                            flush, stop (a channel) ──┘
//!  maintenance thread ──► repository (packs alone)
//! ```
//!
//! Rules:
//! - Only the store thread moves `refs/heads/mail`.
//! - The live tree learns that content is committed before the journal lets go of it.
//! - An error that is no full disk, and does not pass within [`crate::limits::COMMIT_PATIENCE`] where it may, poisons the store: reading goes on, [`Backing::append`] answers `EIO`, `status` says why. What the
//!   journal holds stays there, so nothing acknowledged is lost, and a remount tries again.

mod adopt;
pub mod backing;
mod braid;
mod committer;
mod error;
mod heads;
mod layout;
mod lock;
pub mod message;
mod recovery;
mod shared;
mod status;
mod worker;
pub mod world;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crossbeam_channel::Sender;
use log::{error, info};
use parking_lot::Mutex;

pub use crate::maildir::{Entry, EntryKind};
pub use backing::{Backing, Change, LiveView, Switch, Switched, WhenDurable};
pub use error::StoreError;
pub use heads::PeersSay;
pub use layout::Layout;
pub use lock::Lock;
pub use recovery::last_committed;
pub use status::{JournalStatus, PeerStatus, Status, count_packs};

use crate::background::{self, Work};
pub use crate::history::room_left;
use crate::history::{InitOptions, Reader, Repo, hash_blob};
use crate::journal::{self, Journal, JournalError};
use crate::maildir::{HashKind, MailboxFacts, Oid, Op};
use crate::turns;
use braid::Braider;
use committer::{Committer, brought};
use heads::Heads;
use shared::Shared;
use worker::{Command, Worker};

/// An open store: the daemon's own.
pub struct Store {
    layout: Layout,
    node: String,
    repo: Repo,
    journal: Arc<Journal>,
    root: Option<Oid>,
    readers: ReaderPool,
    shared: Arc<Shared>,
    heads: Arc<Heads>,
    commands: Sender<Command>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    mountpoint: OnceLock<std::path::PathBuf>,
    _lock: Lock,
}

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Create the store with these where none exists; a clone becomes one under a name like this one.
    pub create: Option<InitOptions>,
    /// How its journal is kept; `first_seq` is the store's own to say.
    pub journal: journal::Options,
}

impl Store {
    /// Creates a store, of a clone's `repo.git` where one is there (whose hash function it keeps), and leaves it closed.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::NotAStore`], or what the disk says.
    pub fn init(path: &Path, options: &InitOptions) -> Result<(), StoreError> {
        let layout = Layout::new(path);
        layout.check_usable()?;
        if layout.exists() {
            let _lock = Lock::take(&layout)?;
            let adopted = adopt::under(&layout, &options.node)?;
            return adopted
                .map(drop)
                .ok_or_else(|| StoreError::Exists(path.to_owned()));
        }
        layout.create_root()?;
        let _lock = Lock::take(&layout)?;
        layout.create_local()?;
        Repo::init(&layout.repo(), options)?;
        Ok(())
    }

    /// Opens a store, recovers it (see the table in `recovery`), and starts its threads.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is changed in a store that is refused.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Arc<Self>, StoreError> {
        let layout = Layout::new(path);
        layout.check_usable()?;
        if !layout.exists() && options.create.is_none() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        if !layout.exists() {
            layout.create_root()?;
        }
        let lock = Lock::take(&layout)?;
        layout.create_local()?;
        // The repository last: once it is there the store is whole.
        let repo = match &options.create {
            Some(init) if !layout.exists() => Repo::init(&layout.repo(), init)?,
            Some(init) => match adopt::under_a_new_name(&layout, &init.node)? {
                Some(repo) => repo,
                None => Repo::open(&layout.repo())?,
            },
            None => Repo::open(&layout.repo())?,
        };
        repo.clear_stale_locks()?;
        let node = repo
            .config_string("mailbraid.node")?
            .unwrap_or_else(|| "mailbraid".to_owned());
        let head = repo.head()?;
        let committed = recovery::last_committed(&repo, head, &node)?;
        let (journal, _) = recovery::open_journal(&layout, committed, &options.journal)?;
        let mut committer = Committer::new(&repo, node.clone(), layout.spill(), head, committed)?;
        recovery::replay(&layout, &journal, &mut committer)?;
        recovery::set_aside(&layout);

        let reader = repo.reader();
        let root = match repo.head()? {
            Some(head) => Some(reader.commit(head)?.tree),
            None => None,
        };
        let shared = Arc::new(Shared::new(committer.done()));
        let heads = Arc::new(Heads::default());
        let (commands, inbox) = crossbeam_channel::unbounded();
        let worker = Worker::new(
            committer,
            Arc::clone(&journal),
            inbox,
            Arc::clone(&shared),
            Arc::clone(&heads),
            Braider::new(&repo, node.clone()),
            layout.spill().to_owned(),
        );
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| StoreError::io(path, error))
        };
        let store_thread = spawn(
            "mb-store",
            Box::new(move || {
                background::begin(Work::Commits);
                worker.run();
            }),
        )?;
        let maintenance = {
            let repo = repo.clone();
            let shared = Arc::clone(&shared);
            spawn(
                "mb-maintain",
                Box::new(move || {
                    background::begin(Work::Upkeep);
                    worker::maintain(&repo, &shared);
                }),
            )?
        };
        Ok(Arc::new(Self {
            layout,
            node,
            readers: ReaderPool::new(repo.clone()),
            repo,
            journal,
            root,
            shared,
            heads,
            commands,
            threads: Mutex::new(vec![store_thread, maintenance]),
            mountpoint: OnceLock::new(),
            _lock: lock,
        }))
    }

    /// The live tree to tell of commits and braids. Called once, before the mount is shown.
    pub fn attach(&self, live: Arc<dyn LiveView>) {
        self.shared.attach(live);
    }

    /// Says where the store is mounted, for `status`.
    pub fn set_mountpoint(&self, path: &Path) {
        let _ = self.mountpoint.set(path.to_owned());
    }

    /// The store's paths.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// This node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Waits until every operation acknowledged before the call is committed and durable in the repository.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`], [`StoreError::Stopped`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared.wait_committed(self.journal.last(), || {
            let _ = self.commands.send(Command::Hurry);
            self.journal.wake();
        })
    }

    /// Takes a head of a peer, by its node's name: it was verified, and all its objects are durable in the repository. Wakes the store thread, which
    /// braids it. The name may be this node's own: a head of a former life of it.
    pub fn offer(&self, node: &str, head: Oid) {
        self.heads.offer(node, head);
        let _ = self.commands.send(Command::Braid);
        self.journal.wake();
    }

    /// A channel that gets a `()` whenever this node's head has moved; moves that come while one waits there are told together. Any number
    /// of subscribers.
    #[must_use]
    pub fn watch_head(&self) -> crossbeam_channel::Receiver<()> {
        self.heads.watch()
    }

    /// Why a head that was offered could not be braided, by node.
    #[must_use]
    pub fn unbraided(&self) -> BTreeMap<String, String> {
        self.heads.unbraided()
    }

    /// Sets who answers for the peers in [`Store::status`].
    pub fn set_peer_status(&self, say: PeersSay) {
        self.heads.set_peers(say);
    }

    /// The state for `status`.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            node: self.node.clone(),
            head: self.repo.head().ok().flatten().map(|id| id.to_string()),
            mountpoint: self.mountpoint.get().map(|path| path.display().to_string()),
            poisoned: self.shared.poisoned().or_else(|| self.journal.poisoned()),
            journal: JournalStatus {
                acknowledged: self.journal.last(),
                committed: self.shared.committed(),
            },
            packs: status::count_packs(&self.layout),
            waiting: self.shared.waiting(),
            peers: self.heads.peers(),
        }
    }

    /// Commits what the journal holds, then stops the threads. Later calls do nothing.
    pub fn stop(&self) {
        if let Err(error) = self.flush() {
            error!("stopping with operations left in the journal: {error}");
        }
        self.shared.stop();
        let _ = self.commands.send(Command::Stop);
        self.journal.wake();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                error!("a store thread panicked");
            }
        }
        self.shared.detach();
        info!("store {} stopped", self.layout.root().display());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

fn to_io(error: &JournalError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

fn damaged(error: &dyn std::fmt::Display) -> io::Error {
    error!("repository: {error}");
    io::Error::from_raw_os_error(libc::EIO)
}

impl Backing for Store {
    fn kind(&self) -> HashKind {
        self.repo.kind()
    }

    fn hash(&self, content: &[u8]) -> Oid {
        hash_blob(self.repo.kind(), content)
    }

    fn root(&self) -> Option<Oid> {
        self.root
    }

    fn load_dir(&self, tree: Oid) -> io::Result<Vec<Entry>> {
        turns::wait(|| self.readers.with(|reader| reader.dir(tree)))
            .map_err(|error| damaged(&error))
    }

    fn load_mailbox(&self, tree: Oid) -> io::Result<Option<MailboxFacts>> {
        turns::wait(|| self.readers.with(|reader| reader.mailbox(tree)))
            .map_err(|error| damaged(&error))
    }

    fn read_blob(&self, oid: Oid) -> io::Result<Vec<u8>> {
        turns::wait(|| self.readers.with(|reader| reader.blob(oid)))
            .map_err(|error| damaged(&error))
    }

    fn read_pending(&self, seq: u64) -> io::Result<Vec<u8>> {
        self.journal
            .inline_content(seq)
            .map_err(|error| to_io(&error))
    }

    fn wait_room(&self) {
        self.shared.wait_backlog();
        self.journal.wait_room();
    }

    fn backlog(&self) -> u64 {
        self.shared.backlog()
    }

    fn append(&self, op: &Op) -> io::Result<u64> {
        let content = brought(op);
        if self.shared.take(content).is_err() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let appended = self.journal.append(op, unix_now());
        if appended.is_err() {
            self.shared.give_back(content);
        }
        appended.map_err(|error| to_io(&error))
    }

    fn wait_durable(&self, seq: u64) -> io::Result<()> {
        self.journal
            .wait_durable(seq)
            .map_err(|error| to_io(&error))
    }

    fn when_durable(&self, seq: u64, then: WhenDurable) {
        self.journal.when_durable(
            seq,
            Box::new(move |outcome| then(outcome.map_err(|error| to_io(&error)))),
        );
    }

    fn local_tree(&self) -> &Path {
        self.layout.tree()
    }

    fn spill_dir(&self) -> &Path {
        self.layout.spill()
    }
}

fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs() as i64
}

/// Readers for whichever threads ask: opening one costs a lock and a few allocations, so they are kept.
struct ReaderPool {
    repo: Repo,
    idle: Mutex<Vec<Reader>>,
}

impl ReaderPool {
    fn new(repo: Repo) -> Self {
        Self {
            repo,
            idle: Mutex::new(Vec::new()),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&Reader) -> T) -> T {
        let reader = self.idle.lock().pop().unwrap_or_else(|| self.repo.reader());
        let result = work(&reader);
        self.idle.lock().push(reader);
        result
    }
}
