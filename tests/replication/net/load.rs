//! A thousand deliveries a second, with a peer on a long line and another that is dead.
//!
//! Deliveries are files written and synced in `tmp` and renamed to `new`, at fixed moments, by several threads; one that comes late because the one
//! before was slow is not started earlier for it. Each node has processors of its own, where there are enough, and those who deliver share their node's: another machine takes no
//! time from this one. What peers cost is measured in rounds, without them and with them in turn, each into a new folder: a disk that is slow for some seconds is slow for
//! one round, and the median of the rounds' ratios is what counts. How much it says is told by the same ratios of rounds without peers, each to the one before it: nothing has changed
//! between these but the time. Then the whole time with peers without a pause.
//! `MAILBRAID_NET_SECONDS=60` is how long that is (3 by default), and twelve rounds take as long with peers and as long without; `MAILBRAID_NET_RATE=1000` how many a second (300).

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::node::Node;
use super::relay;
use crate::imap::tools::mail_dir;
use crate::support::mounted::deliver;

const THREADS: u32 = 8;

const ROUNDS: u32 = 12;

/// Times that deliveries took, sorted, and how long all of them took.
pub struct Phase {
    times: Vec<Duration>,
    whole: Duration,
}

impl Phase {
    /// The time that this part of a hundred stayed below.
    pub fn part(&self, part: usize) -> f64 {
        self.times[(self.times.len() * part / 100).min(self.times.len() - 1)].as_secs_f64() * 1e3
    }

    fn text(&self) -> String {
        format!(
            "{} deliveries in {:.1} s ({:.0}/s): p50 {:.2} ms, p99 {:.2} ms",
            self.times.len(),
            self.whole.as_secs_f64(),
            self.times.len() as f64 / self.whole.as_secs_f64(),
            self.part(50),
            self.part(99)
        )
    }
}

/// Delivers to a user's inbox at a steady rate, on the node itself.
#[track_caller]
pub fn offer(node: &Node, user: &str, rate: u32, whole: Duration) -> Phase {
    node.host.run(|| offer_here(node, user, rate, whole))
}

fn offer_here(node: &Node, user: &str, rate: u32, whole: Duration) -> Phase {
    let folder = node.mountpoint().join(user);
    for sub in ["", "tmp", "new", "cur"] {
        mail_dir(&folder.join(sub));
    }
    let text = [
        b"Subject: load\n\n".as_slice(),
        &b"All work and no play.\n".repeat(130),
    ]
    .concat();
    let each = Duration::from_secs(1) * THREADS / rate;
    let start = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (folder, text) = (&folder, &text);
                scope.spawn(move || {
                    let mut times = Vec::new();
                    let mut due = start + each * thread / THREADS;
                    for number in 0.. {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        if start.elapsed() >= whole {
                            break;
                        }
                        let begun = Instant::now();
                        let name = format!("1700000000.M{number}P{thread}.load");
                        deliver(folder, &name, text).expect("deliver");
                        times.push(begun.elapsed());
                        due += each;
                    }
                    times
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker"))
            .collect()
    });
    let whole = start.elapsed();
    times.sort();
    Phase { times, whole }
}

/// The run; prints what it found.
#[track_caller]
pub fn run(rate: u32, whole: Duration) {
    let mut cluster = Cluster::machines_apart(&["a", "b"]);
    for node in &mut cluster.nodes {
        node.init();
        node.mount();
    }
    let [a, b] = &cluster.nodes[..] else {
        unreachable!("two nodes")
    };
    // Both ways over a line with 50 ms there and back.
    let delay = Duration::from_millis(25);
    // A line computes nothing: what its relay does is the far machine's.
    b.host.run(|| {
        relay::start(&a.host, 2222, (b.host.ip, 22).into(), delay);
        relay::start(&b.host, 2222, (a.host.ip, 22).into(), delay);
    });
    let far = |through: &Node, to: &Node| {
        format!("ssh://root@{}:2222{}", through.host.ip, to.repo().display())
    };
    let meet = || {
        a.add_peer("b", &far(a, b));
        b.add_peer("a", &far(b, a));
        // Nobody has this address.
        a.add_peer("dead", "ssh://root@10.77.0.99/nowhere/repo.git");
        cluster.converge(Duration::from_secs(300));
    };
    let part = || {
        for (node, peer) in [(a, "b"), (a, "dead"), (b, "a")] {
            node.remove_peer(peer);
        }
        a.flush();
    };
    let mut ratios = [Vec::new(), Vec::new()];
    let mut alone_before: Option<[f64; 2]> = None;
    let mut chance = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        // What comes first may be in the way of what comes second.
        let is_alone = [round % 2 == 1, round % 2 == 0];
        let phases = is_alone.map(|is_alone| {
            if !is_alone {
                meet();
            }
            let user = format!("{}{round}", if is_alone { "alone" } else { "peers" });
            let phase = offer(a, &user, rate, whole / ROUNDS);
            println!("{user:<8} {}", phase.text());
            if !is_alone {
                cluster.converge(Duration::from_secs(300));
                part();
            }
            phase
        });
        let [alone, peers] = if is_alone[0] { [0, 1] } else { [1, 0] };
        let [alone, peers] = [alone, peers].map(|at| [50, 99].map(|part| phases[at].part(part)));
        for at in 0..2 {
            ratios[at].push(peers[at] / alone[at]);
            if let Some(before) = alone_before {
                chance[at].push(alone[at] / before[at]);
            }
        }
        alone_before = Some(alone);
    }
    let shown = |mut ratios: Vec<f64>| {
        ratios.sort_by(f64::total_cmp);
        let median = (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]) / 2.0;
        let [least, most] = [ratios[0], ratios[ratios.len() - 1]];
        format!("{median:.2} ({least:.2} to {most:.2})")
    };
    let [middle, late] = ratios.map(shown);
    println!("with peers to without: p50 {middle}, p99 {late}");
    let [middle, late] = chance.map(shown);
    println!("without peers to the round before: p50 {middle}, p99 {late}");
    meet();
    let peers = offer(a, "whole", rate, whole);
    let end = Instant::now();
    cluster.converge(Duration::from_secs(300));
    let level = end.elapsed();
    println!(
        "whole    {}; the peer is level {:.2} s after the end",
        peers.text(),
        level.as_secs_f64()
    );
    let there = std::fs::read_dir(b.mountpoint().join("whole/new")).expect("list");
    assert_eq!(there.count(), peers.times.len(), "not all is there");
    cluster.assert_sound();
}
