//! A store in memory: takes records, and refuses (by panic) any that a real history could not apply.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mailbraid::history::hash_blob;
use mailbraid::maildir::class::{PathClass, classify};
use mailbraid::maildir::{Attrs, Content, HashKind, MailboxFacts, Oid, Op, TreePath};
use mailbraid::store::{Backing, Entry, EntryKind, LiveView};
use parking_lot::Mutex;

use super::reference::dir_class;

/// A committed file or directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    Dir,
    File(Oid, Attrs),
}

#[derive(Default)]
struct State {
    seq: u64,
    committed: u64,
    tree: BTreeMap<TreePath, Item>,
    blobs: BTreeMap<Oid, Vec<u8>>,
    /// Content of records that are not committed yet.
    pending: BTreeMap<u64, (Oid, Vec<u8>)>,
    /// The records whose content is in a spilled file.
    spilled: BTreeMap<u64, Oid>,
    listings: BTreeMap<Oid, Vec<Entry>>,
    root: Option<Oid>,
    fail_next: bool,
    backlog: u64,
    failed: bool,
}

/// The store.
pub struct Memory {
    state: Mutex<State>,
    local: PathBuf,
    spill: PathBuf,
    _dir: tempfile::TempDir,
}

impl Memory {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (local, spill) = (dir.path().join("tree"), dir.path().join("spill"));
        std::fs::create_dir(&local).expect("mkdir");
        std::fs::create_dir(&spill).expect("mkdir");
        Self {
            state: Mutex::default(),
            local,
            spill,
            _dir: dir,
        }
    }

    /// So many bytes of content are said to wait for their commit.
    pub fn set_backlog(&self, bytes: u64) {
        self.state.lock().backlog = bytes;
    }

    /// The next record finds the disk full.
    pub fn fail_next(&self) {
        self.state.lock().fail_next = true;
    }

    /// Whether a record was refused since the last call; takes back [`Memory::fail_next`].
    pub fn take_failed(&self) -> bool {
        let mut state = self.state.lock();
        state.fail_next = false;
        std::mem::take(&mut state.failed)
    }

    /// The committed tree as the records make it.
    pub fn tree(&self) -> BTreeMap<TreePath, Item> {
        self.state.lock().tree.clone()
    }

    /// Commits all records, as the store thread does.
    pub fn commit(&self, live: &dyn LiveView) {
        let last = self.state.lock().seq;
        self.commit_to(last, live);
    }

    /// Commits the older half of the records that are not committed yet: a round ends where the journal ended when it began.
    pub fn commit_half(&self, live: &dyn LiveView) {
        let (committed, last) = {
            let state = self.state.lock();
            (state.committed, state.seq)
        };
        self.commit_to(committed + (last - committed).div_ceil(2), live);
    }

    fn commit_to(&self, seq: u64, live: &dyn LiveView) {
        {
            let mut state = self.state.lock();
            let committed: Vec<_> = state
                .pending
                .range(..=seq)
                .map(|(_, blob)| blob.clone())
                .collect();
            state.blobs.extend(committed);
            state.committed = seq;
        }
        live.committed(seq);
        let mut state = self.state.lock();
        state.pending.retain(|&number, _| number > seq);
        let gone = state.spilled.clone();
        state.spilled.retain(|&number, _| number > seq);
        for oid in gone
            .values()
            .filter(|oid| !state.spilled.values().any(|kept| kept == *oid))
        {
            let _ = std::fs::remove_file(self.spill.join(oid.to_string()));
        }
    }

    /// Makes the tree of all records the one that the next mount starts from, and removes spilled files, as opening a store does.
    pub fn settle_root(&self) {
        for entry in std::fs::read_dir(&self.spill).expect("list") {
            std::fs::remove_file(entry.expect("list").path()).expect("remove");
        }
        let mut state = self.state.lock();
        let tree = state.tree.clone();
        state.root = Some(self.list(&mut state, &tree, &TreePath::root()));
    }

    fn list(&self, state: &mut State, tree: &BTreeMap<TreePath, Item>, dir: &TreePath) -> Oid {
        let mut entries = Vec::new();
        for (path, item) in tree {
            if path.parent().as_ref() != Some(dir) {
                continue;
            }
            let (oid, kind) = match item {
                Item::Dir => (self.list(state, tree, path), EntryKind::Dir),
                Item::File(oid, attrs) => (*oid, EntryKind::File(attrs.clone())),
            };
            entries.push(Entry {
                name: path.name().to_vec(),
                oid,
                kind,
            });
        }
        let id = self.hash(format!("{entries:?}").as_bytes());
        state.listings.insert(id, entries);
        id
    }
}

/// Panics where the operation does not fit the tree.
fn apply(tree: &mut BTreeMap<TreePath, Item>, op: &Op) {
    let is_dir = |tree: &BTreeMap<TreePath, Item>, path: &TreePath| {
        path.is_root() || tree.get(path) == Some(&Item::Dir)
    };
    let has_parent = |tree: &BTreeMap<TreePath, Item>, path: &TreePath| {
        path.parent().is_some_and(|parent| is_dir(tree, &parent))
    };
    match op {
        Op::Put {
            path, oid, attrs, ..
        } => {
            assert!(has_parent(tree, path) && !is_dir(tree, path), "{op:?}");
            assert_eq!(classify(path), PathClass::Committed, "{op:?}");
            tree.insert(path.clone(), Item::File(*oid, attrs.clone()));
        }
        Op::Remove { path } => {
            assert!(matches!(tree.remove(path), Some(Item::File(..))), "{op:?}");
        }
        Op::Mkdir { path } | Op::MkFolder { path, .. } => {
            assert!(
                has_parent(tree, path) && dir_class(path) == PathClass::Committed,
                "{op:?}"
            );
            assert!(tree.insert(path.clone(), Item::Dir).is_none(), "{op:?}");
        }
        Op::Rmdir { path } => {
            assert!(is_empty(tree, path), "{op:?}");
            assert_eq!(tree.remove(path), Some(Item::Dir), "{op:?}");
        }
        Op::SetAttrs { path, attrs } => match tree.get_mut(path) {
            Some(Item::File(_, old)) => *old = attrs.clone(),
            _ => panic!("{op:?}"),
        },
        Op::Rename { from, to } => {
            assert!(
                has_parent(tree, to) && from != to && !to.is_within(from),
                "{op:?}"
            );
            let item = tree.get(from).cloned().unwrap_or_else(|| panic!("{op:?}"));
            match (&item, tree.get(to)) {
                (_, None) | (Item::File(..), Some(Item::File(..))) => {}
                (Item::Dir, Some(Item::Dir)) => assert!(is_empty(tree, to), "{op:?}"),
                _ => panic!("{op:?}"),
            }
            let class = if item == Item::Dir {
                dir_class
            } else {
                classify
            };
            assert_eq!(
                (class(from), class(to)),
                (PathClass::Committed, PathClass::Committed),
                "{op:?}"
            );
            let moved: Vec<_> = tree
                .keys()
                .filter(|path| path.is_within(from))
                .cloned()
                .collect();
            for path in moved {
                let item = tree.remove(&path).expect("it was listed");
                let rest = &path.as_bytes()[from.as_bytes().len()..];
                tree.insert(TreePath::new([to.as_bytes(), rest].concat()), item);
            }
        }
        Op::SetMailbox { .. } => {}
    }
}

fn is_empty(tree: &BTreeMap<TreePath, Item>, dir: &TreePath) -> bool {
    !tree.keys().any(|path| path != dir && path.is_within(dir))
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl Backing for Memory {
    fn kind(&self) -> HashKind {
        HashKind::Sha1
    }

    fn hash(&self, content: &[u8]) -> Oid {
        hash_blob(HashKind::Sha1, content)
    }

    fn root(&self) -> Option<Oid> {
        self.state.lock().root
    }

    fn load_dir(&self, tree: Oid) -> io::Result<Vec<Entry>> {
        self.state
            .lock()
            .listings
            .get(&tree)
            .cloned()
            .ok_or_else(not_found)
    }

    fn load_mailbox(&self, _tree: Oid) -> io::Result<Option<MailboxFacts>> {
        Ok(None)
    }

    fn read_blob(&self, oid: Oid) -> io::Result<Vec<u8>> {
        self.state
            .lock()
            .blobs
            .get(&oid)
            .cloned()
            .ok_or_else(not_found)
    }

    fn read_pending(&self, seq: u64) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        assert!(
            !state.spilled.contains_key(&seq),
            "record {seq} has its content in a file"
        );
        state
            .pending
            .get(&seq)
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(not_found)
    }

    fn backlog(&self) -> u64 {
        self.state.lock().backlog
    }

    fn append(&self, op: &Op) -> io::Result<u64> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.fail_next) {
            state.failed = true;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let seq = state.seq + 1;
        if let Op::Put {
            oid,
            content,
            attrs,
            ..
        } = op
        {
            let bytes = match content {
                Content::Inline(bytes) => Some(bytes.clone()),
                Content::Spilled => {
                    state.spilled.insert(seq, *oid);
                    Some(
                        std::fs::read(self.spill.join(oid.to_string()))
                            .expect("spilled before the record"),
                    )
                }
                Content::Existing => None,
            };
            if let Some(bytes) = bytes {
                assert_eq!(self.hash(&bytes), *oid, "{op:?}");
                state.pending.insert(seq, (*oid, bytes));
            }
            let pending = state.pending.values().find(|(id, _)| id == oid);
            let known = pending.map(|(_, bytes)| bytes).or(state.blobs.get(oid));
            let known = known.unwrap_or_else(|| panic!("no content: {op:?}"));
            assert_eq!(known.len() as u64, attrs.size, "{op:?}");
        }
        apply(&mut state.tree, op);
        state.seq = seq;
        Ok(seq)
    }

    fn wait_durable(&self, seq: u64) -> io::Result<()> {
        assert!(
            seq <= self.state.lock().seq,
            "record {seq} was never appended"
        );
        Ok(())
    }

    fn local_tree(&self) -> &Path {
        &self.local
    }

    fn spill_dir(&self) -> &Path {
        &self.spill
    }
}
