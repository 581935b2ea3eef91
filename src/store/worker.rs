//! The threads of the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use log::{debug, info, warn};

use super::StoreError;
use super::backing::Switched;
use super::braid::{Attempt, Braider};
use super::committer::{Committer, Round};
use super::heads::Heads;
use super::shared::Shared;
use crate::background;
use crate::config::PACK_GRACE;
use crate::history::{Maintainer, Maintenance, Repo};
use crate::journal::Journal;
use crate::limits;
use crate::maildir::Op;

/// What other threads ask of the store thread.
pub enum Command {
    /// Commit now: somebody waits.
    Hurry,
    /// A head was offered.
    Braid,
    /// End the thread.
    Stop,
}

/// The store thread.
pub struct Worker {
    committer: Committer,
    journal: Arc<Journal>,
    inbox: Receiver<Command>,
    shared: Arc<Shared>,
    heads: Arc<Heads>,
    braider: Braider,
    spill: PathBuf,
    /// Most record bytes of a round.
    round_bytes: usize,
    /// Since when commits fail for something that may pass.
    failing: Option<Instant>,
}

impl Worker {
    /// A worker that is not yet running.
    pub fn new(
        committer: Committer,
        journal: Arc<Journal>,
        inbox: Receiver<Command>,
        shared: Arc<Shared>,
        heads: Arc<Heads>,
        braider: Braider,
        spill: PathBuf,
    ) -> Self {
        Self {
            committer,
            journal,
            inbox,
            shared,
            heads,
            braider,
            spill,
            round_bytes: limits::ROUND_BYTES,
            failing: None,
        }
    }

    /// The thread's body: select → commit → tell → release → braid, until told to stop.
    pub fn run(mut self) {
        let mut not_before = Instant::now();
        loop {
            let mut hurry = false;
            loop {
                match self.inbox.try_recv() {
                    Ok(Command::Hurry) => hurry = true,
                    Ok(Command::Braid) => {}
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => break,
                }
            }
            if !hurry {
                let pause = not_before
                    .saturating_duration_since(Instant::now())
                    .min(self.braider.pause());
                if !pause.is_zero() {
                    // A short nap that a Hurry cuts short: the channel is the only thing waited for.
                    match self.inbox.recv_timeout(pause) {
                        Ok(Command::Stop) => return,
                        Ok(Command::Hurry) => hurry = true,
                        Ok(Command::Braid) | Err(_) => {}
                    }
                }
            }
            let done = match self.work(hurry) {
                // A busy store gathers; a quiet one commits each action at once.
                Ok(Some(busy)) => {
                    let pause = (busy * limits::GATHER_TIMES).min(limits::GATHER_MOST);
                    not_before = Instant::now() + pause;
                    Ok(())
                }
                done => done.map(|_| ()),
            };
            match done {
                Ok(()) => self.failing = None,
                Err(error) if error.may_pass() && self.is_patient() => {
                    warn!("a commit failed and is tried again: {error}");
                    not_before = Instant::now() + limits::COMMIT_RETRY;
                }
                Err(error) if error.is_disk_full() => {
                    let why = format!("the disk is full, commits wait: {error}");
                    let mut state = self.shared.state.lock();
                    if state.waiting.is_none() {
                        warn!("{why}");
                    }
                    state.waiting = Some(why);
                    drop(state);
                    self.shared.changed.notify_all();
                    // Moves and deletions go on in the reserve.
                    self.journal.give_back(limits::JOURNAL_RESERVE_SEGMENTS);
                    self.round_bytes = limits::ROUND_BYTES_TIGHT;
                    self.braider.wait_for_room();
                    not_before = Instant::now() + limits::DISK_FULL_RETRY;
                }
                Err(error) => {
                    self.shared.poison(&error.to_string());
                    return;
                }
            }
        }
    }

    /// Whether commits have not failed for long.
    fn is_patient(&mut self) -> bool {
        let since = self.failing.get_or_insert_with(Instant::now);
        since.elapsed() < limits::COMMIT_PATIENCE
    }

    /// One round: waits for operations, commits them (where somebody waits, in a `hurry`), and braids what is to be braided. Returns how long the commit took
    /// where it was more than one.
    fn work(&mut self, hurry: bool) -> Result<Option<Duration>, StoreError> {
        let mut busy = None;
        let wait = self.braider.pause();
        if self.journal.wait_appended(self.committer.done(), wait) {
            self.wait_for_uid()?;
            if !hurry {
                self.wait_for_lull();
            }
            let since = Instant::now();
            let round = if self.may_wait() {
                background::aside(|| self.commit())?
            } else {
                self.commit()?
            };
            busy = (round.operations > 1).then(|| since.elapsed());
        }
        self.braid()?;
        self.heads.set_unbraided(self.braider.unbraided());
        Ok(busy)
    }

    /// Nobody waits for the commit of many operations, unless it has to catch up.
    fn may_wait(&self) -> bool {
        let waiting = self.journal.last().saturating_sub(self.committer.done());
        (limits::COMMIT_ASIDE..limits::ROUND_RECORDS as u64).contains(&waiting)
            && self.shared.backlog() < limits::BACKLOG_BYTES / 8
    }

    /// While operations come in a stream (a server moves or removes many messages), their commit waits for its end, or for [`limits::GATHER_MOST`]: it would take a
    /// processor from those that make them, and one commit is less work than several.
    fn wait_for_lull(&self) {
        let deadline = Instant::now() + limits::GATHER_MOST;
        while self.may_wait() && self.inbox.is_empty() && Instant::now() < deadline {
            let before = self.journal.last();
            std::thread::sleep(limits::LULL);
            if self.journal.last() - before < limits::COMMIT_ASIDE {
                return;
            }
        }
    }

    /// Where the last operation is a message that has no UID yet, the one that gives it is likely a moment away and is to be in the same commit: a commit each
    /// would cost as much as the mail.
    fn wait_for_uid(&self) -> Result<(), StoreError> {
        let last = self.journal.last();
        let records = self.journal.read(last.saturating_sub(1), 1, 0)?;
        let waits = records.last().is_some_and(|record| match &record.op {
            Op::Put { path, attrs, .. } => attrs.uid.is_none() && path.folder().is_some(),
            _ => false,
        });
        if waits {
            // Only then its server hears of it. Where the journal fails, others say so.
            let _ = self.journal.wait_durable(last);
            self.journal.wait_appended(last, limits::UID_WAIT);
        }
        Ok(())
    }

    /// Braids until there is nothing to braid, or a wait.
    fn braid(&mut self) -> Result<(), StoreError> {
        // Before there is a live tree nothing is taken up.
        let Some(live) = self.shared.live() else {
            return Ok(());
        };
        self.braider.learn(self.heads.take());
        while self.braider.is_due(self.committer.head())? {
            while self.journal.last() > self.committer.done() {
                self.commit()?;
            }
            let attempt = Attempt::new(&mut self.braider, &mut self.committer, &self.journal);
            let mut attempt = match attempt {
                Ok(attempt) => attempt,
                Err(failed) if failed.is_disk_full() => return Err(failed),
                Err(failed) => {
                    self.braider.refuse(&failed.to_string());
                    return Ok(());
                }
            };
            let switched = live.braided(&mut attempt);
            debug!("application ends: {switched:?}");
            let (rounds, failed) = (std::mem::take(&mut attempt.rounds), attempt.failed.take());
            for round in rounds {
                self.tell(&round)?;
            }
            match (switched, failed) {
                (_, Some(failed @ StoreError::Braid(_))) => {
                    self.braider.refuse(&failed.to_string())
                }
                (_, Some(failed)) => return Err(failed),
                (Ok(Switched::Done), None) => {
                    self.braider.done();
                    self.shared.state.lock().committed = self.committer.done();
                    // The peer's and the braid's own.
                    self.shared.packed(2);
                    self.heads.moved();
                }
                (Ok(Switched::Overtaken), None) => self.braider.overtaken(),
                (Ok(Switched::Held), None) => self.braider.held(),
                (Err(error), None) => return Err(StoreError::io(&self.spill, error)),
            }
            self.braider.learn(self.heads.take());
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<Round, StoreError> {
        debug!("commit begins");
        let round = self.committer.round_of(&self.journal, self.round_bytes)?;
        debug!("commit ends: {} operations", round.operations);
        self.tell(&round)?;
        Ok(round)
    }

    /// Tells of a round that is durable, and lets go of what it no longer needs.
    fn tell(&mut self, round: &Round) -> Result<(), StoreError> {
        let live = {
            let mut state = self.shared.state.lock();
            if state.waiting.take().is_some() {
                info!("there is room again, commits go on");
                self.journal.keep();
                self.round_bytes = limits::ROUND_BYTES;
            }
            state.live.clone()
        };
        if let Some(live) = live {
            live.committed(round.committed);
        }
        self.journal.release(round.committed)?;
        for id in &round.spilled {
            // Left behind by a failure, it goes at the next mount.
            let _ = std::fs::remove_file(self.spill.join(id.to_string()));
        }
        let mut state = self.shared.state.lock();
        state.committed = round.committed;
        state.backlog -= round.content;
        drop(state);
        self.shared.packed(1);
        self.heads.moved();
        Ok(())
    }
}

/// The maintenance thread's body: keeps packs few, until told to stop. It works at the start, after so many commits, and once more when there were none for a
/// while.
pub fn maintain(repo: &Repo, shared: &Shared) {
    let set = repo.config_string(PACK_GRACE).ok().flatten();
    let grace = set
        .and_then(|set| set.parse().ok())
        .map_or(limits::PACK_GRACE, Duration::from_secs);
    let mut maintainer = Maintainer::new(repo, grace);
    // A life that is short may have no other moment for what the lives before have left.
    let mut task = Some(Some(Maintenance::Geometric));
    while let Some(what) = task {
        let done = match what {
            Some(how) => background::aside(|| maintainer.run(how)).map(Some),
            None => maintainer.sweep().map(|()| None),
        };
        match done {
            Ok(report) => debug!("maintenance: {report:?}"),
            Err(error) => warn!("maintenance failed and is tried again later: {error}"),
        }
        task = shared.wait_for_maintenance(maintainer.next_sweep());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::InitOptions;
    use crate::journal;
    use crate::maildir::{Attrs, Content, HashKind, TreePath};
    use crate::store::layout::Layout;
    use crate::store::{Backing, OpenOptions, Store, recovery};

    #[test]
    fn what_is_committed_is_no_backlog() {
        let dir = tempfile::tempdir().unwrap();
        let create = Some(InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        });
        let options = OpenOptions {
            create,
            ..OpenOptions::default()
        };
        let store = Store::open(dir.path(), &options).unwrap();
        for dir in ["u", "u/cur", "u/new", "u/tmp"] {
            let path = TreePath::new(dir);
            store.append(&Op::Mkdir { path }).unwrap();
        }
        let put = |name: &str, bytes: &[u8], content| {
            let op = Op::Put {
                path: TreePath::new(name),
                oid: store.hash(bytes),
                content,
                attrs: Attrs {
                    size: bytes.len() as u64,
                    ..Attrs::default()
                },
            };
            store.append(&op)
        };
        let small = Content::Inline(b"small".to_vec());
        put("u/new/1.a.vm", b"small", small).unwrap();
        let large = vec![b'x'; limits::INLINE_MAX + 1];
        let spilled = store.spill_dir().join(store.hash(&large).to_string());
        std::fs::write(spilled, &large).unwrap();
        put("u/new/2.a.vm", &large, Content::Spilled).unwrap();
        put("u/new/3.a.vm", b"small", Content::Existing).unwrap();
        store.flush().unwrap();
        assert_eq!(store.shared.state.lock().backlog, 0);
        // Larger than the journal takes, so that its record is not written.
        let huge = vec![b'x'; limits::JOURNAL_SEGMENT_BYTES as usize];
        put("u/new/4.a.vm", &huge, Content::Inline(huge.clone())).unwrap_err();
        assert_eq!(store.shared.state.lock().backlog, 0);
    }

    /// The store thread of a store whose packs go and come.
    struct Life {
        worker: Worker,
        journal: Arc<Journal>,
        shared: Arc<Shared>,
        commands: crossbeam_channel::Sender<Command>,
    }

    impl Life {
        fn begin(layout: &Layout) -> Self {
            let repo = Repo::open(&layout.repo()).unwrap();
            let head = repo.head().unwrap();
            let done = recovery::last_committed(&repo, head, "a").unwrap();
            let options = journal::Options::default();
            let (journal, _) = recovery::open_journal(layout, done, &options).unwrap();
            let spill = layout.spill();
            let node = || "a".to_owned();
            let mut committer = Committer::new(&repo, node(), spill, head, done).unwrap();
            recovery::replay(layout, &journal, &mut committer).unwrap();
            let shared = Arc::new(Shared::new(committer.done()));
            let (commands, inbox) = crossbeam_channel::unbounded();
            let worker = Worker::new(
                committer,
                Arc::clone(&journal),
                inbox,
                Arc::clone(&shared),
                Arc::default(),
                Braider::new(&repo, node()),
                spill.to_owned(),
            );
            Self {
                worker,
                journal,
                shared,
                commands,
            }
        }

        /// Makes directories and waits until they are committed; `meanwhile` is called between the two.
        fn make(self, dirs: &[&str], meanwhile: impl FnOnce()) -> Result<(), StoreError> {
            for dir in dirs {
                let path = TreePath::new(*dir);
                self.shared.take(0).unwrap();
                self.journal.append(&Op::Mkdir { path }, 0).unwrap();
            }
            let worker = std::thread::spawn(move || self.worker.run());
            meanwhile();
            let done = self.shared.wait_committed(self.journal.last(), || {});
            self.commands.send(Command::Stop).ok();
            worker.join().unwrap();
            done
        }
    }

    #[test]
    fn a_commit_that_cannot_read_is_tried_again_and_then_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create_root().unwrap();
        layout.create_local().unwrap();
        let options = InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&layout.repo(), &options).unwrap();
        Life::begin(&layout)
            .make(&["u", "u/x", "u/x/y"], || {})
            .unwrap();
        let packs = std::fs::read_dir(repo.path().join("objects/pack")).unwrap();
        let packs: Vec<PathBuf> = packs.map(|file| file.unwrap().path()).collect();
        // The root is in another one.
        Life::begin(&layout).make(&["v"], || {}).unwrap();
        let hidden = |pack: &PathBuf| pack.with_added_extension("hidden");
        let hide = || {
            for pack in &packs {
                std::fs::rename(pack, hidden(pack)).unwrap();
            }
        };
        let show = || {
            for pack in &packs {
                std::fs::rename(hidden(pack), pack).unwrap();
            }
        };
        let life = Life::begin(&layout);
        hide();
        let done = life.make(&["u/y"], || {
            std::thread::sleep(limits::COMMIT_PATIENCE / 4);
            show();
        });
        assert!(done.is_ok(), "{done:?}");
        let life = Life::begin(&layout);
        hide();
        let since = Instant::now();
        let done = life.make(&["u/x/z"], || {});
        assert!(matches!(done, Err(StoreError::Poisoned(_))), "{done:?}");
        assert!(since.elapsed() >= limits::COMMIT_PATIENCE);
        show();
        // What was acknowledged is committed at the next mount.
        Life::begin(&layout).make(&["w"], || {}).unwrap();
        let reader = repo.reader();
        let tree = reader.commit(repo.head().unwrap().unwrap()).unwrap().tree;
        for dir in ["u/y", "u/x/z", "w"] {
            let found = reader.lookup(tree, &TreePath::new(dir)).unwrap();
            assert!(found.is_some(), "{dir}");
        }
    }
}
