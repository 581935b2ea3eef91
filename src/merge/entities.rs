//! Directories as entities: one directory under whatever path it has in the base and on each side.
//!
//! An entity of the base is found on a side at the path its mailbox GUID went to ([`super::renames`]), or else below the
//! same parent under the same name. Directories that are new are one entity if both sides made them below the same parent under the
//! same name. Only directories that differ somewhere are looked at; the rest follow their parents.

use std::collections::{BTreeMap, BTreeSet};

use super::keywords;
use super::renames::{self, Dir, Renames, is_container};
use super::source::{self, MergeError, RawEntry, Trees};
use super::walk::{self, Difference};
use crate::maildir::{MailboxFacts, Oid, TreePath};

/// Index of an entity; the root is 0. Parents within the base come before their children.
pub(super) type Id = usize;

/// The facts of a folder in the base and on each side; `None` where it has none there.
#[derive(Default, Debug)]
pub(super) struct Facts {
    pub(super) base: Option<MailboxFacts>,
    pub(super) sides: [Option<MailboxFacts>; 2],
}

/// One directory.
#[derive(Debug)]
pub(super) struct Entity {
    pub(super) base: Option<Dir>,
    pub(super) sides: [Option<Dir>; 2],
    /// Its parent in the base and on each side, where it is there. The root is its own.
    pub(super) base_parent: Id,
    pub(super) parents: [Id; 2],
    /// Whether what lies below it holds messages, and of which folder then.
    pub(super) folder: Option<Id>,
    pub(super) facts: Facts,
    /// Files that differ, and all of the base where `whole` is set.
    pub(super) files: Difference,
    pub(super) whole: bool,
}

impl Entity {
    /// Its name where it is found: on a side, or else in the base.
    pub(super) fn some_path(&self) -> &TreePath {
        static ROOT: TreePath = TreePath::root();
        let dirs = self.sides.iter().chain([&self.base]);
        dirs.flatten().map(|dir| &dir.path).next().unwrap_or(&ROOT)
    }

    /// Whether it holds messages of a folder.
    pub(super) fn is_container(&self) -> bool {
        self.folder.is_some()
    }

    /// Whether the base or a side knows facts of it.
    pub(super) fn has_facts(&self) -> bool {
        let Facts { base, sides } = &self.facts;
        base.is_some() || sides.iter().any(Option::is_some)
    }

    /// What tells it from others whatever the sides are called: its path in the base, or else the smaller one on the sides.
    pub(super) fn key(&self) -> (bool, &TreePath) {
        match &self.base {
            Some(dir) => (false, &dir.path),
            None => {
                let paths = self.sides.iter().flatten().map(|dir| &dir.path);
                (true, paths.min().unwrap_or_else(|| self.some_path()))
            }
        }
    }
}

/// Entities that are read whole, equal parts too, by [`Entity::key`].
pub(super) type Whole = BTreeSet<(bool, TreePath)>;

/// Looks at all directories that differ.
pub(super) fn find<T: Trees>(
    trees: &T,
    base: Option<Oid>,
    sides: [Oid; 2],
    whole: &Whole,
) -> Result<Vec<Entity>, MergeError<T::Error>> {
    let renames = [
        renames::find(trees, base, sides[0])?,
        renames::find(trees, base, sides[1])?,
    ];
    let twins = renames::twins(&renames);
    let of_twins = twins.values().map(|dir| dir.path.clone()).collect();
    let dir = |tree| Dir {
        path: TreePath::root(),
        tree,
    };
    let mut visit = Visit {
        trees,
        renames,
        twins,
        of_twins,
        whole,
        found: Vec::new(),
    };
    visit.dir(Found {
        base: base.map(dir),
        sides: sides.map(dir).map(Some),
        parent: 0,
        whole: false,
    })?;
    visit.link_parents();
    Ok(visit.found)
}

struct Visit<'a, T: Trees> {
    trees: &'a T,
    renames: [Renames; 2],
    /// Folders new on both sides at different paths: left path → right directory; and the paths of these.
    twins: BTreeMap<TreePath, Dir>,
    of_twins: BTreeSet<TreePath>,
    whole: &'a Whole,
    found: Vec<Entity>,
}

/// A directory to look at.
struct Found {
    base: Option<Dir>,
    sides: [Option<Dir>; 2],
    parent: Id,
    whole: bool,
}

impl<T: Trees> Visit<'_, T> {
    fn dir(&mut self, found: Found) -> Result<(), MergeError<T::Error>> {
        let id = self.found.len();
        let Found {
            base,
            sides,
            parent,
            whole,
        } = found;
        let mut entity = Entity {
            base,
            sides,
            base_parent: parent,
            parents: [parent; 2],
            folder: None,
            facts: Facts::default(),
            files: Difference::default(),
            whole,
        };
        if id != 0 && is_container(entity.some_path().name()) && !self.found[parent].is_container()
        {
            entity.folder = Some(parent);
        }
        let (new, path) = entity.key();
        entity.whole |= self.whole.contains(&(new, path.clone()));
        self.read_facts(&mut entity)?;
        if let Some(base) = &entity.facts.base {
            let sides: Vec<_> = entity.facts.sides.iter().flatten().collect();
            let tables: Vec<_> = sides.iter().map(|facts| &facts.keywords).collect();
            entity.whole |= keywords::is_reassigned(&base.keywords, &tables);
        }
        let difference = walk::difference(
            self.trees,
            entity.base.as_ref().map(|dir| dir.tree),
            [0, 1].map(|side| entity.sides[side].as_ref().map(|dir| dir.tree)),
            entity.whole,
        )?;
        let dirs = Dirs::new::<T>(&difference)?;
        entity.files = files(difference);
        let whole = entity.whole;
        let (base, sides) = (entity.base.clone(), entity.sides.clone());
        self.found.push(entity);

        let mut children = Vec::new();
        for (name, &tree) in &dirs.base {
            let Some(dir) = &base else { continue };
            let child = dir.child(name, tree);
            let sides = [0, 1].map(|side| self.counterpart(side, &child, name, &sides, &dirs));
            children.push(Found {
                base: Some(child),
                sides,
                parent: id,
                whole,
            });
        }
        for name in dirs.side_names() {
            let new = [0, 1].map(|side| {
                let dir = sides[side].as_ref()?;
                let child = dir.child(name, *dirs.side[side].get(name)?);
                let matched = children
                    .iter()
                    .any(|known| known.sides[side].as_ref() == Some(&child));
                let taken = self.renames[side].taken.contains(&child.path)
                    || (side == 1 && self.of_twins.contains(&child.path));
                (!matched && !taken).then_some(child)
            });
            let [left, right] = &new;
            let twin = left.as_ref().and_then(|dir| self.twins.get(&dir.path));
            if let Some(twin) = twin {
                children.push(Found {
                    base: None,
                    sides: [left.clone(), Some(twin.clone())],
                    parent: id,
                    whole,
                });
            }
            let new = match twin {
                Some(_) => [None, right.clone()],
                None => new,
            };
            if new != [None, None] {
                children.push(Found {
                    base: None,
                    sides: new,
                    parent: id,
                    whole,
                });
            }
        }
        for child in children {
            let tree = child.base.as_ref().map(|dir| dir.tree);
            let same = |side: &Option<Dir>| side.as_ref().map(|dir| dir.tree) == tree;
            let at_home = child.base.as_ref().is_none_or(|dir| {
                (0..2).all(|side| !self.renames[side].to.contains_key(&dir.path))
            });
            if child.whole || !at_home || !child.sides.iter().all(same) {
                self.dir(child)?;
            }
        }
        Ok(())
    }

    /// Where a directory of the base is on a side.
    fn counterpart(
        &self,
        side: usize,
        base: &Dir,
        name: &[u8],
        sides: &[Option<Dir>; 2],
        dirs: &Dirs,
    ) -> Option<Dir> {
        let renames = &self.renames[side];
        if let Some(dir) = renames.to.get(&base.path) {
            return Some(dir.clone());
        }
        let child = sides[side]
            .as_ref()?
            .child(name, *dirs.side[side].get(name)?);
        // Another folder stands in its place. If the other side has renamed ours, it is not the same any more.
        let is_another = renames.replaced.contains(&base.path)
            && self.renames[1 - side].to.contains_key(&base.path);
        (!renames.taken.contains(&child.path) && !is_another).then_some(child)
    }

    fn read_facts(&self, entity: &mut Entity) -> Result<(), MergeError<T::Error>> {
        let read = |dir: &Option<Dir>| -> Result<_, MergeError<T::Error>> {
            let Some(dir) = dir else { return Ok(None) };
            let node = self.trees.node(dir.tree).map_err(MergeError::Source)?;
            source::facts(self.trees, node.mailbox())
        };
        entity.facts.base = read(&entity.base)?;
        for side in 0..2 {
            entity.facts.sides[side] = read(&entity.sides[side])?;
        }
        Ok(())
    }

    /// Parents of renamed directories, known only now.
    fn link_parents(&mut self) {
        for side in 0..2 {
            let at: BTreeMap<TreePath, Id> = self
                .found
                .iter()
                .enumerate()
                .filter_map(|(id, entity)| Some((entity.sides[side].as_ref()?.path.clone(), id)))
                .collect();
            for entity in &mut self.found {
                if let Some(parent) = entity.sides[side]
                    .as_ref()
                    .and_then(|dir| dir.path.parent())
                    && let Some(&id) = at.get(&parent)
                {
                    entity.parents[side] = id;
                }
            }
        }
    }
}

/// Subdirectories that differ.
struct Dirs {
    base: BTreeMap<Vec<u8>, Oid>,
    side: [BTreeMap<Vec<u8>, Oid>; 2],
}

impl Dirs {
    fn new<T: Trees>(difference: &Difference) -> Result<Self, MergeError<T::Error>> {
        let read = |entries: &mut dyn Iterator<Item = &RawEntry>| {
            entries
                .filter(|entry| entry.dir)
                .map(|entry| Ok((entry.dir_name()?, entry.oid)))
                .collect::<Result<BTreeMap<_, _>, MergeError<T::Error>>>()
        };
        let base = read(&mut difference.base.iter().map(|(entry, _)| entry))?;
        let mut side = [base.clone(), base.clone()];
        for (at, side) in side.iter_mut().enumerate() {
            for name in read(&mut difference.removed(at))?.keys() {
                side.remove(name);
            }
            side.extend(read(&mut difference.added[at].iter())?);
        }
        Ok(Self { base, side })
    }

    fn side_names(&self) -> BTreeSet<&[u8]> {
        let names = self.side.iter().flat_map(BTreeMap::keys);
        names.map(Vec::as_slice).collect()
    }
}

/// The files of a difference.
fn files(mut difference: Difference) -> Difference {
    difference.base.retain(|(entry, _)| !entry.dir);
    for list in &mut difference.added {
        list.retain(|entry| !entry.dir);
    }
    difference
}
