//! `courierimapuiddb` (Courier `imap/imapscanclient.c`, 5.0.13).
//!
//! ```text
//! 1 795466045 1042                    version, UIDVALIDITY, UIDNEXT
//! 17 1795466045.M6P1.vm,S=2345        UID, file name up to its last colon
//! ```
//!
//! - Always written whole, to a file in `tmp/` that is renamed over the old one, records ascending, each a file in `cur/` or `new/` at that moment.
//! - A new UIDVALIDITY is the time in seconds less 1,000,000,000; any 32-bit number is taken.
//! - A file that is not listed gets the next UID, in order of file names (leading number first).
//! - Courier skips lines that it cannot read, and the last one without a line feed. We refuse the file.
//! - Keys and fields do not exist: what else is on record of a message is not shown to Courier, and not lost by it.

use super::scan::{self, Lines};
use super::{Fault, Malformed};

/// A parsed `courierimapuiddb`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uiddb {
    /// UIDVALIDITY, not zero.
    pub uid_validity: u32,
    /// UIDNEXT of the header, not zero. See [`Uiddb::uid_next`].
    pub header_uid_next: u32,
    /// UID, 1 to 2³²−2 and ascending, and the file name up to its last colon.
    pub records: Vec<(u32, Vec<u8>)>,
}

impl Uiddb {
    /// Reads a whole file.
    ///
    /// # Errors
    /// Where a line is not as specified; nothing of the file should be believed then.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let mut lines = Lines::new(file);
        let (number, header) = lines.next().unwrap_or(Err(Fault::Header.at(1)))?;
        let mut db = Self::parse_header(header).map_err(|fault| fault.at(number))?;
        let mut previous = 0;
        while let Some(line) = lines.next() {
            let (number, line) = line?;
            let (digits, name) = scan::split_once(line, b' ');
            let uid = scan::uid(digits).ok_or_else(|| Fault::Uid.at(number))?;
            if uid <= previous {
                return Err(Fault::Order { uid, previous }.at(number));
            }
            previous = uid;
            match name {
                None | Some(b"") => return Err(Fault::NameMissing.at(number)),
                Some(name) if !scan::is_file_name(name) => return Err(Fault::Name.at(number)),
                Some(name) => db.records.push((uid, name.to_vec())),
            }
        }
        Ok(db)
    }

    /// UIDNEXT: the greater of the header's and the last UID + 1.
    #[must_use]
    pub fn uid_next(&self) -> u32 {
        let last = self.records.last().map_or(0, |record| record.0);
        self.header_uid_next.max(last + 1)
    }

    /// The file. Records that no reader would take are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = format!("1 {} {}\n", self.uid_validity, self.header_uid_next).into_bytes();
        for (uid, name) in &self.records {
            if *uid > 0 && *uid <= scan::UID_MAX && scan::is_file_name(name) {
                file.extend_from_slice(format!("{uid} ").as_bytes());
                file.extend_from_slice(name);
                file.push(b'\n');
            }
        }
        file
    }

    fn parse_header(header: &[u8]) -> Result<Self, Fault> {
        let mut fields = header.split(|&byte| byte == b' ');
        match fields.next() {
            Some(b"1") => {}
            Some(version) if scan::number(version).is_some() => {
                return Err(Fault::Version(String::from_utf8_lossy(version).into()));
            }
            _ => return Err(Fault::Header),
        }
        let db = Self {
            uid_validity: fields
                .next()
                .and_then(scan::nonzero)
                .ok_or(Fault::UidValidity)?,
            header_uid_next: fields
                .next()
                .and_then(scan::nonzero)
                .ok_or(Fault::UidNext)?,
            records: Vec::new(),
        };
        match fields.next() {
            None => Ok(db),
            Some(_) => Err(Fault::Header),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_courier_writes_comes_back_as_it_was() {
        let file = b"1 795466045 43\n1 a.b.c\n17 1795466045.M6P1.vm,S=2345\n42 with space:1\n";
        let db = Uiddb::parse(file).unwrap();
        assert_eq!((db.uid_validity, db.uid_next()), (795_466_045, 43));
        assert_eq!(db.records[2], (42, b"with space:1".to_vec()));
        assert_eq!(db.encode(), file);
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (file, line, what) in [
            (&b""[..], 1, Fault::Header),
            (b"1 2 3", 1, Fault::Truncated),
            (b"a 2 3\n", 1, Fault::Header),
            (b"2 2 3\n", 1, Fault::Version("2".into())),
            (b"1 0 3\n", 1, Fault::UidValidity),
            (b"1 -5 3\n", 1, Fault::UidValidity),
            (b"1 2\n", 1, Fault::UidNext),
            (b"1 2 3 4\n", 1, Fault::Header),
            (b"1 2 3\n1 a", 2, Fault::Truncated),
            (b"1 2 3\n0 a\n", 2, Fault::Uid),
            (
                b"1 2 3\n1 a\n1 b\n",
                3,
                Fault::Order {
                    uid: 1,
                    previous: 1,
                },
            ),
            (b"1 2 3\n1\n", 2, Fault::NameMissing),
            (b"1 2 3\n1 \n", 2, Fault::NameMissing),
            (b"1 2 3\n1 a/b\n", 2, Fault::Name),
            (b"1 2 3\n1 a\r\n", 2, Fault::Name),
        ] {
            assert_eq!(
                Uiddb::parse(file),
                Err(what.at(line)),
                "{:?}",
                String::from_utf8_lossy(file)
            );
        }
    }
}
