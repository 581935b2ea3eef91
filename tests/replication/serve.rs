//! `mailbraid serve`, the ssh forced command, behind a stand-in for ssh.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::nodes::{Node, converged, wait_until};
use crate::bench::mail::rng::Rng;
use crate::support::mounted::{deliver, folder, git};

/// A program that does what ssh and sshd do for a key whose forced command is `serve`.
pub fn ssh(dir: &Path, node: &str, store: &str) -> PathBuf {
    let path = dir.join(format!("ssh-{node}"));
    let text = format!(
        "#!/bin/sh\nwhile case \"$1\" in -o|-p) shift 2; true;; -*) shift; true;; *) false;; esac; do :; done\nshift\n\
         SSH_ORIGINAL_COMMAND=\"$*\" exec {} serve --node {node} --store {store}\n",
        env!("CARGO_BIN_EXE_mailbraid")
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `serve` with what a peer asked for.
fn serve(node: &str, store: &str, asked: &str, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .args(["serve", "--node", node, "--store", store])
        .env("SSH_ORIGINAL_COMMAND", asked)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may not read what it refuses.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// git as a peer that is called `node`, in a repository of its own.
fn git_as(node: &str, dir: &Path, store: &str, args: &[&str]) -> (bool, String) {
    let out = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_SSH_COMMAND", ssh(dir, node, store))
        .env("GIT_SSH_VARIANT", "ssh")
        .output()
        .expect("git is missing: run tests/run");
    let said = [out.stdout, out.stderr].concat();
    (
        out.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn nodes_exchange_through_ssh() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [(&a, &b), (&b, &a)] {
        let program = ssh(dir.path(), from.name, to.store());
        from.config("core.sshCommand", program.to_str().unwrap());
        from.add_url(
            to.name,
            &format!("ssh://mail@{}.example{}", to.name, to.store()),
        );
    }
    for node in [&a, &b] {
        let inbox = node.mounted.at("u");
        fs::create_dir_all(&inbox).unwrap();
        folder(&inbox);
        for n in 0..10 {
            deliver(&inbox, &format!("{n}.x.{}", node.name), b"mail").unwrap();
        }
    }
    converged(&[&a, &b]);
    assert_eq!(a.messages("u").len(), 20);
    assert_eq!(a.messages("u"), b.messages("u"));
}

#[test]
fn a_key_writes_its_own_ref_and_nothing_else() {
    let b = Node::new("b");
    folder(&b.mounted.at("u"));
    deliver(&b.mounted.at("u"), "1.x.b", b"mail").unwrap();
    b.mounted.flush();
    let head = b.head();
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "clone.git", "--bare"]);
    let clone = dir.path().join("clone.git");
    let url = format!("ssh://host{}", b.store());
    // Reading is allowed.
    let (ok, said) = git_as(
        "a",
        &clone,
        b.store(),
        &["fetch", "-q", &url, "refs/heads/mail:refs/heads/mail"],
    );
    assert!(ok, "{said}");
    for refused in [
        "mail:refs/heads/mail2",
        "mail:refs/heads/main",
        "mail:refs/mailbraid/peers/c",
        "mail:refs/mailbraid/peers/b",
        "mail:refs/mailbraid/refused/a",
        "mail:refs/tags/x",
        ":refs/heads/mail",
    ] {
        let (ok, said) = git_as(
            "a",
            &clone,
            b.store(),
            &["push", "-q", "--force", &url, refused],
        );
        assert!(!ok, "{refused} was taken: {said}");
    }
    // git takes this one for a part of its own, and the node does not.
    let below = "mail:refs/mailbraid/peers/a/b";
    git_as("a", &clone, b.store(), &["push", "-q", &url, below]);
    wait_until("a ref below its own is gone", || {
        git(&b.repo(), &["for-each-ref", "refs/mailbraid/"]).is_empty()
    });
    // The head itself, moved back.
    let tree = git(&clone, &["rev-parse", "mail^{tree}"]);
    let out = Command::new("git")
        .args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x",
            "commit-tree",
            "-m",
            "x",
            tree.trim(),
        ])
        .current_dir(&clone)
        .output()
        .unwrap();
    let other = String::from_utf8(out.stdout).unwrap();
    let (ok, said) = git_as(
        "a",
        &clone,
        b.store(),
        &[
            "push",
            "-q",
            "--force",
            &url,
            &format!("{}:refs/heads/mail", other.trim()),
        ],
    );
    assert!(!ok, "{said}");
    let (ok, said) = git_as(
        "a",
        &clone,
        b.store(),
        &["push", "-q", &url, "mail:refs/mailbraid/peers/a"],
    );
    assert!(ok, "{said}");
    assert_eq!(
        git(&b.repo(), &["rev-parse", "refs/mailbraid/peers/a"]).trim(),
        head
    );
    assert_eq!(b.head(), head);
    let refs = git(&b.repo(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/mail\nrefs/mailbraid/peers/a\n");
}

#[test]
fn nothing_that_a_peer_asks_for_reaches_a_shell_or_an_option() {
    let b = Node::new("b");
    let store = b.store();
    let mark = b.mounted.beside().join("mark");
    let touch = format!("touch {}", mark.display());
    for asked in [
        String::new(),
        "sh".to_owned(),
        touch.clone(),
        format!("git-upload-pack '{store}'; {touch}"),
        format!("git-upload-pack '{store}' && {touch}"),
        format!("git-upload-pack `{touch}`"),
        format!("git-upload-pack --upload-pack='{touch}' '{store}'"),
        format!("git-receive-pack -c core.hooksPath=/x '{store}'"),
        format!("git -c core.hooksPath=/x receive-pack '{store}'"),
        format!("git-receive-pack '{store}' -c receive.fsckObjects=false"),
        format!("git-upload-archive '{store}'"),
        "git-upload-pack '/'".to_owned(),
        format!("git-upload-pack '{store}/../other'"),
        format!("git-upload-pack '{}'", b.mounted.beside().display()),
        "scp -t /x".to_owned(),
        "internal-sftp".to_owned(),
    ] {
        let out = serve("a", store, &asked, b"");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{asked:?}: {said}");
        assert!(
            said.contains("refused") && said.lines().count() == 1,
            "{asked:?}: {said}"
        );
        assert!(out.stdout.is_empty(), "{asked:?}");
    }
    assert!(!mark.exists());
    // Its own key says who it is; the name is not asked of the peer.
    let out = serve("../a", store, &format!("git-upload-pack '{store}'"), b"");
    assert_eq!(out.status.code(), Some(1));
}

/// One packet line.
fn packet(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// What a client sends to move its ref from nothing to `new` with this pack.
fn push_of(new: &str, pack: &[u8]) -> Vec<u8> {
    let zero = "0".repeat(40);
    let mut input = packet(&format!(
        "{zero} {new} refs/mailbraid/peers/a\0 report-status"
    ));
    input.extend_from_slice(b"0000");
    input.extend_from_slice(pack);
    input
}

/// The same to a mailbraid, which wants the pack in packet lines: from `old` to `new`.
fn one_of_many(old: &str, new: &str, pack: &[u8]) -> Vec<u8> {
    let mut input = packet(&format!(
        "{old} {new} refs/mailbraid/peers/a\0 report-status"
    ));
    input.extend_from_slice(b"0000");
    for part in pack.chunks(1000) {
        input.extend_from_slice(format!("{:04x}", part.len() + 4).as_bytes());
        input.extend_from_slice(part);
    }
    input.extend_from_slice(b"0000");
    input
}

/// A pack without objects.
const EMPTY_PACK: &[u8] = b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

/// A pack of all that a commit needs beyond another.
fn pack_of(repo: &Path, commits: &str) -> Vec<u8> {
    let script = format!("git rev-list --objects {commits} | git pack-objects -q --stdout");
    let out = Command::new("sh")
        .args(["-c", &script])
        .current_dir(repo)
        .output()
        .unwrap();
    assert!(out.stdout.len() > 200, "{out:?}");
    out.stdout
}

/// The same compressed, as a client does that the server has told it may.
fn deflated(input: &[u8]) -> Vec<u8> {
    let start = packet("mailbraid-deflate\n");
    let mut encoder = flate2::write::DeflateEncoder::new(start, flate2::Compression::fast());
    encoder.write_all(input).unwrap();
    encoder.flush().unwrap();
    encoder.get_ref().clone()
}

/// What the server said, with what it said compressed after its refs.
fn inflated(said: &[u8]) -> String {
    let mut end = 0;
    loop {
        let len = std::str::from_utf8(&said[end..end + 4]).unwrap();
        let len = usize::from_str_radix(len, 16).unwrap();
        end += len.max(4);
        if len == 0 {
            break;
        }
    }
    let (refs, rest) = said.split_at(end);
    let mut plain = refs.to_vec();
    // The stream has no end of its own.
    let _ = flate2::read::DeflateDecoder::new(rest).read_to_end(&mut plain);
    String::from_utf8_lossy(&plain).into_owned()
}

#[test]
fn a_peer_pushes_again_and_again_over_one_connection() {
    pushes_again_and_again(<[u8]>::to_vec, |said| {
        String::from_utf8_lossy(said).into_owned()
    });
}

#[test]
fn a_peer_pushes_again_and_again_over_a_compressed_connection() {
    pushes_again_and_again(deflated, inflated);
}

fn pushes_again_and_again(say: fn(&[u8]) -> Vec<u8>, hear: fn(&[u8]) -> String) {
    let (a, b) = (Node::new("a"), Node::new("b"));
    folder(&a.mounted.at("u"));
    let mut input = Vec::new();
    let mut last = "0".repeat(40);
    for n in 0..3 {
        deliver(&a.mounted.at("u"), &format!("{n}.x.a"), &[n; 3000]).unwrap();
        a.mounted.flush();
        let head = a.head();
        let range = if n == 0 {
            "mail".to_owned()
        } else {
            format!("mail ^{last}")
        };
        input.extend(one_of_many(&last, &head, &pack_of(&a.repo(), &range)));
        last = head;
    }
    let asked = format!("mailbraid-receive-pack '{}'", b.store());
    let out = serve("a", b.store(), &asked, &say(&input));
    assert!(out.status.success(), "{out:?}");
    let said = hear(&out.stdout);
    assert_eq!(
        said.matches("ok refs/mailbraid/peers/a").count(),
        3,
        "{said}"
    );
    wait_until("they are braided", || b.messages("u").len() == 3);
    b.mounted.fsck();
    let kept = fs::read_dir(b.repo().join("objects/pack")).unwrap();
    let kept = kept.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|ext| ext == "keep")
    });
    assert_eq!(kept.count(), 0, "a pack that was taken is never merged");
}

#[test]
fn what_a_peer_pushes_over_its_connection_is_its_own_whole_and_in_order() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    folder(&a.mounted.at("u"));
    folder(&b.mounted.at("u"));
    deliver(&a.mounted.at("u"), "1.x.a", &[7; 5000]).unwrap();
    a.mounted.flush();
    let head = a.head();
    let zero = "0".repeat(40);
    let whole = pack_of(&a.repo(), "mail");
    // Commit and trees, and no mail: all ids are right, and something is missing.
    let poor = pack_of(&a.repo(), "--filter=blob:none mail");
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0x55;
    let mut longer = whole.clone();
    longer.extend_from_slice(&[1; 70_000]);
    let sane = one_of_many(&zero, &head, &whole);
    let command = |name: &str| packet(&format!("{zero} {head} {name}\0 report-status"));
    let asked = format!("mailbraid-receive-pack '{}'", b.store());
    b.mounted.flush();
    for (what, input, wanted) in [
        (
            "truncated",
            one_of_many(&zero, &head, &whole[..whole.len() - 30]),
            "unpack ",
        ),
        ("broken off", sane[..sane.len() - 40].to_vec(), "unpack "),
        ("corrupt", one_of_many(&zero, &head, &corrupt), "unpack "),
        ("none", one_of_many(&zero, &head, b""), "unpack "),
        ("empty", one_of_many(&zero, &head, EMPTY_PACK), "is missing"),
        (
            "without its mail",
            one_of_many(&zero, &head, &poor),
            "is missing",
        ),
        (
            "with more behind it",
            one_of_many(&zero, &head, &longer),
            "unpack ",
        ),
        (
            "from another value",
            one_of_many(&head, &head, &whole),
            "ng refs/mailbraid/peers/a",
        ),
        (
            "a removal",
            one_of_many(&zero, &zero, b""),
            "may not be removed",
        ),
        (
            "another's ref",
            [command("refs/mailbraid/peers/c"), b"0000".to_vec()].concat(),
            "this key may move",
        ),
        (
            "the head",
            [command("refs/heads/mailer"), b"0000".to_vec()].concat(),
            "this key may move",
        ),
    ] {
        let out = serve("a", b.store(), &asked, &input);
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.contains(wanted), "{what}: {said}");
        assert!(!said.contains("0032ok "), "{what}: {said}");
        assert_eq!(out.status.code(), Some(1), "{what}");
        let why = String::from_utf8_lossy(&out.stderr);
        assert_eq!(why.trim().lines().count(), 1, "{what}: {why}");
        let out = serve("a", b.store(), &asked, &deflated(&input));
        let said = inflated(&out.stdout);
        assert!(said.contains(wanted), "{what}, compressed: {said}");
        assert_eq!(out.status.code(), Some(1), "{what}, compressed");
        let name = format!("1.{}.b", what.replace([' ', '\''], "-"));
        deliver(&b.mounted.at("u"), &name, b"x").unwrap();
    }
    // Two commands, and none at all.
    let own = command("refs/mailbraid/peers/a");
    let two = [own.clone(), own, b"0000".to_vec()].concat();
    let no_deflate = [packet("mailbraid-deflate"), vec![0xff; 100]].concat();
    for input in [two, packet("hello"), b"zzzz".to_vec(), no_deflate] {
        let out = serve("a", b.store(), &asked, &input);
        assert_eq!(out.status.code(), Some(1), "{out:?}");
    }
    assert_eq!(serve("a", b.store(), &asked, b"").status.code(), Some(0));
    b.mounted.flush();
    assert_eq!(b.messages("u").len(), 11);
    assert_eq!(
        git(&b.repo(), &["for-each-ref", "--format=%(refname)"]),
        "refs/heads/mail\n"
    );
    b.mounted.fsck();
    // The whole one is taken.
    let out = serve("a", b.store(), &asked, &sane);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("ok refs/mailbraid/peers/a"), "{said}");
    wait_until("it is braided", || b.messages("u").contains_key("1.x.a"));
}

/// The packs that a store's repository shows its readers, and those that come in.
fn packs(b: &Node) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let list = |dir: PathBuf| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let is_index = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "idx");
    let shown = list(b.repo().join("objects/pack")).into_iter();
    let coming = list(b.repo().join("incoming")).into_iter().flat_map(list);
    (
        shown.filter(is_index).collect(),
        coming.filter(is_index).collect(),
    )
}

/// A push to `b` of a pack that holds one mail and lacks another, just before `serve` hears that this was all of it. `b` has been mounted anew, so that its writer will look
/// at the packs there are.
fn incomplete_push(b: &mut Node, mail: &[u8]) -> std::process::Child {
    let a = Node::new("a");
    folder(&a.mounted.at("u"));
    folder(&b.mounted.at("u"));
    deliver(&a.mounted.at("u"), "1.x.a", mail).unwrap();
    deliver(&a.mounted.at("u"), "2.x.a", &[8; 20_000]).unwrap();
    a.mounted.flush();
    let pack = pack_of(&a.repo(), "--filter=blob:limit=10k mail");
    let mut input = one_of_many(&"0".repeat(40), &a.head(), &pack);
    input.truncate(input.len() - "0000".len());
    b.mounted.flush();
    b.mounted.remount();
    let (before, _) = packs(b);
    let child = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .args(["serve", "--node", "a", "--store", b.store()])
        .env(
            "SSH_ORIGINAL_COMMAND",
            format!("mailbraid-receive-pack '{}'", b.store()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.as_ref().unwrap();
    stdin.write_all(&input).unwrap();
    wait_until("the pack has come", || {
        let (shown, coming) = packs(b);
        !coming.is_empty() || shown != before
    });
    child
}

#[test]
fn a_mail_that_an_incomplete_push_brings_too_is_kept() {
    let mut b = Node::new("b");
    let mail = [7; 5000];
    let mut child = incomplete_push(&mut b, &mail);
    deliver(&b.mounted.at("u"), "9.x.b", &mail).unwrap();
    b.mounted.flush();
    child.stdin.take().unwrap().write_all(b"0000").unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("is missing"), "{said}");
    assert_eq!(packs(&b).1, Vec::<PathBuf>::new());
    b.mounted.fsck();
    b.mounted.kill_and_remount();
    assert_eq!(b.messages("u")["9.x.b"], mail);
}

#[test]
fn what_a_killed_push_left_is_in_nobodys_way_and_goes_at_the_next_mount() {
    let mut b = Node::new("b");
    let mail = [7; 5000];
    let mut child = incomplete_push(&mut b, &mail);
    child.kill().unwrap();
    child.wait().unwrap();
    let (shown, left) = packs(&b);
    assert_eq!(left.len(), 1, "{shown:?}");
    deliver(&b.mounted.at("u"), "9.x.b", &mail).unwrap();
    b.mounted.flush();
    b.mounted.fsck();
    let counted = b.mounted.git(&["count-objects", "-v"]);
    assert!(counted.contains("garbage: 0"), "{counted}");
    b.mounted.git(&["gc", "-q", "--prune=now"]);
    b.mounted.remount();
    let mut left = fs::read_dir(b.repo().join("incoming/0")).unwrap();
    assert!(left.next().is_none());
    b.mounted.fsck();
    assert_eq!(b.messages("u")["9.x.b"], mail);
}

#[test]
fn damaged_packs_are_refused_and_deliveries_go_on() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    folder(&a.mounted.at("u"));
    folder(&b.mounted.at("u"));
    deliver(&a.mounted.at("u"), "1.x.a", &[7; 5000]).unwrap();
    a.mounted.flush();
    let head = a.head();
    let whole = pack_of(&a.repo(), "mail");
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0x55;
    // A blob of 5 GiB by its header: type 3, then the size in sevens of bits.
    let mut claimed = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    let mut size: u64 = 5 << 30;
    claimed.push(0x80 | 3 << 4 | (size & 15) as u8);
    size >>= 4;
    while size > 127 {
        claimed.push(0x80 | (size & 127) as u8);
        size >>= 7;
    }
    claimed.push(size as u8);
    claimed.extend_from_slice(&[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]);
    claimed.extend_from_slice(&[0; 20]);
    let asked = format!("git-receive-pack '{}'", b.store());
    for (what, pack) in [
        ("truncated", whole[..whole.len() - 30].to_vec()),
        ("corrupt", corrupt),
        ("none", Vec::new()),
        ("a claim of 5 GiB", claimed),
        ("an object missing", EMPTY_PACK.to_vec()),
    ] {
        let out = serve("a", b.store(), &asked, &push_of(&head, &pack));
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(
            !said.contains("ok refs/mailbraid/peers/a"),
            "{what}: {said}"
        );
        deliver(
            &b.mounted.at("u"),
            &format!("1.{}.b", what.replace(' ', "-")),
            b"x",
        )
        .unwrap();
    }
    b.mounted.flush();
    assert_eq!(b.messages("u").len(), 5);
    assert_eq!(
        git(&b.repo(), &["for-each-ref", "--format=%(refname)"]),
        "refs/heads/mail\n"
    );
    b.mounted.fsck();
    // The whole one is taken.
    let out = serve("a", b.store(), &asked, &push_of(&head, &whole));
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("ok refs/mailbraid/peers/a"), "{said}");
    wait_until("it is braided", || b.messages("u").contains_key("1.x.a"));
}

/// A small filesystem in memory, unmounted on drop.
struct Small(PathBuf);

impl Small {
    fn over(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "small"]);
        assert!(mount.arg(&dir).status().unwrap().success(), "as root");
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_push_that_meets_a_full_disk_is_told_so_and_taken_later() {
    let (a, b) = (Node::new("a"), Node::new("b"));
    folder(&a.mounted.at("u"));
    let mail = Rng::new(7).bytes(300_000);
    deliver(&a.mounted.at("u"), "1.x.a", &mail).unwrap();
    a.mounted.flush();
    let push = one_of_many(&"0".repeat(40), &a.head(), &pack_of(&a.repo(), "mail"));
    let asked = format!("mailbraid-receive-pack '{}'", b.store());
    let small = Small::over(b.repo().join("incoming"));
    let out = serve("a", b.store(), &asked, &push);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!said.contains("damaged"), "{said}");
    drop(small);
    let out = serve("a", b.store(), &asked, &push);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("ok refs/mailbraid/peers/a"), "{said}");
    wait_until("it is braided", || {
        b.messages("u").get("1.x.a") == Some(&mail)
    });
}
