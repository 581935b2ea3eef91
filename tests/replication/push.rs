//! A push over git's own receive-pack: what arrives is whole, and little is sent.

use std::path::{Path, PathBuf};

use mailbraid::history::{CommitText, InitOptions, PackForm, Repo, Writer, hash_blob};
use mailbraid::maildir::{Attrs, Content, HashKind, Op, TreePath};
use mailbraid::sync::connection::{Address, ConnectionError};
use mailbraid::sync::send_pack::{PackSource, PushError, Target, push};

use crate::support::mounted::git;

fn text(message: &str) -> CommitText {
    CommitText {
        node: "a".to_owned(),
        time: 1_795_466_045,
        message: message.as_bytes().to_vec(),
        extra_parents: Vec::new(),
    }
}

fn put(kind: HashKind, path: &str, body: &[u8]) -> Op {
    Op::Put {
        path: TreePath::new(path),
        oid: hash_blob(kind, body),
        content: Content::Inline(body.to_vec()),
        attrs: Attrs {
            mtime: 1,
            size: body.len() as u64,
            ..Attrs::default()
        },
    }
}

/// A repository with a folder of so many messages, and the writer that made it.
fn repository(path: &Path, kind: HashKind, messages: usize) -> (Repo, Writer) {
    let repo = Repo::init(
        path,
        &InitOptions {
            kind,
            node: "a".to_owned(),
        },
    )
    .unwrap();
    let mut writer = Writer::new(&repo, None).unwrap();
    for dir in ["u", "u/cur", "u/new", "u/.Archive", "u/.Archive/cur"] {
        writer
            .apply(
                &Op::Mkdir {
                    path: TreePath::new(dir),
                },
                None,
            )
            .unwrap();
    }
    for n in 0..messages {
        let body = b"the same newsletter";
        let path = format!("u/cur/{}.M{n}P1.vm:2,", 1_700_000_000 + n);
        writer.apply(&put(kind, &path, body), Some(body)).unwrap();
    }
    writer.commit(&text("import")).unwrap();
    writer.flush().unwrap();
    (repo, writer)
}

fn target(url: &Path) -> Target {
    Target {
        address: Address::new(url.to_str().unwrap().to_owned()),
        refname: "refs/mailbraid/peers/a".to_owned(),
    }
}

fn flag(n: usize) -> Op {
    let name = format!("u/cur/{}.M{n}P1.vm:2,", 1_700_000_000 + n);
    Op::Rename {
        from: TreePath::new(&name),
        to: TreePath::new(format!("{name}S")),
    }
}

/// Pushes the head, and checks that the peer has it whole. Returns the pack's bytes.
fn pushed(repo: &Repo, peer: &Path) -> u64 {
    let head = repo.head().unwrap().unwrap();
    let done = push(&target(peer), head, repo.kind(), &repo.reader()).unwrap();
    let there = git(peer, &["rev-parse", "refs/mailbraid/peers/a"]);
    assert_eq!(there.trim(), head.to_string());
    let said = git(
        peer,
        &["fsck", "--strict", "--no-dangling", "--no-progress"],
    );
    // A meeting point has no branch of its own, and git remarks on that.
    let said = said
        .lines()
        .filter(|line| !line.starts_with("notice: "))
        .count();
    assert_eq!(said, 0);
    done.pack_bytes
}

#[test]
fn what_arrives_is_whole_and_little_is_sent() {
    for kind in [HashKind::Sha1, HashKind::Sha256] {
        let dir = tempfile::tempdir().unwrap();
        let peer = dir.path().join("peer.git");
        git(
            dir.path(),
            &[
                "init",
                "-q",
                "--bare",
                "--object-format",
                kind.name(),
                "peer.git",
            ],
        );
        git(&peer, &["config", "receive.fsckObjects", "true"]);
        let (repo, mut writer) = repository(&dir.path().join("repo.git"), kind, 3_000);
        let first = pushed(&repo, &peer);
        assert_eq!(pushed(&repo, &peer), 0, "the peer was level");

        let mail: Vec<u8> = (0..20_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        writer
            .apply(&put(kind, "u/new/1.1.vm", &mail), Some(&mail))
            .unwrap();
        writer.commit(&text("deliver")).unwrap();
        writer.flush().unwrap();
        assert!(pushed(&repo, &peer) > 70_000);

        // Neither a flag change nor a move sends the mail again.
        let moved = Op::Rename {
            from: TreePath::new("u/new/1.1.vm"),
            to: TreePath::new("u/.Archive/cur/1.1.vm:2,S"),
        };
        for op in [flag(17), moved] {
            writer.apply(&op, None).unwrap();
            writer.commit(&text("change")).unwrap();
        }
        writer.flush().unwrap();
        let bytes = pushed(&repo, &peer);
        println!(
            "{}: {first} bytes at first, {bytes} for a flag change and a move",
            kind.name()
        );
        assert!(bytes < 4_096, "{bytes}");
    }
}

/// A bare repository that indexes packs however small, as a store does, and a store of 40 messages that was pushed to it.
fn level() -> (tempfile::TempDir, PathBuf, Repo, Writer) {
    let dir = tempfile::tempdir().unwrap();
    let peer = dir.path().join("peer.git");
    git(dir.path(), &["init", "-q", "--bare", "peer.git"]);
    git(&peer, &["config", "receive.unpackLimit", "1"]);
    let (repo, writer) = repository(&dir.path().join("repo.git"), HashKind::Sha1, 40);
    pushed(&repo, &peer);
    (dir, peer, repo, writer)
}

/// What the writer has just made is sent from memory: nothing is read, and the pack is what the disk would have given.
#[test]
fn a_push_of_what_was_just_written_reads_no_pack() {
    let (dir, peer, repo, mut writer) = level();
    let mut changed = |n: usize| {
        let mail = format!("Subject: {n}\n\n{}", "A few words. ".repeat(200));
        let path = format!("u/cur/{}.M{n}P2.vm:2,", 1_700_000_000 + n);
        let deliver = put(repo.kind(), &path, mail.as_bytes());
        writer.apply(&deliver, Some(mail.as_bytes())).unwrap();
        writer.apply(&flag(n), None).unwrap();
        writer.commit(&text("deliver and flag")).unwrap();
        writer.flush().unwrap().unwrap()
    };
    let before = changed(7);
    pushed(&repo, &peer);
    let head = changed(8);
    let pack = |repo: &Repo| {
        let mut pack = Vec::new();
        PackSource::write_pack(
            &repo.reader(),
            head,
            &[before],
            PackForm::Compressed,
            &mut pack,
        )
        .unwrap();
        pack
    };
    let path = dir.path().join("repo.git");
    let from_disk = pack(&Repo::open(&path).unwrap());
    let packs = path.join("objects/pack");
    std::fs::rename(&packs, dir.path().join("aside")).unwrap();
    std::fs::create_dir(&packs).unwrap();
    assert!(pack(&repo) == from_disk);
}

/// A tree that comes back must not be the base of its own base: index-pack takes no such pack.
#[test]
fn a_flag_set_and_cleared_goes_in_one_push() {
    let (_dir, peer, repo, mut writer) = level();
    for round in 0..3 {
        let Op::Rename { from, to } = flag(7) else {
            unreachable!("a flag change is a rename")
        };
        let back = Op::Rename {
            from: to.clone(),
            to: from.clone(),
        };
        for op in [flag(7), back, flag(8 + round)] {
            writer.apply(&op, None).unwrap();
            writer.commit(&text("change")).unwrap();
        }
        writer.flush().unwrap();
        pushed(&repo, &peer);
    }
}

/// Nor must a tree that the peer has already come back as the base of another.
#[test]
fn a_flag_cleared_after_a_push_is_the_base_of_the_next_change() {
    let (_dir, peer, repo, mut writer) = level();
    let Op::Rename { from, to } = flag(7) else {
        unreachable!("a flag change is a rename")
    };
    let back = Op::Rename { from: to, to: from };
    for push in [&[flag(7)][..], &[back, flag(8)]] {
        for op in push {
            writer.apply(op, None).unwrap();
            writer.commit(&text("change")).unwrap();
        }
        writer.flush().unwrap();
        pushed(&repo, &peer);
    }
}

#[test]
fn a_flag_change_in_a_large_folder_is_a_small_push() {
    let dir = tempfile::tempdir().unwrap();
    let peer = dir.path().join("peer.git");
    git(dir.path(), &["init", "-q", "--bare", "peer.git"]);
    let (repo, mut writer) = repository(&dir.path().join("repo.git"), HashKind::Sha1, 100_000);
    pushed(&repo, &peer);
    let mut most = 0;
    for n in [5, 50_000, 99_999] {
        writer.apply(&flag(n), None).unwrap();
        writer.commit(&text("flag u/INBOX +S")).unwrap();
        writer.flush().unwrap();
        most = most.max(pushed(&repo, &peer));
    }
    println!("one flag change in 100,000 messages: at most {most} bytes of pack");
    assert!(most <= 1024, "{most}");
}

#[test]
fn a_peer_that_refuses_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let peer = dir.path().join("peer.git");
    git(dir.path(), &["init", "-q", "--bare", "peer.git"]);
    git(&peer, &["config", "receive.hideRefs", "refs"]);
    git(
        &peer,
        &[
            "config",
            "--add",
            "receive.hideRefs",
            "!refs/mailbraid/peers/b",
        ],
    );
    let (repo, _writer) = repository(&dir.path().join("repo.git"), HashKind::Sha1, 3);
    let head = repo.head().unwrap().unwrap();
    let refused = push(&target(&peer), head, HashKind::Sha1, &repo.reader()).unwrap_err();
    assert!(
        matches!(&refused, PushError::Refused { why, .. } if why.contains("hidden")),
        "{refused}"
    );
    let none = push(
        &target(&dir.path().join("none.git")),
        head,
        HashKind::Sha1,
        &repo.reader(),
    )
    .unwrap_err();
    assert!(
        matches!(&none, PushError::Connection(ConnectionError::Broken { .. })),
        "{none}"
    );
    git(
        dir.path(),
        &[
            "init",
            "-q",
            "--bare",
            "--object-format",
            "sha256",
            "other.git",
        ],
    );
    let other = push(
        &target(&dir.path().join("other.git")),
        head,
        HashKind::Sha1,
        &repo.reader(),
    )
    .unwrap_err();
    assert!(
        matches!(
            &other,
            PushError::Connection(ConnectionError::ObjectFormat { .. })
        ),
        "{other}"
    );
}

#[test]
fn regression_trees_that_change_back_are_no_deltas_in_a_circle() {
    let dir = tempfile::tempdir().unwrap();
    let peer = dir.path().join("peer.git");
    git(dir.path(), &["init", "-q", "--bare", "peer.git"]);
    let (repo, mut writer) = repository(&dir.path().join("repo.git"), HashKind::Sha1, 200);
    pushed(&repo, &peer);
    // Two states of one tree in turn, so that each is the other's version before.
    let name = format!("u/cur/{}.M5P1.vm:2,", 1_700_000_005);
    for _ in 0..3 {
        for (from, to) in [("", "S"), ("S", "")] {
            let (from, to) = (format!("{name}{from}"), format!("{name}{to}"));
            let rename = Op::Rename {
                from: TreePath::new(&from),
                to: TreePath::new(&to),
            };
            writer.apply(&rename, None).unwrap();
            writer.commit(&text("flag")).unwrap();
        }
    }
    writer.flush().unwrap();
    pushed(&repo, &peer);
    // And so in one push from nothing.
    let other = dir.path().join("other.git");
    git(dir.path(), &["init", "-q", "--bare", "other.git"]);
    pushed(&repo, &other);
}
