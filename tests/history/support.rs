//! A repository, operations on it, and plain git beside it.

use std::path::Path;
use std::process::Command;

use mailbraid::history::{CommitText, InitOptions, Repo, Writer, hash_blob};
use mailbraid::maildir::{Attrs, Content, HashKind, Oid, Op, TreePath};

/// A repository in a directory of its own.
pub struct Store {
    pub dir: tempfile::TempDir,
    pub repo: Repo,
}

impl Store {
    pub fn new(kind: HashKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        Self { dir, repo }
    }

    pub fn writer(&self) -> Writer {
        Writer::new(&self.repo, self.repo.head().unwrap()).unwrap()
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(self.repo.path(), args)
    }

    /// Fails where `git fsck --strict` has anything to say.
    pub fn fsck(&self) {
        let said = self.git(&["fsck", "--strict", "--full", "--no-dangling"]);
        assert!(
            said.lines()
                .all(|line| line.starts_with("notice:") || line.starts_with("Checking")),
            "{said}"
        );
    }
}

/// Runs git; fails unless it succeeds.
pub fn git(dir: &Path, args: &[&str]) -> String {
    try_git(dir, args).unwrap_or_else(|said| panic!("git {args:?}: {said}"))
}

/// Runs git, and returns what it said, be it why it failed.
pub fn try_git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .output()
        .expect("git is missing: run tests/run");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

pub fn text(message: &str, time: i64) -> CommitText {
    CommitText {
        node: "a".to_owned(),
        time,
        message: message.as_bytes().to_vec(),
        extra_parents: Vec::new(),
    }
}

pub fn path(raw: impl AsRef<[u8]>) -> TreePath {
    TreePath::new(raw)
}

pub fn mkdir(writer: &mut Writer, at: &str) {
    writer.apply(&Op::Mkdir { path: path(at) }, None).unwrap();
}

/// A folder with its three directories.
pub fn mkfolder(writer: &mut Writer, at: &str) {
    for dir in ["", "/cur", "/new", "/tmp"] {
        mkdir(writer, &format!("{at}{dir}"));
    }
}

pub fn put(writer: &mut Writer, kind: HashKind, at: impl AsRef<[u8]>, content: &[u8]) -> Oid {
    let oid = hash_blob(kind, content);
    let op = Op::Put {
        path: path(at),
        oid,
        content: Content::Inline(content.to_vec()),
        attrs: Attrs {
            mtime: 1_795_466_045,
            size: content.len() as u64,
            ..Attrs::default()
        },
    };
    writer.apply(&op, None).unwrap();
    oid
}

pub fn rename(writer: &mut Writer, from: &str, to: &str) {
    let op = Op::Rename {
        from: path(from),
        to: path(to),
    };
    writer.apply(&op, None).unwrap();
}
