//! A braid's changes, shown: applied to what is loaded, and told to the kernel and to who watches.
//!
//! - A directory that is not loaded is known by its tree alone, so a change below it is nothing but another tree ([`Change::Retree`]); it is loaded by that when
//!   it is asked for. One that is just being read finds that its tree is another, and is read again.
//! - What comes is a new inode, what has another name keeps its own.
//! - The kernel forgets listings before the lock is let go, names a moment later: see [`Fs::forget_listing`].
//! - Index files are made anew when their server looks for them next: they are behind, that is all.
//! - Nothing here fails: a change that does not fit is a defect, is logged, and the others are applied.

use hashbrown::HashSet;
use log::{error, warn};

use super::live::Stale;
use super::node::{self, Content, Ino, Listing, Marks, Name, Node};
use super::space::Space;
use super::{Fs, FsError};
use crate::maildir::class::{PathClass, WAKE, classify_dir};
use crate::maildir::{EntryKind, Oid, TreePath, hidden};
use crate::store::Change;

impl Fs {
    /// What is written and in no record yet goes into the journal, so that the braid is made with it.
    pub(super) fn bring_in(&self) {
        let (folders, is_dirty) = {
            let space = self.space.lock();
            let free = |folder: &Ino| !self.is_locked(&space, *folder);
            let folders: Vec<Ino> = space.written.iter().copied().filter(free).collect();
            (folders, !space.dirty.is_empty())
        };
        for folder in folders {
            if let Err(error) = self.read_now(folder) {
                warn!("an index file could not be read before a braid: {error}");
            }
        }
        if is_dirty {
            self.commit_dirty();
        }
    }

    /// Whether a server holds a folder that is to be changed.
    pub(super) fn is_held(&self, space: &Space, changes: &[Change]) -> bool {
        let mut folders: HashSet<TreePath> = HashSet::new();
        for change in changes {
            match change {
                Change::Put { path, .. }
                | Change::Remove { path }
                | Change::SetAttrs { path, .. } => folders.extend(path.folder()),
                Change::Rename { from, to, .. } => {
                    folders.extend(from.folder());
                    folders.extend(to.folder());
                    folders.insert(from.clone());
                }
                Change::RemoveDir { path } => {
                    folders.insert(path.clone());
                    folders.extend(path.parent());
                }
                Change::SetMailbox { folder, .. } => {
                    folders.insert(folder.clone());
                }
                Change::Mkdir { .. } | Change::Retree { .. } => {}
            }
        }
        folders.iter().any(|path| {
            Self::loaded_dir(space, path).is_some_and(|folder| self.is_locked(space, folder))
        })
    }

    /// The directory at a path, where it is loaded.
    fn loaded_dir(space: &Space, path: &TreePath) -> Option<Ino> {
        let (at, rest) = Self::deepest_loaded(space, path).ok()?;
        let is_loaded = matches!(space.dir(at).ok()?.listing, Listing::Loaded(_));
        (rest.is_empty() && is_loaded).then_some(at)
    }

    /// Applies the changes, under the lock.
    pub(super) fn show_braid(&self, space: &mut Space, changes: &[Change]) {
        let mut shown = Shown::default();
        for change in changes {
            if let Err(problem) = self.show_change(space, change, &mut shown) {
                error!("a braid's change could not be shown: {problem}: {change:?}");
            }
            Self::records_of_change(space, change);
        }
        for dir in &shown.dirs {
            self.forget_listing(*dir);
        }
        // Last, so that who looks then is not answered by what the kernel remembered.
        for dir in shown.dirs {
            if space.node(dir).is_ok_and(|node| node.lookups > 0)
                && let Ok(path) = space.path(dir)
                && path.join(WAKE).folder().is_some()
            {
                self.stale(Stale::Watched(path.join(WAKE)));
            }
        }
    }

    fn show_change(
        &self,
        space: &mut Space,
        change: &Change,
        shown: &mut Shown,
    ) -> Result<(), FsError> {
        match change {
            Change::Put { path, oid, attrs } => {
                if let Some(parent) = Self::loaded_parent(space, path)? {
                    let kind = EntryKind::File(attrs.clone());
                    self.appear(space, parent, path, (*oid, &kind), shown)?;
                }
            }
            Change::Mkdir { path, tree } => {
                if let Some(parent) = Self::loaded_parent(space, path)? {
                    self.appear(space, parent, path, (*tree, &EntryKind::Dir), shown)?;
                }
            }
            Change::Rename {
                from,
                to,
                oid,
                kind,
            } => self.move_entry(space, (from, to), (*oid, kind), shown)?,
            Change::Remove { path } | Change::RemoveDir { path } => {
                if let Some(parent) = Self::loaded_parent(space, path)? {
                    self.disappear(space, parent, path.name(), shown)?;
                }
                if matches!(change, Change::RemoveDir { .. }) {
                    self.local.rmdir(path)?;
                }
            }
            Change::SetAttrs { path, attrs } => {
                if let Some(parent) = Self::loaded_parent(space, path)?
                    && let Some(ino) = space.child(parent, path.name())?
                {
                    node::set_attrs(space.node_mut(ino)?, attrs);
                    Self::mark(space, ino, parent, path.name(), Marks::of(attrs));
                    self.stale(Stale::Inode(ino));
                    // A server that is asked for what is new looks at the directory's time first.
                    Self::touch(space, parent)?;
                    shown.dirs.insert(parent);
                }
            }
            Change::Retree { path, tree } => {
                let (at, rest) = Self::deepest_loaded(space, path)?;
                if rest.is_empty() && matches!(space.dir(at)?.listing, Listing::Unloaded(_)) {
                    space.dir_mut(at)?.listing = Listing::Unloaded(*tree);
                    Self::touch(space, at)?;
                    shown.dirs.insert(at);
                }
            }
            Change::SetMailbox { folder, facts } => {
                if let Some(at) = Self::loaded_dir(space, folder) {
                    space.mailbox_mut(at)?.set_facts(facts.clone());
                    // A server reads its index files where the directory of messages has changed: UIDNEXT may have risen for mail that has left again.
                    if let Some(cur) = space.child(at, b"cur")? {
                        Self::touch(space, cur)?;
                        shown.dirs.insert(cur);
                    }
                }
            }
        }
        Ok(())
    }

    fn touch(space: &mut Space, dir: Ino) -> Result<(), FsError> {
        let now = node::now();
        let node = space.node_mut(dir)?;
        (node.mtime, node.ctime) = (now, now);
        Ok(())
    }

    /// Sets what belongs to a message, and notes keyword letters that wait to be written out.
    fn mark(space: &mut Space, ino: Ino, dir: Ino, name: &[u8], marks: Marks) {
        let waits = marks.ext.contains_key(&hidden::KEYWORDS);
        space.set_marks(ino, dir, name, marks);
        let folder = match space.dir(dir) {
            Ok(dir) if waits && matches!(&*dir.name, b"cur" | b"new") => dir.parent,
            _ => return,
        };
        if let Ok(mailbox) = space.mailbox_mut(folder) {
            mailbox.letters.insert(ino);
        }
    }

    /// A file or directory comes. It gets an inode of its own, so that nothing the kernel or a server remembers of an old one is taken for it.
    fn appear(
        &self,
        space: &mut Space,
        parent: Ino,
        path: &TreePath,
        (oid, kind): (Oid, &EntryKind),
        shown: &mut Shown,
    ) -> Result<(), FsError> {
        let (time, name) = (node::now(), path.name());
        if space.child(parent, name)?.is_some() {
            self.disappear(space, parent, name, shown)?;
        }
        match kind {
            EntryKind::Dir => {
                let listing = Listing::Unloaded(oid);
                let ino = space.add(Node::dir(parent, Name::from(name), listing, time));
                space.attach(parent, name, ino, time)?;
            }
            EntryKind::File(attrs) => {
                let mut file = Node::file(Content::Blob, Some(oid), attrs.size, (attrs.mtime, 0));
                node::set_attrs(&mut file, attrs);
                let ino = space.add(file);
                space.attach(parent, name, ino, time)?;
                Self::mark(space, ino, parent, name, Marks::of(attrs));
            }
        }
        self.stale(Stale::Entry(parent, name.to_vec()));
        shown.dirs.insert(parent);
        Ok(())
    }

    /// A name goes, and all below it.
    fn disappear(
        &self,
        space: &mut Space,
        parent: Ino,
        name: &[u8],
        shown: &mut Shown,
    ) -> Result<(), FsError> {
        let ino = space.child(parent, name)?.ok_or(FsError::NotFound)?;
        let below: Vec<Name> = match space.entries(ino) {
            Ok(entries) => entries.iter().map(|(name, _)| Name::from(name)).collect(),
            // A file, or a directory that is not loaded.
            Err(_) => Vec::new(),
        };
        for name in below {
            self.disappear(space, ino, &name, shown)?;
        }
        self.drop_name(space, parent, name)?;
        self.stale(Stale::Entry(parent, name.to_vec()));
        shown.dirs.insert(parent);
        shown.dirs.remove(&ino);
        Ok(())
    }

    fn move_entry(
        &self,
        space: &mut Space,
        (from, to): (&TreePath, &TreePath),
        (oid, kind): (Oid, &EntryKind),
        shown: &mut Shown,
    ) -> Result<(), FsError> {
        let source = Self::loaded_parent(space, from)?;
        let target = Self::loaded_parent(space, to)?;
        if *kind == EntryKind::Dir && classify_dir(from) == PathClass::Committed {
            // A server's files go with their folder.
            self.local.rmdir(to)?;
            self.local.rename(from, to)?;
        }
        let (Some(source), Some(target)) = (source, target) else {
            if let Some(source) = source {
                self.disappear(space, source, from.name(), shown)?;
            }
            if let Some(target) = target {
                self.appear(space, target, to, (oid, kind), shown)?;
            }
            return Ok(());
        };
        let ino = space.child(source, from.name())?.ok_or(FsError::NotFound)?;
        if space.child(target, to.name())?.is_some() {
            self.disappear(space, target, to.name(), shown)?;
        }
        let time = node::now();
        space.detach(source, from.name(), time)?;
        space.attach(target, to.name(), ino, time)?;
        if let EntryKind::File(attrs) = kind {
            node::set_attrs(space.node_mut(ino)?, attrs);
            Self::mark(space, ino, target, to.name(), Marks::of(attrs));
            self.stale(Stale::Inode(ino));
        }
        self.stale(Stale::Entry(source, from.name().to_vec()));
        self.stale(Stale::Entry(target, to.name().to_vec()));
        shown.dirs.extend([source, target]);
        Ok(())
    }
}

/// Directories in which something has changed.
#[derive(Default)]
struct Shown {
    dirs: HashSet<Ino>,
}
