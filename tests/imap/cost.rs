//! What a delivery into a large folder adds to the repository.

use std::path::Path;
use std::time::{Duration, Instant};

use mailbraid::history::{InitOptions, Maintenance, Repo, maintain};
use mailbraid::maildir::{Attrs, Content, HashKind, MailboxFacts, Op, TreePath};
use mailbraid::store::{Backing, OpenOptions, Store};

use super::dovecot::{Dovecot, Options};
use super::ground::Ground;
use super::server;
use super::session::message;
use super::tools;
use crate::support::mounted::git;

/// Messages in the folder.
const MESSAGES: u32 = 100_000;
/// Deliveries of each kind, a commit each.
const DELIVERIES: u32 = 100;
/// Seconds that merged packs stay.
const GRACE: u64 = 2;
/// Bytes that one may add beyond the message itself.
const BOUND: u64 = 2 * 1024;

/// A store whose user `u` has an inbox that Dovecot has numbered.
fn prepare(path: &Path) {
    let options = OpenOptions {
        create: Some(InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        }),
        ..OpenOptions::default()
    };
    let store = Store::open(path, &options).expect("a new store");
    let append = |op: &Op| {
        store.wait_room();
        store.append(op).expect("room in the journal");
    };
    for dir in ["u", "u/cur", "u/new", "u/tmp"] {
        append(&Op::Mkdir {
            path: TreePath::new(dir),
        });
    }
    append(&Op::SetMailbox {
        folder: TreePath::new("u"),
        facts: MailboxFacts {
            uid_validity: 1_700_000_000,
            uid_next: 1,
            guid: Some(b"5c2f1a0b9d8e7f6a5c2f1a0b9d8e7f6a".to_vec()),
            ..MailboxFacts::default()
        },
    });
    for number in 1..=MESSAGES {
        let content = format!("Subject: {number}\n\nA line.\n").into_bytes();
        let time = 1_600_000_000 + i64::from(number) * 61;
        let path = format!(
            "u/cur/{time}.M{}P{}.vm,S={},W={}:2,S",
            number % 999_983,
            number % 30_011,
            content.len(),
            content.len() + 3
        );
        append(&Op::Put {
            path: TreePath::new(&path),
            oid: store.hash(&content),
            attrs: Attrs {
                uid: Some(number),
                mtime: time,
                size: content.len() as u64,
                ..Attrs::default()
            },
            content: Content::Inline(content),
        });
    }
    store.flush().expect("room in the repository");
    drop(store);
    merged(path);
}

/// Bytes of all object files, indices included. Maintenance may take one away meanwhile: it is gone then, as it will be a moment later.
fn bytes(store: &Path) -> u64 {
    let mut sum = 0;
    let mut todo = vec![store.join("repo.git/objects")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("list objects") {
            let entry = entry.expect("list objects");
            let data = match entry.metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                data => data.expect("stat"),
            };
            if data.is_dir() {
                todo.push(entry.path());
            } else {
                sum += data.len();
            }
        }
    }
    sum
}

/// The same after all packs have been merged, as maintenance does in the end.
fn merged(store: &Path) -> u64 {
    let repo = Repo::open(&store.join("repo.git")).expect("a repository");
    maintain(&repo, Maintenance::Full).expect("packs can be merged");
    bytes(store)
}

/// Bytes that the blobs of the files in `u/new` and `u/cur` take, which were not there at `base`.
fn blobs(repo: &Path, base: &str) -> (u64, usize) {
    let added = git(
        repo,
        &[
            "diff-tree",
            "-r",
            "--no-renames",
            "--diff-filter=A",
            "--format=",
            base,
            "HEAD",
        ],
    );
    let ids: std::collections::BTreeSet<&str> = added
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    let all = git(
        repo,
        &[
            "cat-file",
            "--batch-all-objects",
            "--batch-check=%(objectname) %(objecttype) %(objectsize:disk)",
        ],
    );
    let mut found = (0, 0);
    for line in all.lines() {
        let mut words = line.split(' ');
        if words.next().is_some_and(|id| ids.contains(id)) && words.next() == Some("blob") {
            let size: u64 = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
            found = (found.0 + size, found.1 + 1);
        }
    }
    found
}

fn start(ground: &Ground) -> Dovecot {
    let index = ground.beside().join("index");
    tools::mail_dir(&index);
    let options = Options {
        index: Some(index),
        ..Options::default()
    };
    Dovecot::start_with(ground.root(), &options)
}

/// Opens the folder, which must hold this many messages and UIDs.
#[track_caller]
fn look(dovecot: &Dovecot, messages: u32) {
    let opened = dovecot.login("u").ok("SELECT INBOX");
    assert_eq!(opened.count("EXISTS"), Some(messages));
    assert_eq!(opened.code("UIDNEXT"), Some(u64::from(messages) + 1));
}

/// Waits until the mount's own maintenance has nothing left to do: the same files for as long as it leaves a merged pack, and more.
fn rested(store: &Path) -> u64 {
    let packs = || {
        let listing = std::fs::read_dir(store.join("repo.git/objects/pack")).expect("list packs");
        let names = listing.map(|entry| entry.expect("list packs").file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let since = Instant::now();
    let (mut seen, mut still) = (packs(), Instant::now());
    while still.elapsed() < Duration::from_secs(GRACE + 4) {
        assert!(
            since.elapsed() < Duration::from_secs(120),
            "maintenance does not come to rest: {seen:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
        let now = packs();
        if now != seen {
            (seen, still) = (now, Instant::now());
        }
    }
    bytes(store)
}

/// Delivers one mail to a store at rest: what it adds beyond the message, at rest again and at once.
fn lone(ground: &mut Ground, subject: &str) -> (u64, u64) {
    let store = ground.mounted().store().to_owned();
    let repo = store.join("repo.git");
    let before = rested(&store);
    let base = git(&repo, &["rev-parse", "HEAD"]).trim().to_owned();
    let mail = message(
        subject,
        "Alice <alice@example.org>",
        "Wed, 01 Jan 2020 10:00:00 +0000",
        "One line.\r\n",
    );
    server::deliver_plainly(&ground.root().join("u"), &mail);
    ground.mounted().flush();
    let at_once = bytes(&store).saturating_sub(before);
    let after = rested(&store).saturating_sub(before);
    let (own, count) = blobs(&repo, &base);
    assert_eq!(count, 1);
    (after.saturating_sub(own), at_once.saturating_sub(own))
}

/// Mails that come one by one.
const LONE: u32 = 3;

#[test]
fn a_delivery_adds_little_to_the_repository() {
    let mut ground = Ground::prepared(prepare);
    let store = ground.mounted().store().to_owned();
    let repo = store.join("repo.git");
    git(
        &repo,
        &["config", "mailbraid.packGrace", &GRACE.to_string()],
    );
    let mut messages = MESSAGES;
    for by in ["a script", "Dovecot's LMTP"] {
        let dovecot = start(&ground);
        look(&dovecot, messages);
        let uidlist =
            std::fs::metadata(ground.root().join("u/dovecot-uidlist")).expect("a uidlist");
        assert!(uidlist.len() > 4_000_000, "{} bytes", uidlist.len());
        drop(dovecot);
        ground.mounted().unmount();
        let before = merged(&store);
        let base = git(&repo, &["rev-parse", "HEAD"]).trim().to_owned();

        ground.mounted().mount();
        let dovecot = start(&ground);
        let mut lmtp = dovecot.lmtp();
        for number in 0..DELIVERIES {
            let mail = message(
                &format!("{by} {number}"),
                "Alice <alice@example.org>",
                "Wed, 01 Jan 2020 10:00:00 +0000",
                &format!("Line {number}.\r\n").repeat(40),
            );
            if by == "a script" {
                server::deliver_plainly(&ground.root().join("u"), &mail);
            } else {
                lmtp.deliver("u", &mail);
            }
            ground.mounted().flush();
        }
        let at_once = bytes(&store);
        let after = rested(&store);
        dovecot.assert_silent();
        drop(lmtp);
        drop(dovecot);
        let range = format!("{base}..HEAD");
        let commits = git(&repo, &["rev-list", "--count", &range]);
        let commits: u32 = commits.trim().parse().expect("a number");
        let (own, count) = blobs(&repo, &base);
        ground.mounted().unmount();
        let least = merged(&store);
        ground.mounted().mount();

        let each = |bytes: u64| bytes.saturating_sub(before + own) / u64::from(DELIVERIES);
        println!(
            "{by}: {DELIVERIES} deliveries into {messages} messages, {commits} commits, {count} blobs of {own} bytes: {} bytes each beyond the message \
             at rest, {} at once, {} when all packs are merged",
            each(after),
            each(at_once),
            each(least),
        );
        assert_eq!(count, DELIVERIES as usize);
        assert!(commits >= DELIVERIES, "a commit each");
        assert!(each(after) <= BOUND, "{} bytes each", each(after));
        messages += DELIVERIES;
    }
    // One mail now and then, each into a store that has come to rest. The first meets all packs merged into one, as `git gc` leaves them, and what maintenance at rest puts beside
    // it. With a hundred unread mails the trees are larger than where a reader has seen what there is.
    for unread in [DELIVERIES, 0] {
        if unread == 0 {
            let dovecot = start(&ground);
            look(&dovecot, messages);
            drop(dovecot);
            ground.mounted().unmount();
            merged(&store);
            ground.mounted().mount();
        }
        let new = std::fs::read_dir(ground.root().join("u/new")).expect("list new");
        assert_eq!(new.count(), unread as usize);
        for number in 0..=LONE {
            let (beyond, at_once) = lone(&mut ground, &format!("{unread} unread, {number}"));
            println!(
                "{unread} unread mails, lone mail {number}: {beyond} bytes beyond the message at rest, {at_once} at once"
            );
            assert!(beyond <= BOUND, "{beyond} bytes");
            assert!(unread > 0 || at_once <= BOUND, "{at_once} bytes at once");
            messages += 1;
        }
    }
    let dovecot = start(&ground);
    look(&dovecot, messages);
    dovecot.assert_silent();
    drop(dovecot);
    ground.assert_sound();
}
