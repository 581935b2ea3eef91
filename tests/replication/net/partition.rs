//! Three nodes fall apart, users go on working on each, and the nodes come together again.
//!
//! One round: A | B C, work; A | B | C, work; all joined. Who is A is drawn anew each time. Then every node has the same commit, every account reads the
//! same, no message is lost, doubled or back, and an mbsync client of each node fetches no more than what is new to it.
//!
//! `MAILBRAID_NET_SECONDS=600` runs for that long (12 seconds by default); `MAILBRAID_SEED` repeats a run's choices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::knobs::seconds;
use super::mailbox::{Desk, Ledger, STEADY, message};
use crate::imap::agents::Mbsync;
use crate::imap::snapshot;
use crate::random::Random;
use crate::support;

/// A client program of one node, and what it has.
struct Reader {
    mbsync: Mbsync,
    /// `folder uid` of each message it has fetched.
    has: BTreeSet<(String, u64)>,
    validity: Vec<u64>,
}

impl Reader {
    fn new(cluster: &Cluster, at: usize) -> Self {
        let node = &cluster.nodes[at];
        let local = cluster.dir().join(format!("near-{}", node.name()));
        let mbsync = Mbsync::with(&node.far("u"), &local);
        mbsync.limit_to(&STEADY.join(" "));
        Self {
            mbsync,
            has: BTreeSet::new(),
            validity: Vec::new(),
        }
    }

    /// Synchronises, and holds it against what the server shows.
    #[track_caller]
    fn run(&mut self, cluster: &Cluster, desk: &mut Desk) -> u32 {
        let mut now = BTreeSet::new();
        let mut validity = Vec::new();
        for folder in STEADY {
            let status = desk.ok(&format!("STATUS @{folder} (UIDVALIDITY)"));
            validity.push(status.code("UIDVALIDITY").expect("a UIDVALIDITY"));
            let listed = desk.list(folder).expect("a folder that stays");
            now.extend(listed.iter().map(|(uid, _)| (folder.to_owned(), *uid)));
        }
        let node = &cluster.nodes[desk.at];
        if !self.validity.is_empty() {
            assert_eq!(self.validity, validity, "{}: UIDVALIDITY", node.name());
        }
        let did = node.host.run(|| self.mbsync.run());
        let fresh = now.difference(&self.has).count();
        assert_eq!(did.pushed, 0, "{}: mbsync pushed", node.name());
        assert_eq!(
            did.fetched as usize,
            fresh,
            "{}: mbsync fetched other than what is new",
            node.name()
        );
        let again = node.host.run(|| self.mbsync.run());
        assert_eq!(again, crate::imap::agents::Synced::default());
        for folder in STEADY {
            let far: BTreeSet<String> = desk
                .list(folder)
                .expect("a folder that stays")
                .into_iter()
                .map(|(_, id)| id)
                .collect();
            assert_eq!(
                near_ids(&self.mbsync.local().join(folder)),
                far,
                "{}: {folder} of mbsync",
                node.name()
            );
        }
        self.has = now;
        self.validity = validity;
        did.fetched
    }
}

/// The Message-IDs of a Maildir.
fn near_ids(maildir: &std::path::Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for sub in ["new", "cur"] {
        let Ok(entries) = std::fs::read_dir(maildir.join(sub)) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a message");
            let id = text
                .split_once("Message-ID: <")
                .and_then(|(_, rest)| rest.split_once('>'))
                .map(|(id, _)| id.to_owned());
            ids.insert(id.expect("a Message-ID"));
        }
    }
    ids
}

/// Mail that is there before the first round.
#[track_caller]
pub fn furnish(cluster: &Cluster, ledger: &mut Ledger) {
    let mut desk = Desk::new(0, &cluster.nodes[0], "u");
    for folder in ["Archive", "Work", "F0"] {
        desk.ok(&format!("CREATE @{folder}"));
        desk.ok(&format!("SUBSCRIBE @{folder}"));
    }
    for number in 0..24 {
        let folder = ["INBOX", "Archive", "Work", "F0"][number % 4];
        let flags = ["", "\\Seen", "\\Flagged Later", "$Label1"][number / 4 % 4];
        let id = ledger.make();
        let text = message(&id);
        let date = format!("{:2}-Feb-2020 10:00:00 +0000", 1 + number);
        desk.append(folder, flags, Some(&date), &text)
            .expect_ok("APPEND");
    }
    let (took, _) = cluster.converge(Duration::from_secs(60));
    println!("level after the first mail in {:.2} s", took.as_secs_f64());
}

/// Rounds until the time is over, at least one.
#[track_caller]
pub fn rounds(cluster: &Cluster, ledger: &mut Ledger, random: &mut Random, whole: Duration) {
    let start = Instant::now();
    let mut desks: Vec<Desk> = (0..cluster.nodes.len())
        .map(|at| Desk::new(at, &cluster.nodes[at], "u"))
        .collect();
    let mut readers: Vec<Reader> = (0..desks.len())
        .map(|at| Reader::new(cluster, at))
        .collect();
    for (reader, desk) in readers.iter_mut().zip(&mut desks) {
        reader.run(cluster, desk);
    }
    let mut healings = Vec::new();
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name()).collect();
    while healings.is_empty() || start.elapsed() < whole {
        let alone = random.below(names.len());
        let pair: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != alone)
            .map(|(_, name)| *name)
            .collect();
        for together in [&pair[..], &[]] {
            cluster.network.leave(together);
            ledger.log.push(format!("--- together: {together:?}"));
            for _ in 0..10 + random.below(20) {
                let at = random.below(desks.len());
                ledger.act(&mut desks[at], random);
            }
        }
        cluster.network.heal();
        ledger.log.push("--- healed".to_owned());
        let took = healed(cluster, ledger);
        healings.push(took);
        // A message that one node marked as deleted may have been moved by another before it was expunged: mbsync would expunge it in the midst of what follows.
        desks[0].tidy();
        healed(cluster, ledger);
        ledger.settle();
        let mut fetched = Vec::new();
        let mut first = None;
        for (reader, desk) in readers.iter_mut().zip(&mut desks) {
            let at = desk.at;
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                ledger.check(desk);
                let shown = desk.view();
                match &first {
                    None => first = Some(shown),
                    Some(first) => snapshot::assert_equal(first, &shown, names[at]),
                }
                fetched.push(reader.run(cluster, desk));
            }));
            if let Err(panic) = done {
                eprintln!("what was done:\n{}", ledger.tail(80));
                eprintln!("what the mount has:\n{}", cluster.nodes[at].files("u"));
                std::panic::resume_unwind(panic);
            }
        }
        println!(
            "round {}: {} alone, level {:.2} s after healing, {} messages made, mbsync fetched {fetched:?}",
            healings.len(),
            names[alone],
            took.as_secs_f64(),
            ledger.len()
        );
    }
    healings.sort();
    println!(
        "{} rounds; from healing to one commit: p50 {:.2} s, most {:.2} s",
        healings.len(),
        healings[healings.len() / 2].as_secs_f64(),
        healings[healings.len() - 1].as_secs_f64()
    );
}

#[track_caller]
fn healed(cluster: &Cluster, ledger: &Ledger) -> Duration {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cluster.converge(Duration::from_secs(90)).0
    }));
    done.unwrap_or_else(|panic| {
        eprintln!("what was done:\n{}", ledger.tail(80));
        std::panic::resume_unwind(panic)
    })
}

/// The rounds themselves are right: a node that has no peer passes them.
#[test]
fn one_node_alone_keeps_what_the_ledger_says() {
    let mut random = Random::new(support::seed());
    let cluster = Cluster::start(&["a"], &[]);
    let mut ledger = Ledger::default();
    furnish(&cluster, &mut ledger);
    rounds(&cluster, &mut ledger, &mut random, seconds(5));
    cluster.assert_sound();
}

/// The same with Courier.
#[test]
fn courier_alone_keeps_what_the_ledger_says() {
    let mut random = Random::new(support::seed());
    let mut cluster = Cluster::start(&["a"], &[]);
    let mut ledger = Ledger::default();
    furnish(&cluster, &mut ledger);
    cluster.nodes[0].stop_dovecot();
    cluster.nodes[0].start_courier();
    rounds(&cluster, &mut ledger, &mut random, seconds(5));
    cluster.assert_sound();
}
