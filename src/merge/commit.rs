//! The text of a merge commit: the same bytes wherever it is made.
//!
//! ```text
//! tree <merged tree>
//! parent <heads, ascending>
//! author mailbraid <braid> <time> +0000
//! committer mailbraid <braid> <time> +0000
//!
//! braid 1f0c5f2d8a0b 9b3e…
//!
//! expunged and undeleted, kept: INBOX/cur/1795466045.M6P1.vm
//! …
//! ```
//!
//! - Parents ascend by id. A head that is an ancestor of another is none.
//! - The identity is fixed, whoever makes the commit: [`IDENTITY`] in the place of a node's name.
//! - The time is that of the newest parent: no clock is asked, and time does not run backwards along the history.
//! - The message names the heads by [`ABBREVIATED`] digits and lists the conflicts, sorted, each a line, at most [`LISTED`] of them. Bytes that are no UTF-8 and control
//!   characters are replaced, so the message is UTF-8, git's default encoding.

use std::fmt::Write;

use super::conflict::Conflict;
use crate::maildir::Oid;

/// Stands where the commits of a node have its name.
pub const IDENTITY: &str = "braid";

/// Digits of a head's id in the subject.
pub const ABBREVIATED: usize = 12;

/// Most conflicts that a message lists. The rest is counted: a merge of two mailboxes that never met may have one for every message.
pub const LISTED: usize = 1000;

/// The message of the merge of `parents`.
#[must_use]
pub fn message(parents: &[Oid], conflicts: &[Conflict]) -> String {
    let mut text = "braid".to_owned();
    for parent in parents {
        let id = parent.to_string();
        text.push(' ');
        text.push_str(&id[..ABBREVIATED]);
    }
    text.push('\n');
    if conflicts.is_empty() {
        return text;
    }
    text.push('\n');
    for conflict in conflicts.iter().take(LISTED) {
        let line = conflict.to_string();
        text.extend(
            line.chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c }),
        );
        text.push('\n');
    }
    if conflicts.len() > LISTED {
        // Writing to a string does not fail.
        let _ = writeln!(text, "and {} more", conflicts.len() - LISTED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::TreePath;

    fn undeleted(path: &str) -> Conflict {
        Conflict::Undeleted {
            path: TreePath::new(path),
        }
    }

    #[test]
    fn the_message_names_heads_and_conflicts() {
        let heads = [0x1f, 0x9b].map(|byte| Oid::from_bytes(&[byte; 20]).unwrap());
        assert_eq!(message(&heads, &[]), "braid 1f1f1f1f1f1f 9b9b9b9b9b9b\n");
        assert_eq!(
            message(&heads, &[undeleted("u/cur/1\n.\u{e9}")]),
            "braid 1f1f1f1f1f1f 9b9b9b9b9b9b\n\nexpunged and undeleted, kept: u/cur/1\u{fffd}.\u{e9}\n"
        );
    }

    #[test]
    fn many_conflicts_are_counted() {
        let all = vec![undeleted("x"); LISTED + 5];
        let text = message(&[], &all);
        assert!(text.ends_with("and 5 more\n"));
        assert_eq!(text.lines().count(), LISTED + 3);
    }
}
