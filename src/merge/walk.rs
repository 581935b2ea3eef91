//! Walks one directory in three trees side by side: the base and two sides. Equal nodes are not read, so the cost follows the difference.
//!
//! Where one tree has split a node and another has not, all names below it are listed: a few leaves at most, or what was added or
//! removed anyway.

use std::cmp::Ordering;
use std::sync::Arc;

use super::source::{EntryRef, MergeError, Node, RawEntry, Trees};
use crate::maildir::Oid;

/// Deepest node of a trie: 16⁸ names are more than any directory holds. Guards against trees that are made to hurt.
const MAX_DEPTH: usize = 8;

/// Nodes of the three trees that are read at once, where there are so many: what a source needs to keep some threads busy, and no more than memory has room for.
const BATCH: usize = 1024;

/// How a directory differs on two sides from its base.
#[derive(Default, Debug)]
pub(super) struct Difference {
    /// Entries of the base that are not the same on a side, and on which they are not; all of the base if everything was asked for.
    pub(super) base: Vec<(RawEntry, [bool; 2])>,
    /// Entries of a side that are not the same in the base.
    pub(super) added: [Vec<RawEntry>; 2],
}

impl Difference {
    /// Entries of the base that are not the same on a side.
    pub(super) fn removed(&self, side: usize) -> impl Iterator<Item = &RawEntry> {
        let gone = self.base.iter().filter(move |(_, missing)| missing[side]);
        gone.map(|(entry, _)| entry)
    }
}

/// Compares a directory; `None` where a tree does not have it. With `whole`, equal nodes are read too.
pub(super) fn difference<T: Trees>(
    trees: &T,
    base: Option<Oid>,
    sides: [Option<Oid>; 2],
    whole: bool,
) -> Result<Difference, MergeError<T::Error>> {
    let mut found = Difference::default();
    let mut todo = vec![(base, sides, 0)];
    while !todo.is_empty() {
        let batch = todo.split_off(todo.len().saturating_sub(BATCH));
        let batch: Vec<Triple> = batch
            .into_iter()
            .rev()
            .filter(|(base, sides, _)| whole || *sides != [*base; 2])
            .collect();
        let wanted = batch
            .iter()
            .flat_map(|(base, sides, _)| distinct(*base, *sides));
        let wanted: Vec<Oid> = wanted.flatten().collect();
        let mut nodes = trees
            .nodes(&wanted)
            .map_err(MergeError::Source)?
            .into_iter();
        for triple in batch {
            let read = distinct(triple.0, triple.1).map(|oid| oid.and_then(|_| nodes.next()));
            found.add(trees, triple, read, whole, &mut todo)?;
        }
    }
    Ok(found)
}

/// A node in the base and on both sides, and its depth.
type Triple = (Option<Oid>, [Option<Oid>; 2], usize);

/// What is to be read of a triple: equal nodes once.
fn distinct(base: Option<Oid>, sides: [Option<Oid>; 2]) -> [Option<Oid>; 3] {
    let [left, right] = sides;
    [
        base,
        left.filter(|_| left != base),
        right.filter(|_| right != base && right != left),
    ]
}

impl Difference {
    /// Compares one node; `read` are its [`distinct`] ones. What lies below goes to `todo`.
    fn add<T: Trees>(
        &mut self,
        trees: &T,
        (base, sides, depth): Triple,
        read: [Option<Arc<Node>>; 3],
        whole: bool,
        todo: &mut Vec<Triple>,
    ) -> Result<(), MergeError<T::Error>> {
        let [base_node, left, right] = read;
        let same = |side: usize, own: Option<Arc<Node>>, other: &Option<Arc<Node>>| {
            if sides[side] == base {
                return base_node.clone();
            }
            sides[side].and_then(|_| own.or_else(|| other.clone()))
        };
        let left = same(0, left, &None);
        let right = same(1, right, &left);
        let side_nodes = [left, right];
        let is_leaf = |node: &Option<Arc<Node>>| match node.as_deref() {
            Some(Node::Leaf { .. }) => true,
            Some(Node::Split { .. }) | None => false,
        };
        if is_leaf(&base_node) || side_nodes.iter().any(is_leaf) {
            let base_leaves = leaves(trees, base, base_node.as_ref(), depth)?;
            let base_names = names(&base_leaves);
            let mut missing = vec![[false; 2]; base_names.len()];
            for at in 0..2 {
                if sides[at] == base {
                    continue;
                }
                let side_leaves = leaves(trees, sides[at], side_nodes[at].as_ref(), depth)?;
                compare(
                    &base_names,
                    &names(&side_leaves),
                    |gone| missing[gone][at] = true,
                    &mut self.added[at],
                );
            }
            for (&entry, missing) in base_names.iter().zip(missing) {
                if whole || missing != [false; 2] {
                    self.base.push((entry.into(), missing));
                }
            }
            return Ok(());
        }
        if depth == MAX_DEPTH
            && let Some(oid) = base.or(sides[0]).or(sides[1])
        {
            return Err(MergeError::Depth(oid));
        }
        let branch = |node: &Option<Arc<Node>>, digit: usize| match node.as_deref() {
            Some(Node::Split { branches, .. }) => branches[digit],
            _ => None,
        };
        for digit in (0..16).rev() {
            let below = [branch(&side_nodes[0], digit), branch(&side_nodes[1], digit)];
            let base_below = branch(&base_node, digit);
            if base_below.is_some() || below != [None; 2] {
                todo.push((base_below, below, depth + 1));
            }
        }
        Ok(())
    }
}

/// All entries of a directory.
pub(super) fn list<T: Trees>(trees: &T, dir: Oid) -> Result<Vec<RawEntry>, MergeError<T::Error>> {
    let node = trees.node(dir).map_err(MergeError::Source)?;
    let leaves = leaves(trees, Some(dir), Some(&node), 0)?;
    Ok(names(&leaves).into_iter().map(RawEntry::from).collect())
}

/// The leaves below a node, itself if it is one.
fn leaves<T: Trees>(
    trees: &T,
    oid: Option<Oid>,
    node: Option<&Arc<Node>>,
    depth: usize,
) -> Result<Vec<Arc<Node>>, MergeError<T::Error>> {
    let mut found = Vec::new();
    let mut todo = Vec::new();
    if let (Some(oid), Some(node)) = (oid, node) {
        todo.push((oid, Arc::clone(node), depth));
    }
    while let Some((oid, node, depth)) = todo.pop() {
        match &*node {
            Node::Leaf { .. } => found.push(node),
            Node::Split { branches, .. } => {
                if depth == MAX_DEPTH {
                    return Err(MergeError::Depth(oid));
                }
                for &below in branches.iter().flatten() {
                    let node = trees.node(below).map_err(MergeError::Source)?;
                    todo.push((below, node, depth + 1));
                }
            }
        }
    }
    Ok(found)
}

/// All entries of leaves, sorted.
fn names(leaves: &[Arc<Node>]) -> Vec<EntryRef<'_>> {
    let mut found = Vec::new();
    for leaf in leaves {
        if let Node::Leaf { entries, .. } = &**leaf {
            found.extend(entries.iter());
        }
    }
    found.sort_unstable();
    found
}

/// Splits two sorted lists into what only one of them has: places in `base`, and entries of `side`.
fn compare(
    base: &[EntryRef<'_>],
    side: &[EntryRef<'_>],
    mut removed: impl FnMut(usize),
    added: &mut Vec<RawEntry>,
) {
    let (mut old, mut new) = (0, 0);
    loop {
        let order = match (base.get(old), side.get(new)) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        match order {
            Ordering::Equal => (old, new) = (old + 1, new + 1),
            Ordering::Less => {
                removed(old);
                old += 1;
            }
            Ordering::Greater => {
                added.push(side[new].into());
                new += 1;
            }
        }
    }
}
