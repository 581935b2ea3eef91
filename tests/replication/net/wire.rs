//! What one flag change costs on the wire: bytes of the machine's interface, everything included.
//!
//! The two nodes hold a folder of 100,000 messages. ssh's connection is open already; what is counted is git's own greeting, the push, TCP's and ssh's frames
//! and the acknowledgements, both ways, until the other node has it.

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
        message: b"import\n".to_vec(),
        extra_parents: Vec::new(),
    };
    writer.commit(&text).expect("commit");
    writer.flush().expect("flush");
}

/// The run; prints what it found.
#[track_caller]
pub fn run(messages: usize) {
    let mut cluster = Cluster::machines(&["a", "b"]);
    for node in &mut cluster.nodes {
        node.init();
    }
    furnish(&cluster.nodes[0], messages);
    for node in &mut cluster.nodes {
        node.mount();
    }
    cluster.link(0, 1);
    cluster.link(1, 0);
    let (took, _) = cluster.converge(Duration::from_secs(300));
    println!(
        "{messages} messages are on both nodes {:.1} s after they were linked",
        took.as_secs_f64()
    );
    let a = &cluster.nodes[0];
    let cur = a.mountpoint().join("u/cur");
    let mut sent = Vec::new();
    // The first changes bring what later ones find: an open connection, a delta's base.
    for change in 0..CHANGES + 2 {
        let number = change * 31 % messages;
        std::thread::sleep(Duration::from_millis(700));
        let before = a.host.bytes();
        fs::rename(
            cur.join(name(number)),
            cur.join(format!("{}S", name(number))),
        )
        .expect("rename");
        cluster.converge(Duration::from_secs(60));
        // What the other node answers by itself belongs to it.
        std::thread::sleep(Duration::from_millis(300));
        let after = a.host.bytes();
        if change >= 2 {
            sent.push([after[1] - before[1], after[0] - before[0]]);
        }
    }
    sent.sort();
    let most = sent.iter().map(|[out, back]| out + back).max();
    println!(
        "one flag change of {messages}: {} bytes out and {} back by the interface (median of {}), most {} together",
        sent[sent.len() / 2][0],
        sent[sent.len() / 2][1],
        sent.len(),
        most.unwrap_or(0)
    );
    for node in &cluster.nodes {
        mounted::fsck(&node.store());
    }
}
