//! Names, links, renames, removals: what POSIX says of the namespace.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::mounted::{Mounted, deliver};

#[track_caller]
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result
        .expect_err("it must be refused")
        .raw_os_error()
        .expect("the kernel's answer has a number")
}

fn names(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}

#[test]
fn a_delivery_is_a_file_with_one_name() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    let path = deliver(&mounted.at("u"), "1.M1P1.vm", b"Subject: x\n\ny\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"Subject: x\n\ny\n");
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    assert_eq!(names(&mounted.at("u/tmp")).len(), 0);
    assert_eq!(
        names(&mounted.at("u/new")),
        BTreeSet::from([OsString::from("1.M1P1.vm")])
    );
}

#[test]
fn link_counts_are_true() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    mounted.maildir("u/.A");
    let first = deliver(&mounted.at("u"), "1.M1P1.vm", b"one").unwrap();
    let ino = fs::metadata(&first).unwrap().ino();
    // COPY, as Dovecot does it: link into the other folder's tmp, rename from there.
    let tmp = mounted.at("u/.A/tmp/1.M1P1.vm");
    fs::hard_link(&first, &tmp).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(&tmp).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(&tmp).unwrap().ino(), ino);
    let second = mounted.at("u/.A/cur/1.M1P1.vm:2,S");
    fs::rename(&tmp, &second).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().nlink(), 2);
    let open = File::open(&second).unwrap();
    fs::remove_file(&first).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 1);
    fs::remove_file(&second).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    assert_eq!(errno(fs::hard_link(&second, &first)), libc::ENOENT);
    assert_eq!(
        errno(fs::hard_link(mounted.at("u/cur"), mounted.at("u/x"))),
        libc::EPERM
    );
}

#[test]
fn directories_count_their_subdirectories_and_their_mtime_moves() {
    let mounted = Mounted::new();
    fs::create_dir(mounted.at("u")).unwrap();
    let meta = || fs::metadata(mounted.at("u")).unwrap();
    let stamp = || (meta().mtime(), meta().mtime_nsec());
    assert_eq!(meta().nlink(), 2);
    let mut last = stamp();
    let mut moved = |what: &str| {
        let now = stamp();
        assert!(now > last, "{what}: the directory's mtime stays {last:?}");
        last = now;
    };
    mounted.maildir("u");
    moved("mkdir");
    assert_eq!(meta().nlink(), 5);
    fs::write(mounted.at("u/f"), "x").unwrap();
    moved("create");
    fs::rename(mounted.at("u/f"), mounted.at("u/g")).unwrap();
    moved("rename");
    fs::hard_link(mounted.at("u/g"), mounted.at("u/h")).unwrap();
    moved("link");
    fs::remove_file(mounted.at("u/g")).unwrap();
    moved("unlink");
    fs::remove_dir(mounted.at("u/cur")).unwrap();
    moved("rmdir");
    assert_eq!(meta().nlink(), 4);
    fs::rename(mounted.at("u/new"), mounted.at("elsewhere")).unwrap();
    moved("rename of a directory away");
    assert_eq!(meta().nlink(), 3);
}

#[test]
fn rename_replaces_in_one_step() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    let target = mounted.at("u/file");
    fs::write(&target, "0").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&target).expect("the name never goes away");
                let number: u32 = text.parse().expect("a whole content");
                assert!(number >= seen, "an old content came back");
                seen = number;
            }
            seen
        });
        for number in 1..=500_u32 {
            let from = mounted.at(format!("u/file.{number}"));
            fs::write(&from, number.to_string()).unwrap();
            fs::rename(&from, &target).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() <= 500);
    });
    assert_eq!(fs::read_to_string(&target).unwrap(), "500");
}

#[test]
fn a_replaced_or_removed_file_stays_readable_while_it_is_open() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    // A message, a scratch file and a server-local one, each removed and each replaced.
    for place in ["u/cur/1.M1.vm:2,", "u/tmp/1.M1.vm", "u/dovecot.index.log"] {
        let path = mounted.at(place);
        fs::write(&path, "removed").unwrap();
        let mut open = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "removed", "{place}");
        open.write_all(b" and written to").unwrap();
        open.seek(SeekFrom::Start(0)).unwrap();
        text.clear();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "removed and written to", "{place}");
        assert_eq!(open.metadata().unwrap().nlink(), 0);

        let open = File::open(&path).unwrap();
        let beside = path.with_extension("beside");
        fs::write(&beside, "replacing").unwrap();
        fs::rename(&beside, &path).unwrap();
        let mut bytes = [0; 7];
        open.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"another", "{place}");
        assert_eq!(fs::read(&path).unwrap(), b"replacing", "{place}");
    }
    mounted.flush();
    mounted.fsck();
}

#[test]
fn what_posix_refuses_is_refused_with_its_number() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    let at = |path: &str| mounted.at(path);
    fs::write(at("u/f"), "x").unwrap();
    fs::write(at("u/cur/1.M1.vm:2,"), "x").unwrap();
    assert_eq!(errno(File::create_new(at("u/f"))), libc::EEXIST);
    assert_eq!(
        errno(File::create_new(at("u/cur/1.M1.vm:2,"))),
        libc::EEXIST
    );
    assert_eq!(errno(File::open(at("u/none"))), libc::ENOENT);
    assert_eq!(errno(fs::create_dir(at("u/cur"))), libc::EEXIST);
    assert_eq!(errno(fs::create_dir(at("u/none/x"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(at("u/cur"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(at("u/f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::remove_file(at("u/new"))), libc::EISDIR);
    assert_eq!(errno(fs::remove_file(at("u/none"))), libc::ENOENT);
    assert_eq!(errno(fs::rename(at("u/none"), at("u/x"))), libc::ENOENT);
    assert_eq!(errno(fs::rename(at("u/f"), at("u/new"))), libc::EISDIR);
    assert_eq!(errno(fs::rename(at("u/new"), at("u/f"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(at("u/new"), at("u/cur"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(at("u"), at("u/cur/u"))), libc::EINVAL);
    assert_eq!(errno(fs::hard_link(at("u/f"), at("u/cur"))), libc::EEXIST);
    assert_eq!(
        errno(std::os::unix::fs::symlink("f", at("u/link"))),
        libc::EPERM
    );
    let fifo = rustix::fs::mknodat(
        rustix::fs::CWD,
        at("u/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    );
    assert_eq!(fifo, Err(rustix::io::Errno::PERM));
    let no_replace = rustix::fs::renameat_with(
        rustix::fs::CWD,
        at("u/f"),
        rustix::fs::CWD,
        at("u/cur/1.M1.vm:2,"),
        rustix::fs::RenameFlags::NOREPLACE,
    );
    assert_eq!(no_replace, Err(rustix::io::Errno::EXIST));
    let exchange = rustix::fs::renameat_with(
        rustix::fs::CWD,
        at("u/f"),
        rustix::fs::CWD,
        at("u/cur/1.M1.vm:2,"),
        rustix::fs::RenameFlags::EXCHANGE,
    );
    assert_eq!(exchange, Err(rustix::io::Errno::INVAL));
    assert_eq!(fs::read(at("u/f")).unwrap(), b"x");
}

#[test]
fn names_are_bytes_and_255_of_them_at_most() {
    let mut mounted = Mounted::new();
    mounted.maildir("u");
    let odd: Vec<Vec<u8>> = vec![
        b"\xff\xfe.M1.vm".to_vec(),
        b" leading and trailing ".to_vec(),
        b"tab\tnewline\nquote\"back\\slash".to_vec(),
        b"-rf".to_vec(),
        b".git".to_vec(),
        b"HEAD".to_vec(),
        b"%2F".to_vec(),
        b"caf\xc3\xa9".to_vec(),
        b"cafe\xcc\x81".to_vec(),
        b"A".to_vec(),
        b"a".to_vec(),
        vec![b'n'; 255],
    ];
    let told: BTreeSet<OsString> = odd
        .iter()
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect();
    for name in &told {
        for dir in ["u/cur", "u"] {
            fs::write(mounted.at(dir).join(name), name.as_bytes()).unwrap();
        }
    }
    let check = |mounted: &Mounted| {
        assert_eq!(names(&mounted.at("u/cur")), told);
        for name in &told {
            for dir in ["u/cur", "u"] {
                let content = fs::read(mounted.at(dir).join(name)).unwrap();
                assert_eq!(content, name.as_bytes());
            }
        }
    };
    check(&mounted);
    mounted.flush();
    mounted.fsck();
    mounted.remount();
    check(&mounted);
    let long = mounted.at("u/cur").join("n".repeat(256));
    assert_eq!(errno(File::create_new(&long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::create_dir(&long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&long)), libc::ENAMETOOLONG);
    let short = mounted.at("u/cur").join("n".repeat(255));
    assert_eq!(errno(fs::rename(&short, &long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::hard_link(&short, &long)), libc::ENAMETOOLONG);
    check(&mounted);
}

#[test]
fn folders_move_with_all_that_is_in_them() {
    let mut mounted = Mounted::new();
    mounted.maildir("u/.A");
    deliver(&mounted.at("u/.A"), "1.M1.vm", b"one").unwrap();
    fs::write(mounted.at("u/.A/dovecot.index"), "index").unwrap();
    let open = File::open(mounted.at("u/.A/new/1.M1.vm")).unwrap();
    fs::rename(mounted.at("u/.A"), mounted.at("u/.B.C")).unwrap();
    assert_eq!(errno(fs::metadata(mounted.at("u/.A"))), libc::ENOENT);
    let check = |mounted: &Mounted| {
        assert_eq!(fs::read(mounted.at("u/.B.C/new/1.M1.vm")).unwrap(), b"one");
        assert_eq!(
            fs::read(mounted.at("u/.B.C/dovecot.index")).unwrap(),
            b"index"
        );
    };
    check(&mounted);
    let mut bytes = [0; 3];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"one");
    drop(open);
    // An empty directory gives way, as rename(2) says.
    fs::create_dir(mounted.at("u/.D")).unwrap();
    fs::rename(mounted.at("u/.B.C"), mounted.at("u/.D")).unwrap();
    fs::rename(mounted.at("u/.D"), mounted.at("u/.B.C")).unwrap();
    check(&mounted);
    mounted.remount();
    check(&mounted);
    // As a server deletes a folder: everything in it, then itself.
    fs::remove_dir_all(mounted.at("u/.B.C")).unwrap();
    assert_eq!(names(&mounted.at("u")).len(), 0);
    mounted.remount();
    assert_eq!(names(&mounted.at("u")).len(), 0);
    mounted.fsck();
}
