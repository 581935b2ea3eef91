//! What the kernel remembers is never stale: changes that come from elsewhere, as a braid's do, are seen at once through the mount.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mailbraid::fs::{Durability, Fs, FsOptions};
use mailbraid::fuse::{self, MountConfig};
use mailbraid::history::InitOptions;
use mailbraid::maildir::{Attrs, EntryKind, HashKind, MailboxFacts, Oid, TreePath};
use mailbraid::store::{Backing, Change, LiveView, OpenOptions, Store, Switch, Switched};

use crate::support::mounted::{deliver, folder, free};

/// A mount served by this process, so that the test can act as the store does.
struct Inside {
    fs: Arc<Fs>,
    store: Arc<Store>,
    serving: Option<JoinHandle<io::Result<()>>>,
    dir: tempfile::TempDir,
}

impl Inside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (at, root) = (dir.path().join("store"), dir.path().join("mnt"));
        fs::create_dir(&root).unwrap();
        let create = InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        };
        let options = OpenOptions {
            create: Some(create),
            ..OpenOptions::default()
        };
        let store = Store::open(&at, &options).unwrap();
        let backing = Arc::clone(&store) as Arc<dyn Backing>;
        let options = FsOptions {
            uid: 0,
            gid: 0,
            umask: 0o077,
            read_only: false,
            durability: Durability::Delivery,
            assign_uids: false,
        };
        let fs = Fs::new(backing, options).unwrap();
        store.attach(Arc::clone(&fs) as Arc<dyn LiveView>);
        let config = MountConfig {
            source: at,
            allow_other: false,
            read_only: false,
            threads: 2,
            kernel: Vec::new(),
        };
        let mut mounted = fuse::mount(&fs, &root, &config).unwrap();
        let serving = thread::spawn(move || mounted.serve());
        Self {
            fs,
            store,
            serving: Some(serving),
            dir,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("mnt").join(path)
    }

    /// Delivers the content and returns its blob.
    fn blob(&self, name: &str, content: &[u8]) -> Oid {
        deliver(&self.at("u"), name, content).unwrap();
        self.store.flush().unwrap();
        self.store.hash(content)
    }

    /// A braid's changes.
    fn braided(&self, changes: &[Change]) {
        self.store.flush().unwrap();
        assert!(self.shown(changes), "operations came in between");
    }

    /// The same, unless the journal has operations that are not committed.
    fn shown(&self, changes: &[Change]) -> bool {
        let mut shown = Shown(&self.store, changes);
        self.fs.braided(&mut shown).unwrap() == Switched::Done
    }
}

/// A braid that is nothing but changes.
struct Shown<'a>(&'a Store, &'a [Change]);

impl Switch for Shown<'_> {
    fn changes(&mut self) -> io::Result<Option<Vec<Change>>> {
        let journal = self.0.status().journal;
        Ok((journal.acknowledged == journal.committed).then(|| self.1.to_vec()))
    }

    fn heeds_locks(&self) -> bool {
        true
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        free(&self.at(""));
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
        self.store.stop();
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes())
}

fn attrs(size: usize, mtime: i64) -> Attrs {
    Attrs {
        size: size as u64,
        mtime,
        ..Attrs::default()
    }
}

/// The kernel is told by a thread of its own, a moment after the live tree has changed.
#[track_caller]
fn soon(what: &str, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !seen() {
        assert!(Instant::now() < deadline, "{what} is not seen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_braid_is_seen_through_whatever_the_kernel_remembers() {
    let inside = Inside::new();
    folder(&inside.at("u"));
    let (one, two) = (
        inside.blob("1.M1.vm", b"one"),
        inside.blob("2.M2.vm", b"two, and longer"),
    );
    let new = inside.at("u/new");
    let at = |name: &str| new.join(name);
    // The kernel is made to remember: content, attributes, listings, and that names are not there.
    assert_eq!(fs::read(at("1.M1.vm")).unwrap(), b"one");
    for _ in 0..2 {
        assert_eq!(names(&new), ["1.M1.vm", "2.M2.vm"]);
        for absent in ["3.M3.vm", "2.M2.vm:2,S"] {
            assert!(!at(absent).exists());
        }
    }
    let inode = fs::metadata(at("1.M1.vm")).unwrap().ino();
    let open = File::open(at("1.M1.vm")).unwrap();
    let before = fs::metadata(&new).unwrap();

    // A name that was absent appears.
    inside.braided(&[Change::Put {
        path: path("u/new/3.M3.vm"),
        oid: one,
        attrs: attrs(3, 1_000),
    }]);
    soon("a new message", || at("3.M3.vm").exists());
    assert_eq!(fs::read(at("3.M3.vm")).unwrap(), b"one");
    assert_eq!(fs::metadata(at("3.M3.vm")).unwrap().mtime(), 1_000);
    soon("a listing with it", || names(&new).len() == 3);
    soon("the directory's mtime", || {
        let after = fs::metadata(&new).unwrap();
        (after.mtime(), after.mtime_nsec()) > (before.mtime(), before.mtime_nsec())
    });

    // Another content under a known name: another inode, and whoever has the old one open keeps it.
    inside.braided(&[Change::Put {
        path: path("u/new/1.M1.vm"),
        oid: two,
        attrs: attrs(15, 2_000),
    }]);
    soon("new content", || {
        fs::read(at("1.M1.vm")).unwrap() == b"two, and longer"
    });
    assert_ne!(fs::metadata(at("1.M1.vm")).unwrap().ino(), inode);
    let mut bytes = [0; 3];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"one");

    // A rename: the old name goes, the new one, known to be absent, comes, with the same inode.
    let inode = fs::metadata(at("2.M2.vm")).unwrap().ino();
    inside.braided(&[Change::Rename {
        from: path("u/new/2.M2.vm"),
        to: path("u/new/2.M2.vm:2,S"),
        oid: two,
        kind: EntryKind::File(attrs(15, 1_500)),
    }]);
    soon("a name's end", || !at("2.M2.vm").exists());
    soon("a name's beginning", || at("2.M2.vm:2,S").exists());
    assert_eq!(fs::metadata(at("2.M2.vm:2,S")).unwrap().ino(), inode);

    // A date, a removal, a directory.
    inside.braided(&[
        Change::SetAttrs {
            path: path("u/new/3.M3.vm"),
            attrs: attrs(3, 3_000),
        },
        Change::Remove {
            path: path("u/new/1.M1.vm"),
        },
    ]);
    soon("a date", || {
        fs::metadata(at("3.M3.vm")).unwrap().mtime() == 3_000
    });
    soon("a removal", || !at("1.M1.vm").exists());
    soon("a listing without it", || {
        names(&new) == ["2.M2.vm:2,S", "3.M3.vm"]
    });
}

/// Mail has come and gone on the other side: nothing in the folder is another file, but UIDNEXT is higher. Dovecot reads its list of UIDs where `cur` has changed.
#[test]
fn a_folder_whose_facts_alone_change_has_changed() {
    let inside = Inside::new();
    folder(&inside.at("u"));
    inside.blob("1.M1.vm", b"one");
    let time = || {
        let seen = fs::metadata(inside.at("u/cur")).unwrap();
        (seen.mtime(), seen.mtime_nsec())
    };
    let before = time();
    let facts = MailboxFacts {
        uid_validity: 7,
        uid_next: 3,
        ..MailboxFacts::default()
    };
    inside.braided(&[Change::SetMailbox {
        folder: path("u"),
        facts,
    }]);
    soon("a change of the folder", || time() > before);
}

#[test]
fn braids_and_requests_do_not_wait_for_one_another() {
    let inside = Inside::new();
    folder(&inside.at("u"));
    let blob = inside.blob("1.M1.vm", b"one");
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..2 {
            let (inside, done) = (&inside, &done);
            scope.spawn(move || {
                let mut serial = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let name = format!("5.M{number}-{serial}.vm");
                    let path = deliver(&inside.at("u"), &name, b"x").unwrap();
                    names(&inside.at("u/new"));
                    fs::remove_file(path).unwrap();
                    serial += 1;
                }
            });
        }
        let mut shown = 0;
        while shown < 200 {
            let change = Change::Put {
                path: path(&format!("u/new/9.M{shown}.vm")),
                oid: blob,
                attrs: attrs(3, 1_000),
            };
            shown += usize::from(inside.shown(&[change]));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    soon("all that was braided", || {
        names(&inside.at("u/new")).len() == 201
    });
}
