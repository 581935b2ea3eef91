//! A mailbox that was worked over: eight folders and more, five thousand messages, with all that may get lost on the way to another machine.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::client::Client;
use super::server::{self, Server};
use super::session::message;
use crate::codecs::random::Random;

/// Messages that are brought in.
pub const MESSAGES: usize = 5_200;

/// Folders that get mail: nested ones, one with a blank, one that is not ASCII (`Entwürfe`, as IMAP spells it; `.Entwürfe` on the disk, where Dovecot is told to do as Courier).
pub const FOLDERS: [&[&str]; 8] = [
    &["INBOX"],
    &["Archive"],
    &["Archive", "2024"],
    &["Archive", "2024", "Q1"],
    &["Zwei Worte"],
    &["Entw&APw-rfe"],
    &["Lists"],
    &["Sent"],
];

const FLAGS: [&str; 6] = [
    "\\Seen",
    "\\Flagged",
    "\\Answered",
    "\\Draft",
    "$Label1",
    "Work-1",
];

const KEYWORDS: [&str; 4] = ["$Label1", "Work-1", "Later", "$Forwarded"];

/// A folder's name as the server spells it, in quotes.
pub fn quoted(server: &dyn Server, parts: &[&str]) -> String {
    if parts == ["INBOX"] {
        return "INBOX".to_owned();
    }
    format!("\"{}\"", server.folder(parts))
}

fn mail(number: usize) -> Vec<u8> {
    message(
        &format!("mail {number}"),
        "Alice <alice@example.org>",
        "Wed, 01 Jan 2020 10:00:00 +0000",
        &"A line.\r\n".repeat(number % 23),
    )
}

/// A script delivers: into `new/`, with a date of its own.
fn deliver(maildir: &Path, number: usize) {
    let seconds = 1_000_000_000 + (number as u64 * 7_919) % 600_000_000;
    server::deliver_dated(
        maildir,
        &mail(number),
        UNIX_EPOCH + Duration::from_secs(seconds),
    );
}

/// Makes the folders, brings the mail in, and works on it until little is where it was.
pub fn work(server: &dyn Server, random: &mut Random) {
    let mut client = server.connect();
    let name = |parts: &[&str]| quoted(server, parts);
    for parts in &FOLDERS[1..] {
        client.ok(&format!("CREATE {}", name(parts)));
    }
    for parts in [&["Empty"][..], &["Old"]] {
        client.ok(&format!("CREATE {}", name(parts)));
    }
    // Courier lists INBOX always.
    for parts in &[
        FOLDERS[0],
        FOLDERS[1],
        FOLDERS[3],
        FOLDERS[4],
        FOLDERS[5],
        &["Sent"],
    ] {
        client.ok(&format!("SUBSCRIBE {}", name(parts)));
    }
    let root = server.mail_root().join("u");
    for number in 0..MESSAGES {
        let parts = FOLDERS[number % FOLDERS.len()];
        if number % 5 > 0 {
            let dir = match parts {
                ["INBOX"] => root.clone(),
                // On the disk in UTF-8.
                _ => root.join(format!(".{}", parts.join(".")).replace("&APw-", "\u{fc}")),
            };
            deliver(&dir, number);
            continue;
        }
        let flags = [
            "",
            "\\Seen",
            "\\Seen \\Flagged",
            "\\Answered $Label1",
            "Work-1",
        ][number / 5 % 5];
        let date = format!(
            "{:2}-Mar-20{} 10:{:02}:00 +0000",
            1 + number % 28,
            10 + number % 9,
            number % 60
        );
        client
            .append(&name(parts), flags, Some(&date), &mail(number))
            .expect_ok("APPEND");
        if number % 400 == 0 {
            touch(&mut client, server, random);
        }
    }
    for _ in 0..60 {
        touch(&mut client, server, random);
    }
    client.ok("CLOSE");
    client.ok(&format!("UNSUBSCRIBE {}", name(&["Sent"])));
    client.ok(&format!("DELETE {}", name(&["Old"])));
    client.ok(&format!(
        "RENAME {} {}",
        name(&["Lists"]),
        name(&["Archive", "Lists"])
    ));
    // The last UID of a folder goes, and must not come back.
    client.ok(&format!("SELECT {}", name(&["Sent"])));
    client.ok("STORE * +FLAGS (\\Deleted)");
    client.ok("EXPUNGE");
    client.ok("CLOSE");
}

/// One thing that a user does with many messages.
fn touch(client: &mut Client, server: &dyn Server, random: &mut Random) {
    let parts = FOLDERS[random.below(FOLDERS.len())];
    let opened = client.ok(&format!("SELECT {}", quoted(server, parts)));
    let count = opened.count("EXISTS").unwrap_or(0) as usize;
    if count < 10 {
        return;
    }
    let first = 1 + random.below(count - 5);
    let range = format!("{first}:{}", (first + random.below(60)).min(count));
    let other = quoted(server, FOLDERS[random.below(FOLDERS.len())]);
    match random.below(7) {
        0 => drop(client.ok(&format!(
            "STORE {range} +FLAGS.SILENT ({})",
            FLAGS[random.below(4)]
        ))),
        1 => drop(client.ok(&format!(
            "STORE {range} -FLAGS.SILENT ({})",
            FLAGS[random.below(6)]
        ))),
        2 => drop(client.ok(&format!(
            "STORE {range} FLAGS.SILENT (\\Seen {})",
            FLAGS[random.below(6)]
        ))),
        3 | 4 => drop(client.ok(&format!(
            "STORE {range} +FLAGS ({})",
            random.pick(&KEYWORDS)
        ))),
        5 => drop(client.ok(&format!("COPY {range} {other}"))),
        _ => {
            let few = format!("{first}:{}", first + random.below(5));
            let moved = client.run(&format!("MOVE {few} {other}"));
            // Courier has no MOVE.
            if !moved.is_ok() {
                client.ok(&format!("COPY {few} {other}"));
                client.ok(&format!("STORE {few} +FLAGS.SILENT (\\Deleted)"));
                client.ok("EXPUNGE");
            }
        }
    }
}
