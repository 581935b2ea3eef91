//! A braid into two live mounts, until both Dovecots answer with it.
//!
//! Two nodes have one mailbox and were apart; each mount has a Dovecot with the folder open, its index files off the mount. The other's head is in each
//! repository already. The time begins when both heads are offered, and ends when both sessions have shown what both sides did: a client's `NOOP` and
//! `SEARCH SEEN`, again and again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mailbraid::history::{Graph, InitOptions, Repo};
use mailbraid::maildir::Oid;
use mailbraid::store::{OpenOptions, Store};

use super::harness::client::Client;
use super::harness::dovecot::{Dovecot, Options};
use super::harness::tools::{self, MAIL_GID, MAIL_UID};
use super::live_node::Node;
use super::separated::{KIND, edits, fill, head, ops};

/// Whole measurements; the medians count.
pub const RUNS: usize = 3;

/// A braid that is not shown by then will not be.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes a store.
fn store(at: &Path, node: &str) -> Repo {
    let options = OpenOptions {
        create: Some(InitOptions {
            kind: KIND,
            node: node.to_owned(),
        }),
        ..OpenOptions::default()
    };
    let store = Store::open(at, &options).unwrap();
    store.stop();
    drop(store);
    Repo::open(&at.join("repo.git")).unwrap()
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    let status = status.unwrap_or_else(|failed| panic!("{program}: {failed}"));
    assert!(status.success(), "{program} {args:?}: {status}");
}

/// A store with a mailbox, and its copy under another name; each goes its own way. The heads.
fn apart(dir: &Path, size: usize, count: usize) -> [Oid; 2] {
    let at = ["a", "b"].map(|name| dir.join(name).join("store"));
    for store in &at {
        std::fs::create_dir_all(store.parent().unwrap()).unwrap();
    }
    let repo = store(&at[0], "a");
    let base = fill(&repo, size);
    run(
        "cp",
        &["-r", at[0].to_str().unwrap(), at[1].to_str().unwrap()],
    );
    let other = Repo::open(&at[1].join("repo.git")).unwrap();
    other.set_config("mailbraid.node", "b").unwrap();
    let mut heads = Vec::new();
    for (side, repo) in [repo, other].iter().enumerate() {
        let what = format!("side {side}\n");
        let head = head(repo, base, &ops(&edits(side, count, size), size), &what);
        repo.update_ref("refs/heads/mail", head, Some(base))
            .unwrap();
        heads.push(head);
    }
    heads.try_into().unwrap()
}

/// How many messages a session shows as read.
fn seen(client: &mut Client) -> usize {
    client.ok("NOOP");
    client.ok("SEARCH SEEN").numbers().len()
}

/// Waits until the session shows so many; the seconds since `since`.
fn answers(client: &mut Client, wanted: usize, since: Instant) -> f64 {
    loop {
        let shown = seen(client);
        if shown == wanted {
            return since.elapsed().as_secs_f64();
        }
        assert!(since.elapsed() < PATIENCE, "{shown} of {wanted} are shown");
        // A question without pause would take half of the processors that answer it.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until maintenance has done with what made the mailbox: for three seconds no pack came or went.
fn rest(nodes: &[Node; 2]) {
    let packs = || {
        let list = |node: &Node| {
            let entries = std::fs::read_dir(node.repo().join("objects/pack")).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        [list(&nodes[0]), list(&nodes[1])]
    };
    let since = Instant::now();
    let (mut last, mut changed) = (packs(), Instant::now());
    while changed.elapsed() < Duration::from_secs(3) && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
        let now = packs();
        if now != last {
            (last, changed) = (now, Instant::now());
        }
    }
}

/// Seconds: until both nodes have the head, and until both Dovecots answer with it.
fn once(size: usize, count: usize) -> [f64; 2] {
    let dir = tools::temporary();
    let heads = apart(dir.path(), size, count);
    let owner = (MAIL_UID, MAIL_GID);
    let nodes = ["a", "b"].map(|name| Node::start_for(name, dir.path(), owner));
    let servers = [0, 1].map(|at| {
        let index = dir.path().join(format!("index-{}", nodes[at].name));
        tools::mail_dir(&index);
        let index = Some(index);
        let options = Options {
            index,
            ..Options::default()
        };
        Dovecot::start_with(&nodes[at].at(""), &options)
    });
    let mut clients = [0, 1].map(|at| servers[at].login("u"));
    for client in &mut clients {
        client.ok("SELECT INBOX");
        assert_eq!(seen(client), count.div_ceil(2));
    }
    rest(&nodes);
    for at in 0..2 {
        let from = nodes[1 - at].repo();
        let peer = format!(
            "+refs/heads/mail:refs/mailbraid/peers/{}",
            nodes[1 - at].name
        );
        let (to, from) = (nodes[at].repo(), from.to_str().unwrap().to_owned());
        run(
            "git",
            &[
                "-C",
                to.to_str().unwrap(),
                "fetch",
                "-q",
                "--no-auto-gc",
                &from,
                &peer,
            ],
        );
    }
    log::debug!("the heads are offered");
    let since = Instant::now();
    for at in 0..2 {
        nodes[at].store.offer(nodes[1 - at].name, heads[1 - at]);
    }
    let [on_a, on_b] = &mut clients;
    std::thread::scope(|scope| {
        let wanted = 2 * count.div_ceil(2);
        let switched = scope.spawn(|| {
            // Servers have made commits of their own since they opened the folder.
            let moved = |at: usize| {
                let repo = nodes[at].store.repo();
                let head = repo.head().unwrap().unwrap();
                Graph::new(repo).is_ancestor(heads[1 - at], head).unwrap()
            };
            while !(moved(0) && moved(1)) {
                assert!(since.elapsed() < PATIENCE, "the heads stay where they are");
                std::thread::sleep(Duration::from_millis(2));
            }
            since.elapsed().as_secs_f64()
        });
        let both = [
            scope.spawn(move || answers(on_a, wanted, since)),
            scope.spawn(move || answers(on_b, wanted, since)),
        ];
        let [a, b] = both.map(|client| client.join().unwrap());
        [switched.join().unwrap(), a.max(b)]
    })
}

/// Medians of [`RUNS`], in seconds: until both nodes have the head, and until both Dovecots answer with it.
pub fn measure(size: usize, count: usize) -> [f64; 2] {
    let runs: Vec<[f64; 2]> = (0..RUNS).map(|_| once(size, count)).collect();
    [0, 1].map(|at| {
        let mut all: Vec<f64> = runs.iter().map(|run| run[at]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    })
}
