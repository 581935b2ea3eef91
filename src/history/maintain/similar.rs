//! Which mail has a long run of lines in common with another: a file that was attached again, a message that was forwarded.
//!
//! The problem: most bytes of a mailbox are base64 of files that are compressed already, of which zlib takes back what base64 added and no more. The same file comes again, in
//! replies and forwards, each time in another mail.
//!
//! Rules:
//! - Each large blob has a **sketch**: the smallest hashes of its long lines (MinHash). Where two have a twelfth of the larger one in common, four of theirs are expected to be the same. A file
//!   that is encoded anew has the same lines as before.
//! - **The one in the larger pack is the base**, in one pack the first. So what a delta is made of stays as it is, mostly the older mail, and is a step away, or a few
//!   ([`limits::SIMILAR_DEPTH`]).
//! - A delta that saves next to nothing is not worth the second read; [`super::merge`] sees to it, and such a blob is not tried again.
//! - Making a sketch takes inflating the blob. So every blob takes part when its pack is merged for the first time, and the last [`limits::SKETCHES`] are kept and take part in
//!   the next merges too; as many others at most are inflated again, after a remount. A blob is held against as many before it: a mail is forwarded soon or never.
//! - A blob whose pack is merged for the first time is *fresh*: it was compressed in haste, when it was delivered.
//!
//! What was rejected: the younger one as base, always, as with trees, since each new copy would put another step before all former ones, of megabytes each; git's window over
//! blobs sorted by size and name, which compares each with ten others that have nothing to do with it.

use std::collections::{HashMap, HashSet, VecDeque};

use super::sources::{BLOB, NONE, Number, Sources};
use crate::history::HistoryError;
use crate::history::pack::delta;
use crate::limits;
use crate::maildir::Oid;

/// Hashes of a sketch.
const HASHES: usize = 48;

/// Hashes that two sketches must share.
const SHARED: usize = 2;

/// Fills the sketch of a blob of few lines.
const NO_HASH: u32 = u32::MAX;

/// The smallest hashes of a blob's long lines, ascending.
type Sketch = [u32; HASHES];

struct Known {
    sketch: Sketch,
    /// What seemed to be like it was not.
    is_alone: bool,
}

/// What was found.
#[derive(Default)]
pub(super) struct Similar {
    /// From a blob that is whole and may become a delta to the one it may be a delta of.
    pub(super) bases: HashMap<Number, Number>,
    /// Blobs that are whole and in packs that were not merged before.
    pub(super) fresh: HashSet<Number>,
}

/// Sketches of blobs that were seen before.
#[derive(Default)]
pub(super) struct Sketches {
    known: HashMap<Oid, Known>,
    /// As they came.
    order: VecDeque<Oid>,
}

impl Sketches {
    fn knows(&self, sources: &Sources, number: Number) -> bool {
        self.known.contains_key(&sources.oid(number))
    }

    /// The sketch, and whether the blob may become a delta.
    fn of(&mut self, sources: &Sources, number: Number) -> Result<(Sketch, bool), HistoryError> {
        let oid = sources.oid(number);
        if let Some(known) = self.known.get(&oid) {
            return Ok((known.sketch, !known.is_alone));
        }
        let sketch = sketch(&sources.inflate(number)?);
        if self.order.len() >= limits::SKETCHES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let is_alone = false;
        self.known.insert(oid, Known { sketch, is_alone });
        self.order.push_back(oid);
        Ok((sketch, true))
    }

    /// Blobs that were not like what they seemed to be like.
    pub(super) fn set_alone(&mut self, blobs: &[Oid]) {
        for oid in blobs {
            if let Some(known) = self.known.get_mut(oid) {
                known.is_alone = true;
            }
        }
    }
}

/// Looks at the large blobs. `is_fresh` says of each pack whether it was not merged before.
///
/// # Errors
/// Where one cannot be read.
pub(super) fn find(
    sources: &Sources,
    is_fresh: &[bool],
    sketches: &mut Sketches,
) -> Result<Similar, HistoryError> {
    let mut similar = Similar::default();
    let mut again = 0;
    // Steps of deltas that hang on each blob.
    let heights = sources.heights(|_| true);
    let mut taking_part = Vec::new();
    for number in (0..sources.count()).rev() {
        if sources.kind_of(number) != BLOB {
            continue;
        }
        let base = sources.base(number);
        let entry = sources.entry(number)?;
        let is_large =
            entry.zlib.len() >= limits::SIMILAR_LEAST && entry.head.size <= limits::SIMILAR_MOST;
        let is_whole = base == NONE && is_large;
        let is_fresh = is_fresh[sources.pack_of(number)];
        if !sources.is_taken(number) {
            continue;
        }
        if is_whole && is_fresh {
            similar.fresh.insert(number);
        } else if sketches.knows(sources, number) {
            // What has become a delta may be a base all the same, since nothing has to be read for it.
        } else if is_whole && again < limits::SKETCHES {
            again += 1;
        } else {
            continue;
        }
        taking_part.push(number);
    }
    let mut depths: HashMap<Number, u16> = HashMap::new();
    let mut holders = Holders::default();
    for number in taking_part.into_iter().rev() {
        let (sketch, may) = sketches.of(sources, number)?;
        let depth = if sources.base(number) == NONE {
            let best = if may { holders.best(&sketch) } else { None };
            let above = best.and_then(|base| depths.get(&base));
            let depth = above.map_or(0, |above| above + 1);
            let fits = heights[number as usize].saturating_add(depth) <= limits::SIMILAR_DEPTH;
            match best {
                Some(base) if fits => {
                    similar.bases.insert(number, base);
                    depth
                }
                _ => 0,
            }
        } else {
            depth(sources, number)
        };
        if depth < limits::SIMILAR_DEPTH {
            depths.insert(number, depth);
            holders.add(number, sketch);
        }
    }
    Ok(similar)
}

/// Which blob has a hash: of several the first.
#[derive(Default)]
struct Holders {
    by_hash: HashMap<u32, Number>,
    /// As they came.
    order: VecDeque<(Number, Sketch)>,
}

impl Holders {
    fn add(&mut self, number: Number, sketch: Sketch) {
        if self.order.len() >= limits::SKETCHES
            && let Some((oldest, sketch)) = self.order.pop_front()
        {
            for hash in sketch {
                if self.by_hash.get(&hash) == Some(&oldest) {
                    self.by_hash.remove(&hash);
                }
            }
        }
        for hash in sketch.into_iter().filter(|hash| *hash != NO_HASH) {
            self.by_hash.entry(hash).or_insert(number);
        }
        self.order.push_back((number, sketch));
    }

    /// The one that has the most of them, if it has enough.
    fn best(&self, sketch: &Sketch) -> Option<Number> {
        let mut counts: Vec<(Number, usize)> = Vec::new();
        for holder in sketch.iter().filter_map(|hash| self.by_hash.get(hash)) {
            match counts.iter_mut().find(|(at, _)| at == holder) {
                Some((_, count)) => *count += 1,
                None => counts.push((*holder, 1)),
            }
        }
        let (best, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (count >= SHARED).then_some(best)
    }
}

/// Steps to a whole blob, counted up to one too many.
fn depth(sources: &Sources, number: Number) -> u16 {
    let (mut at, mut steps) = (number, 0);
    while sources.base(at) != NONE && steps <= limits::SIMILAR_DEPTH {
        at = sources.base(at);
        steps += 1;
    }
    steps
}

fn sketch(content: &[u8]) -> Sketch {
    let mut sketch = [NO_HASH; HASHES];
    for (_, line) in delta::long_lines(content) {
        let hash = delta::line_hash(line);
        if hash < sketch[HASHES - 1]
            && let Err(at) = sketch.binary_search(&hash)
        {
            sketch.copy_within(at..HASHES - 1, at + 1);
            sketch[at] = hash;
        }
    }
    sketch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: usize, to: usize) -> Vec<u8> {
        let line = |number: usize| format!("{:0>76}\n", number * 7919);
        (from..to)
            .flat_map(|number| line(number).into_bytes())
            .collect()
    }

    #[test]
    fn a_sketch_has_the_smallest_hashes_once() {
        let content = [lines(0, 100), lines(0, 100)].concat();
        let mut hashes: Vec<u32> = delta::long_lines(&content)
            .map(|(_, line)| delta::line_hash(line))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(sketch(&content), hashes[..HASHES]);
        let few = sketch(&lines(0, 3));
        assert!(few[2] < NO_HASH && few[3] == NO_HASH, "{few:?}");
    }

    #[test]
    fn what_has_half_in_common_shares_hashes() {
        let (a, b) = (sketch(&lines(0, 2000)), sketch(&lines(1000, 3000)));
        let shared = a.iter().filter(|hash| b.contains(hash)).count();
        assert!(shared >= SHARED, "{shared}");
        let c = sketch(&lines(5000, 7000));
        assert!(!a.iter().any(|hash| c.contains(hash)));
    }
}
