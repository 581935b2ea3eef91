//! The merge of files that are no messages: `.dovecot.sieve`, `maildirfolder`, whatever users keep there; and lists of subscriptions, by name.
//!
//! A change on one side is taken. Of two different changes the later mtime stays, then the greater blob id. A file that one side deleted and
//! the other changed stays, unless the directory itself was deleted. Subscriptions: a name is there if either side added it, or neither removed it.

use std::collections::{BTreeMap, BTreeSet};

use super::conflict::Conflict;
use super::entities::{Entity, Id};
use super::messages::merge_attrs;
use super::names::derive;
use super::source::{MergeError, RawEntry, Trees};
use crate::maildir::codec::courier_subscribed::Subscribed;
use crate::maildir::codec::subscriptions::{Subscriptions, Version};
use crate::maildir::{Attrs, Oid, TreePath};

/// A file that differs, in the base and on each side.
#[derive(Clone, Debug)]
pub(super) struct Other {
    pub(super) dir: Id,
    pub(super) name: Vec<u8>,
    pub(super) base: Option<File>,
    pub(super) sides: [Option<File>; 2],
    /// What it is after the merge.
    pub(super) merged: Option<File>,
    /// Whether it keeps a deleted directory alive.
    pub(super) is_new: bool,
}

/// A blob and its attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct File {
    pub(super) oid: Oid,
    pub(super) attrs: Attrs,
    /// The content, where the merge made it.
    pub(super) content: Option<Vec<u8>>,
}

/// A file where it is after the merge.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) path: TreePath,
    pub(super) file: File,
    /// Which of the others it comes from.
    pub(super) other: usize,
}

/// Finds the place of each file. Where a directory has its name, the file gets another; where folders were united, two files may become one.
pub(super) fn place<T: Trees>(
    trees: &T,
    others: &[Other],
    paths: &BTreeMap<Id, TreePath>,
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<Placed>, MergeError<T::Error>> {
    let dirs: BTreeSet<&TreePath> = paths.values().collect();
    let mut placed: BTreeMap<TreePath, Placed> = BTreeMap::new();
    for (at, other) in others.iter().enumerate() {
        let (Some(dir), Some(file)) = (paths.get(&other.dir), &other.merged) else {
            continue;
        };
        let mut path = dir.join(&other.name);
        if dirs.contains(&path) {
            path = dir.join(&derive(&other.name, file.oid));
            conflicts.push(Conflict::FileRenamed { path: path.clone() });
        }
        let file = match placed.get(&path) {
            Some(known) => both(trees, &other.name, None, &known.file, file)?.0,
            None => file.clone(),
        };
        let known = placed.entry(path.clone()).or_insert_with(|| Placed {
            path,
            file: file.clone(),
            other: at,
        });
        known.file = file;
    }
    Ok(placed.into_values().collect())
}

/// Finds and merges all files that differ.
pub(super) fn merge<T: Trees>(
    trees: &T,
    entities: &[Entity],
    conflicts: &mut Vec<(Id, Conflict)>,
) -> Result<Vec<Other>, MergeError<T::Error>> {
    let mut found: BTreeMap<(Id, Vec<u8>), Other> = BTreeMap::new();
    for (dir, entity) in entities.iter().enumerate() {
        if entity.is_container() {
            continue;
        }
        let mut put = |raw: &RawEntry, into: [bool; 3]| -> Result<(), MergeError<T::Error>> {
            let (name, attrs) = raw.file()?;
            let file = File {
                oid: raw.oid,
                attrs,
                content: None,
            };
            let other = found
                .entry((dir, name))
                .or_insert_with_key(|(dir, name)| Other {
                    dir: *dir,
                    name: name.clone(),
                    base: None,
                    sides: [None, None],
                    merged: None,
                    is_new: false,
                });
            let [left, right] = &mut other.sides;
            for (slot, into) in [&mut other.base, left, right].into_iter().zip(into) {
                if into {
                    *slot = Some(file.clone());
                }
            }
            Ok(())
        };
        for (raw, missing) in &entity.files.base {
            put(raw, [true, !missing[0], !missing[1]])?;
        }
        for side in 0..2 {
            for raw in &entity.files.added[side] {
                put(raw, [false, side == 0, side == 1])?;
            }
        }
    }
    let mut others: Vec<Other> = found.into_values().collect();
    for other in &mut others {
        let entity = &entities[other.dir];
        merge_one(trees, entity, other, conflicts)?;
    }
    Ok(others)
}

fn merge_one<T: Trees>(
    trees: &T,
    entity: &Entity,
    other: &mut Other,
    conflicts: &mut Vec<(Id, Conflict)>,
) -> Result<(), MergeError<T::Error>> {
    let is_same = |a: &Option<File>, b: &Option<File>| a == b;
    other.merged = match &other.sides {
        [left, right] if is_same(left, right) || is_same(right, &other.base) => left.clone(),
        [left, right] if is_same(left, &other.base) => right.clone(),
        [Some(left), Some(right)] => {
            let (merged, conflict) = both(trees, &other.name, other.base.as_ref(), left, right)?;
            if conflict {
                let path = TreePath::root().join(&other.name);
                conflicts.push((other.dir, Conflict::FileChangedTwice { path }));
            }
            Some(merged)
        }
        [one, two] => {
            let gone = usize::from(one.is_some());
            if entity.sides[gone].is_none() {
                None
            } else {
                let path = TreePath::root().join(&other.name);
                conflicts.push((other.dir, Conflict::FileChangedAndDeleted { path }));
                one.clone().or_else(|| two.clone())
            }
        }
    };
    other.is_new = other.base.is_none() && other.merged.is_some();
    Ok(())
}

/// Both sides have it, and differ. Also: whether a change was lost.
pub(super) fn both<T: Trees>(
    trees: &T,
    name: &[u8],
    base: Option<&File>,
    left: &File,
    right: &File,
) -> Result<(File, bool), MergeError<T::Error>> {
    let attrs = merge_attrs(base.map(|file| &file.attrs), &left.attrs, &right.attrs);
    if left.oid == right.oid {
        let merged = File {
            oid: left.oid,
            attrs,
            content: left.content.clone().or_else(|| right.content.clone()),
        };
        return Ok((merged, false));
    }
    if let Some(content) = subscribed(trees, name, base, left, right)? {
        let attrs = Attrs {
            mtime: left.attrs.mtime.max(right.attrs.mtime),
            size: content.len() as u64,
            ..attrs
        };
        let merged = File {
            oid: trees.hash(&content),
            attrs,
            content: Some(content),
        };
        return Ok((merged, false));
    }
    if let Some(base) = base {
        // Only one of them changed the content.
        for (changed, still) in [(left, right), (right, left)] {
            if still.oid == base.oid {
                return Ok((changed.clone(), false));
            }
        }
    }
    let later = |file: &File| (file.attrs.mtime, file.oid);
    let merged = if later(left) > later(right) {
        left
    } else {
        right
    };
    Ok((merged.clone(), true))
}

/// The merged list of subscriptions; `None` where the file is none or cannot be read as one.
fn subscribed<T: Trees>(
    trees: &T,
    name: &[u8],
    base: Option<&File>,
    left: &File,
    right: &File,
) -> Result<Option<Vec<u8>>, MergeError<T::Error>> {
    let is_dovecots = name == b"subscriptions";
    if !is_dovecots && name != b"courierimapsubscribed" {
        return Ok(None);
    }
    let read = |file: &File| match &file.content {
        Some(content) => Ok(content.clone()),
        None => trees.blob(file.oid).map_err(MergeError::Source),
    };
    let (left, right) = (read(left)?, read(right)?);
    let base = base.map(read).transpose()?.unwrap_or_default();
    if is_dovecots {
        let parsed = [&base, &left, &right].map(|file| Subscriptions::parse(file));
        let [Ok(base), Ok(left), Ok(right)] = parsed else {
            return Ok(None);
        };
        let version = if left.version == right.version {
            left.version
        } else {
            Version::V2
        };
        let names = |list: &Subscriptions| match version {
            Version::V1 => list.names.clone(),
            Version::V2 => list.levels(b'.'),
        };
        let names = merge_names(&names(&base), &names(&left), &names(&right));
        return Ok(Some(Subscriptions { version, names }.encode()));
    }
    let parsed = [&base, &left, &right].map(|file| Subscribed::parse(file));
    let [Ok(base), Ok(left), Ok(right)] = parsed else {
        return Ok(None);
    };
    let names = merge_names(&base.names, &left.names, &right.names);
    Ok(Some(Subscribed { names }.encode()))
}

/// Names in the base's order, then the new ones in theirs.
fn merge_names<N: Ord + Clone>(base: &[N], left: &[N], right: &[N]) -> Vec<N> {
    let known: BTreeSet<&N> = base.iter().collect();
    let (left, right): (BTreeSet<&N>, BTreeSet<&N>) =
        (left.iter().collect(), right.iter().collect());
    let kept = base
        .iter()
        .filter(|name| left.contains(name) && right.contains(name));
    let new = left.union(&right).filter(|name| !known.contains(*name));
    kept.chain(new.copied()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_subscribed_if_either_added_it_or_neither_removed_it() {
        assert_eq!(
            merge_names(&["b", "a", "c"], &["a", "c", "e"], &["d", "a", "b"]),
            ["a", "d", "e"]
        );
        assert_eq!(merge_names(&[], &["b"], &["a"]), ["a", "b"]);
    }
}
