//! Nodes that are peers.

use std::os::unix::fs::symlink;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::network::Network;
use super::node::{self, Node};
use super::ssh::Keys;

/// One cluster at a time: each wants the processors for itself.
static TURN: Mutex<()> = Mutex::new(());

/// Each with each.
const THREE: [(usize, usize); 3] = [(0, 1), (1, 2), (0, 2)];

/// Convergence that takes longer is described.
const SLOW: Duration = Duration::from_secs(4);

/// Nodes on one network.
pub struct Cluster {
    // Dropped in this order.
    /// The nodes, in the order of their names as given.
    pub nodes: Vec<Node>,
    /// What joins them.
    pub network: Network,
    dir: TempDir,
    /// Where the stores are that are in memory.
    memory: Vec<TempDir>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Machines with sshd, each known to all others; no store yet.
    #[track_caller]
    pub fn machines(names: &[&str]) -> Self {
        Self::joined(names, Network::new, node::temporary())
    }

    /// The same, each with processors of its own, and all but the first with their stores in memory: what they do takes no time from it and none from its disk.
    #[track_caller]
    pub fn machines_apart(names: &[&str]) -> Self {
        let dir = node::temporary();
        let memory = names[1..].iter().map(|name| {
            let memory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
            symlink(memory.path(), dir.path().join(name)).expect("link to it");
            memory
        });
        let memory = memory.collect();
        let network = |names: &[&str]| Network::new(names).with_own_processors();
        let mut cluster = Self::joined(names, network, dir);
        cluster.memory = memory;
        cluster
    }

    #[track_caller]
    fn joined(names: &[&str], network: impl FnOnce(&[&str]) -> Network, dir: TempDir) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(names);
        let keys: Vec<Keys> = names
            .iter()
            .map(|name| Keys::make(&dir.path().join(name).join("ssh")))
            .collect();
        let mut nodes = Vec::new();
        for (at, host) in network.hosts().iter().enumerate() {
            keys[at].write_client(&keys.iter().collect::<Vec<_>>());
            let mut node = Node::new(host, &keys[at], &dir.path().join(&host.name));
            let others: Vec<_> = names
                .iter()
                .zip(&keys)
                .filter(|(name, _)| **name != host.name)
                .map(|(name, keys)| (*name, keys))
                .collect();
            node.start_sshd(&others);
            nodes.push(node);
        }
        Self {
            nodes,
            network,
            dir,
            memory: Vec::new(),
            _turn: turn,
        }
    }

    /// Mounted nodes with Dovecot; `links` says who has whom as a peer, both ways.
    #[track_caller]
    pub fn start(names: &[&str], links: &[(usize, usize)]) -> Self {
        let mut cluster = Self::machines(names);
        for node in &mut cluster.nodes {
            node.init();
            node.mount();
            node.start_dovecot();
        }
        for &(one, other) in links {
            cluster.link(one, other);
            cluster.link(other, one);
        }
        cluster
    }

    /// Three nodes, each the peer of each.
    #[track_caller]
    pub fn three() -> Self {
        Self::start(&["a", "b", "c"], &THREE)
    }

    /// The same with Courier on the second.
    #[track_caller]
    pub fn three_with_courier() -> Self {
        let mut cluster = Self::machines(&["a", "b", "c"]);
        for (at, node) in cluster.nodes.iter_mut().enumerate() {
            node.init();
            node.mount();
            if at != 1 {
                node.start_dovecot();
            }
        }
        for (one, other) in THREE {
            cluster.link(one, other);
            cluster.link(other, one);
        }
        cluster
    }

    /// `from` gets `to` as a peer.
    #[track_caller]
    pub fn link(&self, from: usize, to: usize) {
        let to = &self.nodes[to];
        self.nodes[from].add_peer(to.name(), &to.url());
    }

    /// Waits until all nodes have committed everything and have the same head; how long it took, and the head.
    #[track_caller]
    pub fn converge(&self, patience: Duration) -> (Duration, String) {
        let start = Instant::now();
        for node in &self.nodes {
            node.flush();
        }
        let mut known = vec![None; self.nodes.len()];
        let mut moves = Vec::new();
        loop {
            let heads: Vec<_> = self.nodes.iter().map(Node::head).collect();
            for (at, head) in heads.iter().enumerate() {
                if known[at] != *head {
                    let seconds = start.elapsed().as_secs_f64();
                    let short = head.as_deref().map_or("", |head| &head[..7]);
                    moves.push(format!("{seconds:.2} {} {short}", self.nodes[at].name()));
                    known[at].clone_from(head);
                }
            }
            if let Some(head) = &heads[0]
                && heads.iter().all(|other| other.as_ref() == Some(head))
            {
                if start.elapsed() > SLOW {
                    println!("slow: {}", moves.join(", "));
                }
                return (start.elapsed(), head.clone());
            }
            if start.elapsed() > patience {
                for node in &self.nodes {
                    eprintln!("{} status: {}", node.name(), node.status());
                    eprintln!("{} said:\n{}", node.name(), node.said());
                }
                panic!("no common head in {patience:?}: {heads:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What must hold at every end.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.assert_sound_of(Node::complaints);
    }

    /// The same where servers may complain of some things, which are printed.
    #[track_caller]
    pub fn assert_sound_but(&self, is_known: impl Fn(&str) -> bool) {
        self.assert_sound_of(|node| {
            let (known, unknown): (Vec<String>, Vec<String>) = node
                .complaints()
                .into_iter()
                .partition(|line| is_known(line));
            for line in known {
                println!("allowed: {line}");
            }
            unknown
        });
    }

    #[track_caller]
    fn assert_sound_of(&self, complaints: impl Fn(&Node) -> Vec<String>) {
        let complaints: Vec<String> = self.nodes.iter().flat_map(complaints).collect();
        assert!(
            complaints.is_empty(),
            "complaints:\n{}",
            complaints.join("\n")
        );
        for node in &self.nodes {
            node.assert_sound();
        }
    }

    /// A directory for what belongs to no node.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for Cluster {
    /// With `MAILBRAID_KEEP` set, what a failed test leaves is kept.
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("MAILBRAID_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
            for memory in &mut self.memory {
                memory.disable_cleanup(true);
            }
        }
    }
}
