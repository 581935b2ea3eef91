//! Mounted nodes that exchange, on one machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::mounted::{Mounted, mailbraid, mailbraid_ok};

/// Longest wait for anything: these tests share a machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A mounted node.
pub struct Node {
    pub name: &'static str,
    pub mounted: Mounted,
}

impl Node {
    pub fn new(name: &'static str) -> Self {
        let mounted = Mounted::node(name);
        Self { name, mounted }
    }

    pub fn store(&self) -> &str {
        self.mounted.store().to_str().unwrap()
    }

    pub fn repo(&self) -> std::path::PathBuf {
        self.mounted.store().join("repo.git")
    }

    /// Exchanges with `other` from now on.
    pub fn add(&self, other: &Self) {
        self.add_url(other.name, other.store());
    }

    pub fn add_url(&self, name: &str, url: &str) {
        mailbraid_ok(&["peer", "add", self.store(), name, url]);
    }

    pub fn config(&self, key: &str, value: &str) {
        self.mounted.git(&["config", key, value]);
    }

    /// The head's id; empty before the first commit.
    pub fn head(&self) -> String {
        let status = self.mounted.status();
        status["head"].as_str().unwrap_or_default().to_owned()
    }

    /// What `status` says of a peer.
    pub fn peer(&self, name: &str) -> serde_json::Value {
        let status = self.mounted.status();
        let peers = status["peers"].as_array().expect("a list of peers");
        peers
            .iter()
            .find(|peer| peer["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// `flush --peers`: whether it succeeded, and what it said.
    pub fn flush_peers(&self) -> (bool, String) {
        let out = mailbraid(&["flush", self.store(), "--peers"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.success(), said)
    }

    /// All messages of a Maildir below the mount: file name → content.
    pub fn messages(&self, maildir: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for sub in ["new", "cur"] {
            let dir = self.mounted.at(maildir).join(sub);
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                // A message may be taken into `cur` while it is listed.
                if let Ok(content) = fs::read(&path) {
                    found.insert(name, content);
                }
            }
        }
        found
    }
}

/// Waits until it is true.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until all nodes rest at one commit, and returns it.
pub fn converged(nodes: &[&Node]) -> String {
    for node in nodes {
        node.mounted.flush();
    }
    let began = Instant::now();
    let heads = || -> Vec<String> { nodes.iter().map(|node| node.head()).collect() };
    let one = |heads: &[String]| !heads[0].is_empty() && heads.iter().all(|head| *head == heads[0]);
    let mut last = heads();
    loop {
        if one(&last) {
            // Rest, not a moment of agreement.
            std::thread::sleep(Duration::from_millis(200));
            let again = heads();
            if again == last {
                println!("one commit id after {:?}", began.elapsed());
                return again[0].clone();
            }
        }
        if began.elapsed() > PATIENCE {
            for node in nodes {
                println!(
                    "{}: {}\n{}",
                    node.name,
                    node.mounted.status(),
                    node.mounted.said()
                );
            }
            panic!("no one commit id within {PATIENCE:?}: {last:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
        last = heads();
    }
}

/// A bare repository that no daemon serves.
pub fn bare(path: &Path) {
    fs::create_dir_all(path).unwrap();
    crate::support::mounted::git(path, &["init", "-q", "--bare", "."]);
}
