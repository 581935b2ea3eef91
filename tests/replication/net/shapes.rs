//! Shapes of networks other than each with each, and nodes that come late, come back or come with a past.

use std::time::Duration;

use super::cluster::Cluster;
use super::mailbox::{Desk, Ledger};
use crate::imap::snapshot;

const PATIENCE: Duration = Duration::from_secs(60);

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
fn a_node_that_lost_its_disk_joins_again_under_its_name() {
    let mut cluster = Cluster::three();
    let mut ledger = Ledger::default();
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
