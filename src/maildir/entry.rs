//! A committed directory as a list of values: what the history reads, the braid merges and the live tree shows.

use super::{Attrs, Oid};

/// What a committed directory entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A directory; its tree's id lists it.
    Dir,
    /// A file, with the attributes its hidden name carries.
    File(Attrs),
}

/// One entry of a committed directory, tries flattened and names decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Visible name.
    pub name: Vec<u8>,
    /// Tree or blob id.
    pub oid: Oid,
    /// Directory or file.
    pub kind: EntryKind,
}
