//! The pack index, version 2.
//!
//! ```text
//! ff 't' 'O' 'c' version=2
//! fan-out   256 × u32: how many ids start with a byte up to this one
//! ids       ascending
//! crc32     of each entry as it stands in the pack, in order of ids
//! offsets   u32 each; with the top bit set: an index into the next table
//! offsets   u64, for entries beyond 2 GiB
//! checksum of the pack, checksum of all the above
//! ```

use super::encode::Packed;
use crate::history::hash::Checksum;
use crate::maildir::{HashKind, Oid};

/// The index of a pack with these entries; sorts them.
pub(in crate::history) fn encode(kind: HashKind, entries: &mut [Packed], pack: Oid) -> Vec<u8> {
    entries.sort_unstable_by_key(|entry| entry.oid);
    let mut out = Vec::with_capacity(8 + 1024 + entries.len() * (kind.len() + 8) + 2 * kind.len());
    out.extend_from_slice(b"\xfftOc\0\0\0\x02");
    let mut counts = [0u32; 256];
    for entry in entries.iter() {
        counts[usize::from(entry.oid.as_bytes()[0])] += 1;
    }
    let mut sum = 0;
    for count in counts {
        sum += count;
        out.extend_from_slice(&sum.to_be_bytes());
    }
    for entry in entries.iter() {
        out.extend_from_slice(entry.oid.as_bytes());
    }
    for entry in entries.iter() {
        out.extend_from_slice(&entry.crc.to_be_bytes());
    }
    let mut far = Vec::new();
    for entry in entries.iter() {
        let near = u32::try_from(entry.offset)
            .ok()
            .filter(|offset| offset >> 31 == 0)
            .unwrap_or_else(|| {
                far.push(entry.offset);
                0x8000_0000 | (far.len() - 1) as u32
            });
        out.extend_from_slice(&near.to_be_bytes());
    }
    for offset in far {
        out.extend_from_slice(&offset.to_be_bytes());
    }
    out.extend_from_slice(pack.as_bytes());
    let mut checksum = Checksum::new(kind);
    checksum.update(&out);
    out.extend_from_slice(checksum.finish().as_bytes());
    out
}
