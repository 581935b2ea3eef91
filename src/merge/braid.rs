//! The braid: the deterministic merge of any number of heads into one commit.
//!
//! Heads that are ancestors of others fall away; the rest is sorted by id and merged one after the other: the first with the second, the result
//! with the third, and so on, each time against the best common ancestors of what is merged so far and of the next head. A common base of all heads would not do: what
//! two of them have in common beyond it would count as news of each, and one that took it back would lose to the other.
//!
//! Several best common ancestors (criss-cross merges) are braided first, by the same rule, into a tree that nobody sees; what they are braided against is found in
//! the same way. Without any, the base is empty.
//!
//! Which tree the operations start from is of no consequence: trees are canonical.

use std::collections::BTreeMap;

use super::commit;
use super::conflict::Conflict;
use super::source::{MergeError, World};
use super::three_way;
use crate::maildir::Oid;

/// A braid: all that its commit says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Braid {
    /// The merged tree.
    pub tree: Oid,
    /// The parents, ascending. Only one where a head has all others as ancestors: then it is the merge, and no commit is needed.
    pub parents: Vec<Oid>,
    /// The committer's time in seconds since the epoch.
    pub time: i64,
    /// What the heads did to the same things.
    pub conflicts: Vec<Conflict>,
}

impl Braid {
    /// The commit's message; author and committer are [`commit::IDENTITY`].
    #[must_use]
    pub fn message(&self) -> String {
        commit::message(&self.parents, &self.conflicts)
    }
}

/// Braids heads; `None` for none.
///
/// # Errors
/// Where an object cannot be read, or is not one that mailbraid writes.
pub fn braid<W: World>(
    world: &mut W,
    heads: &[Oid],
) -> Result<Option<Braid>, MergeError<W::Error>> {
    let parents = independent(world, heads)?;
    let mut time = None;
    for &parent in &parents {
        time = time.max(Some(world.time(parent).map_err(MergeError::Source)?));
    }
    let Some(time) = time else { return Ok(None) };
    let mut conflicts = Vec::new();
    let mut bases = Bases::default();
    let tree = bases.fold(world, &parents, &mut conflicts)?;
    conflicts.sort();
    conflicts.dedup();
    Ok(Some(Braid {
        tree,
        parents,
        time,
        conflicts,
    }))
}

/// The heads that are no ancestors of others, ascending.
///
/// # Errors
/// Where a commit cannot be read.
pub fn independent<W: World>(world: &W, heads: &[Oid]) -> Result<Vec<Oid>, MergeError<W::Error>> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads.dedup();
    let mut kept = Vec::new();
    for &head in &heads {
        let mut is_ancestor = false;
        for &other in heads.iter().filter(|other| **other != head) {
            let bases = world.merge_bases(&[head], &[other]);
            is_ancestor |= bases.map_err(MergeError::Source)? == [head];
        }
        if !is_ancestor {
            kept.push(head);
        }
    }
    Ok(kept)
}

/// Trees of merged bases, by the commits they merge: criss-cross merges ask for the same again and again.
#[derive(Default)]
struct Bases {
    known: BTreeMap<Vec<Oid>, Oid>,
}

impl Bases {
    /// Merges heads one after the other; there is at least one.
    fn fold<W: World>(
        &mut self,
        world: &mut W,
        heads: &[Oid],
        conflicts: &mut Vec<Conflict>,
    ) -> Result<Oid, MergeError<W::Error>> {
        let mut tree = world.tree(heads[0]).map_err(MergeError::Source)?;
        for at in 1..heads.len() {
            let (merged, next) = (&heads[..at], &heads[at..=at]);
            let next_tree = world.tree(heads[at]).map_err(MergeError::Source)?;
            let bases = world
                .merge_bases(merged, next)
                .map_err(MergeError::Source)?;
            let base = self.base(world, bases.clone())?;
            let sides = [tree, next_tree];
            let mut ancestors = Vec::with_capacity(bases.len());
            for &commit in &bases {
                ancestors.push(world.tree(commit).map_err(MergeError::Source)?);
            }
            let merge =
                three_way::merge(&*world, base, &ancestors, sides, &mut |side, validity| {
                    let heads = if side == 0 { merged } else { next };
                    world.uid_next_before(heads, &bases, validity)
                })?;
            conflicts.extend(merge.conflicts);
            tree = world
                .build(Some(sides[merge.side]), &merge.ops)
                .map_err(MergeError::Source)?;
        }
        Ok(tree)
    }

    /// The base where these are the best common ancestors.
    fn base<W: World>(
        &mut self,
        world: &mut W,
        mut ancestors: Vec<Oid>,
    ) -> Result<Option<Oid>, MergeError<W::Error>> {
        ancestors.sort_unstable();
        match ancestors.as_slice() {
            [] => return Ok(None),
            [one] => {
                let tree = world.tree(*one).map_err(MergeError::Source)?;
                return Ok(Some(tree));
            }
            _ => {}
        }
        if let Some(&known) = self.known.get(&ancestors) {
            return Ok(Some(known));
        }
        let tree = self.fold(world, &ancestors, &mut Vec::new())?;
        self.known.insert(ancestors, tree);
        Ok(Some(tree))
    }
}
