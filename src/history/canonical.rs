//! What others wrote, checked against what we would have written.
//!
//! The problem: a peer's tree may hold anything that git's format can say, and git's own check knows neither tries nor hidden names. What is
//! not canonical must not come into the history: equal mailboxes would have different ids, and a reader might meet what it never expects.
//!
//! Rules:
//! - **Commits** are, to the byte, what [`super::Writer`] makes of their parts.
//! - **Trees**: two modes; git's order, no name twice; names that decode and encode to the same bytes; each name at its place in the trie; a
//!   node split if and only if it must be; facts that decode and encode to the same bytes.
//! - **Blobs** are there, are blobs, and have the size that their entry claims.
//! - The cost follows what changed: a tree that a parent has *at the same place* is as good as it was there. A place is the depth in the trie with
//!   the digits that lead to it, for a leaf that is good at one place is not at another.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::tree::{self, MAX_DEPTH};
use super::writer::encode_commit;
use super::{CommitInfo, CommitText, HistoryError, Reader, reader};
use crate::limits;
use crate::maildir::{EntryKind, Oid, TreePath, mailbox};

/// What was found good, kept from one commit to the next.
#[derive(Default)]
pub struct Canonical {
    trees: HashSet<(Oid, Vec<u8>)>,
    facts: HashSet<Oid>,
}

/// A tree to check.
struct Job {
    oid: Oid,
    /// The directory's path, for messages and for the bound on its length.
    dir: TreePath,
    /// Digits that lead to it from the top of its directory's trie.
    digits: Vec<u8>,
    /// Trees of parents at the same directory, each with the number of digits that lead to it.
    known: Vec<(Oid, usize)>,
}

/// What parents have in a directory: files by hidden name, subdirectories by name.
#[derive(Default)]
struct Before {
    files: HashSet<(Vec<u8>, Oid)>,
    dirs: HashMap<Vec<u8>, Vec<Oid>>,
}

impl Reader {
    /// A commit of a peer. Its parts are right as far as one commit can tell.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] where it is not as we write commits, [`HistoryError::Missing`].
    pub fn canonical_commit(&self, oid: Oid) -> Result<(CommitInfo, String), HistoryError> {
        let bad = |why: &str| HistoryError::corrupt(oid, why);
        self.expect(oid, gix::objs::Kind::Commit, limits::COMMIT_BYTES)?;
        let mut raw = Vec::new();
        self.object(oid, gix::objs::Kind::Commit, &mut raw)?;
        let commit = self.commit(oid)?;
        let node = commit
            .author
            .strip_prefix("mailbraid <")
            .and_then(|rest| rest.strip_suffix('>'))
            .ok_or_else(|| bad("its author is no mailbraid node"))?
            .to_owned();
        let text = CommitText {
            node: node.clone(),
            time: commit.time,
            message: commit.message.clone(),
            extra_parents: Vec::new(),
        };
        if encode_commit(commit.tree, &commit.parents, &text) != raw {
            return Err(bad("it is not written as mailbraid writes commits"));
        }
        Ok((commit, node))
    }

    /// Checks a root tree, as far as it is not equal to the `parents`' at the same places.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] with the first fault, [`HistoryError::Missing`].
    pub fn canonical_tree(
        &self,
        root: Oid,
        parents: &[Oid],
        good: &mut Canonical,
    ) -> Result<(), HistoryError> {
        let mut todo = vec![Job {
            oid: root,
            dir: TreePath::root(),
            digits: Vec::new(),
            known: parents.iter().map(|parent| (*parent, 0)).collect(),
        }];
        while let Some(job) = todo.pop() {
            let here = (job.oid, job.digits.len());
            if !job.known.contains(&here) && good.trees.insert((job.oid, job.digits.clone())) {
                self.canonical_node(&job, good, &mut todo)?;
            }
        }
        Ok(())
    }

    fn canonical_node(
        &self,
        job: &Job,
        good: &mut Canonical,
        todo: &mut Vec<Job>,
    ) -> Result<(), HistoryError> {
        let bad = |why: &str| {
            let dir = job.dir.to_string();
            HistoryError::corrupt(job.oid, format!("{why} (in {dir:?})"))
        };
        self.expect(job.oid, gix::objs::Kind::Tree, limits::TREE_BYTES)?;
        let mut raw = Vec::new();
        self.tree(job.oid, &mut raw)?;
        let depth = job.digits.len();
        let mut branches = Vec::new();
        let mut names = Vec::new();
        let mut last: Option<(Vec<u8>, bool)> = None;
        for entry in tree::entries(&raw, self.kind()) {
            let entry = entry.map_err(&bad)?;
            if let Some((name, dir)) = &last
                && tree::order(name, *dir, entry.name, entry.dir) != Ordering::Less
            {
                return Err(bad("its entries are not in order, or one is there twice"));
            }
            last = Some((entry.name.to_vec(), entry.dir));
            if entry.is_mailbox() {
                if depth > 0 {
                    return Err(bad("a trie has a %mailbox below its top"));
                }
                self.canonical_facts(entry.oid(), good)?;
            } else if let Some(digit) = entry.branch() {
                branches.push((digit as u8, entry.oid()));
            } else {
                let decoded = reader::decode(&entry).map_err(|why| bad(&why.to_string()))?;
                names.push((entry.name.to_vec(), decoded));
            }
        }
        if !branches.is_empty() && !names.is_empty() {
            return Err(bad("a tree mixes branches and entries"));
        }
        let before = self.before(job, branches.is_empty())?;
        if !branches.is_empty() {
            if depth >= MAX_DEPTH {
                return Err(bad("a trie is too deep"));
            }
            if !self.is_more_than_a_leaf(&branches)? {
                return Err(bad("a trie is split where it need not be"));
            }
            for (digit, oid) in branches {
                let mut digits = job.digits.clone();
                digits.push(digit);
                let known = self.known_below(job, digit)?;
                let dir = job.dir.clone();
                todo.push(Job {
                    oid,
                    dir,
                    digits,
                    known,
                });
            }
            return Ok(());
        }
        if names.len() > limits::TRIE_LEAF_MAX && depth < MAX_DEPTH {
            return Err(bad("a trie is not split where it must be"));
        }
        if names.is_empty() && depth > 0 {
            return Err(bad("a trie has an empty branch"));
        }
        let mut seen = HashSet::new();
        for (hidden, entry) in names {
            let path = job.dir.join(&entry.name);
            if !seen.insert(entry.name.clone()) {
                return Err(bad("a name is there twice"));
            }
            if entry.name.len() > limits::NAME_MAX || path.as_bytes().len() > limits::PEER_PATH {
                return Err(bad("a name is longer than a file's name may be"));
            }
            let place = tree::digits(&entry.name);
            if job
                .digits
                .iter()
                .enumerate()
                .any(|(at, digit)| tree::digit(&place, at) != usize::from(*digit))
            {
                return Err(bad("a name is at the wrong place of a trie"));
            }
            match entry.kind {
                EntryKind::Dir => todo.push(Job {
                    oid: entry.oid,
                    known: before
                        .dirs
                        .get(&entry.name)
                        .into_iter()
                        .flatten()
                        .map(|oid| (*oid, 0))
                        .collect(),
                    dir: path,
                    digits: Vec::new(),
                }),
                EntryKind::File(attrs) => {
                    if before.files.contains(&(hidden, entry.oid)) {
                        continue;
                    }
                    let size =
                        self.expect(entry.oid, gix::objs::Kind::Blob, limits::MESSAGE_MAX)?;
                    if size != attrs.size {
                        return Err(HistoryError::corrupt(
                            entry.oid,
                            format!("it has {size} bytes, and {path} claims {}", attrs.size),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the parents have in the same directory: where this node is a leaf, or else their leaves may lie anywhere below.
    fn before(&self, job: &Job, is_leaf: bool) -> Result<Before, HistoryError> {
        let mut before = Before::default();
        if !is_leaf {
            return Ok(before);
        }
        let mut raw = Vec::new();
        for (known, _) in &job.known {
            let mut nodes = vec![*known];
            while let Some(oid) = nodes.pop() {
                self.tree(oid, &mut raw)?;
                for entry in tree::entries(&raw, self.kind()) {
                    let entry = entry.map_err(|why| HistoryError::corrupt(oid, why))?;
                    if entry.branch().is_some() {
                        nodes.push(entry.oid());
                    } else if !entry.dir {
                        before.files.insert((entry.name.to_vec(), entry.oid()));
                    } else if let Ok(decoded) = reader::decode(&entry) {
                        before
                            .dirs
                            .entry(decoded.name)
                            .or_default()
                            .push(entry.oid());
                    }
                }
            }
        }
        Ok(before)
    }

    /// The parents' nodes one digit further; a parent's leaf stands for all that would lie below it.
    fn known_below(&self, job: &Job, digit: u8) -> Result<Vec<(Oid, usize)>, HistoryError> {
        let mut known = Vec::new();
        let mut raw = Vec::new();
        for (oid, depth) in &job.known {
            if *depth < job.digits.len() {
                known.push((*oid, *depth));
                continue;
            }
            self.tree(*oid, &mut raw)?;
            let split =
                tree::split(&raw, self.kind()).map_err(|why| HistoryError::corrupt(*oid, why))?;
            match split {
                Some(split) => {
                    known.extend(split.branches[usize::from(digit)].map(|below| (below, depth + 1)))
                }
                None => known.push((*oid, *depth)),
            }
        }
        Ok(known)
    }

    /// Whether more names lie below these branches than a leaf may hold. A split node among them says yes: it is checked itself.
    fn is_more_than_a_leaf(&self, branches: &[(u8, Oid)]) -> Result<bool, HistoryError> {
        let mut count = 0;
        let mut raw = Vec::new();
        for (_, oid) in branches {
            self.expect(*oid, gix::objs::Kind::Tree, limits::TREE_BYTES)?;
            self.tree(*oid, &mut raw)?;
            for entry in tree::entries(&raw, self.kind()) {
                let entry = entry.map_err(|why| HistoryError::corrupt(*oid, why))?;
                if entry.branch().is_some() {
                    return Ok(true);
                }
                count += 1;
            }
            if count > limits::TRIE_LEAF_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn canonical_facts(&self, oid: Oid, good: &mut Canonical) -> Result<(), HistoryError> {
        if !good.facts.insert(oid) {
            return Ok(());
        }
        self.expect(oid, gix::objs::Kind::Blob, limits::FACTS_BYTES)?;
        let text = self.blob(oid)?;
        let facts =
            mailbox::decode(&text).map_err(|why| HistoryError::corrupt(oid, why.to_string()))?;
        if mailbox::encode(&facts) != text {
            return Err(HistoryError::corrupt(
                oid,
                "a folder's facts are not written as mailbraid writes them",
            ));
        }
        Ok(())
    }

    /// The size of an object of this kind, its content unread.
    fn expect(&self, oid: Oid, kind: gix::objs::Kind, most: u64) -> Result<u64, HistoryError> {
        let size = self.header(oid, kind)?;
        if size > most {
            return Err(HistoryError::corrupt(
                oid,
                format!("a {kind} of {size} bytes is larger than the {most} that are allowed"),
            ));
        }
        Ok(size)
    }
}
