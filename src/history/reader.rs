//! Reading: blobs, directories, folders' facts, commits. One reader a thread.
//!
//! The problem: the library numbers packs, and gives the number of one that is gone to one that comes. A handle that still has the old index then reads at the old
//! place in the new pack, and what it keeps of resolved deltas is kept by number and place. So it may answer with another object: an older version of the same
//! leaf, in which an expunged message is still there. Rules:
//!
//! - **Whatever is read is hashed.** Where it is not what was asked for, or cannot be read, it is read again by a handle that knows no former pack.
//! - Walks along commits begin with such a handle ([`Reader::git`]): there is no time for packs to go and come.
//!
//! Rejected: numbers that stay (`prevent_pack_unload`): they are used up after so many packs as there are slots. No cache of deltas: a version of a tree hangs on
//! dozens of others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use gix::objs::Exists as _;
use gix::odb::Header as _;
use gix::prelude::FindExt as _;

use super::exchange::Trees;
use super::fresh::{Fresh, Object};
use super::hash::{ObjectKind, from_gix, from_gix_kind, hash_object, to_gix, to_gix_kind};
use super::paint::Known;
use super::{HistoryError, Repo, tree};
use crate::background;
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

/// What a reader has learned that is worth to be kept: one push asks for what the last one has sent.
#[derive(Default)]
pub struct Memory {
    /// Commits, as few bytes each: their messages are long under load.
    pub(super) known: RefCell<HashMap<Oid, Arc<Known>>>,
    pub(super) trees: RefCell<Trees>,
}

/// Reads objects. Send, not Sync: each thread takes its own from [`Repo::reader`].
pub struct Reader {
    repo: Repo,
    objects: RefCell<gix::OdbHandle>,
    kind: HashKind,
    empty_tree: Oid,
    pub(super) memory: Memory,
}

impl Reader {
    pub(super) fn new(repo: &Repo) -> Self {
        Self {
            repo: repo.clone(),
            objects: RefCell::new(caching(repo)),
            kind: repo.kind(),
            empty_tree: hash_object(repo.kind(), ObjectKind::Tree, b""),
            memory: Memory::default(),
        }
    }

    /// A reader that knows what another one has learned.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    /// What it has learned, without the packs that it holds.
    #[must_use]
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// The hash function.
    #[must_use]
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// Objects that were written a moment ago.
    pub(super) fn fresh(&self) -> &Fresh {
        self.repo.fresh()
    }

    /// Whether the object is in the repository.
    #[must_use]
    pub fn has(&self, oid: Oid) -> bool {
        self.objects.borrow().exists(&to_gix(oid))
    }

    /// As [`Reader::has`], for a commit: that one was read by the last push, or written a moment ago, is known without a look at the packs.
    #[must_use]
    pub fn has_commit(&self, commit: Oid) -> bool {
        self.is_at_hand(commit) || self.has(commit)
    }

    pub(super) fn is_at_hand(&self, commit: Oid) -> bool {
        self.memory.known.borrow().contains_key(&commit) || self.fresh().get(commit).is_some()
    }

    /// The same, but a no is said only after some more looks, a moment apart: the library's look at the packs may miss one that another thread is taking in, and
    /// somebody's head would be refused for it.
    #[must_use]
    pub fn surely_has(&self, oid: Oid) -> bool {
        for _ in 0..limits::MISS_RETRIES {
            if self.has(oid) {
                return true;
            }
            std::thread::sleep(limits::MISS_PAUSE);
            self.objects.replace(caching(&self.repo));
        }
        self.has(oid)
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
        let found = self.any(oid, content)?;
        if found != kind {
            return Err(other_kind(oid, found, kind));
        }
        Ok(())
    }

    /// An object of whatever kind.
    pub(super) fn any(
        &self,
        oid: Oid,
        content: &mut Vec<u8>,
    ) -> Result<gix::objs::Kind, HistoryError> {
        background::breathe();
        if let Some(Object::Plain(kind, plain)) = self.fresh().get(oid) {
            content.clear();
            content.extend_from_slice(&plain);
            return Ok(to_gix_kind(kind));
        }
        let (mut patience, mut again) = (limits::MISS_RETRIES, limits::WRONG_RETRIES);
        loop {
            let found = self.objects.borrow().find(&to_gix(oid), content);
            let wrong = match found.map(|data| (data.kind, data.data.len())) {
                Ok((kind, len)) => {
                    content.truncate(len);
                    if hash_object(self.kind, from_gix_kind(kind), content) == oid {
                        return Ok(kind);
                    }
                    "its content has another id".to_owned()
                }
                Err(why) if why.classify().is_not_found() => {
                    // Packs come and go under us, and the library's look at the directory may have met one that another thread was
                    // taking in at that moment.
                    if patience == 0 {
                        return Err(HistoryError::Missing(oid));
                    }
                    patience -= 1;
                    std::thread::sleep(limits::MISS_PAUSE);
                    continue;
                }
                Err(why) => format!("{why:#}"),
            };
            if again == 0 {
                return Err(HistoryError::corrupt(oid, wrong));
            }
            again -= 1;
            self.objects.replace(caching(&self.repo));
        }
    }

    /// The size of an object of this kind, its content unread. Where it is of another, it is asked for again by a handle that knows no former pack.
    pub(super) fn header(&self, oid: Oid, kind: gix::objs::Kind) -> Result<u64, HistoryError> {
        let mut again = limits::WRONG_RETRIES;
        loop {
            let found = self.objects.borrow().try_header(&to_gix(oid));
            let wrong = match found {
                Ok(Some(header)) if header.kind() == kind => return Ok(header.size()),
                Ok(Some(header)) => other_kind(oid, header.kind(), kind),
                Ok(None) => return Err(HistoryError::Missing(oid)),
                Err(why) => HistoryError::corrupt(oid, format!("{why:#}")),
            };
            if again == 0 {
                return Err(wrong);
            }
            again -= 1;
            self.objects.replace(caching(&self.repo));
        }
    }
}

fn other_kind(oid: Oid, found: gix::objs::Kind, wanted: gix::objs::Kind) -> HistoryError {
    HistoryError::corrupt(oid, format!("it is a {found}, not a {wanted}"))
}

/// A handle that keeps what deltas come to.
fn caching(repo: &Repo) -> gix::OdbHandle {
    let mut objects = repo.git().objects.clone();
    objects.set_pack_cache(|| {
        Box::new(gix::odb::pack::cache::lru::MemoryCappedHashmap::new(
            limits::READER_CACHE_BYTES,
        ))
    });
    objects
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::history::InitOptions;
    use crate::history::pack::encode::{self, Deflate, Packed};
    use crate::history::pack::{delta, install};

    /// A leaf with so many messages, one of which has this name.
    fn leaf(name: &str) -> Vec<u8> {
        let mut raw = Vec::new();
        for number in 0..20 {
            let id = hash_object(HashKind::Sha1, ObjectKind::Blob, &[number]);
            let file = format!("1700000000.M{number:02}P1.vm");
            tree::push(&mut raw, false, file.as_bytes(), id.as_bytes());
        }
        let id = hash_object(HashKind::Sha1, ObjectKind::Blob, name.as_bytes());
        tree::push(&mut raw, false, name.as_bytes(), id.as_bytes());
        raw
    }

    /// A pack of a leaf and, as a delta against it, of another. The other's id, and the pack.
    fn pack(repo: &Repo, base: &[u8], other: &[u8]) -> (Oid, std::path::PathBuf) {
        let (mut body, mut entries) = (Vec::new(), Vec::new());
        let mut deflate = Deflate::new(6);
        let mut add = |body: &mut Vec<u8>, raw: &[u8], start: usize| {
            entries.push(Packed {
                oid: hash_object(HashKind::Sha1, ObjectKind::Tree, raw),
                crc: crc32fast::hash(&body[start..]),
                offset: (encode::HEADER + start) as u64,
            });
        };
        encode::head(&mut body, ObjectKind::Tree, base.len() as u64);
        deflate.append(&mut body, base);
        add(&mut body, base, 0);
        let start = body.len();
        let change = delta::trees(base, other, HashKind::Sha1).unwrap();
        encode::delta_head(&mut body, change.len() as u64, start as u64);
        deflate.append(&mut body, &change);
        add(&mut body, other, start);
        let other = hash_object(HashKind::Sha1, ObjectKind::Tree, other);
        let made = install::install_bytes(&repo.pack_dir(), HashKind::Sha1, &body, &mut entries);
        (other, made.unwrap().stem)
    }

    /// The library takes the second pack for the first, which is gone, and has kept what stood at the same place in it.
    #[test]
    fn an_expunged_message_does_not_come_back_from_a_pack_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        let base = leaf("1800000000.M1P1.vm");
        let (old, new) = (leaf("1800000000.M2P1.vm"), leaf("1800000000.M3P1.vm"));
        let reader = repo.reader();
        let mut raw = Vec::new();

        let (old_id, first) = pack(&repo, &base, &old);
        reader.tree(old_id, &mut raw).unwrap();
        assert_eq!(raw, old);
        for ext in ["idx", "pack", "keep"] {
            fs::remove_file(first.with_extension(ext)).unwrap();
        }
        // A look at the directory, in which the pack is gone.
        assert!(!reader.has(hash_object(HashKind::Sha1, ObjectKind::Blob, b"nothing")));
        let (new_id, _) = pack(&repo, &base, &new);
        reader.tree(new_id, &mut raw).unwrap();
        assert_eq!(raw, new);
    }
}
