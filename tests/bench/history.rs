//! `cargo bench --bench history`: what the hidden repository costs, without mount and journal.
//!
//! Arguments: names (or parts of names) of sections: `deliver`, `flag`, `read`, and those of `scale`: `size`, `corpus`, `copies`, `load`, `mount`.

// The modules are shared by all benches; each uses a part.
#![allow(dead_code)]

mod mail;
mod scale;
mod synthetic;

use std::time::Instant;

use mailbraid::history::{Maintenance, maintain};
use mailbraid::maildir::TreePath;

use synthetic::{Store, cpu, name};

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
        ("read", read),
        ("size", || drop(scale::size())),
        ("corpus", || drop(scale::corpus())),
        ("copies", || drop(scale::copies())),
        ("load", || drop(scale::load())),
        ("mount", || drop(scale::mount())),
    ];
    for (name, run) in sections {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            run();
        }
    }
}
