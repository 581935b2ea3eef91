//! What lies between commits, against what their parents say.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use mailbraid::maildir::{HashKind, Oid};

use super::support::Store;
use crate::simulation::random::Random;

/// More than are looked at one by one.
const COMMITS: usize = 900;

/// Commits of one empty tree, and the parents of each, by their places in the list.
struct Shape {
    parents: Vec<Vec<usize>>,
    /// What each contains, itself included.
    below: Vec<BTreeSet<usize>>,
    ids: Vec<Oid>,
}

/// Lines that part and join, most commits within the same seconds, some with wrong clocks.
fn make(store: &Store, random: &mut Random) -> Shape {
    let (mut parents, mut below, mut said) =
        (Vec::new(), Vec::<BTreeSet<usize>>::new(), String::new());
    for at in 0..COMMITS {
        let mut own = BTreeSet::new();
        if at > 0 && !random.one_in(300) {
            // Mostly upon the last one.
            own.insert(
                at - 1
                    - if random.one_in(6) {
                        random.below(at.min(40))
                    } else {
                        0
                    },
            );
            if random.one_in(5) {
                own.insert(at - 1 - random.below(at.min(300)));
            }
        }
        let own: Vec<usize> = own.into_iter().rev().collect();
        let wrong = if random.one_in(20) {
            random.below(5_000)
        } else {
            0
        };
        let time = 1_795_000_000 + at / 10 + wrong;
        let _ = writeln!(said, "commit refs/heads/made\nmark :{}", at + 1);
        // A message of its own, or two of them would be one commit.
        let _ = writeln!(
            said,
            "committer a <a@example.org> {time} +0000\ndata 3\n{at:03}"
        );
        if own.is_empty() {
            // fast-import takes the branch's last commit for the parent otherwise.
            said.insert_str(
                said.rfind("commit refs").expect("it was written"),
                "reset refs/heads/made\n\n",
            );
        }
        for (number, parent) in own.iter().enumerate() {
            let word = if number == 0 { "from" } else { "merge" };
            let _ = writeln!(said, "{word} :{}", parent + 1);
        }
        said.push('\n');
        let mut all: BTreeSet<usize> = BTreeSet::from([at]);
        for parent in &own {
            all.extend(below[*parent].iter().copied());
        }
        below.push(all);
        parents.push(own);
    }
    let marks = store.dir.path().join("marks");
    let mut git = Command::new("git")
        .arg("-C")
        .arg(store.repo.path())
        .args(["fast-import", "--quiet", "--force"])
        .arg(format!("--export-marks={}", marks.display()))
        .stdin(Stdio::piped())
        .spawn()
        .expect("git is missing: run tests/run");
    git.stdin
        .take()
        .unwrap()
        .write_all(said.as_bytes())
        .unwrap();
    assert!(git.wait().unwrap().success());
    let mut ids = vec![Oid::null(HashKind::Sha1); COMMITS];
    for line in std::fs::read_to_string(marks).unwrap().lines() {
        let (mark, id) = line.trim_start_matches(':').split_once(' ').unwrap();
        ids[mark.parse::<usize>().unwrap() - 1] = Oid::from_hex(id.as_bytes()).unwrap();
    }
    Shape {
        parents,
        below,
        ids,
    }
}

#[test]
fn what_lies_between_commits_is_what_their_parents_say() {
    let seeds = match std::env::var("MAILBRAID_SEED") {
        Ok(seed) => vec![seed.parse().expect("MAILBRAID_SEED is a number")],
        Err(_) => {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
            (0..3).map(|more| now.as_nanos() as u64 + more).collect()
        }
    };
    for seed in seeds {
        println!("MAILBRAID_SEED={seed}");
        let mut random = Random::new(seed);
        let store = Store::new(HashKind::Sha1);
        let shape = make(&store, &mut random);
        assert!(shape.parents.iter().any(|own| own.len() > 1));
        let reader = store.repo.reader();
        let (mut contained, mut close, mut extra, mut all) = (0, 0, 0, 0);
        for _ in 0..500 {
            let head = random.below(COMMITS);
            let most = if random.one_in(3) { COMMITS } else { 30 };
            let other = head.saturating_sub(1 + random.below(most));
            for (one, of) in [(other, head), (head, other), (head, head)] {
                let said = reader.is_contained(shape.ids[one], shape.ids[of]).unwrap();
                assert_eq!(said, shape.below[of].contains(&one), "{one} in {of}");
                contained += usize::from(said);
            }
            let more = random.below(COMMITS);
            let absent = Oid::from_hex(b"00000000000000000000000000000000000000aa").unwrap();
            for known in [vec![other], vec![other, more]] {
                let mut ids: Vec<Oid> = known.iter().map(|at| shape.ids[*at]).collect();
                if random.one_in(4) {
                    ids.push(absent);
                }
                let between = reader.commits_between(shape.ids[head], &ids, COMMITS);
                let between: BTreeSet<Oid> = between.unwrap().into_iter().collect();
                let hidden: BTreeSet<usize> = known
                    .iter()
                    .flat_map(|at| shape.below[*at].iter().copied())
                    .collect();
                let wanted: BTreeSet<Oid> = shape.below[head]
                    .difference(&hidden)
                    .map(|at| shape.ids[*at])
                    .collect();
                assert!(between.is_superset(&wanted), "{head} without {known:?}");
                extra += between.len() - wanted.len();
                all += wanted.len();
                let few = reader.commits_between(shape.ids[head], &ids, 3).unwrap();
                assert!(few.len() >= wanted.len().min(4));
                close += usize::from(wanted.len() < 30);
            }
        }
        println!("{extra} more than {all}");
        assert!(extra < all / 10, "{extra} more than {all}");
        assert!(contained > 600 && close > 200, "{contained} {close}");
    }
}
