//! Bad input gets one line that says what to do next, the documented exit code, and nothing is changed.

use std::fs;
use std::path::Path;

use crate::support::daemon::Daemon;
use crate::support::mounted::{Mounted, free, mailbraid, mailbraid_ok};

/// The one line, without the program's name.
fn refused(args: &[&str], code: i32) -> String {
    let out = mailbraid(args);
    let said = String::from_utf8(out.stderr).expect("UTF-8");
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    assert!(out.stdout.is_empty(), "{args:?}");
    said.trim()
        .strip_prefix("mailbraid: ")
        .expect("the program's name")
        .to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_mount_point_that_is_missing_or_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, none, file) = (
        dir.path().join("s"),
        dir.path().join("none"),
        dir.path().join("file"),
    );
    fs::write(&file, "x").unwrap();
    let why = refused(&["mount", text(&store), text(&none)], 1);
    assert!(why.contains("mkdir -p"), "{why}");
    let why = refused(&["mount", text(&store), text(&file)], 1);
    assert!(why.contains("not a directory"), "{why}");
    assert!(!store.exists());
}

#[test]
fn a_mount_point_that_is_busy() {
    let mounted = Mounted::new();
    let other = mounted.beside().join("other");
    let why = refused(&["mount", text(&other), text(mounted.path())], 1);
    assert!(
        why.contains("mounted here already") && why.contains("umount"),
        "{why}"
    );
    assert!(!other.exists());
}

#[test]
fn a_mount_whose_daemon_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mnt) = (dir.path().join("s"), dir.path().join("m"));
    fs::create_dir(&mnt).unwrap();
    let mut daemon = Daemon::start(&store, &mnt);
    daemon.kill();
    // It is freed: a remount needs no manual step.
    mailbraid_ok(&["mount", text(&store), text(&mnt)]);
    assert_eq!(fs::read_dir(&mnt).unwrap().count(), 0);
    free(&mnt);
}

#[test]
fn a_store_that_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let (letters, mnt) = (dir.path().join("letters"), dir.path().join("m"));
    fs::create_dir(&mnt).unwrap();
    fs::create_dir(&letters).unwrap();
    fs::write(letters.join("letter"), "x").unwrap();
    for args in [
        &["mount", text(&letters), text(&mnt)][..],
        &["init", text(&letters)],
        &["status", text(&letters)],
        &["flush", text(&letters)],
        &["log", text(&letters)],
        &["check", text(&letters)],
        &[
            "export",
            text(&letters),
            "HEAD",
            text(&dir.path().join("out")),
        ],
    ] {
        let why = refused(args, 1);
        assert!(why.contains("not a mailbraid store"), "{why}");
    }
    assert_eq!(fs::read_dir(&letters).unwrap().count(), 1);
    let why = refused(&["status", text(&dir.path().join("none"))], 1);
    assert!(why.contains("mailbraid init"), "{why}");
}

#[test]
fn a_store_in_use_names_the_pid() {
    let mounted = Mounted::new();
    let second = mounted.beside().join("second");
    fs::create_dir(&second).unwrap();
    let pid = fs::read_to_string(mounted.store().join("lock")).unwrap();
    let why = refused(&["mount", text(mounted.store()), text(&second)], 1);
    assert!(
        why.contains(&format!("in use by process {}", pid.trim())),
        "{why}"
    );
}

#[test]
fn a_store_of_a_newer_format_or_with_a_garbled_config() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mnt) = (dir.path().join("s"), dir.path().join("m"));
    fs::create_dir(&mnt).unwrap();
    mailbraid_ok(&["init", text(&store)]);
    let config = store.join("repo.git/config");
    let good = fs::read_to_string(&config).unwrap();
    assert!(good.contains("format = 1"), "{good}");
    fs::write(&config, good.replace("format = 1", "format = 99")).unwrap();
    let why = refused(&["mount", text(&store), text(&mnt)], 1);
    assert!(why.contains("99") && why.contains("newer"), "{why}");
    fs::write(&config, "[core\nbroken").unwrap();
    let why = refused(&["mount", text(&store), text(&mnt)], 1);
    assert!(why.contains("config"), "{why}");
    fs::write(
        &config,
        good.replace("[mailbraid]", "[mailbraid]\n\tdurability = sometimes"),
    )
    .unwrap();
    let why = refused(&["mount", text(&store), text(&mnt)], 1);
    assert!(why.contains("durability"), "{why}");
}

#[test]
fn unknown_options_and_commands() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mnt) = (dir.path().join("s"), dir.path().join("m"));
    fs::create_dir(&mnt).unwrap();
    let why = refused(
        &["mount", text(&store), text(&mnt), "-o", "rw,colour=blue"],
        2,
    );
    assert!(why.contains("colour=blue"), "{why}");
    refused(&["mount", text(&store)], 2);
    refused(&["paint"], 2);
    refused(&[], 2);
    assert!(!store.exists());
}

#[test]
fn a_store_below_its_mount_point() {
    let dir = tempfile::tempdir().unwrap();
    let why = refused(&["mount", text(&dir.path().join("s")), text(dir.path())], 1);
    assert!(why.contains("below the mount point"), "{why}");
    assert!(!dir.path().join("s").exists());
}

#[test]
fn init_says_what_it_will_not_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("s");
    let why = refused(&["init", text(&store), "--node", "a b"], 1);
    assert!(why.contains("a b"), "{why}");
    assert!(!store.exists());
    mailbraid_ok(&[
        "init",
        text(&store),
        "--node",
        "a",
        "--object-format",
        "sha256",
    ]);
    let why = refused(&["init", text(&store)], 1);
    assert!(why.contains("already"), "{why}");
}

#[test]
fn names_that_are_too_long() {
    let mounted = Mounted::new();
    let longest = mounted.path().join("n".repeat(255));
    fs::create_dir(&longest).unwrap();
    let error = fs::create_dir(mounted.path().join("n".repeat(256))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}
