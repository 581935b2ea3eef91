//! A mailbox that is made up, written to a repository directly.

use std::process::Command;
use std::time::Instant;

use mailbraid::history::{CommitText, InitOptions, Maintenance, Repo, Writer, hash_blob, maintain};
use mailbraid::maildir::{Attrs, Content, HashKind, Op, TreePath};

/// The hash of the objects.
pub const KIND: HashKind = HashKind::Sha1;

/// A store without mount and journal.
pub struct Store {
    pub dir: tempfile::TempDir,
    pub repo: Repo,
    pub writer: Writer,
    pub seq: u64,
}

impl Store {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: KIND,
            node: "bench".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        let mut writer = Writer::new(&repo, None).unwrap();
        for dir in ["u", "u/cur", "u/new", "u/tmp"] {
            let path = TreePath::new(dir);
            writer.apply(&Op::Mkdir { path }, None).unwrap();
        }
        Self {
            dir,
            repo,
            writer,
            seq: 0,
        }
    }

    pub fn put(&mut self, name: String, content: &[u8]) {
        let op = Op::Put {
            path: TreePath::new(name),
            oid: hash_blob(KIND, content),
            content: Content::Spilled,
            attrs: Attrs {
                mtime: 1_795_000_000,
                size: content.len() as u64,
                ..Attrs::default()
            },
        };
        self.writer.apply(&op, Some(content)).unwrap();
    }

    pub fn flag(&mut self, count: usize) {
        let number = (self.seq as usize * 7_368_787 + 13) % count;
        let round = self.seq as usize / count;
        let (from, to) = if round.is_multiple_of(2) {
            ("", "S")
        } else {
            ("S", "")
        };
        let op = Op::Rename {
            from: TreePath::new(name(number, from)),
            to: TreePath::new(name(number, to)),
        };
        self.writer.apply(&op, None).unwrap();
        self.seq += 1;
    }

    pub fn commit(&mut self, subject: &str) {
        let text = CommitText {
            node: "bench".to_owned(),
            time: 1_795_500_000 + self.seq as i64 * 3,
            message: format!(
                "{subject}\n\nMailbraid-Node: bench\nMailbraid-Seq: {}\n",
                self.seq
            )
            .into_bytes(),
            extra_parents: Vec::new(),
        };
        self.writer.commit(&text).unwrap();
    }

    /// A folder of that many small mails, in one pack.
    pub fn fill(&mut self, count: usize) {
        for number in 0..count {
            self.put(name(number, ""), b"a mail\n");
        }
        self.commit("import");
        self.writer.flush().unwrap();
        maintain(&self.repo, Maintenance::Full).unwrap();
    }

    /// Bytes of packs, and of packs and their indices.
    pub fn bytes(&self) -> (u64, u64) {
        let mut sums = (0, 0);
        for entry in std::fs::read_dir(self.repo.path().join("objects/pack")).unwrap() {
            let entry = entry.unwrap();
            let len = entry.metadata().unwrap().len();
            if entry.path().extension().is_some_and(|ext| ext == "pack") {
                sums.0 += len;
            }
            sums.1 += len;
        }
        sums
    }

    pub fn git(&self, args: &[&str]) -> f64 {
        let since = Instant::now();
        let output = Command::new("git")
            .arg("-C")
            .arg(self.repo.path())
            .args(args)
            .output()
            .expect("git is missing: run tests/run");
        assert!(output.status.success());
        since.elapsed().as_secs_f64()
    }
}

/// Seconds of processor time of this process.
pub fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A message of the folder, by its number.
pub fn name(number: usize, flags: &str) -> String {
    let time = 1_795_000_000 + number * 7;
    let micro = number * 7919 % 1_000_000;
    format!(
        "u/cur/{time}.M{micro}P{}.vm,S={}:2,{flags}",
        1000 + number % 977,
        2000 + number % 3001
    )
}
