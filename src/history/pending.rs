//! The pack being written: objects gathered in memory until they are flushed.
//!
//! A tree whose previous version is in this pack too goes in as a delta against it; everything else whole. What is here already, or (blobs)
//! in the repository, is not written again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use gix::objs::Exists as _;

use super::fresh::Object;
use super::hash::{ObjectKind, hash_object, to_gix};
use super::pack::encode::{self, Deflate, Packed};
use super::pack::{delta, install};
use super::trie::Trees;
use super::{HistoryError, Reader, Repo};
use crate::background;
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// Objects that are in no pack yet.
pub(super) struct Pending {
    repo: Repo,
    dir: PathBuf,
    kind: HashKind,
    leaf_max: usize,
    reader: Reader,
    /// Answers whether a blob exists, as far as other threads have looked; never looks at the disk by itself, since most answers are no.
    probe: gix::Repository,
    /// The same of what was there at our own last look; `None` where that is too long ago.
    looked: Option<gix::odb::Handle>,
    /// Objects installed since the last look at the disk, which would list all packs.
    recent: HashSet<Oid>,
    empty_tree: Oid,
    body: Vec<u8>,
    entries: Vec<Packed>,
    /// Where each object is in `entries`, and the length of its delta chain.
    at: HashMap<Oid, (usize, u16)>,
    tree_deflate: Deflate,
    blob_deflate: Deflate,
    /// Packs in place that no ref vouches for yet.
    kept: Vec<PathBuf>,
    /// Trees of the repository that were read, where they are kept: a braid reads most of them twice, first to compare and then to change them.
    shared: Option<RefCell<Shared>>,
    objects_read: Cell<usize>,
}

#[derive(Default)]
struct Shared {
    trees: HashMap<Oid, Arc<[u8]>>,
    bytes: usize,
    scratch: Vec<u8>,
    /// Trees that were built, in order, and their content. They are compressed when they are installed, all processors at once: until then
    /// they are read again, by the next merge or for the list of changes.
    built: Vec<Oid>,
    content: HashMap<Oid, Arc<[u8]>>,
    built_bytes: usize,
    /// For threads that read.
    readers: Vec<Reader>,
}

impl Shared {
    fn find(&self, oid: Oid) -> Option<&Arc<[u8]>> {
        self.content.get(&oid).or_else(|| self.trees.get(&oid))
    }

    /// Keeps a tree that was read.
    fn keep(&mut self, oid: Oid, raw: Arc<[u8]>) {
        if self.bytes > limits::BRAID_CACHE_BYTES {
            self.trees.clear();
            self.bytes = 0;
        }
        self.bytes += raw.len();
        self.trees.insert(oid, raw);
    }
}

fn available_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a thread returns; its panic is ours.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Trees as they stand in a pack.
struct Part {
    body: Vec<u8>,
    /// Id, where it begins in `body`, checksum.
    trees: Vec<(Oid, usize, u32)>,
}

impl Part {
    fn of(trees: &[(Oid, Arc<[u8]>)]) -> Self {
        let mut deflate = Deflate::new(limits::TREE_LEVEL);
        let mut part = Self {
            body: Vec::new(),
            trees: Vec::with_capacity(trees.len()),
        };
        for (oid, content) in trees {
            let start = part.body.len();
            encode::head(&mut part.body, ObjectKind::Tree, content.len() as u64);
            deflate.append(&mut part.body, content);
            let crc = crc32fast::hash(&part.body[start..]);
            part.trees.push((*oid, start, crc));
        }
        part
    }
}

impl Pending {
    pub(super) fn new(repo: &Repo, leaf_max: usize) -> Self {
        let mut probe = repo.git();
        probe.objects.refresh_never();
        Self {
            repo: repo.clone(),
            dir: repo.pack_dir(),
            kind: repo.kind(),
            leaf_max,
            reader: repo.reader(),
            probe,
            looked: None,
            recent: HashSet::new(),
            empty_tree: hash_object(repo.kind(), ObjectKind::Tree, b""),
            body: Vec::new(),
            entries: Vec::new(),
            at: HashMap::new(),
            tree_deflate: Deflate::new(limits::TREE_LEVEL),
            blob_deflate: Deflate::new(limits::BLOB_LEVEL),
            kept: Vec::new(),
            shared: None,
            objects_read: Cell::new(0),
        }
    }

    /// One that keeps the trees that it reads.
    pub(super) fn sharing(mut self) -> Self {
        self.shared = Some(RefCell::default());
        self
    }

    /// Trees and blobs that were read from the repository.
    pub(super) fn objects_read(&self) -> usize {
        self.objects_read.get()
    }

    fn count_read(&self) {
        self.objects_read.set(self.objects_read.get() + 1);
    }

    /// A raw tree object, kept for whoever asks next.
    pub(super) fn shared(&self, oid: Oid) -> Result<Arc<[u8]>, HistoryError> {
        let Some(shared) = self.shared.as_ref().filter(|_| !self.at.contains_key(&oid)) else {
            return Ok(self.load(oid)?.into());
        };
        let mut shared = shared.borrow_mut();
        if let Some(raw) = shared.find(oid) {
            return Ok(Arc::clone(raw));
        }
        self.count_read();
        self.reader.tree(oid, &mut shared.scratch)?;
        let raw: Arc<[u8]> = shared.scratch.as_slice().into();
        shared.keep(oid, Arc::clone(&raw));
        Ok(raw)
    }

    /// Raw tree objects, each named once, as [`Pending::shared`] has them; `each` is called on some thread for every one of them. What is not known yet is read on
    /// all processors where it is much.
    pub(super) fn shared_all<N: Send>(
        &self,
        oids: &[Oid],
        each: impl Fn(Oid, Arc<[u8]>) -> Result<N, HistoryError> + Sync,
    ) -> Result<Vec<N>, HistoryError> {
        let threads = available_parallelism().min(oids.len() / limits::TREES_A_THREAD);
        let Some(shared) = self.shared.as_ref().filter(|_| threads > 1) else {
            let one = |&oid| each(oid, self.shared(oid)?);
            return oids.iter().map(one).collect();
        };
        let mut shared = shared.borrow_mut();
        while shared.readers.len() < threads {
            let reader = self.repo.reader();
            shared.readers.push(reader);
        }
        let mut readers = std::mem::take(&mut shared.readers);
        // A reader cannot know what is built here.
        let known = oids.iter().map(|&oid| match shared.find(oid) {
            Some(raw) => Some(Arc::clone(raw)),
            None => self.read(oid).map(Arc::from),
        });
        let known: Vec<Option<Arc<[u8]>>> = known.collect();
        let work = |reader: &Reader, oids: &[Oid], known: &[Option<Arc<[u8]>>]| {
            let (mut done, mut read) = (Vec::with_capacity(oids.len()), Vec::new());
            let mut scratch = Vec::new();
            for (&oid, known) in oids.iter().zip(known) {
                let raw = match known {
                    Some(raw) => Arc::clone(raw),
                    None => {
                        reader.tree(oid, &mut scratch)?;
                        let raw: Arc<[u8]> = scratch.as_slice().into();
                        read.push((oid, Arc::clone(&raw)));
                        raw
                    }
                };
                done.push(each(oid, raw)?);
            }
            Ok((done, read))
        };
        let size = oids.len().div_ceil(threads);
        let parts = oids.chunks(size).zip(known.chunks(size)).zip(&mut readers);
        let parts: Vec<Result<_, HistoryError>> = std::thread::scope(|scope| {
            let parts = parts.map(|((oids, known), reader)| {
                let work = &work;
                scope.spawn(move || work(reader, oids, known))
            });
            let parts: Vec<_> = parts.collect();
            parts.into_iter().map(join).collect()
        });
        shared.readers = readers;
        let mut all = Vec::with_capacity(oids.len());
        for part in parts {
            let (done, read) = part?;
            all.extend(done);
            self.objects_read.set(self.objects_read.get() + read.len());
            for (oid, raw) in read {
                shared.keep(oid, raw);
            }
        }
        Ok(all)
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Compressed bytes gathered.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Whether an object is in this pack or, as far as the last look at the disk tells, in the repository.
    pub(super) fn has(&mut self, oid: Oid) -> bool {
        if self.at.contains_key(&oid) || self.recent.contains(&oid) {
            return true;
        }
        let oid = to_gix(oid);
        if self.probe.objects.exists(&oid) {
            return true;
        }
        if self.looked.is_none() {
            self.looked = self.repo.packs_now();
            self.recent.clear();
        }
        self.looked
            .as_ref()
            .is_some_and(|looked| looked.exists(&oid))
    }

    /// As `has`, but looks at the disk before it says no.
    pub(super) fn surely_has(&mut self, oid: Oid) -> bool {
        self.has(oid) || {
            self.looked = None;
            self.has(oid) || self.reader.surely_has(oid)
        }
    }

    /// Adds an object whole, unless it is here.
    pub(super) fn add(&mut self, oid: Oid, kind: ObjectKind, content: &[u8]) {
        if self.at.contains_key(&oid) {
            return;
        }
        background::breathe();
        let start = self.body.len();
        encode::head(&mut self.body, kind, content.len() as u64);
        let deflate = match kind {
            ObjectKind::Blob => &mut self.blob_deflate,
            _ => &mut self.tree_deflate,
        };
        let zlib_at = self.body.len();
        deflate.append(&mut self.body, content);
        let fresh = self.repo.fresh();
        if fresh.is_wanted() {
            let object = match kind {
                ObjectKind::Blob => {
                    Object::Packed(content.len() as u64, self.body[zlib_at..].into())
                }
                _ => Object::Plain(kind, content.into()),
            };
            fresh.put(oid, object);
        }
        self.finish_entry(oid, start, 0);
    }

    fn finish_entry(&mut self, oid: Oid, start: usize, depth: u16) {
        self.at.insert(oid, (self.entries.len(), depth));
        self.entries.push(Packed {
            oid,
            crc: crc32fast::hash(&self.body[start..]),
            offset: (encode::HEADER + start) as u64,
        });
    }

    /// Adds a blob unless it exists; its id is computed here, and must be `oid`.
    pub(super) fn add_blob(&mut self, oid: Oid, content: &[u8]) -> Result<(), HistoryError> {
        if hash_object(self.kind, ObjectKind::Blob, content) != oid {
            return Err(HistoryError::corrupt(
                oid,
                "the content handed over has another id",
            ));
        }
        if !self.has(oid) {
            self.add(oid, ObjectKind::Blob, content);
        }
        Ok(())
    }

    /// Puts what was gathered into the repository as one pack, kept until [`Pending::release`].
    pub(super) fn install(&mut self) -> Result<(), HistoryError> {
        self.pack_built();
        if self.entries.is_empty() {
            return Ok(());
        }
        let installed = install::install_bytes(&self.dir, self.kind, &self.body, &mut self.entries);
        let installed = match installed {
            Ok(installed) => installed,
            Err(error) => {
                // The index sorts its entries; `at` points into them by number.
                self.reorder();
                return Err(error);
            }
        };
        self.kept.push(installed.stem);
        self.recent
            .extend(self.entries.iter().map(|entry| entry.oid));
        if self.recent.len() > limits::RECENT_OBJECTS {
            self.looked = None;
        }
        self.entries.clear();
        self.at.clear();
        self.body.clear();
        self.body.shrink_to(limits::PENDING_BYTES / 16);
        Ok(())
    }

    /// Forgets what was gathered and is not installed.
    pub(super) fn abandon(&mut self) {
        self.entries.clear();
        self.at.clear();
        self.body = Vec::new();
        if let Some(shared) = &mut self.shared {
            let shared = shared.get_mut();
            shared.built.clear();
            shared.content.clear();
            shared.built_bytes = 0;
        }
    }

    /// Packs the trees that were built and not compressed yet.
    fn pack_built(&mut self) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let shared = shared.get_mut();
        let mut content = std::mem::take(&mut shared.content);
        let built: Vec<(Oid, Arc<[u8]>)> = std::mem::take(&mut shared.built)
            .into_iter()
            .filter_map(|oid| Some((oid, content.remove(&oid)?)))
            .collect();
        shared.built_bytes = 0;
        let threads = available_parallelism();
        let each = built.len().div_ceil(threads).max(limits::TREES_A_THREAD);
        let parts: Vec<Part> = if built.len() <= each {
            vec![Part::of(&built)]
        } else {
            std::thread::scope(|scope| {
                let parts = built.chunks(each);
                let parts = parts.map(|trees| scope.spawn(|| Part::of(trees)));
                let parts: Vec<_> = parts.collect();
                parts.into_iter().map(join).collect()
            })
        };
        self.body
            .reserve(parts.iter().map(|part| part.body.len()).sum());
        for part in parts {
            let start = encode::HEADER + self.body.len();
            self.body.extend_from_slice(&part.body);
            for (oid, at, crc) in part.trees {
                self.at.insert(oid, (self.entries.len(), 0));
                let offset = (start + at) as u64;
                self.entries.push(Packed { oid, crc, offset });
            }
        }
    }

    fn reorder(&mut self) {
        for (number, entry) in self.entries.iter().enumerate() {
            if let Some((at, _)) = self.at.get_mut(&entry.oid) {
                *at = number;
            }
        }
    }

    /// Also vouched for by the next ref: packs that a killed process left.
    pub(super) fn adopt(&mut self, kept: Vec<PathBuf>) {
        self.kept.extend(kept);
    }

    /// A ref now reaches all that was installed.
    pub(super) fn release(&mut self) -> Result<(), HistoryError> {
        while let Some(stem) = self.kept.last() {
            install::release(stem)?;
            self.kept.pop();
        }
        Ok(())
    }

    /// The tree of a commit in this pack.
    pub(super) fn pending_commit_tree(&self, oid: Oid) -> Option<Oid> {
        let raw = self.read(oid)?;
        let hex = raw.strip_prefix(b"tree ")?.get(..2 * self.kind.len())?;
        Oid::from_hex(hex)
    }

    /// The content of a blob, in this pack or in the repository.
    pub(super) fn blob(&self, oid: Oid) -> Result<Vec<u8>, HistoryError> {
        match self.read(oid) {
            Some(content) => Ok(content),
            None => {
                self.count_read();
                self.reader.blob(oid)
            }
        }
    }

    /// The content of an object in this pack.
    fn read(&self, oid: Oid) -> Option<Vec<u8>> {
        let (at, _) = self.at.get(&oid)?;
        let mut from = (self.entries[*at].offset as usize) - encode::HEADER;
        let mut deltas = Vec::new();
        loop {
            let (head, plain_at) = encode::read_head(&self.body[from..])?;
            let mut content = Vec::with_capacity(head.size as usize);
            flate2::read::ZlibDecoder::new(&self.body[from + plain_at..])
                .read_to_end(&mut content)
                .ok()?;
            match head.distance {
                Some(distance) => {
                    deltas.push(content);
                    from = from.checked_sub(distance as usize)?;
                }
                None => {
                    return deltas
                        .iter()
                        .rev()
                        .try_fold(content, |base, delta| delta::apply(&base, delta));
                }
            }
        }
    }
}

impl Trees for Pending {
    fn kind(&self) -> HashKind {
        self.kind
    }

    fn leaf_max(&self) -> usize {
        self.leaf_max
    }

    fn load(&self, oid: Oid) -> Result<Vec<u8>, HistoryError> {
        if self.at.contains_key(&oid) {
            return self
                .read(oid)
                .ok_or_else(|| HistoryError::corrupt(oid, "it was packed wrongly"));
        }
        if let Some(shared) = &self.shared
            && let Some(raw) = shared.borrow().find(oid)
        {
            return Ok(raw.to_vec());
        }
        self.count_read();
        let mut raw = Vec::new();
        self.reader.tree(oid, &mut raw)?;
        Ok(raw)
    }

    fn is_pending(&self, oid: Oid) -> bool {
        self.at.contains_key(&oid)
    }

    fn store(
        &mut self,
        oid: Oid,
        raw: &[u8],
        before: Option<(Oid, &[u8])>,
    ) -> Result<(), HistoryError> {
        if self.at.contains_key(&oid) || (oid == self.empty_tree && self.has(oid)) {
            return Ok(());
        }
        if let Some(shared) = &mut self.shared {
            let shared = shared.get_mut();
            if shared.content.insert(oid, raw.into()).is_none() {
                shared.built.push(oid);
                shared.built_bytes += raw.len();
            }
            if shared.built_bytes > limits::BRAID_CACHE_BYTES {
                self.pack_built();
            }
            return Ok(());
        }
        background::breathe();
        let base = before.and_then(|(base, old)| {
            let &(at, depth) = self.at.get(&base)?;
            let delta = delta::trees(old, raw, self.kind)?;
            (depth < limits::DELTA_DEPTH && delta.len() < raw.len() / 2).then_some((
                self.entries[at].offset,
                depth,
                delta,
            ))
        });
        let Some((base, depth, delta)) = base else {
            self.add(oid, ObjectKind::Tree, raw);
            return Ok(());
        };
        let fresh = self.repo.fresh();
        if fresh.is_wanted() {
            fresh.put(oid, Object::Plain(ObjectKind::Tree, raw.into()));
        }
        let start = self.body.len();
        let distance = (encode::HEADER + start) as u64 - base;
        encode::delta_head(&mut self.body, delta.len() as u64, distance);
        self.tree_deflate.append(&mut self.body, &delta);
        self.finish_entry(oid, start, depth + 1);
        Ok(())
    }
}
