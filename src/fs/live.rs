//! What the store tells the live tree: content is committed; a braid has changed things.

use std::sync::Arc;

use log::error;

use super::node::{Body, Content, Ino, Listing, Marks, Node, ROOT};
use super::space::Space;
use super::{Fs, FsError, Invalidator, node};
use crate::maildir::{Attrs, Oid, TreePath};
use crate::store::{Change, LiveView};

/// Something the kernel remembers and should not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stale {
    /// A name.
    Entry(Ino, Vec<u8>),
    /// An inode.
    Inode(Ino),
}

impl Fs {
    /// Sets who tells the kernel, and starts the thread that does: invalidation under a lock or from a request's thread would deadlock.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn set_invalidator(&self, invalidator: Arc<dyn Invalidator>) -> std::io::Result<()> {
        let (sender, inbox) = crossbeam_channel::unbounded();
        std::thread::Builder::new()
            .name("mb-invalidate".to_owned())
            .spawn(move || {
                for stale in inbox {
                    match stale {
                        Stale::Entry(parent, name) => invalidator.entry(parent, &name),
                        Stale::Inode(ino) => invalidator.inode(ino),
                    }
                }
            })?;
        let _ = self.invalidator.set(sender);
        Ok(())
    }

    pub(super) fn stale(&self, what: Stale) {
        if let Some(sender) = self.invalidator.get() {
            // The thread ends with the mount; nobody remembers anything then.
            let _ = sender.send(what);
        }
    }

    /// The directory at a path, as far down as directories are loaded, and what is left of the path.
    pub(super) fn deepest_loaded(
        space: &Space,
        path: &TreePath,
    ) -> Result<(Ino, Vec<Vec<u8>>), FsError> {
        let mut at = ROOT;
        let mut rest: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        rest.reverse();
        while let Some(name) = rest.last() {
            if matches!(space.dir(at)?.listing, Listing::Unloaded(_)) {
                break;
            }
            let Some(next) = space.child(at, name)? else {
                break;
            };
            if !space.is_dir(next)? {
                break;
            }
            at = next;
            rest.pop();
        }
        rest.reverse();
        Ok((at, rest))
    }

    /// The loaded directory that holds `path`; `None` where it is not loaded, and so follows its tree id.
    fn loaded_parent(space: &Space, path: &TreePath) -> Result<Option<Ino>, FsError> {
        let Some(parent) = path.parent() else {
            return Err(FsError::Invalid);
        };
        let (at, rest) = Self::deepest_loaded(space, &parent)?;
        if matches!(space.dir(at)?.listing, Listing::Unloaded(_)) {
            return Ok(None);
        }
        if rest.is_empty() {
            Ok(Some(at))
        } else {
            Err(FsError::NotFound)
        }
    }

    fn change(&self, space: &mut Space, change: &Change) -> Result<(), FsError> {
        match change {
            Change::Put { path, oid, attrs } => self.put(space, path, *oid, attrs),
            Change::Rename { from, to } => {
                let source = Self::loaded_parent(space, from)?;
                let target = Self::loaded_parent(space, to)?;
                let time = node::now();
                match (source, target) {
                    (Some(source), Some(target)) => {
                        if space.child(target, to.name())?.is_some() {
                            self.drop_name(space, target, to.name())?;
                        }
                        let ino = space.child(source, from.name())?.ok_or(FsError::NotFound)?;
                        let marks = space.marks(ino, source, from.name());
                        space.detach(source, from.name(), time)?;
                        space.attach(target, to.name(), ino, time)?;
                        space.set_marks(ino, target, to.name(), marks);
                        self.stale_name(source, from.name());
                        self.stale_name(target, to.name());
                    }
                    (Some(source), None) => {
                        self.drop_name(space, source, from.name())?;
                        self.stale_name(source, from.name());
                    }
                    _ => {}
                }
                Ok(())
            }
            Change::Remove { path } | Change::RemoveDir { path } => {
                if let Some(parent) = Self::loaded_parent(space, path)? {
                    self.drop_name(space, parent, path.name())?;
                    self.stale_name(parent, path.name());
                }
                Ok(())
            }
            Change::Mkdir { path, tree } => {
                if let Some(parent) = Self::loaded_parent(space, path)?
                    && space.child(parent, path.name())?.is_none()
                {
                    let time = node::now();
                    let name = super::Name::from(path.name());
                    let dir = Node::dir(parent, name, Listing::Unloaded(*tree), time);
                    let ino = space.add(dir);
                    space.attach(parent, path.name(), ino, time)?;
                    self.stale_name(parent, path.name());
                }
                Ok(())
            }
            Change::SetAttrs { path, attrs } => {
                if let Some(parent) = Self::loaded_parent(space, path)?
                    && let Some(ino) = space.child(parent, path.name())?
                {
                    node::set_attrs(space.node_mut(ino)?, attrs);
                    space.set_marks(ino, parent, path.name(), Marks::of(attrs));
                    self.stale(Stale::Inode(ino));
                }
                Ok(())
            }
            Change::SetMailbox { folder, facts } => {
                let (at, rest) = Self::deepest_loaded(space, folder)?;
                if rest.is_empty() && matches!(space.dir(at)?.listing, Listing::Loaded(_)) {
                    space.mailbox_mut(at)?.set_facts(facts.clone());
                }
                Ok(())
            }
        }
    }

    pub(super) fn stale_name(&self, parent: Ino, name: &[u8]) {
        self.stale(Stale::Entry(parent, name.to_vec()));
        self.stale(Stale::Inode(parent));
    }

    /// A file from a braid. It gets an inode of its own, so that nothing the kernel or a server remembers of the old one is taken for it.
    fn put(
        &self,
        space: &mut Space,
        path: &TreePath,
        oid: Oid,
        attrs: &Attrs,
    ) -> Result<(), FsError> {
        let Some(parent) = Self::loaded_parent(space, path)? else {
            return Ok(());
        };
        let time = node::now();
        if space.child(parent, path.name())?.is_some() {
            self.drop_name(space, parent, path.name())?;
        }
        let mut file = Node::file(Content::Blob, Some(oid), attrs.size, (attrs.mtime, 0));
        node::set_attrs(&mut file, attrs);
        let ino = space.add(file);
        space.attach(parent, path.name(), ino, time)?;
        space.set_marks(ino, parent, path.name(), Marks::of(attrs));
        self.stale_name(parent, path.name());
        Ok(())
    }
}

impl LiveView for Fs {
    fn committed(&self, seq: u64) {
        let mut space = self.space.lock();
        while let Some(&(number, ino)) = space.pending.front() {
            if number > seq {
                break;
            }
            space.pending.pop_front();
            if let Ok(node) = space.node_mut(ino)
                && let Body::File(file) = &mut node.body
            {
                match file.content {
                    Content::Pending(held) | Content::Spilled(_, held) if held == number => {
                        file.content = Content::Blob;
                    }
                    // Changed since then: another record will bring what it is now, or has.
                    _ => {}
                }
            }
        }
    }

    fn braided(&self, seq: u64, changes: &[Change]) -> bool {
        let mut space = self.space.lock();
        if space.last_seq > seq || !space.dirty.is_empty() {
            return false;
        }
        for change in changes {
            if let Err(problem) = self.change(&mut space, change) {
                error!("a braid's change could not be shown: {problem}: {change:?}");
            }
            Self::records_of_change(&mut space, change);
        }
        true
    }
}
