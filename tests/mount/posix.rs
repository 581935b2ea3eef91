//! POSIX behaviour that Maildir programs rely on, on the real mount.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::mounted::{Mounted, mailbraid_ok};

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().expect("an errno")
}

fn listing(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_delivery_by_rename_and_by_link() {
    let mounted = Mounted::new();
    let u = mounted.maildir("u");
    fs::write(u.join("tmp/1.1.vm"), "one").unwrap();
    fs::rename(u.join("tmp/1.1.vm"), u.join("new/1.1.vm")).unwrap();
    fs::write(u.join("tmp/2.2.vm"), "two").unwrap();
    fs::hard_link(u.join("tmp/2.2.vm"), u.join("new/2.2.vm")).unwrap();
    assert_eq!(fs::metadata(u.join("new/2.2.vm")).unwrap().nlink(), 2);
    fs::remove_file(u.join("tmp/2.2.vm")).unwrap();
    assert_eq!(fs::metadata(u.join("new/2.2.vm")).unwrap().nlink(), 1);
    assert_eq!(listing(&u.join("new")), ["1.1.vm", "2.2.vm"]);
    assert!(listing(&u.join("tmp")).is_empty());
    assert_eq!(
        errno(fs::hard_link(u.join("new/1.1.vm"), u.join("new/2.2.vm"))),
        libc::EEXIST
    );
    assert_eq!(
        errno(fs::rename(u.join("new/none"), u.join("cur/none"))),
        libc::ENOENT
    );
    // COPY as Dovecot does it: link into the other folder's tmp, rename there.
    let a = mounted.maildir("u/.A");
    fs::hard_link(u.join("new/1.1.vm"), a.join("tmp/1.1.vm")).unwrap();
    fs::rename(a.join("tmp/1.1.vm"), a.join("cur/1.1.vm:2,S")).unwrap();
    assert_eq!(fs::read(a.join("cur/1.1.vm:2,S")).unwrap(), b"one");
    mounted.flush();
    mounted.fsck();
    let log = mailbraid_ok(&["log", mounted.store().to_str().unwrap(), "1.1.vm:2,"]);
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(
        log.contains("copy u/A 1.1.vm") && log.contains("deliver u/INBOX 1.1.vm"),
        "{log}"
    );
}

#[test]
fn open_files_outlive_their_names() {
    let mounted = Mounted::new();
    let u = mounted.maildir("u");
    for path in ["tmp/t", "cur/c:2,", "dovecot.index.cache"] {
        let path = u.join(path);
        fs::write(&path, "kept while open").unwrap();
        let mut open = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!path.exists());
        mounted.flush();
        open.seek(SeekFrom::End(0)).unwrap();
        open.write_all(b", and written").unwrap();
        let mut text = String::new();
        open.seek(SeekFrom::Start(0)).unwrap();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept while open, and written");
    }
}

#[test]
fn writes_in_place_append_and_truncate() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    let path = u.join("cur/1.1.vm:2,");
    fs::write(&path, "a message").unwrap();
    mounted.flush();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b", longer").unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"a message, longer");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"A", 0).unwrap();
    file.set_len(9).unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"A message");
    mounted.flush();
    // Large content goes through files instead of memory, and is the same afterwards.
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut file = File::create(u.join("tmp/2.2.vm")).unwrap();
    for piece in large.chunks(70_001) {
        file.write_all(piece).unwrap();
    }
    drop(file);
    fs::rename(u.join("tmp/2.2.vm"), u.join("new/2.2.vm")).unwrap();
    assert!(fs::read(u.join("new/2.2.vm")).unwrap() == large);
    mounted.unmount();
    mounted.mount();
    assert_eq!(fs::read(&path).unwrap(), b"A message");
    assert!(fs::read(u.join("new/2.2.vm")).unwrap() == large);
    mounted.fsck();
}

#[test]
fn exclusive_creation() {
    let mounted = Mounted::new();
    let u = mounted.maildir("u");
    for path in ["tmp/x", "cur/x", "dovecot-uidlist.lock", "other"] {
        let path = u.join(path);
        File::create_new(&path).unwrap();
        assert_eq!(errno(File::create_new(&path)), libc::EEXIST);
        fs::remove_file(&path).unwrap();
        File::create_new(&path).unwrap();
    }
}

#[test]
fn times_are_kept_to_the_nanosecond_and_directories_move() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    let path = u.join("tmp/1.1.vm");
    fs::write(&path, "dated").unwrap();
    let date = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(date)
        .unwrap();
    let before = fs::metadata(u.join("new")).unwrap().modified().unwrap();
    fs::rename(&path, u.join("new/1.1.vm")).unwrap();
    assert_eq!(
        fs::metadata(u.join("new/1.1.vm"))
            .unwrap()
            .modified()
            .unwrap(),
        date
    );
    assert!(fs::metadata(u.join("new")).unwrap().modified().unwrap() > before);
    let inode = fs::metadata(u.join("new/1.1.vm")).unwrap().ino();
    fs::rename(u.join("new/1.1.vm"), u.join("cur/1.1.vm:2,S")).unwrap();
    assert_eq!(fs::metadata(u.join("cur/1.1.vm:2,S")).unwrap().ino(), inode);
    mounted.unmount();
    mounted.mount();
    assert_eq!(
        fs::metadata(u.join("cur/1.1.vm:2,S")).unwrap().mtime(),
        1_000_000_000
    );
    // Changed where it lies, it is kept too.
    let file = File::options()
        .write(true)
        .open(u.join("cur/1.1.vm:2,S"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
        .unwrap();
    drop(file);
    mounted.unmount();
    mounted.mount();
    assert_eq!(fs::metadata(u.join("cur/1.1.vm:2,S")).unwrap().mtime(), 7);
}

#[test]
fn names_are_bytes() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    let names: Vec<Vec<u8>> = vec![
        b"\xff\xfe:2,S".to_vec(),
        "ä ö:2,".into(),
        b".git".to_vec(),
        b".gitmodules".to_vec(),
        b"a".to_vec(),
        b"%41\\x".to_vec(),
        b"new\nline".to_vec(),
        b"git~1".to_vec(),
        vec![b'x'; 255],
    ];
    for name in &names {
        fs::write(u.join("cur").join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(mounted.path().join(".git")).unwrap();
    fs::create_dir(mounted.path().join("b")).unwrap();
    mounted.unmount();
    mounted.mount();
    for name in &names {
        assert_eq!(
            &fs::read(u.join("cur").join(OsStr::from_bytes(name))).unwrap(),
            name
        );
    }
    assert_eq!(fs::read_dir(u.join("cur")).unwrap().count(), names.len());
    assert_eq!(listing(mounted.path()), [".git", "b", "u"]);
    mounted.fsck();
}

#[test]
fn directories() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    assert_eq!(errno(fs::create_dir(&u)), libc::EEXIST);
    assert_eq!(errno(fs::remove_dir(&u)), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_file(&u)), libc::EISDIR);
    assert_eq!(errno(fs::rename(&u, u.join("cur/u"))), libc::EINVAL);
    assert_eq!(fs::metadata(&u).unwrap().nlink(), 5);
    fs::write(u.join("cur/1.1.vm:2,"), "x").unwrap();
    fs::write(u.join("dovecot.index"), "local").unwrap();
    fs::rename(&u, mounted.path().join("v")).unwrap();
    let v = mounted.path().join("v");
    assert_eq!(fs::read(v.join("dovecot.index")).unwrap(), b"local");
    mounted.maildir("w");
    for sub in ["tmp", "new", "cur"] {
        fs::remove_dir(mounted.path().join("w").join(sub)).unwrap();
    }
    fs::rename(&v, mounted.path().join("w")).unwrap();
    mounted.unmount();
    mounted.mount();
    let w = mounted.path().join("w");
    assert_eq!(listing(mounted.path()), ["w"]);
    assert_eq!(listing(&w), ["cur", "dovecot.index", "new", "tmp"]);
    assert_eq!(fs::read(w.join("cur/1.1.vm:2,")).unwrap(), b"x");
    // Server-local files are nobody's history.
    assert!(
        !mounted
            .git(&["ls-tree", "-r", "mail"])
            .contains("dovecot.index")
    );
}

#[test]
fn files_that_change_their_class() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    // Dovecot: the lock file, written, becomes the subscriptions.
    for list in ["V\t2\n\nA\n", "V\t2\n\nA\nB\n"] {
        fs::write(u.join("subscriptions.lock"), list).unwrap();
        fs::rename(u.join("subscriptions.lock"), u.join("subscriptions")).unwrap();
        assert_eq!(fs::read_to_string(u.join("subscriptions")).unwrap(), list);
    }
    // Dovecot: a temporary file becomes the uidlist.
    fs::write(u.join("dovecot-uidlist.tmp"), "3 V1 N1\n").unwrap();
    fs::rename(u.join("dovecot-uidlist.tmp"), u.join("dovecot-uidlist")).unwrap();
    // Courier: a link count of 2 says that the lock was won.
    fs::create_dir(u.join("courierimapkeywords")).unwrap();
    fs::write(u.join("tmp/k"), "k").unwrap();
    fs::hard_link(u.join("tmp/k"), u.join("courierimapkeywords/:list")).unwrap();
    assert_eq!(fs::metadata(u.join("tmp/k")).unwrap().nlink(), 2);
    fs::remove_file(u.join("tmp/k")).unwrap();
    // A draft leaves cur for tmp and comes back.
    fs::write(u.join("cur/1.1.vm:2,D"), "draft").unwrap();
    fs::rename(u.join("cur/1.1.vm:2,D"), u.join("tmp/1.1.vm")).unwrap();
    assert_eq!(fs::read(u.join("tmp/1.1.vm")).unwrap(), b"draft");
    fs::rename(u.join("tmp/1.1.vm"), u.join("cur/1.1.vm:2,D")).unwrap();
    assert_eq!(
        errno(fs::rename(u.join("cur"), u.join("tmp/cur"))),
        libc::EXDEV
    );
    mounted.unmount();
    mounted.mount();
    assert_eq!(fs::read(u.join("cur/1.1.vm:2,D")).unwrap(), b"draft");
    assert_eq!(
        fs::read_to_string(u.join("subscriptions")).unwrap(),
        "V\t2\n\nA\nB\n"
    );
    assert_eq!(
        fs::read_to_string(u.join("dovecot-uidlist")).unwrap(),
        // The draft got a UID where it landed, and another one when it came back.
        "3 V1 N3\n2 :1.1.vm\n"
    );
    assert_eq!(
        fs::read_to_string(u.join("courierimapkeywords/:list")).unwrap(),
        "k"
    );
    mounted.fsck();
}

#[test]
fn locks_and_shared_maps_of_server_local_files() {
    let mounted = Mounted::new();
    let u = mounted.maildir("u");
    let path = u.join("dovecot.index.log");
    fs::write(&path, vec![0; 8192]).unwrap();
    // A second process maps the file shared, locks it and writes; python3 is on every Debian with these servers' build needs not met by sh.
    let script = "import mmap,fcntl,sys\nf=open(sys.argv[1],'r+b')\nfcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\nfcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\nm=mmap.mmap(f.fileno(),8192)\nm[4096:4100]=b'mark'\nm.flush()\ng=open(sys.argv[1],'r+b')\ntry:\n  fcntl.flock(g,fcntl.LOCK_EX|fcntl.LOCK_NB)\n  sys.exit('lock given twice')\nexcept BlockingIOError: pass\n";
    let out = Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .output()
        .expect("python3 is missing: run tests/run");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(&fs::read(&path).unwrap()[4096..4100], b"mark");
    assert_eq!(
        &fs::read(mounted.store().join("local/tree/u/dovecot.index.log")).unwrap()[4096..4100],
        b"mark"
    );
}

#[test]
fn what_a_maildir_has_no_use_for() {
    let mounted = Mounted::new();
    let u = mounted.maildir("u");
    let path = u.join("cur/1.1.vm:2,");
    fs::write(&path, "x").unwrap();
    assert_eq!(
        errno(std::os::unix::fs::symlink("a", u.join("b"))),
        libc::EPERM
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        errno(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o666)
        )),
        libc::EPERM
    );
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    assert_eq!(
        errno(std::os::unix::fs::chown(&path, Some(1), None)),
        libc::EPERM
    );
}

#[test]
fn statfs_tells_of_the_disk_below() {
    let mounted = Mounted::new();
    let shown = rustix::fs::statvfs(mounted.path()).unwrap();
    let below = rustix::fs::statvfs(mounted.store()).unwrap();
    assert_eq!(shown.f_namemax, 255);
    assert_eq!(
        shown.f_blocks * shown.f_frsize,
        below.f_blocks * below.f_frsize
    );
    assert!((shown.f_bavail * shown.f_frsize).abs_diff(below.f_bavail * below.f_frsize) < 1 << 30);
}

#[test]
fn owner_mode_and_other_users() {
    let mut mounted = Mounted::with_options("uid=65534,gid=65534,umask=027,allow_other");
    let u = mounted.maildir("u");
    fs::write(u.join("cur/1.1.vm:2,"), "x").unwrap();
    let metadata = fs::metadata(u.join("cur/1.1.vm:2,")).unwrap();
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (65534, 65534, 0o640)
    );
    assert_eq!(fs::metadata(&u).unwrap().mode() & 0o7777, 0o750);
    fs::set_permissions(mounted.beside(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_user = |uid: &str, script: &str| {
        Command::new("setpriv")
            .args([
                "--reuid",
                uid,
                "--regid",
                uid,
                "--clear-groups",
                "sh",
                "-c",
                script,
            ])
            .current_dir(mounted.path())
            .output()
            .expect("setpriv is missing: run tests/run")
            .status
            .success()
    };
    assert!(as_user(
        "65534",
        "echo y >u/tmp/2.2.vm && mv u/tmp/2.2.vm u/new/ && cat u/cur/*"
    ));
    assert!(!as_user("1234", "cat u/cur/1.1.vm:2,"));
    assert!(!as_user("1234", "ls u"));
    mounted.unmount();
    // Without allow_other only the mounting user's processes see anything.
    mounted.set_options("uid=65534,gid=65534");
    mounted.mount();
    let seen = Command::new("setpriv")
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "ls",
        ])
        .arg(mounted.path())
        .output()
        .unwrap();
    assert!(!seen.status.success());
}

#[test]
fn read_only() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    fs::write(u.join("cur/1.1.vm:2,"), "x").unwrap();
    mounted.unmount();
    mounted.set_options("ro");
    mounted.mount();
    assert_eq!(fs::read(u.join("cur/1.1.vm:2,")).unwrap(), b"x");
    assert_eq!(errno(fs::write(u.join("tmp/x"), "x")), libc::EROFS);
    assert_eq!(errno(fs::remove_file(u.join("cur/1.1.vm:2,"))), libc::EROFS);
}
