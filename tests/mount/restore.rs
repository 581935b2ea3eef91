//! `restore`: what was deleted comes back as it was, and nothing that is there changes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::support::mounted::{Mounted, deliver, git};

fn restore(mounted: &Mounted, rev: &str, path: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .arg("restore")
        .arg(mounted.store())
        .args([rev, path])
        .output()
        .expect("run mailbraid")
}

#[track_caller]
fn says(output: &Output, wanted: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.trim(),
        wanted,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_str().expect("UTF-8").to_owned())
        .collect()
}

/// A Maildir folder with messages whose names are given, each with a date of its own.
fn folder(mounted: &Mounted, folder: &str, messages: &[&str]) {
    for sub in ["tmp", "new", "cur"] {
        fs::create_dir_all(mounted.at(folder).join(sub)).expect("mkdir");
    }
    for (message, at) in messages.iter().zip(1..) {
        let path = mounted.at(folder).join("cur").join(message);
        fs::write(&path, format!("Subject: {message}\n\nHi.\n")).expect("write");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000 + at);
        let file = File::options().write(true).open(&path).expect("open");
        file.set_modified(time).expect("a date");
    }
}

fn head(mounted: &Mounted) -> String {
    mounted.flush();
    git(&mounted.store().join("repo.git"), &["rev-parse", "HEAD"])
        .trim()
        .to_owned()
}

#[test]
fn a_message_comes_back_with_its_date_and_flags_but_not_deleted() {
    let mounted = Mounted::new();
    folder(&mounted, "u", &["1.M1.vm:2,FST", "2.M1.vm:2,"]);
    let then = head(&mounted);
    fs::remove_file(mounted.at("u/cur/1.M1.vm:2,FST")).expect("rm");
    // Without flags, from the folder or from `cur`, and by an absolute path.
    says(
        &restore(&mounted, &then, "u/cur/1.M1.vm"),
        "1 restored, 0 already there",
    );
    let back = mounted.at("u/cur/1.M1.vm:2,FS");
    assert_eq!(
        fs::read(&back).expect("read"),
        b"Subject: 1.M1.vm:2,FST\n\nHi.\n"
    );
    assert_eq!(fs::metadata(&back).expect("stat").mtime(), 1_500_000_001);
    says(
        &restore(&mounted, &then, "u/1.M1.vm"),
        "0 restored, 1 already there",
    );
    let absolute = mounted.at("u/cur/1.M1.vm:2,FST");
    says(
        &restore(&mounted, &then, absolute.to_str().expect("UTF-8")),
        "0 restored, 1 already there",
    );
    assert_eq!(names(&mounted.at("u/tmp")).len(), 0);
    mounted.flush();
    mounted.fsck();
}

#[test]
fn a_folder_comes_back_whole_and_what_is_there_stays() {
    let mounted = Mounted::new();
    folder(
        &mounted,
        "u/.Old",
        &["1.M1.vm:2,S", "2.M1.vm:2,RS", "3.M1.vm:2,"],
    );
    deliver(&mounted.at("u/.Old"), "4.M1.vm", b"Subject: new\n\n").expect("deliver");
    folder(&mounted, "u/.Old.Sub", &["5.M1.vm:2,"]);
    fs::write(mounted.at("u/.Old/maildirfolder"), "").expect("write");
    let then = head(&mounted);
    fs::remove_dir_all(mounted.at("u/.Old")).expect("rm -r");
    says(
        &restore(&mounted, &then, "u/.Old"),
        "5 restored, 0 already there",
    );
    let cur = mounted.at("u/.Old/cur");
    assert_eq!(
        names(&cur),
        ["1.M1.vm:2,S", "2.M1.vm:2,RS", "3.M1.vm:2,"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(
        names(&mounted.at("u/.Old/new")),
        ["4.M1.vm".to_owned()].into()
    );
    // What has changed since is as it is now.
    fs::rename(cur.join("1.M1.vm:2,S"), cur.join("1.M1.vm:2,FS")).expect("flag");
    fs::remove_file(cur.join("2.M1.vm:2,RS")).expect("rm");
    says(
        &restore(&mounted, &then, "u"),
        "1 restored, 5 already there",
    );
    assert!(cur.join("1.M1.vm:2,FS").exists() && cur.join("2.M1.vm:2,RS").exists());
    mounted.flush();
    mounted.fsck();
}

#[test]
fn keywords_come_back_by_name() {
    let mounted = Mounted::new();
    folder(
        &mounted,
        "u",
        &["1.M1.vm:2,Sab", "2.M1.vm:2,c", "3.M1.vm:2,z"],
    );
    let table = mounted.at("u/dovecot-keywords");
    fs::write(&table, "0 Work\n1 Home\n2 Later\n").expect("write");
    let then = head(&mounted);
    for gone in ["1.M1.vm:2,Sab", "2.M1.vm:2,c", "3.M1.vm:2,z"] {
        fs::remove_file(mounted.at("u/cur").join(gone)).expect("rm");
    }
    // The letters mean something else now, and one name is gone.
    fs::write(mounted.at("u/dovecot-keywords.new"), "0 home\n3 Work\n").expect("write");
    fs::rename(mounted.at("u/dovecot-keywords.new"), &table).expect("rename");
    mounted.flush();
    says(
        &restore(&mounted, &then, "u/cur"),
        "3 restored, 0 already there",
    );
    assert_eq!(
        fs::read_to_string(&table).expect("read"),
        "0 home\n1 Later\n3 Work\n"
    );
    // `z` never had a name.
    assert_eq!(
        names(&mounted.at("u/cur")),
        ["1.M1.vm:2,Sad", "2.M1.vm:2,b", "3.M1.vm:2,z"]
            .map(str::to_owned)
            .into()
    );
    mounted.flush();
    mounted.fsck();
}

#[test]
fn what_cannot_be_restored_is_one_line() {
    let mut mounted = Mounted::new();
    folder(&mounted, "u", &["1.M1.vm:2,S"]);
    let then = head(&mounted);
    let refused = |output: Output, words: &str| {
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.lines().count() == 1 && said.contains(words), "{said}");
    };
    refused(restore(&mounted, &then, "u/cur/9.M1.vm"), "not in");
    refused(restore(&mounted, "no-such", "u"), "no-such");
    mounted.unmount();
    refused(restore(&mounted, &then, "u"), "not mounted; mount it first");
}
