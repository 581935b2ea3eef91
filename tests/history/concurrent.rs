//! A writer, readers, maintenance and an administrator's git, all at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::*;
use mailbraid::history::{Maintenance, Reader, Repo, Writer, maintain};
use mailbraid::maildir::{HashKind, Oid, Op, TreePath};

const KIND: HashKind = HashKind::Sha1;

/// Stops the other threads when the first one ends, by success or by panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One round of work: a delivery, a flag change, now and then a removal; the commit's subject says how many mails there are.
fn round(writer: &mut Writer, number: usize, count: &mut usize) {
    let content = format!("Subject: {number}\n\n{}\n", "body ".repeat(number % 90));
    put(
        writer,
        KIND,
        format!("u/cur/{number}.vm:2,"),
        content.as_bytes(),
    );
    // The same content again, under another name: found in the repository, wherever git has put it by now.
    if number > 10 {
        let older = number - 10;
        let content = format!("Subject: {older}\n\n{}\n", "body ".repeat(older % 90));
        put(
            writer,
            KIND,
            format!("u/new/{number}.copy"),
            content.as_bytes(),
        );
    }
    *count += 1;
    if number > 3 {
        rename(
            writer,
            &format!("u/cur/{}.vm:2,", number - 3),
            &format!("u/cur/{}.vm:2,S", number - 3),
        );
    }
    if number > 20 && number.is_multiple_of(4) {
        let path = path(format!("u/cur/{}.vm:2,S", number - 20));
        writer.apply(&Op::Remove { path }, None).unwrap();
        *count -= 1;
    }
    writer
        .commit(&text(&count.to_string(), number as i64))
        .unwrap();
    writer.flush().unwrap();
}

/// What the head's commit says is what its tree holds, and every mail can be read.
fn check_head(repo: &Repo, reader: &Reader, seen: &mut BTreeSet<Oid>) {
    let Some(head) = repo.head().unwrap() else {
        return;
    };
    let commit = reader.commit(head).unwrap();
    let count: usize = String::from_utf8(commit.message)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let cur = reader.lookup(commit.tree, &path("u/cur")).unwrap().unwrap();
    let mails = reader.dir(cur.oid).unwrap();
    assert_eq!(mails.len(), count);
    for mail in mails {
        if seen.insert(mail.oid) {
            assert!(reader.blob(mail.oid).unwrap().starts_with(b"Subject: "));
        }
    }
}

fn run(rounds: usize, admin: impl Fn(&Store, usize) + Sync) {
    let store = Store::new(KIND);
    let stop = AtomicBool::new(false);
    let admin_rounds = AtomicUsize::new(0);
    let checks = AtomicUsize::new(0);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    let mut count = 0;
    // git has nothing to say of a repository without a pack but that it is an error.
    round(&mut writer, 0, &mut count);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = store.repo.reader();
                let mut seen = BTreeSet::new();
                while !stop.load(Ordering::SeqCst) {
                    check_head(&store.repo, &reader, &mut seen);
                    checks.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                admin(&store, number);
                number += 1;
                admin_rounds.store(number, Ordering::SeqCst);
            }
        });
        let _stop = Stop(&stop);
        let since = Instant::now();
        let mut number = 1;
        // At least so many rounds, and until the administrator has had five turns.
        while number < rounds
            || (admin_rounds.load(Ordering::SeqCst) < 5
                && since.elapsed() < Duration::from_secs(60))
        {
            round(&mut writer, number, &mut count);
            number += 1;
        }
        writer.flush().unwrap();
        assert_eq!(
            store.git(&["rev-list", "--count", "mail"]).trim(),
            number.to_string()
        );
    });
    assert!(checks.load(Ordering::SeqCst) > 5);
    assert!(admin_rounds.load(Ordering::SeqCst) >= 5);
    store.fsck();
    let reader = store.repo.reader();
    check_head(&store.repo, &reader, &mut BTreeSet::new());
}

#[test]
fn readers_and_maintenance_beside_a_writer() {
    run(150, |store, number| {
        let how = if number.is_multiple_of(3) {
            Maintenance::Full
        } else {
            Maintenance::Geometric
        };
        maintain(&store.repo, how).unwrap();
    });
}

#[test]
fn an_administrators_git_beside_a_writer() {
    run(100, |store, number| {
        let commands: [&[&str]; 5] = [
            &["gc", "-q"],
            &["repack", "-adfq"],
            &["repack", "-dq"],
            &["gc", "-q", "--prune=now"],
            &["pack-refs", "--all"],
        ];
        store.git(commands[number % commands.len()]);
    });
}

/// Maintenance and git take each other's packs away: either may find them gone and give up, nothing is lost.
#[test]
fn an_administrators_git_beside_maintenance() {
    let gave_up = AtomicUsize::new(0);
    let [git_done, git_gave_up] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    run(100, |store, number| {
        std::thread::scope(|scope| {
            // git looks for what is gone once more, and then says "Could not read".
            scope.spawn(|| match try_git(store.repo.path(), &["repack", "-adq"]) {
                Ok(_) => git_done.fetch_add(1, Ordering::SeqCst),
                Err(said) => {
                    println!("git gave up: {said}");
                    git_gave_up.fetch_add(1, Ordering::SeqCst)
                }
            });
            for _ in 0..3 {
                if maintain(&store.repo, Maintenance::Full).is_err() {
                    gave_up.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        if number.is_multiple_of(2) {
            store.git(&["multi-pack-index", "write"]);
        }
    });
    println!(
        "maintenance gave up {} times",
        gave_up.load(Ordering::SeqCst)
    );
    println!("git gave up {git_gave_up:?} times");
    assert!(
        git_done.into_inner() > 0,
        "git came to an end at least once"
    );
}

#[test]
fn a_writer_goes_on_after_its_packs_were_rewritten() {
    for kind in [HashKind::Sha1, HashKind::Sha256] {
        let store = Store::new(kind);
        let mut writer = store.writer();
        mkfolder(&mut writer, "u");
        for number in 0..200 {
            put(
                &mut writer,
                kind,
                format!("u/cur/{number}.vm:2,"),
                format!("{number}\n").as_bytes(),
            );
            if number % 7 == 6 {
                writer.commit(&text("deliver", number)).unwrap();
                writer.flush().unwrap();
            }
            match number % 40 {
                10 => drop(store.git(&["repack", "-adfq"])),
                20 => drop(store.git(&["gc", "-q", "--aggressive", "--prune=now"])),
                30 => drop(maintain(&store.repo, Maintenance::Full).unwrap()),
                _ => {}
            }
        }
        for number in 0..200 {
            rename(
                &mut writer,
                &format!("u/cur/{number}.vm:2,"),
                &format!("u/cur/{number}.vm:2,F"),
            );
        }
        writer.commit(&text("flag", 300)).unwrap();
        let head = writer.flush().unwrap().unwrap();
        store.fsck();
        maintain(&store.repo, Maintenance::Full).unwrap();
        store.fsck();
        let clone = store.dir.path().join("clone.git");
        git(
            store.dir.path(),
            &["clone", "-q", "--mirror", "repo.git", "clone.git"],
        );
        assert_eq!(git(&clone, &["rev-parse", "mail"]).trim(), head.to_string());
        // A clone becomes a store by its config.
        git(&clone, &["config", "mailbraid.format", "1"]);
        git(&clone, &["config", "mailbraid.node", "b"]);
        let clone = Repo::open(&clone).unwrap();
        let reader = clone.reader();
        let root = reader.commit(head).unwrap().tree;
        let cur = reader
            .lookup(root, &TreePath::new("u/cur"))
            .unwrap()
            .unwrap();
        assert_eq!(reader.dir(cur.oid).unwrap().len(), 200);
    }
}
