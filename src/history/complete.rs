//! Whether a pushed pack brings all that its objects name, before a ref lets anybody see them.
//!
//! What is in the repository is complete: every object has all that it names. So a pack that names only its own objects and those here keeps it so, and nothing beyond the
//! pack needs to be read. A pack that does not is removed again: what a later one names must not be found in it.

use gix::objs::{CommitRefIter, Kind, TreeRefIter};

use super::hash::{from_gix, gix_kind, to_gix};
use super::{HistoryError, Received, Repo, maintain};
use crate::maildir::Oid;

impl Repo {
    /// The first object found that `head` or an object of the pack names and that is not here.
    ///
    /// # Errors
    /// I/O errors, damaged objects.
    pub fn lacks(&self, received: &Received, head: Oid) -> Result<Option<Oid>, HistoryError> {
        let git = self.git();
        if !git.has_object(to_gix(head)) {
            return Ok(Some(head));
        }
        let Some(keep) = received.keep() else {
            return Ok(None);
        };
        let path = keep.with_extension("idx");
        let read = || -> Result<Option<Oid>, gix::Error> {
            let index = gix::odb::pack::index::File::at(&path, gix_kind(self.kind()))?;
            for entry in index.iter() {
                let object = git.find_object(entry.oid)?;
                let named: Vec<_> = match object.kind {
                    Kind::Blob => continue,
                    Kind::Tree => TreeRefIter::from_bytes(&object.data, git.object_hash())
                        .map(|entry| entry.map(|entry| entry.oid.to_owned()))
                        .collect::<Result<_, _>>()?,
                    Kind::Commit => {
                        let commit = || CommitRefIter::from_bytes(&object.data, git.object_hash());
                        let tree = commit().tree_id()?;
                        std::iter::once(tree).chain(commit().parent_ids()).collect()
                    }
                    // We have none, and nothing of ours names one.
                    Kind::Tag => return Ok(Some(from_gix(entry.oid))),
                };
                for id in named {
                    if !git.has_object(id) {
                        return Ok(Some(from_gix(id)));
                    }
                }
            }
            Ok(None)
        };
        read().map_err(HistoryError::git_chain("the pack's objects cannot be read"))
    }
}

impl Received {
    /// Removes the pack, which nothing refers to.
    pub fn discard(self) {
        if let Some(keep) = self.keep()
            && let Some(dir) = keep.parent()
        {
            // Left behind, it is a pack that nothing refers to.
            let _ = maintain::remove(dir, std::iter::once(&keep.with_extension("")));
        }
    }
}
