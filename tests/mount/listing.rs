//! The famous race: over a plain filesystem a message renamed during a listing is missing from it, or in it twice.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::mounted::Mounted;

const MESSAGES: usize = 6_000;
const LISTINGS: usize = 10_000;

fn message(cur: &Path, number: usize, seen: bool) -> PathBuf {
    let flags = if seen { "S" } else { "" };
    cur.join(format!("1700000000.M{number}P1.vm:2,{flags}"))
}

/// The number in a message's name.
fn number(name: &[u8]) -> usize {
    let digits = name
        .strip_prefix(b"1700000000.M")
        .expect("only messages are here")
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

/// What came of it.
struct Raced {
    listings: usize,
    wrong: usize,
    renames: u64,
    took: Duration,
}

/// Lists `cur` again and again, not longer than `limit`, while another thread renames flags without pause.
fn race(cur: &Path, limit: Duration) -> Raced {
    for number in 0..MESSAGES {
        fs::write(message(cur, number, false), b"x").unwrap();
    }
    let stop = AtomicBool::new(false);
    let renames = AtomicU64::new(0);
    let (mut listings, mut wrong) = (0, 0);
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = vec![false; MESSAGES];
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                // Far from one another, as users click.
                at = (at + 1_013) % MESSAGES;
                fs::rename(message(cur, at, seen[at]), message(cur, at, !seen[at])).unwrap();
                seen[at] = !seen[at];
                renames.fetch_add(1, Ordering::Relaxed);
            }
        });
        while listings < LISTINGS && begin.elapsed() < limit {
            let mut times = [0_u8; MESSAGES];
            for entry in fs::read_dir(cur).unwrap() {
                let at = number(entry.unwrap().file_name().as_bytes());
                times[at] = times[at].saturating_add(1);
            }
            listings += 1;
            wrong += usize::from(times.iter().any(|times| *times != 1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    Raced {
        listings,
        wrong,
        renames: renames.into_inner(),
        took: begin.elapsed(),
    }
}

#[test]
fn every_message_is_listed_exactly_once_whatever_is_renamed() {
    let mounted = Mounted::new();
    let cur = mounted.maildir("u").join("cur");
    let ours = race(&cur, Duration::MAX);
    // The same beside it, as long. How often it goes wrong there is the kernel's affair and not asserted.
    let plain = mounted.beside().join("plain");
    fs::create_dir(&plain).unwrap();
    let theirs = race(&plain, ours.took);
    let kind = rustix::fs::statfs(&plain).unwrap().f_type;
    for (name, raced) in [
        ("mailbraid", &ours),
        (&format!("filesystem {kind:#x}"), &theirs),
    ] {
        println!(
            "{name}: {} of {} listings of {MESSAGES} messages wrong, {} renames, {:.1?}",
            raced.wrong, raced.listings, raced.renames, raced.took
        );
    }
    assert_eq!(ours.listings, LISTINGS);
    assert_eq!(
        ours.wrong, 0,
        "a message was missing from a listing, or in it twice"
    );
    mounted.flush();
    mounted.fsck();
}

#[test]
fn a_listing_begins_anew_with_rewinddir() {
    let mounted = Mounted::new();
    let cur = mounted.maildir("u").join("cur");
    fs::write(message(&cur, 1, false), b"x").unwrap();
    let mut dir = rustix::fs::Dir::read_from(fs::File::open(&cur).unwrap()).unwrap();
    let names = |dir: &mut rustix::fs::Dir| {
        let names = dir.map(|entry| entry.unwrap().file_name().to_bytes().to_vec());
        names.filter(|name| name[0] != b'.').count()
    };
    assert_eq!(names(&mut dir), 1);
    fs::write(message(&cur, 2, false), b"x").unwrap();
    dir.rewind();
    assert_eq!(names(&mut dir), 2);
    // What is removed during a listing goes on being listed; removing while listing works.
    for entry in fs::read_dir(&cur).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(fs::read_dir(&cur).unwrap().count(), 0);
}

/// Reads one piece of a listing: the names, and whether there may be more.
fn piece(dir: &fs::File, names: &mut Vec<usize>) -> bool {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut raw = rustix::fs::RawDir::new(dir, &mut buffer);
    let mut more = false;
    while let Some(entry) = raw.next() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_bytes();
        if name[0] != b'.' {
            names.push(number(name));
        }
        more = true;
        if raw.is_buffer_empty() {
            break;
        }
    }
    more
}

/// A process lists a folder; where it has stopped reading, the message is removed; another process lists the folder; the first goes on.
/// Cookies that the kernel looks for in a newer listing of its own would end the first listing here.
fn goes_on_after_a_removal(cur: &Path) {
    const COUNT: usize = 1_000;
    for number in 0..COUNT {
        fs::write(message(cur, number, false), b"x").unwrap();
    }
    // The kernel remembers the listing, if it ever does.
    assert_eq!(fs::read_dir(cur).unwrap().count(), COUNT);
    let dir = fs::File::open(cur).unwrap();
    let mut seen = Vec::new();
    let mut removed = Vec::new();
    while piece(&dir, &mut seen) {
        let last = seen[seen.len() - 1];
        fs::remove_file(message(cur, last, false)).unwrap();
        removed.push(last);
        let left = fs::read_dir(cur).unwrap().count();
        assert_eq!(left, COUNT - removed.len());
    }
    seen.sort_unstable();
    assert!(
        seen.iter().copied().eq(0..COUNT),
        "{} of {COUNT} messages were listed",
        seen.len()
    );
}

#[test]
fn a_listing_goes_on_after_the_message_where_it_stopped_is_gone() {
    let mounted = Mounted::new();
    goes_on_after_a_removal(&mounted.maildir("u").join("cur"));
}

#[test]
fn every_name_of_an_inode_is_listed() {
    let mounted = Mounted::new();
    let tmp = mounted.maildir("u").join("tmp");
    for number in 0..3 {
        fs::write(message(&tmp, number, false), b"x").unwrap();
        for link in 1..40 {
            let name = message(&tmp, number + 10 * link, false);
            fs::hard_link(message(&tmp, number, false), name).unwrap();
        }
    }
    let mut names: Vec<usize> = fs::read_dir(&tmp)
        .unwrap()
        .map(|entry| number(entry.unwrap().file_name().as_bytes()))
        .collect();
    names.sort_unstable();
    let told = (0..40).flat_map(|link| (0..3).map(move |number| number + 10 * link));
    assert!(names.iter().copied().eq(told), "{names:?}");
}
