//! Hidden names: every name that a directory can hold comes back from its hidden name, and git finds nothing to say about any of them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use mailbraid::maildir::{Oid, hidden};

use super::generate;
use super::random::Random;

const NAMES: usize = 100_000;

/// A file of submodules as an attacker would write it.
const MODULES: &[u8] = b"[submodule \"../x\"]\n\tpath = -x\n\turl = -x\n";

#[test]
fn names_and_attributes_come_back_from_hidden_names() {
    let mut random = Random::from_env("names_and_attributes_come_back_from_hidden_names");
    for _ in 0..NAMES {
        let (name, attrs) = generate::entry(&mut random);
        let hidden = hidden::encode(&name, &attrs);
        assert_eq!(
            hidden::decode(&hidden),
            Ok((name.clone(), attrs)),
            "{}",
            name.escape_ascii()
        );
        assert!(
            !hidden.iter().any(|byte| b"/\0".contains(byte)),
            "{}",
            hidden.escape_ascii()
        );
        let plain = hidden::encode_plain(&name);
        assert_eq!(
            hidden::decode_plain(&plain),
            Ok(name.clone()),
            "{}",
            name.escape_ascii()
        );
        assert!(
            plain != hidden::MAILBOX
                && !(plain.len() == 1
                    && plain[0].is_ascii_hexdigit()
                    && !plain[0].is_ascii_uppercase())
        );
    }
}

#[test]
fn different_entries_have_different_hidden_names() {
    let mut random = Random::from_env("different_entries_have_different_hidden_names");
    let mut seen = std::collections::HashMap::new();
    for _ in 0..NAMES {
        let entry = generate::entry(&mut random);
        let before = seen.insert(hidden::encode(&entry.0, &entry.1), entry.clone());
        assert!(before.is_none_or(|before| before == entry));
    }
}

#[test]
fn names_that_no_directory_holds_are_refused() {
    for name in [&b"."[..], b"..", b"a/b", b"/", b"a\0b", b"\0", b""] {
        assert!(
            hidden::decode_plain(name).is_err(),
            "{}",
            name.escape_ascii()
        );
        let file = [name, b"%,m=0,s=0"].concat();
        assert!(hidden::decode(&file).is_err(), "{}", file.escape_ascii());
    }
}

/// git's own checker is asked, with a hostile `.gitmodules` under every name. The same names unhidden must be found out, or the question means nothing.
#[test]
fn git_takes_no_hidden_name_for_anything_but_a_name() {
    let mut random = Random::from_env("git_takes_no_hidden_name_for_anything_but_a_name");
    let nasty: Vec<Vec<u8>> = generate::NASTY.iter().map(|name| name.to_vec()).collect();
    let made = (0..5000).map(|_| generate::visible_name(&mut random));
    let hidden: Vec<Vec<u8>> = nasty
        .iter()
        .cloned()
        .chain(made)
        .flat_map(|name| {
            [
                hidden::encode_plain(&name),
                hidden::encode(&name, &Default::default()),
            ]
        })
        .collect();
    let minded = minded_by_git(&hidden);
    assert!(minded.is_empty(), "git fsck --strict minds {minded:?}");
    let minded = minded_by_git(&nasty);
    assert!(
        minded.len() >= 20,
        "git minds of the names unhidden only {minded:?}"
    );
}

/// The names that git's checker minds, found by halving.
fn minded_by_git(names: &[Vec<u8>]) -> Vec<String> {
    let store = tempfile::tempdir().expect("a directory for a repository");
    git(store.path(), &["init", "-q", "--bare", "."], b"");
    let blob = git(store.path(), &["hash-object", "-w", "--stdin"], MODULES);
    write_tree(store.path(), &String::from_utf8_lossy(&blob), names);
    let done = Command::new("git")
        .args(["fsck", "--strict", "--no-dangling", "--no-progress"])
        .current_dir(store.path())
        .output()
        .expect("git is there: run tests/run");
    let said = [done.stdout, done.stderr].concat();
    let clean = said
        .split(|&byte| byte == b'\n')
        .all(|line| line.is_empty() || line.starts_with(b"notice:"));
    match names {
        _ if clean && done.status.success() => Vec::new(),
        [name] => vec![name.escape_ascii().to_string()],
        _ => {
            let (left, right) = names.split_at(names.len() / 2);
            [minded_by_git(left), minded_by_git(right)].concat()
        }
    }
}

/// Writes a tree with one blob under every name, unchecked.
fn write_tree(store: &Path, blob: &str, names: &[Vec<u8>]) {
    let id = Oid::from_hex(blob.trim().as_bytes()).expect("git prints an id");
    let sorted: BTreeSet<&Vec<u8>> = names.iter().collect();
    let object: Vec<u8> = sorted
        .into_iter()
        .flat_map(|name| [b"100644 ", name.as_slice(), b"\0", id.as_bytes()].concat())
        .collect();
    git(
        store,
        &["hash-object", "--literally", "-w", "-t", "tree", "--stdin"],
        &object,
    );
}

fn git(store: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is there: run tests/run");
    child
        .stdin
        .take()
        .expect("stdin is a pipe")
        .write_all(input)
        .expect("git reads its input");
    let done = child.wait_with_output().expect("git ends");
    assert!(done.status.success(), "git {args:?}");
    done.stdout
}
