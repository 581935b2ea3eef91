//! Braids into live mounts: two and three nodes, heads carried by git.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use mailbraid::store::last_committed;

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

/// Folders that are not loaded are known by their tree alone.
#[test]
fn what_is_not_loaded_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut b) = (Node::start("a", dir.path()), Node::start("b", dir.path()));
    for folder in ["u", "u/.One", "u/.Two", "v"] {
        let at = a.folder(folder);
        deliver(&at, "1.M1.vm", b"one").unwrap();
    }
    converge(&[&a, &b]);
    // Mounted anew, nothing below the mount point is loaded; then one folder is.
    drop(b);
    b = Node::start("b", dir.path());
    assert_eq!(names(&b, "u/.One/new"), ["1.M1.vm"]);
    for folder in ["u", "u/.One", "u/.Two", "v"] {
        deliver(&a.at(folder), "2.M2.vm", b"two").unwrap();
    }
    fs::rename(a.at("u/.Two"), a.at("v/.Two")).unwrap();
    fs::rename(a.at("u/.One"), a.at("u/.Uno")).unwrap();
    converge(&[&a, &b]);
    for below in ["u", "v"] {
        soon("what is not loaded", || a.files(below) == b.files(below));
    }
    assert_eq!(names(&b, "u/.Uno/new"), ["1.M1.vm", "2.M2.vm"]);
    assert_eq!(names(&b, "v/.Two/new"), ["1.M1.vm", "2.M2.vm"]);
}

/// A folder that is renamed elsewhere keeps its inode here, and a server's files go with it.
#[test]
fn a_folder_moves_with_its_servers_files() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Node::start("a", dir.path()), Node::start("b", dir.path()));
    deliver(&a.folder("u/.Old"), "1.M1.vm", b"one").unwrap();
    converge(&[&a, &b]);
    soon("the folder", || b.at("u/.Old/new/1.M1.vm").exists());
    fs::write(b.at("u/.Old/dovecot.index.log"), b"an index").unwrap();
    let inode = fs::metadata(b.at("u/.Old")).unwrap().ino();
    fs::rename(a.at("u/.Old"), a.at("u/.New")).unwrap();
    converge(&[&a, &b]);
    soon("the folder's new name", || {
        b.at("u/.New").exists() && !b.at("u/.Old").exists()
    });
    assert_eq!(fs::metadata(b.at("u/.New")).unwrap().ino(), inode);
    assert_eq!(
        fs::read(b.at("u/.New/dovecot.index.log")).unwrap(),
        b"an index"
    );
    assert!(b.at("u/.New/new/1.M1.vm").exists());
}

/// A folder whose lock a server holds is changed when the server has let go of it.
#[test]
fn a_lock_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Node::start("a", dir.path()), Node::start("b", dir.path()));
    a.folder("u");
    converge(&[&a, &b]);
    soon("the folder", || b.at("u/new").exists());
    assert!(names(&b, "u").len() >= 3);
    let lock = b.at("u/dovecot-uidlist.lock");
    fs::File::create_new(&lock).unwrap();
    let before = b.head();
    deliver(&a.at("u"), "1.M1.vm", b"one").unwrap();
    b.fetch(&a);
    for _ in 0..20 {
        thread::sleep(std::time::Duration::from_millis(10));
        assert_eq!(b.head(), before, "the braid did not wait");
    }
    // Nothing else waits.
    let own = deliver(&b.folder("v"), "2.M2.vm", b"two").unwrap();
    assert!(own.exists() && b.head() != before);
    fs::remove_file(&lock).unwrap();
    soon("what was held back", || b.at("u/new/1.M1.vm").exists());
    converge(&[&a, &b]);
    same_files(&a, &b);
}

/// A node whose disk was lost begins anew under its own name, and goes on above the numbers it had.
#[test]
fn a_node_takes_up_its_former_life() {
    for has_own in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let b = Node::start("b", dir.path());
        {
            let a = Node::start("a", dir.path());
            let inbox = a.folder("u");
            for number in 0..5 {
                deliver(&inbox, &format!("{number}.M{number}.vm"), b"x").unwrap();
            }
            converge(&[&a, &b]);
        }
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        let last =
            |node: &Node, of: &str| last_committed(node.store.repo(), node.head(), of).unwrap();
        let before = last(&b, "a");
        assert!(before >= 5);
        let mut a = Node::start("a", dir.path());
        if has_own {
            deliver(&a.folder("u"), "90.M90.vm", b"before it knows").unwrap();
            a.head();
        }
        converge(&[&a, &b]);
        assert_eq!(a.store.status().journal.acknowledged, before);
        soon("what it had", || a.at("u/new/4.M4.vm").exists());
        deliver(&a.at("u"), "91.M91.vm", b"after").unwrap();
        converge(&[&a, &b]);
        assert!(last(&b, "a") > before);
        same_files(&a, &b);
        // A restart finds what it needs.
        let after = a.store.status().journal.acknowledged;
        drop(a);
        a = Node::start("a", dir.path());
        assert_eq!(a.store.status().journal.acknowledged, after);
        deliver(&a.at("u"), "92.M92.vm", b"after a restart").unwrap();
        converge(&[&a, &b]);
        assert_eq!(last(&b, "a"), a.store.status().journal.acknowledged);
        same_files(&a, &b);
    }
}
