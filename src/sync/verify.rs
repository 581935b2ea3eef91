//! What a peer's head brings, checked before it is braided.
//!
//! The problem: whoever may push may send anything. git's own check (`fsck`, which the receiving side runs) knows git's format, not ours; and a UID law
//! once broken in our history would be broken for every client for good.
//!
//! Rules:
//! - Every commit that our own history does not contain is checked, oldest first, each against its parents, which are good by then: its form and its
//!   trees ([`crate::history::Canonical`]), who made it, the UID laws.
//! - A commit of a node has at most one parent and names its node and its journal's sequence numbers. A commit of several parents is a braid, in the braid's own form.
//! - The first fault refuses the head. What lies below it and is good stays unused until another head brings it.
//! - What one thread has checked no other does: after a separation the heads that come are mostly of the same commits, and all come at once ([`Checked`]).
//! - The number of commits is bounded, unless we have no history at all: then we join, and take what there is.
//!
//! Rejected: to make every braid again and compare. It would prove that a braid is right, but a node of another version, with a mended merge, could never
//! be followed.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::config::check_node;
use crate::history::{Canonical, CommitInfo, HistoryError, Reader};
use crate::limits;
use crate::maildir::Oid;
use crate::merge;
use crate::store::message;

/// Why a head is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// More commits than a peer may bring at once.
    #[error(
        "it brings more than {most} commits at once; if that is right, raise mailbraid.peerCommits"
    )]
    Many {
        /// The bound.
        most: usize,
    },
    /// An object is missing or not as we write it.
    #[error("commit {commit}: {why}")]
    Form {
        /// The commit in which it was met.
        commit: Oid,
        /// What is wrong.
        why: Box<HistoryError>,
    },
    /// Not a commit of a node, nor a braid.
    #[error("commit {commit} is neither a node's nor a braid: {why}")]
    Author {
        /// The commit.
        commit: Oid,
        /// What is wrong.
        why: String,
    },
    /// A UID law is broken.
    #[error("commit {commit} breaks a law of UIDs in {folder:?}: {why}")]
    Uids {
        /// The commit.
        commit: Oid,
        /// The folder.
        folder: String,
        /// Which.
        why: String,
    },
    /// The head's history cannot be walked.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Commits that were found good, and so were all before them.
#[derive(Default)]
pub struct Checked {
    good: HashSet<Oid>,
    /// Commits looked at, ever.
    looks: u64,
}

impl Checked {
    fn remember(&mut self, commit: Oid) {
        if self.good.len() >= limits::CHECKED_KEPT {
            self.good.clear();
        }
        self.good.insert(commit);
    }
}

/// Checks all that `head` brings beyond `known`, which are heads of checked histories, and `checked`, where what is good is added. Returns the number of commits.
///
/// # Errors
/// The first fault.
pub fn verify(
    reader: &Reader,
    head: Oid,
    known: &[Oid],
    most: Option<usize>,
    checked: &Mutex<Checked>,
) -> Result<usize, Refusal> {
    let bound = most.unwrap_or(usize::MAX - 1);
    let new = reader.commits_between(head, known, bound)?;
    if new.len() > bound {
        return Err(Refusal::Many { most: bound });
    }
    let count = new.len();
    let mut check = Check {
        reader,
        good: Canonical::default(),
        trees: HashMap::new(),
    };
    for (commit, info, node) in check.parents_first(&new)? {
        // Held while it is looked at, so that nobody looks at the same; then the next one's turn may be another thread's.
        let mut checked = checked.lock();
        if checked.good.contains(&commit) {
            check.trees.insert(commit, (info.tree, info.time));
            continue;
        }
        checked.looks += 1;
        check.commit(commit, &info, &node)?;
        checked.remember(commit);
    }
    Ok(count)
}

struct Check<'a> {
    reader: &'a Reader,
    good: Canonical,
    /// Trees of commits met.
    trees: HashMap<Oid, (Oid, i64)>,
}

impl Check<'_> {
    /// The commits, each after those of its parents that are among them.
    fn parents_first(&self, new: &[Oid]) -> Result<Vec<(Oid, CommitInfo, String)>, Refusal> {
        let among: HashSet<Oid> = new.iter().copied().collect();
        let mut children: HashMap<Oid, Vec<Oid>> = HashMap::new();
        let mut waiting: HashMap<Oid, (usize, CommitInfo, String)> = HashMap::new();
        let mut ready = Vec::new();
        for &commit in new {
            let (info, node) =
                self.reader
                    .canonical_commit(commit)
                    .map_err(|why| Refusal::Form {
                        commit,
                        why: Box::new(why),
                    })?;
            let parents = info.parents.iter().filter(|parent| among.contains(parent));
            let mut count = 0;
            for parent in parents {
                children.entry(*parent).or_default().push(commit);
                count += 1;
            }
            if count == 0 {
                ready.push(commit);
            }
            waiting.insert(commit, (count, info, node));
        }
        let mut sorted = Vec::with_capacity(new.len());
        while let Some(commit) = ready.pop() {
            let Some((_, info, node)) = waiting.remove(&commit) else {
                continue;
            };
            sorted.push((commit, info, node));
            for child in children.get(&commit).into_iter().flatten() {
                if let Some((count, _, _)) = waiting.get_mut(child) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(*child);
                    }
                }
            }
        }
        Ok(sorted)
    }

    fn commit(&mut self, commit: Oid, info: &CommitInfo, node: &str) -> Result<(), Refusal> {
        let form = |why| Refusal::Form {
            commit,
            why: Box::new(why),
        };
        let mut trees = Vec::new();
        let mut newest = i64::MIN;
        for parent in &info.parents {
            let (tree, time) = match self.trees.get(parent) {
                Some(known) => *known,
                None => {
                    let parent = self.reader.commit(*parent).map_err(form)?;
                    (parent.tree, parent.time)
                }
            };
            trees.push(tree);
            newest = newest.max(time);
        }
        self.trees.insert(commit, (info.tree, info.time));
        author(info, node, newest).map_err(|why| Refusal::Author { commit, why })?;
        self.reader
            .canonical_tree(info.tree, &trees, &mut self.good)
            .map_err(form)?;
        let broken = self.reader.uid_violations(info).map_err(form)?;
        match broken.into_iter().next() {
            Some((folder, violation)) => Err(Refusal::Uids {
                commit,
                folder: message::folder_name(&folder),
                why: violation.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// Who made it, and whether it looks it. `newest` is the time of the newest parent.
fn author(info: &CommitInfo, node: &str, newest: i64) -> Result<(), String> {
    if node == merge::commit::IDENTITY {
        if info.parents.len() < 2 {
            return Err("a braid has at least two parents".to_owned());
        }
        if !info.parents.is_sorted_by(|a, b| a < b) {
            return Err("a braid's parents ascend".to_owned());
        }
        if info.time != newest {
            return Err("a braid is as old as its newest parent".to_owned());
        }
        let subject = merge::commit::message(&info.parents, &[]);
        if !info.message.starts_with(subject.as_bytes()) {
            return Err("a braid's subject names its parents".to_owned());
        }
        return Ok(());
    }
    check_node(node.to_owned()).map_err(|_| format!("{node:?} is no node's name"))?;
    if info.parents.len() > 1 {
        return Err("only a braid has several parents".to_owned());
    }
    match message::trailers(&info.message) {
        Some((of, sequence)) if of == node && sequence.first <= sequence.last => Ok(()),
        Some((of, _)) if of != node => Err(format!("{node} made it, and it says {of}")),
        _ => Err("it names no operations of a journal".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{CommitText, InitOptions, Repo, Writer};
    use crate::maildir::{HashKind, Op, TreePath};

    #[test]
    fn what_was_checked_is_not_looked_at_again_and_what_is_bad_is() {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        let mut writer = Writer::new(&repo, None).unwrap();
        let mut heads = Vec::new();
        for (number, trailers) in [(1, true), (2, true), (3, false)] {
            let path = TreePath::new(format!("u{number}"));
            writer.apply(&Op::Mkdir { path }, None).unwrap();
            let mut message = format!("mkdir u{number}\n");
            if trailers {
                message += &format!("\nNode: a\nSequence: {number}\n");
            }
            let text = CommitText {
                node: "a".to_owned(),
                time: 1_795_466_045,
                message: message.into_bytes(),
                extra_parents: Vec::new(),
            };
            writer.commit(&text).unwrap();
            heads.push(writer.flush().unwrap().unwrap());
        }
        let (reader, checked) = (repo.reader(), Mutex::<Checked>::default());
        let looks = |head: usize| {
            let before = checked.lock().looks;
            let said = verify(&reader, heads[head], &[], None, &checked);
            (said.is_ok(), checked.lock().looks - before)
        };
        assert_eq!(looks(0), (true, 1));
        assert_eq!(looks(1), (true, 1));
        assert_eq!(looks(1), (true, 0));
        // Its message names no operations, the second time too.
        assert_eq!(looks(2), (false, 1));
        assert_eq!(looks(2), (false, 1));
    }
}
