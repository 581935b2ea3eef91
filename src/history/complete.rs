//! Whether a pushed pack brings all that its objects name, before anybody sees it.
//!
//! What is in the repository is complete: every object has all that it names. So a pack that names only its own objects and those here keeps it so, and nothing beyond the
//! pack needs to be read. A pack that does not is not admitted: what a later one names must not be found in it.

use gix::objs::{CommitRefIter, Exists as _, Kind, TreeRefIter};
use gix::odb::pack::cache::lru::MemoryCappedHashmap;
use gix::odb::pack::data::entry::Header;

use super::hash::{from_gix, gix_kind, to_gix};
use super::{HistoryError, incoming::Incoming};
use crate::limits;
use crate::maildir::Oid;

impl Incoming {
    /// The first object found that `head` or an object of the pack names and that is not here.
    ///
    /// # Errors
    /// Damaged objects.
    pub fn lacks(&self, head: Oid) -> Result<Option<Oid>, HistoryError> {
        let here = self.repo().git().objects;
        let is_there = |oid: Oid| {
            let oid = to_gix(oid);
            let own = self.pack().and_then(|pack| pack.index.lookup(oid));
            own.is_some() || here.exists(&oid)
        };
        if !is_there(head) {
            return Ok(Some(head));
        }
        let Some(pack) = self.pack() else {
            return Ok(None);
        };
        let hash = gix_kind(self.repo().kind());
        let mut cache = MemoryCappedHashmap::new(limits::READER_CACHE_BYTES);
        let mut inflate = gix::zlib::Inflate::default();
        let mut data = Vec::new();
        for at in 0..pack.index.num_objects() {
            let oid = from_gix(pack.index.oid_at_index(at));
            let bad = |why: gix::Error| HistoryError::corrupt(oid, format!("{why:#}"));
            let entry = pack.pack.entry(pack.index.pack_offset_at_index(at));
            if matches!(entry.map_err(bad)?.header, Header::Blob) {
                continue;
            }
            // Ids were computed from what stands here when the index was made.
            let found = pack.get_object_by_index(at, &mut data, &mut inflate, &mut cache);
            let named = match found.map_err(bad)?.0.kind {
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
            if let Some(missing) = named.into_iter().find(|oid| !is_there(*oid)) {
                return Ok(Some(missing));
            }
        }
        Ok(None)
    }
}
