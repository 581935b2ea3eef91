//! Braids into live mounts: two and three nodes, heads carried by git.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use super::node::{Node, converge, soon};
use crate::support::mounted::{deliver, fsck};

fn names(node: &Node, dir: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(node.at(dir))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn same_files(a: &Node, b: &Node) {
    soon("the same files on both", || a.files("u") == b.files("u"));
}

#[test]
fn an_empty_node_takes_what_another_has() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Node::start("a", dir.path()), Node::start("b", dir.path()));
    let inbox = a.folder("u");
    deliver(&inbox, "1.M1.vm", b"one").unwrap();
    let head = converge(&[&a, &b]);
    assert_eq!(a.head(), Some(head));
    same_files(&a, &b);
    assert_eq!(fs::read(b.at("u/new/1.M1.vm")).unwrap(), b"one");
    // It goes on from there.
    deliver(&b.at("u"), "2.M2.vm", b"two").unwrap();
    converge(&[&a, &b]);
    same_files(&a, &b);
}

#[test]
fn both_sides_are_braided_and_inodes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Node::start("a", dir.path()), Node::start("b", dir.path()));
    let inbox = a.folder("u");
    for number in 0..10 {
        deliver(&inbox, &format!("{number}.M{number}.vm"), b"x").unwrap();
    }
    converge(&[&a, &b]);
    let kept = fs::metadata(b.at("u/new/3.M3.vm")).unwrap().ino();
    assert_eq!(names(&b, "u/new").len(), 10);

    // Apart: a flag, a deletion and a delivery here, a flag and a folder there.
    fs::rename(a.at("u/new/3.M3.vm"), a.at("u/cur/3.M3.vm:2,S")).unwrap();
    fs::remove_file(a.at("u/new/4.M4.vm")).unwrap();
    deliver(&a.at("u"), "20.M20.vm", b"from a").unwrap();
    fs::rename(b.at("u/new/3.M3.vm"), b.at("u/cur/3.M3.vm:2,F")).unwrap();
    b.folder("u/.Work");
    fs::rename(b.at("u/new/5.M5.vm"), b.at("u/.Work/cur/5.M5.vm:2,")).unwrap();
    converge(&[&a, &b]);
    same_files(&a, &b);
    let merged = b.at("u/cur/3.M3.vm:2,FS");
    assert_eq!(fs::metadata(&merged).unwrap().ino(), kept);
    assert!(!b.at("u/new/4.M4.vm").exists());
    assert_eq!(fs::read(b.at("u/new/20.M20.vm")).unwrap(), b"from a");
    assert!(a.at("u/.Work/cur/5.M5.vm:2,").exists());
    for node in [&a, &b] {
        fsck(&dir.path().join(node.name).join("store"));
    }
}

/// Both deliver and flag without a pause while heads go to and fro.
#[test]
fn operations_go_on_while_heads_are_braided() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Node::start("a", dir.path()), Node::start("b", dir.path()));
    a.folder("u");
    converge(&[&a, &b]);
    soon("the folder", || b.at("u/tmp").exists());
    const EACH: usize = 150;
    thread::scope(|scope| {
        for node in [&a, &b] {
            scope.spawn(move || {
                for number in 0..EACH {
                    let name = format!("{number}.M{number}.{}", node.name);
                    let at = deliver(&node.at("u"), &name, name.as_bytes()).unwrap();
                    if number % 3 == 0 {
                        fs::rename(at, node.at(&format!("u/cur/{name}:2,S"))).unwrap();
                    }
                }
            });
        }
        for _ in 0..15 {
            a.fetch(&b);
            b.fetch(&a);
        }
    });
    converge(&[&a, &b]);
    same_files(&a, &b);
    let files = a.files("u");
    let mails = files.iter().filter(|(path, _)| path.contains(".M")).count();
    assert_eq!(mails, 2 * EACH);
}

#[test]
fn three_nodes_come_to_rest() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = ["a", "b", "c"].map(|name| Node::start(name, dir.path()));
    let [a, b, c] = &nodes;
    a.folder("u");
    converge(&[a, b, c]);
    for (number, node) in nodes.iter().enumerate() {
        soon("the folder", || node.at("u/tmp").exists());
        deliver(&node.at("u"), &format!("{number}.M{number}.vm"), b"x").unwrap();
    }
    converge(&[a, b, c]);
    for node in &nodes {
        soon("all mails", || names(node, "u/new").len() == 3);
    }
}
