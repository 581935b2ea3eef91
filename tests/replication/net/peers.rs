//! Nodes that are peers, between machines.

use std::time::{Duration, Instant};

use super::arrivals::{Times, over_mailbraid};
use super::cluster::Cluster;
use super::kills::{Blow, strike};
use super::knobs::{number, seconds};
use super::mailbox::{Ledger, message};
use super::partition::{furnish, rounds};
use super::random::Random;
use super::{load, support, wire};

#[test]
fn a_delivery_on_one_node_wakes_a_session_on_another() {
    let count = number("DELIVERIES", 36);
    println!("mailbraid    {}", over_mailbraid(count).text());
}

#[test]
fn a_delivery_is_pushed_at_once() {
    let cluster = Cluster::start(&["a", "b"], &[(0, 1)]);
    let [a, b] = &cluster.nodes[..] else {
        unreachable!("two nodes")
    };
    let mut lmtp = a.lmtp();
    let theirs = b.repo().join("refs/mailbraid/peers/a");
    let mut times = Times::default();
    for number in 0..number("DELIVERIES", 36) {
        let before = a.head();
        let start = Instant::now();
        lmtp.deliver("u", &message(&format!("m{number}@example.org")));
        let acknowledged = Instant::now();
        while a.head() == before
            || std::fs::read_to_string(&theirs)
                .ok()
                .as_deref()
                .map(str::trim)
                != a.head().as_deref()
        {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "not pushed: {}",
                a.said()
            );
            std::thread::sleep(Duration::from_micros(500));
        }
        times.from_start.push(start.elapsed());
        times.from_acknowledged.push(acknowledged.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("pushed       {}", times.text());
    cluster.assert_sound();
}

#[test]
fn three_nodes_fall_apart_and_heal() {
    let mut random = Random::new(support::seed());
    let cluster = Cluster::three();
    let mut ledger = Ledger::default();
    furnish(&cluster, &mut ledger);
    rounds(&cluster, &mut ledger, &mut random, seconds(12));
    cluster.assert_sound();
}

#[test]
fn three_nodes_one_with_courier_fall_apart_and_heal() {
    let mut random = Random::new(support::seed());
    let mut cluster = Cluster::three_with_courier();
    let mut ledger = Ledger::default();
    furnish(&cluster, &mut ledger);
    cluster.nodes[1].start_courier();
    rounds(&cluster, &mut ledger, &mut random, seconds(12));
    // A folder that Courier renames gets another UIDVALIDITY from it, and Dovecot says so. No other does. A folder that Dovecot deletes on A is renamed to
    // `..DOVECOT-TRASHED` and emptied there; a client of Courier that lists at this moment gets to see it, and Courier complains of its name.
    cluster.assert_sound_but(|line| {
        if line.ends_with("Error reading ACLs for INBOX..DOVECOT-TRASHED: Invalid argument") {
            return true;
        }
        let folder = line.split_once(": UIDVALIDITY changed");
        let folder = folder.and_then(|(maildir, _)| maildir.rsplit_once("/u/."));
        folder.is_some_and(|(_, name)| ledger.was_renamed_by_courier(name))
    });
    // It was that moment only.
    for node in &cluster.nodes {
        let trashed = node.mountpoint().join("u/..DOVECOT-TRASHED");
        assert!(
            !trashed.exists(),
            "{} is left on {}",
            trashed.display(),
            node.name()
        );
    }
}

#[test]
fn a_node_is_killed() {
    strike(
        Blow::Kill,
        number("KILLS", 4),
        &mut Random::new(support::seed()),
    );
}

#[test]
fn a_link_is_cut() {
    strike(
        Blow::Cut,
        number("KILLS", 4),
        &mut Random::new(support::seed()),
    );
}

#[test]
fn a_far_peer_and_a_dead_one_cost_a_delivery_nothing() {
    let rate = number("RATE", 300);
    load::run(u32::try_from(rate).expect("a rate"), seconds(3));
}

#[test]
fn one_flag_change_in_a_large_folder() {
    for bytes in wire::run(number("MESSAGES", 100_000)) {
        assert!(bytes < 1024, "{bytes} bytes for one flag change");
    }
}
