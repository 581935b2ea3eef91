//! Why an index file was not understood, and where.

/// What is wrong with a line of an index file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The header is missing or not of the form the server writes.
    #[error("the header is not one that the server writes")]
    Header,
    /// The header names a version of the format that we do not know.
    #[error("version {0:?} of the format is unknown")]
    Version(String),
    /// UIDVALIDITY is missing, zero or no 32-bit number (RFC 9051 §2.3.1.1: nz-number).
    #[error("UIDVALIDITY is missing, zero or not a 32-bit number")]
    UidValidity,
    /// UIDVALIDITY is below the one on record.
    #[error("UIDVALIDITY falls from {from} to {to}")]
    UidValidityFell {
        /// The value on record.
        from: u32,
        /// The value read.
        to: u32,
    },
    /// UIDNEXT is missing, zero or no 32-bit number.
    #[error("UIDNEXT is missing, zero or not a 32-bit number")]
    UidNext,
    /// A mailbox GUID that is not 32 hexadecimal digits.
    #[error("the mailbox GUID is not 32 hexadecimal digits")]
    Guid,
    /// No number at the start of a record, or one outside 1 to 2³²−2.
    #[error("no UID from 1 to 4294967294 at the start of the line")]
    Uid,
    /// A UID that is not above the one before it.
    #[error("UID {uid} does not ascend: {previous} stands before it")]
    Order {
        /// The UID read.
        uid: u32,
        /// The UID of the record before.
        previous: u32,
    },
    /// A UID that already means another message of the folder, or meant one.
    #[error("UID {uid} is below UIDNEXT {uid_next} and was never this message's")]
    Reused {
        /// The UID read.
        uid: u32,
        /// UIDNEXT on record.
        uid_next: u32,
    },
    /// A field whose key is not a capital letter.
    #[error("the key of a field is not a capital letter")]
    Key,
    /// No file name, mailbox name or keyword where one must stand.
    #[error("a name is missing")]
    NameMissing,
    /// A name with a slash, NUL, CR or LF.
    #[error("a name holds a slash or a control byte that no name may hold")]
    Name,
    /// The last line has no line feed.
    #[error("the last line does not end: the file is truncated")]
    Truncated,
    /// A keyword's number is not 0 to 25 (`a` to `z`), or not one of the list.
    #[error("the number of a keyword is out of range")]
    KeywordNumber,
    /// A keyword's number or name stands twice.
    #[error("a keyword's number or name stands twice")]
    KeywordTwice,
    /// A folder has 26 letters for keywords, and all are taken.
    #[error("more than 26 keywords in one folder")]
    TooManyKeywords,
}

impl Fault {
    /// This fault at a line.
    #[must_use]
    pub const fn at(self, line: usize) -> Malformed {
        Malformed { line, fault: self }
    }
}

/// An index file that was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}
