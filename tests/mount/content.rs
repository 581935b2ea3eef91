//! What is in files: times, sizes, writing in place, mapped memory, locks.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use crate::support::mounted::{Mounted, deliver};

fn times(path: &Path) -> (i64, i64) {
    let meta = fs::metadata(path).unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

/// How a program ended: its exit code.
fn ended(command: &mut Command) -> Option<i32> {
    let done = command.output();
    done.unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/run"))
        .status
        .code()
}

#[test]
fn the_date_of_a_message_is_kept() {
    let mut mounted = Mounted::new();
    mounted.maildir("u");
    let path = deliver(&mounted.at("u"), "1700000000.M1.vm", b"x").unwrap();
    // APPEND with a date: written, dated, then renamed.
    let tmp = mounted.at("u/tmp/1700000001.M1.vm");
    let mut file = File::create_new(&tmp).unwrap();
    file.write_all(b"appended").unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(981_173_106, 123_456_789))
        .unwrap();
    drop(file);
    let dated = mounted.at("u/cur/1700000001.M1.vm:2,S");
    fs::rename(&tmp, &dated).unwrap();
    assert_eq!(times(&dated), (981_173_106, 123_456_789));
    // Flags do not change it, nor does a move.
    let flagged = mounted.at("u/cur/1700000001.M1.vm:2,FS");
    fs::rename(&dated, &flagged).unwrap();
    mounted.maildir("u/.A");
    let moved = mounted.at("u/.A/cur/1700000001.M1.vm:2,FS");
    fs::rename(&flagged, &moved).unwrap();
    assert_eq!(times(&moved), (981_173_106, 123_456_789));
    // Set anew on a message that is there, before 1970 too.
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(UNIX_EPOCH - Duration::from_millis(86_400_250))
        .unwrap();
    drop(file);
    assert_eq!(times(&path), (-86_401, 750_000_000));
    mounted.remount();
    // To the second, through the history.
    assert_eq!(times(&moved).0, 981_173_106);
    assert_eq!(times(&path).0, -86_401);
    assert_eq!(fs::read(&moved).unwrap(), b"appended");
}

#[test]
fn writing_in_place_is_seen_at_once_and_becomes_a_new_blob() {
    let mut mounted = Mounted::new();
    mounted.maildir("u");
    let large = vec![b'x'; 3 << 20];
    for (name, content) in [("1.M1.vm", &b"a small one"[..]), ("2.M2.vm", &large)] {
        let path = deliver(&mounted.at("u"), name, content).unwrap();
        mounted.flush();
        let reader = File::open(&path).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.write_all_at(b"A", 0).unwrap();
        file.write_all_at(b"tail", content.len() as u64).unwrap();
        file.sync_all().unwrap();
        let mut told = content.to_vec();
        told[0] = b'A';
        told.extend_from_slice(b"tail");
        assert_eq!(fs::read(&path).unwrap(), told);
        let mut first = [0; 1];
        reader.read_exact_at(&mut first, 0).unwrap();
        assert_eq!(first, *b"A", "another descriptor sees it too");
        assert_eq!(reader.metadata().unwrap().len(), told.len() as u64);
        drop((file, reader));
        mounted.kill_and_remount();
        assert!(fs::read(&path).unwrap() == told, "{name}: fsync keeps it");
        // Shorter, longer with a hole, and O_TRUNC.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(3).unwrap();
        file.set_len(6).unwrap();
        file.sync_all().unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            [told[0], told[1], told[2], 0, 0, 0]
        );
        drop(file);
        fs::write(&path, "whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        mounted.remount();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
    mounted.fsck();
}

#[test]
fn appending_goes_to_the_end_whoever_appends() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    // dovecot-uidlist is appended to by several processes in turn.
    for name in ["u/dovecot-uidlist", "u/other", "u/dovecot.index.log"] {
        let path = mounted.at(name);
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
        };
        let (mut one, mut two) = (open(), open());
        for number in 0..50 {
            let file = if number % 2 == 0 { &mut one } else { &mut two };
            writeln!(file, "{number}").unwrap();
        }
        let told: String = (0..50).map(|number| format!("{number}\n")).collect();
        assert_eq!(fs::read_to_string(&path).unwrap(), told, "{name}");
    }
}

#[test]
fn a_large_file_is_read_and_written_anywhere() {
    let mut mounted = Mounted::new();
    mounted.maildir("u");
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let size = 5 << 20;
    let mut told = vec![0; size as usize];
    let path = mounted.at("u/tmp/1.M1.vm");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.set_len(size).unwrap();
    for _ in 0..200 {
        let at = random(size - 70_000);
        let bytes: Vec<u8> = (0..random(70_000)).map(|_| random(256) as u8).collect();
        file.write_all_at(&bytes, at).unwrap();
        told[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        let from = random(size - 1) as usize;
        let mut found = vec![0; random((size - from as u64).min(100_000)) as usize];
        file.read_exact_at(&mut found, from as u64).unwrap();
        assert!(found == told[from..from + found.len()], "at {from}");
    }
    drop(file);
    let to = mounted.at("u/new/1.M1.vm");
    fs::rename(&path, &to).unwrap();
    assert!(fs::read(&to).unwrap() == told);
    mounted.kill_and_remount();
    assert!(fs::read(&to).unwrap() == told);
    let file = File::open(&to).unwrap();
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(&mut bytes, size).unwrap(), 0);
    assert_eq!(file.read_at(&mut bytes, size - 3).unwrap(), 3);
}

/// A shared mapping of a whole file.
#[allow(unsafe_code)] // mmap has no safe form: another process may change what is mapped.
mod mapping {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    pub struct Mapping {
        at: *mut u8,
        size: usize,
    }

    impl Mapping {
        pub fn new(file: &File) -> Self {
            let size = file.metadata().unwrap().len() as usize;
            // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    file.as_raw_fd(),
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            Self {
                at: at.cast(),
                size,
            }
        }

        pub fn get(&self, at: usize) -> u8 {
            assert!(at < self.size);
            // SAFETY: within the mapping; volatile, for the file may change.
            unsafe { self.at.add(at).read_volatile() }
        }

        pub fn set(&mut self, at: usize, byte: u8) {
            assert!(at < self.size);
            // SAFETY: within the mapping, and nobody else has a reference to it.
            unsafe { self.at.add(at).write_volatile(byte) }
        }

        pub fn sync(&self) {
            // SAFETY: the mapping is ours.
            let done = unsafe { libc::msync(self.at.cast(), self.size, libc::MS_SYNC) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: nothing refers to the mapping any more.
            unsafe { libc::munmap(self.at.cast(), self.size) };
        }
    }
}

#[test]
fn mapped_memory_and_the_file_are_one() {
    let mut mounted = Mounted::new();
    mounted.maildir("u");
    for name in ["u/dovecot.index", "u/cur/1.M1.vm:2,", "u/other"] {
        let path = mounted.at(name);
        fs::write(&path, vec![b'-'; 10_000]).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mut one = mapping::Mapping::new(&file);
        let two =
            mapping::Mapping::new(&File::options().read(true).write(true).open(&path).unwrap());
        one.set(5_000, b'm');
        assert_eq!(two.get(5_000), b'm');
        file.write_all_at(b"w", 6_000).unwrap();
        assert_eq!(one.get(6_000), b'w');
        one.sync();
        let text = fs::read(&path).unwrap();
        assert_eq!((text[5_000], text[6_000], text.len()), (b'm', b'w', 10_000));
        drop((one, two));
        file.sync_all().unwrap();
        drop(file);
        mounted.remount();
        let text = fs::read(&path).unwrap();
        assert_eq!(
            (text[5_000], text[6_000], text.len()),
            (b'm', b'w', 10_000),
            "{name}"
        );
    }
}

#[test]
fn flock_is_between_open_files() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    let path = mounted.at("u/dovecot.index.log");
    fs::write(&path, "x").unwrap();
    let (one, two) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    rustix::fs::flock(&one, FlockOperation::LockExclusive).unwrap();
    let again = rustix::fs::flock(&two, FlockOperation::NonBlockingLockShared);
    assert_eq!(again, Err(rustix::io::Errno::WOULDBLOCK));
    let other = ended(
        Command::new("flock")
            .args(["-n", "-E", "75"])
            .arg(&path)
            .arg("true"),
    );
    assert_eq!(other, Some(75));
    drop(one);
    // Another test may be starting a program, which holds copies of all our descriptors until its exec.
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(refused) = rustix::fs::flock(&two, FlockOperation::NonBlockingLockShared) {
        assert_eq!(refused, rustix::io::Errno::WOULDBLOCK);
        assert!(Instant::now() < deadline, "closing did not unlock it");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Names the file that the process started by the test is to lock.
const LOCK_THIS: &str = "MAILBRAID_TEST_LOCK";

#[test]
fn fcntl_locks_are_between_processes() {
    let lock = |file: &File| rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive);
    if let Some(path) = std::env::var_os(LOCK_THIS) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        lock(&file).unwrap();
        return;
    }
    let mounted = Mounted::new();
    mounted.maildir("u");
    let path = mounted.at("u/dovecot.index.log");
    fs::write(&path, "x").unwrap();
    let other = || {
        let test = "mount::content::fcntl_locks_are_between_processes";
        ended(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(LOCK_THIS, &path),
        ) == Some(0)
    };
    assert!(other(), "nobody holds it");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    lock(&file).unwrap();
    assert!(!other(), "we hold it");
    drop(file);
    assert!(other(), "nobody holds it any more");
}

#[test]
fn space_is_reserved_or_refused_as_programs_expect() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    for name in ["u/dovecot.index.cache", "u/tmp/1.M1.vm"] {
        let path = mounted.at(name);
        let file = File::create_new(&path).unwrap();
        // SAFETY: a plain system call on a descriptor that is ours.
        #[allow(unsafe_code)]
        let done = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, 100_000) };
        assert_eq!(
            done,
            0,
            "{name}: {}",
            std::io::Error::from_raw_os_error(done)
        );
        assert_eq!(fs::read(&path).unwrap(), vec![0; 100_000], "{name}");
    }
}

#[test]
fn holes_are_not_told_of_and_seeking_works() {
    let mounted = Mounted::new();
    mounted.maildir("u");
    let path = deliver(&mounted.at("u"), "1.M1.vm", b"0123456789").unwrap();
    let mut file = File::open(&path).unwrap();
    assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(4)).unwrap();
    let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(4)).unwrap();
    assert_eq!((data, hole), (4, 10));
    // `cp` in all its ways.
    let to = mounted.at("u/copy");
    for way in ["--reflink=auto", "--sparse=always", "--reflink=never"] {
        let done = ended(Command::new("cp").arg(way).args([&path, &to]));
        assert_eq!(done, Some(0), "{way}");
        assert_eq!(fs::read(&to).unwrap(), b"0123456789");
    }
}
