//! What Dovecot shows is in the history: it is the same after a remount without index files, and on a mirror clone of the repository.

use std::path::Path;

use super::agents::{Mbsync, Synced};
use super::client::Client;
use super::dovecot::{Dovecot, Options};
use super::ground::Ground;
use super::session::message;
use super::snapshot;
use super::tools;

/// Mail in several folders, with dates, flags, keywords and gaps among the UIDs.
fn work(client: &mut Client) {
    for folder in ["Archive", "Archive.2024", "Empty", "Lists"] {
        client.ok(&format!("CREATE {folder}"));
    }
    client.ok("SUBSCRIBE Archive");
    client.ok("SUBSCRIBE Archive.2024");
    for number in 0..24_usize {
        let folder = ["INBOX", "Archive", "Lists"][number % 3];
        let flags = [
            "\\Seen",
            "",
            "\\Flagged $Label1",
            "\\Answered Later",
            "Work-1",
        ][number % 5];
        let date = format!(
            "{:2}-Feb-20{} 10:{number:02}:00 +0000",
            1 + number,
            10 + number % 9
        );
        let text = message(
            &format!("mail {number}"),
            "Alice <alice@example.org>",
            "Wed, 01 Jan 2020 10:00:00 +0000",
            "Hello.",
        );
        client
            .append(folder, flags, Some(&date), &text)
            .expect_ok("APPEND");
    }
    client.ok("SELECT Lists");
    client.ok("STORE 2,5 +FLAGS (\\Deleted)");
    client.ok("EXPUNGE");
    client.ok("MOVE 1:2 Archive.2024");
    client.ok("STORE 1 +FLAGS (Urgent)");
    client.ok("SELECT Archive");
    client.ok("COPY 3:4 Archive.2024");
    // The last UID goes, and must not come back.
    client.ok("STORE 8 +FLAGS (\\Deleted)");
    client.ok("EXPUNGE");
    client.ok("SELECT INBOX");
    client.ok("UID STORE 3 -FLAGS ($Label1)");
    client.ok("RENAME Lists Archive.Lists");
}

fn start(root: &Path, index: &Path) -> Dovecot {
    tools::mail_dir(index);
    Dovecot::start_with(
        root,
        &Options {
            index: Some(index.to_owned()),
            ..Options::default()
        },
    )
}

#[test]
fn dovecot_after_a_remount_without_its_index_files() {
    let mut ground = Ground::mailbraid();
    let root = ground.root().to_owned();
    let index = ground.beside().to_owned();
    let dovecot = start(&root, &index.join("index-1"));
    work(&mut dovecot.login("u"));
    let before = snapshot::take(&mut dovecot.login("u"));
    dovecot.assert_silent();
    drop(dovecot);
    ground.mounted().unmount();
    ground.mounted().mount();
    let dovecot = start(&root, &index.join("index-2"));
    let after = snapshot::take(&mut dovecot.login("u"));
    snapshot::assert_equal(&before, &after, "after a remount");
    dovecot.assert_silent();
    drop(dovecot);
    ground.assert_sound();
}

#[test]
fn dovecot_and_mbsync_on_a_clone() {
    let ground = Ground::mailbraid();
    let dovecot = start(ground.root(), &ground.beside().join("index"));
    work(&mut dovecot.login("u"));
    let mbsync = Mbsync::new(dovecot.address(), "u", &ground.beside().join("near"));
    mbsync.run();
    assert_eq!(
        mbsync.run(),
        Synced::default(),
        "not in sync with the first"
    );
    let before = snapshot::take(&mut dovecot.login("u"));
    dovecot.assert_silent();
    ground.assert_sound();

    let clone = Ground::clone_of(&ground);
    let second = start(clone.root(), &clone.beside().join("index"));
    let after = snapshot::take(&mut second.login("u"));
    snapshot::assert_equal(&before, &after, "on a clone");
    mbsync.point_at(second.address(), "u");
    assert_eq!(
        mbsync.run(),
        Synced::default(),
        "the clone made mbsync work"
    );
    second.assert_silent();
    drop(second);
    clone.assert_sound();
}
