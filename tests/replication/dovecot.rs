//! A braid under an open Dovecot: who waits in IDLE is told, and who has the folder open sees renumbered messages go and come.

use std::time::Duration;

use super::node::{Node, converge, soon};
use crate::imap::dovecot::Dovecot;
use crate::imap::server::deliver_plainly;
use crate::imap::session::message;
use crate::imap::tools::{self, MAIL_GID, MAIL_UID};

/// How long a server may take to tell. Generous: nothing is measured here.
const PATIENCE: Duration = Duration::from_secs(30);

fn mail(subject: &str) -> Vec<u8> {
    message(
        subject,
        "a@example.org",
        "Sat, 03 Feb 2024 12:00:00 +0100",
        subject,
    )
}

struct Both {
    a: Node,
    b: Node,
    servers: [Dovecot; 2],
    _dir: tempfile::TempDir,
}

/// Two nodes, each with its Dovecot, that have one mail.
fn both() -> Both {
    let dir = tools::temporary();
    let owner = (MAIL_UID, MAIL_GID);
    let a = Node::start_for("a", dir.path(), owner);
    let b = Node::start_for("b", dir.path(), owner);
    deliver_plainly(&a.folder("u"), &mail("first"));
    let servers_a = Dovecot::start(&a.at(""));
    servers_a.login("u").ok("SELECT INBOX");
    converge(&[&a, &b]);
    soon("the folder", || b.at("u/cur").exists());
    let servers_b = Dovecot::start(&b.at(""));
    Both {
        a,
        b,
        servers: [servers_a, servers_b],
        _dir: dir,
    }
}

#[test]
fn idle_is_told_of_a_mail_that_a_braid_brings() {
    let Both {
        a,
        b,
        servers: [on_a, on_b],
        _dir,
    } = both();
    let mut client = on_b.login("u");
    assert_eq!(client.ok("SELECT INBOX").count("EXISTS"), Some(1));
    for round in 2..5 {
        let mut idle = client.idle();
        deliver_plainly(&a.at("u"), &mail(&format!("round {round}")));
        b.fetch(&a);
        let told = idle.wait(PATIENCE, |line| line == format!("* {round} EXISTS"));
        assert!(told, "nobody was told: {}", on_b.log());
        idle.done();
        converge(&[&a, &b]);
    }
    on_a.assert_silent();
    on_b.assert_silent();
}

#[test]
fn an_open_session_sees_renumbered_mail_go_and_come() {
    let Both {
        a,
        b,
        servers: [on_a, on_b],
        _dir,
    } = both();
    let mut clients = [on_a.login("u"), on_b.login("u")];
    for client in &mut clients {
        assert_eq!(client.ok("SELECT INBOX").count("EXISTS"), Some(1));
    }
    // Apart, both give UID 2 to a mail of their own, and a client sees it.
    let validity = clients[0].ok("STATUS INBOX (UIDVALIDITY)");
    let mut seen = Vec::new();
    for (node, client) in [&a, &b].into_iter().zip(&mut clients) {
        deliver_plainly(&node.at("u"), &mail(&format!("on {}", node.name)));
        client.ok("NOOP");
        seen.push(client.ok("UID SEARCH ALL").numbers());
    }
    assert_eq!(seen[0], seen[1], "both have given the same UIDs");
    converge(&[&a, &b]);
    for (client, node) in clients.iter_mut().zip([&a, &b]) {
        soon("both mails", || {
            node.files("u")
                .iter()
                .filter(|(path, _)| path.contains("/cur/") || path.contains("/new/"))
                .count()
                == 3
        });
        let told = client.ok("NOOP");
        let gone = told.untagged.iter().any(|line| line.ends_with(" EXPUNGE"));
        assert!(gone, "a UID stands for two mails: {told:?}");
        let now = client.ok("UID SEARCH ALL").numbers();
        assert_eq!(now.len(), 3);
        // Nobody's UID 2 is another mail now.
        assert!(!now.contains(&2), "{now:?}");
        client.ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    }
    let both: Vec<Vec<u32>> = clients
        .iter_mut()
        .map(|client| client.ok("UID SEARCH ALL").numbers())
        .collect();
    assert_eq!(both[0], both[1]);
    let later = clients[1].ok("STATUS INBOX (UIDVALIDITY)");
    assert_eq!(validity.untagged, later.untagged);
    on_a.assert_silent();
    on_b.assert_silent();
}

/// A folder is on both nodes before a server opens it on either: the one makes it and another at once, so that its next UIDVALIDITY is not the other's.
#[test]
fn a_folder_that_two_servers_open_at_once_has_one_uidvalidity() {
    let Both {
        a,
        b,
        servers: [on_a, on_b],
        _dir,
    } = both();
    let mut clients = [on_a.login("u"), on_b.login("u")];
    clients[0].ok("CREATE Made");
    a.folder("u/.Plain");
    deliver_plainly(&a.at("u/.Plain"), &mail("before anybody looked"));
    converge(&[&a, &b]);
    // A Dovecot that sees a folder without its parts makes them.
    std::fs::create_dir(a.at("u/.Half")).unwrap();
    converge(&[&a, &b]);
    for folder in ["u/.Made/cur", "u/.Plain/cur", "u/.Half"] {
        soon("the folder", || b.at(folder).exists());
    }
    a.folder("u/.Half");
    clients[0].ok("CREATE Other");
    clients[0].ok("SELECT Other");
    let mut seen = Vec::new();
    for folder in ["Made", "Plain", "Half"] {
        let validity = clients.each_mut().map(|client| {
            let shown = client.ok(&format!("SELECT {folder}"));
            shown.code("UIDVALIDITY").expect("a UIDVALIDITY")
        });
        assert_eq!(validity[0], validity[1], "{folder}");
        seen.push(validity[0]);
    }
    for (node, client) in [&a, &b].into_iter().zip(&mut clients) {
        for folder in ["Made", "Plain", "Half"] {
            let text = mail(&format!("on {} in {folder}", node.name));
            client.append(folder, "", None, &text).expect_ok("APPEND");
        }
    }
    converge(&[&a, &b]);
    let expected = [("Made", 2), ("Plain", 3), ("Half", 2)];
    for ((folder, count), before) in expected.into_iter().zip(seen.clone()) {
        let shown = clients.each_mut().map(|client| {
            soon("the other's mail", || {
                let listed = [&a, &b].map(|node| node.files(&format!("u/.{folder}")));
                listed.iter().all(|files| {
                    let mails = files
                        .iter()
                        .filter(|(path, _)| path.contains("/cur/") || path.contains("/new/"));
                    mails.count() == count
                })
            });
            client.ok("NOOP");
            let status = client.ok(&format!("STATUS {folder} (UIDVALIDITY UIDNEXT MESSAGES)"));
            assert_eq!(status.code("UIDVALIDITY"), Some(before), "{folder}");
            assert_eq!(status.code("MESSAGES"), Some(count as u64), "{folder}");
            status.code("UIDNEXT")
        });
        assert_eq!(shown[0], shown[1], "{folder}");
    }
    // A folder made later has a greater one, whichever node makes it.
    let greatest = seen.iter().copied().max();
    for (client, folder) in clients.iter_mut().zip(["LaterA", "LaterB"]) {
        client.ok(&format!("CREATE {folder}"));
        let shown = client.ok(&format!("SELECT {folder}"));
        assert!(shown.code("UIDVALIDITY") > greatest, "{folder}");
    }
    on_a.assert_silent();
    on_b.assert_silent();
}
