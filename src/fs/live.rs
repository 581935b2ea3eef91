//! What the store tells the live tree: content is committed; a braid has changed things.

use std::sync::Arc;

use super::node::{Body, Content, Ino, Listing, ROOT};
use super::space::Space;
use super::{Fs, FsError, Invalidator};
use crate::maildir::TreePath;
use crate::store::{LiveView, Switch, Switched};

/// Something the kernel remembers and should not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stale {
    /// A name.
    Entry(Ino, Vec<u8>),
    /// An inode.
    Inode(Ino),
    /// Something has changed in the directory of this file ([`crate::maildir::class::WAKE`]): not the kernel, but who waits for changes there is
    /// to be told.
    Watched(TreePath),
}

impl Fs {
    /// Sets who tells the kernel, and starts the thread that does: invalidation of a name under a lock or from a request's thread would deadlock.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn set_invalidator(&self, invalidator: Arc<dyn Invalidator>) -> std::io::Result<()> {
        let _ = self.kernel.set(Arc::clone(&invalidator));
        let (sender, inbox) = crossbeam_channel::unbounded();
        std::thread::Builder::new()
            .name("mb-invalidate".to_owned())
            .spawn(move || {
                for stale in inbox {
                    match stale {
                        Stale::Entry(parent, name) => invalidator.entry(parent, &name),
                        Stale::Inode(ino) => invalidator.inode(ino),
                        Stale::Watched(path) => invalidator.watched(path.as_bytes()),
                    }
                }
            })?;
        let _ = self.invalidator.set(sender);
        Ok(())
    }

    /// The kernel forgets a directory's listing and times at once. Unlike a name's, this invalidation waits for no request, so it may be sent under the
    /// namespace lock: who asks us for anything afterwards lists what there is now. A server that met a new list of UIDs with an old listing would
    /// take mail for expunged, and give it another UID when it sees it.
    pub(super) fn forget_listing(&self, dir: Ino) {
        if let Some(kernel) = self.kernel.get() {
            kernel.inode(dir);
        }
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
    pub(super) fn loaded_parent(space: &Space, path: &TreePath) -> Result<Option<Ino>, FsError> {
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

    pub(super) fn stale_name(&self, parent: Ino, name: &[u8]) {
        self.stale(Stale::Entry(parent, name.to_vec()));
        self.stale(Stale::Inode(parent));
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

    fn braided(&self, switch: &mut dyn Switch) -> std::io::Result<Switched> {
        self.bring_in();
        let mut space = self.space.lock();
        let Some(changes) = switch.changes()? else {
            return Ok(Switched::Overtaken);
        };
        if switch.heeds_locks() && self.is_held(&space, &changes) {
            return Ok(Switched::Held);
        }
        switch.commit()?;
        self.show_braid(&mut space, &changes);
        Ok(Switched::Done)
    }
}
