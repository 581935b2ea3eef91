//! What one flag change costs on the wire: bytes of the machine's interface, everything included.
//!
//! The two nodes hold a folder of 100,000 messages, and the line for pushes is open, as it is from the second change on. So there is no handshake in what is counted, and nothing
//! is taken off.
//!
//! Counted are both directions, with the frames of Ethernet, TCP and ssh. First with one node as the other's peer, then with each the peer of each: the second one says back what
//! it has only now and then.

use std::fs;
use std::time::Duration;

use mailbraid::history::{CommitText, Repo, Writer, hash_blob};
use mailbraid::maildir::{Attrs, Content, Op, TreePath};

use super::cluster::Cluster;
use super::node::Node;
use crate::support::mounted;

/// Flag changes, one after another.
const CHANGES: usize = 20;

fn name(number: usize) -> String {
    format!("{}.M{number}P1.vm:2,", 1_700_000_000 + number)
}

/// A store's history with one big folder, written beside any mount.
#[track_caller]
fn furnish(node: &Node, messages: usize) {
    let repo = Repo::open(&node.repo()).expect("open a repository");
    let mut writer = Writer::new(&repo, None).expect("a writer");
    for dir in ["u", "u/cur", "u/new", "u/tmp"] {
        let path = TreePath::new(dir);
        writer.apply(&Op::Mkdir { path }, None).expect("mkdir");
    }
    for number in 0..messages {
        let body = format!("Subject: {number}\n\nHello.\n").into_bytes();
        let op = Op::Put {
            path: TreePath::new(format!("u/cur/{}", name(number))),
            oid: hash_blob(repo.kind(), &body),
            content: Content::Spilled,
            attrs: Attrs {
                mtime: 1_700_000_000,
                size: body.len() as u64,
                ..Attrs::default()
            },
        };
        writer.apply(&op, Some(&body)).expect("put");
    }
    let text = CommitText {
        node: node.name().to_owned(),
        time: 1_795_466_045,
        message: format!(
            "import\n\nNode: {}\nSequence: 1-{}\n",
            node.name(),
            messages + 4
        )
        .into_bytes(),
        extra_parents: Vec::new(),
    };
    writer.commit(&text).expect("commit");
    writer.flush().expect("flush");
}

/// Nothing more comes after this.
const QUIET: Duration = Duration::from_millis(400);

/// Flag changes one after another; the bytes of each, sorted.
#[track_caller]
fn changes(cluster: &Cluster, messages: usize, from: usize) -> Vec<u64> {
    let a = &cluster.nodes[0];
    let cur = a.mountpoint().join("u/cur");
    let mut sent = Vec::new();
    // The first ones bring what later ones find: an open line, a delta's base.
    for change in from..from + CHANGES + 2 {
        let number = change * 31 % messages;
        let before = a.host.bytes();
        fs::rename(
            cur.join(name(number)),
            cur.join(format!("{}S", name(number))),
        )
        .expect("rename");
        cluster.converge(Duration::from_secs(60));
        std::thread::sleep(QUIET);
        let after = a.host.bytes();
        if change >= from + 2 {
            sent.push(after[0] + after[1] - before[0] - before[1]);
        }
    }
    sent.sort_unstable();
    sent
}

/// The run; prints what it found. Bytes of a change, the median, where one node is the peer of the other, and where each is the peer of each.
#[track_caller]
pub fn run(messages: usize) -> [u64; 2] {
    let mut cluster = Cluster::machines(&["a", "b"]);
    for node in &mut cluster.nodes {
        node.init();
        // Looks for what may have come are no part of a change.
        node.git(&["config", "mailbraid.fetchEvery", "3600"]);
    }
    furnish(&cluster.nodes[0], messages);
    for node in &mut cluster.nodes {
        node.mount();
    }
    cluster.link(0, 1);
    let (took, _) = cluster.converge(Duration::from_secs(300));
    println!(
        "{messages} messages are on both nodes {:.1} s after they were linked",
        took.as_secs_f64()
    );
    std::thread::sleep(QUIET * 2);
    let shown = |who: &str, from: usize| {
        let sent = changes(&cluster, messages, from);
        let (middle, most) = (sent[sent.len() / 2], sent[sent.len() - 1]);
        println!(
            "one flag change of {messages}, {who}: {middle} bytes by the interface (median of {}, most {most})",
            sent.len(),
        );
        middle
    };
    let there = shown("one is the peer of the other", 0);
    cluster.link(1, 0);
    cluster.converge(Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(2));
    let both = shown("each is the peer of each", CHANGES + 2);
    for node in &cluster.nodes {
        mounted::fsck(&node.store());
    }
    [there, both]
}
