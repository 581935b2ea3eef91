//! Where each directory is after the merge.
//!
//! A place is a parent and a name, so a folder renamed on one side inside a folder renamed on the other ends where both say. Merged as a unit against the base;
//! two different changes are settled for the smaller path. Directories that would contain each other stay where the base has them, or come to the top if it
//! does not have them.

use std::collections::{BTreeMap, BTreeSet};

use super::conflict::Conflict;
use super::entities::{Entity, Id};
use crate::maildir::TreePath;

/// A parent and a name.
type Place = (Id, Vec<u8>);

/// The merged places of all entities.
#[derive(Debug)]
pub(super) struct Places {
    places: Vec<Place>,
}

/// Merges the places. Conflicts are of entities that may turn out to be dead; the caller asks for them by id.
pub(super) fn merge(entities: &[Entity]) -> (Places, BTreeMap<Id, Conflict>) {
    let mut conflicts = BTreeMap::new();
    let mut places: Vec<Place> = Vec::with_capacity(entities.len());
    for (id, entity) in entities.iter().enumerate() {
        let sides = [0, 1].map(|side| on_side(entity, side));
        let place = match (base(entity), sides) {
            (base, [Some(left), Some(right)]) => {
                if left == right || base.as_ref() == Some(&right) {
                    left
                } else if base.as_ref() == Some(&left) {
                    right
                } else {
                    let path = |side: usize| entity.sides[side].as_ref().map(|dir| &dir.path);
                    let first = usize::from(path(1) < path(0));
                    if let (Some(kept), Some(other)) = (path(first), path(1 - first)) {
                        let (kept, other) = (kept.clone(), other.clone());
                        conflicts.insert(id, Conflict::FolderRenamedTwice { kept, other });
                    }
                    if first == 0 { left } else { right }
                }
            }
            (_, [Some(one), None] | [None, Some(one)]) => one,
            (Some(base), [None, None]) => base,
            (None, [None, None]) => (0, Vec::new()),
        };
        places.push(place);
    }
    let mut places = Places { places };
    while let Some(id) = places.cycle(entities) {
        places.places[id] = home(&entities[id]);
        let folder = entities[id].key().1.clone();
        conflicts.insert(id, Conflict::FolderCycle { folder });
    }
    (places, conflicts)
}

fn base(entity: &Entity) -> Option<Place> {
    let dir = entity.base.as_ref()?;
    Some((entity.base_parent, dir.path.name().to_vec()))
}

/// Where a directory is put that cannot be where it is wanted: where the base has it, or at the top.
fn home(entity: &Entity) -> Place {
    base(entity).unwrap_or_else(|| (0, entity.key().1.name().to_vec()))
}

fn on_side(entity: &Entity, side: usize) -> Option<Place> {
    let dir = entity.sides[side].as_ref()?;
    Some((entity.parents[side], dir.path.name().to_vec()))
}

impl Places {
    pub(super) fn parent(&self, id: Id) -> Id {
        self.places[id].0
    }

    /// The path after the merge.
    pub(super) fn path(&self, id: Id) -> TreePath {
        let mut names = Vec::new();
        let mut at = id;
        while at != 0 {
            names.push(self.places[at].1.as_slice());
            at = self.places[at].0;
        }
        let mut path = TreePath::root();
        for name in names.into_iter().rev() {
            path = path.join(name);
        }
        path
    }

    /// A directory of a cycle to be put back where the base has it: of those that were moved, the one with the smallest path there.
    fn cycle(&self, entities: &[Entity]) -> Option<Id> {
        for start in 1..self.places.len() {
            let mut seen = BTreeSet::new();
            let mut at = start;
            while at != 0 && seen.insert(at) {
                at = self.places[at].0;
            }
            if at == 0 {
                continue;
            }
            // `at` is on a cycle.
            let mut around = vec![at];
            let mut next = self.places[at].0;
            while next != at {
                around.push(next);
                next = self.places[next].0;
            }
            let moved = around
                .into_iter()
                .filter(|&id| base(&entities[id]).is_some_and(|place| place != self.places[id]));
            return moved.min_by_key(|&id| entities[id].key());
        }
        None
    }
}
