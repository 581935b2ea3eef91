//! The packs to be merged, as one table of objects.
//!
//! Objects are numbered pack by pack in order of their place. An id that several packs hold is *taken* from one of them, the first in
//! order: the largest pack, whose trees are deltas already.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::{Decompress, FlushDecompress, Status};
use gix::odb::pack::{data, index};

use crate::background;
use crate::history::HistoryError;
use crate::history::hash::{from_gix, gix_kind, to_gix};
use crate::history::pack::{delta, encode};
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// Number of an object.
pub(super) type Number = u32;

/// No object.
pub(super) const NONE: Number = Number::MAX;

pub(super) const COMMIT: u8 = 1;
pub(super) const TREE: u8 = 2;
pub(super) const BLOB: u8 = 3;

struct Pack {
    stem: PathBuf,
    index: index::File,
    data: data::File,
    /// Offset in the pack and place in the index, by offset.
    order: Vec<(u64, u32)>,
    /// The inverse: from the place in the index to that in `order`.
    rank: Vec<u32>,
}

/// All objects of the packs to be merged.
pub(super) struct Sources {
    kind: HashKind,
    packs: Vec<Pack>,
    first: Vec<Number>,
    kinds: Vec<u8>,
    bases: Vec<Number>,
    inflate: RefCell<Decompress>,
    cache: RefCell<Cache>,
}

#[derive(Default)]
struct Cache {
    contents: HashMap<Number, Rc<Vec<u8>>>,
    bytes: usize,
}

/// An entry as it stands in its pack.
pub(super) struct Entry<'a> {
    pub(super) head: encode::Head,
    /// What zlib made of the content or the delta.
    pub(super) zlib: &'a [u8],
}

impl Sources {
    /// Opens the packs, the largest first.
    pub(super) fn open(kind: HashKind, stems: &[&Path]) -> Result<Self, HistoryError> {
        let mut sources = Self {
            kind,
            packs: Vec::with_capacity(stems.len()),
            first: Vec::with_capacity(stems.len()),
            kinds: Vec::new(),
            bases: Vec::new(),
            inflate: RefCell::new(Decompress::new(true)),
            cache: RefCell::default(),
        };
        let mut count = 0usize;
        for stem in stems {
            let pack = open_pack(kind, stem)?;
            sources.first.push(count as Number);
            count += pack.order.len();
            sources.packs.push(pack);
        }
        if count >= NONE as usize {
            return Err(damaged(stems[0], "too many objects to merge"));
        }
        sources.kinds = vec![0; count];
        sources.bases = vec![NONE; count];
        for number in 0..count as Number {
            sources.read_kind(number)?;
        }
        Ok(sources)
    }

    pub(super) fn count(&self) -> Number {
        self.kinds.len() as Number
    }

    /// Commit, tree, blob or tag, deltas seen through.
    pub(super) fn kind_of(&self, number: Number) -> u8 {
        self.kinds[number as usize]
    }

    /// The base of an entry that is a delta, or [`NONE`].
    pub(super) fn base(&self, number: Number) -> Number {
        self.bases[number as usize]
    }

    pub(super) fn oid(&self, number: Number) -> Oid {
        let (pack, place) = self.place(number);
        from_gix(pack.index.oid_at_index(pack.order[place].1))
    }

    /// The number that an id is taken from.
    pub(super) fn find(&self, oid: Oid) -> Option<Number> {
        let id = to_gix(oid);
        self.packs
            .iter()
            .zip(&self.first)
            .find_map(|(pack, first)| {
                let at = pack.index.lookup(id)?;
                Some(first + pack.rank[at as usize])
            })
    }

    /// Whether the id is taken from here.
    pub(super) fn is_taken(&self, number: Number) -> bool {
        self.packs.len() == 1 || self.find(self.oid(number)) == Some(number)
    }

    /// Longest chain of deltas that hangs on each object, of those that are counted.
    pub(super) fn heights(&self, is_counted: impl Fn(Number) -> bool) -> Vec<u16> {
        let mut heights = vec![0u16; self.kinds.len()];
        for number in (0..self.count()).rev() {
            let base = self.base(number);
            if base != NONE && is_counted(number) {
                let above = heights[number as usize].saturating_add(1);
                heights[base as usize] = heights[base as usize].max(above);
            }
        }
        heights
    }

    /// The entry, its checksum not verified.
    pub(super) fn entry(&self, number: Number) -> Result<Entry<'_>, HistoryError> {
        background::breathe();
        let (bytes, pack) = self.bytes(number)?;
        let (head, mut len) =
            encode::read_head(bytes).ok_or_else(|| damaged(&pack.stem, "malformed entry"))?;
        if head.kind == 7 {
            len += self.kind.len();
        }
        Ok(Entry {
            head,
            zlib: bytes
                .get(len..)
                .ok_or_else(|| damaged(&pack.stem, "malformed entry"))?,
        })
    }

    /// The entry, after its bytes were held against the checksum in the index.
    pub(super) fn verified_entry(&self, number: Number) -> Result<Entry<'_>, HistoryError> {
        let (bytes, pack) = self.bytes(number)?;
        let (_, place) = self.place(number);
        let expected = pack.index.crc32_at_index(pack.order[place].1);
        if expected.is_some_and(|expected| expected != crc32fast::hash(bytes)) {
            return Err(HistoryError::corrupt(
                self.oid(number),
                format!("its entry in {} has changed", pack.stem.display()),
            ));
        }
        self.entry(number)
    }

    /// The content of an object.
    pub(super) fn read(&self, number: Number) -> Result<Rc<Vec<u8>>, HistoryError> {
        let mut chain = Vec::new();
        let mut at = number;
        let mut content = loop {
            if let Some(found) = self.cache.borrow().contents.get(&at) {
                break found.clone();
            }
            let plain = self.inflate(at)?;
            if self.base(at) == NONE {
                break Rc::new(plain);
            }
            chain.push(plain);
            at = self.base(at);
        };
        if chain.is_empty() {
            self.keep(number, &content);
        }
        while let Some(step) = chain.pop() {
            let made = delta::apply(&content, &step)
                .ok_or_else(|| HistoryError::corrupt(self.oid(number), "its delta is malformed"))?;
            content = Rc::new(made);
            if chain.is_empty() {
                self.keep(number, &content);
            }
        }
        Ok(content)
    }

    fn keep(&self, number: Number, content: &Rc<Vec<u8>>) {
        let mut cache = self.cache.borrow_mut();
        if cache.bytes > limits::MAINTAIN_CACHE_BYTES {
            *cache = Cache::default();
        }
        cache.bytes += content.len() + 64;
        cache.contents.insert(number, content.clone());
    }

    /// The content, or the delta, of an entry.
    pub(super) fn inflate(&self, number: Number) -> Result<Vec<u8>, HistoryError> {
        let entry = self.entry(number)?;
        let bad = || HistoryError::corrupt(self.oid(number), "zlib finds it damaged");
        // One byte more, so that the stream's end is seen.
        let mut out = Vec::with_capacity(entry.head.size as usize + 1);
        let mut inflate = self.inflate.borrow_mut();
        inflate.reset(true);
        let status = inflate
            .decompress_vec(entry.zlib, &mut out, FlushDecompress::Finish)
            .map_err(|_| bad())?;
        if status != Status::StreamEnd || out.len() as u64 != entry.head.size {
            return Err(bad());
        }
        Ok(out)
    }

    pub(super) fn packs(&self) -> usize {
        self.packs.len()
    }

    /// Which pack holds the entry.
    pub(super) fn pack_of(&self, number: Number) -> usize {
        self.first.partition_point(|first| *first <= number) - 1
    }

    fn place(&self, number: Number) -> (&Pack, usize) {
        let pack = self.pack_of(number);
        (&self.packs[pack], (number - self.first[pack]) as usize)
    }

    fn bytes(&self, number: Number) -> Result<(&[u8], &Pack), HistoryError> {
        let (pack, place) = self.place(number);
        let start = pack.order[place].0;
        let end = pack
            .order
            .get(place + 1)
            .map_or(pack.data.pack_end() as u64, |next| next.0);
        let bytes = pack
            .data
            .entry_slice(start..end)
            .ok_or_else(|| damaged(&pack.stem, "the index points beyond its end"))?;
        Ok((bytes, pack))
    }

    /// Finds out an entry's kind and base; those before it in its pack are known.
    fn read_kind(&mut self, number: Number) -> Result<(), HistoryError> {
        let mut chain = vec![];
        let mut at = number;
        while self.kinds[at as usize] == 0 {
            let (bytes, pack) = self.bytes(at)?;
            let bad = |what| damaged(&pack.stem, what);
            let (head, len) =
                encode::read_head(bytes).ok_or_else(|| bad("an entry is malformed"))?;
            let base = match (head.kind, head.distance) {
                (1..=4, _) => {
                    self.kinds[at as usize] = head.kind;
                    break;
                }
                (6, Some(distance)) => {
                    let (_, place) = self.place(at);
                    pack.order[place]
                        .0
                        .checked_sub(distance)
                        .and_then(|offset| {
                            pack.order
                                .binary_search_by_key(&offset, |(offset, _)| *offset)
                                .ok()
                        })
                        .map(|base| at - (place - base) as Number)
                }
                (7, _) => bytes
                    .get(len..len + self.kind.len())
                    .and_then(Oid::from_bytes)
                    .and_then(|base| self.find(base)),
                _ => None,
            };
            let base = base.ok_or_else(|| bad("the base of a delta is missing"))?;
            chain.push((at, base));
            if chain.len() > 1 << 16 {
                return Err(bad("a chain of deltas has no end"));
            }
            at = base;
        }
        let kind = self.kinds[at as usize];
        for (at, base) in chain {
            self.kinds[at as usize] = kind;
            self.bases[at as usize] = base;
        }
        Ok(())
    }
}

fn open_pack(kind: HashKind, stem: &Path) -> Result<Pack, HistoryError> {
    let index = index::File::at(stem.with_extension("idx"), gix_kind(kind))
        .map_err(HistoryError::git("cannot open a pack index"))?;
    let data = data::File::at(stem.with_extension("pack"), gix_kind(kind))
        .map_err(HistoryError::git("cannot open a pack"))?;
    if index.num_objects() != data.num_objects() {
        return Err(damaged(stem, "index and pack differ in their count"));
    }
    let mut order: Vec<(u64, u32)> = (0..index.num_objects())
        .map(|at| (index.pack_offset_at_index(at), at))
        .collect();
    order.sort_unstable();
    let mut rank = vec![0; order.len()];
    for (place, (_, at)) in order.iter().enumerate() {
        rank[*at as usize] = place as u32;
    }
    Ok(Pack {
        stem: stem.to_path_buf(),
        index,
        data,
        order,
        rank,
    })
}

fn damaged(stem: &Path, what: &str) -> HistoryError {
    HistoryError::Git {
        what: "a pack is damaged",
        reason: format!("{}.pack: {what}", stem.display()),
    }
}
