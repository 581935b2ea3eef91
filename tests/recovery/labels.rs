//! A test for each label of the recovery table in `store::recovery`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use mailbraid::history::{InitOptions, Repo};
use mailbraid::maildir::{Attrs, Content, HashKind, Oid, Op, TreePath};
use mailbraid::store::{Backing, EntryKind, Layout, OpenOptions, Store, StoreError, message};

fn options() -> OpenOptions {
    OpenOptions {
        create: Some(InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        }),
        ..OpenOptions::default()
    }
}

fn open(path: &Path) -> Arc<Store> {
    Store::open(path, &options()).unwrap()
}

fn mkdir(store: &Store, path: &str) -> u64 {
    let op = Op::Mkdir {
        path: TreePath::new(path),
    };
    store.append(&op).unwrap()
}

fn put_op(store: &Store, path: &str, content: &[u8], how: Content) -> Op {
    Op::Put {
        path: TreePath::new(path),
        oid: store.hash(content),
        content: how,
        attrs: Attrs {
            mtime: 7,
            size: content.len() as u64,
            ..Attrs::default()
        },
    }
}

fn deliver(store: &Store, path: &str, content: &[u8]) -> u64 {
    let op = put_op(store, path, content, Content::Inline(content.to_vec()));
    let seq = store.append(&op).unwrap();
    store.wait_durable(seq).unwrap();
    seq
}

fn spill(store: &Store, path: &str, content: &[u8]) -> u64 {
    fs::write(
        store.spill_dir().join(store.hash(content).to_string()),
        content,
    )
    .unwrap();
    let seq = store
        .append(&put_op(store, path, content, Content::Spilled))
        .unwrap();
    store.wait_durable(seq).unwrap();
    seq
}

/// Every file of the head, path and content.
pub(super) fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(
        reader: &mailbraid::history::Reader,
        tree: Oid,
        above: &TreePath,
        found: &mut Vec<(String, Vec<u8>)>,
    ) {
        for entry in reader.dir(tree).unwrap() {
            let path = above.join(&entry.name);
            match entry.kind {
                EntryKind::Dir => walk(reader, entry.oid, &path, found),
                EntryKind::File(_) => {
                    found.push((path.to_string(), reader.blob(entry.oid).unwrap()));
                }
            }
        }
    }
    let repo = Repo::open(&Layout::new(path).repo()).unwrap();
    let reader = repo.reader();
    let mut found = Vec::new();
    if let Some(head) = repo.head().unwrap() {
        walk(
            &reader,
            reader.commit(head).unwrap().tree,
            &TreePath::root(),
            &mut found,
        );
    }
    found.sort();
    found
}

/// The sequence ranges of the history, oldest first, must be gapless from 1.
pub(super) fn sequences(path: &Path) -> u64 {
    let repo = Repo::open(&Layout::new(path).repo()).unwrap();
    let reader = repo.reader();
    let mut ranges = Vec::new();
    let mut next = repo.head().unwrap();
    while let Some(id) = next {
        let commit = reader.commit(id).unwrap();
        ranges.extend(message::trailers(&commit.message));
        next = commit.parents.first().copied();
    }
    let mut expected = 1;
    for (_, range) in ranges.into_iter().rev() {
        assert_eq!(range.first, expected);
        expected = range.last + 1;
    }
    let fsck = Command::new("git")
        .args(["fsck", "--strict", "--no-dangling"])
        .current_dir(Layout::new(path).repo())
        .output()
        .expect("git is needed: run tests/run");
    assert!(
        fsck.status.success(),
        "{}",
        String::from_utf8_lossy(&fsck.stderr)
    );
    expected - 1
}

/// A directory copied as a kill would leave it. What vanishes while it is copied (a segment being recycled) makes `cp` fail: then once more.
fn copied(from: &Path, to: &Path) {
    for _ in 0..20 {
        let done = Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(to)
            .output()
            .unwrap();
        if done.status.success() {
            let _ = fs::remove_file(to.join("lock"));
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
    panic!("{} does not hold still", from.display());
}

/// A live store, a copy of it from another moment, and what a kill between the two would leave.
struct Moments {
    live: PathBuf,
    other: PathBuf,
    cut: PathBuf,
    _dir: tempfile::TempDir,
}

impl Moments {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [live, other, cut] = ["live", "other", "cut"].map(|name| dir.path().join(name));
        Self {
            live,
            other,
            cut,
            _dir: dir,
        }
    }

    /// The other moment is the one before the first operation.
    fn beside_a_new_store() -> Self {
        let moments = Self::new();
        drop(open(&moments.other));
        moments
    }

    /// The repository of one beside the journal of another: any state between two commits.
    fn cut_of(&self, repo: &Path, journal: &Path) {
        copied(repo, &self.cut);
        fs::remove_dir_all(self.cut.join("journal")).unwrap();
        copied(&journal.join("journal"), &self.cut.join("journal"));
    }
}

#[test]
fn s1_nothing_or_an_interrupted_creation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for leftover in [false, true] {
        if leftover {
            fs::remove_dir_all(&path).unwrap();
            fs::create_dir_all(path.join("repo.git")).unwrap();
            fs::write(path.join("lock"), "").unwrap();
        }
        let store = open(&path);
        deliver_into_new(&store);
        drop(store);
        assert_eq!(sequences(&path), 3);
    }
}

fn deliver_into_new(store: &Store) {
    mkdir(store, "u");
    mkdir(store, "u/new");
    deliver(store, "u/new/1.1.vm", b"one");
}

#[test]
fn s2_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    deliver_into_new(&store);
    drop(store);
    let before = fs::read(Layout::new(dir.path()).repo().join("refs/heads/mail")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.status().journal.committed, 3);
    drop(store);
    let after = fs::read(Layout::new(dir.path()).repo().join("refs/heads/mail")).unwrap();
    assert_eq!(before, after);
}

#[test]
fn s3_later_operations_in_the_journal() {
    let moments = Moments::new();
    let store = open(&moments.live);
    deliver_into_new(&store);
    store.flush().unwrap();
    copied(&moments.live, &moments.other);
    deliver(&store, "u/new/2.2.vm", b"two");
    moments.cut_of(&moments.other, &moments.live);
    drop(open(&moments.cut));
    assert_eq!(sequences(&moments.cut), 4);
    assert_eq!(files(&moments.cut).len(), 2);
    drop(store);
}

#[test]
fn s4_killed_before_the_first_commit() {
    let moments = Moments::beside_a_new_store();
    let store = open(&moments.live);
    deliver_into_new(&store);
    moments.cut_of(&moments.other, &moments.live);
    drop(store);
    drop(open(&moments.cut));
    assert_eq!(sequences(&moments.cut), 3);
    assert_eq!(
        files(&moments.cut),
        [("u/new/1.1.vm".to_owned(), b"one".to_vec())]
    );
}

#[test]
fn s5_killed_between_commit_and_release() {
    let moments = Moments::new();
    let store = open(&moments.live);
    deliver_into_new(&store);
    fs::create_dir(&moments.other).unwrap();
    copied(
        &moments.live.join("journal"),
        &moments.other.join("journal"),
    );
    store.flush().unwrap();
    // The repository as after the commit, the journal as before the release.
    moments.cut_of(&moments.live, &moments.other);
    drop(store);
    drop(open(&moments.cut));
    assert_eq!(sequences(&moments.cut), 3);
}

#[test]
fn s6_operations_are_missing() {
    let moments = Moments::beside_a_new_store();
    let store = open(&moments.live);
    deliver_into_new(&store);
    drop(store);
    // A clean stop releases all; the next operation is the fourth.
    fs::remove_dir_all(moments.live.join("journal")).unwrap();
    let store = open(&moments.live);
    deliver(&store, "u/new/2.2.vm", b"two");
    moments.cut_of(&moments.other, &moments.live);
    drop(store);
    let refused = Store::open(&moments.cut, &options()).err().unwrap();
    assert!(
        matches!(
            refused,
            StoreError::Journal(mailbraid::journal::JournalError::Damaged { .. })
        ),
        "{refused}"
    );
    assert_eq!(refused.to_string().lines().count(), 1);
}

#[test]
fn s7_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    deliver_into_new(&store);
    drop(store);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let store = open(dir.path());
    assert_eq!(deliver(&store, "u/new/2.2.vm", b"two"), 4);
    drop(store);
    assert_eq!(sequences(dir.path()), 4);
}

#[test]
fn s8_spilled_files_nobody_names() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let orphan = Layout::new(dir.path()).spill().join("orphan");
    fs::write(&orphan, "x").unwrap();
    drop(open(dir.path()));
    assert!(!orphan.exists());
}

#[test]
fn s9_a_spilled_file_is_gone_and_its_blob_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    deliver_into_new(&store);
    spill(&store, "u/new/2.2.vm", b"large");
    store.flush().unwrap();
    let gone = store.spill_dir().join(store.hash(b"large").to_string());
    assert!(!gone.exists());
    let seq = store
        .append(&put_op(&store, "u/new/3.3.vm", b"large", Content::Spilled))
        .unwrap();
    store.wait_durable(seq).unwrap();
    drop(store);
    assert_eq!(sequences(dir.path()), 5);
    assert_eq!(files(dir.path()).len(), 3);
}

#[test]
fn s10_a_spilled_file_is_gone_and_so_is_its_blob() {
    let moments = Moments::beside_a_new_store();
    let store = open(&moments.live);
    mkdir(&store, "new");
    spill(&store, "new/2.2.vm", b"large");
    moments.cut_of(&moments.other, &moments.live);
    drop(store);
    let refused = Store::open(&moments.cut, &options()).err().unwrap();
    assert!(matches!(refused, StoreError::SpillMissing(_)), "{refused}");
}

#[test]
fn s11_a_stale_ref_lock() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let lock = Layout::new(dir.path()).repo().join("refs/heads/mail.lock");
    fs::write(&lock, "").unwrap();
    let store = open(dir.path());
    deliver_into_new(&store);
    store.flush().unwrap();
    drop(store);
    assert!(!lock.exists());
    assert_eq!(sequences(dir.path()), 3);
}

#[test]
fn s12_a_head_made_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    deliver_into_new(&store);
    drop(store);
    let repo = Layout::new(dir.path()).repo();
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@y"])
            .args(args)
            .current_dir(&repo)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let braid = git(&["commit-tree", "-p", "mail", "-m", "braid", "mail^{tree}"]);
    git(&["update-ref", "refs/heads/mail", &braid]);
    let store = open(dir.path());
    assert_eq!(deliver(&store, "u/new/2.2.vm", b"two"), 4);
    drop(store);
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn s13_a_torn_tail() {
    let moments = Moments::beside_a_new_store();
    let store = open(&moments.live);
    mkdir(&store, "u");
    mkdir(&store, "u/new");
    // Never waited for: it may be lost, and here it is torn.
    let op = put_op(
        &store,
        "u/new/1.1.vm",
        b"a torn message, surely",
        Content::Inline(b"a torn message, surely".to_vec()),
    );
    store.append(&op).unwrap();
    moments.cut_of(&moments.other, &moments.live);
    drop(store);
    for segment in fs::read_dir(moments.cut.join("journal")).unwrap() {
        let path = segment.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let needle = b"torn message";
        if let Some(at) = bytes.windows(needle.len()).position(|part| part == needle) {
            bytes[at..].fill(0);
            fs::write(&path, bytes).unwrap();
        }
    }
    drop(open(&moments.cut));
    assert_eq!(sequences(&moments.cut), 2);
    assert!(files(&moments.cut).is_empty());
}

#[test]
fn a_store_in_use_is_refused_with_the_pid() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let refused = Store::open(dir.path(), &options()).err().unwrap();
    assert!(
        refused
            .to_string()
            .contains(&format!("in use by process {}", std::process::id())),
        "{refused}"
    );
    drop(store);
}

#[test]
fn a_directory_that_is_no_store_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter"), "x").unwrap();
    let refused = Store::open(dir.path(), &options()).err().unwrap();
    assert!(matches!(refused, StoreError::NotAStore(_)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
