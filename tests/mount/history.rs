//! The history of a mount under load: complete, in order, clean at any instant.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::mounted::{Mounted, git};

/// The `Sequence` trailers of the head's history, oldest first.
fn sequences(repo: &Path) -> Vec<(u64, u64)> {
    let out = git(
        repo,
        &[
            "log",
            "--reverse",
            "--format=%(trailers:key=Sequence,valueonly,separator=)",
            "mail",
        ],
    );
    out.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (first, last) = line.split_once('-').unwrap_or((line, line));
            (
                first.parse().expect("a number"),
                last.parse().expect("a number"),
            )
        })
        .collect()
}

/// Every operation from 1 on exactly once, in order; returns the last.
fn gapless(ranges: &[(u64, u64)]) -> u64 {
    let mut expected = 1;
    for (first, last) in ranges {
        assert_eq!(*first, expected);
        expected = last + 1;
    }
    expected - 1
}

/// One writer: deliveries, flag changes, moves, deletions, each checked for its result. Returns the operations it made.
fn work(folder: &Path, other: &Path, writer: u64, stop: &AtomicBool) -> u64 {
    let mut operations = 0;
    // Held back a little, so that the plain git beside it sees an end of the history it checks.
    for round in 0.. {
        thread::sleep(Duration::from_millis(3));
        if stop.load(Ordering::Relaxed) {
            return operations;
        }
        let name = format!("{}.M{round}P{writer}.vm", 1_795_466_045 + round);
        fs::write(
            folder.join("tmp").join(&name),
            format!("mail {round} of {writer}\n"),
        )
        .unwrap();
        fs::rename(
            folder.join("tmp").join(&name),
            folder.join("new").join(&name),
        )
        .unwrap();
        let seen = format!("{name}:2,S");
        fs::rename(
            folder.join("new").join(&name),
            folder.join("cur").join(&seen),
        )
        .unwrap();
        operations += 2;
        if round % 3 == 0 {
            fs::rename(
                folder.join("cur").join(&seen),
                other.join("cur").join(&seen),
            )
            .unwrap();
            operations += 1;
        } else if round % 5 == 0 {
            fs::remove_file(folder.join("cur").join(&seen)).unwrap();
            operations += 1;
        }
    }
    operations
}

#[test]
fn complete_in_order_and_clean_at_any_instant() {
    let mounted = Mounted::new();
    let folders: Vec<_> = (0..4).map(|n| mounted.maildir(&format!("u{n}"))).collect();
    let archive = mounted.maildir("archive");
    mounted.flush();
    let setup = mounted.status()["journal"]["acknowledged"]
        .as_u64()
        .unwrap();
    let repo = mounted.store().join("repo.git");
    let stop = AtomicBool::new(false);
    let operations = AtomicU64::new(0);
    thread::scope(|scope| {
        for (writer, folder) in folders.iter().enumerate() {
            let (archive, stop, operations) = (&archive, &stop, &operations);
            scope.spawn(move || {
                operations.fetch_add(
                    work(folder, archive, writer as u64, stop),
                    Ordering::Relaxed,
                );
            });
        }
        let started = Instant::now();
        let mut instants = 0;
        while started.elapsed() < Duration::from_secs(12) {
            // Plain git while commits and maintenance go on, an administrator's gc among it.
            mounted.fsck();
            gapless(&sequences(&repo));
            if instants == 2 {
                git(&repo, &["gc", "--quiet"]);
            }
            if instants == 3 {
                let clone = mounted.beside().join("clone.git");
                git(
                    mounted.beside(),
                    &[
                        "clone",
                        "--quiet",
                        "--mirror",
                        repo.to_str().unwrap(),
                        clone.to_str().unwrap(),
                    ],
                );
                gapless(&sequences(&clone));
            }
            instants += 1;
        }
        stop.store(true, Ordering::Relaxed);
        println!("looked at {instants} instants");
        assert!(instants > 3);
    });
    mounted.flush();
    let last = gapless(&sequences(&repo));
    let status = mounted.status();
    assert_eq!(last, status["journal"]["acknowledged"].as_u64().unwrap());
    assert_eq!(last, status["journal"]["committed"].as_u64().unwrap());
    assert_eq!(last - setup, operations.load(Ordering::Relaxed));
    println!("{last} operations, {} packs", status["packs"]);
    mounted.fsck();
}

#[test]
fn a_quiet_mount_commits_each_action_at_once() {
    let mounted = Mounted::new();
    let u = mounted.maildir("u");
    mounted.flush();
    let before = sequences(&mounted.store().join("repo.git")).len();
    for n in 0..5 {
        let name = format!("1795466045.M{n}P1.vm");
        fs::write(u.join("tmp").join(&name), "x").unwrap();
        fs::rename(u.join("tmp").join(&name), u.join("new").join(&name)).unwrap();
        mounted.flush();
    }
    let ranges = sequences(&mounted.store().join("repo.git"));
    assert_eq!(ranges.len(), before + 5);
    let subject = mounted.git(&["log", "-1", "--format=%s", "mail"]);
    assert_eq!(subject.trim(), "deliver u/INBOX 1795466045.M4P1.vm");
}

#[test]
fn equal_mailboxes_have_equal_trees_whatever_was_done() {
    let (one, two) = (Mounted::new(), Mounted::new());
    let names: Vec<String> = (0..300)
        .map(|n| format!("{}.M{n}P1.vm:2,S", 1_795_466_045 + n))
        .collect();
    let write = |folder: &Path, name: &str| {
        let path = folder.join("tmp/x");
        fs::write(&path, name).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_795_466_045);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
        fs::rename(path, folder.join("cur").join(name)).unwrap();
    };
    let (a, b) = (one.maildir("u"), two.maildir("u"));
    for name in &names {
        write(&a, name);
    }
    for name in names.iter().rev() {
        write(&b, &name.replace(":2,S", ":2,T"));
        write(&b, &format!("extra{name}"));
    }
    for name in &names {
        fs::rename(
            b.join("cur").join(name.replace(":2,S", ":2,T")),
            b.join("cur").join(name),
        )
        .unwrap();
        fs::remove_file(b.join("cur").join(format!("extra{name}"))).unwrap();
    }
    // The flagged copies were written under another name's content.
    for name in &names {
        write(&b, name);
    }
    one.flush();
    two.flush();
    // Each folder is made with a GUID of its own.
    for part in ["cur", "new", "tmp"] {
        let tree = format!("mail:u/{part}");
        assert_eq!(
            one.git(&["rev-parse", &tree]),
            two.git(&["rev-parse", &tree])
        );
    }
}
