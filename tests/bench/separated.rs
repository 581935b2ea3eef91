//! A mailbox that was changed on two sides, as history: what a braid is measured with.
//!
//! A side's changes are flags (half of them), expunges and deliveries (a quarter each); no message is changed by both sides unless both change more than half of
//! them. Every mail has content of its own, so that trees are as hard to compress as in life; the mails are small, for a merge never reads them.

use mailbraid::history::{CommitText, Graph, Repo, Writer, hash_blob};
use mailbraid::maildir::{Attrs, Content, HashKind, MailboxFacts, Oid, Op, TreePath};
use mailbraid::merge::World;
use mailbraid::store::world::BraidWorld;

/// The hash of the objects.
pub const KIND: HashKind = HashKind::Sha1;

pub fn mail(number: usize) -> Vec<u8> {
    format!("mail {number:09}\n").into_bytes()
}

pub fn name(number: usize, flags: &str) -> String {
    let time = 1_795_000_000 + number * 7;
    format!(
        "{time}.M{}P{}.vm,S=15:2,{flags}",
        number * 7919 % 1_000_000,
        1000 + number % 977
    )
}

fn path(number: usize, flags: &str) -> TreePath {
    TreePath::new(format!("u/cur/{}", name(number, flags)))
}

pub fn put(number: usize, uid: usize) -> Op {
    let mail = mail(number);
    Op::Put {
        path: path(number, ""),
        oid: hash_blob(KIND, &mail),
        attrs: Attrs {
            uid: Some(uid as u32),
            mtime: 1_795_000_000 + number as i64 * 7,
            size: mail.len() as u64,
            ..Attrs::default()
        },
        content: Content::Inline(mail),
    }
}

pub fn facts(uid_next: usize) -> Op {
    Op::SetMailbox {
        folder: TreePath::new("u"),
        facts: MailboxFacts {
            uid_validity: 7,
            uid_next: uid_next as u32,
            guid: Some(b"0123456789abcdef".to_vec()),
            ..MailboxFacts::default()
        },
    }
}

pub fn text(what: &str) -> CommitText {
    CommitText {
        node: "bench".to_owned(),
        time: 1_795_500_000,
        message: what.as_bytes().to_vec(),
        extra_parents: Vec::new(),
    }
}

/// One change of a side.
pub enum Edit {
    Flag(usize),
    Expunge(usize),
    Deliver(usize),
}

/// The changes of a side, spread over the mailbox.
pub fn edits(side: usize, count: usize, size: usize) -> Vec<Edit> {
    let changed = (0..count).map(|at| {
        // Different for each change: the step and the size have no divisor in common. The sides meet where they change more than half of the messages.
        let number = (at + side * size / 2) * 7_368_787 % size;
        match (at + side) % 4 {
            0 | 1 => Edit::Flag(number),
            2 => Edit::Expunge(number),
            _ => Edit::Deliver(size + at * 2 + side),
        }
    });
    changed.collect()
}

pub fn ops(edits: &[Edit], size: usize) -> Vec<Op> {
    let mut next = size + 1;
    let mut ops: Vec<Op> = edits
        .iter()
        .map(|edit| match *edit {
            Edit::Flag(number) => Op::Rename {
                from: path(number, ""),
                to: path(number, "S"),
            },
            Edit::Expunge(number) => Op::Remove {
                path: path(number, ""),
            },
            Edit::Deliver(number) => {
                next += 1;
                put(number, next - 1)
            }
        })
        .collect();
    ops.push(facts(next));
    ops
}

/// A mailbox, committed.
pub fn fill(repo: &Repo, size: usize) -> Oid {
    let mut writer = Writer::new(repo, None).unwrap();
    for dir in ["u", "u/cur", "u/new", "u/tmp"] {
        let path = TreePath::new(dir);
        writer.apply(&Op::Mkdir { path }, None).unwrap();
    }
    for number in 0..size {
        writer.apply(&put(number, number + 1), None).unwrap();
    }
    writer.apply(&facts(size + 1), None).unwrap();
    writer.commit(&text("import\n")).unwrap();
    writer.flush().unwrap();
    writer.tip().unwrap()
}

/// A head on the base.
pub fn head(repo: &Repo, base: Oid, ops: &[Op], what: &str) -> Oid {
    let graph = Graph::new(repo);
    let mut world = BraidWorld::new(repo, &graph).unwrap();
    let tree = world.tree(base).unwrap();
    let tree = world.build(Some(tree), ops).unwrap();
    let head = world.weaver.commit(tree, &[base], &text(what));
    world.weaver.install().unwrap();
    head
}
