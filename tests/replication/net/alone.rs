//! The machines by themselves, before any peer: sshd's forced command, and a Dovecot whose sleeping sessions are woken.

use std::process::{Command, Output};
use std::time::Duration;

use super::cluster::Cluster;
use super::node::Node;

/// git in a machine, on its node's repository, over its own ssh.
fn git(node: &Node, words: &[&str]) -> Output {
    node.host.run(|| {
        Command::new("git")
            .arg("-C")
            .arg(node.repo())
            .args(words)
            .env("PATH", node.keys.path())
            .output()
            .expect("run git")
    })
}

#[test]
fn a_key_reads_and_writes_its_own_ref_alone() {
    let mut cluster = Cluster::machines(&["a", "b"]);
    for node in &mut cluster.nodes {
        node.init();
        node.mount();
        node.start_dovecot();
        node.lmtp()
            .deliver("u", b"Subject: first\r\n\r\nHello.\r\n");
        node.flush();
    }
    let [a, b] = &cluster.nodes[..] else {
        unreachable!("two nodes")
    };
    let url = b.url();
    let pushed = git(a, &["push", "-q", &url, "mail:refs/mailbraid/peers/a"]);
    assert!(pushed.status.success(), "{pushed:?}");
    assert_eq!(
        b.git(&["rev-parse", "refs/mailbraid/peers/a"]).trim(),
        a.head().expect("a head")
    );
    for refused in ["mail:refs/mailbraid/peers/c", "mail:refs/heads/mail"] {
        let said = git(a, &["push", &url, &format!("+{refused}")]);
        assert!(!said.status.success(), "{refused} was taken");
    }
    // It braids what it took; what it did not take would be a's own head.
    assert_ne!(b.head(), a.head());
    let fetched = git(a, &["fetch", "-q", &url, "mail:refs/tests/b"]);
    assert!(fetched.status.success(), "{fetched:?}");
    let shell = a.host.run(|| {
        Command::new(a.keys.bin().join("ssh"))
            .args([&b.host.ip.to_string(), "id"])
            .output()
            .expect("run ssh")
    });
    assert!(!shell.status.success(), "a peer's key runs commands");
    cluster.assert_sound();
}

#[test]
fn a_session_asleep_is_woken_by_a_delivery() {
    let mut cluster = Cluster::machines(&["a"]);
    let node = &mut cluster.nodes[0];
    node.init();
    node.mount();
    node.start_dovecot();
    let mut lmtp = node.lmtp();
    lmtp.deliver("u", b"Subject: first\r\n\r\nHello.\r\n");
    let mut client = node.imap("u");
    client.ok("SELECT INBOX");
    let mut idle = client.idle();
    for count in 2..5 {
        // Long enough that it is put to sleep.
        std::thread::sleep(Duration::from_millis(1500));
        lmtp.deliver("u", b"Subject: next\r\n\r\nHello.\r\n");
        let wanted = format!("* {count} EXISTS");
        assert!(
            idle.wait(Duration::from_secs(20), |line| line == wanted),
            "mail {count} was not told"
        );
    }
    idle.done();
    cluster.assert_sound();
}
