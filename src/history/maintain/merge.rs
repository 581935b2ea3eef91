//! Writing the merged pack.
//!
//! Commits come first, children before parents, then trees, then blobs in the order they came. An entry whose base is in the new pack is
//! copied as it stands, its checksum verified; a whole tree or commit with a younger version becomes a delta against it. So the
//! youngest version is whole and quick to read, and older ones are a step behind it each: `git log` walks that way too.
//!
//! A blob that has much in common with another ([`super::similar`]) becomes a delta against that. It is a mail: what a delta makes is held against the object before it is written. A blob that is text, and was
//! compressed in haste, is compressed well now, once.
//!
//! Chains are at most [`limits::DELTA_DEPTH`] long. What would exceed that is a delta against the youngest version of its chain
//! instead, or whole.

use super::Report;
use super::pairs::Pairs;
use super::similar::Similar;
use super::sources::{BLOB, COMMIT, NONE, Number, Sources, TREE};
use crate::history::HistoryError;
use crate::history::hash::ObjectKind;
use crate::history::pack::delta;
use crate::history::pack::encode::{self, Deflate, Packed};
use crate::history::pack::install::PackFile;
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// Where an object went.
#[derive(Clone, Copy)]
struct Placed {
    offset: u64,
    depth: u16,
    /// The whole object at the end of its chain.
    root: Number,
}

/// What a placed object is a delta of, once that is placed.
enum Plan {
    /// Copy the entry: a delta of this object.
    Copy(Number),
    /// A new delta against this object.
    Pair(Number),
    Whole,
}

pub(super) struct Merger<'a> {
    sources: &'a Sources,
    kind: HashKind,
    pairs: &'a Pairs,
    similar: &'a Similar,
    /// Blobs that seemed to be like another and were not.
    alone: Vec<Oid>,
    out: PackFile,
    placed: Vec<Option<Placed>>,
    /// Begun and not placed yet: a base among these would close a circle.
    open: Vec<bool>,
    /// Longest chain of copied deltas that hangs on each object.
    height: Vec<u16>,
    entries: Vec<Packed>,
    deflate: Deflate,
    blob_deflate: Deflate,
    again: Vec<u8>,
    buffer: Vec<u8>,
    new_deltas: usize,
}

impl<'a> Merger<'a> {
    pub(super) fn new(
        sources: &'a Sources,
        kind: HashKind,
        pairs: &'a Pairs,
        similar: &'a Similar,
        out: PackFile,
    ) -> Self {
        let count = sources.count() as usize;
        Self {
            sources,
            kind,
            pairs,
            similar,
            alone: Vec::new(),
            out,
            placed: vec![None; count],
            open: vec![false; count],
            height: sources.heights(|number| !pairs.is_turned(sources, number)),
            entries: Vec::with_capacity(count),
            deflate: Deflate::new(limits::DELTA_LEVEL),
            blob_deflate: Deflate::new(limits::TEXT_LEVEL),
            again: Vec::new(),
            buffer: Vec::new(),
            new_deltas: 0,
        }
    }

    /// Writes all objects and puts the pack in place. Returns its path without the ending, and the blobs that are not like what they seemed to be like.
    pub(super) fn run(
        mut self,
        report: &mut Report,
    ) -> Result<(std::path::PathBuf, Vec<Oid>), HistoryError> {
        for commit in &self.pairs.commits {
            self.place(*commit)?;
        }
        for kinds in [&[COMMIT, TREE][..], &[BLOB, 4]] {
            for number in 0..self.sources.count() {
                if kinds.contains(&self.sources.kind_of(number)) && self.sources.is_taken(number) {
                    self.place(number)?;
                }
            }
        }
        report.objects = self.entries.len();
        report.new_deltas = self.new_deltas;
        let installed = self.out.install(&mut self.entries, false)?;
        report.bytes_after = installed.bytes;
        Ok((installed.stem, self.alone))
    }

    /// Places an object, its base first.
    fn place(&mut self, number: Number) -> Result<(), HistoryError> {
        let mut todo = vec![number];
        while let Some(&at) = todo.last() {
            if self.placed[at as usize].is_some() {
                todo.pop();
                continue;
            }
            let plan = self.plan(at);
            if let Plan::Copy(base) | Plan::Pair(base) = plan
                && self.placed[base as usize].is_none()
            {
                self.open[at as usize] = true;
                todo.push(base);
                continue;
            }
            self.open[at as usize] = false;
            self.write(at, plan)?;
            todo.pop();
        }
        Ok(())
    }

    fn plan(&self, number: Number) -> Plan {
        let usable = |base: Number| {
            let base = self.sources.find(self.sources.oid(base))?;
            let free = base != number && !self.open[base as usize];
            (free || self.placed[base as usize].is_some()).then_some(base)
        };
        let base = self.sources.base(number);
        let is_version = matches!(self.sources.kind_of(number), COMMIT | TREE);
        if base != NONE && !(is_version && self.pairs.is_turned(self.sources, number)) {
            return usable(base).map_or(Plan::Whole, Plan::Copy);
        }
        let like = match self.sources.kind_of(number) {
            BLOB => self.similar.bases.get(&number).copied(),
            _ => self.pairs.younger(number),
        };
        match like {
            Some(base) => usable(base).map_or(Plan::Whole, Plan::Pair),
            None => Plan::Whole,
        }
    }

    fn write(&mut self, number: Number, plan: Plan) -> Result<(), HistoryError> {
        self.buffer.clear();
        let offset = self.out.at();
        let base = match plan {
            Plan::Copy(base) => self.copy_delta(number, base, offset)?,
            Plan::Pair(base) => self.new_delta(number, base, offset)?,
            Plan::Whole => None,
        };
        let base = match base {
            Some(base) => Some(base),
            None => {
                self.whole(number)?;
                None
            }
        };
        let above = base.and_then(|base| self.placed[base as usize]);
        self.placed[number as usize] = Some(Placed {
            offset,
            depth: above.map_or(0, |above| above.depth + 1),
            root: above.map_or(number, |above| above.root),
        });
        self.entries.push(Packed {
            oid: self.sources.oid(number),
            crc: crc32fast::hash(&self.buffer),
            offset,
        });
        let buffer = std::mem::take(&mut self.buffer);
        self.out.write(&buffer)?;
        self.buffer = buffer;
        Ok(())
    }

    /// Copies a delta whose base is placed.
    fn copy_delta(
        &mut self,
        number: Number,
        base: Number,
        offset: u64,
    ) -> Result<Option<Number>, HistoryError> {
        let Some(above) = self.placed[base as usize] else {
            return Ok(None);
        };
        if above.depth >= limits::DELTA_DEPTH_MAX {
            return Ok(None);
        }
        let entry = self.sources.verified_entry(number)?;
        encode::delta_head(&mut self.buffer, entry.head.size, offset - above.offset);
        self.buffer.extend_from_slice(entry.zlib);
        Ok(Some(base))
    }

    /// Makes a delta against a younger version or a similar blob, or against the youngest where the chain would grow too long.
    fn new_delta(
        &mut self,
        number: Number,
        base: Number,
        offset: u64,
    ) -> Result<Option<Number>, HistoryError> {
        let Some(above) = self.placed[base as usize] else {
            return Ok(None);
        };
        let height = self.height[number as usize];
        let fits =
            |depth: u16| depth.saturating_add(1).saturating_add(height) <= limits::DELTA_DEPTH;
        let (base, above) = if fits(above.depth) {
            (base, above)
        } else {
            match self.placed[above.root as usize] {
                Some(root) if fits(0) => (above.root, root),
                _ => return Ok(None),
            }
        };
        if self.sources.kind_of(base) != self.sources.kind_of(number) {
            return Ok(None);
        }
        let (old, new) = (self.sources.read(base)?, self.sources.read(number)?);
        let is_blob = self.sources.kind_of(number) == BLOB;
        let delta = match self.sources.kind_of(number) {
            TREE => delta::trees(&old, &new, self.kind),
            BLOB => Some(delta::runs(&old, &new)),
            _ => Some(delta::lines(&old, &new)),
        };
        let Some(delta) = delta.filter(|delta| delta.len() < new.len()) else {
            return Ok(None);
        };
        let is_right = delta::apply(&old, &delta).as_ref() == Some(&*new);
        debug_assert!(is_right);
        if !is_right {
            return Ok(None);
        }
        encode::delta_head(&mut self.buffer, delta.len() as u64, offset - above.offset);
        let deflate = if is_blob {
            &mut self.blob_deflate
        } else {
            &mut self.deflate
        };
        deflate.append(&mut self.buffer, &delta);
        let entry = self.sources.entry(number)?;
        let most = if is_blob {
            entry.zlib.len() - entry.zlib.len() / 16
        } else {
            entry.zlib.len()
        };
        if entry.head.distance.is_none() && self.buffer.len() > most {
            self.buffer.clear();
            if is_blob {
                self.alone.push(self.sources.oid(number));
            }
            return Ok(None);
        }
        self.new_deltas += 1;
        Ok(Some(base))
    }

    fn whole(&mut self, number: Number) -> Result<(), HistoryError> {
        let kind = match self.sources.kind_of(number) {
            COMMIT => ObjectKind::Commit,
            TREE => ObjectKind::Tree,
            BLOB => ObjectKind::Blob,
            _ => ObjectKind::Tag,
        };
        if self.sources.base(number) == NONE {
            let entry = self.sources.verified_entry(number)?;
            encode::head(&mut self.buffer, kind, entry.head.size);
            let is_text = entry.zlib.len() as u64 * 10 < entry.head.size * limits::TEXT_TENTHS;
            if is_text && self.similar.fresh.contains(&number) {
                self.again.clear();
                let content = self.sources.inflate(number)?;
                self.blob_deflate.append(&mut self.again, &content);
                if self.again.len() < entry.zlib.len() {
                    self.buffer.extend_from_slice(&self.again);
                    return Ok(());
                }
            }
            self.buffer.extend_from_slice(entry.zlib);
        } else {
            let content = self.sources.read(number)?;
            encode::head(&mut self.buffer, kind, content.len() as u64);
            self.deflate.append(&mut self.buffer, &content);
        }
        Ok(())
    }
}
