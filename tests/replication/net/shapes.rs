//! Shapes of networks other than each with each, and nodes that come late, come back or come with a past.

use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::mailbox::{Desk, Ledger, message};
use crate::imap::snapshot;

const PATIENCE: Duration = Duration::from_secs(60);

/// The account is made on one node and known to all: one that is made on several at once takes the greater UIDVALIDITY, and Dovecot says so in its log.
#[track_caller]
fn found(cluster: &Cluster, ledger: &mut Ledger) {
    ledger.deliver(&mut Desk::new(0, &cluster.nodes[0], "u"));
    cluster.converge(PATIENCE);
}

/// Delivers on each of these nodes, and looks at all after they are level.
#[track_caller]
fn exchange(cluster: &Cluster, ledger: &mut Ledger, on: &[usize]) {
    for _ in 0..3 {
        for &at in on {
            ledger.deliver(&mut Desk::new(at, &cluster.nodes[at], "u"));
        }
    }
    level(cluster, ledger);
}

#[track_caller]
fn level(cluster: &Cluster, ledger: &mut Ledger) {
    let (took, head) = cluster.converge(PATIENCE);
    println!("level at {head} in {:.2} s", took.as_secs_f64());
    ledger.settle();
    let mut first = None;
    for (at, node) in cluster.nodes.iter().enumerate() {
        let mut desk = Desk::new(at, node, "u");
        ledger.check(&mut desk);
        let shown = desk.view();
        match &first {
            None => first = Some(shown),
            Some(first) => snapshot::assert_equal(first, &shown, node.name()),
        }
    }
}

#[test]
fn a_chain_carries_mail_from_end_to_end() {
    let cluster = Cluster::start(&["a", "b", "c"], &[(0, 1), (1, 2)]);
    let mut ledger = Ledger::default();
    found(&cluster, &mut ledger);
    exchange(&cluster, &mut ledger, &[0, 1, 2]);
    cluster.assert_sound();
}

#[test]
fn nodes_meet_at_a_plain_bare_repository() {
    let cluster = Cluster::start(&["a", "b"], &[]);
    let place = cluster.dir().join("meeting.git");
    let made = Command::new("git")
        .args(["init", "-q", "--bare"])
        .arg(&place)
        .status()
        .expect("run git");
    assert!(made.success());
    for node in &cluster.nodes {
        // Nobody calls them: they look.
        node.git(&["config", "mailbraid.fetchEvery", "1"]);
        node.add_peer("meeting", place.to_str().expect("UTF-8"));
    }
    let mut ledger = Ledger::default();
    found(&cluster, &mut ledger);
    exchange(&cluster, &mut ledger, &[0, 1]);
    cluster.assert_sound();
}

#[test]
fn an_empty_node_joins() {
    let mut cluster = Cluster::start(&["a", "b", "c"], &[(0, 1)]);
    let mut ledger = Ledger::default();
    cluster.nodes[2].stop_dovecot();
    let mut desk = Desk::new(0, &cluster.nodes[0], "u");
    for _ in 0..200 {
        ledger.deliver(&mut desk);
    }
    drop(desk);
    cluster.link(2, 0);
    cluster.link(0, 2);
    cluster.converge(PATIENCE);
    cluster.nodes[2].start_dovecot();
    exchange(&cluster, &mut ledger, &[0, 1, 2]);
    cluster.assert_sound();
}

#[test]
fn a_node_that_lost_its_disk_joins_again_under_its_name() {
    let mut cluster = Cluster::three();
    let mut ledger = Ledger::default();
    found(&cluster, &mut ledger);
    exchange(&cluster, &mut ledger, &[0, 1, 2]);
    let node = &mut cluster.nodes[0];
    node.stop_dovecot();
    node.unmount();
    node.lose_disk();
    node.init();
    // Mail for it goes on arriving elsewhere.
    for _ in 0..3 {
        ledger.deliver(&mut Desk::new(1, &cluster.nodes[1], "u"));
    }
    cluster.nodes[0].mount();
    cluster.link(0, 1);
    cluster.link(0, 2);
    cluster.converge(PATIENCE);
    cluster.nodes[0].start_dovecot();
    exchange(&cluster, &mut ledger, &[0, 1, 2]);
    cluster.assert_sound();
}

#[test]
fn two_accounts_with_a_past_of_their_own_become_one() {
    let cluster = Cluster::start(&["a", "b"], &[]);
    let mut ledger = Ledger::default();
    for (at, node) in cluster.nodes.iter().enumerate() {
        let mut desk = Desk::new(at, node, "u");
        for folder in ["Archive", ["Left", "Right"][at]] {
            desk.ok(&format!("CREATE @{folder}"));
            for flags in ["", "\\Seen Later", "$Label1"] {
                let text = message(&ledger.make());
                desk.append(folder, flags, None, &text).expect_ok("APPEND");
            }
        }
        for _ in 0..5 {
            ledger.deliver(&mut desk);
        }
        node.flush();
    }
    cluster.link(0, 1);
    cluster.link(1, 0);
    level(&cluster, &mut ledger);
    exchange(&cluster, &mut ledger, &[0, 1]);
    // Of two UIDVALIDITYs of one folder the greater stays: the other node's clients must begin anew.
    cluster.assert_sound_but(|line| line.contains("UIDVALIDITY changed"));
}
