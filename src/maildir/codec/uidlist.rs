//! `dovecot-uidlist`, version 3 (Dovecot `src/lib-storage/index/maildir/maildir-uidlist.c` and `.h`, 2.3.19).
//!
//! ```text
//! 3 V1795466045 N1042 G5c2f…32 hexadecimal digits…        header
//! 17 W2400 S2345 :1795466045.M6P1.vm                      record
//! ```
//!
//! - Header: `3`, then fields, each ` <key byte><value>`: `V` UIDVALIDITY, `N` UIDNEXT, `G` mailbox GUID; any other is kept (`P`: POP3
//!   UIDL format). UIDVALIDITY and UIDNEXT must be there and not zero.
//! - Record: `<uid>`, fields with a capital letter as key, then ` :<file name up to its first colon>`. Fields are kept, not interpreted
//!   (`S` and `W` sizes, `P` and `O` for POP3, `G` message GUID). Values hold no space. A UID is 1 to 2³²−2 and above the one before it.
//! - Dovecot adds records *in place* at the end and leaves the header as it is, so the true UIDNEXT is the greater of `N` and the last UID + 1.
//! - Expunged messages may linger. A name that stands twice means the later record (an expunged file that came back).
//! - Every line ends with a line feed; a reader sees no other line. Dovecot takes `1 <uidvalidity> <uidnext>` too, the format before
//!   version 1.1 and the same as [`super::courier_uiddb`]; so do we. It never writes it.
//! - On a bad line Dovecot logs and unlinks the file. We refuse the file.

use std::collections::BTreeMap;

use super::scan::{self, Lines};
use super::{Fault, Malformed, courier_uiddb};

/// A parsed `dovecot-uidlist`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uidlist {
    /// UIDVALIDITY, not zero.
    pub uid_validity: u32,
    /// `N` of the header, not zero; it may be behind the records. See [`Uidlist::uid_next`].
    pub header_uid_next: u32,
    /// Mailbox GUID, 32 hexadecimal digits; Dovecot makes one up where it is missing.
    pub guid: Option<Vec<u8>>,
    /// Other header fields by key.
    pub ext: BTreeMap<u8, Vec<u8>>,
    /// Records, UIDs ascending.
    pub records: Vec<Record>,
}

/// One message, or one that was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// UID, 1 to 2³²−2.
    pub uid: u32,
    /// Fields by capital letter.
    pub ext: BTreeMap<u8, Vec<u8>>,
    /// File name up to its first colon.
    pub name: Vec<u8>,
}

/// How far a uidlist has been read: all that is needed to read what is appended, whatever the length before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Lines read, header included.
    pub lines: usize,
    /// UID of the last record, 0 where there is none.
    pub last_uid: u32,
}

impl Uidlist {
    /// Reads a whole file.
    ///
    /// # Errors
    /// Where a line is not as specified; nothing of the file should be believed then.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        if file.starts_with(b"1 ") {
            return courier_uiddb::Uiddb::parse(file).map(Self::from);
        }
        let mut lines = Lines::new(file);
        let (number, header) = lines.next().unwrap_or(Err(Fault::Header.at(1)))?;
        let mut list = Self::parse_header(header).map_err(|fault| fault.at(number))?;
        // A record is rarely shorter than 32 bytes.
        list.records.reserve(file.len() / 32);
        read_records(&mut lines, 0, |record| list.records.push(record))?;
        Ok(list)
    }

    /// Reads what was appended after the bytes read before, in time linear in the appended bytes, and returns how many records it
    /// brought. On an error nothing is added.
    ///
    /// # Errors
    /// As [`Uidlist::parse`]; the line counts from the start of the file.
    pub fn parse_tail(&mut self, tail: &[u8]) -> Result<usize, Malformed> {
        let records = self.tail().parse(tail)?;
        let added = records.len();
        self.records.extend(records);
        Ok(added)
    }

    /// The position after the last record.
    #[must_use]
    pub fn tail(&self) -> Tail {
        Tail {
            lines: self.records.len() + 1,
            last_uid: self.records.last().map_or(0, |record| record.uid),
        }
    }

    /// UIDNEXT: the greater of the header's and the last UID + 1.
    #[must_use]
    pub fn uid_next(&self) -> u32 {
        self.header_uid_next.max(self.tail().last_uid + 1)
    }

    /// The file. Fields and records that no reader would take are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = format!("3 V{} N{}", self.uid_validity, self.header_uid_next).into_bytes();
        if let Some(guid) = self.guid.as_deref().filter(|guid| is_guid(guid)) {
            file.extend_from_slice(b" G");
            file.extend_from_slice(guid);
        }
        for (&key, value) in &self.ext {
            if is_header_key(key) && is_value(value) {
                push_field(&mut file, key, value);
            }
        }
        file.push(b'\n');
        for record in &self.records {
            record.encode_into(&mut file);
        }
        file
    }

    fn parse_header(header: &[u8]) -> Result<Self, Fault> {
        let (version, fields) = scan::split_once(header, b' ');
        match version {
            b"3" => {}
            [b'0'..=b'9'] => return Err(Fault::Version(String::from_utf8_lossy(version).into())),
            _ => return Err(Fault::Header),
        }
        if header.iter().any(|&byte| scan::breaks_line(byte)) {
            return Err(Fault::Header);
        }
        let mut list = Self::default();
        for field in words(fields.unwrap_or_default()) {
            let (&key, value) = field.split_first().ok_or(Fault::Header)?;
            match key {
                b'V' => list.uid_validity = scan::nonzero(value).ok_or(Fault::UidValidity)?,
                b'N' => list.header_uid_next = scan::nonzero(value).ok_or(Fault::UidNext)?,
                b'G' if is_guid(value) => list.guid = Some(value.to_vec()),
                b'G' => return Err(Fault::Guid),
                _ => {
                    list.ext.insert(key, value.to_vec());
                }
            }
        }
        match (list.uid_validity, list.header_uid_next) {
            (0, _) => Err(Fault::UidValidity),
            (_, 0) => Err(Fault::UidNext),
            _ => Ok(list),
        }
    }
}

impl From<courier_uiddb::Uiddb> for Uidlist {
    fn from(old: courier_uiddb::Uiddb) -> Self {
        Self {
            uid_validity: old.uid_validity,
            header_uid_next: old.header_uid_next,
            guid: None,
            ext: BTreeMap::new(),
            records: old
                .records
                .into_iter()
                .map(|(uid, name)| Record {
                    uid,
                    ext: BTreeMap::new(),
                    name,
                })
                .collect(),
        }
    }
}

impl Tail {
    /// Reads what was appended here and moves past it. On an error the position stays.
    ///
    /// # Errors
    /// As [`Uidlist::parse`].
    pub fn parse(&mut self, appended: &[u8]) -> Result<Vec<Record>, Malformed> {
        let mut records = Vec::new();
        let mut lines = Lines::after(self.lines, appended);
        read_records(&mut lines, self.last_uid, |record| records.push(record))?;
        self.lines += records.len();
        self.last_uid = records.last().map_or(self.last_uid, |record| record.uid);
        Ok(records)
    }
}

impl Record {
    /// Appends the record's line; nothing where its UID or name cannot be written.
    pub fn encode_into(&self, file: &mut Vec<u8>) {
        if self.uid == 0 || self.uid > scan::UID_MAX || !scan::is_file_name(&self.name) {
            return;
        }
        file.extend_from_slice(self.uid.to_string().as_bytes());
        for (&key, value) in &self.ext {
            if key.is_ascii_uppercase() && is_value(value) {
                push_field(file, key, value);
            }
        }
        file.extend_from_slice(b" :");
        file.extend_from_slice(&self.name);
        file.push(b'\n');
    }

    fn parse(line: &[u8]) -> Result<Self, Fault> {
        let (digits, rest) = scan::split_once(line, b' ');
        let uid = scan::uid(digits).ok_or(Fault::Uid)?;
        let mut ext = BTreeMap::new();
        let mut rest = rest.ok_or(Fault::NameMissing)?;
        // The first field that starts with a colon is the name, spaces and colons in it included.
        let name = loop {
            match rest.first() {
                Some(b' ') => rest = &rest[1..],
                Some(b':') => break &rest[1..],
                Some(&key) if key.is_ascii_uppercase() => {
                    let (field, after) = scan::split_once(rest, b' ');
                    ext.insert(key, field[1..].to_vec());
                    rest = after.ok_or(Fault::NameMissing)?;
                }
                Some(_) => return Err(Fault::Key),
                None => return Err(Fault::NameMissing),
            }
        };
        if name.is_empty() {
            return Err(Fault::NameMissing);
        }
        if !scan::is_file_name(name) || !ext.values().all(|value| is_value(value)) {
            return Err(Fault::Name);
        }
        Ok(Self {
            uid,
            ext,
            name: name.to_vec(),
        })
    }
}

fn read_records(
    lines: &mut Lines<'_>,
    mut previous: u32,
    mut keep: impl FnMut(Record),
) -> Result<(), Malformed> {
    while let Some(line) = lines.next() {
        let (number, line) = line?;
        let record = Record::parse(line).map_err(|fault| fault.at(number))?;
        if record.uid <= previous {
            return Err(Fault::Order {
                uid: record.uid,
                previous,
            }
            .at(number));
        }
        previous = record.uid;
        keep(record);
    }
    Ok(())
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}

fn push_field(file: &mut Vec<u8>, key: u8, value: &[u8]) {
    file.extend_from_slice(&[b' ', key]);
    file.extend_from_slice(value);
}

fn is_guid(value: &[u8]) -> bool {
    value.len() == 32 && value.iter().all(u8::is_ascii_hexdigit)
}

fn is_header_key(key: u8) -> bool {
    key != b' ' && !scan::breaks_line(key) && !matches!(key, b'V' | b'N' | b'G')
}

fn is_value(value: &[u8]) -> bool {
    !value
        .iter()
        .any(|&byte| byte == b' ' || scan::breaks_line(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "5c2f1a0b9d8e7f6a5c2f1a0b9d8e7f6a";

    fn fault(file: &[u8]) -> (usize, Fault) {
        let error = Uidlist::parse(file).expect_err("the file is bad");
        (error.line, error.fault)
    }

    #[test]
    fn what_dovecot_writes_comes_back_as_it_was() {
        let file = format!(
            "3 V1795466045 N43 G{GUID} Pv1\n1 :a.b.c\n17 S2345 W2400 :1795466045.M6P1.vm,S=2345\n42 Gx:y Z :z:2\n"
        );
        let list = Uidlist::parse(file.as_bytes()).unwrap();
        assert_eq!(list.uid_validity, 1_795_466_045);
        assert_eq!(list.uid_next(), 43);
        assert_eq!(list.guid.as_deref(), Some(GUID.as_bytes()));
        assert_eq!(list.ext, BTreeMap::from([(b'P', b"v1".to_vec())]));
        assert_eq!(list.records[1].ext[&b'W'], b"2400");
        assert_eq!(list.records[2].name, b"z:2");
        assert_eq!(list.records[2].ext[&b'G'], b"x:y");
        assert_eq!(list.encode(), file.as_bytes());
    }

    #[test]
    fn a_tail_is_read_as_a_tail() {
        let mut list = Uidlist::parse(b"3 V9 N2\n1 :a\n").unwrap();
        assert_eq!(list.parse_tail(b""), Ok(0));
        assert_eq!(list.parse_tail(b"2 :b\n7 W1 :c\n"), Ok(2));
        assert_eq!(list.uid_next(), 8);
        let before = list.clone();
        assert_eq!(
            list.parse_tail(b"8 :d\n8 :e\n"),
            Err(Fault::Order {
                uid: 8,
                previous: 8
            }
            .at(6))
        );
        assert_eq!(list.parse_tail(b"8 :d\n9 :"), Err(Fault::Truncated.at(6)));
        assert_eq!(list, before);
        assert_eq!(
            list,
            Uidlist::parse(b"3 V9 N2\n1 :a\n2 :b\n7 W1 :c\n").unwrap()
        );
    }

    #[test]
    fn version_1_is_read_and_written_as_3() {
        let list = Uidlist::parse(b"1 9 3\n1 a\n2 b c\n").unwrap();
        assert_eq!(list.encode(), b"3 V9 N3\n1 :a\n2 :b c\n");
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (file, line, what) in [
            (&b""[..], 1, Fault::Header),
            (b"\n", 1, Fault::Header),
            (b"3 V1 N1", 1, Fault::Truncated),
            (b"x V1 N1\n", 1, Fault::Header),
            (b"2 V1 N1\n", 1, Fault::Version("2".into())),
            (b"3\n", 1, Fault::UidValidity),
            (b"3 N1\n", 1, Fault::UidValidity),
            (b"3 V0 N1\n", 1, Fault::UidValidity),
            (b"3 V4294967296 N1\n", 1, Fault::UidValidity),
            (b"3 V1\n", 1, Fault::UidNext),
            (b"3 V1 N0\n", 1, Fault::UidNext),
            (b"3 V1 N1 Gabc\n", 1, Fault::Guid),
            (b"3 V1 N1\r\n", 1, Fault::Header),
            (b"3 V1 N1\n1 :a", 2, Fault::Truncated),
            (b"3 V1 N1\n\n", 2, Fault::Uid),
            (b"3 V1 N1\nx :a\n", 2, Fault::Uid),
            (b"3 V1 N1\n0 :a\n", 2, Fault::Uid),
            (b"3 V1 N1\n1 :a\n4294967295 :a\n", 3, Fault::Uid),
            (
                b"3 V1 N1\n2 :a\n2 :b\n",
                3,
                Fault::Order {
                    uid: 2,
                    previous: 2,
                },
            ),
            (
                b"3 V1 N1\n2 :a\n1 :b\n",
                3,
                Fault::Order {
                    uid: 1,
                    previous: 2,
                },
            ),
            (b"3 V1 N1\n1\n", 2, Fault::NameMissing),
            (b"3 V1 N1\n1 :\n", 2, Fault::NameMissing),
            (b"3 V1 N1\n1 W1\n", 2, Fault::NameMissing),
            (b"3 V1 N1\n1 w1 :a\n", 2, Fault::Key),
            (b"3 V1 N1\n1 :a/b\n", 2, Fault::Name),
            (b"3 V1 N1\n1 :a\r\n", 2, Fault::Name),
            (b"3 V1 N1\n1 :a\0\n", 2, Fault::Name),
            (b"3 V1 N1\n1 W\r1 :a\n", 2, Fault::Name),
        ] {
            assert_eq!(
                fault(file),
                (line, what),
                "{:?}",
                String::from_utf8_lossy(file)
            );
        }
    }

    #[test]
    fn what_cannot_be_written_is_left_out() {
        let list = Uidlist {
            uid_validity: 1,
            header_uid_next: 1,
            guid: Some(b"short".to_vec()),
            ext: BTreeMap::from([
                (b'P', b"a b".to_vec()),
                (b' ', vec![]),
                (b'V', b"2".to_vec()),
            ]),
            records: vec![
                Record {
                    uid: 1,
                    name: b"a\n2 :b".to_vec(),
                    ..Record::default()
                },
                Record {
                    uid: 2,
                    name: b"c".to_vec(),
                    ext: BTreeMap::from([(b'w', vec![]), (b'W', b"\n".to_vec())]),
                },
                Record {
                    uid: u32::MAX,
                    name: b"d".to_vec(),
                    ..Record::default()
                },
            ],
        };
        assert_eq!(list.encode(), b"3 V1 N1\n2 :c\n");
    }
}
