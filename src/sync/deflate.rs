//! A connection whose bytes are compressed from some point on, in both directions, with what was said before as the dictionary.
//!
//! The problem: a small push is mostly what the last one said already: names, ids, the form of a commit, the bases of deltas. Compressed by itself (each object of a pack, or by ssh
//! each packet) none of that goes away.
//!
//! Rules:
//! - One raw deflate stream a direction (RFC 1951), never ended. What is flushed can be read: each message ends with a partial flush, as in ssh's own compression (RFC 4253, 6.2).
//! - Only the beginning of what is said between two flushes is compressed, [`limits::DEFLATED`]: more is a pack of many objects, which are compressed by themselves, or mail, and it goes
//!   through as it is, in stored blocks. What comes after these begins without a dictionary: the compressor has not seen them.
//! - Both sides begin where they have agreed to ([`Deflation::begin`]); up to there bytes are passed on.
//!
//! Rejected: ssh's `Compression=yes`. It is the same for a small push, but compresses once more what is compressed already, mail and all of a history when a node joins.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::limits;

/// Whether the two directions of a connection are compressed.
#[derive(Clone, Debug, Default)]
pub struct Deflation(Arc<AtomicBool>);

impl Deflation {
    /// From here on they are. Nothing may be on the way in a buffer.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is said.
#[derive(Debug)]
pub struct Deflated<W: Write> {
    inner: W,
    deflation: Deflation,
    state: Option<Box<Saying>>,
}

#[derive(Debug)]
struct Saying {
    deflate: Compress,
    /// Bytes since the last flush.
    said: usize,
    out: Vec<u8>,
}

/// What passes through as it is goes on in blocks of this size, and what is heard is read in such pieces.
const PART: usize = 16 * 1024;

impl<W: Write> Deflated<W> {
    /// Passes on until `deflation` begins.
    pub fn new(inner: W, deflation: &Deflation) -> Self {
        Self {
            inner,
            deflation: deflation.clone(),
            state: None,
        }
    }
}

impl Saying {
    fn new() -> Self {
        Self {
            deflate: Compress::new(Compression::new(limits::DEFLATED_LEVEL), false),
            said: 0,
            out: Vec::new(),
        }
    }

    /// Appends to `out` what `bytes` come to.
    fn say(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.out.reserve(bytes.len() + 64);
            let before = self.deflate.total_in();
            self.deflate
                .compress_vec(bytes, &mut self.out, flush)
                .map_err(io::Error::other)?;
            bytes = &bytes[(self.deflate.total_in() - before) as usize..];
            // A flush is done when there was room for more.
            if bytes.is_empty() && self.out.len() < self.out.capacity() {
                return Ok(());
            }
        }
    }

    /// Appends a stored block (RFC 1951, 3.2.4). Its head begins at a byte, as the stream does after a sync flush and after such a block.
    fn store(&mut self, bytes: &[u8]) {
        let len = bytes.len() as u16;
        self.out.push(0);
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(&(!len).to_le_bytes());
        self.out.extend_from_slice(bytes);
    }
}

impl<W: Write> Write for Deflated<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.deflation.has_begun() {
            return self.inner.write(bytes);
        }
        let saying = self.state.get_or_insert_with(|| Box::new(Saying::new()));
        let left = limits::DEFLATED - saying.said.min(limits::DEFLATED);
        let bytes = &bytes[..bytes.len().min(if left > 0 { left } else { PART })];
        saying.said += bytes.len();
        if left == 0 {
            saying.store(bytes);
        } else if bytes.len() < left {
            saying.say(bytes, FlushCompress::None)?;
        } else {
            saying.say(bytes, FlushCompress::Sync)?;
        }
        if saying.out.len() >= PART {
            self.inner.write_all(&saying.out)?;
            saying.out.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(saying) = self.state.as_mut().filter(|saying| saying.said > 0) {
            if saying.said < limits::DEFLATED {
                saying.say(b"", FlushCompress::Partial)?;
            } else {
                saying.deflate.reset();
            }
            saying.said = 0;
            self.inner.write_all(&saying.out)?;
            saying.out.clear();
        }
        self.inner.flush()
    }
}

/// What is heard.
#[derive(Debug)]
pub struct Inflated<R: Read> {
    inner: R,
    deflation: Deflation,
    state: Option<Box<Hearing>>,
}

#[derive(Debug)]
struct Hearing {
    inflate: Decompress,
    heard: Box<[u8]>,
    /// What of it is not inflated yet.
    left: std::ops::Range<usize>,
}

impl<R: Read> Inflated<R> {
    /// Passes on until `deflation` begins.
    pub fn new(inner: R, deflation: &Deflation) -> Self {
        Self {
            inner,
            deflation: deflation.clone(),
            state: None,
        }
    }
}

impl Hearing {
    fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            heard: vec![0; PART].into(),
            left: 0..0,
        }
    }
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.deflation.has_begun() || buffer.is_empty() {
            return self.inner.read(buffer);
        }
        let hearing = self.state.get_or_insert_with(|| Box::new(Hearing::new()));
        loop {
            let before = (hearing.inflate.total_in(), hearing.inflate.total_out());
            let input = &hearing.heard[hearing.left.clone()];
            let status = hearing
                .inflate
                .decompress(input, buffer, FlushDecompress::Sync);
            let status = status.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
            hearing.left.start += (hearing.inflate.total_in() - before.0) as usize;
            let count = (hearing.inflate.total_out() - before.1) as usize;
            if count > 0 || status == Status::StreamEnd {
                return Ok(count);
            }
            if hearing.left.is_empty() {
                let count = self.inner.read(&mut hearing.heard)?;
                if count == 0 {
                    return Ok(0);
                }
                hearing.left = 0..count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Messages, each read before the next is said; the bytes that each took.
    fn talk(messages: &[Vec<u8>]) -> Vec<u64> {
        struct Counted(UnixStream, u64);
        impl Write for Counted {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = self.0.write(bytes)?;
                self.1 += count as u64;
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let deflation = Deflation::default();
        let mut said = Deflated::new(Counted(ours, 0), &deflation);
        let mut heard = Inflated::new(theirs, &deflation);
        let mut taken = Vec::new();
        for message in messages {
            let before = said.inner.1;
            let came = std::thread::scope(|scope| {
                let (said, heard) = (&mut said, &mut heard);
                scope.spawn(move || {
                    said.write_all(message).unwrap();
                    said.flush().unwrap();
                });
                let mut came = vec![0; message.len()];
                heard.read_exact(&mut came).unwrap();
                came
            });
            assert!(came == *message);
            taken.push(said.inner.1 - before);
            deflation.begin();
        }
        taken
    }

    #[test]
    fn what_was_said_before_costs_little() {
        let text = |number: u32| {
            let line = format!("commit {number} of node a on refs/mailbraid/peers/a\n");
            line.into_bytes()
        };
        let messages: Vec<Vec<u8>> = (0..4).map(text).collect();
        let taken = talk(&messages);
        assert_eq!(taken[0], messages[0].len() as u64, "before it begins");
        assert!(taken[1] > 30, "{taken:?}");
        assert!(taken[2] < 12 && taken[3] < 12, "{taken:?}");
    }

    #[test]
    fn what_is_large_passes_through_and_small_ones_are_compressed_again() {
        let small = vec![b'a'; 1000];
        let noise: Vec<u8> = (0..1_000_000_u32)
            .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let messages = [
            small.clone(),
            small.clone(),
            noise.clone(),
            small.clone(),
            vec![b'b'; limits::DEFLATED],
            vec![b'b'; limits::DEFLATED + 1],
            small,
        ];
        let taken = talk(&messages);
        assert!(taken[1] < 30, "{taken:?}");
        let whole = noise.len() as u64;
        let passed = whole - limits::DEFLATED as u64..whole + whole / 500;
        assert!(passed.contains(&taken[2]), "{taken:?}");
        assert!(taken[3] < 30 && taken[6] < 30, "{taken:?}");
    }

    #[test]
    fn what_is_no_deflate_is_an_error_and_an_end_is_one() {
        let deflation = Deflation::default();
        deflation.begin();
        let mut buffer = [0; 10];
        let mut heard = Inflated::new(&b"\x07 no block is of this type"[..], &deflation);
        let error = heard.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut heard = Inflated::new(&b""[..], &deflation);
        assert_eq!(heard.read(&mut buffer).unwrap(), 0);
    }
}
