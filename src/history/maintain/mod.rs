//! Maintenance: packs are merged so that they stay few, and versions of one tree become deltas of each other.
//!
//! The problem: every flush brings a pack, and its trees are whole, because their last version lies in another pack. Left alone, each
//! lookup would ask a thousand indices, and one flag change would cost the size of its leaf.
//!
//! Rules:
//! - **Geometric**: sorted by size, every pack is at least twice as large as all smaller ones together. What breaks the rule
//!   is merged, once [`limits::MERGE_MIN`] packs have gathered, or [`limits::MERGE_MIN_AT_REST`] in a store at rest. So an object is copied a logarithmic
//!   number of times in its life, and the number of packs is logarithmic too. Packs that were not merged yet go first, by themselves: they shrink to an
//!   eighth, and by their sizes of before every round would rewrite what is there. At rest all packs up to [`limits::SMALL_PACK`] become one, so that
//!   a lone mail's trees find their last versions there and cost a few hundred bytes; where there is none so small, one is planted ([`seed`]).
//! - **A step is small**: of packs that were not merged yet at most [`limits::MERGE_MOST`] go at once. A daemon that is killed every few seconds, or a machine that is too busy, would
//!   otherwise never come to the end of a merge, and each time it begins anew there are more packs, which makes all else slower.
//! - **Nothing is dropped**, reachable or not, and nothing is recompressed but text, once.
//! - **New before old**: the merged pack is synced and in place before the first old one goes. A reader that has an old one open keeps
//!   it; one that looks for it finds the new one at its next look at the directory (git and gix both look again on a miss). But `git fsck` opens
//!   every pack it has listed, from the youngest to the oldest. So a merged pack takes the time of the oldest one in it, which puts it behind all it
//!   replaces and leaves small packs in front; and a mount lets a merged pack stay for [`limits::PACK_GRACE`], and longer the larger it is, since
//!   what git verifies before it is smaller.
//! - Packs with `.keep` (ours, not vouched for by a ref yet; an administrator's), promisor and cruft packs are left alone.
//! - A `git gc` or `git repack` at the same time may take our sources away or leave a pack twice. The first ends our run without harm, the
//!   second is cleaned up by the next.
//!
//! Trees and commits are never searched for deltas (git's window finds by chance what we know); what mails have in common is found by their lines ([`similar`]). Rejected: deltas of a tree's newer version against the older: the
//! youngest trees, which a mount reads, would be at the end of the longest chains.

mod merge;
mod pairs;
mod seed;
mod similar;
mod sources;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::pack::install::PackFile;
use super::{HistoryError, Repo, durable};
use crate::limits;

/// How much [`maintain`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maintenance {
    /// Merges what breaks the geometric rule, once many packs do.
    Geometric,
    /// The same once a few packs do: for a store that has come to rest.
    AtRest,
    /// Merges all packs into one.
    Full,
}

/// What [`maintain`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Packs there were.
    pub packs_before: usize,
    /// Packs there are.
    pub packs_after: usize,
    /// Packs that were merged into one; 0 where nothing was to do.
    pub merged: usize,
    /// Objects in the merged pack.
    pub objects: usize,
    /// Objects that became deltas.
    pub new_deltas: usize,
    /// Bytes of the merged packs and their indices.
    pub bytes_before: u64,
    /// Bytes of the new pack and its index.
    pub bytes_after: u64,
}

impl Report {
    fn then(self, next: Self) -> Self {
        Self {
            packs_before: self.packs_before,
            packs_after: next.packs_after,
            merged: self.merged + next.merged,
            objects: self.objects + next.objects,
            new_deltas: self.new_deltas + next.new_deltas,
            bytes_before: self.bytes_before + next.bytes_before,
            bytes_after: self.bytes_after + next.bytes_after,
        }
    }
}

struct Candidate {
    stem: PathBuf,
    bytes: u64,
    modified: SystemTime,
    /// It says it is older than its file: maintenance made it.
    was_merged: bool,
}

/// A pack whose objects are all in another one.
struct Retired {
    stem: PathBuf,
    until: Instant,
}

/// Merges packs, again and again. One at a time; readers and the writer go on meanwhile.
pub struct Maintainer {
    repo: Repo,
    grace: Duration,
    retired: Vec<Retired>,
    sketches: similar::Sketches,
}

impl Maintainer {
    /// For a repository. A merged pack stays `grace` longer than it is needed: plain git that has just listed the directory (`fsck`, which opens
    /// every pack it has seen) would otherwise report it missing.
    #[must_use]
    pub fn new(repo: &Repo, grace: Duration) -> Self {
        Self {
            repo: repo.clone(),
            grace,
            retired: Vec::new(),
            sketches: similar::Sketches::default(),
        }
    }

    /// When the next pack is to be removed; `None` where none waits.
    #[must_use]
    pub fn next_sweep(&self) -> Option<Instant> {
        self.retired.iter().map(|retired| retired.until).min()
    }

    /// Removes the retired packs whose grace is over.
    ///
    /// # Errors
    /// I/O errors; what could not be removed is an ordinary pack again.
    pub fn sweep(&mut self) -> Result<(), HistoryError> {
        let now = Instant::now();
        // Oldest first, as they were retired.
        let many = self.retired.len().saturating_sub(limits::RETIRED_MOST);
        let mut over = Vec::new();
        let mut at = 0;
        self.retired.retain(|retired| {
            let is_over = retired.until <= now || at < many;
            at += 1;
            if is_over {
                over.push(retired.stem.clone());
            }
            !is_over
        });
        if over.is_empty() {
            return Ok(());
        }
        remove(&self.repo.pack_dir(), over.iter())
    }

    /// One round.
    ///
    /// # Errors
    /// I/O errors, damaged packs (which are left as they are); the repository is unharmed.
    pub fn run(&mut self, how: Maintenance) -> Result<Report, HistoryError> {
        let (least, others): (_, fn(&[Candidate]) -> usize) = match how {
            Maintenance::Geometric => (limits::MERGE_MIN, geometric),
            Maintenance::AtRest => (limits::MERGE_MIN_AT_REST, small),
            Maintenance::Full => return self.merge_some(|all| all.len(), 1, false),
        };
        let mut done = self.merge_some(geometric, least, true)?;
        if done.merged == 0 && how == Maintenance::Geometric {
            return Ok(done);
        }
        let mut last = done.merged;
        while last == limits::MERGE_MOST {
            let next = self.merge_some(geometric, least, true)?;
            last = next.merged;
            done = done.then(next);
        }
        done = done.then(self.merge_some(others, 2, false)?);
        if how == Maintenance::AtRest && self.plant()? {
            done.packs_after += 1;
        }
        Ok(done)
    }

    /// Packs that may be merged.
    fn candidates(&self, dir: &Path) -> Result<Vec<Candidate>, HistoryError> {
        let mut found = candidates(dir)?;
        found.retain(|candidate| {
            let is = |retired: &Retired| retired.stem == candidate.stem;
            !self.retired.iter().any(is)
        });
        Ok(found)
    }

    /// Puts a small pack beside the large ones where there is none; whether it did.
    fn plant(&self) -> Result<bool, HistoryError> {
        let dir = self.repo.pack_dir();
        let packs = self.candidates(&dir)?;
        let is_small = |pack: &Candidate| pack.bytes <= limits::SMALL_PACK;
        if packs.is_empty() || packs.iter().any(is_small) {
            return Ok(false);
        }
        seed::plant(&self.repo, &dir)
    }

    /// Merges as many of the smallest packs as `count` says, if they are at least so many; with `fresh`, of these those alone that were not merged before,
    /// if they are at least so many, and of them the [`limits::MERGE_MOST`] oldest.
    fn merge_some(
        &mut self,
        count: impl Fn(&[Candidate]) -> usize,
        least: usize,
        fresh: bool,
    ) -> Result<Report, HistoryError> {
        self.sweep()?;
        let dir = self.repo.pack_dir();
        let mut candidates = self.candidates(&dir)?;
        let mut report = Report {
            packs_before: candidates.len(),
            packs_after: candidates.len(),
            ..Report::default()
        };
        candidates.sort_by_key(|candidate| candidate.bytes);
        let wanted = count(&candidates);
        if wanted < least {
            return Ok(report);
        }
        candidates.truncate(wanted);
        if fresh && candidates.iter().filter(|old| !old.was_merged).count() >= least {
            candidates.retain(|old| !old.was_merged);
            if candidates.len() > limits::MERGE_MOST {
                candidates.sort_by_key(|candidate| candidate.modified);
                candidates.truncate(limits::MERGE_MOST);
                candidates.sort_by_key(|candidate| candidate.bytes);
            }
        }
        candidates.reverse();
        let merged = candidates.len();
        report.merged = merged;
        report.bytes_before = candidates.iter().map(|candidate| candidate.bytes).sum();
        check_room(&dir, report.bytes_before)?;
        let made = merge(
            &self.repo,
            &dir,
            &candidates,
            &mut self.sketches,
            &mut report,
        )?;
        let now = Instant::now();
        for candidate in candidates.into_iter().filter(|old| old.stem != made) {
            let grace = if self.grace.is_zero() {
                self.grace
            } else {
                self.grace + Duration::from_secs(candidate.bytes / limits::PACK_GRACE_BYTES)
            };
            self.retired.push(Retired {
                stem: candidate.stem,
                until: now + grace,
            });
        }
        self.sweep()?;
        report.packs_after = report.packs_before + 1 - merged;
        Ok(report)
    }
}

/// One round that removes merged packs at once.
///
/// # Errors
/// As [`Maintainer::run`].
pub fn maintain(repo: &Repo, how: Maintenance) -> Result<Report, HistoryError> {
    Maintainer::new(repo, Duration::ZERO).run(how)
}

/// Packs are merged beside the old ones, and that may not take the room which commits need.
fn check_room(dir: &Path, bytes: u64) -> Result<(), HistoryError> {
    let left = durable::room_left(dir).map_err(HistoryError::io("ask for the room of", dir))?;
    if left >= bytes + limits::ROOM_KEPT {
        return Ok(());
    }
    let why =
        format!("{bytes} bytes of packs need as many again to be merged, and {left} are left");
    let full = io::Error::new(io::ErrorKind::StorageFull, why);
    Err(HistoryError::io("merge packs in", dir)(full))
}

fn merge(
    repo: &Repo,
    dir: &Path,
    candidates: &[Candidate],
    sketches: &mut similar::Sketches,
    report: &mut Report,
) -> Result<PathBuf, HistoryError> {
    let stems: Vec<&Path> = candidates.iter().map(|old| old.stem.as_path()).collect();
    let sources = sources::Sources::open(repo.kind(), &stems)?;
    let pairs = pairs::find(&sources, repo.kind())?;
    let is_fresh: Vec<bool> = candidates.iter().map(|old| !old.was_merged).collect();
    let similar = similar::find(&sources, &is_fresh, sketches)?;
    let count = (0..sources.count())
        .filter(|number| sources.is_taken(*number))
        .count();
    let mut out = PackFile::create(dir, repo.kind(), count as u32)?;
    if let Some(oldest) = candidates.iter().map(|old| old.modified).min() {
        // git compares whole seconds.
        let older = oldest - Duration::from_secs(1);
        out.set_modified(older.max(SystemTime::now() - limits::PACK_AGE_MOST));
    }
    let merger = merge::Merger::new(&sources, repo.kind(), &pairs, &similar, out);
    let (stem, alone) = merger.run(report)?;
    sketches.set_alone(&alone);
    Ok(stem)
}

/// Packs that are nobody else's.
fn candidates(dir: &Path) -> Result<Vec<Candidate>, HistoryError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(HistoryError::io("list", dir))? {
        let path = entry.map_err(HistoryError::io("list", dir))?.path();
        // A `git repack` at work has packs named `.tmp-…`.
        let ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("pack-") && name.ends_with(".idx"));
        if !ours {
            continue;
        }
        let stem = path.with_extension("");
        let marked = ["keep", "promisor", "mtimes"]
            .iter()
            .any(|ext| stem.with_extension(ext).exists());
        if marked {
            continue;
        }
        let meta = |ext| fs::metadata(stem.with_extension(ext));
        match (meta("pack"), meta("idx")) {
            (Ok(pack), Ok(index)) => found.push(Candidate {
                stem,
                bytes: pack.len() + index.len(),
                modified: pack.modified().unwrap_or_else(|_| SystemTime::now()),
                was_merged: pack.mtime() < pack.ctime(),
            }),
            // Somebody is removing it.
            _ => continue,
        }
    }
    Ok(found)
}

/// How many of the smallest packs to merge: after it, each pack is at least twice all smaller ones together.
fn geometric(ascending: &[Candidate]) -> usize {
    let mut below = 0;
    let mut merged = 0;
    for (at, candidate) in ascending.iter().enumerate() {
        if candidate.bytes < 2 * below {
            merged = at + 1;
        }
        below += candidate.bytes;
    }
    merged
}

/// How many of the smallest packs are merged at rest: also all that are so small that it costs nothing.
fn small(ascending: &[Candidate]) -> usize {
    let small = ascending.partition_point(|candidate| candidate.bytes <= limits::SMALL_PACK);
    geometric(ascending).max(small)
}

/// Removes packs whose objects are all in another one. The index goes first, so that nobody new opens the pack.
fn remove<'a>(dir: &Path, stems: impl Iterator<Item = &'a PathBuf>) -> Result<(), HistoryError> {
    let gone = |path: &Path, result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HistoryError::io("remove", path)(error))
        }
        _ => Ok(()),
    };
    // git's index over several packs may name ours; git makes it anew when it wants one.
    let midx = dir.join("multi-pack-index");
    gone(&midx, fs::remove_file(&midx))?;
    let midxs = dir.join("multi-pack-index.d");
    gone(&midxs, fs::remove_dir_all(&midxs))?;
    for stem in stems {
        // And again last: the same pack may have come from a peer meanwhile, and half of it be gone with ours.
        for ext in ["idx", "rev", "bitmap", "pack", "idx"] {
            let path = stem.with_extension(ext);
            gone(&path, fs::remove_file(&path))?;
        }
    }
    durable::sync_dir(dir)
}
