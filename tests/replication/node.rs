//! Nodes served by the test's own process, and heads carried between them by plain git.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mailbraid::fs::{Durability, Fs, FsOptions};
use mailbraid::fuse::{self, MountConfig};
use mailbraid::history::InitOptions;
use mailbraid::maildir::{HashKind, Oid};
use mailbraid::store::{Backing, LiveView, OpenOptions, Store};

use crate::support::mounted::{folder, free, git};

/// A store and its mount.
pub struct Node {
    pub name: &'static str,
    pub store: Arc<Store>,
    pub fs: Arc<Fs>,
    serving: Option<JoinHandle<io::Result<()>>>,
    dir: PathBuf,
}

impl Node {
    /// Opens, or makes, the store of that name below `above` and mounts it.
    pub fn start(name: &'static str, above: &Path) -> Self {
        Self::start_for(name, above, (0, 0))
    }

    /// The same with an owner, whom the mount lets in.
    pub fn start_for(name: &'static str, above: &Path, (uid, gid): (u32, u32)) -> Self {
        let dir = above.join(name);
        let (at, root) = (dir.join("store"), dir.join("mnt"));
        fs::create_dir_all(&root).unwrap();
        let options = OpenOptions {
            create: Some(InitOptions {
                kind: HashKind::Sha1,
                node: name.to_owned(),
            }),
            ..OpenOptions::default()
        };
        let store = Store::open(&at, &options).unwrap();
        let backing = Arc::clone(&store) as Arc<dyn Backing>;
        let options = FsOptions {
            uid,
            gid,
            umask: 0o077,
            read_only: false,
            durability: Durability::Delivery,
            assign_uids: true,
        };
        let fs = Fs::new(backing, options).unwrap();
        store.attach(Arc::clone(&fs) as Arc<dyn LiveView>);
        let config = MountConfig {
            source: at,
            allow_other: uid != 0,
            read_only: false,
            threads: 2,
            kernel: Vec::new(),
        };
        let mut mounted = fuse::mount(&fs, &root, &config).unwrap();
        let serving = thread::spawn(move || mounted.serve());
        Self {
            name,
            store,
            fs,
            serving: Some(serving),
            dir,
        }
    }

    /// A path below the mount point.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.join("mnt").join(path)
    }

    /// A folder, made if it is not there.
    pub fn folder(&self, path: &str) -> PathBuf {
        let at = self.at(path);
        folder(&at);
        at
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.join("store/repo.git")
    }

    /// The head with all that was acknowledged.
    pub fn head(&self) -> Option<Oid> {
        self.fs.commit_rested(true);
        self.store.flush().unwrap();
        self.store.repo().head().unwrap()
    }

    /// Fetches another node's head and offers it.
    pub fn fetch(&self, from: &Node) {
        let Some(_) = from.head() else { return };
        let peer = format!("refs/mailbraid/peers/{}", from.name);
        let spec = format!("+refs/heads/mail:{peer}");
        let path = from.repo();
        let path = path.to_str().unwrap();
        git(&self.repo(), &["fetch", "-q", "--no-auto-gc", path, &spec]);
        let head = self.store.repo().find_ref(&peer).unwrap().unwrap();
        self.store.offer(from.name, head);
    }

    /// Every message and file below a directory of the mount: path and content.
    pub fn files(&self, below: &str) -> Vec<(String, Vec<u8>)> {
        fn list(dir: &Path, root: &Path, found: &mut Vec<(String, Vec<u8>)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    list(&path, root, found);
                } else {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                    found.push((name.to_owned(), fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        let root = self.at("");
        list(&self.at(below), &root, &mut found);
        found.sort();
        found
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        free(&self.at(""));
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
        self.store.stop();
    }
}

/// Exchanges heads, everybody's with everybody, until all are one.
#[track_caller]
pub fn converge(nodes: &[&Node]) -> Oid {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for to in nodes {
            for from in nodes {
                if to.name != from.name {
                    to.fetch(from);
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
        let heads: Vec<Option<Oid>> = nodes.iter().map(|node| node.head()).collect();
        if let Some(head) = heads[0]
            && heads.iter().all(|other| *other == Some(head))
        {
            return head;
        }
        assert!(Instant::now() < deadline, "the nodes hold {heads:?}");
    }
}

/// The kernel is told by a thread of its own, a moment after the live tree has changed.
#[track_caller]
pub fn soon(what: &str, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < deadline, "{what} is not seen");
        thread::sleep(Duration::from_millis(1));
    }
}
