//! The null filesystem behaves as a file system does.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use super::nullfs::{NullFs, config};

/// Mounted in this process; unmounted on drop, even when a test fails.
struct Mount {
    dir: tempfile::TempDir,
    session: Option<fuser::BackgroundSession>,
}

impl Mount {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let session = fuser::spawn_mount(NullFs::new(), dir.path(), &config())
            .expect("/dev/fuse can be mounted (run tests/run)");
        Self {
            dir,
            session: Some(session),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3")
            .arg("-uz")
            .arg(self.dir.path())
            .status();
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
    }
}

#[test]
fn files_links_times_and_renames_hold() {
    let mount = Mount::new();
    let at = |name: &str| mount.dir.path().join(name);
    fs::create_dir(at("d")).unwrap();
    let mut file = File::create_new(at("d/a")).unwrap();
    file.write_all(b"hello world").unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    file.write_all(b"there").unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(5, 7)).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::hard_link(at("d/a"), at("b")).unwrap();
    assert_eq!(fs::metadata(at("b")).unwrap().nlink(), 2);
    assert_eq!(
        fs::metadata(at("b")).unwrap().modified().unwrap(),
        UNIX_EPOCH + Duration::new(5, 7)
    );
    fs::rename(at("d/a"), at("d/c")).unwrap();
    assert_eq!(fs::read(at("d/c")).unwrap(), b"hello there");
    assert!(!at("d/a").exists());
    // An open file outlives its name.
    let mut open = File::open(at("b")).unwrap();
    fs::remove_file(at("b")).unwrap();
    fs::remove_file(at("d/c")).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello there");
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    fs::remove_dir(at("d")).unwrap();
    assert_eq!(fs::read_dir(mount.dir.path()).unwrap().count(), 0);
}

#[test]
fn a_listing_shows_each_entry_once_while_they_are_renamed() {
    let mount = Mount::new();
    let count = 3_000;
    for number in 0..count {
        File::create(mount.dir.path().join(format!("{number}:2,"))).unwrap();
    }
    for pass in 0..4 {
        let mut seen = vec![0; count];
        let (from, to) = if pass % 2 == 0 { ("", "S") } else { ("S", "") };
        for (listed, entry) in fs::read_dir(mount.dir.path()).unwrap().enumerate() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (number, _) = name.split_once(':').unwrap();
            seen[number.parse::<usize>().unwrap()] += 1;
            let renamed = (listed * 7919) % count;
            let path = |flags| mount.dir.path().join(format!("{renamed}:2,{flags}"));
            fs::rename(path(from), path(to)).unwrap();
        }
        assert!(seen.iter().all(|&times| times == 1), "pass {pass}");
    }
}
