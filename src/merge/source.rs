//! What the merge needs of a repository, as traits: the history implements them lazily, tests implement them in memory.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;

use crate::maildir::hidden::{self, BadHiddenName};
use crate::maildir::mailbox::{self, BadMailbox};
use crate::maildir::{Attrs, MailboxFacts, Oid, Op};

/// One tree object: a directory, or one node of the trie that a large directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)] // Held one at a time.
pub enum Node {
    /// All names of the directory that lie here.
    Leaf {
        /// The folder's facts file, at the top of its directory.
        mailbox: Option<Oid>,
        /// The entries, in any order.
        entries: Entries,
    },
    /// Names are placed by a hexadecimal digit of their identity's hash.
    Split {
        /// The folder's facts file, at the top of its directory.
        mailbox: Option<Oid>,
        /// The node below each digit.
        branches: [Option<Oid>; 16],
    },
}

impl Node {
    /// The folder's facts file.
    #[must_use]
    pub fn mailbox(&self) -> Option<Oid> {
        match self {
            Self::Leaf { mailbox, .. } | Self::Split { mailbox, .. } => *mailbox,
        }
    }
}

/// Entries of a leaf. Names are hidden names ([`crate::maildir::hidden`]), decoded only where they differ, and stay in the object that they were read from: most
/// leaves that a merge reads differ in one entry of thirty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entries {
    raw: Arc<[u8]>,
    places: Vec<Place>,
}

/// Where an entry is in its object: the name, a NUL, and the id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where the name begins.
    pub start: u32,
    /// Where the id ends.
    pub end: u32,
    /// Length of the name.
    pub name_len: u32,
    /// Whether it is a directory.
    pub dir: bool,
}

impl Entries {
    /// Of an object. Ids have the length of one hash.
    #[must_use]
    pub fn new(raw: Arc<[u8]>, places: Vec<Place>) -> Self {
        Self { raw, places }
    }

    /// The entries, in the order of the object.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EntryRef<'_>> {
        self.places.iter().map(|place| EntryRef {
            bytes: &self.raw[place.start as usize..place.end as usize],
            name_len: place.name_len as usize,
            dir: place.dir,
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl FromIterator<RawEntry> for Entries {
    fn from_iter<I: IntoIterator<Item = RawEntry>>(entries: I) -> Self {
        let (mut raw, mut places) = (Vec::new(), Vec::new());
        for entry in entries {
            let start = raw.len() as u32;
            raw.extend_from_slice(&entry.name);
            raw.push(0);
            raw.extend_from_slice(entry.oid.as_bytes());
            places.push(Place {
                start,
                end: raw.len() as u32,
                name_len: entry.name.len() as u32,
                dir: entry.dir,
            });
        }
        let raw = raw.into();
        Self { raw, places }
    }
}

/// An entry that stays in its leaf. Ordered as [`RawEntry`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRef<'a> {
    /// The name, a NUL, and the id.
    bytes: &'a [u8],
    name_len: usize,
    /// Whether it is a directory.
    pub dir: bool,
}

impl<'a> EntryRef<'a> {
    /// Hidden name.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        &self.bytes[..self.name_len]
    }

    fn id(&self) -> &'a [u8] {
        &self.bytes[self.name_len + 1..]
    }

    /// Blob or tree.
    #[must_use]
    pub fn oid(&self) -> Oid {
        Oid::from_bytes(self.id()).expect("because ids are cut at the hash's length")
    }
}

impl Ord for EntryRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Nearly all that are compared are the same.
        if self == other {
            return Ordering::Equal;
        }
        let rest = |entry: &Self| (entry.dir, entry.id());
        self.name()
            .cmp(other.name())
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl PartialOrd for EntryRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<EntryRef<'_>> for RawEntry {
    fn from(entry: EntryRef<'_>) -> Self {
        Self {
            name: entry.name().to_vec(),
            dir: entry.dir,
            oid: entry.oid(),
        }
    }
}

/// An entry of a leaf as git stores it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RawEntry {
    /// Hidden name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub dir: bool,
    /// Blob or tree.
    pub oid: Oid,
}

impl RawEntry {
    /// The visible name and the attributes of a file.
    ///
    /// # Errors
    /// Where the name is not canonical.
    pub fn file(&self) -> Result<(Vec<u8>, Attrs), BadHiddenName> {
        hidden::decode(&self.name)
    }

    /// The visible name of a directory.
    ///
    /// # Errors
    /// Where the name is not canonical.
    pub fn dir_name(&self) -> Result<Vec<u8>, BadHiddenName> {
        hidden::decode_plain(&self.name)
    }
}

/// Reads objects.
pub trait Trees {
    /// Why an object could not be read.
    type Error: Debug;

    /// One tree object.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    fn node(&self, tree: Oid) -> Result<Arc<Node>, Self::Error>;

    /// Many tree objects, in the order they are asked for: a source may read them side by side.
    ///
    /// # Errors
    /// As [`Trees::node`].
    fn nodes(&self, trees: &[Oid]) -> Result<Vec<Arc<Node>>, Self::Error> {
        trees.iter().map(|&tree| self.node(tree)).collect()
    }

    /// The content of a blob. Asked for facts files and subscriptions alone, never for a message.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    fn blob(&self, blob: Oid) -> Result<Vec<u8>, Self::Error>;

    /// The id of a blob with this content.
    fn hash(&self, content: &[u8]) -> Oid;
}

/// Reads commits, and builds trees.
pub trait World: Trees {
    /// The root tree of a commit.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    fn tree(&self, commit: Oid) -> Result<Oid, Self::Error>;

    /// The committer's time of a commit in seconds since the epoch.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    fn time(&self, commit: Oid) -> Result<i64, Self::Error>;

    /// The best common ancestors of a merge of all `left` and a merge of all `right`: what `git merge-base` prints for hypothetical merge commits. A commit
    /// counts as its own ancestor. In any order; empty for unrelated histories.
    ///
    /// # Errors
    /// Where a commit is missing or damaged.
    fn merge_bases(&self, left: &[Oid], right: &[Oid]) -> Result<Vec<Oid>, Self::Error>;

    /// The greatest UIDNEXT that a folder with this UIDVALIDITY had, under whatever path, in any commit that is an ancestor of `heads` and not of `bases`; `None`
    /// where there was none. A UIDVALIDITY is issued once, so it is the same folder, or one that could be taken for it. Asked only for folders that were deleted on one side while mail
    /// arrived on the other, and for folders that only one side has under a UIDVALIDITY older than the base.
    ///
    /// So that it tells the truth, a store commits before it takes up the deletion of a folder (`Rmdir`) whose facts have changed since the last commit: what
    /// UIDs a folder gave out that is gone in the same commit nobody can know afterwards.
    ///
    /// # Errors
    /// Where an object is missing or damaged.
    fn uid_next_before(
        &self,
        heads: &[Oid],
        bases: &[Oid],
        validity: u32,
    ) -> Result<Option<u32>, Self::Error>;

    /// Applies operations to a tree (`None`: the empty tree) and returns the canonical tree. Its nodes can be read afterwards; nothing else need
    /// happen to them, for most such trees are only looked at.
    ///
    /// # Errors
    /// Where an object is missing or damaged.
    fn build(&mut self, on: Option<Oid>, ops: &[Op]) -> Result<Oid, Self::Error>;
}

/// Why a merge was given up.
#[derive(Debug, thiserror::Error)]
pub enum MergeError<E: Debug> {
    /// An object could not be read.
    #[error("{0:?}")]
    Source(E),
    /// A tree holds a name that mailbraid does not write.
    #[error(transparent)]
    Name(#[from] BadHiddenName),
    /// A folder's facts are not written as mailbraid writes them.
    #[error(transparent)]
    Mailbox(#[from] BadMailbox),
    /// A trie is deeper than any mailbraid writes.
    #[error("tree {0} is a trie that is too deep")]
    Depth(Oid),
}

/// The facts in a facts file.
pub(super) fn facts<T: Trees>(
    trees: &T,
    oid: Option<Oid>,
) -> Result<Option<MailboxFacts>, MergeError<T::Error>> {
    let Some(oid) = oid else {
        return Ok(None);
    };
    let text = trees.blob(oid).map_err(MergeError::Source)?;
    Ok(Some(mailbox::decode(&text)?))
}
