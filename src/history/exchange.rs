//! Packs for peers: what one commit needs beyond what the other side has.
//!
//! The problem: gix counts objects and reuses deltas but computes none, and plain counting sends whole trees: some 3 KB for one flag change. We
//! know the previous version of every tree: it is at the same path in the parent commit. So each tree goes out as a delta against it, whether
//! the other side has that version already (a *thin* pack, which receive-pack completes) or gets it in the same pack.
//!
//! Rules:
//! - Commits: the ancestors of the wanted one that are no ancestors of what the other side has, parents first. So the base of a delta is there before it, or
//!   with the other side: where a tree changes back, or two sides of a braid make the same change, deltas would otherwise wait for each other.
//! - Trees: walked against the same path in the first parent; equal ids are skipped. Against the other parents too, where only the id is compared.
//! - Blobs: sent unless the parent had them in a tree that this commit changed. So a flag change or a move sends no mail again; a copy does, once.
//! - The plan (ids alone) is made first, because a pack begins with its number of objects; the objects then stream.
//! - A base in the same pack is named by how far before it lies, one that the other side has by its id. gix compares each such
//!   id with all entries before it: at 1,000 deliveries a second that was a third of two processors.
//! - What was read for a plan is kept for the pack, and for the next push ([`super::Memory`]): the trees that one push sends are the bases of the next.
//! - A chain of deltas within the pack has at most [`limits::SENT_DEPTH`] steps: the other side reads it as it came until its maintenance has seen it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use super::fresh::Object;
use super::hash::{Checksum, ObjectKind, to_gix_kind};
use super::pack::{delta, encode};
use super::paint::Commits as _;
use super::{HistoryError, Reader, tree};
use crate::background;
use crate::limits;
use crate::maildir::Oid;

/// Why a pack could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An object could not be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The other side, or the pipe to it, is gone.
    #[error("cannot send the pack: {0}")]
    Write(#[from] io::Error),
}

/// How the objects of a pack are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackForm {
    /// Each one compressed, as git does.
    Compressed,
    /// For a line that compresses what is said first ([`limits::DEFLATED`]): trees and commits within that are stored.
    ForDeflate,
}

/// What a pack will hold.
#[derive(Debug, Default)]
pub struct PackPlan {
    objects: Vec<(Oid, ObjectKind, Option<Oid>)>,
}

/// Trees that were read for a plan: they are written, or are bases, a moment later, and those of one push are the bases of the next.
#[derive(Debug, Default)]
pub(super) struct Trees {
    raw: HashMap<Oid, Arc<[u8]>>,
    bytes: usize,
    scratch: Vec<u8>,
}

impl Trees {
    fn read(&mut self, reader: &Reader, tree: Oid) -> Result<Arc<[u8]>, HistoryError> {
        if let Some(raw) = self.raw.get(&tree) {
            return Ok(Arc::clone(raw));
        }
        reader.tree(tree, &mut self.scratch)?;
        let raw: Arc<[u8]> = self.scratch.as_slice().into();
        if self.bytes >= limits::PLANNED_TREES {
            *self = Self::default();
        }
        self.bytes += raw.len();
        self.raw.insert(tree, Arc::clone(&raw));
        Ok(raw)
    }
}

impl PackPlan {
    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether the other side lacks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl Reader {
    /// Plans a pack that brings `want` to a repository which has `haves` and all that they need. Haves that are not here are passed over.
    ///
    /// # Errors
    /// Where an object cannot be read.
    pub fn plan_pack(&self, want: Oid, haves: &[Oid]) -> Result<PackPlan, HistoryError> {
        self.fresh().want();
        let mut planner = Planner {
            reader: self,
            plan: PackPlan::default(),
            planned: HashSet::new(),
            there: HashSet::new(),
        };
        let commits = self.commits_between(want, haves, usize::MAX - 1)?;
        for id in self.parents_first(&commits)? {
            planner.commit(id)?;
        }
        Ok(planner.plan)
    }

    /// The commits, each after those of its parents that are among them.
    fn parents_first(&self, commits: &[Oid]) -> Result<Vec<Oid>, HistoryError> {
        let among: HashSet<Oid> = commits.iter().copied().collect();
        let mut sorted = Vec::with_capacity(commits.len());
        let mut done = HashSet::new();
        for &start in commits.iter().rev() {
            let mut path = vec![(start, false)];
            while let Some((id, is_after_parents)) = path.pop() {
                if is_after_parents {
                    sorted.push(id);
                } else if done.insert(id) {
                    path.push((id, true));
                    let known = self.known(id)?;
                    let parents = known.parents.iter();
                    path.extend(
                        parents
                            .filter(|parent| among.contains(parent))
                            .map(|id| (*id, false)),
                    );
                }
            }
        }
        Ok(sorted)
    }

    /// Writes the planned pack. Returns its bytes.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn write_pack(
        &self,
        plan: &PackPlan,
        form: PackForm,
        out: &mut dyn Write,
    ) -> Result<u64, PackError> {
        let count = u32::try_from(plan.objects.len())
            .map_err(|_| io::Error::other("more objects than a pack can number"))?;
        let mut sink = Sink {
            out,
            checksum: Checksum::new(self.kind()),
            bytes: 0,
        };
        sink.write(&encode::header(count))?;
        let mut blobs = encode::Deflate::new(limits::BLOB_LEVEL);
        let mut trees = encode::Deflate::new(limits::TREE_LEVEL);
        let mut stored = encode::Deflate::new(0);
        let mut entry = Vec::new();
        // Where each tree begins, and the steps to a whole one or to one that is there.
        let mut trees_at: HashMap<Oid, (u64, u16)> = HashMap::new();
        for &(id, kind, base) in &plan.objects {
            background::breathe();
            entry.clear();
            let start = sink.bytes;
            let mut depth = 0;
            let base = base.filter(|base| {
                trees_at
                    .get(base)
                    .is_none_or(|(_, depth)| *depth < limits::SENT_DEPTH)
            });
            let deflate = match (kind, form) {
                (ObjectKind::Blob, _) => &mut blobs,
                (_, PackForm::ForDeflate) if start < limits::DEFLATED as u64 => &mut stored,
                _ => &mut trees,
            };
            if let Some(Object::Packed(size, packed)) = self.fresh().get(id) {
                encode::head(&mut entry, kind, size);
                sink.write(&entry)?;
                sink.write(&packed)?;
                continue;
            }
            let raw = self.planned(id, kind)?;
            let mut changed = None;
            if let Some(base) = base {
                changed = delta::trees(&self.planned(base, kind)?, &raw, self.kind())
                    .filter(|delta| delta.len() + base.as_bytes().len() < raw.len())
                    .map(|delta| (base, delta));
            }
            match changed {
                Some((base, delta)) => {
                    match trees_at.get(&base) {
                        Some((at, steps)) => {
                            encode::delta_head(&mut entry, delta.len() as u64, start - at);
                            depth = steps + 1;
                        }
                        None => encode::ref_delta_head(&mut entry, delta.len() as u64, base),
                    }
                    deflate.append(&mut entry, &delta);
                }
                None => {
                    encode::head(&mut entry, kind, raw.len() as u64);
                    deflate.append(&mut entry, &raw);
                }
            }
            sink.write(&entry)?;
            if kind == ObjectKind::Tree {
                trees_at.insert(id, (start, depth));
            }
        }
        let Sink {
            out,
            checksum,
            bytes,
        } = sink;
        let checksum = checksum.finish();
        out.write_all(checksum.as_bytes())?;
        Ok(bytes + checksum.as_bytes().len() as u64)
    }

    /// An object of a plan, or a base.
    fn planned(&self, id: Oid, kind: ObjectKind) -> Result<Arc<[u8]>, HistoryError> {
        if let Some(read) = self.memory.trees.borrow().raw.get(&id) {
            return Ok(Arc::clone(read));
        }
        let mut raw = Vec::new();
        self.object(id, to_gix_kind(kind), &mut raw)?;
        Ok(raw.into())
    }
}

struct Sink<'a> {
    out: &'a mut dyn Write,
    checksum: Checksum,
    bytes: u64,
}

impl Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

struct Planner<'a> {
    reader: &'a Reader,
    plan: PackPlan,
    planned: HashSet<Oid>,
    /// Bases that are not planned.
    there: HashSet<Oid>,
}

impl Planner<'_> {
    /// Plans an object, once. Commits come parents first, so a base that is not planned is one that the other side has; sent again (a tree that comes
    /// back) it would close a circle of deltas, or be there twice for git, which then refuses the pack.
    fn add(&mut self, id: Oid, kind: ObjectKind, base: Option<Oid>) {
        if self.there.contains(&id) || !self.planned.insert(id) {
            return;
        }
        self.there
            .extend(base.filter(|base| !self.planned.contains(base)));
        self.plan.objects.push((id, kind, base));
    }

    fn commit(&mut self, id: Oid) -> Result<(), HistoryError> {
        let commit = self.reader.known(id)?;
        let mut known = HashSet::new();
        let mut parents = Vec::new();
        for parent in &commit.parents {
            parents.push(self.reader.known(*parent)?.tree);
        }
        self.add(id, ObjectKind::Commit, None);
        if parents.contains(&commit.tree) {
            return Ok(());
        }
        // Trees first: they tell which blobs the parent had where this commit changed something.
        let mut blobs = Vec::new();
        let mut todo = vec![(
            commit.tree,
            parents.first().copied(),
            parents.get(1..).unwrap_or(&[]).to_vec(),
        )];
        while let Some((new, old, others)) = todo.pop() {
            if self.planned.contains(&new) {
                continue;
            }
            background::breathe();
            let mut trees = self.reader.memory.trees.borrow_mut();
            let mut read = |tree| trees.read(self.reader, tree);
            let new_raw = read(new)?;
            let old_raw = match old {
                Some(old) => read(old)?,
                None => Arc::default(),
            };
            let other_raws = others
                .iter()
                .map(|other| read(*other))
                .collect::<Result<Vec<_>, _>>()?;
            drop(trees);
            self.add(new, ObjectKind::Tree, old);
            let olds = self.entries(old.unwrap_or(new), &old_raw)?;
            known.extend(
                olds.iter()
                    .filter(|entry| !entry.dir)
                    .map(tree::RawEntry::oid),
            );
            let mut others_entries = Vec::with_capacity(others.len());
            for (other, raw) in others.iter().zip(&other_raws) {
                others_entries.push(self.entries(*other, raw)?);
            }
            for entry in self.entries(new, &new_raw)? {
                let id = entry.oid();
                if !entry.dir {
                    blobs.push(id);
                    continue;
                }
                let below = same(&olds, &entry);
                let below_others: Vec<Oid> = others_entries
                    .iter()
                    .filter_map(|entries| same(entries, &entry))
                    .collect();
                if below != Some(id) && !below_others.contains(&id) {
                    todo.push((id, below, below_others));
                }
            }
        }
        for id in blobs {
            if !known.contains(&id) {
                self.add(id, ObjectKind::Blob, None);
            }
        }
        Ok(())
    }

    fn entries<'a>(&self, of: Oid, raw: &'a [u8]) -> Result<Vec<tree::RawEntry<'a>>, HistoryError> {
        tree::entries(raw, self.reader.kind())
            .map(|entry| entry.map_err(|reason| HistoryError::corrupt(of, reason)))
            .collect()
    }
}

/// The directory of the same name in another version of a tree.
fn same(entries: &[tree::RawEntry<'_>], dir: &tree::RawEntry<'_>) -> Option<Oid> {
    let found = entries
        .binary_search_by(|entry| tree::order(entry.name, entry.dir, dir.name, dir.dir))
        .ok()?;
    Some(entries[found].oid())
}
