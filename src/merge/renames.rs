//! Which folders a side has renamed: found by mailbox GUID, for a directory has no other identity.
//!
//! Looks at directories alone, never into `cur`, `new` and `tmp`, and only where the side differs from the base.
//!
//! - A folder is renamed if its path is gone, or shows another GUID or none, and its GUID shows up at a path that is new, or showed another GUID before.
//! - Dovecot deletes a folder by renaming it to `..DOVECOT-TRASHED` and emptying it there. That is no rename to follow.
//! - A GUID that is new on both sides is one folder too, at whatever paths: both sides got it from a third, or brought it back from the dead.
//! - Two folders with one GUID (a copied Maildir): each stays where it is if it can; the smaller path is taken for the renamed one.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, MergeError, RawEntry, Trees};
use super::walk;
use crate::maildir::{Oid, TreePath};

/// The last part of the name under which Dovecot empties a folder that it deletes.
const TRASHED: &[u8] = b"DOVECOT-TRASHED";

/// A directory of one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dir {
    pub(super) path: TreePath,
    pub(super) tree: Oid,
}

impl Dir {
    pub(super) fn child(&self, name: &[u8], tree: Oid) -> Self {
        Self {
            path: self.path.join(name),
            tree,
        }
    }
}

/// What a side has renamed.
#[derive(Default, Debug)]
pub(super) struct Renames {
    /// Path in the base → directory of the side.
    pub(super) to: BTreeMap<TreePath, Dir>,
    /// Paths of the side that are in `to`.
    pub(super) taken: BTreeSet<TreePath>,
    /// Paths at which the side shows another folder than the base, whose own is gone.
    pub(super) replaced: BTreeSet<TreePath>,
    /// Folders that are new on the side, by GUID.
    new: BTreeMap<Vec<u8>, Dir>,
}

/// Folders that are new on both sides and of one GUID: path on the left → directory on the right, where the paths differ.
pub(super) fn twins(sides: &[Renames; 2]) -> BTreeMap<TreePath, Dir> {
    let both = sides[0].new.iter().filter_map(|(guid, left)| {
        let right = sides[1].new.get(guid)?;
        (left.path != right.path).then(|| (left.path.clone(), right.clone()))
    });
    both.collect()
}

/// Whether a directory of this name holds messages.
pub(super) fn is_container(name: &[u8]) -> bool {
    name == b"cur" || name == b"new"
}

/// Finds what `side` has renamed since `base`, and what is new.
pub(super) fn find<T: Trees>(
    trees: &T,
    base: Option<Oid>,
    side: Oid,
) -> Result<Renames, MergeError<T::Error>> {
    let mut survey = Survey {
        trees,
        left: BTreeMap::new(),
        came: BTreeMap::new(),
        changed: BTreeSet::new(),
    };
    let dir = |tree| Dir {
        path: TreePath::root(),
        tree,
    };
    match base {
        Some(base) => survey.compare(&dir(base), &dir(side))?,
        None => survey.children(&dir(side))?,
    }
    let mut renames = Renames::default();
    for (guid, path) in &survey.left {
        match survey.came.get(guid) {
            Some((to, _)) => {
                renames.taken.insert(to.path.clone());
                renames.to.insert(path.clone(), to.clone());
            }
            None if survey.changed.contains(path) => {
                renames.replaced.insert(path.clone());
            }
            None => {}
        }
    }
    let came = survey.came.into_iter();
    let new = came.filter(|(guid, (_, is_new))| *is_new && !survey.left.contains_key(guid));
    renames.new = new.map(|(guid, (dir, _))| (guid, dir)).collect();
    Ok(renames)
}

struct Survey<'a, T: Trees> {
    trees: &'a T,
    /// GUIDs whose path in the base shows them no more.
    left: BTreeMap<Vec<u8>, TreePath>,
    /// GUIDs at a path of the side that did not show them in the base, and whether the path is new.
    came: BTreeMap<Vec<u8>, (Dir, bool)>,
    /// Paths that show another GUID.
    changed: BTreeSet<TreePath>,
}

impl<T: Trees> Survey<'_, T> {
    fn compare(&mut self, base: &Dir, side: &Dir) -> Result<(), MergeError<T::Error>> {
        if base.tree == side.tree {
            return Ok(());
        }
        self.compare_guids(base, side)?;
        let found = walk::difference(
            self.trees,
            Some(base.tree),
            [Some(side.tree), Some(base.tree)],
            false,
        )?;
        let removed = subdirs::<T>(found.removed(0))?;
        let mut added = subdirs::<T>(&found.added[0])?;
        for (name, tree) in removed {
            let old = base.child(&name, tree);
            match added.remove(&name) {
                Some(tree) => self.compare(&old, &side.child(&name, tree))?,
                None => self.gone(&old)?,
            }
        }
        for (name, tree) in added {
            self.appeared(side.child(&name, tree))?;
        }
        Ok(())
    }

    fn compare_guids(&mut self, base: &Dir, side: &Dir) -> Result<(), MergeError<T::Error>> {
        let mailbox = |dir: &Dir| {
            let node = self.trees.node(dir.tree).map_err(MergeError::Source)?;
            Ok::<_, MergeError<T::Error>>(node.mailbox())
        };
        let (old, new) = (mailbox(base)?, mailbox(side)?);
        if old == new || base.path.is_root() {
            return Ok(());
        }
        let guid = |oid| {
            let facts = source::facts(self.trees, oid)?;
            Ok::<_, MergeError<T::Error>>(facts.and_then(|facts| facts.guid))
        };
        let (old, new) = (guid(old)?, guid(new)?);
        if old == new {
            return Ok(());
        }
        if let Some(guid) = old {
            self.left(guid, base);
            if new.is_some() {
                self.changed.insert(base.path.clone());
            }
        }
        if let Some(guid) = new {
            self.came(guid, side.clone(), false);
        }
        Ok(())
    }

    fn left(&mut self, guid: Vec<u8>, dir: &Dir) {
        let known = self.left.entry(guid).or_insert_with(|| dir.path.clone());
        if dir.path < *known {
            *known = dir.path.clone();
        }
    }

    fn came(&mut self, guid: Vec<u8>, dir: Dir, is_new: bool) {
        let known = self
            .came
            .entry(guid)
            .or_insert_with(|| (dir.clone(), is_new));
        if dir.path < known.0.path {
            *known = (dir, is_new);
        }
    }

    fn guid(&self, dir: &Dir) -> Result<Option<Vec<u8>>, MergeError<T::Error>> {
        let node = self.trees.node(dir.tree).map_err(MergeError::Source)?;
        let facts = source::facts(self.trees, node.mailbox())?;
        Ok(facts.and_then(|facts| facts.guid))
    }

    fn gone(&mut self, dir: &Dir) -> Result<(), MergeError<T::Error>> {
        if let Some(guid) = self.guid(dir)? {
            self.left(guid, dir);
        }
        for (name, tree) in subdirs::<T>(&walk::list(self.trees, dir.tree)?)? {
            self.gone(&dir.child(&name, tree))?;
        }
        Ok(())
    }

    fn children(&mut self, dir: &Dir) -> Result<(), MergeError<T::Error>> {
        for (name, tree) in subdirs::<T>(&walk::list(self.trees, dir.tree)?)? {
            self.appeared(dir.child(&name, tree))?;
        }
        Ok(())
    }

    fn appeared(&mut self, dir: Dir) -> Result<(), MergeError<T::Error>> {
        if dir.path.name().ends_with(TRASHED) {
            return Ok(());
        }
        self.children(&dir)?;
        if let Some(guid) = self.guid(&dir)? {
            self.came(guid, dir, true);
        }
        Ok(())
    }
}

/// Directories among entries, those of messages and of scratch left out.
pub(super) fn subdirs<'a, T: Trees>(
    entries: impl IntoIterator<Item = &'a RawEntry>,
) -> Result<BTreeMap<Vec<u8>, Oid>, MergeError<T::Error>> {
    let mut found = BTreeMap::new();
    for entry in entries.into_iter().filter(|entry| entry.dir) {
        let name = entry.dir_name()?;
        if !is_container(&name) && name != b"tmp" {
            found.insert(name, entry.oid);
        }
    }
    Ok(found)
}
