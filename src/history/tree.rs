//! Raw git trees as we write them: `MODE SP NAME NUL ID`, repeated, in git's order (a directory compares as if its name ended in `/`).
//!
//! Two modes occur: `100644` for files, `40000` for directories. Anything else is refused: it is not ours.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;

use gix::bstr::ByteSlice as _;

use crate::maildir::hidden::{self, MAILBOX};
use crate::maildir::{Oid, name};

use super::hash::Checksum;
use crate::maildir::HashKind;

/// One entry of a raw tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawEntry<'a> {
    pub(super) dir: bool,
    pub(super) name: &'a [u8],
    pub(super) id: &'a [u8],
    /// Where it begins and ends in the tree.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl RawEntry<'_> {
    pub(super) fn oid(&self) -> Oid {
        Oid::from_bytes(self.id).expect("because the iterator cuts ids at the hash's length")
    }

    /// The digit of a trie's branch; `None` for everything else. No visible name is written so (see `hidden`).
    pub(super) fn branch(&self) -> Option<usize> {
        match self.name {
            [digit @ b'0'..=b'9'] if self.dir => Some(usize::from(digit - b'0')),
            [digit @ b'a'..=b'f'] if self.dir => Some(usize::from(digit - b'a') + 10),
            _ => None,
        }
    }

    /// Where the name begins in the tree.
    pub(super) fn name_start(&self) -> usize {
        self.end - self.id.len() - 1 - self.name.len()
    }

    pub(super) fn is_mailbox(&self) -> bool {
        !self.dir && self.name == MAILBOX
    }

    /// The hidden name without its attributes: what two names of one visible name have in common.
    pub(super) fn plain(&self) -> &[u8] {
        plain(self.name)
    }
}

/// A hidden name without its attributes.
pub(super) fn plain(hidden: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(found) = hidden[at..].find_byte(b'%') {
        at += found;
        if hidden.get(at + 1) == Some(&b',') {
            return &hidden[..at];
        }
        at += 1;
    }
    hidden
}

/// The entries of a raw tree, in order. After an error there are no more.
pub(super) struct Entries<'a> {
    raw: &'a [u8],
    at: usize,
    id_len: usize,
}

pub(super) fn entries(raw: &[u8], kind: HashKind) -> Entries<'_> {
    Entries {
        raw,
        at: 0,
        id_len: kind.len(),
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<RawEntry<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.raw[self.at..];
        if rest.is_empty() {
            return None;
        }
        let start = self.at;
        self.at = self.raw.len();
        let (dir, mode_len) = if rest.starts_with(b"100644 ") {
            (false, 7)
        } else if rest.starts_with(b"40000 ") {
            (true, 6)
        } else {
            return Some(Err("a tree entry has a mode mailbraid does not write"));
        };
        let Some(name_len) = rest[mode_len..].find_byte(0) else {
            return Some(Err("a tree entry is cut off"));
        };
        let id_at = mode_len + name_len + 1;
        let end = start + id_at + self.id_len;
        if end > self.raw.len() {
            return Some(Err("a tree entry is cut off"));
        }
        self.at = end;
        Some(Ok(RawEntry {
            dir,
            name: &rest[mode_len..mode_len + name_len],
            id: &rest[id_at..id_at + self.id_len],
            start,
            end,
        }))
    }
}

/// Appends an entry.
pub(super) fn push(raw: &mut Vec<u8>, dir: bool, name: &[u8], id: &[u8]) {
    raw.extend_from_slice(if dir { b"40000 " } else { b"100644 " });
    raw.extend_from_slice(name);
    raw.push(0);
    raw.extend_from_slice(id);
}

/// git's order of tree entries (`base_name_compare`).
pub(super) fn order(a: &[u8], a_dir: bool, b: &[u8], b_dir: bool) -> Ordering {
    let len = a.len().min(b.len());
    a[..len].cmp(&b[..len]).then_with(|| {
        let next =
            |name: &[u8], dir: bool| name.get(len).copied().unwrap_or(if dir { b'/' } else { 0 });
        next(a, a_dir).cmp(&next(b, b_dir))
    })
}

/// A name as a trie sees it.
pub(super) struct Key<'a> {
    /// The escaped visible name.
    pub(super) plain: Cow<'a, [u8]>,
    visible: &'a [u8],
    /// Most directories are one leaf, where nobody asks.
    digits: OnceCell<[u8; 20]>,
}

impl<'a> Key<'a> {
    pub(super) fn new(visible: &'a [u8]) -> Self {
        Self {
            plain: hidden::escape(visible),
            visible,
            digits: OnceCell::new(),
        }
    }

    /// Another name of the same identity: it has the same place.
    pub(super) fn renamed<'b>(&self, visible: &'b [u8]) -> Key<'b> {
        Key {
            plain: hidden::escape(visible),
            visible,
            digits: self.digits.clone(),
        }
    }

    /// The branch below a node at `depth`.
    pub(super) fn digit(&self, depth: usize) -> usize {
        digit(self.digits.get_or_init(|| digits(self.visible)), depth)
    }
}

/// SHA-1 of the name's identity, whatever the repository's hash: a mailbox has one shape everywhere.
pub(super) fn digits(visible: &[u8]) -> [u8; 20] {
    let mut sum = Checksum::new(HashKind::Sha1);
    sum.update(&name::identity(visible));
    let mut digits = [0; 20];
    digits.copy_from_slice(sum.finish().as_bytes());
    digits
}

/// The hexadecimal digit at `depth`.
pub(super) fn digit(digits: &[u8; 20], depth: usize) -> usize {
    let byte = digits[depth / 2];
    usize::from(if depth.is_multiple_of(2) {
        byte >> 4
    } else {
        byte & 15
    })
}

/// Deepest node of a trie below its top: 16^8 names are more than any directory holds, and a leaf at this depth takes whatever comes (names of one identity
/// can never be told apart).
pub(super) const MAX_DEPTH: usize = 8;

/// The name of a branch.
pub(super) const BRANCHES: [&[u8; 1]; 16] = [
    b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"a", b"b", b"c", b"d", b"e", b"f",
];

/// A split node as it is stored.
pub(super) struct RawSplit {
    pub(super) mailbox: Option<Oid>,
    pub(super) branches: [Option<Oid>; 16],
}

/// Reads a split node; `None` where the tree is a leaf.
pub(super) fn split(raw: &[u8], kind: HashKind) -> Result<Option<RawSplit>, &'static str> {
    let mut split = RawSplit {
        mailbox: None,
        branches: [None; 16],
    };
    let mut any = false;
    for (at, entry) in entries(raw, kind).enumerate() {
        let entry = entry?;
        if at == 0 && entry.is_mailbox() {
            split.mailbox = Some(entry.oid());
        } else if let Some(digit) = entry.branch() {
            if !any && at > usize::from(split.mailbox.is_some()) {
                return Err("a tree mixes branches and entries");
            }
            any = true;
            split.branches[digit] = Some(entry.oid());
        } else if any {
            return Err("a tree mixes branches and entries");
        } else if at > usize::from(split.mailbox.is_some()) {
            // Two entries that are no branches: `!` … `/` sort before the digits, so a mix could still follow; the reader of
            // the entries meets it. A leaf needs no full scan here.
            return Ok(None);
        }
    }
    Ok(any.then_some(split))
}

/// One tree object, read.
#[allow(clippy::large_enum_variant)] // Held one at a time.
pub(super) enum Shape {
    Split(RawSplit),
    Leaf { mailbox: Option<Oid> },
}

/// Reads a tree object; `each` gets the names of a leaf.
pub(super) fn read<'a>(
    raw: &'a [u8],
    kind: HashKind,
    mut each: impl FnMut(&RawEntry<'a>),
) -> Result<Shape, &'static str> {
    if let Some(split) = split(raw, kind)? {
        return Ok(Shape::Split(split));
    }
    let mut mailbox = None;
    for entry in entries(raw, kind) {
        let entry = entry?;
        if entry.is_mailbox() {
            mailbox = Some(entry.oid());
        } else if entry.branch().is_some() {
            return Err("a tree mixes branches and entries");
        } else {
            each(&entry);
        }
    }
    Ok(Shape::Leaf { mailbox })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_gits() {
        assert_eq!(order(b"a", false, b"a.b", false), Ordering::Less);
        assert_eq!(order(b"a", true, b"a.b", false), Ordering::Greater);
        assert_eq!(order(b"a", true, b"a0", false), Ordering::Less);
        assert_eq!(order(b"a", false, b"b", true), Ordering::Less);
        assert_eq!(order(b"a", true, b"a", true), Ordering::Equal);
    }

    #[test]
    fn entries_come_back() {
        let mut raw = Vec::new();
        push(&mut raw, false, MAILBOX, &[1; 20]);
        push(&mut raw, true, b"f", &[2; 20]);
        let all: Vec<_> = entries(&raw, HashKind::Sha1)
            .map(|entry| entry.unwrap())
            .collect();
        assert!(all[0].is_mailbox() && all[0].branch().is_none());
        assert_eq!(all[1].branch(), Some(15));
        assert_eq!(all[1].end, raw.len());
        assert!(
            entries(&raw[..raw.len() - 1], HashKind::Sha1)
                .nth(1)
                .unwrap()
                .is_err()
        );
        assert!(
            entries(b"120000 x\0", HashKind::Sha1)
                .next()
                .unwrap()
                .is_err()
        );
        assert!(split(&raw, HashKind::Sha1).unwrap().is_some());
        let mut mixed = raw.clone();
        push(&mut mixed, false, b"x", &[3; 20]);
        assert!(split(&mixed, HashKind::Sha1).is_err());
    }
}
