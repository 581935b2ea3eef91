//! Messages that a common ancestor has where the base does not have them.
//!
//! The problem: where there are several best common ancestors, the base is their merge, a tree that nobody has ever seen. It may unite folders that each ancestor,
//! and a side, has apart. A message that nobody has touched then seems to have moved on that side, out of the united folder, or to be a copy; and both outlive an
//! expunge on the other side, so an expunged message would return.
//!
//! The rule: where one of the ancestors has a message, nobody moved it there since. If the other side, which descends from that ancestor too, does not have it there nor
//! where it seems to have come from, the other side removed it. A folder is the same by its GUID, or by its path where one of the two has none.
//!
//! Asked only where there are several ancestors, and only for messages that one side alone has and that the base has elsewhere: else nothing is read.
//!
//! Rejected: bases that keep such folders apart. A side that has united them for good would then seem to have moved all their mail, and an expunge there would
//! lose to that move.

use std::collections::{BTreeMap, BTreeSet};

use super::entities::{Entity, Id};
use super::moves::Moves;
use super::renames::{self, Dir};
use super::slots::{Place, Slot, SlotId};
use super::source::{self, MergeError, RawEntry, Trees};
use super::walk;
use crate::maildir::{Oid, TreePath, name};

/// A message by its place, file name and content.
type File = (Place, Vec<u8>, Oid);

/// A file name and content.
type Named = (Vec<u8>, Oid);

/// Which messages an ancestor has already, and whether one of them has it with its deleted flag.
pub(super) type Known = BTreeMap<SlotId, bool>;

/// Looks for them in the trees of the best common ancestors.
pub(super) fn find<T: Trees>(
    trees: &T,
    entities: &[Entity],
    slots: &[Slot],
    moves: &[Moves; 2],
    ancestors: &[Oid],
) -> Result<Known, MergeError<T::Error>> {
    let mut known = Known::new();
    if ancestors.len() < 2 {
        return Ok(known);
    }
    let based = slots.iter().filter(|slot| slot.in_base().is_some());
    let elsewhere: BTreeSet<(&[u8], Oid)> = based
        .map(|slot| (slot.identity.as_slice(), slot.oid))
        .collect();
    let mut asked: BTreeMap<(usize, Id), Vec<SlotId>> = BTreeMap::new();
    for (id, slot) in slots.iter().enumerate() {
        let side = match (slot.in_base(), slot.on(0), slot.on(1)) {
            (None, Some(_), None) => 0,
            (None, None, Some(_)) => 1,
            _ => continue,
        };
        let is_asked = match moves[side].from.get(&id) {
            Some(&from) => slots[from].on(1 - side).is_none(),
            None => elsewhere.contains(&(slot.identity.as_slice(), slot.oid)),
        };
        if is_asked {
            asked.entry((side, slot.folder)).or_default().push(id);
        }
    }
    for ((side, folder), asked) in asked {
        let Some(dir) = &entities[folder].sides[side] else {
            continue;
        };
        let facts = entities[folder].facts.sides[side].as_ref();
        let guid = facts.and_then(|facts| facts.guid.as_deref());
        for &ancestor in ancestors {
            let Some(old) = same_folder(trees, ancestor, &dir.path, guid)? else {
                continue;
            };
            let folder = Folder::compare(trees, &old, dir)?;
            for &id in &asked {
                if let Some(was_deleted) = folder.has(&slots[id], side) {
                    *known.entry(id).or_default() |= was_deleted;
                }
            }
        }
    }
    Ok(known)
}

/// How a folder of a side differs from an ancestor's.
#[derive(Default)]
struct Folder {
    /// Messages of the ancestor that are not the same on the side, by identity and content, and whether they are marked as deleted.
    changed: BTreeMap<(Vec<u8>, Oid), bool>,
    /// Files of the side that are not the same in the ancestor.
    new: BTreeSet<File>,
}

impl Folder {
    fn compare<T: Trees>(trees: &T, old: &Dir, side: &Dir) -> Result<Self, MergeError<T::Error>> {
        let mut folder = Self::default();
        for place in [Place::Cur, Place::New] {
            let old = subdir(trees, old, place.name())?;
            let side = subdir(trees, side, place.name())?;
            let found = walk::difference(trees, old, [side, old], false)?;
            let files = |list: &mut dyn Iterator<Item = &RawEntry>| {
                let files = list.filter(|entry| !entry.dir);
                files
                    .map(|entry| Ok((entry.file()?.0, entry.oid)))
                    .collect::<Result<Vec<Named>, MergeError<T::Error>>>()
            };
            for (visible, oid) in files(&mut found.removed(0))? {
                let identity = name::identity(&visible).into_owned();
                let deleted = folder.changed.entry((identity, oid)).or_default();
                *deleted |= is_deleted(&visible);
            }
            let new = files(&mut found.added[0].iter())?.into_iter();
            folder
                .new
                .extend(new.map(|(visible, oid)| (place, visible, oid)));
        }
        Ok(folder)
    }

    /// Whether the ancestor has the side's message, and then whether it is marked as deleted there.
    fn has(&self, slot: &Slot, side: usize) -> Option<bool> {
        let same = slot.sides[side]
            .iter()
            .find(|rec| !self.new.contains(&(rec.place, rec.name.clone(), slot.oid)));
        match same {
            Some(rec) => Some(is_deleted(&rec.name)),
            None => self
                .changed
                .get(&(slot.identity.clone(), slot.oid))
                .copied(),
        }
    }
}

fn is_deleted(visible: &[u8]) -> bool {
    name::flags(visible).contains(&b'T')
}

/// Where an ancestor has a folder of a side.
fn same_folder<T: Trees>(
    trees: &T,
    ancestor: Oid,
    path: &TreePath,
    guid: Option<&[u8]>,
) -> Result<Option<Dir>, MergeError<T::Error>> {
    let mut at_path = None;
    let mut todo = vec![Dir {
        path: TreePath::root(),
        tree: ancestor,
    }];
    while let Some(dir) = todo.pop() {
        let node = trees.node(dir.tree).map_err(MergeError::Source)?;
        let facts = source::facts(trees, node.mailbox())?;
        let own = facts.and_then(|facts| facts.guid);
        if guid.is_some() && own.as_deref() == guid {
            return Ok(Some(dir));
        }
        for (name, tree) in renames::subdirs::<T>(&walk::list(trees, dir.tree)?)? {
            todo.push(dir.child(&name, tree));
        }
        if dir.path == *path && (guid.is_none() || own.is_none()) {
            at_path = Some(dir);
        }
    }
    Ok(at_path)
}

fn subdir<T: Trees>(
    trees: &T,
    dir: &Dir,
    name: &[u8],
) -> Result<Option<Oid>, MergeError<T::Error>> {
    for entry in walk::list(trees, dir.tree)? {
        if entry.dir && entry.dir_name()? == name {
            return Ok(Some(entry.oid));
        }
    }
    Ok(None)
}
