//! Commit messages: what happened, in mail terms.
//!
//! ```text
//! deliver alice/INBOX 1795466045.M650136P12598.vm          one action: its line is the subject
//!
//! Node: a
//! Sequence: 1234
//! ```
//!
//! A commit of several actions has a subject that counts them, a line for each, and the trailer `Sequence: FIRST-LAST`.
//! Every operation of the journal has one action line, so the trailers alone prove that each is in the history exactly once.
//!
//! A folder's name: the path of the directory that holds `cur`, without the leading dot of Maildir++; `INBOX` for the mount point itself
//! and below each directory that is a Maildir of its own. Bytes that are no printable UTF-8 are written `\xNN`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::journal::Record;
use crate::maildir::{Content, Op, TreePath, name};

/// The trailers of one of our commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence {
    /// First operation of the commit.
    pub first: u64,
    /// Last operation of the commit.
    pub last: u64,
}

/// The message of a commit that holds `records`, which are consecutive and at least one.
#[must_use]
pub fn compose(node: &str, records: &[Record]) -> Vec<u8> {
    let lines: Vec<String> = records.iter().map(|record| action(&record.op)).collect();
    let mut text = String::new();
    if let [line] = lines.as_slice() {
        text.push_str(line);
        text.push('\n');
    } else {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &lines {
            *counts
                .entry(line.split(' ').next().unwrap_or(""))
                .or_default() += 1;
        }
        let summary: Vec<String> = counts
            .iter()
            .map(|(verb, count)| format!("{count} {verb}"))
            .collect();
        let _ = writeln!(
            text,
            "{} actions: {}\n\n{}",
            lines.len(),
            summary.join(", "),
            lines.join("\n")
        );
    }
    let (first, last) = match (records.first(), records.last()) {
        (Some(first), Some(last)) => (first.seq, last.seq),
        _ => (0, 0),
    };
    let _ = write!(text, "\nNode: {node}\nSequence: ");
    let _ = if first == last {
        writeln!(text, "{last}")
    } else {
        writeln!(text, "{first}-{last}")
    };
    text.into_bytes()
}

/// The node and the sequence numbers in a commit message's trailers; `None` where it is not an operation commit.
#[must_use]
pub fn trailers(message: &[u8]) -> Option<(String, Sequence)> {
    let text = std::str::from_utf8(message).ok()?;
    let last_block = text.trim_end().rsplit("\n\n").next()?;
    let mut node = None;
    let mut sequence = None;
    for line in last_block.lines() {
        if let Some(value) = line.strip_prefix("Node: ") {
            node = Some(value.to_owned());
        } else if let Some(value) = line.strip_prefix("Sequence: ") {
            let (first, last) = value.split_once('-').unwrap_or((value, value));
            sequence = Some(Sequence {
                first: first.parse().ok()?,
                last: last.parse().ok()?,
            });
        }
    }
    Some((node?, sequence?))
}

/// The action lines of a commit message: the body of a commit of several actions, else the subject.
pub fn actions(message: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(message).unwrap_or("(a message that is no UTF-8)");
    let mut blocks = text.split("\n\n");
    let subject = blocks.next().unwrap_or("");
    let lines = match blocks.next() {
        Some(body) if !body.starts_with("Node: ") => body,
        _ => subject,
    };
    lines.lines()
}

/// One operation as one line.
#[must_use]
pub fn action(op: &Op) -> String {
    match op {
        Op::Put { path, content, .. } => match Spot::of(path) {
            Spot::Message { folder, file } => {
                let verb = if *content == Content::Existing {
                    "copy"
                } else {
                    "deliver"
                };
                format!("{verb} {} {}", folder, printable(name::unique(file)))
            }
            Spot::Other => format!("write {}", printable(path.as_bytes())),
        },
        Op::Rename { from, to } => renamed(from, to),
        Op::Remove { path } => match Spot::of(path) {
            Spot::Message { folder, file } => {
                format!("expunge {folder} {}", printable(name::unique(file)))
            }
            Spot::Other => format!("remove {}", printable(path.as_bytes())),
        },
        Op::Mkdir { path } => format!("mkdir {}", printable(path.as_bytes())),
        Op::MkFolder { path, facts } => {
            let offer = facts.offer.as_ref().map(|offer| offer.uid_validity);
            format!(
                "mkdir {} offer {}",
                printable(path.as_bytes()),
                offer.unwrap_or(0)
            )
        }
        Op::Rmdir { path } => format!("rmdir {}", printable(path.as_bytes())),
        Op::SetAttrs { path, attrs } => {
            let uid = attrs.uid.map_or(String::new(), |uid| format!(" uid {uid}"));
            match Spot::of(path) {
                Spot::Message { folder, file } => {
                    format!("attributes {folder}{uid} {}", printable(name::unique(file)))
                }
                Spot::Other => format!("attributes {}", printable(path.as_bytes())),
            }
        }
        Op::SetMailbox { folder, facts } => {
            let folder = folder_name(folder);
            let numbers = format!(
                "uidvalidity {} uidnext {}",
                facts.uid_validity, facts.uid_next
            );
            match &facts.offer {
                Some(offer) => format!("mailbox {folder} {numbers} offer {}", offer.uid_validity),
                None => format!("mailbox {folder} {numbers}"),
            }
        }
    }
}

fn renamed(from: &TreePath, to: &TreePath) -> String {
    let (
        Spot::Message {
            folder: old_folder,
            file: old,
        },
        Spot::Message {
            folder: new_folder,
            file: new,
        },
    ) = (Spot::of(from), Spot::of(to))
    else {
        return format!(
            "rename {} → {}",
            printable(from.as_bytes()),
            printable(to.as_bytes())
        );
    };
    let changes = flag_changes(name::flags(old), name::flags(new));
    let unique = printable(name::unique(new));
    if old_folder != new_folder {
        let with = if changes.is_empty() {
            String::new()
        } else {
            format!(" {changes}")
        };
        format!("move {old_folder} → {new_folder}{with} {unique}")
    } else if name::unique(old) != name::unique(new) {
        format!(
            "rename {old_folder} {} → {unique}",
            printable(name::unique(old))
        )
    } else if changes.is_empty() {
        format!("take {new_folder} {unique}")
    } else {
        format!("flag {new_folder} {changes} {unique}")
    }
}

/// `+S -T`: what the second set of letters has more and less than the first.
fn flag_changes(old: &[u8], new: &[u8]) -> String {
    let mut changes = Vec::new();
    for (sign, these, those) in [('+', new, old), ('-', old, new)] {
        let letters: String = these
            .iter()
            .filter(|letter| !those.contains(letter) && letter.is_ascii_graphic())
            .map(|&letter| char::from(letter))
            .collect();
        if !letters.is_empty() {
            changes.push(format!("{sign}{letters}"));
        }
    }
    changes.join(" ")
}

enum Spot<'a> {
    Message { folder: String, file: &'a [u8] },
    Other,
}

impl<'a> Spot<'a> {
    fn of(path: &'a TreePath) -> Self {
        let Some(dir) = path.parent() else {
            return Self::Other;
        };
        match (dir.name(), dir.parent()) {
            (b"cur" | b"new", Some(folder)) => Self::Message {
                folder: folder_name(&folder),
                file: path.name(),
            },
            _ => Self::Other,
        }
    }
}

/// A folder's name for people.
#[must_use]
pub fn folder_name(folder: &TreePath) -> String {
    let parts: Vec<&[u8]> = folder.components().collect();
    let mut shown: Vec<String> = parts
        .iter()
        .map(|part| printable(part.strip_prefix(b".").unwrap_or(part)))
        .collect();
    if !parts.last().is_some_and(|part| part.starts_with(b".")) {
        shown.push("INBOX".to_owned());
    }
    shown.join("/")
}

/// Printable UTF-8 as it is, all else as `\xNN`.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                for byte in letter.to_string().bytes() {
                    let _ = write!(shown, "\\x{byte:02x}");
                }
            } else {
                shown.push(letter);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::{Attrs, HashKind, Oid};

    fn record(seq: u64, op: Op) -> Record {
        Record { seq, time: 0, op }
    }

    fn put(path: &str) -> Op {
        Op::Put {
            path: TreePath::new(path),
            oid: Oid::null(HashKind::Sha1),
            content: Content::Inline(Vec::new()),
            attrs: Attrs::default(),
        }
    }

    fn rename(from: &str, to: &str) -> Op {
        Op::Rename {
            from: TreePath::new(from),
            to: TreePath::new(to),
        }
    }

    #[test]
    fn actions_speak_of_mail() {
        for (op, line) in [
            (put("new/1.2.vm"), "deliver INBOX 1.2.vm"),
            (put("u/.A.B/cur/1.2.vm:2,S"), "deliver u/A.B 1.2.vm"),
            (rename("new/1.2.vm", "cur/1.2.vm:2,"), "take INBOX 1.2.vm"),
            (
                rename("cur/1.2.vm:2,T", "cur/1.2.vm:2,FS"),
                "flag INBOX +FS -T 1.2.vm",
            ),
            (
                rename("cur/1.2.vm:2,S", ".Archive/cur/1.2.vm:2,S"),
                "move INBOX → Archive 1.2.vm",
            ),
            (rename(".A", ".B"), "rename .A → .B"),
            (put("maildirfolder"), "write maildirfolder"),
        ] {
            assert_eq!(action(&op), line);
        }
    }

    #[test]
    fn trailers_come_back() {
        let one = compose("a", &[record(7, put("new/x"))]);
        assert_eq!(
            String::from_utf8_lossy(&one),
            "deliver INBOX x\n\nNode: a\nSequence: 7\n"
        );
        assert_eq!(
            trailers(&one),
            Some(("a".to_owned(), Sequence { first: 7, last: 7 }))
        );
        let two = compose(
            "a",
            &[record(7, put("new/x")), record(8, put("new/y\nNode: z"))],
        );
        assert_eq!(
            trailers(&two),
            Some(("a".to_owned(), Sequence { first: 7, last: 8 }))
        );
        assert_eq!(trailers(b"braid\n"), None);
        assert_eq!(actions(&one).collect::<Vec<_>>(), ["deliver INBOX x"]);
        assert_eq!(
            actions(&two).collect::<Vec<_>>(),
            ["deliver INBOX x", "deliver INBOX y\\x0aNode"]
        );
    }

    #[test]
    fn odd_bytes_are_shown_and_stay_on_one_line() {
        assert_eq!(printable("ä".as_bytes()), "ä");
        assert_eq!(printable(b"a\xff\n"), "a\\xff\\x0a");
    }
}
