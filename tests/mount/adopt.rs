//! A clone of a store's repository, made with plain git, becomes a store of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::mounted::{Mounted, deliver, git, mailbraid, mailbraid_ok};

/// A mount of a store with one mail, and a place where the mirror clone of its repository is.
fn with_clone() -> (Mounted, std::path::PathBuf) {
    let mounted = Mounted::new();
    mounted.maildir("u");
    deliver(&mounted.at("u"), "1700000000.M1.vm", b"one\n").unwrap();
    mounted.flush();
    let store = mounted.beside().join("clone");
    clone(&mounted.store().join("repo.git"), &store);
    (mounted, store)
}

fn clone(repo: &Path, store: &Path) {
    fs::create_dir(store).unwrap();
    let repo = repo.to_str().unwrap();
    git(store, &["clone", "-q", "--mirror", repo, "repo.git"]);
}

fn config(store: &Path, key: &str) -> Option<String> {
    let out = Command::new("git")
        .args(["config", "--file", "config", "--get", key])
        .current_dir(store.join("repo.git"))
        .output()
        .unwrap();
    out.status
        .success()
        .then(|| String::from_utf8(out.stdout).unwrap().trim().to_owned())
}

#[test]
fn a_clone_is_mounted_as_another_node() {
    let (mounted, store) = with_clone();
    let mut second = Mounted::over(&store);
    let path = second.at("u/new/1700000000.M1.vm");
    assert_eq!(fs::read(&path).unwrap(), b"one\n");
    let (first_name, name) = (
        config(mounted.store(), "mailbraid.node").unwrap(),
        config(&store, "mailbraid.node").unwrap(),
    );
    assert_eq!(name, format!("{first_name}-2"));
    assert_eq!(config(&store, "remote.origin.url"), None);
    assert_eq!(config(&store, "gc.auto").as_deref(), Some("0"));
    assert_eq!(config(&store, "core.bare").as_deref(), Some("true"));
    deliver(&second.at("u"), "1700000001.M1.vm", b"two\n").unwrap();
    second.flush();
    second.fsck();
    let said = second.git(&["log", "-1", "--format=%B"]);
    assert!(
        said.contains(&format!("Node: {name}\nSequence: 1")),
        "{said}"
    );
    second.remount();
    assert_eq!(fs::read_dir(second.at("u/new")).unwrap().count(), 2);
    second.unmount();
    mailbraid_ok(&["check", store.to_str().unwrap()]);
}

#[test]
fn a_lost_node_is_replaced_under_its_name() {
    let (mounted, store) = with_clone();
    let text = store.to_str().unwrap();
    let name = config(mounted.store(), "mailbraid.node").unwrap();
    let committed = mounted.status()["journal"]["committed"].as_u64().unwrap();
    mailbraid_ok(&["init", text, "--node", &name]);
    assert_eq!(config(&store, "mailbraid.node"), Some(name.clone()));
    let again = mailbraid(&["init", text]);
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("a store is here already"), "{said}");
    let second = Mounted::over(&store);
    deliver(&second.at("u"), "1700000001.M1.vm", b"two\n").unwrap();
    second.flush();
    let said = second.git(&["log", "-1", "--format=%B"]);
    let next = committed + 1;
    assert!(
        said.contains(&format!("Node: {name}\nSequence: {next}")),
        "{said}"
    );
}

#[test]
fn init_names_a_clone_itself() {
    let (mounted, store) = with_clone();
    mailbraid_ok(&["init", store.to_str().unwrap()]);
    assert_ne!(
        config(&store, "mailbraid.node"),
        config(mounted.store(), "mailbraid.node")
    );
}

#[test]
fn another_repository_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q", "-b", "mail"]);
    fs::write(work.join("README"), "x").unwrap();
    git(&work, &["add", "README"]);
    let who = ["-c", "user.name=x", "-c", "user.email=x@y"];
    git(&work, &[&who[..], &["commit", "-qm", "x"]].concat());
    let empty = dir.path().join("empty");
    git(dir.path(), &["init", "-q", "--bare", "empty"]);
    let (mountpoint, store) = (dir.path().join("mnt"), dir.path().join("store"));
    fs::create_dir(&mountpoint).unwrap();
    for origin in [work, empty] {
        clone(&origin, &store);
        let before = fs::read(store.join("repo.git/config")).unwrap();
        for args in [
            vec!["init", store.to_str().unwrap()],
            vec![
                "mount",
                store.to_str().unwrap(),
                mountpoint.to_str().unwrap(),
            ],
        ] {
            let refused = mailbraid(&args);
            assert_eq!(refused.status.code(), Some(1));
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(
                said.contains("not a mailbraid store, nor a clone of one"),
                "{said}"
            );
            let lines: Vec<&str> = said
                .lines()
                .filter(|line| line.starts_with("mailbraid: "))
                .collect();
            assert_eq!(lines.len(), 1, "{said}");
        }
        assert_eq!(fs::read(store.join("repo.git/config")).unwrap(), before);
        fs::remove_dir_all(&store).unwrap();
    }
}

#[test]
fn import_needs_a_mount_unless_told_otherwise() {
    let mounted = Mounted::new();
    let source = mounted.beside().join("source");
    crate::support::mounted::folder(&source);
    fs::write(source.join("cur/1700000000.M1.vm:2,S"), "x").unwrap();
    let plain = mounted.beside().join("plain");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let refused = mailbraid(&["import", &text(&source), &text(&plain)]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("no mailbraid store is mounted there") && said.lines().count() == 1,
        "{said}"
    );
    assert!(!plain.exists());
    mailbraid_ok(&["import", "--anywhere", &text(&source), &text(&plain)]);
    mailbraid_ok(&["import", &text(&source), &text(&mounted.at("u"))]);
    for dir in [plain, mounted.at("u")] {
        assert!(dir.join("cur/1700000000.M1.vm:2,S").exists());
    }
}
