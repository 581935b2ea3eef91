//! Which tree is a version of which: found by walking commits, not by searching.
//!
//! Two root trees are walked side by side; wherever a directory or trie node differs, the older version is paired with the younger one.
//! Which root trees:
//!
//! - *Within a pack* that maintenance has not seen yet, every commit's parent with the commit: each version hangs on the next.
//! - *From one pack to the next*, once: the youngest commit of the one with the youngest of the other. So what was the whole version
//!   at the end of a chain hangs on the whole version of the younger pack, and chains grow by one step a merge, not by their lengths.
//!
//! A pack has been seen if its youngest commit's root tree is whole and the others' are not. A pack from the writer or from a peer has it the
//! other way round, the younger versions as deltas of the older: there the old deltas are given up.

use std::collections::{HashMap, HashSet};

use super::sources::{COMMIT, NONE, Number, Sources};
use crate::history::HistoryError;
use crate::history::tree;
use crate::maildir::{HashKind, Oid};

struct Commit {
    number: Number,
    tree: Number,
    /// Parents in the packs; more than two are not asked for.
    parents: [Number; 2],
    time: i64,
    has_child_beside: bool,
}

/// What the walk found.
pub(super) struct Pairs {
    /// Commits, children before parents.
    pub(super) commits: Vec<Number>,
    /// From an object to a younger version of the same.
    younger: HashMap<Number, Number>,
    /// Packs whose deltas lead from young to old and are given up.
    turned: Vec<bool>,
}

impl Pairs {
    /// The younger version to hang the object on.
    pub(super) fn younger(&self, number: Number) -> Option<Number> {
        self.younger.get(&number).copied()
    }

    /// Whether the object's delta, if it is one, is given up.
    pub(super) fn is_turned(&self, sources: &Sources, number: Number) -> bool {
        self.turned[sources.pack_of(number)]
    }

    /// Whether the object is to be paired: it is whole, or its delta is given up.
    fn is_free(&self, sources: &Sources, number: Number) -> bool {
        sources.base(number) == NONE || self.is_turned(sources, number)
    }

    fn pair(&mut self, sources: &Sources, old: Number, new: Number) {
        if old != new && self.is_free(sources, old) {
            self.younger.entry(old).or_insert(new);
        }
    }
}

/// Walks all commits.
pub(super) fn find(sources: &Sources, kind: HashKind) -> Result<Pairs, HistoryError> {
    let mut commits = Vec::new();
    let mut position = HashMap::new();
    for number in 0..sources.count() {
        if sources.kind_of(number) == COMMIT && sources.is_taken(number) {
            position.insert(number, commits.len());
            commits.push(parse(sources, number)?);
        }
    }
    let edges: Vec<(usize, usize)> = (0..commits.len())
        .flat_map(|child| {
            let parents: [Number; 2] = commits[child].parents;
            parents
                .into_iter()
                .filter_map(|parent| Some((*position.get(&parent)?, child)))
                .collect::<Vec<_>>()
        })
        .collect();
    let pack = |at: usize, commits: &[Commit]| sources.pack_of(commits[at].number);
    for (parent, child) in &edges {
        if pack(*parent, &commits) == pack(*child, &commits) {
            commits[*parent].has_child_beside = true;
        }
    }
    let mut youngest: Vec<Option<usize>> = vec![None; sources.packs()];
    for (at, commit) in commits.iter().enumerate() {
        let best = &mut youngest[pack(at, &commits)];
        if !commit.has_child_beside && best.is_none_or(|best| commits[best].time < commit.time) {
            *best = Some(at);
        }
    }
    let is_turned = |tip: &Option<usize>| {
        tip.is_some_and(|tip| {
            let root = commits[tip].tree;
            root != NONE && sources.base(root) != NONE
        })
    };
    let mut pairs = Pairs {
        commits: children_first(&commits, &edges),
        younger: HashMap::new(),
        turned: youngest.iter().map(is_turned).collect(),
    };
    let mut joined = HashSet::new();
    for (parent, child) in edges {
        let (from, to) = (pack(parent, &commits), pack(child, &commits));
        let (old, new) = if from == to {
            // A tree of before that has come back lies in another pack, which may not be among these.
            let tree = commits[parent].tree;
            if tree != NONE && !pairs.is_free(sources, tree) {
                continue;
            }
            (parent, child)
        } else {
            if !joined.insert((from, to)) {
                continue;
            }
            let tip = |pack: usize, instead| youngest[pack].unwrap_or(instead);
            (tip(from, parent), tip(to, child))
        };
        let (old, new) = (&commits[old], &commits[new]);
        pairs.pair(sources, old.number, new.number);
        pair_trees(sources, kind, old.tree, new.tree, &mut pairs)?;
    }
    Ok(pairs)
}

fn parse(sources: &Sources, number: Number) -> Result<Commit, HistoryError> {
    let raw = sources.read(number)?;
    let mut commit = Commit {
        number,
        tree: NONE,
        parents: [NONE; 2],
        time: 0,
        has_child_beside: false,
    };
    let mut parents = 0;
    for line in raw.split(|&byte| byte == b'\n') {
        let find = |hex| Oid::from_hex(hex).and_then(|oid| sources.find(oid));
        if let Some(hex) = line.strip_prefix(b"tree ") {
            commit.tree = find(hex).unwrap_or(NONE);
        } else if let Some(hex) = line.strip_prefix(b"parent ") {
            if parents < 2 {
                commit.parents[parents] = find(hex).unwrap_or(NONE);
            }
            parents += 1;
        } else if line.starts_with(b"committer ") {
            let time = line.rsplit(|&byte| byte == b' ').nth(1);
            commit.time = time
                .and_then(|time| std::str::from_utf8(time).ok()?.parse().ok())
                .unwrap_or(0);
        } else if line.is_empty() {
            break;
        }
    }
    Ok(commit)
}

fn pair_trees(
    sources: &Sources,
    kind: HashKind,
    old: Number,
    new: Number,
    pairs: &mut Pairs,
) -> Result<(), HistoryError> {
    if old == NONE || new == NONE {
        return Ok(());
    }
    let mut todo = vec![(old, new)];
    while let Some((old, new)) = todo.pop() {
        if old == new {
            continue;
        }
        pairs.pair(sources, old, new);
        let (old_raw, new_raw) = (sources.read(old)?, sources.read(new)?);
        let mut olds = tree::entries(&old_raw, kind)
            .map_while(Result::ok)
            .peekable();
        for entry in tree::entries(&new_raw, kind).map_while(Result::ok) {
            while olds
                .next_if(|old| tree::order(old.name, old.dir, entry.name, entry.dir).is_lt())
                .is_some()
            {}
            let Some(same) = olds.next_if(|old| old.name == entry.name && old.dir == entry.dir)
            else {
                continue;
            };
            if entry.dir
                && same.id != entry.id
                && let (Some(old), Some(new)) =
                    (sources.find(same.oid()), sources.find(entry.oid()))
            {
                todo.push((old, new));
            }
        }
    }
    Ok(())
}

fn children_first(commits: &[Commit], edges: &[(usize, usize)]) -> Vec<Number> {
    let mut children = vec![0u32; commits.len()];
    let mut parents = vec![Vec::new(); commits.len()];
    for (parent, child) in edges {
        children[*parent] += 1;
        parents[*child].push(*parent);
    }
    let mut ready: Vec<usize> = (0..commits.len()).filter(|at| children[*at] == 0).collect();
    let mut order = Vec::with_capacity(commits.len());
    while let Some(at) = ready.pop() {
        order.push(commits[at].number);
        for parent in &parents[at] {
            children[*parent] -= 1;
            if children[*parent] == 0 {
                ready.push(*parent);
            }
        }
    }
    order
}
