//! What makes one side's tree the merged one: operations in an order in which each of them fits.
//!
//! 1. Directories that will have another place step aside, the deepest first.
//! 2. Files that go are removed, then directories that go, the deepest first.
//! 3. Directories are made or put in place, parents first.
//! 4. Messages that stay are renamed and get their attributes; then what is new is put.
//! 5. Facts.

use std::collections::BTreeMap;

use super::entities::{Entity, Id};
use super::settle::Message;
use super::slots::{self, Place, Rec};
use super::three_way::Settled;
use crate::maildir::{Attrs, Content, Oid, Op, TreePath, name};

/// The operations for `side`.
pub(super) fn ops(settled: &Settled, side: usize) -> Vec<Op> {
    let mut edits = Edits {
        settled,
        side,
        hosts: BTreeMap::new(),
        aside: BTreeMap::new(),
        containers: BTreeMap::new(),
        ops: Vec::new(),
    };
    edits.find_hosts();
    edits.step_aside();
    let mut later = Later::default();
    edits.messages(&mut later);
    edits.files(&mut later);
    edits.remove_dirs();
    edits.make_dirs();
    edits.ops.append(&mut later.in_place);
    edits.ops.append(&mut later.new);
    edits.facts();
    edits.ops
}

/// What becomes of a folder's directories.
struct Home {
    folder: Id,
    is_host: bool,
    /// For each [`Place`]: whether the directory stays, and where it is while files are removed.
    containers: [Option<(bool, TreePath)>; 2],
}

impl Home {
    fn has(&self, place: Place) -> bool {
        let container = &self.containers[place as usize];
        container.as_ref().is_some_and(|(is_host, _)| *is_host)
    }
}

/// Operations that wait until directories are in place.
#[derive(Default)]
struct Later {
    in_place: Vec<Op>,
    new: Vec<Op>,
}

struct Edits<'a> {
    settled: &'a Settled,
    side: usize,
    /// The directory of the side that becomes the one at a path.
    hosts: BTreeMap<&'a TreePath, Id>,
    /// Where directories wait.
    aside: BTreeMap<Id, TreePath>,
    /// `cur` and `new` of folders, those that go too.
    containers: BTreeMap<(Id, Place), Id>,
    ops: Vec<Op>,
}

impl<'a> Edits<'a> {
    fn entity(&self, id: Id) -> &'a Entity {
        &self.settled.entities[id]
    }

    /// The directory's path on the side before anything happens.
    fn path_here(&self, id: Id) -> Option<&'a TreePath> {
        self.entity(id).sides[self.side]
            .as_ref()
            .map(|dir| &dir.path)
    }

    fn find_hosts(&mut self) {
        let mut bare = BTreeMap::new();
        for folder in &self.settled.folders {
            bare.insert(&folder.path, folder.is_bare);
        }
        for (id, entity) in self.settled.entities.iter().enumerate() {
            if let Some(folder) = entity.folder {
                let of_name = Place::of(entity.some_path().name());
                self.containers.insert((folder, of_name), id);
            }
        }
        for (&id, path) in &self.settled.paths {
            let entity = self.entity(id);
            // A folder that comes back without its facts is made anew: no operation takes facts away.
            let has_facts = entity.facts.sides[self.side].is_some();
            let Some(here) = self.path_here(id) else {
                continue;
            };
            if has_facts && bare.get(path) == Some(&true) {
                continue;
            }
            let rank = |id: Id, here: &TreePath| (here != path, self.entity(id).key());
            let better = match self.hosts.get(path) {
                Some(&known) => self
                    .path_here(known)
                    .is_none_or(|known_path| rank(id, here) < rank(known, known_path)),
                None => true,
            };
            if better {
                self.hosts.insert(path, id);
            }
        }
    }

    fn is_host(&self, id: Id) -> bool {
        let path = self.settled.paths.get(&id);
        path.is_some_and(|path| self.hosts.get(path) == Some(&id))
    }

    /// Where a directory of the side is while files are removed.
    fn path_now(&self, id: Id) -> TreePath {
        if let Some(aside) = self.aside.get(&id) {
            return aside.clone();
        }
        let Some(here) = self.path_here(id).filter(|_| id != 0) else {
            return TreePath::root();
        };
        self.path_now(self.entity(id).parents[self.side])
            .join(here.name())
    }

    fn step_aside(&mut self) {
        let mut moved: Vec<(usize, Id)> = Vec::new();
        for (path, &id) in &self.hosts {
            let Some(here) = self.path_here(id).filter(|_| id != 0) else {
                continue;
            };
            let parent = self.settled.paths.get(&self.settled.parents[id]);
            let parent = parent.and_then(|path| self.hosts.get(path)).copied();
            if here.name() != path.name() || parent != Some(self.entity(id).parents[self.side]) {
                moved.push((here.components().count(), id));
            }
        }
        moved.sort_unstable_by(|a, b| b.cmp(a));
        for (at, (_, id)) in moved.into_iter().enumerate() {
            // No committed tree has a name of this class.
            let aside = TreePath::new(format!(".mailbraid-aside-{at}"));
            if let Some(from) = self.path_here(id) {
                self.ops.push(Op::Rename {
                    from: from.clone(),
                    to: aside.clone(),
                });
            }
            self.aside.insert(id, aside);
        }
    }

    fn messages(&mut self, later: &mut Later) {
        let mut targets: Vec<Option<&Message>> = vec![None; self.settled.slots.len()];
        for folder in &self.settled.folders {
            for message in &folder.messages {
                targets[message.slot] = Some(message);
            }
        }
        // Slots of one folder are beside each other.
        let mut home: Option<Home> = None;
        for (id, slot) in self.settled.slots.iter().enumerate() {
            let home = match home.take().filter(|home| home.folder == slot.folder) {
                Some(known) => home.insert(known),
                None => home.insert(self.home(slot.folder)),
            };
            let recs = &slot.sides[self.side];
            let target = targets[id];
            let is_alone = slots::is_alone(&self.settled.slots, id);
            let stays = target.is_some_and(|message| {
                is_alone
                    && home.is_host
                    && home.has(message.place)
                    && *name::identity(&message.name) == *slot.identity
            });
            for (at, rec) in recs.iter().enumerate() {
                let stays = stays && at == 0 && home.has(rec.place);
                if !stays && let Some((_, dir)) = &home.containers[rec.place as usize] {
                    let path = dir.join(&rec.name);
                    self.ops.push(Op::Remove { path });
                }
            }
            let Some(message) = target else { continue };
            match recs.first() {
                Some(rec) if stays && home.has(rec.place) => {
                    change(message, rec, later);
                }
                _ => later
                    .new
                    .push(put(message.path(), message.oid, &message.attrs, None)),
            }
        }
    }

    fn home(&self, folder: Id) -> Home {
        let container = |place: Place| {
            let &id = self.containers.get(&(folder, place))?;
            Some((self.is_host(id), self.path_now(id)))
        };
        Home {
            folder,
            is_host: self.is_host(folder),
            containers: [Place::Cur, Place::New].map(container),
        }
    }

    fn files(&mut self, later: &mut Later) {
        let mut targets = BTreeMap::new();
        for placed in &self.settled.files {
            targets.insert(placed.other, placed);
        }
        for (at, other) in self.settled.others.iter().enumerate() {
            let here = other.sides[self.side].as_ref();
            let placed = targets.get(&at);
            let stays = placed.is_some_and(|placed| {
                let dir = self.settled.paths.get(&other.dir);
                self.is_host(other.dir)
                    && dir.is_some_and(|dir| dir.join(&other.name) == placed.path)
            });
            if here.is_some() && !stays {
                let path = self.path_now(other.dir).join(&other.name);
                self.ops.push(Op::Remove { path });
            }
            let Some(placed) = placed else { continue };
            let (path, file) = (placed.path.clone(), &placed.file);
            match here.filter(|_| stays) {
                Some(here) if here.oid == file.oid => {
                    if here.attrs != file.attrs {
                        later.in_place.push(Op::SetAttrs {
                            path,
                            attrs: file.attrs.clone(),
                        });
                    }
                }
                _ => later
                    .new
                    .push(put(path, file.oid, &file.attrs, file.content.as_deref())),
            }
        }
    }

    fn remove_dirs(&mut self) {
        let mut gone: Vec<TreePath> = Vec::new();
        for id in 1..self.settled.entities.len() {
            if self.path_here(id).is_some() && !self.is_host(id) {
                gone.push(self.path_now(id));
            }
        }
        gone.sort_by_cached_key(|path| std::cmp::Reverse(path.components().count()));
        self.ops
            .extend(gone.into_iter().map(|path| Op::Rmdir { path }));
    }

    fn make_dirs(&mut self) {
        let mut paths: Vec<&TreePath> = self.settled.paths.values().collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths.into_iter().filter(|path| !path.is_root()) {
            match self.hosts.get(path) {
                Some(id) => {
                    if let Some(aside) = self.aside.get(id) {
                        self.ops.push(Op::Rename {
                            from: aside.clone(),
                            to: path.clone(),
                        });
                    }
                }
                None => self.ops.push(Op::Mkdir { path: path.clone() }),
            }
        }
    }

    fn facts(&mut self) {
        for folder in &self.settled.folders {
            let host = self.hosts.get(&folder.path);
            let known = host.and_then(|&id| self.entity(id).facts.sides[self.side].as_ref());
            if let Some(facts) = &folder.facts
                && !folder.is_bare
                && known != Some(facts)
            {
                self.ops.push(Op::SetMailbox {
                    folder: folder.path.clone(),
                    facts: facts.clone(),
                });
            }
        }
    }
}

fn put(path: TreePath, oid: Oid, attrs: &Attrs, content: Option<&[u8]>) -> Op {
    Op::Put {
        path,
        oid,
        content: match content {
            Some(bytes) => Content::Inline(bytes.to_vec()),
            None => Content::Existing,
        },
        attrs: attrs.clone(),
    }
}

/// A message that stays in its folder.
fn change(message: &Message, rec: &Rec, later: &mut Later) {
    let path = message.path();
    if message.place != rec.place || message.name != rec.name {
        let from = message.folder.join(rec.place.name()).join(&rec.name);
        later.in_place.push(Op::Rename {
            from,
            to: path.clone(),
        });
    }
    if message.attrs != rec.attrs {
        later.in_place.push(Op::SetAttrs {
            path,
            attrs: message.attrs.clone(),
        });
    }
}
