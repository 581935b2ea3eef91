//! Plain git reads what we write.

use super::support::*;
use mailbraid::history::{HistoryError, Repo};
use mailbraid::maildir::{EntryKind, HashKind, MailboxFacts, Op};

#[test]
fn a_delivery_and_a_flag_are_two_commits_in_git_log() {
    for kind in [HashKind::Sha1, HashKind::Sha256] {
        let store = Store::new(kind);
        let mut writer = store.writer();
        mkfolder(&mut writer, "u");
        let oid = put(
            &mut writer,
            kind,
            "u/new/1795466045.M1P1.vm",
            b"Subject: x\n\ny\n",
        );
        writer
            .commit(&text("deliver INBOX", 1_795_466_045))
            .unwrap();
        rename(
            &mut writer,
            "u/new/1795466045.M1P1.vm",
            "u/cur/1795466045.M1P1.vm:2,S",
        );
        let facts = MailboxFacts {
            uid_next: 2,
            uid_validity: 7,
            ..MailboxFacts::default()
        };
        writer
            .apply(
                &Op::SetMailbox {
                    folder: path("u"),
                    facts: facts.clone(),
                },
                None,
            )
            .unwrap();
        let tip = writer
            .commit(&text("flag INBOX +S", 1_795_466_046))
            .unwrap();
        assert_eq!(store.repo.head().unwrap(), None);
        assert_eq!(writer.flush().unwrap(), Some(tip));
        assert_eq!(store.repo.head().unwrap(), Some(tip));
        store.fsck();
        assert_eq!(
            store.git(&["log", "--format=%an %ae %s"]),
            "mailbraid a flag INBOX +S\nmailbraid a deliver INBOX\n"
        );
        assert_eq!(
            store.git(&["show", "mail:u/cur/1795466045.M1P1.vm:2,S%,s=14"]),
            "Subject: x\n\ny\n"
        );
        let reader = store.repo.reader();
        let root = reader.commit(tip).unwrap().tree;
        let found = reader
            .lookup(root, &path("u/cur/1795466045.M1P1.vm:2,S"))
            .unwrap()
            .unwrap();
        assert_eq!(found.oid, oid);
        assert!(matches!(found.kind, EntryKind::File(attrs) if attrs.size == 14));
        let folder = reader.lookup(root, &path("u")).unwrap().unwrap();
        assert_eq!(reader.mailbox(folder.oid).unwrap(), Some(facts));
        let mut names: Vec<_> = reader.dir(folder.oid).unwrap();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = names.iter().map(|entry| &entry.name[..]).collect();
        assert_eq!(names, [&b"cur"[..], b"new", b"tmp"]);
        assert_eq!(store.repo.resolve("mail").unwrap(), tip);
        let reopened = Repo::open(store.repo.path()).unwrap();
        assert_eq!(reopened.kind(), kind);
        assert_eq!(reopened.head().unwrap(), Some(tip));
    }
}

#[test]
fn a_newer_format_is_refused_and_says_so() {
    let store = Store::new(HashKind::Sha1);
    store.repo.set_config("mailbraid.format", "2").unwrap();
    let error = Repo::open(store.repo.path()).err().unwrap();
    assert!(matches!(&error, HistoryError::NewerFormat { found, .. } if found == "2"));
    assert!(error.to_string().contains("newer mailbraid"));
    assert!(matches!(
        Repo::open(store.dir.path()).err().unwrap(),
        HistoryError::NotARepository { .. }
    ));
    std::fs::write(store.repo.path().join("config"), "[core\nnonsense").unwrap();
    assert!(matches!(
        Repo::open(store.repo.path()).err().unwrap(),
        HistoryError::Config { .. }
    ));
}
