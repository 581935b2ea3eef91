//! `mailbraid check STORE`: verifies repository and history; exit 1 on damage.
//!
//! | what | how |
//! |---|---|
//! | every object reachable from any ref | present, and its content has its id |
//! | every tree | written as mailbraid writes it: names, order, shape of the trie |
//! | UID laws (`maildir::laws`) | hold over every commit and each of its parents |
//! | sequence numbers | every operation of each node once, in order, along the history |
//!
//! Reads alone, so it may run while the store is mounted.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::ExitCode;

use super::{Failure, open_repo, progress};
use crate::history::Repo;
use crate::maildir::{EntryKind, Oid};
use crate::store::message;

/// Runs the command.
pub fn run(store: &Path) -> Result<ExitCode, Failure> {
    let repo = open_repo(store)?;
    let found = check(&repo).map_err(|error| format!("{error}; a peer's copy can restore it"))?;
    for line in &found {
        println!("{line}");
    }
    if found.is_empty() {
        println!("no damage found");
        Ok(ExitCode::SUCCESS)
    } else {
        Err(format!(
            "{} problems found; a peer's copy can restore what is damaged",
            found.len()
        ))
    }
}

/// What is wrong, a line each.
fn check(repo: &Repo) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let reader = repo.reader();
    let mut heads: Vec<Oid> = repo
        .refs("refs/")
        .map_err(|error| error.to_string())?
        .into_values()
        .collect();
    heads.extend(repo.head().map_err(|error| error.to_string())?);
    let bar = progress("commits");
    let mut seen: HashSet<Oid> = HashSet::new();
    let mut objects: HashSet<Oid> = HashSet::new();
    let mut sequences: BTreeMap<String, Vec<message::Sequence>> = BTreeMap::new();
    let mut queue = heads;
    while let Some(id) = queue.pop() {
        if !seen.insert(id) {
            continue;
        }
        bar.inc(1);
        let commit = match reader.commit(id) {
            Ok(commit) => commit,
            Err(error) => {
                found.push(format!("commit {id}: {error}"));
                continue;
            }
        };
        if let Some((node, sequence)) = message::trailers(&commit.message) {
            sequences.entry(node).or_default().push(sequence);
        }
        tree(&reader, commit.tree, id, &mut objects, &mut found);
        match reader.uid_violations(&commit) {
            Ok(broken) => found.extend(broken.into_iter().map(|(folder, broken)| {
                format!(
                    "commit {id}, folder {}: {broken}",
                    message::printable(folder.as_bytes())
                )
            })),
            // A damaged tree has been reported; another commit's is when that is looked at.
            Err(error) => found.push(format!(
                "commit {id}: the UID laws cannot be checked: {error}"
            )),
        }
        queue.extend(commit.parents);
    }
    bar.finish_and_clear();
    for (node, mut ranges) in sequences {
        ranges.sort_by_key(|range| range.first);
        let mut expected = 1;
        for range in ranges {
            if range.first != expected {
                found.push(format!(
                    "node {node}: operation {expected} should follow, operation {} does",
                    range.first
                ));
            }
            expected = range.last + 1;
        }
    }
    Ok(found)
}

fn tree(
    reader: &crate::history::Reader,
    id: Oid,
    commit: Oid,
    objects: &mut HashSet<Oid>,
    found: &mut Vec<String>,
) {
    if !objects.insert(id) {
        return;
    }
    let entries = match reader.dir(id) {
        Ok(entries) => entries,
        Err(error) => {
            found.push(format!("tree {id} of commit {commit}: {error}"));
            return;
        }
    };
    for entry in entries {
        match entry.kind {
            EntryKind::Dir => tree(reader, entry.oid, commit, objects, found),
            EntryKind::File(attrs) => {
                if !objects.insert(entry.oid) {
                    continue;
                }
                match reader.blob(entry.oid) {
                    Ok(content) if content.len() as u64 != attrs.size => found.push(format!(
                        "{}: commit {commit} says {} bytes, the blob has {}",
                        message::printable(&entry.name),
                        attrs.size,
                        content.len()
                    )),
                    Ok(content) => {
                        let is = crate::history::hash_blob(reader.kind(), &content);
                        if is != entry.oid {
                            found.push(format!(
                                "blob {} of commit {commit} has the content of {is}",
                                entry.oid
                            ));
                        }
                    }
                    Err(error) => {
                        found.push(format!("blob {} of commit {commit}: {error}", entry.oid))
                    }
                }
            }
        }
    }
}
