//! `mailbraid check` over histories in which one commit breaks a UID law.

use std::path::Path;
use std::process::Command;

use mailbraid::history::{CommitText, Repo, Writer, hash_blob};
use mailbraid::maildir::{Attrs, Content, HashKind, MailboxFacts, Oid, Op, TreePath};

/// A store with a folder `u`, UIDVALIDITY 9, messages `1.a` (UID 1) and `2.b` (UID 2).
struct Damaged {
    dir: tempfile::TempDir,
    writer: Writer,
}

impl Damaged {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for a store");
        let store = dir.path().join("store");
        let made = mailbraid_command(&["init", "--node", "a"], &store)
            .output()
            .expect("mailbraid runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let repo = Repo::open(&store.join("repo.git")).expect("a repository");
        let head = repo.head().expect("a head or none");
        let writer = Writer::new(&repo, head).expect("a writer");
        let mut damaged = Self { dir, writer };
        for path in ["u", "u/cur", "u/new"] {
            damaged.apply(Op::Mkdir {
                path: TreePath::new(path),
            });
        }
        damaged.apply(facts(9, 1));
        damaged.apply(put("u/new/1.a", 1));
        damaged.apply(put("u/new/2.b", 2));
        damaged.commit(1);
        damaged
    }

    fn apply(&mut self, op: Op) {
        let content = match &op {
            Op::Put { path, .. } => Some(path.as_bytes().to_vec()),
            _ => None,
        };
        self.writer
            .apply(&op, content.as_deref())
            .expect("the operation fits");
    }

    fn commit(&mut self, sequence: u64) -> Oid {
        let text = CommitText {
            node: "a".to_owned(),
            time: 1_795_466_045,
            message: format!("damage\n\nNode: a\nSequence: {sequence}\n").into_bytes(),
            extra_parents: Vec::new(),
        };
        let oid = self.writer.commit(&text).expect("a commit");
        self.writer.flush().expect("a pack");
        oid
    }

    /// What `check` says, and whether it is content.
    fn check(&self) -> (bool, String) {
        let store = self.dir.path().join("store");
        let done = mailbraid_command(&["check"], &store)
            .output()
            .expect("mailbraid runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.success(), said)
    }
}

fn mailbraid_command(args: &[&str], store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailbraid"));
    command.args(args).arg(store);
    command
}

fn put(path: &str, uid: u32) -> Op {
    let content = path.as_bytes().to_vec();
    Op::Put {
        path: TreePath::new(path),
        oid: hash_blob(HashKind::Sha1, &content),
        attrs: Attrs {
            uid: Some(uid),
            size: content.len() as u64,
            ..Attrs::default()
        },
        content: Content::Inline(content),
    }
}

fn facts(uid_validity: u32, uid_next: u32) -> Op {
    Op::SetMailbox {
        folder: TreePath::new("u"),
        facts: MailboxFacts {
            uid_validity,
            uid_next,
            ..MailboxFacts::default()
        },
    }
}

#[test]
fn a_lawful_history_is_found_sound() {
    let mut store = Damaged::new();
    store.apply(put("u/new/3.c", 3));
    store.apply(Op::Remove {
        path: TreePath::new("u/new/1.a"),
    });
    store.commit(2);
    store.apply(Op::Rename {
        from: TreePath::new("u/new/2.b"),
        to: TreePath::new("u/cur/2.b:2,S"),
    });
    store.commit(3);
    store.apply(facts(10, 1));
    store.apply(put("u/new/1.a", 1));
    store.commit(4);
    assert_eq!(store.check(), (true, "no damage found\n".to_owned()));
}

#[test]
fn each_broken_law_is_found_with_its_commit() {
    let remove = || Op::Remove {
        path: TreePath::new("u/new/1.a"),
    };
    let cases: Vec<(Vec<Op>, &str)> = vec![
        (vec![facts(8, 3)], "UIDVALIDITY falls from 9 to 8"),
        (vec![facts(9, 2)], "UIDNEXT falls from 3 to 2"),
        (
            vec![remove(), put("u/new/9.z", 1)],
            "UID 1 is used again, below UIDNEXT 3: 9.z",
        ),
        (
            vec![put("u/new/9.z", 5), put("u/new/8.y", 5)],
            "UID 5 means two messages: ",
        ),
        (
            vec![put("u/new/9.z", 7), facts(9, 4)],
            "UID 7 is not below UIDNEXT 4: 9.z",
        ),
    ];
    for (ops, law) in cases {
        let mut store = Damaged::new();
        for op in ops {
            store.apply(op);
        }
        let broken = store.commit(2);
        // Later commits do not hide it, and are not blamed.
        store.apply(put("u/new/99.later", 50));
        let later = store.commit(3);
        let (sound, said) = store.check();
        assert!(!sound, "{law}: {said}");
        let line = said.lines().find(|line| line.contains(law));
        let line = line.unwrap_or_else(|| panic!("{law}: {said}"));
        assert!(
            line.starts_with(&format!("commit {broken}, folder u: ")),
            "{line}"
        );
        assert!(!said.contains(&later.to_string()), "{said}");
    }
}
