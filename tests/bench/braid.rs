//! `cargo bench --bench braid`: what a braid reads and how long it takes, by the size of the mailbox and the number of changes on each side; and beside it
//! `git merge-tree --write-tree` on the same mailbox as one flat tree.
//!
//! What the sides do is in [`separated`]. git is told not to look for renames, which it would take a flag change for; it keeps both names of a message that both
//! sides flag.
//!
//! A braid is timed as the store makes it, from the heads to the pack that is synced to the disk, in a repository that was just opened; "merged" is the part of it
//! before the pack is written. All times are medians.
//!
//! Arguments: mailboxes, else 10000, 100000 and 1000000; `SIZExCHANGES` for one case alone. `deltas`: the repository is maintained before it is measured, so
//! that trees of the sides are deltas.

mod separated;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use mailbraid::history::{CommitText, Graph, InitOptions, Maintenance, Repo, hash_blob, maintain};
use mailbraid::maildir::Oid;
use mailbraid::merge::{braid, commit::IDENTITY};
use mailbraid::store::world::BraidWorld;

use separated::{Edit, KIND, edits, fill, head, mail, name, ops};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const CHANGES: [usize; 3] = [100, 1_000, 10_000];
/// Runs of each case.
const RUNS: usize = 5;
/// Runs of git, which are long.
const GIT_RUNS: usize = 3;

/// Seconds.
struct Measured {
    whole: f64,
    merged: f64,
    processor: f64,
    read: usize,
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn packs(repo: &Path) -> BTreeSet<PathBuf> {
    let dir = std::fs::read_dir(repo.join("objects/pack")).unwrap();
    dir.map(|entry| entry.unwrap().path()).collect()
}

/// One braid, of which nothing is left afterwards.
fn once(path: &Path, heads: [Oid; 2]) -> Measured {
    let before = packs(path);
    let repo = Repo::open(path).unwrap();
    let graph = Graph::new(&repo);
    let (since, used) = (Instant::now(), cpu());
    let mut world = BraidWorld::new(&repo, &graph).unwrap();
    let merged = braid(&mut world, &heads).unwrap().unwrap();
    assert_eq!(merged.parents.len(), 2);
    let text = CommitText {
        node: IDENTITY.to_owned(),
        time: merged.time,
        message: merged.message().into_bytes(),
        extra_parents: Vec::new(),
    };
    world.weaver.commit(merged.tree, &merged.parents, &text);
    let merged = since.elapsed().as_secs_f64();
    world.weaver.install().unwrap();
    let measured = Measured {
        whole: since.elapsed().as_secs_f64(),
        merged,
        processor: cpu() - used,
        read: world.objects_read(),
    };
    for new in packs(path).difference(&before) {
        std::fs::remove_file(new).unwrap();
    }
    measured
}

fn ours(path: &Path, heads: [Oid; 2]) -> Measured {
    let all: Vec<Measured> = (0..RUNS).map(|_| once(path, heads)).collect();
    let median_of = |part: fn(&Measured) -> f64| median(all.iter().map(part).collect::<Vec<f64>>());
    Measured {
        whole: median_of(|run| run.whole),
        merged: median_of(|run| run.merged),
        processor: median_of(|run| run.processor),
        read: all[0].read,
    }
}

fn git(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .envs([("GIT_AUTHOR_NAME", "b"), ("GIT_AUTHOR_EMAIL", "b")])
        .envs([("GIT_COMMITTER_NAME", "b"), ("GIT_COMMITTER_EMAIL", "b")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is missing: run tests/run");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    // 1: conflicts are left.
    let is_done = output.status.code().is_some_and(|code| code <= 1);
    assert!(is_done, "git {args:?} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The mailbox as one flat tree, in a repository that has ours as an alternate.
fn flat(dir: &Path, edits: &[Edit], size: usize, parent: Option<&str>) -> String {
    let mut flags = vec![Some(""); size];
    let mut extra = Vec::new();
    for edit in edits {
        match *edit {
            Edit::Flag(number) => flags[number] = Some("S"),
            Edit::Expunge(number) => flags[number] = None,
            Edit::Deliver(number) => extra.push(number),
        }
    }
    let kept = flags.into_iter().enumerate();
    let kept = kept.filter_map(|(number, flags)| Some((number, flags?)));
    let mut list = String::new();
    for (number, flags) in kept.chain(extra.into_iter().map(|number| (number, ""))) {
        let blob = hash_blob(KIND, &mail(number));
        list.push_str(&format!("100644 blob {blob}\t{}\n", name(number, flags)));
    }
    let tree = git(dir, &["mktree", "--missing"], list.as_bytes());
    let mut args = vec!["commit-tree", &tree, "-m", "x"];
    if let Some(parent) = parent {
        args.extend(["-p", parent]);
    }
    git(dir, &args, b"")
}

fn gits(dir: &Path, heads: &[String; 2]) -> f64 {
    let args = [
        "-c",
        "merge.renames=false",
        "merge-tree",
        "--write-tree",
        &heads[0],
        &heads[1],
    ];
    let runs = (0..GIT_RUNS).map(|_| {
        let since = Instant::now();
        git(dir, &args, b"");
        since.elapsed().as_secs_f64()
    });
    median(runs.collect())
}

/// What is to be measured: sizes of mailboxes, and the changes on each side.
fn cases(args: &[String]) -> Vec<(usize, Vec<usize>)> {
    let mut cases = Vec::new();
    for arg in args {
        let (size, changes) = arg.split_once('x').unwrap_or((arg, ""));
        if let Ok(size) = size.parse() {
            let all = CHANGES.to_vec();
            cases.push((size, changes.parse().map_or(all, |changes| vec![changes])));
        }
    }
    if cases.is_empty() {
        cases.extend(SIZES.map(|size| (size, CHANGES.to_vec())));
    }
    cases
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let deltas = args.iter().any(|arg| arg == "deltas");
    println!(
        "{:>9} {:>14} {:>13} {:>10} {:>10} {:>13} {:>16}",
        "messages",
        "changes a side",
        "objects read",
        "braid",
        "merged",
        "of processor",
        "git merge-tree"
    );
    for (size, changes) in cases(&args) {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: KIND,
            node: "bench".to_owned(),
        };
        let path = dir.path().join("repo.git");
        let repo = Repo::init(&path, &options).unwrap();
        let base = fill(&repo, size);
        let plain = dir.path().join("flat.git");
        std::fs::create_dir(&plain).unwrap();
        git(&plain, &["init", "-q", "--bare"], b"");
        let ours_too = format!("{}\n", path.join("objects").display());
        std::fs::write(plain.join("objects/info/alternates"), ours_too).unwrap();
        let plain_base = flat(&plain, &[], size, None);
        for count in changes {
            let sides = [0, 1].map(|side| edits(side, count, size));
            let heads = [0, 1].map(|side| {
                let what = format!("side {side}\n");
                head(&repo, base, &ops(&sides[side], size), &what)
            });
            if deltas {
                for (side, head) in heads.into_iter().enumerate() {
                    let name = format!("refs/heads/side-{count}-{side}");
                    repo.update_ref(&name, head, None).unwrap();
                }
                maintain(&repo, Maintenance::Full).unwrap();
            }
            let measured = ours(&path, heads);
            let plain_heads =
                [0, 1].map(|side| flat(&plain, &sides[side], size, Some(&plain_base)));
            let seconds = gits(&plain, &plain_heads);
            println!(
                "{size:>9} {count:>14} {:>13} {:>8.3} s {:>8.3} s {:>11.3} s {seconds:>14.3} s",
                measured.read, measured.whole, measured.merged, measured.processor
            );
        }
    }
}
