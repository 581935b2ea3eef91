//! A hostile peer: what it sends is refused, with a line that says why, and deliveries go on.
//!
//! Each history is made by hand, object by object, and comes both ways: by a fetch from a meeting point (which checks nothing), and by a push straight
//! into the store, where git's own check comes first.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::nodes::{Node, bare, wait_until};
use crate::support::mounted::{deliver, folder, git};

/// A repository in which anything can be written.
struct Forge {
    dir: PathBuf,
}

impl Forge {
    /// An object, whatever it holds. Its id.
    fn object(&self, kind: &str, content: &[u8]) -> String {
        let mut child = Command::new("git")
            .args(["hash-object", "-w", "--literally", "-t", kind, "--stdin"])
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn blob(&self, content: &[u8]) -> String {
        self.object("blob", content)
    }

    /// A tree of `(mode, name, id)`, in the order given.
    fn tree(&self, entries: &[(&str, &str, &str)]) -> String {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            let bytes = (0..40)
                .step_by(2)
                .map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap());
            raw.extend(bytes);
        }
        self.object("tree", &raw)
    }

    /// The root tree of a Maildir `u` with these in its `cur`.
    fn maildir(&self, cur: &[(&str, &str, &str)], facts: Option<&str>) -> String {
        let cur = self.tree(cur);
        let mut below = Vec::new();
        let facts = facts.map(|text| self.blob(text.as_bytes()));
        if let Some(facts) = &facts {
            below.push(("100644", "%mailbox", facts.as_str()));
        }
        below.push(("40000", "cur", cur.as_str()));
        let folder = self.tree(&below);
        self.tree(&[("40000", "u", folder.as_str())])
    }

    /// A commit of node `evil`.
    fn commit(&self, tree: &str, parents: &[&str], sequence: usize) -> String {
        self.commit_by(
            "evil",
            tree,
            parents,
            &format!("deliver u/INBOX x\n\nNode: evil\nSequence: {sequence}\n"),
        )
    }

    fn commit_by(&self, node: &str, tree: &str, parents: &[&str], message: &str) -> String {
        let parents: String = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let who = format!("mailbraid <{node}> 1795466045 +0000");
        let text = format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\n{message}");
        self.object("commit", text.as_bytes())
    }
}

/// A history, and what the refusal says of it.
struct Hostile {
    what: &'static str,
    head: String,
    says: &'static str,
}

fn facts(next: u32) -> String {
    // As a node writes them; see `a_good_history_of_the_forge_is_taken`.
    format!("uidvalidity 7\nuidnext {next}\n")
}

/// One of each kind.
fn histories(forge: &Forge) -> Vec<Hostile> {
    let mut all = Vec::new();
    let mail = forge.blob(b"mail");
    let mail = mail.as_str();
    let empty = forge.tree(&[]);
    let mut case = |what, head, says| all.push(Hostile { what, head, says });
    let root = |entries: &[(&str, &str, &str)]| forge.commit(&forge.tree(entries), &[], 1);
    let cur = |entries: &[(&str, &str, &str)]| forge.commit(&forge.maildir(entries, None), &[], 1);

    case(
        "..",
        root(&[("40000", "..", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        ".",
        root(&[("40000", ".", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        ".git",
        root(&[("40000", ".git", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        ".. as a file",
        cur(&[("100644", "..%,m=1,s=4", mail)]),
        "not written as mailbraid writes names",
    );
    case(
        "an escaped ..",
        root(&[("40000", "%2e%2e", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        "a slash",
        root(&[("40000", "a/b", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        "an escaped slash",
        root(&[("40000", "a%2fb", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        "an empty name",
        root(&[("40000", "", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        "an escaped NUL",
        root(&[("40000", "a%00b", &empty)]),
        "not written as mailbraid writes names",
    );
    case(
        "a name twice",
        cur(&[("100644", "1.a%,s=4", mail), ("100644", "1.a%,s=4", mail)]),
        "in order, or one is there twice",
    );
    case(
        "a name twice with other attributes",
        cur(&[
            ("100644", "1.a%,s=4", mail),
            ("100644", "1.a%,u=7,s=4", mail),
        ]),
        "a name is there twice",
    );
    case(
        "a file and a directory of one name",
        root(&[("100644", "xx%,m=0,s=4", mail), ("40000", "xx", &empty)]),
        "twice",
    );
    case(
        "no order",
        cur(&[("100644", "2.a%,s=4", mail), ("100644", "1.a%,s=4", mail)]),
        "in order",
    );
    case(
        "a symbolic link",
        cur(&[("120000", "1.a%,s=4", mail)]),
        "a mode mailbraid does not write",
    );
    case(
        "an executable",
        cur(&[("100755", "1.a%,s=4", mail)]),
        "a mode mailbraid does not write",
    );
    case(
        "a submodule",
        root(&[("160000", "sub", "1234567812345678123456781234567812345678")]),
        "a mode mailbraid does not write",
    );
    case(
        "a padded mode",
        root(&[("040000", "sub", &empty)]),
        "a mode mailbraid does not write",
    );
    case(
        "attributes out of order",
        cur(&[("100644", "1.a%,s=4,u=7", mail)]),
        "not written as mailbraid writes names",
    );
    case(
        "a size that is not the blob's",
        cur(&[("100644", "1.a%,s=5", mail)]),
        "claims 5",
    );
    case(
        "a claim of 5 GiB",
        cur(&[("100644", "1.a%,s=5368709120", mail)]),
        "claims 5368709120",
    );
    case(
        "a file that is a tree",
        cur(&[("100644", "1.a%,s=0", &empty)]),
        "it is a tree, not a blob",
    );
    case(
        "a directory that is a blob",
        root(&[("40000", "xx", mail)]),
        "it is a blob, not a tree",
    );
    let half = forge.object("tree", b"40000 xx\0short");
    case("a tree cut off", forge.commit(&half, &[], 1), "cut off");
    let many: Vec<String> = (0..70).map(|n| format!("1.M{n:02}P1.x%,s=4")).collect();
    let entries: Vec<(&str, &str, &str)> = many
        .iter()
        .map(|name| ("100644", name.as_str(), mail))
        .collect();
    case(
        "a leaf too large",
        cur(&entries),
        "is not split where it must be",
    );
    let leaf = forge.tree(&entries[..1]);
    case(
        "a needless branch",
        forge.commit(&forge.tree(&[("40000", "0", &leaf)]), &[], 1),
        "split where it need not be",
    );
    case(
        "facts that are none",
        forge.commit(&forge.maildir(&[], Some("rubbish")), &[], 1),
        "%mailbox",
    );

    case(
        "a foreign history",
        {
            let who = "A U Thor <author@example.com> 1795466045 +0100";
            let tree = forge.tree(&[("100644", "README", mail)]);
            forge.object(
                "commit",
                format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nfirst\n").as_bytes(),
            )
        },
        "no mailbraid node",
    );
    let good = forge.maildir(&[("100644", "1.a%,s=4", mail)], None);
    case(
        "another's name in the trailer",
        forge.commit_by("evil", &good, &[], "x\n\nNode: other\nSequence: 1\n"),
        "says other",
    );
    case(
        "no trailer",
        forge.commit_by("evil", &good, &[], "x\n"),
        "no operations",
    );
    case(
        "a name with a slash",
        forge.commit_by("e/vil", &good, &[], "x\n\nNode: e/vil\nSequence: 1\n"),
        "no node's name",
    );
    case(
        "a header of its own",
        {
            let who = "mailbraid <evil> 1795466045 +0000";
            forge.object("commit", format!("tree {good}\nauthor {who}\ncommitter {who}\nencoding x\n\nx\n\nNode: evil\nSequence: 1\n").as_bytes())
        },
        "not written as mailbraid writes commits",
    );
    let (one, two) = (forge.commit(&good, &[], 1), forge.commit(&good, &[], 2));
    let (low, high) = if one < two {
        (&one, &two)
    } else {
        (&two, &one)
    };
    let subject = format!("braid {} {}\n", &low[..12], &high[..12]);
    case(
        "a braid of parents in disorder",
        forge.commit_by("braid", &good, &[high, low], &subject),
        "parents ascend",
    );
    case(
        "a braid of one",
        forge.commit_by("braid", &good, &[low], "braid x\n"),
        "at least two parents",
    );
    case(
        "a braid under a false subject",
        forge.commit_by("braid", &good, &[low, high], "braid x y\n"),
        "names its parents",
    );
    case(
        "a node's merge",
        forge.commit_by(
            "evil",
            &good,
            &[low, high],
            "x\n\nNode: evil\nSequence: 3\n",
        ),
        "several parents",
    );

    // A UID law broken in one step.
    let first = forge.commit(
        &forge.maildir(&[("100644", "1.a%,u=5,s=4", mail)], Some(&facts(6))),
        &[],
        1,
    );
    let other = forge.blob(b"another");
    let reused = forge.maildir(&[("100644", "2.b%,u=5,s=7", &other)], Some(&facts(6)));
    case(
        "a UID for another message",
        forge.commit(&reused, &[&first], 2),
        "a law of UIDs",
    );
    let fell = forge.maildir(&[("100644", "1.a%,u=5,s=4", mail)], Some(&facts(3)));
    case(
        "UIDNEXT falls",
        forge.commit(&fell, &[&first], 2),
        "a law of UIDs",
    );
    let doubled = forge.maildir(
        &[
            ("100644", "1.a%,u=5,s=4", mail),
            ("100644", "2.b%,u=5,s=7", &other),
        ],
        Some(&facts(6)),
    );
    case(
        "one UID for two messages",
        forge.commit(&doubled, &[], 1),
        "a law of UIDs",
    );

    // Many tiny commits, beyond the bound set below.
    let mut head = forge.commit(&good, &[], 1);
    for n in 2..40 {
        head = forge.commit(&good, &[&head], n);
    }
    case("many tiny commits", head, "more than 30 commits");
    all
}

fn forge(dir: &Path) -> Forge {
    bare(dir);
    Forge {
        dir: dir.to_owned(),
    }
}

/// A node with a history and a Maildir `u`.
fn victim() -> Node {
    let node = Node::new("a");
    node.config("mailbraid.fetchEvery", "1");
    node.config("mailbraid.peerCommits", "30");
    folder(&node.mounted.at("u"));
    deliver(&node.mounted.at("u"), "1.first.a", b"mine").unwrap();
    node.mounted.flush();
    node
}

/// Runs `hostile` while mail is delivered; all of it must be there in the end.
fn while_mail_arrives(node: &Node, hostile: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let before = node.messages("u").len();
    let delivered = thread::scope(|scope| {
        let deliveries = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                let name = format!("1.{}.a", before + count);
                deliver(&node.mounted.at("u"), &name, b"mine").unwrap();
                count += 1;
                thread::sleep(Duration::from_millis(10));
            }
            count
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hostile));
        over.store(true, Ordering::SeqCst);
        let delivered = deliveries.join().unwrap();
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        delivered
    });
    node.mounted.flush();
    assert_eq!(node.messages("u").len(), before + delivered);
    // Its own history is its own: one line, all of it by `a`.
    let authors = node.mounted.git(&["log", "--format=%ae", "mail"]);
    assert!(authors.lines().all(|author| author == "a"), "{authors}");
}

#[test]
fn a_hostile_history_that_is_fetched_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let forge = forge(dir.path());
    let node = victim();
    node.add_url("hub", dir.path().to_str().unwrap());
    while_mail_arrives(&node, || {
        for (at, hostile) in histories(&forge).iter().enumerate() {
            let name = format!("evil{at}");
            let refname = format!("refs/mailbraid/peers/{name}");
            git(dir.path(), &["update-ref", &refname, &hostile.head]);
            wait_until(hostile.what, || {
                !node.peer(&name)["refused"].is_null() || !node.peer("hub")["last_error"].is_null()
            });
            // What git itself cannot pack, the meeting point's own git refuses.
            let peer = node.peer(&name);
            match peer["refused"].as_str() {
                Some(why) => {
                    println!("{}: {why}", hostile.what);
                    assert!(why.contains(hostile.says), "{}: {why}", hostile.what);
                    assert_eq!(why.lines().count(), 1);
                }
                None => println!("{}: {}", hostile.what, node.peer("hub")["last_error"]),
            }
            git(dir.path(), &["update-ref", "-d", &refname]);
            wait_until("the meeting point works again", || {
                node.peer("hub")["last_error"].is_null()
            });
        }
    });
    let refs = node.mounted.git(&[
        "for-each-ref",
        "--format=%(refname)",
        "refs/mailbraid/peers",
        "refs/heads",
    ]);
    assert_eq!(refs, "refs/heads/mail\n");
}

#[test]
fn a_hostile_history_that_is_pushed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let forge = forge(dir.path());
    let node = victim();
    let url = node.repo();
    while_mail_arrives(&node, || {
        for (at, hostile) in histories(&forge).iter().enumerate() {
            let name = format!("evil{at}");
            let out = Command::new("git")
                .args(["push", "-q"])
                .arg(&url)
                .arg(format!("{}:refs/mailbraid/peers/{name}", hostile.head))
                .current_dir(dir.path())
                .output()
                .unwrap();
            if !out.status.success() {
                let said = String::from_utf8_lossy(&out.stderr);
                println!(
                    "{}: git says {}",
                    hostile.what,
                    said.lines().next().unwrap_or_default()
                );
                continue;
            }
            wait_until(hostile.what, || !node.peer(&name)["refused"].is_null());
            let peer = node.peer(&name);
            let why = peer["refused"].as_str().unwrap();
            println!("{}: {why}", hostile.what);
            assert!(why.contains(hostile.says), "{}: {why}", hostile.what);
        }
    });
    wait_until("refused heads are out of the way", || {
        let refs = node.mounted.git(&[
            "for-each-ref",
            "--format=%(refname)",
            "refs/mailbraid/peers",
            "refs/heads",
        ]);
        refs == "refs/heads/mail\n"
    });
    let aside = node.mounted.git(&[
        "for-each-ref",
        "--format=%(refname)",
        "refs/mailbraid/refused",
    ]);
    assert!(aside.lines().count() > 5, "{aside}");
}

#[test]
fn a_good_history_of_the_forge_is_taken() {
    // Otherwise the tests above would prove nothing.
    let dir = tempfile::tempdir().unwrap();
    let forge = forge(dir.path());
    let node = victim();
    node.add_url("hub", dir.path().to_str().unwrap());
    let mail = forge.blob(b"mail");
    let mut head = forge.commit(
        &forge.maildir(&[("100644", "1.a%,u=5,s=4", &mail)], Some(&facts(6))),
        &[],
        1,
    );
    for n in 2..20 {
        let name = format!("{n}.b%,u={},s=4", n + 4);
        let text = facts(n as u32 + 5);
        head = forge.commit(
            &forge.maildir(&[("100644", name.as_str(), &mail)], Some(&text)),
            &[&head],
            n,
        );
    }
    git(
        dir.path(),
        &["update-ref", "refs/mailbraid/peers/good", &head],
    );
    wait_until("it is braided", || node.messages("u").contains_key("19.b"));
    assert!(node.peer("good")["refused"].is_null());
    node.mounted.fsck();
}

#[test]
fn a_connection_that_breaks_in_the_pack_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let forge = forge(dir.path());
    let noise: Vec<u8> = (0..60_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let mail = forge.blob(&noise);
    let name = format!("1.a%,s={}", noise.len());
    let head = forge.commit(
        &forge.maildir(&[("100644", name.as_str(), &mail)], None),
        &[],
        1,
    );
    git(dir.path(), &["update-ref", "refs/mailbraid/peers/c", &head]);
    let node = victim();
    let flip = r#"perl -e 'while ($r = sysread(STDIN, $b, 65536)) { substr($b, 20000 - $n, 1) ^= "U" if $n <= 20000 && $n + $r > 20000; $n += $r; syswrite(STDOUT, $b) }'"#;
    for (what, filter) in [
        ("cut", "dd bs=1 count=20000 status=none"),
        ("corrupt", flip),
    ] {
        let program = dir.path().join(format!("ssh-{what}"));
        let text = format!(
            "#!/bin/sh\ngit upload-pack {} | {filter}\n",
            dir.path().display()
        );
        fs::write(&program, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        node.config("core.sshCommand", program.to_str().unwrap());
        node.add_url(what, "ssh://x/y");
        while_mail_arrives(&node, || {
            wait_until(what, || !node.peer(what)["last_error"].is_null());
        });
        println!("{what}: {}", node.peer(what)["last_error"]);
        crate::support::mounted::mailbraid_ok(&["peer", "remove", node.store(), what]);
        fs::remove_file(program).unwrap();
    }
    node.mounted.fsck();
    let refs = node.mounted.git(&["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/mail\n");
}
