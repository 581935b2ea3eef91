//! Bounded memories: free space of the disk, and decoded blobs.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits;
use crate::maildir::Oid;
use crate::store::room_left;

/// Free space. Where there is plenty, it is asked for at most every [`Room::FRESH`].
#[derive(Default)]
pub struct Room {
    last: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    const FRESH: Duration = Duration::from_millis(20);

    /// Whether the filesystem that holds `dir` has `needed` free bytes.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub fn has(&self, dir: &Path, needed: u64) -> io::Result<bool> {
        let mut last = self.last.lock();
        if let Some((at, left)) = *last
            && at.elapsed() < Self::FRESH
            && left > needed.saturating_add(limits::ROOM_PLENTY)
        {
            return Ok(true);
        }
        let left = room_left(dir)?;
        *last = Some((Instant::now(), left));
        Ok(left >= needed)
    }
}

/// The blobs read last.
#[derive(Default)]
pub struct BlobCache {
    blobs: VecDeque<(Oid, Arc<Vec<u8>>)>,
    bytes: usize,
}

impl BlobCache {
    /// A blob, if it is here.
    pub fn get(&mut self, oid: Oid) -> Option<Arc<Vec<u8>>> {
        let at = self.blobs.iter().position(|(known, _)| *known == oid)?;
        let found = self.blobs.remove(at)?;
        let bytes = Arc::clone(&found.1);
        self.blobs.push_back(found);
        Some(bytes)
    }

    /// Keeps a blob, and lets go of the oldest beyond [`limits::BLOB_CACHE`].
    pub fn put(&mut self, oid: Oid, bytes: Arc<Vec<u8>>) {
        self.bytes += bytes.len();
        self.blobs.push_back((oid, bytes));
        while self.bytes > limits::BLOB_CACHE || self.blobs.len() > 64 {
            let Some((_, gone)) = self.blobs.pop_front() else {
                break;
            };
            self.bytes -= gone.len();
        }
    }
}
