//! The store thread's work: from journal records to commits.
//!
//! The problem: one action should be one commit, yet a commit costs several syncs, and a mail server under load acts a thousand
//! times a second. Rules:
//! - What the journal holds when a round begins forms one commit; a quiet server gets a commit an action, a busy one a commit a round.
//! - A message that appears and disappears within one round would never be in any tree, and its content would be lost to the history: so
//!   the round is cut before such an expunge, into several commits of one pack.
//! - What UIDs a folder gave out is known by its facts: so the round is also cut before the end of a folder whose facts it has changed.
//! - Nothing is released from the journal before the pack, its index and the ref are synced.
//! - A full disk is waited out, what cannot be read or locked is tried again for a while, everything else that fails poisons the store: what the journal holds stays there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::message;
use crate::history::{CommitText, Repo, Writer};
use crate::journal::{Journal, Record};
use crate::limits;
use crate::maildir::{Content, Oid, Op, TreePath, name};

/// Turns journal records into commits on this node's head.
pub struct Committer {
    node: String,
    spill: PathBuf,
    repo: Repo,
    writer: Writer,
    head: Option<Oid>,
    done: u64,
}

/// What a round did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    /// Operations committed.
    pub operations: usize,
    /// The last sequence number that is durable in the repository.
    pub committed: u64,
    /// Contents whose spilled files are no longer needed.
    pub spilled: Vec<Oid>,
    /// Bytes of content that came with the operations.
    pub content: u64,
}

impl Committer {
    /// A committer that goes on after operation `done`, which `head` holds.
    ///
    /// # Errors
    /// Where the head cannot be read.
    pub fn new(
        repo: &Repo,
        node: String,
        spill: &Path,
        head: Option<Oid>,
        done: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            node,
            spill: spill.to_owned(),
            repo: repo.clone(),
            writer: Writer::new(repo, head)?,
            head,
            done,
        })
    }

    /// The last operation committed.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The newest commit of this node.
    #[must_use]
    pub fn head(&self) -> Option<Oid> {
        self.head
    }

    /// Goes on from another head, which is durable and holds this node's operations up to `done`. Where it cannot be read now, the next round tries it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn adopt(&mut self, head: Oid, done: u64) -> Result<(), StoreError> {
        (self.head, self.done) = (Some(head), done);
        let reset = self.writer.reset_to(Some(head));
        match reset.map_err(StoreError::from) {
            // The writer has given up its tree; the live one is to be switched all the same.
            Err(failed) if failed.may_pass() => Ok(()),
            done => done,
        }
    }

    /// Commits what the journal holds, up to one round's limit, and returns once it is durable. The caller tells the live tree and
    /// then releases the journal.
    ///
    /// # Errors
    /// Where an object cannot be written or read. After a full disk ([`StoreError::is_disk_full`]) the same call may be repeated.
    pub fn round(&mut self, journal: &Journal) -> Result<Round, StoreError> {
        self.round_of(journal, limits::ROUND_BYTES)
    }

    /// The same with at most so many bytes of records, one record at least.
    ///
    /// # Errors
    /// As [`Committer::round`].
    pub fn round_of(&mut self, journal: &Journal, bytes: usize) -> Result<Round, StoreError> {
        let records = journal.read(self.done, limits::ROUND_RECORDS, bytes)?;
        match self.write(&records) {
            Ok(head) => self.head = head.or(self.head),
            Err(error) => {
                // What was applied in memory is forgotten, so that the round can begin anew.
                self.writer.abandon_for(self.head)?;
                return Err(error);
            }
        }
        if let Some(last) = records.last() {
            self.done = last.seq;
        }
        let spilled = records
            .iter()
            .filter_map(|record| match &record.op {
                Op::Put {
                    content: Content::Spilled,
                    oid,
                    ..
                } => Some(*oid),
                _ => None,
            })
            .collect();
        Ok(Round {
            operations: records.len(),
            committed: self.done,
            spilled,
            content: records.iter().map(|record| brought(&record.op)).sum(),
        })
    }

    fn write(&mut self, records: &[Record]) -> Result<Option<Oid>, StoreError> {
        for part in parts(records) {
            for record in part {
                self.apply(record)?;
            }
            let last = part
                .last()
                .expect("because parts are cut at records and are never empty");
            self.writer.commit(&CommitText {
                node: self.node.clone(),
                time: last.time,
                message: message::compose(&self.node, part),
                extra_parents: Vec::new(),
            })?;
        }
        Ok(self.writer.flush()?)
    }

    fn apply(&mut self, record: &Record) -> Result<(), StoreError> {
        match &record.op {
            Op::Put {
                content: Content::Inline(bytes),
                ..
            } => self.writer.apply(&record.op, Some(bytes))?,
            Op::Put {
                content: Content::Spilled,
                oid,
                path,
                attrs,
            } => {
                let spilled = self.spill.join(oid.to_string());
                match fs::read(&spilled) {
                    Ok(bytes) => self.writer.apply(&record.op, Some(&bytes))?,
                    // Two records may bring the same content, and the first one's commit removed the file (S9).
                    Err(_) if self.repo.reader().surely_has(*oid) => {
                        let op = Op::Put {
                            path: path.clone(),
                            oid: *oid,
                            content: Content::Existing,
                            attrs: attrs.clone(),
                        };
                        self.writer.apply(&op, None)?;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Err(StoreError::SpillMissing(spilled));
                    }
                    Err(error) => return Err(StoreError::io(&spilled, error)),
                }
            }
            op => self.writer.apply(op, None)?,
        }
        Ok(())
    }
}

/// Bytes of content that an operation brings: what its commit compresses and writes.
#[must_use]
pub fn brought(op: &Op) -> u64 {
    match op {
        Op::Put {
            content: Content::Inline(bytes),
            ..
        } => bytes.len() as u64,
        Op::Put {
            content: Content::Spilled,
            attrs,
            ..
        } => attrs.size,
        _ => 0,
    }
}

/// Cuts a round before each expunge or replacement of a message that the same commit would bring, and before the end of a folder whose facts
/// it would change.
fn parts(records: &[Record]) -> Vec<&[Record]> {
    let mut parts = Vec::new();
    let mut brought: HashSet<Vec<u8>> = HashSet::new();
    let mut counted: HashSet<TreePath> = HashSet::new();
    let mut start = 0;
    for (at, record) in records.iter().enumerate() {
        let ends = match &record.op {
            Op::Remove { path } => Some(path),
            Op::Put { path, .. } => Some(path),
            Op::Rename { to, .. } => Some(to),
            _ => None,
        };
        let overwrites = match &record.op {
            // A flag change keeps the name: it ends nothing.
            Op::Rename { from, to } => name::identity(from.name()) != name::identity(to.name()),
            _ => true,
        };
        let ends_message = overwrites
            && ends.is_some_and(|path| brought.contains(name::identity(path.name()).as_ref()));
        let ends_folder = match &record.op {
            Op::Rmdir { path } | Op::Rename { to: path, .. } => {
                // A folder that was renamed in the same round is known by its new name and what it was counted under.
                counted.contains(path) || (is_rmdir(&record.op) && counted.contains(&anywhere()))
            }
            _ => false,
        };
        if ends_message || ends_folder {
            parts.push(&records[start..at]);
            start = at;
            brought.clear();
            counted.clear();
        }
        if let Op::Put { path, .. } | Op::Rename { to: path, .. } = &record.op {
            brought.insert(name::identity(path.name()).into_owned());
        }
        match &record.op {
            Op::SetMailbox { folder, .. } | Op::MkFolder { path: folder, .. } => {
                counted.insert(folder.clone());
            }
            Op::Put { path, attrs, .. } | Op::SetAttrs { path, attrs } if attrs.uid.is_some() => {
                counted.extend(path.folder());
            }
            // It may be a folder, or hold some.
            Op::Rename { from, .. } if from.folder().is_none() && !counted.is_empty() => {
                counted.insert(anywhere());
            }
            _ => {}
        }
    }
    if start < records.len() {
        parts.push(&records[start..]);
    }
    parts
}

fn is_rmdir(op: &Op) -> bool {
    matches!(op, Op::Rmdir { .. })
}

/// Stands for folders whose paths have changed in the round: no path has an empty component in it.
fn anywhere() -> TreePath {
    TreePath::new(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::{Attrs, HashKind, MailboxFacts};

    fn records(ops: Vec<Op>) -> Vec<Record> {
        ops.into_iter()
            .zip(1..)
            .map(|(op, seq)| Record { seq, time: 0, op })
            .collect()
    }

    fn put(path: &str) -> Op {
        Op::Put {
            path: TreePath::new(path),
            oid: Oid::null(HashKind::Sha1),
            content: Content::Existing,
            attrs: Attrs::default(),
        }
    }

    fn remove(path: &str) -> Op {
        Op::Remove {
            path: TreePath::new(path),
        }
    }

    #[test]
    fn a_round_is_one_part_unless_it_would_lose_content() {
        let lengths = |ops| {
            parts(&records(ops))
                .iter()
                .map(|part| part.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(vec![]), Vec::<usize>::new());
        assert_eq!(
            lengths(vec![put("new/a"), put("new/b"), remove("cur/c:2,T")]),
            [3]
        );
        assert_eq!(
            lengths(vec![put("new/a"), remove("cur/a:2,T"), put("new/b")]),
            [1, 2]
        );
        let flag = Op::Rename {
            from: TreePath::new("new/a"),
            to: TreePath::new("cur/a:2,S"),
        };
        assert_eq!(lengths(vec![put("new/a"), flag.clone(), flag]), [3]);
        assert_eq!(lengths(vec![put("f"), put("f")]), [1, 1]);
    }

    #[test]
    fn a_folder_ends_in_another_commit_than_its_facts() {
        let lengths = |ops| {
            let records = records(ops);
            let parts = parts(&records);
            parts.iter().map(|part| part.len()).collect::<Vec<_>>()
        };
        let path = |at: &str| TreePath::new(at);
        let rmdir = |at: &str| Op::Rmdir { path: path(at) };
        let facts = |at: &str| Op::SetMailbox {
            folder: path(at),
            facts: MailboxFacts::default(),
        };
        let arrival = |at: &str| Op::SetAttrs {
            path: path(at),
            attrs: Attrs {
                uid: Some(7),
                ..Attrs::default()
            },
        };
        let rename = |from: &str, to: &str| Op::Rename {
            from: path(from),
            to: path(to),
        };
        assert_eq!(lengths(vec![facts("a"), rmdir("b")]), [2]);
        assert_eq!(
            lengths(vec![facts("a"), rmdir("a/cur"), rmdir("a")]),
            [2, 1]
        );
        assert_eq!(lengths(vec![arrival("a/new/1"), rmdir("a")]), [1, 1]);
        assert_eq!(
            lengths(vec![facts("a"), rename("a", "b"), rmdir("b")]),
            [2, 1]
        );
        assert_eq!(lengths(vec![facts("b"), rename("a", "b")]), [1, 1]);
    }
}
