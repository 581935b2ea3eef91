//! Deltas between two versions of one tree, computed entry by entry; and of what else is known to be alike.
//!
//! ```text
//! delta   size of the base, size of the result (7 bits a byte, least significant first), then instructions
//! copy    1 o4 o3 o2 o1 s3 s2 s1 as bits, followed by the offset and size bytes whose bits are set; size 0 means 65,536
//! insert  1 … 127, followed by that many bytes
//! ```
//!
//! A generic search (git's, by rolling hash) costs time and finds 16-byte blocks; we know that both are sorted lists of entries,
//! most of them equal. Two pointers walk them; where they differ, what the two gaps have in common at their ends is copied too. So a flag
//! change is copy, insert a letter, copy.

use std::collections::HashMap;

use super::super::tree;
use crate::maildir::HashKind;

/// A copy of fewer bytes costs as much as inserting them.
const COPY_MIN: usize = 6;

/// Shorter lines are in many mails.
const LINE_MIN: usize = 32;

/// The delta that makes `new` of `old`; `None` where one of them is no tree of ours.
pub(in crate::history) fn trees(old: &[u8], new: &[u8], kind: HashKind) -> Option<Vec<u8>> {
    let mut delta = Delta::new(old, new);
    let mut olds = tree::entries(old, kind);
    let mut news = tree::entries(new, kind);
    let (mut old_done, mut new_done) = (0, 0);
    let (mut a, mut b) = (olds.next().transpose().ok()?, news.next().transpose().ok()?);
    while let (Some(x), Some(y)) = (a, b) {
        match tree::order(x.name, x.dir, y.name, y.dir) {
            std::cmp::Ordering::Less => a = olds.next().transpose().ok()?,
            std::cmp::Ordering::Greater => b = news.next().transpose().ok()?,
            std::cmp::Ordering::Equal => {
                if x.id == y.id {
                    delta.gap(old_done..x.start, new_done..y.start);
                    delta.copy(x.start, x.end - x.start);
                    (old_done, new_done) = (x.end, y.end);
                }
                a = olds.next().transpose().ok()?;
                b = news.next().transpose().ok()?;
            }
        }
    }
    delta.gap(old_done..old.len(), new_done..new.len());
    Some(delta.finish())
}

/// The delta between two commits: lines are held against each other in turn, since what changes is within them.
pub(in crate::history) fn lines(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut delta = Delta::new(old, new);
    let mut olds = old.split_inclusive(|&byte| byte == b'\n');
    let mut news = new.split_inclusive(|&byte| byte == b'\n');
    let (mut old_at, mut new_at) = (0, 0);
    while let (Some(a), Some(b)) = (olds.next(), news.next()) {
        delta.gap(old_at..old_at + a.len(), new_at..new_at + b.len());
        old_at += a.len();
        new_at += b.len();
    }
    delta.gap(old_at..old.len(), new_at..new.len());
    delta.finish()
}

/// The delta between two mails: runs of the same lines, wherever they stand.
pub(in crate::history) fn runs(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut places = HashMap::new();
    for (start, line) in long_lines(old) {
        places.entry(line_hash(line)).or_insert(start);
    }
    let mut delta = Delta::new(old, new);
    let mut done = 0;
    for (start, line) in long_lines(new) {
        if start < done {
            continue;
        }
        let Some(&from) = places.get(&line_hash(line)) else {
            continue;
        };
        let equal = |(x, y): &(&u8, &u8)| x == y;
        let before = old[..from].iter().rev().zip(new[done..start].iter().rev());
        let before = before.take_while(equal).count();
        let len = old[from..].iter().zip(&new[start..]);
        let len = len.take_while(equal).count();
        // Two lines may have one hash.
        if len < line.len() {
            continue;
        }
        delta.insert(done..start - before);
        delta.copy(from - before, before + len);
        done = start + len;
    }
    delta.insert(done..new.len());
    delta.finish()
}

/// The lines that are long enough to say that what is around them is the same too, each with its place.
pub(in crate::history) fn long_lines(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    let lines = content.split_inclusive(|&byte| byte == b'\n');
    let places = lines.map(move |line| {
        let start = at;
        at += line.len();
        (start, line)
    });
    places.filter(|(_, line)| line.len() >= LINE_MIN)
}

/// What a line is known by.
pub(in crate::history) fn line_hash(line: &[u8]) -> u32 {
    crc32fast::hash(line)
}

/// Applies a delta, as a check on what was written and to read packs; `None` where it is malformed.
pub(in crate::history) fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta.iter().copied();
    let mut size = || {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = rest.next()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return usize::try_from(value).ok();
            }
        }
    };
    if size()? != base.len() {
        return None;
    }
    let len = size()?;
    let mut out = Vec::with_capacity(len.min(1 << 20));
    while let Some(op) = rest.next() {
        if op & 0x80 != 0 {
            let (mut offset, mut size) = (0usize, 0usize);
            for bit in 0..4 {
                if op & (1 << bit) != 0 {
                    offset |= usize::from(rest.next()?) << (8 * bit);
                }
            }
            for bit in 0..3 {
                if op & (0x10 << bit) != 0 {
                    size |= usize::from(rest.next()?) << (8 * bit);
                }
            }
            if size == 0 {
                size = 0x10000;
            }
            out.extend_from_slice(base.get(offset..offset.checked_add(size)?)?);
        } else if op == 0 {
            return None;
        } else {
            for _ in 0..op {
                out.push(rest.next()?);
            }
        }
    }
    (out.len() == len).then_some(out)
}

struct Delta<'a> {
    old: &'a [u8],
    new: &'a [u8],
    out: Vec<u8>,
    copy: std::ops::Range<usize>,
    insert: std::ops::Range<usize>,
}

impl<'a> Delta<'a> {
    fn new(old: &'a [u8], new: &'a [u8]) -> Self {
        let mut out = Vec::with_capacity(64);
        for mut size in [old.len(), new.len()] {
            while size > 0x7f {
                out.push(0x80 | (size & 0x7f) as u8);
                size >>= 7;
            }
            out.push(size as u8);
        }
        Self {
            old,
            new,
            out,
            copy: 0..0,
            insert: 0..0,
        }
    }

    /// Both sides differ here; what they share at the ends is copied.
    fn gap(&mut self, old: std::ops::Range<usize>, new: std::ops::Range<usize>) {
        let (a, b) = (&self.old[old.clone()], &self.new[new.clone()]);
        let mut head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        // A prefix prolongs the copy before it; alone it must pay.
        if head < COPY_MIN
            && !(self.insert.is_empty() && self.copy.end == old.start && !self.copy.is_empty())
        {
            head = 0;
        }
        let (a, b) = (&a[head..], &b[head..]);
        let tail = a
            .iter()
            .rev()
            .zip(b.iter().rev())
            .take_while(|(x, y)| x == y)
            .count();
        self.copy(old.start, head);
        self.insert(new.start + head..new.end - tail);
        self.copy(old.end - tail, tail);
    }

    fn copy(&mut self, from: usize, len: usize) {
        if len == 0 {
            return;
        }
        if self.insert.is_empty() && !self.copy.is_empty() && self.copy.end == from {
            self.copy.end += len;
            return;
        }
        self.flush();
        self.copy = from..from + len;
    }

    /// Bytes of the new tree, right after those inserted before.
    fn insert(&mut self, range: std::ops::Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.insert.is_empty() {
            self.insert = range;
        } else {
            self.insert.end = range.end;
        }
    }

    /// Writes the pending copy, then the pending insert.
    fn flush(&mut self) {
        let copy = std::mem::replace(&mut self.copy, 0..0);
        let (mut from, end) = (copy.start, copy.end);
        while from < end {
            let len = (end - from).min(0xffff);
            let at = self.out.len();
            let mut op = 0x80;
            self.out.push(0);
            for bit in 0..4 {
                let byte = (from >> (8 * bit)) as u8;
                if byte != 0 {
                    op |= 1 << bit;
                    self.out.push(byte);
                }
            }
            for bit in 0..2 {
                let byte = (len >> (8 * bit)) as u8;
                if byte != 0 {
                    op |= 0x10 << bit;
                    self.out.push(byte);
                }
            }
            self.out[at] = op;
            from += len;
        }
        let insert = std::mem::replace(&mut self.insert, 0..0);
        for piece in self.new[insert].chunks(127) {
            self.out.push(piece.len() as u8);
            self.out.extend_from_slice(piece);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_of(names: &[&str]) -> Vec<u8> {
        let mut raw = Vec::new();
        for name in names {
            let id = crate::history::hash_blob(HashKind::Sha1, name.as_bytes());
            tree::push(&mut raw, false, name.as_bytes(), id.as_bytes());
        }
        raw
    }

    #[test]
    fn a_flag_change_is_a_few_bytes() {
        let old = tree_of(&["1.a:2,", "2.b:2,", "3.c:2,"]);
        let at = old.windows(6).position(|six| six == b"2.b:2,").unwrap() + 6;
        let mut new = old.clone();
        new.insert(at, b'S');
        let delta = trees(&old, &new, HashKind::Sha1).unwrap();
        assert_eq!(apply(&old, &delta).unwrap(), new);
        assert!(delta.len() <= 10, "{delta:?}");
    }

    #[test]
    fn any_two_trees_have_a_delta() {
        let all: Vec<String> = (0..40).map(|i| format!("{i:02}.m:2,S")).collect();
        for seed in 0..200u32 {
            let pick = |mul: u32| -> Vec<&str> {
                all.iter()
                    .enumerate()
                    .filter(|(i, _)| !(*i as u32 * 7 + seed * mul).is_multiple_of(5))
                    .map(|(_, name)| name.as_str())
                    .collect()
            };
            let (old, new) = (tree_of(&pick(1)), tree_of(&pick(3)));
            let delta = trees(&old, &new, HashKind::Sha1).unwrap();
            assert_eq!(apply(&old, &delta).unwrap(), new);
        }
        for (old, new) in [(vec![], tree_of(&["a"])), (tree_of(&["a"]), vec![])] {
            let delta = trees(&old, &new, HashKind::Sha1).unwrap();
            assert_eq!(apply(&old, &delta).unwrap(), new);
        }
    }

    #[test]
    fn a_run_of_lines_is_copied_from_wherever_it_stands() {
        let line = |number: usize| format!("{:0>76}\n", number * 7919);
        let text = |from: usize, to: usize| (from..to).map(line).collect::<String>();
        let old = format!("Subject: a\n\n{}-- \nx\n", text(0, 3000));
        let new = format!(
            "Subject: b\n\nSee below.\n{}--\n{}",
            text(1000, 3000),
            text(10, 20)
        );
        let delta = runs(old.as_bytes(), new.as_bytes());
        assert_eq!(apply(old.as_bytes(), &delta).unwrap(), new.as_bytes());
        assert!(delta.len() < 120, "{}", delta.len());
    }

    #[test]
    fn any_two_contents_have_runs() {
        for seed in 0..300u32 {
            // Pieces of a few, so that they repeat, with ends that are no lines.
            let make = |salt: u32| -> Vec<u8> {
                let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(salt);
                let mut out = Vec::new();
                for _ in 0..seed % 40 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let letter = b'a' + (state >> 28) as u8 % 5;
                    let len = (state >> 16) as usize % 70;
                    out.extend(std::iter::repeat_n(letter, len));
                    if state >> 10 & 3 != 0 {
                        out.push(b'\n');
                    }
                }
                out
            };
            let (old, new) = (make(1), make(2));
            assert_eq!(apply(&old, &runs(&old, &new)).unwrap(), new, "seed {seed}");
        }
    }

    #[test]
    fn malformed_deltas_are_refused() {
        for delta in [
            &b""[..],
            b"\x03",
            b"\x03\x01\x00",
            b"\x03\x01\x90\x09",
            b"\x03\x05\x02a",
        ] {
            assert_eq!(apply(b"abc", delta), None);
        }
    }
}
