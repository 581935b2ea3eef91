//! Whether a pushed pack brings all that its objects name, before a ref lets anybody see them.
//!
//! What is in the repository is complete: every object has all that it names. So a pack that names only its own objects and those here keeps it so, and nothing beyond the
//! pack needs to be read. A pack that does not is removed again: what a later one names must not be found in it.

use gix::objs::{CommitRefIter, Kind, TreeRefIter};

use super::hash::{from_gix, gix_kind};
use super::{HistoryError, Received, Repo, maintain};
use crate::maildir::Oid;

impl Repo {
    /// The first object found that `head` or an object of the pack names and that is not here.
    ///
    /// # Errors
    /// I/O errors, damaged objects.
    pub fn lacks(&self, received: &Received, head: Oid) -> Result<Option<Oid>, HistoryError> {
        let reader = self.reader();
        if !reader.has(head) {
            return Ok(Some(head));
        }
        let Some(keep) = received.keep() else {
            return Ok(None);
        };
        let path = keep.with_extension("idx");
        let unreadable = HistoryError::git_chain("the pack's objects cannot be read");
        let index =
            gix::odb::pack::index::File::at(&path, gix_kind(self.kind())).map_err(unreadable)?;
        let hash = gix_kind(self.kind());
        let mut data = Vec::new();
        for entry in index.iter() {
            let oid = from_gix(entry.oid);
            let named = match reader.any(oid, &mut data)? {
                Kind::Blob => continue,
                Kind::Tree => TreeRefIter::from_bytes(&data, hash)
                    .map(|entry| entry.map(|entry| from_gix(entry.oid)))
                    .collect::<Result<Vec<_>, _>>(),
                Kind::Commit => {
                    let commit = || CommitRefIter::from_bytes(&data, hash);
                    commit().tree_id().map(|tree| {
                        let parents = commit().parent_ids();
                        std::iter::once(tree).chain(parents).map(from_gix).collect()
                    })
                }
                // We have none, and nothing of ours names one.
                Kind::Tag => return Ok(Some(oid)),
            };
            let named = named.map_err(|why| HistoryError::corrupt(oid, format!("{why:#}")))?;
            for id in named {
                if !reader.has(id) {
                    return Ok(Some(id));
                }
            }
        }
        Ok(None)
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
