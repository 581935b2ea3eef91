//! Entries of a pack.
//!
//! ```text
//! pack   "PACK" version=2 count entry… checksum
//! entry  head [distance to the base] zlib(content or delta)
//! head   1 byte: more(1) type(3) size(4), then 7 bits of the size a byte, least significant first
//! ```
//! Types: 1 commit, 2 tree, 3 blob, 4 tag, 6 OFS_DELTA. The base of a delta always lies before it in the same pack.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::history::hash::ObjectKind;
use crate::maildir::Oid;

/// Bytes before the first entry.
pub(in crate::history) const HEADER: usize = 12;

/// Appends the pack's header.
pub(in crate::history) fn header(count: u32) -> [u8; HEADER] {
    let mut header = *b"PACK\0\0\0\x02\0\0\0\0";
    header[8..].copy_from_slice(&count.to_be_bytes());
    header
}

/// Appends an entry's head for a whole object of `size` bytes.
pub(in crate::history) fn head(out: &mut Vec<u8>, kind: ObjectKind, size: u64) {
    let kind = match kind {
        ObjectKind::Commit => 1,
        ObjectKind::Tree => 2,
        ObjectKind::Blob => 3,
        ObjectKind::Tag => 4,
    };
    push_head(out, kind, size);
}

/// Appends the head of a delta of `size` bytes whose base begins `distance` bytes before this entry.
pub(in crate::history) fn delta_head(out: &mut Vec<u8>, size: u64, distance: u64) {
    push_head(out, 6, size);
    let mut bytes = [0; 10];
    let mut at = bytes.len() - 1;
    let mut rest = distance;
    bytes[at] = (rest & 0x7f) as u8;
    while rest > 0x7f {
        rest = (rest >> 7) - 1;
        at -= 1;
        bytes[at] = 0x80 | (rest & 0x7f) as u8;
    }
    out.extend_from_slice(&bytes[at..]);
}

/// Appends the head of a delta of `size` bytes whose base is named by its id: for packs on the wire alone.
pub(in crate::history) fn ref_delta_head(out: &mut Vec<u8>, size: u64, base: Oid) {
    push_head(out, 7, size);
    out.extend_from_slice(base.as_bytes());
}

fn push_head(out: &mut Vec<u8>, kind: u8, size: u64) {
    let mut byte = (kind << 4) | (size & 15) as u8;
    let mut rest = size >> 4;
    while rest > 0 {
        out.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    out.push(byte);
}

/// An entry's head as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::history) struct Head {
    /// 1 commit, 2 tree, 3 blob, 4 tag, 6 OFS_DELTA, 7 REF_DELTA.
    pub(in crate::history) kind: u8,
    /// Size of the content, or of the delta, uncompressed.
    pub(in crate::history) size: u64,
    /// How far before the entry its base begins, for OFS_DELTA.
    pub(in crate::history) distance: Option<u64>,
}

/// Reads an entry's head and says how long it is; `None` where it is malformed. The base's id of a REF_DELTA follows it.
pub(in crate::history) fn read_head(bytes: &[u8]) -> Option<(Head, usize)> {
    let mut rest = bytes.iter();
    let mut byte = *rest.next()?;
    let kind = (byte >> 4) & 7;
    let mut size = u64::from(byte & 15);
    let mut shift = 4;
    while byte & 0x80 != 0 {
        byte = *rest.next()?;
        size |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
    }
    let mut distance = None;
    if kind == 6 {
        let mut byte = *rest.next()?;
        let mut value = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = *rest.next()?;
            value = ((value + 1) << 7) | u64::from(byte & 0x7f);
        }
        distance = Some(value);
    }
    let head = Head {
        kind,
        size,
        distance,
    };
    Some((head, bytes.len() - rest.len()))
}

/// zlib. Its tables, some hundred kilobytes, are made for the first object and kept for the others.
pub(in crate::history) struct Deflate {
    level: Compression,
    inner: Option<Compress>,
}

impl Deflate {
    pub(in crate::history) fn new(level: u32) -> Self {
        Self {
            level: Compression::new(level),
            inner: None,
        }
    }

    /// Appends `content` compressed.
    pub(in crate::history) fn append(&mut self, out: &mut Vec<u8>, content: &[u8]) {
        let level = self.level;
        let inner = self.inner.get_or_insert_with(|| Compress::new(level, true));
        inner.reset();
        loop {
            let fed = inner.total_in() as usize;
            let left = content.len() - fed;
            out.reserve(left / 2 + 64);
            let status = inner
                .compress_vec(&content[fed..], out, FlushCompress::Finish)
                .expect("because deflate takes any input while its output has room");
            if status == Status::StreamEnd {
                return;
            }
        }
    }
}

/// One object of a pack, for its index.
#[derive(Clone, Copy, Debug)]
pub(in crate::history) struct Packed {
    pub(in crate::history) oid: Oid,
    pub(in crate::history) crc: u32,
    pub(in crate::history) offset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_gits() {
        let mut out = Vec::new();
        head(&mut out, ObjectKind::Blob, 15);
        head(&mut out, ObjectKind::Tree, 16);
        head(&mut out, ObjectKind::Commit, 1 << 20);
        assert_eq!(out, [0x3f, 0xa0, 0x01, 0x90, 0x80, 0x80, 0x04]);
        let (read, len) = read_head(&out[3..]).unwrap();
        assert_eq!(
            (read.kind, read.size, read.distance, len),
            (1, 1 << 20, None, 4)
        );
        assert_eq!(read_head(&[0x90]), None);
        let mut out = Vec::new();
        delta_head(&mut out, 3, 127);
        delta_head(&mut out, 3, 128);
        delta_head(&mut out, 3, 16_511);
        delta_head(&mut out, 3, 16_512);
        assert_eq!(read_head(&out[8..]).unwrap().0.distance, Some(16_512));
        assert_eq!(read_head(&out[8..]).unwrap().1, 4);
        assert_eq!(
            out,
            [
                0x63, 0x7f, 0x63, 0x80, 0x00, 0x63, 0xff, 0x7f, 0x63, 0x80, 0x80, 0x00
            ]
        );
    }

    #[test]
    fn zlib_is_read_by_others() {
        let mut deflate = Deflate::new(2);
        for content in [&b""[..], b"abc", &vec![7; 100_000]] {
            let mut out = vec![1, 2];
            deflate.append(&mut out, content);
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&out[2..]), &mut plain)
                .unwrap();
            assert_eq!(plain, content);
        }
    }
}
