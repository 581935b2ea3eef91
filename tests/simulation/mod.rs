//! Two to seven nodes, deliveries, servers and a network that fails, from a seed.
//!
//! What may happen: links are cut and healed in any pattern, in one direction too; exchanges are late, repeated and lost; nodes are
//! killed and lose what was not durable; clocks are wrong by minutes; histories begin apart. What may not: a node whose acknowledged, durable operations are
//! gone; and two folders of one UIDVALIDITY, made by two nodes in the same second, of which one is renamed or deleted afterwards (no
//! tree remembers that there were two, should they come to one name).
//!
//! What must hold: at every step, for a client on each node, RFC 9051 §2.3.1.1 ([`client`]). When operations stop and links heal, on
//! any strongly connected graph of links, all nodes have *the same commit* after (n + 1)·D rounds (`merge::rest`). Then no message is lost that nobody removed, and none is back that somebody
//! removed (unless it was moved, copied or undeleted). A folder that was renamed before everybody knew its GUID counts as mail that was moved, for nobody can
//! know better.
//!
//! `MAILBRAID_SEED=n` runs one seed; `MAILBRAID_SEEDS=n` as many from 1 on instead of the usual number.

pub mod client;
pub mod node;
pub mod random;
pub mod server;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mailbraid::maildir::{Oid, TreePath};

use self::node::Node;
use self::random::Random;
use self::server::{Ledger, Server};
use crate::merge_laws::world::Memory;

/// Seeds of one run of the tests: about two minutes on two processors.
const SEEDS: u64 = 20_000;

/// Faults after which a run gives up.
const FAULTS: usize = 20;

/// Heads on their way.
struct Letter {
    at: i64,
    to: usize,
    heads: BTreeMap<String, Oid>,
}

struct Simulation {
    random: Random,
    memory: Memory,
    ledger: Ledger,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    /// Seconds.
    now: i64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(6);
        let skewed = random.one_in(3);
        let nodes = (0..count).map(|at| {
            let skew = if skewed { random.below(600) as i64 } else { 0 };
            Node::new(format!("n{at}"), skew)
        });
        let nodes = nodes.collect();
        Self {
            random,
            memory: Memory::default(),
            ledger: Ledger::default(),
            nodes,
            letters: Vec::new(),
            now: 1_700_000_000,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.begin()?;
        let epochs = 1 + self.random.below(3);
        for _ in 0..epochs {
            self.unrest()?;
            self.heal()?;
            self.check_ledger()?;
        }
        Ok(())
    }

    /// Histories begin together, or apart, or not yet.
    fn begin(&mut self) -> Result<(), String> {
        let together = !self.random.one_in(4);
        for at in 0..self.nodes.len() {
            if at == 0 || (!together && self.random.one_in(2)) {
                for _ in 0..8 {
                    self.operate(at)?;
                }
                self.nodes[at].commit(&mut self.memory, self.now);
            } else if together {
                let heads = self.nodes[0].heads();
                self.nodes[at].hear(&self.memory, &heads);
                self.act(at)?;
            }
        }
        Ok(())
    }

    fn operate(&mut self, at: usize) -> Result<(), String> {
        let mut server = Server {
            memory: &mut self.memory,
            ledger: &mut self.ledger,
            random: &mut self.random,
            node: &mut self.nodes[at],
            index: at,
            now: self.now,
        };
        server.act();
        let node = &mut self.nodes[at];
        let live = Rc::clone(&node.live);
        node.client
            .look(&live)
            .map_err(|fault| format!("{}: after an operation: {fault}", node.name))
    }

    fn act(&mut self, at: usize) -> Result<(), String> {
        let jitter = self.random.next() as u32;
        let now = Duration::from_secs(self.now as u64);
        let node = &mut self.nodes[at];
        node.act(&mut self.memory, now, self.now, jitter)
            .map_err(|fault| format!("{}: after a braid: {fault}", node.name))?;
        self.ledger.hear(node);
        Ok(())
    }

    /// Operations while links come and go.
    fn unrest(&mut self) -> Result<(), String> {
        let count = self.nodes.len();
        let mut up = vec![vec![true; count]; count];
        let steps = 20 + self.random.below(60);
        for _ in 0..steps {
            self.now += self.random.below(4) as i64;
            let at = self.random.below(count);
            match self.random.below(12) {
                0 => {
                    // Another partition: none, any links, or groups.
                    let kind = self.random.below(3);
                    let group: Vec<usize> = (0..count).map(|_| self.random.below(2)).collect();
                    for (from, row) in up.iter_mut().enumerate() {
                        for (to, link) in row.iter_mut().enumerate() {
                            *link = match kind {
                                0 => true,
                                1 => group[from] == group[to],
                                _ => self.random.one_in(3),
                            };
                        }
                    }
                }
                1 if self.random.one_in(4) => self.nodes[at].restart(),
                1..4 => {
                    let to = self.random.below(count);
                    if up[at][to] && to != at {
                        self.send(at, to);
                    }
                }
                4 => self.nodes[at].commit(&mut self.memory, self.now),
                _ => self.operate(at)?,
            }
            self.deliver_letters()?;
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize) {
        let node = &mut self.nodes[from];
        node.commit(&mut self.memory, self.now);
        let heads = node.heads();
        for _ in 0..[0, 1, 1, 1, 1, 2][self.random.below(6)] {
            let at = self.now + self.random.below(12) as i64;
            let heads = heads.clone();
            self.letters.push(Letter { at, to, heads });
        }
    }

    fn deliver_letters(&mut self) -> Result<(), String> {
        let due = |letter: &mut Letter| letter.at <= self.now;
        let due: Vec<Letter> = self.letters.extract_if(.., due).collect();
        for letter in due {
            self.nodes[letter.to].hear(&self.memory, &letter.heads);
            if !self.random.one_in(4) {
                self.act(letter.to)?;
            }
        }
        Ok(())
    }

    /// No more operations; a strongly connected graph of links. All must come to one commit in time.
    fn heal(&mut self) -> Result<(), String> {
        let count = self.nodes.len();
        let links = self.links();
        let bound = (count + 1) * diameter(count, &links);
        for at in 0..count {
            // A store without a head has nothing to tell, but it must have one in the end.
            self.act(at)?;
        }
        let mut rounds = 0;
        while !self.is_at_rest() {
            if rounds == bound {
                return Err(format!(
                    "{count} nodes are not at rest after {bound} rounds over {links:?}"
                ));
            }
            rounds += 1;
            self.deliver_letters()?;
            let heads: Vec<_> = self.nodes.iter().map(Node::heads).collect();
            for &(from, to) in &links {
                self.nodes[to].hear(&self.memory, &heads[from]);
            }
            for at in 0..count {
                self.act(at)?;
            }
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        let head = self.nodes[0].head;
        head.is_some() && self.nodes.iter().all(|node| node.head == head)
    }

    /// All to all, a line, a star, a ring in one direction, or a ring with chords.
    fn links(&mut self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, self.random.below(at + 1));
        }
        let mut links = Vec::new();
        let mut both =
            |a: usize, b: usize| links.extend([(order[a], order[b]), (order[b], order[a])]);
        match self.random.below(5) {
            0 => (0..count).for_each(|a| (0..a).for_each(|b| both(a, b))),
            1 => (1..count).for_each(|a| both(a - 1, a)),
            2 => (1..count).for_each(|a| both(0, a)),
            kind => {
                links.extend((0..count).map(|a| (order[a], order[(a + 1) % count])));
                if kind == 4 {
                    let chord = (self.random.below(count), self.random.below(count));
                    links.extend((chord.0 != chord.1).then_some(chord));
                }
            }
        }
        links
    }

    fn check_ledger(&self) -> Result<(), String> {
        let live = &self.nodes[0].live;
        for node in &self.nodes {
            if node.live != *live {
                return Err(format!("{} shows another tree than its head", node.name));
            }
        }
        let mut there: BTreeMap<Oid, Vec<TreePath>> = BTreeMap::new();
        let mut folders = Vec::new();
        client::list(live, &TreePath::root(), &mut folders);
        for (path, dir) in folders {
            for part in ["cur", "new"] {
                for (oid, _) in dir.dirs[part.as_bytes()].files.values() {
                    there.entry(*oid).or_default().push(path.clone());
                }
            }
        }
        for (oid, fate) in &self.ledger.fates {
            let places = there.get(oid);
            let content = String::from_utf8_lossy(&self.memory.content(*oid)).into_owned();
            if places.is_none() && fate.removed.is_empty() {
                return Err(format!("{content} is lost, and nobody removed it"));
            }
            if let Some(places) = places
                && !fate.removed.is_empty()
                && !fate.spread
            {
                return Err(format!(
                    "{content} was removed from {:?} and is in {places:?}",
                    fate.removed
                ));
            }
        }
        Ok(())
    }
}

/// The most links between two nodes.
fn diameter(count: usize, links: &[(usize, usize)]) -> usize {
    let mut most = 0;
    for start in 0..count {
        let mut known = vec![false; count];
        known[start] = true;
        let mut steps = 0;
        while known.contains(&false) {
            let now = known.clone();
            for &(from, to) in links {
                known[to] |= now[from];
            }
            steps += 1;
            assert!(steps <= count, "the links do not connect all nodes");
        }
        most = most.max(steps);
    }
    most
}

/// Runs one seed; the fault, if any.
fn run(seed: u64) -> Result<(), String> {
    let run = std::panic::catch_unwind(|| Simulation::new(seed).run());
    run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_default())
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn nodes_come_to_one_commit_and_clients_see_no_law_broken() {
    if let Some(seed) = number("MAILBRAID_SEED") {
        let result = Simulation::new(seed).run();
        assert_eq!(result, Ok(()), "MAILBRAID_SEED={seed}");
        return;
    }
    let seeds = number("MAILBRAID_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(1);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        break;
                    }
                    if let Err(text) = run(seed) {
                        let mut faults = faults.lock().unwrap();
                        faults.push(format!("MAILBRAID_SEED={seed}: {text}"));
                        if faults.len() == FAULTS {
                            next.store(seeds + 1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
