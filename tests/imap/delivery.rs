//! maildrop, procmail and LMTP deliver, and mbsync synchronises: what arrives is what was sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::agents::{self, Mbsync, Synced};
use super::dovecot::{Dovecot, Options};
use super::ground::Ground;
use super::postfix::{self, Postfix};
use super::session::message;
use super::tools;

/// A mail with LF line ends, as a delivery agent on Unix gets it.
fn mail(number: usize, body_lines: usize) -> Vec<u8> {
    let body = format!("line of mail {number}\r\n").repeat(body_lines);
    let text = message(
        &format!("mail {number}"),
        "Alice <alice@example.org>",
        "Wed, 01 Jan 2020 10:00:00 +0000",
        &body,
    );
    String::from_utf8(text)
        .expect("ASCII")
        .replace("\r\n", "\n")
        .into_bytes()
}

/// The contents of all messages of a Maildir, each with how often it is there.
fn contents(maildir: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut found = BTreeMap::new();
    for sub in ["new", "cur"] {
        for entry in std::fs::read_dir(maildir.join(sub)).expect("list a Maildir") {
            let path = entry.expect("list a Maildir").path();
            let content = std::fs::read(&path).expect("read a message");
            *found.entry(content).or_default() += 1;
        }
    }
    found
}

fn once(mails: &[Vec<u8>]) -> BTreeMap<Vec<u8>, usize> {
    mails.iter().map(|mail| (mail.clone(), 1)).collect()
}

/// Delivers with both agents, small mails and one of a megabyte, and looks for exactly these.
#[track_caller]
pub fn agents_deliver(ground: &Ground) {
    let maildir = ground.root().join("u");
    for sub in ["", "cur", "new", "tmp"] {
        tools::mail_dir(&maildir.join(sub));
    }
    let mails: Vec<Vec<u8>> = (0..10)
        .map(|number| mail(number, if number == 9 { 60_000 } else { 3 }))
        .collect();
    for (number, mail) in mails.iter().enumerate() {
        if number % 2 == 0 {
            agents::maildrop(&maildir, mail);
        } else {
            agents::procmail(&maildir, mail);
        }
    }
    assert_eq!(contents(&maildir), once(&mails));
    let left = std::fs::read_dir(maildir.join("tmp")).expect("list tmp/");
    assert_eq!(left.count(), 0, "something was left in tmp/");
}

/// mbsync brings the mail of a server over `server` to Maildirs on `client`, then flags, new mail and deletions both ways.
#[track_caller]
pub fn mbsync_synchronises(server: &Ground, client: &Ground) {
    let dovecot = Dovecot::start(server.root());
    let mut imap = dovecot.login("u");
    imap.ok("CREATE Archive");
    let dates = ["01-Feb-2020 10:00:00 +0000", "02-Feb-2021 11:00:00 +0100"];
    for number in 0..20 {
        let folder = ["INBOX", "Archive"][number % 2];
        let flags = ["\\Seen", "", "\\Flagged \\Answered"][number % 3];
        imap.append(folder, flags, Some(dates[number % 2]), &mail(number, 3))
            .expect_ok("APPEND");
    }
    let mbsync = Mbsync::new(dovecot.address(), "u", &client.root().join("near"));
    let first = mbsync.run();
    assert_eq!((first.fetched, first.pushed), (20, 0));
    assert_eq!(mbsync.run(), Synced::default(), "the second run found work");

    // Near to far: a new mail and a flag. Far to near: a flag and an expunge.
    let inbox = mbsync.local().join("INBOX");
    let mut names: Vec<_> = std::fs::read_dir(inbox.join("new"))
        .expect("list new/")
        .map(|entry| entry.expect("list new/").file_name().into_string())
        .map(|name| name.expect("a name in ASCII"))
        .filter(|name| name.ends_with(":2,"))
        .collect();
    names.sort();
    let name = names.first().expect("a message without flags");
    let flagged = format!("{name}F");
    std::fs::rename(
        inbox.join("new").join(name),
        inbox.join("cur").join(flagged),
    )
    .expect("flag a message");
    agents::maildrop(&mbsync.local().join("Archive"), &mail(100, 3));
    imap.ok("SELECT Archive");
    imap.ok("STORE 1 +FLAGS (\\Draft)");
    imap.ok("STORE 2 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    let done = mbsync.run();
    // Two flags, and the expunge, which travels as the flag T.
    assert_eq!(
        done,
        Synced {
            pushed: 1,
            fetched: 0,
            flagged: 3,
            trashed: 0
        }
    );
    assert_eq!(mbsync.run(), Synced::default(), "the last run found work");

    let mut imap = dovecot.login("u");
    for folder in ["INBOX", "Archive"] {
        let reply = imap.ok(&format!("STATUS {folder} (MESSAGES)"));
        assert_eq!(reply.code("MESSAGES"), Some(10), "{folder}");
        let far = match folder {
            "INBOX" => server.root().join("u"),
            _ => server.root().join("u/.Archive"),
        };
        assert_eq!(
            dates_and_contents(&far),
            dates_and_contents(&mbsync.local().join(folder)),
            "{folder} differs between server and client"
        );
    }
    dovecot.assert_silent();
}

/// Content, flags and time in seconds of every message.
fn dates_and_contents(maildir: &Path) -> Vec<(String, String, u64)> {
    let mut found = Vec::new();
    for sub in ["new", "cur"] {
        for entry in std::fs::read_dir(maildir.join(sub)).expect("list a Maildir") {
            let path = entry.expect("list a Maildir").path();
            // mbsync writes a header of its own into what it copies to IMAP.
            let content = String::from_utf8(std::fs::read(&path).expect("read a message"))
                .expect("ASCII")
                .lines()
                .filter(|line| !line.starts_with("X-TUID:"))
                .map(|line| format!("{line}\n"))
                .collect::<String>();
            let name = path.to_string_lossy().into_owned();
            let flags = name.rsplit_once(":2,").map_or("", |(_, flags)| flags);
            let time = std::fs::metadata(&path)
                .and_then(|data| data.modified())
                .expect("a time")
                .duration_since(std::time::UNIX_EPOCH)
                .expect("after 1970");
            found.push((content, flags.to_owned(), time.as_secs()));
        }
    }
    found.sort();
    found
}

/// Postfix takes mail by SMTP and hands it to Dovecot's LMTP, with the README's configuration of both.
#[track_caller]
pub fn postfix_hands_on(ground: &Ground) {
    let mut postfix = Postfix::prepare();
    let options = Options {
        postfix: Some((postfix.private(), postfix::OWNER.0.to_owned())),
        index: Some(index_dir(ground)),
        ..Options::default()
    };
    let dovecot = Dovecot::start_with(ground.root(), &options);
    postfix.start();
    for number in 0..3 {
        postfix.send("u@example.org", &mail(number, 3));
    }
    let mut imap = dovecot.login("u");
    imap.ok("SELECT INBOX");
    let found = imap
        .ok("SEARCH HEADER Delivered-To u@example.org")
        .numbers();
    assert_eq!(found, [1, 2, 3]);
    let body = imap.ok("FETCH 2 BODY[TEXT]").untagged.join("\n");
    assert!(body.contains("line of mail 1"), "{body}");
    dovecot.assert_silent();
}

/// A directory for index files beside the mail.
fn index_dir(ground: &Ground) -> PathBuf {
    let dir = ground.beside().join("index");
    tools::mail_dir(&dir);
    dir
}

#[test]
fn agents_deliver_to_the_mount() {
    let ground = Ground::mailbraid();
    agents_deliver(&ground);
    ground.assert_sound();
}

#[test]
fn postfix_to_the_mount() {
    let ground = Ground::mailbraid();
    postfix_hands_on(&ground);
    ground.assert_sound();
}

#[test]
fn mbsync_with_a_server_on_the_mount() {
    let server = Ground::mailbraid();
    mbsync_synchronises(&server, &Ground::plain());
    server.assert_sound();
}

#[test]
fn mbsync_with_its_maildirs_on_the_mount() {
    let client = Ground::mailbraid();
    mbsync_synchronises(&Ground::plain(), &client);
    client.assert_sound();
}

#[test]
fn postfix_to_the_plain_filesystem() {
    postfix_hands_on(&Ground::plain());
}

#[test]
fn agents_deliver_to_the_plain_filesystem() {
    agents_deliver(&Ground::plain());
}

#[test]
fn mbsync_between_plain_filesystems() {
    mbsync_synchronises(&Ground::plain(), &Ground::plain());
}
