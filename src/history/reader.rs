//! Reading: blobs, directories, folders' facts, commits. One reader a thread.

use gix::prelude::FindExt as _;

use super::hash::{ObjectKind, from_gix, hash_object, to_gix};
use super::{HistoryError, Repo, tree};
use crate::limits;
use crate::maildir::{Entry, EntryKind, HashKind, MailboxFacts, Oid, TreePath, hidden, mailbox};

/// What a commit says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitInfo {
    /// The root tree.
    pub tree: Oid,
    /// Parents, first parent first.
    pub parents: Vec<Oid>,
    /// The committer's time in seconds since the epoch.
    pub time: i64,
    /// The author as git shows it, without the time: `mailbraid <NODE>`.
    pub author: String,
    /// The message, subject, body and trailers.
    pub message: Vec<u8>,
}

/// Reads objects. Send, not Sync: each thread takes its own from [`Repo::reader`].
pub struct Reader {
    git: gix::Repository,
    kind: HashKind,
    empty_tree: Oid,
}

impl Reader {
    pub(super) fn new(repo: &Repo) -> Self {
        Self {
            git: repo.git(),
            kind: repo.kind(),
            empty_tree: hash_object(repo.kind(), ObjectKind::Tree, b""),
        }
    }

    /// The hash function.
    #[must_use]
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    pub(super) fn git(&self) -> &gix::Repository {
        &self.git
    }

    /// Whether the object is in the repository.
    #[must_use]
    pub fn has(&self, oid: Oid) -> bool {
        self.git.has_object(to_gix(oid))
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn blob(&self, oid: Oid) -> Result<Vec<u8>, HistoryError> {
        let mut content = Vec::new();
        self.object(oid, gix::objs::Kind::Blob, &mut content)?;
        Ok(content)
    }

    /// Lists a directory: tries flattened, names decoded, `%mailbox` left out. In no particular order, but the same for the same tree.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn dir(&self, tree: Oid) -> Result<Vec<Entry>, HistoryError> {
        let mut found = Vec::new();
        self.dir_each(tree, &mut |entry| found.push(entry))?;
        Ok(found)
    }

    /// As [`Reader::dir`], an entry at a time: for directories too large to hold twice.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn dir_each(&self, tree: Oid, each: &mut dyn FnMut(Entry)) -> Result<(), HistoryError> {
        let mut raw = Vec::new();
        let mut todo = vec![(tree, 0)];
        while let Some((oid, depth)) = todo.pop() {
            let bad = |reason| HistoryError::corrupt(oid, reason);
            self.tree(oid, &mut raw)?;
            let (mut branches, mut names) = (0, 0);
            for entry in tree::entries(&raw, self.kind) {
                let entry = entry.map_err(bad)?;
                if entry.branch().is_some() {
                    branches += 1;
                    todo.push((entry.oid(), depth + 1));
                } else if entry.is_mailbox() {
                    if depth > 0 {
                        return Err(bad("a trie has a %mailbox below its top"));
                    }
                } else {
                    names += 1;
                    each(
                        decode(&entry)
                            .map_err(|bad| HistoryError::corrupt(oid, bad.to_string()))?,
                    );
                }
            }
            if branches > 0 && names > 0 {
                return Err(bad("a tree mixes branches and entries"));
            }
            if branches > 0 && depth == tree::MAX_DEPTH {
                return Err(bad("a trie is too deep"));
            }
        }
        Ok(())
    }

    /// The facts of a folder; `None` where the directory has none.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn mailbox(&self, tree: Oid) -> Result<Option<MailboxFacts>, HistoryError> {
        let mut raw = Vec::new();
        self.tree(tree, &mut raw)?;
        let Some(entry) = tree::entries(&raw, self.kind).next() else {
            return Ok(None);
        };
        // `%` and a letter sorts before all that a split node holds, but not before all that a leaf may hold.
        let entry = entry.map_err(|reason| HistoryError::corrupt(tree, reason))?;
        let found = if entry.is_mailbox() {
            Some(entry.oid())
        } else {
            tree::entries(&raw, self.kind)
                .map_while(Result::ok)
                .find(tree::RawEntry::is_mailbox)
                .map(|entry| entry.oid())
        };
        let Some(oid) = found else {
            return Ok(None);
        };
        mailbox::decode(&self.blob(oid)?)
            .map(Some)
            .map_err(|bad| HistoryError::corrupt(oid, bad.to_string()))
    }

    /// One path of a root tree; `None` where it is absent. Reads only the trie nodes on the way. The root itself is a directory without a
    /// name.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn lookup(&self, root_tree: Oid, path: &TreePath) -> Result<Option<Entry>, HistoryError> {
        let mut found = Entry {
            name: Vec::new(),
            oid: root_tree,
            kind: EntryKind::Dir,
        };
        for part in path.components() {
            if found.kind != EntryKind::Dir {
                return Ok(None);
            }
            match self.lookup_in(found.oid, part)? {
                Some(entry) => found = entry,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// One name of a directory; `None` where it is absent. Reads only the trie nodes on the way.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`].
    pub fn lookup_in(&self, dir: Oid, name: &[u8]) -> Result<Option<Entry>, HistoryError> {
        let key = tree::Key::new(name);
        let mut raw = Vec::new();
        let mut oid = dir;
        for depth in 0..=tree::MAX_DEPTH {
            let bad = |reason| HistoryError::corrupt(oid, reason);
            self.tree(oid, &mut raw)?;
            let Some(split) = tree::split(&raw, self.kind).map_err(bad)? else {
                for entry in tree::entries(&raw, self.kind) {
                    let entry = entry.map_err(bad)?;
                    if !entry.is_mailbox() && *entry.plain() == *key.plain {
                        return decode(&entry)
                            .map(Some)
                            .map_err(|reason| HistoryError::corrupt(oid, reason.to_string()));
                    }
                }
                return Ok(None);
            };
            match split.branches[key.digit(depth)] {
                Some(branch) => oid = branch,
                None => return Ok(None),
            }
        }
        Err(HistoryError::corrupt(dir, "a trie is too deep"))
    }

    /// A commit.
    ///
    /// # Errors
    /// [`HistoryError::Missing`], [`HistoryError::Corrupt`] where it is no commit.
    pub fn commit(&self, oid: Oid) -> Result<CommitInfo, HistoryError> {
        let mut raw = Vec::new();
        self.object(oid, gix::objs::Kind::Commit, &mut raw)?;
        parse_commit(oid, &raw)
    }

    /// The raw bytes of a tree.
    pub(super) fn tree(&self, oid: Oid, raw: &mut Vec<u8>) -> Result<(), HistoryError> {
        if oid == self.empty_tree {
            raw.clear();
            return Ok(());
        }
        self.object(oid, gix::objs::Kind::Tree, raw)
    }

    pub(super) fn object(
        &self,
        oid: Oid,
        kind: gix::objs::Kind,
        content: &mut Vec<u8>,
    ) -> Result<(), HistoryError> {
        let mut patience = limits::MISS_RETRIES;
        let (found, len) = loop {
            let why = match self.git.objects.find(&to_gix(oid), content) {
                Ok(data) => break (data.kind, data.data.len()),
                Err(why) => why,
            };
            if !why.classify().is_not_found() {
                return Err(HistoryError::corrupt(oid, format!("{why:#}")));
            }
            // Packs come and go under us, and the library's look at the directory may have met one that another thread was
            // taking in at that moment.
            if patience == 0 {
                return Err(HistoryError::Missing(oid));
            }
            patience -= 1;
            std::thread::sleep(limits::MISS_PAUSE);
        };
        content.truncate(len);
        if found != kind {
            return Err(HistoryError::corrupt(
                oid,
                format!("it is a {found}, not a {kind}"),
            ));
        }
        Ok(())
    }
}

/// A file or directory entry by value.
pub(super) fn decode(entry: &tree::RawEntry<'_>) -> Result<Entry, hidden::BadHiddenName> {
    let oid = entry.oid();
    if entry.dir {
        return Ok(Entry {
            name: hidden::decode_plain(entry.name)?,
            oid,
            kind: EntryKind::Dir,
        });
    }
    let (name, attrs) = hidden::decode(entry.name)?;
    Ok(Entry {
        name,
        oid,
        kind: EntryKind::File(attrs),
    })
}

fn parse_commit(oid: Oid, raw: &[u8]) -> Result<CommitInfo, HistoryError> {
    let bad = |error: gix::Error| HistoryError::corrupt(oid, format!("{error:#}"));
    let commit =
        gix::objs::CommitRef::from_bytes(raw, super::hash::gix_kind(oid.kind())).map_err(bad)?;
    let author = commit.author().map_err(bad)?;
    let committer = commit.committer().map_err(bad)?;
    Ok(CommitInfo {
        tree: from_gix(commit.tree()),
        parents: commit.parents().map(from_gix).collect(),
        time: committer.seconds(),
        author: format!("{} <{}>", author.name, author.email),
        message: commit.message.to_vec(),
    })
}
