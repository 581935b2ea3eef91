//! One record: the frame around an operation, and the rule that makes it valid. The layout is in the [module's header](super).

use crc32fast::Hasher;

use super::codec;
use crate::maildir::Op;

/// Bytes of a frame, which precede the body.
pub(super) const FRAME: usize = 56;

/// Records start at multiples of this, so that a search for lost ones has few places to look.
pub(super) const ALIGN: usize = 8;

/// One operation as the journal holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its sequence number, from 1.
    pub seq: u64,
    /// When it was acknowledged, seconds since the epoch.
    pub time: i64,
    /// What changed.
    pub op: Op,
}

/// What stands before a record's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// Bytes of the body.
    pub len: u32,
    /// Sequence number.
    pub seq: u64,
    /// Sequence number of the record before it.
    pub prev: u64,
    /// All records up to this one were on the disk when this one was written.
    pub durable: u64,
    /// All records up to this one were durable in the repository when this one was written.
    pub released: u64,
    /// Seconds since the epoch.
    pub time: i64,
    /// Checksum of the body.
    pub body_crc: u32,
}

/// Where a record stands: part of its checksum, so that a copy elsewhere, or one from the segment's earlier life, is invalid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The segment's salt.
    pub salt: u64,
    /// Offset in the segment.
    pub offset: u64,
}

/// Bytes that a record with a body of `len` bytes takes.
pub(super) const fn size(len: usize) -> usize {
    (FRAME + len).next_multiple_of(ALIGN)
}

impl Frame {
    /// The frame's bytes at a place.
    pub(super) fn encode(&self, place: Place) -> [u8; FRAME] {
        let mut out = [0; FRAME];
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.prev.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable.to_le_bytes());
        out[32..40].copy_from_slice(&self.released.to_le_bytes());
        out[40..48].copy_from_slice(&self.time.to_le_bytes());
        out[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = frame_crc(&out, place);
        out[0..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The frame at the start of `bytes`, if it was written for this place. Says nothing of the body.
    pub(super) fn decode(bytes: &[u8], place: Place) -> Option<Self> {
        let raw: &[u8; FRAME] = bytes.first_chunk()?;
        let frame = Self::peek(raw);
        // Cheap tests first: a search tries this at every eighth byte.
        let sound = frame.seq > frame.prev
            && frame.durable < frame.seq
            && frame.released < frame.seq
            && raw[52..] == [0; 4]
            && u32_at(raw, 0) == frame_crc(raw, place);
        sound.then_some(frame)
    }

    /// The fields as they stand, checked by nothing.
    pub(super) fn peek(raw: &[u8; FRAME]) -> Self {
        Self {
            len: u32_at(raw, 4),
            seq: u64_at(raw, 8),
            prev: u64_at(raw, 16),
            durable: u64_at(raw, 24),
            released: u64_at(raw, 32),
            time: u64_at(raw, 40) as i64,
            body_crc: u32_at(raw, 48),
        }
    }

    /// Bytes that the whole record takes.
    pub(super) fn size(&self) -> usize {
        size(self.len as usize)
    }

    /// The body behind this frame, if it is whole; `bytes` starts with the frame.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(FRAME..FRAME.checked_add(self.len as usize)?)?;
        (crc32fast::hash(body) == self.body_crc).then_some(body)
    }

    /// The record that this frame and its body make.
    pub(super) fn record(&self, body: &[u8]) -> Result<Record, codec::BadBody> {
        Ok(Record {
            seq: self.seq,
            time: self.time,
            op: codec::decode(body)?,
        })
    }
}

fn frame_crc(raw: &[u8; FRAME], place: Place) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&place.salt.to_le_bytes());
    hasher.update(&place.offset.to_le_bytes());
    hasher.update(&raw[4..]);
    hasher.finalize()
}

pub(super) fn u32_at(raw: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&raw[at..at + 4]);
    u32::from_le_bytes(four)
}

pub(super) fn u64_at(raw: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&raw[at..at + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place {
        salt: 0x1234_5678_9abc_def0,
        offset: 4096,
    };

    fn frame(body: &[u8]) -> Frame {
        Frame {
            len: body.len() as u32,
            seq: 9,
            prev: 8,
            durable: 7,
            released: 3,
            time: -5,
            body_crc: crc32fast::hash(body),
        }
    }

    #[test]
    fn a_frame_is_valid_in_its_own_place_alone() {
        let written = frame(b"body").encode(HERE);
        assert_eq!(Frame::decode(&written, HERE), Some(frame(b"body")));
        let moved = Place {
            offset: 4104,
            ..HERE
        };
        assert_eq!(Frame::decode(&written, moved), None);
        let earlier = Place { salt: 1, ..HERE };
        assert_eq!(Frame::decode(&written, earlier), None);
    }

    #[test]
    fn any_flipped_bit_makes_it_invalid() {
        let mut written = frame(b"body").encode(HERE).to_vec();
        written.extend_from_slice(b"body");
        for bit in 0..written.len() * 8 {
            let mut bad = written.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let body = Frame::decode(&bad, HERE).and_then(|frame| frame.body(&bad));
            assert_eq!(body, None, "bit {bit}");
        }
    }

    #[test]
    fn zeros_and_short_bytes_are_no_frame() {
        assert_eq!(Frame::decode(&[0; FRAME], HERE), None);
        assert_eq!(Frame::decode(&[1; FRAME - 1], HERE), None);
        let bodyless = frame(b"body");
        assert_eq!(bodyless.body(&bodyless.encode(HERE)), None);
    }
}
