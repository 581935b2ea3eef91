//! A store on a small disk that fills up: mail is refused and none is lost, everything else goes on, and space makes it well again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mailbraid::history::hash_blob;
use mailbraid::journal::{Journal, Options};
use mailbraid::maildir::{Attrs, Content, HashKind, Op, TreePath};

use crate::bench::mail::rng::Rng;
use crate::support::daemon::Daemon;

/// Size of the disk: a quarter of it is the journal.
const DISK: u64 = 128 << 20;
/// What takes space from the store and gives it back in the end.
const FILLER: usize = 40 << 20;

/// A small ext4 in a file, mounted through a loop device; unmounted on drop.
struct SmallDisk {
    mountpoint: PathBuf,
}

impl SmallDisk {
    fn new(base: &Path) -> Self {
        let (image, mountpoint) = (base.join("image"), base.join("disk"));
        File::create(&image).unwrap().set_len(DISK).unwrap();
        fs::create_dir(&mountpoint).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &mountpoint]));
        Self { mountpoint }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.mountpoint)
            .status();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status();
    assert!(
        status.as_ref().is_ok_and(|status| status.success()),
        "{command:?} (as root, see tests/run): {status:?}"
    );
}

/// What was acknowledged: path below the mount, and content.
type Told = BTreeMap<String, Vec<u8>>;

fn deliver(root: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let tmp = root.join("u/tmp").join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    drop(file);
    let delivered = written.and_then(|()| fs::rename(&tmp, root.join("u/new").join(name)));
    if delivered.is_err() {
        fs::remove_file(&tmp).expect("what could not be delivered can be removed");
    }
    delivered
}

/// Delivers, and notes it if it is acknowledged; whether it was. Any refusal but ENOSPC is a failure.
fn try_deliver(root: &Path, told: &mut Told, serial: usize, content: Vec<u8>) -> bool {
    let name = format!("{}.M{serial}P1.full", 1_700_000_000 + serial);
    match deliver(root, &name, &content) {
        Ok(()) => {
            told.insert(format!("u/new/{name}"), content);
            true
        }
        Err(error) => {
            assert_eq!(
                error.raw_os_error(),
                Some(libc::ENOSPC),
                "a full disk is ENOSPC, not {error}"
            );
            false
        }
    }
}

/// What is there is what was told, no more and no less.
#[track_caller]
fn verify(root: &Path, told: &Told) {
    let mut there = Vec::new();
    for dir in ["u/new", "u/cur"] {
        for entry in fs::read_dir(root.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            there.push(format!("{dir}/{name}"));
        }
    }
    there.sort_unstable();
    assert!(
        there.iter().eq(told.keys()),
        "{} messages are there, {} were acknowledged",
        there.len(),
        told.len()
    );
    for (path, content) in told {
        assert!(
            fs::read(root.join(path)).unwrap() == *content,
            "{path}: wrong content"
        );
    }
}

fn fsck(store: &Path) {
    run(Command::new("git")
        .arg("-C")
        .arg(store.join("repo.git"))
        .args(["fsck", "--strict", "--no-dangling", "--no-progress"]));
}

#[test]
fn a_full_disk_refuses_mail_loses_none_and_recovers_by_itself() {
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = SmallDisk::new(base.path());
    let (store, root) = (disk.mountpoint.join("store"), base.path().join("mnt"));
    fs::create_dir(&root).unwrap();
    let filler = disk.mountpoint.join("filler");
    fs::write(&filler, vec![1; FILLER]).unwrap();
    let mut daemon = Daemon::start(&store, &root);
    for part in ["new", "cur", "tmp"] {
        fs::create_dir_all(root.join("u").join(part)).unwrap();
    }

    // Mail that does not compress, some too large for the journal, until the disk is full.
    let mut rng = Rng::new(7);
    let mut told = Told::new();
    let mut serial = 0;
    loop {
        serial += 1;
        let size = if serial % 10 == 0 { 150_000 } else { 15_000 };
        if !try_deliver(&root, &mut told, serial, rng.bytes(size)) {
            break;
        }
        assert!(serial < 10_000, "the disk does not fill up");
    }
    assert!(told.len() > 50, "only {} messages fitted", told.len());
    println!("{} messages fitted", told.len());
    // Some more, small ones too; each is delivered or refused.
    for _ in 0..30 {
        serial += 1;
        let size = rng.between(500, 30_000) as usize;
        try_deliver(&root, &mut told, serial, rng.bytes(size));
    }
    // One larger than all the disk.
    serial += 1;
    assert!(!try_deliver(
        &root,
        &mut told,
        serial,
        rng.bytes(DISK as usize)
    ));
    verify(&root, &told);

    let change = |told: &mut Told, from: usize| {
        let paths: Vec<String> = told.keys().skip(from).take(60).cloned().collect();
        for (number, path) in paths.into_iter().enumerate() {
            let content = told.remove(&path).expect("it was told");
            if number % 2 == 0 {
                fs::remove_file(root.join(&path)).expect("deleting works on a full disk");
                continue;
            }
            let name = path.rsplit('/').next().expect("a path has a name");
            let unique = name.split(':').next().expect("a name has a unique part");
            let to = format!("u/cur/{unique}:2,FS");
            fs::rename(root.join(&path), root.join(&to)).expect("renaming works on a full disk");
            told.insert(to, content);
        }
        File::open(root.join("u/cur"))
            .and_then(|dir| dir.sync_all())
            .expect("what is renamed and deleted on a full disk can be made durable");
    };
    change(&mut told, 0);
    verify(&root, &told);
    fsck(&store);

    // A crash on the full disk: it mounts again, and goes on as before.
    daemon.kill();
    drop(daemon);
    let daemon = Daemon::start(&store, &root);
    verify(&root, &told);
    let middle = told.len() / 2;
    change(&mut told, middle);
    verify(&root, &told);

    // Space returns.
    fs::remove_file(&filler).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        serial += 1;
        if try_deliver(&root, &mut told, serial, rng.bytes(20_000)) {
            break;
        }
        assert!(Instant::now() < deadline, "it does not recover by itself");
        thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..20 {
        serial += 1;
        assert!(try_deliver(&root, &mut told, serial, rng.bytes(20_000)));
    }
    run(Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .arg("flush")
        .arg(&store));
    daemon.unmount();
    fsck(&store);
    let daemon = Daemon::start(&store, &root);
    verify(&root, &told);
    daemon.unmount();
    drop(disk);
}

/// A store was killed while five segments of its journal waited for their commits, on a disk that something else has filled meanwhile. Committed
/// segments were kept for later use instead of being given back, and the mount was refused.
#[test]
fn regression_a_store_killed_with_much_to_commit_mounts_on_a_full_disk() {
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = SmallDisk::new(base.path());
    let (store, root) = (disk.mountpoint.join("store"), base.path().join("mnt"));
    fs::create_dir(&root).unwrap();
    let daemon = Daemon::start(&store, &root);
    for part in ["new", "cur", "tmp"] {
        fs::create_dir_all(root.join("u").join(part)).unwrap();
    }
    daemon.unmount();

    let mut rng = Rng::new(11);
    let mut told = Told::new();
    let options = Options {
        first_seq: committed(&store) + 1,
        ..Options::default()
    };
    let (journal, _) = Journal::open(&store.join("journal"), options).unwrap();
    for serial in 0..1100 {
        let content = rng.bytes(35_000);
        let name = format!("{}.M{serial}P1.full", 1_700_000_000 + serial);
        let put = Op::Put {
            path: TreePath::new(format!("u/new/{name}")),
            oid: hash_blob(HashKind::Sha1, &content),
            attrs: Attrs {
                mtime: 1_700_000_000,
                size: content.len() as u64,
                ..Attrs::default()
            },
            content: Content::Inline(content.clone()),
        };
        journal.wait_room();
        journal.append(&put, 1_700_000_000).unwrap();
        told.insert(format!("u/new/{name}"), content);
    }
    journal.wait_durable(journal.last()).unwrap();
    assert!(journal.stats().held >= 5, "{:?}", journal.stats());
    drop(journal);
    let mut filler = File::create(disk.mountpoint.join("filler")).unwrap();
    let block = [1; 4096];
    let full = loop {
        if let Err(full) = filler.write_all(&block) {
            break full;
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    filler.sync_all().unwrap();

    let daemon = Daemon::start(&store, &root);
    assert!(daemon.said().contains("recovering with the room set aside"));
    verify(&root, &told);
    fsck(&store);
    let (from, to) = ("u/new", "u/cur");
    for serial in 0..100 {
        let name = format!("{}.M{serial}P1.full", 1_700_000_000 + serial);
        fs::rename(
            root.join(from).join(&name),
            root.join(to).join(format!("{name}:2,S")),
        )
        .expect("renaming works on a full disk");
    }
    daemon.unmount();
    drop(disk);
}

/// The last operation that the store's head has.
fn committed(store: &Path) -> u64 {
    let repo = mailbraid::history::Repo::open(&store.join("repo.git")).unwrap();
    let node = repo.config_string("mailbraid.node").unwrap().unwrap();
    mailbraid::store::last_committed(&repo, repo.head().unwrap(), &node).unwrap()
}
