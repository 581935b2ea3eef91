//! What a server shows is in the history: it is the same after a remount without index files, and on a mirror clone of the repository, whichever server is asked
//! there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::agents::{Far, Mbsync, Synced};
use super::courier::Courier;
use super::dovecot::{Dovecot, Options};
use super::ground::Ground;
use super::server::Server;
use super::snapshot::{self, Snapshot};
use super::works;
use super::{session, tools};
use crate::codecs::random::Random;

/// A server of either kind over a ground, and what is its own.
enum Running {
    Dovecot(Box<Dovecot>),
    Courier(Box<Courier>),
}

impl Running {
    fn dovecot(ground: &Ground) -> Self {
        let index = ground.beside().join("index");
        Self::Dovecot(Box::new(start(ground.root(), &index)))
    }

    fn courier(ground: &Ground) -> Self {
        Self::Courier(Box::new(Courier::start(ground.root())))
    }

    fn server(&self) -> &dyn Server {
        match self {
            Self::Dovecot(server) => server.as_ref(),
            Self::Courier(server) => server.as_ref(),
        }
    }

    fn far(&self) -> Far {
        match self {
            Self::Dovecot(server) => Far::Server(server.address(), "u".to_owned()),
            Self::Courier(server) => Far::Tunnel(server.tunnel("u")),
        }
    }

    /// What it shows, in its own words and in ours.
    #[track_caller]
    fn shows(&self) -> (Snapshot, Snapshot) {
        let prefix = match self {
            Self::Dovecot(_) => "",
            Self::Courier(_) => "INBOX.",
        };
        let own = snapshot::take(&mut self.server().connect());
        (
            own,
            snapshot::take_plain(&mut self.server().connect(), prefix),
        )
    }

    #[track_caller]
    fn assert_silent(&self) {
        let said = self.server().complaints();
        assert!(
            said.is_empty(),
            "the server complains:\n{}",
            said.join("\n")
        );
    }
}

fn start(root: &Path, index: &Path) -> Dovecot {
    tools::mail_dir(index);
    Dovecot::start_with(
        root,
        &Options {
            index: Some(index.to_owned()),
            utf8: true,
            ..Options::default()
        },
    )
}

/// Every file below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("list a directory") {
            let path = entry.expect("list a directory").path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let content = std::fs::read(&path).expect("read a file");
                found.insert(path, content);
            }
        }
    }
    found
}

/// An account that was in sync with one server meets another.
struct Client {
    mbsync: Mbsync,
    folders: u32,
    local: BTreeMap<PathBuf, Vec<u8>>,
}

impl Client {
    #[track_caller]
    fn in_sync_with(running: &Running, beside: &Path) -> Self {
        let mbsync = Mbsync::with(&running.far(), &beside.join("near"));
        let first = mbsync.run();
        let (again, folders) = mbsync.run_over();
        assert_eq!(again, Synced::default(), "not in sync with the first");
        println!(
            "mbsync fetched {} messages from {folders} folders",
            first.fetched
        );
        assert!(
            first.fetched >= 5_000 && folders >= 9,
            "{first:?}, {folders}"
        );
        Self {
            local: files(mbsync.local()),
            mbsync,
            folders,
        }
    }

    /// Nothing is fetched, pushed or flagged, and not a byte changes.
    #[track_caller]
    fn assert_idle_with(&self, running: &Running, what: &str) {
        self.mbsync.reach(&running.far());
        let (done, folders) = self.mbsync.run_over();
        println!("{what}: {folders} folders, {done:?}");
        assert_eq!(done, Synced::default(), "{what}: mbsync had work");
        assert_eq!(folders, self.folders, "{what}");
        let now = files(self.mbsync.local());
        let changed: Vec<_> = self
            .local
            .iter()
            .filter(|(path, content)| now.get(*path) != Some(content))
            .map(|(path, _)| path)
            .collect();
        assert!(
            changed.is_empty() && now.len() == self.local.len(),
            "{what}: {changed:?}"
        );
    }
}

type Start = fn(&Ground) -> Running;

/// Works a mailbox over with one server and looks at it with the same on a clone, then with the other: on a clone, and where it was made.
#[track_caller]
fn clone_test(first: Start, second: Start) {
    let mut random = Random::from_env("clone_test");
    let ground = Ground::mailbraid();
    let running = first(&ground);
    works::work(running.server(), &mut random);
    let client = Client::in_sync_with(&running, ground.beside());
    let (own, plain) = running.shows();
    let count = |word: &str| plain.iter().filter(|line| line.starts_with(word)).count();
    println!(
        "{} folders, {} messages, {} subscriptions",
        count("folder "),
        count("message "),
        count("subscribed: ")
    );
    assert!(count("message ") >= 5_000 && count("folder ") >= 9);
    running.assert_silent();
    drop(running);
    ground.assert_sound();

    let clone = Ground::clone_of(&ground);
    let running = first(&clone);
    let shown = running.shows();
    snapshot::assert_equal(&own, &shown.0, "the same server on a clone");
    snapshot::assert_equal(&plain, &shown.1, "the same server on a clone");
    client.assert_idle_with(&running, "the same server on a clone");
    running.assert_silent();
    drop(running);
    clone.assert_sound();
    drop(clone);

    let clone = Ground::clone_of(&ground);
    let running = second(&clone);
    snapshot::assert_equal(&plain, &running.shows().1, "the other server on a clone");
    client.assert_idle_with(&running, "the other server on a clone");
    running.assert_silent();
    drop(running);
    clone.assert_sound();
    drop(clone);

    let running = second(&ground);
    snapshot::assert_equal(&plain, &running.shows().1, "the other server");
    client.assert_idle_with(&running, "the other server");
    running.assert_silent();
    drop(running);
    let running = first(&ground);
    snapshot::assert_equal(&own, &running.shows().0, "the first server again");
    client.assert_idle_with(&running, "the first server again");
    running.assert_silent();
    drop(running);
    ground.assert_sound();
}

#[test]
fn dovecots_mailbox_is_the_same_on_a_clone_and_with_courier() {
    clone_test(Running::dovecot, Running::courier);
}

#[test]
fn couriers_mailbox_is_the_same_on_a_clone_and_with_dovecot() {
    clone_test(Running::courier, Running::dovecot);
}

#[test]
fn dovecot_after_a_remount_without_its_index_files() {
    let mut ground = Ground::mailbraid();
    let root = ground.root().to_owned();
    let index = ground.beside().to_owned();
    let dovecot = start(&root, &index.join("index-1"));
    let mut client = dovecot.login("u");
    for folder in ["Archive", "Empty"] {
        client.ok(&format!("CREATE {folder}"));
    }
    client.ok("SUBSCRIBE Archive");
    for number in 0..24_usize {
        let folder = ["INBOX", "Archive"][number % 2];
        let flags = ["\\Seen", "", "\\Flagged $Label1", "Later", "Work-1"][number % 5];
        let text = session::message(
            &format!("mail {number}"),
            "Alice <alice@example.org>",
            "Wed, 01 Jan 2020 10:00:00 +0000",
            "Hello.",
        );
        let date = format!("{:2}-Feb-2011 10:00:00 +0000", 1 + number);
        client
            .append(folder, flags, Some(&date), &text)
            .expect_ok("APPEND");
    }
    client.ok("SELECT Archive");
    client.ok("STORE 2,12 +FLAGS (\\Deleted)");
    client.ok("EXPUNGE");
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
