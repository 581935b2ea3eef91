//! All that a client can see of an account: what must be the same after a remount, on a clone, and on another node.
//!
//! [`take`] compares two servers of one kind: lines stand as the server wrote them. [`take_plain`] compares servers of different kinds: names
//! without the server's prefix, and of each folder and message the facts alone, in a spelling of our own.

use super::client::{Client, number_after};

/// One line a folder and one a message.
pub type Snapshot = Vec<String>;

/// Reads it through a new connection.
#[track_caller]
pub fn take(client: &mut Client) -> Snapshot {
    let mut lines = Vec::new();
    let mut folders = Vec::new();
    for line in client.ok("LIST \"\" *").untagged {
        if !line.contains("\\Noselect") {
            folders.push(listed(&line).to_owned());
        }
        // Marks tell of new mail, which one server sees and the next has seen.
        let marks = ["\\Marked", "\\Unmarked", "\\UnMarked"];
        let line = marks.iter().fold(line, |line, mark| line.replace(mark, ""));
        lines.push(line.replace(" )", ")").replace("( ", "("));
    }
    lines.extend(client.ok("LSUB \"\" *").untagged);
    lines.sort();
    folders.sort();
    for folder in folders {
        let status = client.ok(&format!(
            "STATUS {folder} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
        ));
        lines.extend(status.untagged);
        for line in messages(client, &folder) {
            lines.push(format!("{folder} {}", sorted_flags(&line)));
        }
    }
    lines
}

/// The same in a form that does not depend on the server. `prefix` stands before all names but `INBOX`.
#[track_caller]
pub fn take_plain(client: &mut Client, prefix: &str) -> Snapshot {
    let plain = |name: &str| {
        let name = name.trim_matches('"');
        name.strip_prefix(prefix).unwrap_or(name).to_owned()
    };
    let mut lines = Vec::new();
    for line in client.ok("LSUB \"\" *").untagged {
        // Courier also names the folder above a subscribed one, so marked.
        if !line.contains("\\Noselect") {
            lines.push(format!("subscribed: {}", plain(listed(&line))));
        }
    }
    for line in client.ok("LIST \"\" *").untagged {
        if line.contains("\\Noselect") {
            continue;
        }
        let folder = listed(&line);
        let name = plain(folder);
        let status = client.ok(&format!("STATUS {folder} (MESSAGES UIDNEXT UIDVALIDITY)"));
        let number = |what| status.code(what).unwrap_or_default();
        lines.push(format!(
            "folder {name}: {} messages, UIDVALIDITY {}, UIDNEXT {}",
            number("MESSAGES"),
            number("UIDVALIDITY"),
            number("UIDNEXT"),
        ));
        for line in messages(client, folder) {
            lines.push(format!("message in {name}: {}", facts(&line)));
        }
    }
    lines.sort();
    lines
}

/// The name in a `LIST` or `LSUB` response, as it stands there: quoted where the server quotes it.
fn listed(line: &str) -> &str {
    let rest = line.split_once(") ").map_or(line, |(_, rest)| rest);
    rest.split_once(' ').map_or("", |(_, name)| name)
}

#[track_caller]
fn messages(client: &mut Client, folder: &str) -> Vec<String> {
    let opened = client.ok(&format!("EXAMINE {folder}"));
    if opened.count("EXISTS") == Some(0) {
        return Vec::new();
    }
    let items = "FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]";
    client.ok(&format!("UID FETCH 1:* ({items})")).untagged
}

/// The facts of a `FETCH` response.
#[track_caller]
fn facts(line: &str) -> String {
    let between = |from: &str, to: char| {
        let start = line.find(from)? + from.len();
        line[start..].split(to).next()
    };
    let flags = between("FLAGS (", ')').expect("FLAGS");
    let mut flags: Vec<&str> = flags
        .split_whitespace()
        .filter(|flag| *flag != "\\Recent")
        .collect();
    flags.sort_unstable();
    format!(
        "UID {}, {} bytes, {}, {}, [{}]",
        number_after(line, "UID").expect("UID"),
        number_after(line, "RFC822.SIZE").expect("RFC822.SIZE"),
        between("INTERNALDATE \"", '"')
            .expect("INTERNALDATE")
            .trim(),
        between("\r\nMessage-ID: ", '\r').unwrap_or("without an identity"),
        flags.join(" "),
    )
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

#[test]
fn names_and_facts_are_found() {
    assert_eq!(listed("* LIST (\\HasNoChildren) \".\" \"a b\""), "\"a b\"");
    assert_eq!(listed("* LSUB () \".\" INBOX.x"), "INBOX.x");
    let line = "* 1 FETCH (UID 7 FLAGS (\\Seen \\Recent a) INTERNALDATE \" 1-Feb-2020 10:00:00 +0000\" RFC822.SIZE 9 \
                BODY[HEADER.FIELDS (\"MESSAGE-ID\")] {20}\r\nMessage-ID: <a@b>\r\n\r\n)";
    assert_eq!(
        facts(line),
        "UID 7, 9 bytes, 1-Feb-2020 10:00:00 +0000, <a@b>, [\\Seen a]"
    );
}
