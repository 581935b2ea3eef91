//! The journal: what is acknowledged before git knows of it.
//!
//! # The problem
//!
//! A delivery is durable when its `rename` returns, and nothing else on the disk may be waited for by then. An append to a growing file costs
//! `fdatasync` 250–290 µs, because the file's size is metadata and metadata is a journal commit of the filesystem below;
//! overwriting blocks that were allocated *and filled* before costs 130–155 µs. So records go into preallocated, zero-filled
//! segments, and a delivery touches no metadata: the next segment is made ahead by a thread of the journal.
//! Many waiters share one sync.
//!
//! The journal is also the queue of the store thread, which reads records in order, commits them, and releases them. A segment
//! is used again only once all its records are released.
//!
//! # Rules
//!
//! - **Order of calls of [`Journal::append`] is the order of sequence numbers.** They start at 1 and never go back: a journal that was
//!   lost starts above [`Options::first_seq`], which the store takes from its head.
//! - **A file named as a segment has a whole header, and its name is durable, at every instant.** While its header changes it is called
//!   `preparing.tmp`. Segments enter at the upper end of the sequence and leave at the lower one, each step synced, so there is never a gap.
//! - **What is behind the last record can never come back.** Another life of a segment has another salt, and the salt is part of every
//!   checksum; after a crash, the rest of the last segment is overwritten with zeros before the first append.
//! - **A failed sync poisons the journal for ever.** Linux reports a failed write-back once and then marks the pages clean,
//!   so a second `fsync` succeeds although the data is lost ("fsyncgate", <https://lwn.net/Articles/752063/>). Only a new mount reads what is really there.
//! - **A journal that reads back what it wrote has not made it durable**: after the daemon was killed the records may be in the page cache alone, so
//!   [`Journal::open`] syncs what it found before it calls it durable.
//! - **Small operations outlive the disk's last block.** The last [`Options::reserve_segments`] segments take only records without
//!   content, so that mail can be moved and deleted when nothing can be delivered.
//! - **A full disk gets back what is not needed** ([`Journal::give_back`]): released segments are not kept for later use there, since commits wait for
//!   the room, and with it for the next segment.
//!
//! # Format
//!
//! All numbers little-endian. `journal/` holds segments named `<number, 16 hexadecimal digits>.seg`, numbered without gap from
//! any number, and at times `preparing.tmp`. A segment is a header page of 4096 bytes and then records.
//!
//! ```text
//! header      0  8  "MBjrnl\r\n"
//!             8  4  format: 1
//!            12  4  CRC-32 of the page without these four bytes   (magic, format, checksum: the same place in every format)
//!            16  8  number, as in the name
//!            24  8  size of the segment in bytes
//!            32  8  salt: random
//!            40  8  durable: all records up to this one were on the disk when this segment was prepared
//!            48  8  released, as then
//!            56  1  1: the segment held other records before, and they may stand behind its own;  0: zeros stand there
//!            57     zeros up to 4096
//!
//! record      0  4  CRC-32 of salt (8), offset of this record in the segment (8), bytes 4 to 56 of this frame
//!             4  4  length of the body
//!             8  8  seq
//!            16  8  prev: the seq of the record before it: seq - 1, but where a lost journal made numbers jump
//!            24  8  durable: all records up to this one were on the disk when this one was written
//!            32  8  released: all records up to this one were durable in the repository
//!            40  8  time of the acknowledgement, seconds since the epoch, signed
//!            48  4  CRC-32 of the body
//!            52  4  zeros
//!            56     body: see [`codec`]; then zeros up to a multiple of 8
//! ```
//!
//! **A record is valid** if both checksums are right, `prev` is the seq of the valid record before it (in this segment or the one
//! before), and `seq > prev`. The first record of all is valid with any `prev` below [`Options::first_seq`]: what precedes is in the history.
//! A record does not span segments; where one does not fit, the rest of the segment is left as it is.
//!
//! # Recovery
//!
//! Records are read in order up to the first that is not valid. Whether that one is a torn tail or damage is told by `durable` in the
//! frames that stand anywhere behind it: writes that were not synced reach the disk in any order, so later frames prove
//! nothing by being there; but a frame, or the header of a segment, that says "records up to `d` are durable" was written after a sync of
//! `d`. If `d` covers the missing record, an acknowledged record is lost. That is reported, and nothing is changed.
//!
//! | case | found | done |
//! |---|---|---|
//! | J1 | no directory, or an empty one | created; starts at [`Options::first_seq`] |
//! | J2 | zeros behind the last record | nothing to cut |
//! | J3 | the last record is torn (its frame or its body is partly there) | cut |
//! | J4 | the last record is whole in length, its checksum wrong, zeros follow | cut |
//! | J5 | a bad record, and a later frame or any header that proves it was durable | [`JournalError::Damaged`] |
//! | J6 | records of the segment's earlier life behind the last one | not ours: cut, unreported |
//! | J7 | `preparing.tmp` | removed |
//! | J8 | a number is missing in the sequence of segments | [`JournalError::Damaged`] |
//! | J9 | a whole header, or body, of a later format | [`JournalError::NewerFormat`] |
//! | J10 | a bad record, valid ones behind it, and none of them proves that it was durable | cut, with all behind it |
//! | J11 | the first record held is not the next after the history's last | [`JournalError::Damaged`] |
//! | J12 | a bad record that the history has, valid ones behind it | goes on behind it; segments before are removed |
//! | J13 | the header of a segment is unreadable, or names another segment | [`JournalError::Damaged`] |
//! | J14 | the history is ahead of the journal (it was lost, or its tail) | goes on above the history's last |
//! | J15 | records of this life in a segment behind the one with the torn tail | that segment is removed |
//! | J16 | a segment is shorter than its header says | read as if zeros followed; J2 to J5 decide |
//!
//! A last record that was acknowledged and whose blocks then rotted cannot be told from J3 and J4, in this or any log.
//!
//! # Rejected
//!
//! - *One file per record* or a growing file: metadata on every delivery.
//! - *Zeroing a segment when it is recycled*: 8 MiB of writes to save one salted checksum.
//! - *A checksum chained from record to record* (sqlite's WAL): nothing could be said of what stands behind a bad record, and J5 not
//!   be told from J10.
//! - *`O_DIRECT`*: records would be padded to blocks, and reads would miss the page cache.

pub mod codec;
mod durable;
mod error;
mod prepare;
mod reader;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use durable::WhenDurable;
pub use error::JournalError;
pub use record::Record;
pub use recovery::{Cut, Recovery};
pub use writer::{Journal, Options, Stats};
