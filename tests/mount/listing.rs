//! The famous race: over a plain filesystem a message renamed during a listing is missing from it, or in it twice.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

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

/// Lists `cur` again and again while another thread renames flags without pause. How many listings were wrong, and how many renames there were.
fn race(cur: &Path) -> (usize, u64) {
    for number in 0..MESSAGES {
        fs::write(message(cur, number, false), b"x").unwrap();
    }
    let stop = AtomicBool::new(false);
    let renames = AtomicU64::new(0);
    let mut wrong = 0;
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
        for _ in 0..LISTINGS {
            let mut times = [0_u8; MESSAGES];
            for entry in fs::read_dir(cur).unwrap() {
                let at = number(entry.unwrap().file_name().as_bytes());
                times[at] = times[at].saturating_add(1);
            }
            wrong += usize::from(times.iter().any(|times| *times != 1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    (wrong, renames.into_inner())
}

#[test]
fn every_message_is_listed_exactly_once_whatever_is_renamed() {
    let mounted = Mounted::new();
    let cur = mounted.maildir("u").join("cur");
    let begin = Instant::now();
    let (wrong, renames) = race(&cur);
    println!(
        "mailbraid: {wrong} of {LISTINGS} listings of {MESSAGES} messages wrong, {renames} renames, {:.1?}",
        begin.elapsed()
    );
    // The same beside it. How often it goes wrong there is the kernel's affair and not asserted.
    let plain = mounted.beside().join("plain");
    fs::create_dir(&plain).unwrap();
    let begin = Instant::now();
    let (beside, renames) = race(&plain);
    let kind = rustix::fs::statfs(&plain).unwrap().f_type;
    println!(
        "filesystem {kind:#x} beside it: {beside} wrong, {renames} renames, {:.1?}",
        begin.elapsed()
    );
    assert_eq!(
        wrong, 0,
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
