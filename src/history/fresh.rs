//! Objects that were written a moment ago, for pushes.
//!
//! The problem: a push sends what the writer has just made, and would look for the packs that came since, inflate and hash what is in them, and compress it again, beside the requests
//! that make the next commit. Under load that was half of what a push computed.
//!
//! Rules:
//! - The writer keeps here what it puts into a pack, but only while somebody pushes: who has no peers pays nothing.
//! - Trees and commits as they are, since deltas are made of them; blobs as they stand in the pack, compressed at the level of the wire.
//! - In two generations of bounded bytes. What is not here (any more) is in the repository. What is here may never get there, and is then asked for by nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::hash::ObjectKind;
use crate::limits;
use crate::maildir::Oid;

/// An object that was written a moment ago.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// A tree or a commit.
    Plain(ObjectKind, Arc<[u8]>),
    /// A blob: its size, and its content as zlib has it.
    Packed(u64, Arc<[u8]>),
}

impl Object {
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(_, bytes) | Self::Packed(_, bytes) => bytes.len(),
        }
    }
}

/// See the module.
pub(super) struct Fresh {
    since: Instant,
    /// Milliseconds after `since` until which objects are kept; 0 before the first push.
    wanted_until: AtomicU64,
    kept: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Oid, Object>,
    old: HashMap<Oid, Object>,
    young_bytes: usize,
}

impl Fresh {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            wanted_until: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    /// Somebody pushes: what is written from now on, for a while, is kept.
    pub(super) fn want(&self) {
        let until = self.since.elapsed() + limits::FRESH_WANTED;
        self.wanted_until
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether somebody does.
    pub(super) fn is_wanted(&self) -> bool {
        let until = self.wanted_until.load(Ordering::Relaxed);
        until > 0 && {
            let wanted = (self.since.elapsed().as_millis() as u64) < until;
            if !wanted {
                self.wanted_until.store(0, Ordering::Relaxed);
                *self.kept.lock() = Generations::default();
            }
            wanted
        }
    }

    pub(super) fn put(&self, oid: Oid, object: Object) {
        let mut kept = self.kept.lock();
        if kept.young_bytes > limits::FRESH_BYTES / 2 {
            kept.old = std::mem::take(&mut kept.young);
            kept.young_bytes = 0;
        }
        kept.young_bytes += object.bytes();
        kept.young.insert(oid, object);
    }

    pub(super) fn get(&self, oid: Oid) -> Option<Object> {
        if self.wanted_until.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let kept = self.kept.lock();
        kept.young.get(&oid).or_else(|| kept.old.get(&oid)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::hash::hash_blob;
    use crate::maildir::HashKind;

    #[test]
    fn what_is_written_while_somebody_pushes_is_kept_within_bounds() {
        let fresh = Fresh::new();
        assert!(!fresh.is_wanted(), "nobody has pushed");
        fresh.want();
        assert!(fresh.is_wanted());
        let put = |number: u32| {
            let oid = hash_blob(HashKind::Sha1, &number.to_be_bytes());
            let bytes = vec![0; limits::FRESH_BYTES / 100];
            fresh.put(oid, Object::Packed(0, bytes.into()));
            oid
        };
        let ids: Vec<Oid> = (0..300).map(put).collect();
        let there: Vec<bool> = ids.iter().map(|id| fresh.get(*id).is_some()).collect();
        assert!(there.ends_with(&[true; 50]), "the last ones are here");
        let count = there.iter().filter(|is_there| **is_there).count();
        assert!(count <= 103, "{count} are");
    }
}
