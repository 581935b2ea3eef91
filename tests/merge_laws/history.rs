//! Histories for properties: what servers and braids did on a few nodes, as a list of steps that proptest can shorten.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use mailbraid::maildir::Oid;
use mailbraid::merge::{Braid, World, braid};

use super::world::Memory;
use crate::simulation::node::Node;
use crate::simulation::random::Random;
use crate::simulation::server::{Ledger, Server};

/// Nodes of a history.
const NODES: usize = 4;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// A program does something on a node; what, says the number.
    Act(usize, u64),
    /// A node commits.
    Commit(usize),
    /// A node braids its own head and all these others have now.
    Take(usize, Vec<usize>),
}

/// What is done before the nodes part, and after.
#[derive(Clone, Debug)]
pub struct Plan {
    pub together: Vec<u64>,
    pub apart: Vec<Step>,
}

/// Any plan.
pub fn plans() -> impl Strategy<Value = Plan> {
    let node = 0..NODES;
    let step = prop_oneof![
        12 => (node.clone(), any::<u64>()).prop_map(|(node, what)| Step::Act(node, what)),
        2 => node.clone().prop_map(Step::Commit),
        3 => (node.clone(), vec(node, 1..3)).prop_map(|(node, of)| Step::Take(node, of)),
    ];
    (vec(any::<u64>(), 0..14), vec(step, 0..70))
        .prop_map(|(together, apart)| Plan { together, apart })
}

/// What came of a plan.
pub struct History {
    pub memory: Memory,
    pub ledger: Ledger,
    pub nodes: Vec<Node>,
    /// Every head that a node ever had, in order.
    pub past: Vec<Vec<Oid>>,
    now: i64,
}

impl History {
    /// Carries out a plan.
    pub fn of(plan: &Plan) -> Result<Self, String> {
        let nodes = (0..NODES).map(|at| Node::new(format!("n{at}"), 0));
        let mut history = Self {
            memory: Memory::default(),
            ledger: Ledger::default(),
            nodes: nodes.collect(),
            past: vec![Vec::new(); NODES],
            now: 1_700_000_000,
        };
        for &what in &plan.together {
            history.act(0, what);
        }
        if !plan.together.is_empty() {
            history.commit(0);
            for at in 1..NODES {
                history.take(at, &[0])?;
            }
        }
        for step in &plan.apart {
            match step {
                Step::Act(at, what) => history.act(*at, *what),
                Step::Commit(at) => history.commit(*at),
                Step::Take(at, of) => history.take(*at, of)?,
            }
        }
        for at in 0..NODES {
            history.commit(at);
        }
        Ok(history)
    }

    fn act(&mut self, at: usize, what: u64) {
        self.now += (what % 3) as i64;
        let mut server = Server {
            memory: &mut self.memory,
            ledger: &mut self.ledger,
            random: &mut Random::new(what),
            node: &mut self.nodes[at],
            index: at,
            now: self.now,
        };
        server.act();
    }

    fn commit(&mut self, at: usize) {
        self.nodes[at].commit(&mut self.memory, self.now);
        let head = self.nodes[at].head;
        let past = &mut self.past[at];
        let is_new = head != past.last().copied();
        past.extend(head.filter(|_| is_new));
    }

    fn take(&mut self, at: usize, of: &[usize]) -> Result<(), String> {
        let mut heads = Vec::new();
        for &other in of.iter().chain([&at]) {
            self.commit(other);
            heads.extend(self.nodes[other].head);
        }
        let node = &mut self.nodes[at];
        node.braid(&mut self.memory, &heads)?;
        self.ledger.hear(node);
        self.commit(at);
        Ok(())
    }

    /// A node braids all heads, and the ledger hears of what it took for a move: the merged tree.
    pub fn come_together(&mut self) -> Result<Oid, String> {
        self.take(0, &[1, 2, 3])?;
        let head = self.nodes[0].head.ok_or("a braid, but no head")?;
        Ok(self.tree(head))
    }

    /// The heads of all nodes.
    pub fn heads(&self) -> Vec<Oid> {
        self.nodes.iter().filter_map(|node| node.head).collect()
    }

    /// The braid of all heads.
    pub fn braid(&mut self) -> Braid {
        let heads = self.heads();
        braid(&mut self.memory, &heads)
            .unwrap()
            .expect("there are heads")
    }

    /// Commits a braid; the parent where there is only one.
    pub fn keep(&mut self, braid: &Braid) -> Oid {
        match braid.parents.as_slice() {
            [one] => *one,
            parents => {
                let text = braid.message();
                self.memory
                    .commit(braid.tree, parents, braid.time, text.as_bytes())
            }
        }
    }

    /// Where each message is in a tree, by content.
    pub fn mail(&self, tree: Oid) -> BTreeMap<Oid, Vec<String>> {
        let mut found: BTreeMap<Oid, Vec<String>> = BTreeMap::new();
        for (path, dir) in self.folders(tree) {
            for part in [b"cur", b"new"] {
                for (oid, _) in dir.dirs[part.as_slice()].files.values() {
                    found.entry(*oid).or_default().push(path.to_string());
                }
            }
        }
        found
    }

    /// The folders of a tree.
    pub fn folders(
        &self,
        tree: Oid,
    ) -> BTreeMap<mailbraid::maildir::TreePath, std::rc::Rc<super::world::Dir>> {
        let mut folders = Vec::new();
        let root = self.memory.dir(tree);
        crate::simulation::client::list(&root, &mailbraid::maildir::TreePath::root(), &mut folders);
        folders.into_iter().collect()
    }

    pub fn tree(&self, commit: Oid) -> Oid {
        let Ok(tree) = self.memory.tree(commit);
        tree
    }
}
