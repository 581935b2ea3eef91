//! Nodes on one machine: what one does the others have, and all rest at one commit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use super::nodes::{Node, bare, converged, wait_until};
use crate::support::mounted::{deliver, folder, git, mailbraid};

/// Delivers `count` messages into `u` of a node.
fn deliver_some(node: &Node, count: usize) {
    let inbox = node.mounted.at("u");
    if !inbox.join("new").exists() {
        folder(&inbox);
    }
    for n in 0..count {
        let name = format!("{}.M{n}P1.{}", 1_795_466_045 + n, node.name);
        let text = format!("Subject: {n} from {}\n\nbody\n", node.name);
        deliver(&inbox, &name, text.as_bytes()).unwrap();
    }
}

/// All nodes show the same messages, `count` of them, and their repositories are sound.
fn same_mail(nodes: &[&Node], count: usize) {
    let first = nodes[0].messages("u");
    assert_eq!(first.len(), count, "{:?}", first.keys());
    for node in nodes {
        assert_eq!(
            node.messages("u"),
            first,
            "{} and {}",
            nodes[0].name,
            node.name
        );
        node.mounted.fsck();
    }
}

#[test]
fn two_nodes_that_deliver_at_once_rest_at_one_commit() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    a.add(&b);
    b.add(&a);
    thread::scope(|scope| {
        scope.spawn(|| deliver_some(&a, 30));
        scope.spawn(|| deliver_some(&b, 30));
    });
    converged(&[&a, &b]);
    same_mail(&[&a, &b], 60);
    let (ok, said) = a.flush_peers();
    assert!(ok, "{said}");
    let peer = a.peer("b");
    assert_eq!(peer["lag"], 0, "{peer}");
    assert!(
        peer["last_error"].is_null() && peer["refused"].is_null(),
        "{peer}"
    );
    assert!(peer["last_contact"].as_i64().unwrap() > 1_700_000_000);
}

#[test]
fn what_one_node_does_to_mail_the_other_shows() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    a.add(&b);
    b.add(&a);
    deliver_some(&a, 3);
    converged(&[&a, &b]);
    let inbox = b.mounted.at("u");
    let name = |n: usize| format!("{}.M{n}P1.a", 1_795_466_045 + n);
    fs::rename(
        inbox.join("new").join(name(0)),
        inbox.join("cur").join(format!("{}:2,S", name(0))),
    )
    .unwrap();
    fs::remove_file(inbox.join("new").join(name(1))).unwrap();
    converged(&[&a, &b]);
    let there = a.messages("u");
    let names: Vec<&String> = there.keys().collect();
    assert_eq!(names, [&format!("{}:2,S", name(0)), &name(2)]);
}

#[test]
fn three_nodes_rest_at_one_commit() {
    let nodes = [Node::new("a"), Node::new("b"), Node::new("c")];
    for node in &nodes {
        for other in &nodes {
            if node.name != other.name {
                node.add(other);
            }
        }
    }
    thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(|| deliver_some(node, 15));
        }
    });
    let nodes: Vec<&Node> = nodes.iter().collect();
    converged(&nodes);
    same_mail(&nodes, 45);
}

#[test]
fn a_chain_needs_no_link_between_its_ends() {
    let (a, b, c) = (Node::new("a"), Node::new("b"), Node::new("c"));
    for (one, other) in [(&a, &b), (&b, &a), (&b, &c), (&c, &b)] {
        one.add(other);
    }
    thread::scope(|scope| {
        scope.spawn(|| deliver_some(&a, 10));
        scope.spawn(|| deliver_some(&c, 10));
    });
    converged(&[&a, &b, &c]);
    same_mail(&[&a, &b, &c], 20);
}

#[test]
fn a_bare_repository_is_a_meeting_point() {
    let hub = tempfile::tempdir().unwrap();
    bare(hub.path());
    let (a, b) = (Node::new("a"), Node::new("b"));
    for node in [&a, &b] {
        node.config("mailbraid.fetchEvery", "1");
        node.add_url("hub", hub.path().to_str().unwrap());
    }
    thread::scope(|scope| {
        scope.spawn(|| deliver_some(&a, 10));
        scope.spawn(|| deliver_some(&b, 10));
    });
    let head = converged(&[&a, &b]);
    same_mail(&[&a, &b], 20);
    // The meeting point holds it too, for the next who comes.
    wait_until("the meeting point has the head", || {
        let refs = git(hub.path(), &["for-each-ref", "refs/mailbraid/peers/"]);
        refs.lines().filter(|line| line.starts_with(&head)).count() == 2
    });
}

#[test]
fn a_peer_that_refuses_our_pushes_is_fetched_from_all_the_same() {
    let hub = tempfile::tempdir().unwrap();
    bare(hub.path());
    let (a, b) = (Node::new("a"), Node::new("b"));
    for node in [&a, &b] {
        node.config("mailbraid.fetchEvery", "1");
    }
    deliver_some(&b, 3);
    b.add_url("hub", hub.path().to_str().unwrap());
    let (ok, said) = b.flush_peers();
    assert!(ok, "{said}");
    // As one whose disk is full.
    let hook = hub.path().join("hooks/pre-receive");
    fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    deliver_some(&a, 2);
    a.mounted.flush();
    a.add_url("hub", hub.path().to_str().unwrap());
    wait_until("a has all", || a.messages("u").len() == 5);
    let error = a.peer("hub")["last_error"].to_string();
    assert!(error.contains("pre-receive hook declined"), "{error}");
    fs::remove_file(&hook).unwrap();
    converged(&[&a, &b]);
    same_mail(&[&a, &b], 5);
}

#[test]
fn an_empty_store_joins_with_one_command() {
    let a = Node::new("a");
    deliver_some(&a, 200);
    folder(&a.mounted.at("u/.Archive"));
    a.mounted.flush();
    let b = Node::new("b");
    b.add(&a);
    wait_until("b has all", || b.head() == a.head());
    same_mail(&[&a, &b], 200);
    assert!(b.mounted.at("u/.Archive/cur").is_dir());
    // It calls a and is not called: a hears of it all the same.
    deliver_some(&b, 5);
    converged(&[&a, &b]);
    same_mail(&[&a, &b], 205);
    let peer = a.peer("b");
    assert_eq!(peer["url"], "", "{peer}");
    let listed = git(&b.repo(), &["remote", "-v"]);
    assert!(listed.contains(&format!("a\t{}", a.store())), "{listed}");
}

#[test]
fn histories_that_never_met_join_without_loss() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    deliver_some(&a, 20);
    deliver_some(&b, 20);
    a.mounted.flush();
    b.mounted.flush();
    a.add(&b);
    b.add(&a);
    converged(&[&a, &b]);
    same_mail(&[&a, &b], 40);
}

#[test]
fn a_dead_peer_costs_the_others_nothing() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    // A path that is not there, and a port that nobody listens at.
    a.add_url("dead", "/nowhere/store");
    a.add_url("gone", "git://127.0.0.1:9/x");
    a.add(&b);
    deliver_some(&a, 10);
    wait_until("b has all", || b.head() == a.head() && !b.head().is_empty());
    let (ok, said) = a.flush_peers();
    assert!(
        !ok && said.contains("dead (") && said.contains("gone ("),
        "{said}"
    );
    assert!(!said.contains("b ("), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let dead = a.peer("dead");
    assert!(
        dead["last_error"]
            .as_str()
            .unwrap()
            .contains("/nowhere/store"),
        "{dead}"
    );
    assert!(dead["lag"].as_u64().unwrap() > 0, "{dead}");
    assert!(a.peer("b")["last_error"].is_null());
    let began = Instant::now();
    deliver(&a.mounted.at("u"), "1.last.a", b"x").unwrap();
    println!("a delivery beside two dead peers: {:?}", began.elapsed());
    wait_until("b has the last", || {
        b.messages("u").contains_key("1.last.a")
    });
}

#[test]
fn a_peer_that_returns_is_caught_up() {
    let (a, mut b) = (Node::new("a"), Node::new("b"));
    a.add(&b);
    b.add(&a);
    deliver_some(&a, 5);
    converged(&[&a, &b]);
    // Its store is away: every push fails.
    b.mounted.unmount();
    let away = b.mounted.beside().join("away");
    fs::rename(b.mounted.store(), &away).unwrap();
    deliver(&a.mounted.at("u"), "1.meanwhile.a", b"x").unwrap();
    a.mounted.flush();
    wait_until("the failure is seen", || {
        !a.peer("b")["last_error"].is_null()
    });
    fs::rename(&away, b.mounted.store()).unwrap();
    b.mounted.mount();
    deliver(&b.mounted.at("u"), "1.returned.b", b"y").unwrap();
    converged(&[&a, &b]);
    same_mail(&[&a, &b], 7);
    wait_until("the error is over", || a.peer("b")["last_error"].is_null());
}

#[test]
fn a_node_killed_while_it_pushes_loses_and_doubles_nothing() {
    let (mut a, b) = (Node::new("a"), Node::new("b"));
    a.add(&b);
    b.add(&a);
    deliver_some(&a, 1);
    for round in 0..10 {
        for n in 0..5 {
            deliver(&a.mounted.at("u"), &format!("{round}.kill{n}.a"), b"x").unwrap();
        }
        // Somewhere between the commit and the end of the push.
        thread::sleep(Duration::from_millis(3 * round));
        a.mounted.kill_and_remount();
    }
    converged(&[&a, &b]);
    same_mail(&[&a, &b], 51);
}

#[test]
fn peers_come_and_go_without_a_remount() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    deliver_some(&a, 1);
    // As git itself does it.
    a.mounted.git(&["remote", "add", "b", b.store()]);
    wait_until("b has all", || b.head() == a.head() && !b.head().is_empty());
    assert_eq!(
        String::from_utf8_lossy(&mailbraid(&["peer", "list", a.store()]).stdout),
        format!("b\t{}\n", b.store())
    );
    let out = mailbraid(&["peer", "remove", a.store(), "b"]);
    assert!(out.status.success());
    // It may still be told of as one that was heard, which has no URL.
    wait_until("b is no peer", || {
        a.peer("b")["url"].as_str().is_none_or(str::is_empty)
    });
    let before = b.head();
    deliver(&a.mounted.at("u"), "1.after.a", b"x").unwrap();
    a.mounted.flush();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(b.head(), before);
    for (args, what) in [
        (["remove", "b", ""], "no peer"),
        (["add", "a", "/x"], "own name"),
        (["add", "b/c", "/x"], "node name"),
        (["add", "b", "https://b/x"], "https"),
        (["add", "b", "nowhere"], "relative"),
    ] {
        let args: Vec<&str> = ["peer", args[0], a.store()]
            .into_iter()
            .chain(args[1..].iter().copied().filter(|arg| !arg.is_empty()))
            .collect();
        let out = mailbraid(&args);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains(what) && said.lines().count() == 1,
            "{args:?}: {said}"
        );
    }
}

#[test]
fn packed_refs_hide_no_head() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    a.add(&b);
    deliver_some(&a, 3);
    wait_until("b has all", || b.head() == a.head() && !b.head().is_empty());
    for n in 0..5 {
        b.mounted.git(&["pack-refs", "--all", "--prune"]);
        deliver(&a.mounted.at("u"), &format!("1.packed{n}.a"), b"x").unwrap();
        a.mounted.flush();
        wait_until("b has all", || b.head() == a.head());
    }
    same_mail(&[&a, &b], 8);
}

#[test]
fn a_clean_stop_leaves_nothing_behind_for_peers_that_can_be_reached() {
    let (mut a, b) = (Node::new("a"), Node::new("b"));
    a.add(&b);
    deliver_some(&a, 20);
    a.mounted.unmount();
    let head = git(&a.repo(), &["rev-parse", "mail"]);
    let there = git(&b.repo(), &["rev-parse", "refs/mailbraid/peers/a"]);
    assert_eq!(head, there);
}
