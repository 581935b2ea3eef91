//! From one root tree to another: the least list of changes of a live tree. Equal subtrees are not read, so the cost follows the difference.
//!
//! - A message that has another name in its folder (flags, `new` to `cur`) is renamed: same unique name, same content. Other files appear and disappear.
//! - A directory that is elsewhere is moved if it is the same folder (mailbox GUID, or else UIDVALIDITY), or if its tree is the same. What differs in it then follows.
//! - A directory that is another folder than before, and that one is nowhere, stays and gets the other's contents.
//! - A directory that is new comes whole, by its tree, and one that is gone goes whole.
//! - Every directory that stays and has another tree is said to ([`Change::Retree`]).
//!
//! The list is applied in order. For each level of moved directories: files that go, directories that go, moves, directories that come; then, for all
//! levels, renames of messages, attributes, files that come, facts, trees. Moves in a circle go by a name that no tree has.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, MergeError, Node, RawEntry, Trees};
use super::walk;
use crate::maildir::{Attrs, Change, EntryKind, MailboxFacts, Oid, TreePath, name};

/// Where directories wait that move in a circle; a number follows.
const ASIDE: &str = ".mailbraid-moving-";

/// The changes that make `old` `new`; `None` is the empty tree.
///
/// # Errors
/// Where a tree cannot be read, or is not one that mailbraid writes.
pub fn changes<T: Trees>(
    trees: &T,
    old: Option<Oid>,
    new: Option<Oid>,
) -> Result<Vec<Change>, MergeError<T::Error>> {
    let mut walk = Walk {
        trees,
        early: Vec::new(),
        late: Late::default(),
        aside: 0,
    };
    let mut level = vec![(TreePath::root(), old, new)];
    while !level.is_empty() {
        level = walk.level(level)?;
    }
    let Late {
        renames,
        attrs,
        puts,
        facts,
        trees,
    } = walk.late;
    let mut all = walk.early;
    for part in [renames, attrs, puts, facts, trees] {
        all.extend(part);
    }
    Ok(all)
}

type Dirs = Vec<(TreePath, Oid)>;
type Pairs = Vec<(TreePath, Option<Oid>, Option<Oid>)>;
type Files = BTreeMap<TreePath, (Oid, Attrs)>;

/// Changes that wait until all directories are in place.
#[derive(Default)]
struct Late {
    renames: Vec<Change>,
    attrs: Vec<Change>,
    puts: Vec<Change>,
    facts: Vec<Change>,
    trees: Vec<Change>,
}

struct Walk<'a, T> {
    trees: &'a T,
    early: Vec<Change>,
    late: Late,
    aside: usize,
}

impl<T: Trees> Walk<'_, T> {
    /// Compares directories that are both there, and all below them that are both there at the same names. Returns directories that were moved, or became another folder.
    fn level(&mut self, mut todo: Pairs) -> Result<Pairs, MergeError<T::Error>> {
        let (mut gone_dirs, mut new_dirs): (Dirs, Dirs) = Default::default();
        let (mut gone, mut new): (Files, Files) = Default::default();
        while let Some((path, old_tree, new_tree)) = todo.pop() {
            if old_tree == new_tree {
                continue;
            }
            self.facts(&path, old_tree, new_tree)?;
            if let (Some(_), Some(tree)) = (old_tree, new_tree) {
                let path = path.clone();
                self.late.trees.push(Change::Retree { path, tree });
            }
            let difference = walk::difference(self.trees, old_tree, [new_tree, old_tree], false)?;
            let removed = difference.base.into_iter().map(|(entry, _)| entry);
            let [added, _] = difference.added;
            let mut old_below = BTreeMap::new();
            for entry in removed {
                if entry.dir {
                    old_below.insert(entry.dir_name()?, entry.oid);
                } else {
                    let (name, attrs) = entry.file()?;
                    gone.insert(path.join(&name), (entry.oid, attrs));
                }
            }
            for entry in added {
                if !entry.dir {
                    let (name, attrs) = entry.file()?;
                    new.insert(path.join(&name), (entry.oid, attrs));
                    continue;
                }
                let name = entry.dir_name()?;
                let below = path.join(&name);
                match old_below.remove(&name) {
                    Some(old) if self.may_be_one(old, &entry)? => {
                        todo.push((below, Some(old), Some(entry.oid)));
                    }
                    Some(old) => {
                        gone_dirs.push((below.clone(), old));
                        new_dirs.push((below, entry.oid));
                    }
                    None => new_dirs.push((below, entry.oid)),
                }
            }
            gone_dirs.extend(
                old_below
                    .into_iter()
                    .map(|(name, oid)| (path.join(&name), oid)),
            );
        }
        self.files(gone, new);
        self.dirs(gone_dirs, new_dirs)
    }

    /// The facts of a directory. One that no server has opened has none to be known by.
    fn node_facts(&self, tree: Oid) -> Result<Option<MailboxFacts>, MergeError<T::Error>> {
        let node = self.trees.node(tree).map_err(MergeError::Source)?;
        let facts = source::facts(self.trees, node.mailbox())?;
        Ok(facts.filter(|facts| !facts.is_only_offered()))
    }

    /// Whether directories of one name are not known to be different folders. One that has lost its facts was made anew.
    fn may_be_one(&self, old: Oid, new: &RawEntry) -> Result<bool, MergeError<T::Error>> {
        let (Some(old), new) = (self.node_facts(old)?, self.node_facts(new.oid)?) else {
            return Ok(true);
        };
        let Some(new) = new else {
            return Ok(false);
        };
        Ok(old.guid.is_none() || new.guid.is_none() || old.guid == new.guid)
    }

    fn loses_facts(&self, old: Oid, new: Oid) -> Result<bool, MergeError<T::Error>> {
        Ok(self.node_facts(old)?.is_some() && self.node_facts(new)?.is_none())
    }

    fn facts(
        &mut self,
        path: &TreePath,
        old: Option<Oid>,
        new: Option<Oid>,
    ) -> Result<(), MergeError<T::Error>> {
        let mailbox = |tree: Option<Oid>| -> Result<Option<Oid>, MergeError<T::Error>> {
            let Some(tree) = tree else { return Ok(None) };
            let node = self.trees.node(tree).map_err(MergeError::Source)?;
            Ok(node.mailbox())
        };
        let (old, new) = (mailbox(old)?, mailbox(new)?);
        if old != new
            && let Some(facts) = source::facts(self.trees, new)?
        {
            let folder = path.clone();
            self.late.facts.push(Change::SetMailbox { folder, facts });
        }
        Ok(())
    }

    fn files(&mut self, mut gone: Files, mut new: Files) {
        let mut left: BTreeMap<(TreePath, Vec<u8>, Oid), Vec<TreePath>> = BTreeMap::new();
        gone.retain(|path, (oid, attrs)| {
            let Some((now, now_attrs)) = new.get(path) else {
                return true;
            };
            if now != oid {
                return false;
            }
            if now_attrs != attrs {
                let (path, attrs) = (path.clone(), now_attrs.clone());
                self.late.attrs.push(Change::SetAttrs { path, attrs });
            }
            new.remove(path);
            false
        });
        for (path, (oid, _)) in gone.iter().rev() {
            if let Some(folder) = path.folder() {
                let key = (folder, name::identity(path.name()).into_owned(), *oid);
                left.entry(key).or_default().push(path.clone());
            }
        }
        for (path, (oid, attrs)) in new {
            let from = path.folder().and_then(|folder| {
                let key = (folder, name::identity(path.name()).into_owned(), oid);
                left.get_mut(&key)?.pop()
            });
            match from {
                Some(from) => {
                    gone.remove(&from);
                    self.late.renames.push(Change::Rename {
                        from,
                        to: path,
                        oid,
                        kind: EntryKind::File(attrs),
                    });
                }
                None => self.late.puts.push(Change::Put { path, oid, attrs }),
            }
        }
        let removed = gone.into_keys();
        self.early
            .extend(removed.map(|path| Change::Remove { path }));
    }

    /// Directories that went and came: which of them are the same. Returns those whose contents are to be compared.
    fn dirs(&mut self, gone: Dirs, new: Dirs) -> Result<Pairs, MergeError<T::Error>> {
        let mut by_folder: BTreeMap<Same, Vec<usize>> = BTreeMap::new();
        for (at, (_, tree)) in gone.iter().enumerate().rev() {
            for same in self.same(*tree)? {
                by_folder.entry(same).or_default().push(at);
            }
        }
        let mut taken = BTreeSet::new();
        let (mut moves, mut come, mut stay) = (Vec::new(), Vec::new(), Vec::new());
        for (to, tree) in new {
            let mut found = None;
            for same in self.same(tree)? {
                let known = by_folder.get(&same).into_iter().flatten().rev();
                found = found.or_else(|| known.copied().find(|at| !taken.contains(at)));
            }
            match found {
                Some(at) => {
                    taken.insert(at);
                    let (from, old) = &gone[at];
                    // At its own path only its GUID is another.
                    if *from != to {
                        moves.push((from.clone(), to.clone(), tree));
                    }
                    stay.push((to, Some(*old), Some(tree)));
                }
                None => come.push((to, tree)),
            }
        }
        // What neither went elsewhere nor came from elsewhere stays, as another folder: the same folder was made on two nodes. Whoever is at work in it goes on.
        let mut anew = Vec::new();
        for (path, tree) in come {
            let known = gone.iter().position(|(gone, _)| *gone == path);
            match known.filter(|at| !taken.contains(at)) {
                Some(at) if !self.loses_facts(gone[at].1, tree)? => {
                    taken.insert(at);
                    stay.push((path, Some(gone[at].1), Some(tree)));
                }
                _ => anew.push(Change::Mkdir { path, tree }),
            }
        }
        for (at, (path, _)) in gone.into_iter().enumerate() {
            if !taken.contains(&at) {
                self.early.push(Change::RemoveDir { path });
            }
        }
        self.moves(moves);
        self.early.extend(anew);
        Ok(stay)
    }

    /// By what a directory is known again, the surest first.
    fn same(&self, tree: Oid) -> Result<Vec<Same>, MergeError<T::Error>> {
        let node = self.trees.node(tree).map_err(MergeError::Source)?;
        let mut same = Vec::new();
        if let Some(facts) = source::facts(self.trees, node.mailbox())? {
            same.extend(facts.guid.map(Same::Guid));
            if facts.uid_validity > 0 {
                same.push(Same::Validity(facts.uid_validity));
            }
        }
        let is_empty = matches!(&*node, Node::Leaf { entries, .. } if entries.is_empty());
        if !is_empty {
            same.push(Same::Tree(tree));
        }
        Ok(same)
    }

    /// Orders moves so that each place is free when something comes there.
    fn moves(&mut self, mut moves: Vec<(TreePath, TreePath, Oid)>) {
        while !moves.is_empty() {
            let free = moves
                .iter()
                .position(|(_, to, _)| !moves.iter().any(|(from, _, _)| from == to));
            if let Some(at) = free {
                let (from, to, oid) = moves.remove(at);
                let kind = EntryKind::Dir;
                self.early.push(Change::Rename {
                    from,
                    to,
                    oid,
                    kind,
                });
                continue;
            }
            let (from, _, oid) = &mut moves[0];
            let aside = from
                .parent()
                .unwrap_or_default()
                .join(format!("{ASIDE}{}", self.aside).as_bytes());
            self.aside += 1;
            let from = std::mem::replace(from, aside.clone());
            let (oid, kind) = (*oid, EntryKind::Dir);
            let to = aside;
            self.early.push(Change::Rename {
                from,
                to,
                oid,
                kind,
            });
        }
    }
}

/// What makes two directories one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Same {
    Guid(Vec<u8>),
    Validity(u32),
    Tree(Oid),
}
