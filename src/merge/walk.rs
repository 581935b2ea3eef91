//! Walks one directory in three trees side by side: the base and two sides. Equal nodes are not read, so the cost follows the difference.
//!
//! Where one tree has split a node and another has not, all names below it are listed: a few leaves at most, or what was added or
//! removed anyway.

use std::cmp::Ordering;
use std::sync::Arc;

use super::source::{MergeError, Node, RawEntry, Trees};
use crate::maildir::Oid;

/// Deepest node of a trie: 16⁸ names are more than any directory holds. Guards against trees that are made to hurt.
const MAX_DEPTH: usize = 8;

/// How a directory differs on two sides from its base.
#[derive(Default, Debug)]
pub(super) struct Difference {
    /// Entries of the base that are not the same on a side.
    pub(super) removed: [Vec<RawEntry>; 2],
    /// Entries of a side that are not the same in the base.
    pub(super) added: [Vec<RawEntry>; 2],
    /// All entries of the base; filled only if everything was asked for.
    pub(super) all: Vec<RawEntry>,
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
    while let Some((base, sides, depth)) = todo.pop() {
        if sides == [base; 2] && !whole {
            continue;
        }
        let load = |oid: Option<Oid>| oid.map(|oid| trees.node(oid)).transpose();
        let base_node = load(base).map_err(MergeError::Source)?;
        let mut side_nodes = [None, None];
        for at in 0..2 {
            side_nodes[at] = if sides[at] == base {
                base_node.clone()
            } else if at == 1 && sides[1] == sides[0] {
                side_nodes[0].clone()
            } else {
                load(sides[at]).map_err(MergeError::Source)?
            };
        }
        let is_leaf = |node: &Option<Arc<Node>>| match node.as_deref() {
            Some(Node::Leaf { .. }) => true,
            Some(Node::Split { .. }) | None => false,
        };
        if is_leaf(&base_node) || side_nodes.iter().any(is_leaf) {
            let base_names = names(trees, base, base_node.as_ref(), depth)?;
            for at in 0..2 {
                if sides[at] == base {
                    continue;
                }
                let side_names = names(trees, sides[at], side_nodes[at].as_ref(), depth)?;
                compare(
                    &base_names,
                    &side_names,
                    &mut found.removed[at],
                    &mut found.added[at],
                );
            }
            if whole {
                found.all.extend(base_names);
            }
            continue;
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
    }
    Ok(found)
}

/// All entries of a directory.
pub(super) fn list<T: Trees>(trees: &T, dir: Oid) -> Result<Vec<RawEntry>, MergeError<T::Error>> {
    let node = trees.node(dir).map_err(MergeError::Source)?;
    names(trees, Some(dir), Some(&node), 0)
}

/// All entries below a node, sorted.
fn names<T: Trees>(
    trees: &T,
    oid: Option<Oid>,
    node: Option<&Arc<Node>>,
    depth: usize,
) -> Result<Vec<RawEntry>, MergeError<T::Error>> {
    let mut found = Vec::new();
    let mut todo = Vec::new();
    if let (Some(oid), Some(node)) = (oid, node) {
        todo.push((oid, Arc::clone(node), depth));
    }
    while let Some((oid, node, depth)) = todo.pop() {
        match &*node {
            Node::Leaf { entries, .. } => found.extend_from_slice(entries),
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
    found.sort_unstable();
    Ok(found)
}

/// Splits two sorted lists into what only one of them has.
fn compare(
    base: &[RawEntry],
    side: &[RawEntry],
    removed: &mut Vec<RawEntry>,
    added: &mut Vec<RawEntry>,
) {
    let (mut old, mut new) = (base.iter().peekable(), side.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => match a.cmp(b) {
                Ordering::Equal => {
                    old.next();
                    new.next();
                }
                Ordering::Less => removed.extend(old.next().cloned()),
                Ordering::Greater => added.extend(new.next().cloned()),
            },
            (Some(_), None) => removed.extend(old.next().cloned()),
            (None, Some(_)) => added.extend(new.next().cloned()),
            (None, None) => return,
        }
    }
}
