//! All that a client can see of an account: what must be the same after a remount, on a clone, and on another node.

use super::client::Client;

/// One line a folder and one a message.
pub type Snapshot = Vec<String>;

/// Reads it through a new connection.
#[track_caller]
pub fn take(client: &mut Client) -> Snapshot {
    let mut lines = Vec::new();
    let mut folders = Vec::new();
    for line in client.ok("LIST \"\" *").untagged {
        let name = line.rsplit(' ').next().unwrap_or("").to_owned();
        if !line.contains("\\Noselect") {
            folders.push(name.clone());
        }
        // Marks tell of new mail, which one server sees and the next has seen.
        let marks = ["\\Marked ", "\\Unmarked ", "\\Marked", "\\Unmarked"];
        let line = marks.iter().fold(line, |line, mark| line.replace(mark, ""));
        lines.push(line);
    }
    lines.extend(client.ok("LSUB \"\" *").untagged);
    lines.sort();
    folders.sort();
    for folder in folders {
        let status = client.ok(&format!(
            "STATUS {folder} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
        ));
        lines.extend(status.untagged);
        client.ok(&format!("EXAMINE {folder}"));
        let fetched = client.ok(
            "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])",
        );
        for line in fetched.untagged {
            lines.push(format!("{folder} {}", sorted_flags(&line)));
        }
    }
    lines
}

/// Without `\Recent`, which each message is to one session only, and in the order of the alphabet.
fn sorted_flags(line: &str) -> String {
    let Some(start) = line.find("FLAGS (").map(|at| at + "FLAGS (".len()) else {
        return line.to_owned();
    };
    let end = line[start..].find(')').map_or(line.len(), |at| start + at);
    let mut flags: Vec<&str> = line[start..end]
        .split_whitespace()
        .filter(|flag| *flag != "\\Recent")
        .collect();
    flags.sort_unstable();
    format!("{}{}{}", &line[..start], flags.join(" "), &line[end..])
}

/// Panics with a readable difference unless both are equal.
#[track_caller]
pub fn assert_equal(before: &Snapshot, after: &Snapshot, what: &str) {
    if let Some(difference) = super::transcript::difference(before, after) {
        panic!("{what} (- before, + after):\n{difference}");
    }
}
