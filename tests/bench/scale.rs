//! Sizes and times at scale: sections of `cargo bench --bench history`, and the second table of `--bench all`. Each prints what it found and returns what it
//! has a bound for.
//!
//! Bytes are asserted, since they are the same on every machine; times are printed beside what they are to be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mailbraid::history::{CommitText, Maintenance, hash_blob, maintain};
use mailbraid::journal::Record;
use mailbraid::maildir::{Attrs, Content, Op, TreePath};
use mailbraid::store::message;

use super::mail::MailGen;
use super::synthetic::{KIND, Store, cpu, name};

/// A figure that has a bound: what it is, the bound, its unit, what was reached.
pub struct Figure(pub &'static str, pub f64, pub &'static str, pub f64);

/// Bytes that a file of this size takes on ext4 and everywhere else with blocks of 4 KiB.
fn on_disk(size: usize) -> u64 {
    (size as u64).div_ceil(4096) * 4096
}

/// One flag change, a commit each, in folders of a thousand to a million.
pub fn size() -> Vec<Figure> {
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
    vec![
        Figure(
            "repository for a flag change, 1,000 to 1,000,000",
            800.0,
            "B",
            *most as f64,
        ),
        Figure(
            "the largest of these to the smallest",
            1.5,
            "×",
            *most as f64 / *least as f64,
        ),
    ]
}

/// The repository of 50,000 mails against `du` of the same Maildir.
pub fn corpus() -> Vec<Figure> {
    const MAILS: usize = 50_000;
    println!("corpus: {MAILS} generated mails");
    let mut store = Store::new();
    let (mut plain, mut du) = (0, 0);
    let (since, used) = (Instant::now(), cpu());
    for (number, mail) in MailGen::new(6).take(MAILS).enumerate() {
        plain += mail.bytes.len();
        du += on_disk(mail.bytes.len());
        store.put(name(number, "S"), &mail.bytes);
        if (number + 1) % 1000 == 0 {
            store.commit("deliver");
            store.writer.flush().unwrap();
        }
    }
    let spent = (since.elapsed().as_secs_f64(), cpu() - used);
    let fresh = store.bytes().1;
    maintain(&store.repo, Maintenance::Full).unwrap();
    let bytes = store.bytes().1;
    println!(
        "  {:.0} MB of mail, du {:.0} MB, repository {:.0} MB ({:.0} before maintenance): {:.3} of du (to be 0.55); written in {:.0} s, {:.0} s of processor",
        plain as f64 / 1e6,
        du as f64 / 1e6,
        bytes as f64 / 1e6,
        fresh as f64 / 1e6,
        bytes as f64 / du as f64,
        spent.0,
        spent.1
    );
    let ratio = bytes as f64 / du as f64;
    vec![Figure(
        "repository to du of the Maildir, 50,000 mails",
        0.55,
        "×",
        ratio,
    )]
}

/// One message to 100 recipients.
pub fn copies() -> Vec<Figure> {
    println!("copies: one message of 1 MB to 100 recipients");
    let mut store = Store::new();
    for user in 0..100 {
        for dir in ["", "/cur", "/new", "/tmp"] {
            let path = TreePath::new(format!("user{user}{dir}"));
            store.writer.apply(&Op::Mkdir { path }, None).unwrap();
        }
    }
    store.commit("mkdir");
    store.writer.flush().unwrap();
    let before = store.bytes().1;
    let mail = MailGen::new(2).mail(1_000_000);
    for user in 0..100 {
        let at = format!("user{user}/new/1795000000.M1P{user}.vm");
        store.put(at, &mail.bytes);
        store.commit("deliver");
        store.writer.flush().unwrap();
    }
    maintain(&store.repo, Maintenance::Full).unwrap();
    let added = store.bytes().1 - before;
    let listed = Command::new("git")
        .arg("-C")
        .arg(store.repo.path())
        .args([
            "cat-file",
            "--batch-all-objects",
            "--batch-check=%(objectname) %(objectsize:disk)",
        ])
        .output()
        .expect("git is missing: run tests/run");
    let id = hash_blob(KIND, &mail.bytes).to_string();
    let sizes: Vec<u64> = String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix(&id)?.trim().parse().ok())
        .collect();
    let [once] = sizes[..] else {
        panic!("stored {} times", sizes.len());
    };
    println!(
        "  {} bytes, stored once in {once}; {:.0} bytes for each recipient",
        mail.bytes.len(),
        (added - once) as f64 / 100.0
    );
    assert!(added - once < 100 * 2048, "{added} bytes for 100 copies");
    let each = (added - once) as f64 / 100.0;
    vec![Figure(
        "one message to 100 recipients, beyond itself, each",
        2048.0,
        "B",
        each,
    )]
}

/// 1,000,000 flag changes over 100,000 messages, in commits as the mount makes them under full load, and the log of one message in that history.
pub fn load() -> Vec<Figure> {
    const MESSAGES: usize = 100_000;
    const CHANGES: usize = 1_000_000;
    /// What a mount under full load commits at once: a tenth of a second of flag changes.
    const BATCH: usize = 1_000;
    println!("load: {CHANGES} flag changes over {MESSAGES} messages, {BATCH} a commit");
    let mut store = Store::new();
    store.fill(MESSAGES);
    let (since, used) = (Instant::now(), cpu());
    let mut seq = 0;
    let mut merging = 0.0;
    while seq < CHANGES as u64 {
        let mut records = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let number = (seq as usize * 7_368_787 + 13) % MESSAGES;
            let (from, to) = if (seq as usize / MESSAGES).is_multiple_of(2) {
                ("", "S")
            } else {
                ("S", "")
            };
            seq += 1;
            records.push(Record {
                seq,
                time: 1_795_500_000 + (seq / 10_000) as i64,
                op: Op::Rename {
                    from: TreePath::new(name(number, from)),
                    to: TreePath::new(name(number, to)),
                },
            });
        }
        for record in &records {
            store.writer.apply(&record.op, None).unwrap();
        }
        let text = CommitText {
            node: "bench".to_owned(),
            time: records[0].time,
            message: message::compose("bench", &records),
            extra_parents: Vec::new(),
        };
        store.writer.commit(&text).unwrap();
        store.writer.flush().unwrap();
        if seq.is_multiple_of(24 * BATCH as u64) {
            let since = Instant::now();
            maintain(&store.repo, Maintenance::Geometric).unwrap();
            merging += since.elapsed().as_secs_f64();
        }
    }
    let spent = (since.elapsed().as_secs_f64() - merging, cpu() - used);
    let fresh = store.bytes().1;
    let since = Instant::now();
    maintain(&store.repo, Maintenance::Full).unwrap();
    let (pack, both) = store.bytes();
    println!(
        "  written in {:.0} s, {:.0} s of processor, maintenance {merging:.0} s and at last {:.1} s; {:.1} MB of pack, {:.1} MB with index (to be 200), {:.1} before the last maintenance",
        spent.0,
        spent.1,
        since.elapsed().as_secs_f64(),
        pack as f64 / 1e6,
        both as f64 / 1e6,
        fresh as f64 / 1e6
    );
    let mut times: Vec<f64> = (0..3)
        .map(|_| {
            let since = Instant::now();
            let out = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
                .arg("log")
                .arg(store.dir.path())
                .arg(name(13, ""))
                .output()
                .unwrap();
            assert!(out.status.success());
            let lines = out.stdout.split(|&byte| byte == b'\n').count() - 1;
            assert_eq!(lines, CHANGES / MESSAGES);
            since.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("  log of one message: {:.2} s (to be 1 s)", times[1]);
    assert!(both <= 200_000_000, "{both} bytes");
    vec![
        Figure(
            "history of 1,000,000 flag changes",
            200.0,
            "MB",
            both as f64 / 1e6,
        ),
        Figure("mailbraid log of one message in it", 1.0, "s", times[1]),
    ]
}

/// A mounted store, whose process is ended on drop.
struct Mount {
    child: Child,
    mountpoint: PathBuf,
    took: f64,
}

impl Mount {
    fn start(store: &Path, mountpoint: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let before = fs::metadata(mountpoint).unwrap().dev();
        let since = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
            .arg("mount")
            .arg(store)
            .arg(mountpoint)
            .arg("-f")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while fs::metadata(mountpoint).unwrap().dev() == before {
            assert!(child.try_wait().unwrap().is_none(), "it does not mount");
            assert!(since.elapsed() < Duration::from_secs(600), "no mount");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self {
            child,
            mountpoint: mountpoint.to_owned(),
            took: since.elapsed().as_secs_f64(),
        }
    }

    /// A line of `/proc/PID/status`, in bytes.
    fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        let kb: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kb * 1024
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn free(&self) -> bool {
        Command::new("umount")
            .arg("-l")
            .arg(&self.mountpoint)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.free();
        let _ = self.child.wait();
    }
}

/// Names in a directory, read to the end.
fn list(dir: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        entry?;
        count += 1;
    }
    Ok(count)
}

/// Microseconds for one flag change through the mount.
fn flag_rate(root: &Path, folder: &str, count: usize, round: usize) -> f64 {
    const CHANGES: usize = 2_000;
    let moves: Vec<(PathBuf, PathBuf)> = (0..CHANGES / 2)
        .flat_map(|at| {
            let number = (round * CHANGES + at * 7_919) % count;
            let at = |flags| root.join(folder).join(&name(number, flags)[2..]);
            [(at(""), at("S")), (at("S"), at(""))]
        })
        .collect();
    let since = Instant::now();
    for (from, to) in &moves {
        fs::rename(from, to).unwrap();
    }
    since.elapsed().as_secs_f64() * 1e6 / CHANGES as f64
}

/// A folder of 1,000,000 messages behind a mount.
pub fn mount() -> Vec<Figure> {
    const MESSAGES: usize = 1_000_000;
    println!("mount: a folder of {MESSAGES} messages");
    let mut store = Store::new();
    for dir in ["v", "v/cur", "v/new", "v/tmp"] {
        let path = TreePath::new(dir);
        store.writer.apply(&Op::Mkdir { path }, None).unwrap();
    }
    for number in 0..1_000 {
        let at = name(number, "").replacen('u', "v", 1);
        put_as(&mut store, at, number);
    }
    for number in 0..MESSAGES {
        put_as(&mut store, name(number, ""), number);
    }
    store.commit("import");
    store.writer.flush().unwrap();
    maintain(&store.repo, Maintenance::Full).unwrap();
    let place = store.dir.path();
    let mountpoint = tempfile::tempdir().unwrap();
    let root = mountpoint.path();

    let empty = tempfile::tempdir().unwrap();
    let daemon = Mount::start(empty.path(), root);
    list(root).unwrap();
    let (base, base_anon) = (daemon.memory("VmRSS"), daemon.memory("RssAnon"));
    drop(daemon);

    drop(Mount::start(place, root));
    let mut times: Vec<f64> = (0..5).map(|_| Mount::start(place, root).took).collect();
    times.sort_by(f64::total_cmp);
    println!("  mount after a clean stop: {:.3} s (to be 1 s)", times[2]);
    let clean = times[2];

    let mut times: Vec<f64> = (0..3)
        .map(|round| {
            let daemon = Mount::start(place, root);
            flag_rate(root, "u", MESSAGES, round);
            daemon.kill();
            Mount::start(place, root).took
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("  mount after SIGKILL: {:.3} s (to be 2 s)", times[1]);
    let killed = times[1];

    let daemon = Mount::start(place, root);
    let since = Instant::now();
    assert_eq!(list(&root.join("u/cur")).unwrap(), MESSAGES);
    let first = since.elapsed().as_secs_f64();
    let since = Instant::now();
    assert_eq!(list(&root.join("u/cur")).unwrap(), MESSAGES);
    println!(
        "  listed in {first:.2} s, again in {:.2} s",
        since.elapsed().as_secs_f64()
    );
    let each = |now: u64, base: u64| (now.saturating_sub(base)) as f64 / MESSAGES as f64;
    let resident = each(daemon.memory("VmRSS"), base);
    println!(
        "  resident with it listed: {:.0} bytes a message above the empty daemon, {:.0} of them not the kernel's to take back (to be 200)",
        resident,
        each(daemon.memory("RssAnon"), base_anon)
    );
    list(&root.join("v/cur")).unwrap();
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for round in 0..7 {
        small.push(flag_rate(root, "v", 1_000, round));
        large.push(flag_rate(root, "u", MESSAGES, round));
    }
    println!(
        "  resident after these: {:.0} bytes a message above the empty daemon",
        each(daemon.memory("VmRSS"), base)
    );
    large.sort_by(f64::total_cmp);
    small.sort_by(f64::total_cmp);
    println!(
        "  flag change: {:.1} us in {MESSAGES} messages, {:.1} us in 1,000: {:.2} times (to be 1.3)",
        large[3],
        small[3],
        large[3] / small[3]
    );
    vec![
        Figure(
            "mount of 1,000,000 messages after a clean stop",
            1.0,
            "s",
            clean,
        ),
        Figure("the same after SIGKILL", 2.0, "s", killed),
        Figure(
            "resident memory a message with it listed",
            200.0,
            "B",
            resident,
        ),
        Figure(
            "a flag change in it to one in 1,000",
            1.3,
            "×",
            large[3] / small[3],
        ),
    ]
}

/// A message of few bytes, with what a name and a server say of it.
fn put_as(store: &mut Store, at: String, number: usize) {
    let content = b"a mail\n";
    let op = Op::Put {
        path: TreePath::new(at),
        oid: hash_blob(KIND, content),
        content: Content::Spilled,
        attrs: Attrs {
            uid: Some(number as u32 + 1),
            mtime: 1_795_000_000 + number as i64 * 7,
            size: 2000 + number as u64 % 3001,
            ..Attrs::default()
        },
    };
    store.writer.apply(&op, Some(content)).unwrap();
}
