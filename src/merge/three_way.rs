//! The merge of two trees against their base.

use std::collections::{BTreeMap, BTreeSet};

use super::conflict::Conflict;
use super::edits;
use super::entities::{self, Entity, Id, Whole};
use super::known;
use super::messages::{self, Merged, Note, Out};
use super::moves;
use super::others::{self, Other, Placed};
use super::places::{self, Places};
use super::settle::{Folder, Group};
use super::slots::{self, Slot};
use super::source::{MergeError, Trees};
use crate::maildir::{Oid, Op, TreePath};

/// The merge of two trees, as operations on one of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merge {
    /// The side that the operations start from (0 is left). The result is the same tree from either.
    pub side: usize,
    /// What makes that side's tree the merged one.
    pub ops: Vec<Op>,
    /// What both sides did to the same thing, sorted.
    pub conflicts: Vec<Conflict>,
}

/// All that is known of a merge before it is written down as operations.
pub(super) struct Settled {
    pub(super) entities: Vec<Entity>,
    pub(super) slots: Vec<Slot>,
    pub(super) others: Vec<Other>,
    pub(super) files: Vec<Placed>,
    /// The path of each entity that is alive.
    pub(super) paths: BTreeMap<Id, TreePath>,
    /// The parent of each entity after the merge.
    pub(super) parents: Vec<Id>,
    pub(super) folders: Vec<Folder>,
    pub(super) conflicts: Vec<Conflict>,
}

/// Merges two trees. The result is the same tree, whichever of them is called left; where one side did nothing, it is the other side's, but for UIDs that
/// `deleted` forbids.
///
/// `deleted` tells what UIDNEXT the folder of a UIDVALIDITY had before a side (0 is left) deleted it, if that is known: see
/// [`super::World::uid_next_before`].
///
/// # Errors
/// Where an object cannot be read, or is not one that mailbraid writes.
pub fn three_way<T: Trees>(
    trees: &T,
    base: Option<Oid>,
    sides: [Oid; 2],
    deleted: &mut dyn FnMut(usize, u32) -> Result<Option<u32>, T::Error>,
) -> Result<Merge, MergeError<T::Error>> {
    merge(trees, base, &[], sides, deleted)
}

/// The same, where the base is the merge of the best common ancestors, whose trees these are.
pub(super) fn merge<T: Trees>(
    trees: &T,
    base: Option<Oid>,
    ancestors: &[Oid],
    sides: [Oid; 2],
    deleted: &mut dyn FnMut(usize, u32) -> Result<Option<u32>, T::Error>,
) -> Result<Merge, MergeError<T::Error>> {
    if sides[0] == sides[1] {
        return Ok(Merge::default());
    }
    // Less is to be done to the side that did more.
    let side = usize::from(base == Some(sides[0]));
    let settled = settle(trees, base, ancestors, sides, deleted)?;
    Ok(Merge {
        side,
        ops: edits::ops(&settled, side),
        conflicts: settled.conflicts,
    })
}

/// Merges two trees.
fn settle<T: Trees>(
    trees: &T,
    base: Option<Oid>,
    ancestors: &[Oid],
    sides: [Oid; 2],
    deleted: &mut dyn FnMut(usize, u32) -> Result<Option<u32>, T::Error>,
) -> Result<Settled, MergeError<T::Error>> {
    let mut whole = Whole::new();
    loop {
        let entities = entities::find(trees, base, sides, &whole)?;
        let slots = slots::find::<T>(&entities)?;
        let moves = [0, 1].map(|side| moves::find(&entities, &slots, side));
        let known = known::find(trees, &entities, &slots, &moves, ancestors)?;
        let merged = messages::merge(&entities, &slots, &moves, &known);
        let mut file_conflicts = Vec::new();
        let others = others::merge(trees, &entities, &mut file_conflicts)?;
        let (places, mut dir_conflicts) = places::merge(&entities);
        let (alive, returned) = alive(&entities, &places, &merged, &others);
        let paths: BTreeMap<Id, TreePath> = alive.iter().map(|&id| (id, places.path(id))).collect();

        let mut groups: BTreeMap<&TreePath, Vec<Id>> = BTreeMap::new();
        for (id, path) in &paths {
            groups.entry(path).or_default().push(*id);
        }
        let before = whole.len();
        for members in groups.values_mut().filter(|members| members.len() > 1) {
            members.sort_by_key(|&id| entities[id].key());
            for &id in members.iter().filter(|&&id| !entities[id].whole) {
                let (new, path) = entities[id].key();
                whole.insert((new, path.clone()));
            }
        }
        if whole.len() > before {
            continue;
        }

        let mut conflicts: Vec<Conflict> = Vec::new();
        dir_conflicts.retain(|id, _| alive.contains(id));
        conflicts.extend(dir_conflicts.into_values());
        for id in returned {
            let folder = paths[&id].clone();
            conflicts.push(Conflict::FolderReturned { folder });
        }
        for (dir, conflict) in file_conflicts {
            if let Some(path) = paths.get(&dir) {
                conflicts.push(within(path, conflict));
            }
        }
        conflicts.extend(notes(&entities, &slots, &merged, &paths));

        let highest = highest(&slots);
        let mut outs: BTreeMap<Id, Vec<Out>> = BTreeMap::new();
        for out in merged.outs {
            outs.entry(out.folder).or_default().push(out);
        }
        let mut folders = Vec::new();
        for (path, members) in groups {
            let (mut mailed, mut own) = (BTreeSet::new(), Vec::new());
            for id in &members {
                if let Some(outs) = outs.remove(id) {
                    mailed.insert(*id);
                    own.extend(outs);
                }
            }
            if members.iter().all(|&id| entities[id].is_container()) {
                continue;
            }
            if members.len() > 1 && members.iter().any(|&id| entities[id].has_facts()) {
                let folder = path.clone();
                conflicts.push(Conflict::FoldersUnited { folder });
            }
            let group = Group {
                path: path.clone(),
                members,
                mailed,
                outs: own,
                entities: &entities,
                slots: &slots,
                highest: &highest,
            };
            let folder = group
                .settle(&mut conflicts, &mut *deleted)
                .map_err(MergeError::Source)?;
            folders.push(folder);
        }
        let files = others::place(trees, &others, &paths, &mut conflicts)?;
        conflicts.sort();
        conflicts.dedup();
        let parents = (0..entities.len()).map(|id| places.parent(id)).collect();
        return Ok(Settled {
            entities,
            slots,
            others,
            files,
            paths,
            parents,
            folders,
            conflicts,
        });
    }
}

/// Which directories there are after the merge, and which of them only because mail arrived.
///
/// A directory is there if both sides have it, or one made it, or something in it is there that its deletion did not know of.
fn alive(
    entities: &[Entity],
    places: &Places,
    merged: &Merged,
    others: &[Other],
) -> (BTreeSet<Id>, BTreeSet<Id>) {
    let mut seeds: BTreeSet<Id> = BTreeSet::new();
    let mut returned = BTreeSet::new();
    for (id, entity) in entities.iter().enumerate() {
        let is_both = entity.sides.iter().all(Option::is_some);
        let is_any = entity.sides.iter().any(Option::is_some);
        if id == 0 || is_both || (is_any && entity.base.is_none()) {
            seeds.insert(id);
        }
    }
    let mailed: BTreeSet<Id> = merged.outs.iter().map(|out| out.folder).collect();
    for (id, entity) in entities.iter().enumerate() {
        // A folder comes back with all three of its directories.
        let folder = entity.folder.unwrap_or_else(|| places.parent(id));
        let is_part = entity.is_container() || entity.some_path().name() == b"tmp";
        if is_part && mailed.contains(&folder) && entity.sides.iter().any(Option::is_some) {
            seeds.insert(id);
        }
    }
    for &folder in &mailed {
        if !seeds.contains(&folder) {
            returned.insert(folder);
        }
    }
    seeds.extend(
        others
            .iter()
            .filter(|other| other.is_new)
            .map(|other| other.dir),
    );
    let mut alive = BTreeSet::new();
    for seed in seeds {
        let mut at = seed;
        while alive.insert(at) && at != 0 {
            at = places.parent(at);
        }
    }
    (alive, returned)
}

/// The greatest UID of each folder's messages that differ, on each side.
fn highest(slots: &[Slot]) -> BTreeMap<Id, [u32; 2]> {
    let mut highest: BTreeMap<Id, [u32; 2]> = BTreeMap::new();
    for slot in slots {
        let of_folder = highest.entry(slot.folder).or_default();
        for (side, most) in of_folder.iter_mut().enumerate() {
            let uids = slot.sides[side].iter().filter_map(|rec| rec.attrs.uid);
            *most = uids.fold(*most, u32::max);
        }
    }
    highest
}

fn notes<'a>(
    entities: &'a [Entity],
    slots: &'a [Slot],
    merged: &'a Merged,
    paths: &'a BTreeMap<Id, TreePath>,
) -> impl Iterator<Item = Conflict> + 'a {
    merged.notes.iter().map(move |note| {
        let path = |at: usize| {
            let out = &merged.outs[at];
            let folder = paths
                .get(&out.folder)
                .unwrap_or_else(|| entities[out.folder].some_path());
            folder.join(out.place.name()).join(&out.unique)
        };
        match *note {
            Note::Undeleted(at) => Conflict::Undeleted { path: path(at) },
            Note::MovedTwice(at) => Conflict::MovedTwice { path: path(at) },
            Note::MovedAndExpunged(at) => Conflict::MovedAndExpunged { path: path(at) },
            Note::LastCopy(at) => Conflict::LastCopy { path: path(at) },
            Note::FlaggedAndExpunged(slot, side) => {
                let slot = &slots[slot];
                let folder = entities[slot.folder].key().1;
                let rec = slot.on(side);
                let (place, name) = rec.map_or((slots::Place::Cur, &slot.identity), |rec| {
                    (rec.place, &rec.name)
                });
                Conflict::FlaggedAndExpunged {
                    path: folder.join(place.name()).join(name),
                }
            }
        }
    })
}

/// The conflict with its path completed: so far it is a name in `dir`.
fn within(dir: &TreePath, conflict: Conflict) -> Conflict {
    match conflict {
        Conflict::FileChangedTwice { path } => Conflict::FileChangedTwice {
            path: dir.join(path.as_bytes()),
        },
        Conflict::FileChangedAndDeleted { path } => Conflict::FileChangedAndDeleted {
            path: dir.join(path.as_bytes()),
        },
        other => other,
    }
}
