//! The repository as the merge sees it: commits by the graph, trees by a weaver that builds new ones beside the head.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::history::{Graph, HistoryError, RawNode, Repo, Weaver};
use crate::maildir::{Oid, Op, hidden, mailbox};
use crate::merge::rest::Lines;
use crate::merge::{Entries, Node, Place, Trees, World};

/// Nodes that are kept read: a merge comes back to the same ones for its base and both sides.
const NODES_KEPT: usize = 20_000;

/// One braid's world.
pub struct BraidWorld<'a> {
    graph: &'a Graph,
    /// What it builds.
    pub weaver: Weaver,
    repo: &'a Repo,
    nodes: RefCell<HashMap<Oid, Arc<Node>>>,
    nexts: RefCell<HashMap<Oid, Nexts>>,
}

/// Greatest UIDNEXT by UIDVALIDITY.
type Nexts = Arc<BTreeMap<u32, u32>>;

impl<'a> BraidWorld<'a> {
    /// On a repository whose writer has nothing pending.
    ///
    /// # Errors
    /// Where the head cannot be read.
    pub fn new(repo: &'a Repo, graph: &'a Graph) -> Result<Self, HistoryError> {
        Ok(Self {
            graph,
            weaver: Weaver::new(repo)?,
            repo,
            nodes: RefCell::default(),
            nexts: RefCell::default(),
        })
    }

    /// Trees and blobs that were read from the repository so far.
    #[must_use]
    pub fn objects_read(&self) -> usize {
        self.weaver.objects_read()
    }

    fn keep(&self, tree: Oid, node: RawNode) -> Arc<Node> {
        let node = Arc::new(match node {
            RawNode::Leaf {
                mailbox,
                raw,
                entries,
            } => {
                // In the same memory: both are of one size.
                let places = entries.into_iter().map(|place| Place {
                    start: place.start,
                    end: place.end,
                    name_len: place.name_len,
                    dir: place.dir,
                });
                let entries = Entries::new(raw, places.collect());
                Node::Leaf { mailbox, entries }
            }
            RawNode::Split { mailbox, branches } => Node::Split { mailbox, branches },
        });
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() >= NODES_KEPT {
            nodes.clear();
        }
        nodes.insert(tree, Arc::clone(&node));
        node
    }

    /// UIDNEXT of all folders in a directory, itself too.
    fn nexts(&self, tree: Oid) -> Result<Nexts, HistoryError> {
        if let Some(known) = self.nexts.borrow().get(&tree) {
            return Ok(Arc::clone(known));
        }
        let mut found = BTreeMap::new();
        let mut add = |validity: u32, next: u32| {
            let known = found.entry(validity).or_insert(next);
            *known = (*known).max(next);
        };
        let top = self.node(tree)?;
        if let Some(oid) = top.mailbox() {
            let facts = mailbox::decode(&self.blob(oid)?)
                .map_err(|bad| HistoryError::corrupt(oid, bad.to_string()))?;
            add(facts.uid_validity, facts.uid_next);
        }
        let mut todo = vec![top];
        while let Some(node) = todo.pop() {
            match &*node {
                Node::Split { branches, .. } => {
                    for &branch in branches.iter().flatten() {
                        todo.push(self.node(branch)?);
                    }
                }
                Node::Leaf { entries, .. } => {
                    for entry in entries.iter().filter(|entry| entry.dir) {
                        let name = hidden::decode_plain(entry.name())
                            .map_err(|bad| HistoryError::corrupt(tree, bad.to_string()))?;
                        // Messages, not folders: as many as may be.
                        if matches!(name.as_slice(), b"cur" | b"new" | b"tmp") {
                            continue;
                        }
                        for (&validity, &next) in &*self.nexts(entry.oid())? {
                            add(validity, next);
                        }
                    }
                }
            }
        }
        let found = Arc::new(found);
        self.nexts.borrow_mut().insert(tree, Arc::clone(&found));
        Ok(found)
    }
}

impl Trees for BraidWorld<'_> {
    type Error = HistoryError;

    fn node(&self, tree: Oid) -> Result<Arc<Node>, HistoryError> {
        if let Some(known) = self.nodes.borrow().get(&tree) {
            return Ok(Arc::clone(known));
        }
        let node = self.weaver.node(tree)?;
        Ok(self.keep(tree, node))
    }

    fn nodes(&self, trees: &[Oid]) -> Result<Vec<Arc<Node>>, HistoryError> {
        let known: Vec<Option<Arc<Node>>> = {
            let nodes = self.nodes.borrow();
            trees.iter().map(|tree| nodes.get(tree).cloned()).collect()
        };
        // The same tree may be met at two places.
        let mut missing = Vec::new();
        let mut at: HashMap<Oid, usize> = HashMap::new();
        for (&tree, _) in trees.iter().zip(&known).filter(|(_, node)| node.is_none()) {
            at.entry(tree).or_insert_with(|| {
                missing.push(tree);
                missing.len() - 1
            });
        }
        let read = missing.iter().zip(self.weaver.nodes(&missing)?);
        let read: Vec<Arc<Node>> = read.map(|(&tree, node)| self.keep(tree, node)).collect();
        let all = trees.iter().zip(known);
        Ok(all
            .map(|(tree, known)| known.unwrap_or_else(|| Arc::clone(&read[at[tree]])))
            .collect())
    }

    fn blob(&self, blob: Oid) -> Result<Vec<u8>, HistoryError> {
        self.weaver.blob(blob)
    }

    fn hash(&self, content: &[u8]) -> Oid {
        crate::history::hash_blob(self.repo.kind(), content)
    }
}

impl World for BraidWorld<'_> {
    fn tree(&self, commit: Oid) -> Result<Oid, HistoryError> {
        self.graph.tree(commit)
    }

    fn time(&self, commit: Oid) -> Result<i64, HistoryError> {
        self.graph.time(commit)
    }

    fn merge_bases(&self, left: &[Oid], right: &[Oid]) -> Result<Vec<Oid>, HistoryError> {
        self.graph.merge_bases(left, right)
    }

    fn uid_next_before(
        &self,
        heads: &[Oid],
        bases: &[Oid],
        validity: u32,
    ) -> Result<Option<u32>, HistoryError> {
        let mut found = None;
        for commit in self.graph.between(heads, bases)? {
            let nexts = self.nexts(self.graph.tree(commit)?)?;
            found = found.max(nexts.get(&validity).copied());
        }
        Ok(found)
    }

    fn build(&mut self, on: Option<Oid>, ops: &[Op]) -> Result<Oid, HistoryError> {
        self.weaver.build(on, ops)
    }
}

/// The graph as the rule of rest sees it.
pub struct GraphLines<'a>(pub &'a Graph);

impl Lines for GraphLines<'_> {
    type Error = HistoryError;

    fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, HistoryError> {
        self.0.is_ancestor(commit, of)
    }

    fn has_news(&self, head: Oid, own: Oid) -> Result<bool, HistoryError> {
        self.0.has_news(head, own)
    }
}
