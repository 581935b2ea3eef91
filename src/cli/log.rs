//! `mailbraid log STORE [PATH]`: history in mail terms, newest first.
//!
//! One line an action: date, commit, node, action. A path narrows it to a message (a file in `cur` or `new`, whatever its flags were
//! then, or its unique name alone), a folder, or another file. The actions stand in the commit messages, so no tree is read.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::io::{self, Write};

use crate::history::{CommitInfo, HistoryError, Repo};
use crate::maildir::{Oid, TreePath, name};
use crate::store::message;

/// Why a log ended early.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The repository.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The output.
    #[error("cannot write the log: {0}")]
    Output(#[from] io::Error),
}

/// Prints the history of the head, or what concerns `path` in it.
///
/// # Errors
/// See [`LogError`]; a closed pipe ends the log without one.
pub fn log(repo: &Repo, path: Option<&[u8]>, out: &mut dyn Write) -> Result<(), LogError> {
    let reader = repo.reader();
    let filter = path.map(Filter::new);
    let mut queue: BinaryHeap<(i64, Oid)> = BinaryHeap::new();
    // What was read for its time, until it is its turn.
    let mut waiting: HashMap<Oid, CommitInfo> = HashMap::new();
    let mut seen: HashSet<Oid> = HashSet::new();
    let mut next: Vec<Oid> = repo.head()?.into_iter().collect();
    loop {
        for id in next.drain(..) {
            if seen.insert(id) {
                let commit = reader.commit(id)?;
                queue.push((commit.time, id));
                waiting.insert(id, commit);
            }
        }
        let Some((time, id)) = queue.pop() else {
            return Ok(());
        };
        let Some(commit) = waiting.remove(&id) else {
            continue;
        };
        next.extend(&commit.parents);
        if filter
            .as_ref()
            .is_some_and(|filter| !filter.may_want(&commit.message))
        {
            continue;
        }
        let node =
            message::trailers(&commit.message).map_or_else(|| "braid".to_owned(), |(node, _)| node);
        let short = &id.to_string()[..10];
        for action in message::actions(&commit.message) {
            if filter.as_ref().is_some_and(|filter| !filter.wants(action)) {
                continue;
            }
            let written = writeln!(out, "{} {short} {node} {action}", date(time));
            match written {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
    }
}

/// `YYYY-MM-DD HH:MM:SS` in UTC. The civil calendar from a day count, after Howard Hinnant's `civil_from_days`.
fn date(time: i64) -> String {
    let days = time.div_euclid(86_400);
    let second = time.rem_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Which actions concern a path.
struct Filter {
    /// The message's unique name, the folder's name, or the path, as an action line shows it.
    word: String,
    /// The same as the name of a folder.
    folder: String,
    /// How the names of what lies below begin.
    below: String,
}

impl Filter {
    fn new(path: &[u8]) -> Self {
        let tree = TreePath::new(path);
        let dir = tree.parent().unwrap_or_default();
        let word = if matches!(dir.name(), b"cur" | b"new") || name::split(tree.name()).1.is_some()
        {
            message::printable(name::unique(tree.name()))
        } else if tree.name().iter().take(4).all(u8::is_ascii_digit) && tree.name().len() > 4 {
            message::printable(tree.name())
        } else if matches!(tree.name(), b"cur" | b"new") {
            message::folder_name(&dir)
        } else {
            message::printable(tree.as_bytes())
        };
        Self {
            folder: message::folder_name(&TreePath::new(word.as_bytes())),
            below: format!("{word}/"),
            word,
        }
    }

    /// Whether one of the actions may be wanted: the name is somewhere in the message. Of a commit of a thousand actions few are, and few such commits.
    fn may_want(&self, message: &[u8]) -> bool {
        std::str::from_utf8(message)
            .is_ok_and(|text| text.contains(&self.word) || text.contains(&self.folder))
    }

    fn wants(&self, action: &str) -> bool {
        action
            .split(' ')
            .any(|word| word == self.word || word == self.folder || word.starts_with(&self.below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(1_795_466_045), "2026-11-23 20:34:05");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(-1), "1969-12-31 23:59:59");
    }

    #[test]
    fn a_path_names_a_message_a_folder_or_a_file() {
        let wants = |path: &str, action: &str| Filter::new(path.as_bytes()).wants(action);
        assert!(wants("u/cur/1.2.vm:2,S", "flag u/INBOX +S 1.2.vm"));
        assert!(wants("1.2.vm:2,", "expunge A 1.2.vm"));
        assert!(!wants("u/cur/1.2.vm:2,S", "flag u/INBOX +S 1.3.vm"));
        assert!(wants(".A", "deliver A 1.2.vm"));
        assert!(wants("u", "deliver u/INBOX 1.2.vm"));
        assert!(wants("u/.dovecot.sieve", "write u/.dovecot.sieve"));
        assert!(!wants("v", "deliver u/INBOX 1.2.vm"));
    }
}
