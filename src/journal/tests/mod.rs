//! Tests of the journal as a whole.

mod group;
mod keeping;
mod mangled;
mod recovery;
mod skip;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::testing::{delivery, flag};
use super::{Journal, JournalError, Options, Record, Recovery};
use crate::maildir::Op;

/// Small segments: three pages for records.
const SMALL: u64 = 16 * 1024;

fn small() -> Options {
    Options {
        segment_bytes: SMALL,
        ..Options::default()
    }
}

fn from(first_seq: u64) -> Options {
    Options {
        first_seq,
        ..small()
    }
}

/// A journal directory and what was appended to it.
struct Bench {
    dir: TempDir,
    ops: Vec<Op>,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ops: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn open(&self, options: Options) -> (Arc<Journal>, Recovery) {
        Journal::open(&self.path(), options).expect("the journal opens")
    }

    fn refused(&self, options: Options) -> JournalError {
        Journal::open(&self.path(), options).expect_err("the journal is refused")
    }

    /// Appends deliveries of `len` bytes, without a sync.
    fn append(&mut self, journal: &Journal, count: usize, len: usize) {
        for _ in 0..count {
            let op = delivery(self.ops.len() as u64 + 1, len);
            let seq = journal
                .append(&op, self.ops.len() as i64)
                .expect("appended");
            self.ops.push(op);
            assert_eq!(seq, self.ops.len() as u64);
        }
    }

    /// Appends deliveries, each of them durable before the next.
    fn deliver(&mut self, journal: &Journal, count: usize, len: usize) {
        for _ in 0..count {
            self.append(journal, 1, len);
            journal
                .wait_durable(self.ops.len() as u64)
                .expect("durable");
        }
    }

    /// Checks that the journal holds the operations appended, from `first` up to and including `last`.
    fn expect(&self, journal: &Journal, first: u64, last: u64) {
        let read = journal
            .read(first - 1, usize::MAX, usize::MAX)
            .expect("read");
        let expected: Vec<Record> = (first..=last)
            .map(|seq| Record {
                seq,
                time: seq as i64 - 1,
                op: self.ops[seq as usize - 1].clone(),
            })
            .collect();
        assert_eq!(read, expected);
        assert_eq!(journal.last(), last);
    }

    /// The file of a segment.
    fn segment(&self, number: u64) -> PathBuf {
        self.path().join(super::segment::name(number))
    }

    fn file(&self, number: u64) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.segment(number))
            .expect("the segment opens")
    }

    /// Flips a bit of a segment.
    fn flip(&self, number: u64, offset: u64) {
        let file = self.file(number);
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("read");
        file.write_all_at(&[byte[0] ^ 0x10], offset)
            .expect("written");
    }

    /// Where records start in a segment, by searching for its frames.
    fn offsets(&self, number: u64) -> Vec<u64> {
        let segment = super::segment::Segment::open(&self.path(), number).expect("opened");
        let bytes = fs::read(self.segment(number)).expect("read");
        (0..bytes.len() as u64)
            .step_by(8)
            .filter(|&offset| {
                super::record::Frame::decode(&bytes[offset as usize..], segment.place(offset))
                    .is_some()
            })
            .collect()
    }

    fn segments(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = fs::read_dir(self.path())
            .expect("listed")
            .filter_map(|entry| super::segment::parse_name(&entry.expect("an entry").file_name()))
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Copies a directory of plain files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("created");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Waits for what another thread does.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
