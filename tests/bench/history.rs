//! `cargo bench --bench history`: what the hidden repository costs, without mount and journal.
//!
//! Arguments: names (or parts of names) of sections: `deliver`, `flag`, `size`, `read`, and those of `scale`: `corpus`, `copies`, `load`, `mount`.

// The modules are shared by all benches; each uses a part.
#![allow(dead_code)]

mod mail;
mod scale;

use std::process::Command;
use std::time::Instant;

use mailbraid::history::{CommitText, InitOptions, Maintenance, Repo, Writer, hash_blob, maintain};
use mailbraid::maildir::{Attrs, Content, HashKind, Op, TreePath};

const KIND: HashKind = HashKind::Sha1;

struct Store {
    dir: tempfile::TempDir,
    repo: Repo,
    writer: Writer,
    seq: u64,
}

impl Store {
    fn new() -> Self {
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

    fn put(&mut self, name: String, content: &[u8]) {
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

    fn flag(&mut self, count: usize) {
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

    fn commit(&mut self, subject: &str) {
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
    fn fill(&mut self, count: usize) {
        for number in 0..count {
            self.put(name(number, ""), b"a mail\n");
        }
        self.commit("import");
        self.writer.flush().unwrap();
        maintain(&self.repo, Maintenance::Full).unwrap();
    }

    fn bytes(&self) -> (u64, u64) {
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

    fn git(&self, args: &[&str]) -> f64 {
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
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn name(number: usize, flags: &str) -> String {
    let time = 1_795_000_000 + number * 7;
    let micro = number * 7919 % 1_000_000;
    format!(
        "u/cur/{time}.M{micro}P{}.vm,S={}:2,{flags}",
        1000 + number % 977,
        2000 + number % 3001
    )
}

fn deliver() {
    println!("deliver: 3 KB mails, hashed, compressed, committed, flushed");
    let mut mails = mail::MailGen::new(1);
    let mails: Vec<mail::Mail> = (0..2000).map(|_| mails.sized(3000)).collect();
    for batch in [1, 10, 100, 1000] {
        let mut store = Store::new();
        let total = if batch == 1 { 1000 } else { 10_000 };
        let mut plain = 0;
        let (since, spent) = (Instant::now(), cpu());
        for number in 0..total {
            let mut content = mails[number % mails.len()].bytes.clone();
            content.extend_from_slice(number.to_string().as_bytes());
            plain += content.len();
            store.put(name(number, ""), &content);
            if (number + 1) % batch == 0 {
                store.commit("deliver");
                store.writer.flush().unwrap();
                maintain(&store.repo, Maintenance::Geometric).unwrap();
            }
        }
        let rate = total as f64 / since.elapsed().as_secs_f64();
        println!(
            "  {batch:>5} a commit: {rate:>8.0} mails/s, {:>6.0} us of processor each, packed to {:.2}",
            (cpu() - spent) * 1e6 / total as f64,
            store.bytes().0 as f64 / plain as f64
        );
    }
}

fn flag() {
    println!("flag: changes in a folder of 100,000, committed and flushed");
    for batch in [1, 10, 100, 1000, 10_000] {
        let mut store = Store::new();
        store.fill(100_000);
        let before = store.bytes().1;
        let total = (batch * 20).clamp(500, 50_000);
        let (since, used) = (Instant::now(), cpu());
        for number in 0..total {
            store.flag(100_000);
            if (number + 1) % batch == 0 {
                store.commit("flag");
                store.writer.flush().unwrap();
            }
        }
        let spent = since.elapsed().as_secs_f64();
        let used = (cpu() - used) * 1e6 / total as f64;
        let fresh = (store.bytes().1 - before) as f64 / total as f64;
        let since = Instant::now();
        let report = maintain(&store.repo, Maintenance::Full).unwrap();
        let merging = since.elapsed().as_secs_f64();
        println!(
            "  {batch:>5} a commit: {:>8.0} changes/s, {used:>5.0} us of processor each, {fresh:>6.0} bytes each fresh, {:>4.0} after maintenance of {} packs in {merging:.2} s",
            total as f64 / spent,
            (store.bytes().1 - before) as f64 / total as f64,
            report.packs_before,
        );
    }
}

fn size() {
    println!(
        "size: one flag change, a commit each, after maintenance (to be 800 bytes with index)"
    );
    let mut costs = Vec::new();
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        let mut store = Store::new();
        let since = Instant::now();
        store.fill(count);
        let filled = since.elapsed().as_secs_f64();
        let before = store.bytes();
        let changes = 1000;
        for _ in 0..changes {
            store.flag(count);
            let subject = format!(
                "flag INBOX +S {}",
                &name(store.seq as usize % count, "")[6..]
            );
            store.commit(&subject);
            store.writer.flush().unwrap();
            maintain(&store.repo, Maintenance::Geometric).unwrap();
        }
        maintain(&store.repo, Maintenance::Full).unwrap();
        let after = store.bytes();
        println!(
            "  {count:>8} messages: {:>4} bytes of pack, {:>4} with index; filled in {filled:.1} s to {:.1} MB",
            (after.0 - before.0) / changes,
            (after.1 - before.1) / changes,
            before.1 as f64 / 1e6,
        );
        costs.push((after.1 - before.1) / changes);
    }
    let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
    println!(
        "  within {:.2} of one another (to be 1.5)",
        *most as f64 / *least as f64
    );
    assert!(*most <= 800 && 2 * most <= 3 * least, "{costs:?}");
}

fn read() {
    println!("read: 100,000 messages, 20,000 flag changes, a commit each");
    let mut store = Store::new();
    store.fill(100_000);
    for _ in 0..20_000 {
        store.flag(100_000);
        store.commit("flag INBOX +S");
        if store.seq.is_multiple_of(20) {
            store.writer.flush().unwrap();
            maintain(&store.repo, Maintenance::Geometric).unwrap();
        }
    }
    store.writer.flush().unwrap();
    let since = Instant::now();
    let report = maintain(&store.repo, Maintenance::Full).unwrap();
    println!(
        "  maintenance {:.2} s {report:?}",
        since.elapsed().as_secs_f64()
    );
    println!(
        "  git log           {:.2} s",
        store.git(&["log", "--format=%H %s"])
    );
    println!("  git log --stat    {:.2} s", store.git(&["log", "--stat"]));
    println!(
        "  git fsck --strict {:.2} s",
        store.git(&["fsck", "--strict"])
    );
    println!(
        "  git rev-list all  {:.2} s",
        store.git(&["rev-list", "--objects", "--all"])
    );
    let reader = store.repo.reader();
    let head = store.repo.head().unwrap().unwrap();
    let root = reader.commit(head).unwrap().tree;
    let since = Instant::now();
    let cur = reader
        .lookup(root, &TreePath::new("u/cur"))
        .unwrap()
        .unwrap();
    let listed = reader.dir(cur.oid).unwrap().len();
    println!(
        "  list {listed}       {:.3} s",
        since.elapsed().as_secs_f64()
    );
    let since = Instant::now();
    let mut steps = 0;
    let path = TreePath::new(name(13, "S"));
    reader.path_log(head, &path, &mut |_| steps += 1).unwrap();
    println!(
        "  path log ({steps})      {:.2} s",
        since.elapsed().as_secs_f64()
    );
    let old = reader
        .first_parent_log(head)
        .nth(1000)
        .unwrap()
        .unwrap()
        .1
        .tree;
    let since = Instant::now();
    let mut differences = 0;
    reader
        .diff(Some(old), Some(root), &mut |_| differences += 1)
        .unwrap();
    println!(
        "  diff of 1,000 changes ({differences}) {:.3} s",
        since.elapsed().as_secs_f64()
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let sections: [(&str, fn()); 8] = [
        ("deliver", deliver),
        ("flag", flag),
        ("size", size),
        ("read", read),
        ("corpus", scale::corpus),
        ("copies", scale::copies),
        ("load", scale::load),
        ("mount", scale::mount),
    ];
    for (name, run) in sections {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            run();
        }
    }
}
