//! A segment: one preallocated file of the journal. The layout of its header is in the [module's header](super).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{JournalError, io_error};
use super::record::{Place, u32_at, u64_at};

/// Bytes of a segment's header: a page of its own, so that no record shares a block with it.
pub(super) const HEADER: usize = 4096;

/// The newest format this program reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;

/// First bytes of every segment.
const MAGIC: &[u8; 8] = b"MBjrnl\r\n";

/// The name of a segment while it is prepared. Never holds a record.
pub(super) const PREPARING: &str = "preparing.tmp";

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Its place in the sequence, from 1; also its name.
    pub number: u64,
    /// Its size, header included.
    pub bytes: u64,
    /// Random; part of the checksum of each record in it.
    pub salt: u64,
    /// All records up to this one were on the disk when it was prepared.
    pub durable: u64,
    /// All records up to this one were durable in the repository when it was prepared.
    pub released: u64,
    /// Whether it held other records before; if not, all behind its records is zero.
    pub recycled: bool,
}

/// Why the first page of a file is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadHeader {
    /// Other magic, bad checksum, or nonsense.
    Damaged,
    /// A whole header of a later format.
    Newer(u32),
}

impl Header {
    /// The header page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[0..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        out[32..40].copy_from_slice(&self.salt.to_le_bytes());
        out[40..48].copy_from_slice(&self.durable.to_le_bytes());
        out[48..56].copy_from_slice(&self.released.to_le_bytes());
        out[56] = self.recycled.into();
        let crc = page_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header page.
    pub(super) fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        if page.len() != HEADER || !page.starts_with(MAGIC) || u32_at(page, 12) != page_crc(page) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(page, 8) {
            FORMAT => {}
            newer if newer > FORMAT => return Err(BadHeader::Newer(newer)),
            _ => return Err(BadHeader::Damaged),
        }
        let header = Self {
            number: u64_at(page, 16),
            bytes: u64_at(page, 24),
            salt: u64_at(page, 32),
            durable: u64_at(page, 40),
            released: u64_at(page, 48),
            recycled: page[56] != 0,
        };
        if header.number == 0 || header.bytes < HEADER as u64 || header.bytes > u32::MAX.into() {
            return Err(BadHeader::Damaged);
        }
        Ok(header)
    }
}

/// The checksum of a header page: all of it but the checksum's own place.
fn page_crc(page: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..12]);
    hasher.update(&page[16..]);
    hasher.finalize()
}

/// The name of a segment in the sequence.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The number in a segment's name.
pub(super) fn parse_name(file: &OsStr) -> Option<u64> {
    let hex = file.to_str()?.strip_suffix(".seg")?;
    let number = u64::from_str_radix(hex, 16).ok()?;
    (name(number) == file.to_str()? && number > 0).then_some(number)
}

/// An open segment that is in the sequence.
#[derive(Debug)]
pub(super) struct Segment {
    pub header: Header,
    pub path: PathBuf,
    pub file: File,
}

impl Segment {
    /// Opens a segment of the sequence and reads its header.
    pub(super) fn open(dir: &Path, number: u64) -> Result<Self, JournalError> {
        let path = dir.join(name(number));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let mut page = vec![0; HEADER];
        let read = read_up_to(&file, &mut page, 0).map_err(io_error("read", &path))?;
        let damaged = |why: String| {
            JournalError::Damaged {
            file: path.clone(),
            offset: 0,
            why,
            remedy: "Restore this file; or copy the journal directory away, remove this segment and those after it, \
                     and mount again without their records"
                .to_owned(),
        }
        };
        let header = match Header::decode(&page[..read]) {
            Ok(header) => header,
            Err(BadHeader::Newer(version)) => {
                return Err(JournalError::NewerFormat {
                    file: path,
                    version,
                    known: FORMAT,
                });
            }
            Err(BadHeader::Damaged) => {
                return Err(damaged("its header is unreadable".to_owned()));
            }
        };
        if header.number != number {
            return Err(damaged(format!(
                "its header says it is segment {}",
                name(header.number)
            )));
        }
        Ok(Self { header, path, file })
    }

    /// Where a record at `offset` stands.
    pub(super) fn place(&self, offset: u64) -> Place {
        Place {
            salt: self.header.salt,
            offset,
        }
    }

    /// Reads `len` bytes at `offset`; fewer where the file ends.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, JournalError> {
        let mut bytes = vec![0; len];
        let read = read_up_to(&self.file, &mut bytes, offset).map_err(self.io("read"))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// For `map_err`.
    pub(super) fn io(&self, doing: &'static str) -> impl FnOnce(io::Error) -> JournalError + use<> {
        io_error(doing, &self.path)
    }
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Makes a new, zero-filled segment and puts it into the sequence. Synced, name included, when this returns.
///
/// The file is allocated first, so that a full disk is known before anything is written, and then filled: blocks that were
/// allocated but never written cost a metadata commit at the first `fdatasync` (190 µs against 130–155 µs).
pub(super) fn create(dir: &Path, header: Header) -> Result<Segment, JournalError> {
    let temporary = dir.join(PREPARING);
    let made = fill(&temporary, &header).and_then(|file| enter(dir, &temporary, header, file));
    if made.is_err() {
        // Gives the blocks back; what stays is removed at the next try or the next open.
        let _ = fs::remove_file(&temporary);
    }
    made
}

/// Puts a released segment into the sequence under a new number. What it holds stays, and is invalid under its new salt.
///
/// It leaves the sequence, durably, before its header changes: so a file named as a segment has a whole header at every instant.
pub(super) fn recycle(dir: &Path, old: &Segment, header: Header) -> Result<Segment, JournalError> {
    let temporary = dir.join(PREPARING);
    fs::rename(&old.path, &temporary).map_err(old.io("rename"))?;
    sync_dir(dir)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&temporary)
        .map_err(io_error("open", &temporary))?;
    file.write_all_at(&header.encode(), 0)
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &temporary))?;
    enter(dir, &temporary, header, file)
}

/// Takes a segment out of the sequence and gives its blocks back.
pub(super) fn remove(dir: &Path, old: &Segment) -> Result<(), JournalError> {
    fs::remove_file(&old.path).map_err(old.io("remove"))?;
    sync_dir(dir)
}

fn fill(path: &Path, header: &Header) -> Result<File, JournalError> {
    const CHUNK: usize = 256 * 1024;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(io_error("create", path))?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, header.bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(errno) => return Err(io_error("allocate", path)(errno.into())),
    }
    zero(&file, 0, header.bytes, CHUNK)
        .and_then(|()| file.write_all_at(&header.encode(), 0))
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", path))?;
    Ok(file)
}

/// Writes zeros from `from` up to `to`.
pub(super) fn zero(file: &File, from: u64, to: u64, chunk: usize) -> io::Result<()> {
    let zeros = vec![0; chunk];
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).map_or(chunk, |left| left.min(chunk));
        file.write_all_at(&zeros[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

fn enter(
    dir: &Path,
    temporary: &Path,
    header: Header,
    file: File,
) -> Result<Segment, JournalError> {
    let path = dir.join(name(header.number));
    fs::rename(temporary, &path).map_err(io_error("rename", temporary))?;
    sync_dir(dir)?;
    Ok(Segment { header, path, file })
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    File::open(dir)
        .and_then(|open| open.sync_all())
        .map_err(io_error("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            number: 0x1f,
            bytes: 16384,
            salt: 77,
            durable: 12,
            released: 9,
            recycled: false,
        }
    }

    #[test]
    fn a_header_is_whole_or_refused() {
        let page = header().encode();
        assert_eq!(Header::decode(&page), Ok(header()));
        assert_eq!(Header::decode(&page[..100]), Err(BadHeader::Damaged));
        for at in [0, 8, 12, 16, 60, HEADER - 1] {
            let mut bad = page.clone();
            bad[at] ^= 0x40;
            assert_eq!(Header::decode(&bad), Err(BadHeader::Damaged), "byte {at}");
        }
    }

    #[test]
    fn a_whole_header_of_a_later_format_is_told_from_damage() {
        let mut page = header().encode();
        page[8] = 2;
        let crc = page_crc(&page);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&page), Err(BadHeader::Newer(2)));
    }

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(name(0x1f), "000000000000001f.seg");
        assert_eq!(parse_name(OsStr::new("000000000000001f.seg")), Some(0x1f));
        for other in [
            "1f.seg",
            "000000000000001F.seg",
            "0000000000000000.seg",
            PREPARING,
        ] {
            assert_eq!(parse_name(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_new_segment_is_filled_and_a_recycled_one_keeps_its_blocks() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let made = create(dir.path(), header()).expect("created");
        let bytes = made.read(HEADER as u64, 20000).expect("read");
        assert_eq!(bytes, vec![0; 16384 - HEADER]);
        made.file.write_all_at(b"stale", 5000).expect("written");
        let next = Header {
            number: 0x20,
            salt: 78,
            recycled: true,
            ..header()
        };
        let again = recycle(dir.path(), &made, next).expect("recycled");
        assert_eq!(again.read(5000, 5).expect("read"), b"stale");
        drop(again);
        assert_eq!(
            Segment::open(dir.path(), 0x20).expect("opened").header,
            next
        );
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
