//! What a Maildir costs on ext4, bindfs, the null FUSE filesystem and mailbraid.
//!
//! All are measured in one run, side by side, in rounds: each round does every work in every place, starting with another
//! place each time, so that a slow moment of the machine hits all alike. Medians are taken over the rounds; ratios of rates are what counts.
//! Before a work is timed, the disk is synced and mailbraid has committed what came before, so that no place pays for another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::arguments::Arguments;
use super::mail::{MailGen, maildir};
use super::places::{self, EXT4, MAILBRAID, NULLFS, Place};
use super::report::Report;

type Error = Box<dyn std::error::Error>;

/// Bytes of a delivered mail.
const MAIL_SIZE: usize = 3 * 1024;
/// Messages of the folder that is read and whose flags change.
const INBOX: usize = 1_000;
/// Messages of the folder that is listed.
const BIG: usize = 10_000;
/// Deliveries of one round, by one client and by eight together: half a second and more, so that every place pays for what it does behind them.
const DELIVERIES: usize = 1_200;
const CLIENTS: usize = 8;

/// What every work has at hand.
struct Bench {
    mail: Vec<u8>,
    round: usize,
}

/// One work in one place: prepares what it needs, and gives the number of operations and the seconds they took.
type Work = fn(&Bench, &mut Place) -> Result<(usize, f64), Error>;

/// Durable deliveries by one client.
pub const DELIVER_1: &str = "durable delivery, 1 client";
/// And by eight.
pub const DELIVER_8: &str = "durable delivery, 8 clients";
const BARE: &str = "fdatasync of the same bytes";

const WORKS: [(&str, Work); 10] = [
    (BARE, bare_sync),
    (DELIVER_1, deliver_one),
    (DELIVER_8, deliver_eight),
    ("unlink", unlink),
    ("flag rename", flag_rename),
    ("list of 10,000, warm (entries)", list),
    ("stat, warm", stat),
    ("read, warm", read_warm),
    ("read, cold", read_cold),
    ("delivery without sync", deliver_unsynced),
];

/// Does the works in every place.
///
/// # Errors
/// Where a place cannot be made, or a work fails in it.
pub fn run(arguments: &Arguments) -> Result<Report, Error> {
    let rounds = arguments.rounds.unwrap_or(5);
    let base = tempfile::Builder::new()
        .prefix("bench-mount-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut places = places::all(base.path(), None, |place| arguments.has(place))?;
    for place in &places {
        eprintln!("preparing {}", place.name);
        prepare(place)?;
    }
    let mut report = Report::default();
    report.note(format!(
        "the plain directory is on {}",
        places::filesystem_of(base.path())?
    ));
    let mut bench = Bench {
        mail: MailGen::new(1).sized(MAIL_SIZE).bytes,
        round: 0,
    };
    for round in 0..rounds {
        bench.round = round;
        eprintln!("mount: round {} of {rounds}", round + 1);
        for (name, work) in WORKS {
            if !arguments.wants(name) {
                continue;
            }
            for turn in 0..places.len() {
                let count = places.len();
                let place = &mut places[(round + turn) % count];
                if name == BARE && place.name != EXT4 {
                    continue;
                }
                place.settle()?;
                rustix::fs::sync();
                let (operations, seconds) = work(&bench, place)?;
                report.add(name, place.name, operations as f64 / seconds);
            }
        }
    }
    if let Some(above) = above_bare(&report) {
        report.note(format!(
            "a durable delivery takes, above one fdatasync, {above:.2} × the null filesystem's delivery"
        ));
    }
    Ok(report)
}

/// What a delivery takes above one fdatasync of its bytes, in terms of the null filesystem's whole delivery.
pub fn above_bare(report: &Report) -> Option<f64> {
    let micros = |work, place| report.median(work, place).map(|rate| 1e6 / rate);
    let above = micros(DELIVER_1, MAILBRAID)? - micros(BARE, EXT4)?;
    Some(above / micros(DELIVER_1, NULLFS)?)
}

/// The folders the works need.
fn prepare(place: &Place) -> Result<(), Error> {
    maildir::write(&place.dir.join("inbox"), MailGen::new(2).take(INBOX))?;
    let mut small = MailGen::new(3);
    maildir::write(&place.dir.join("big"), (0..BIG).map(|_| small.sized(2_048)))?;
    maildir::make_folder(&place.dir.join("box"))?;
    Ok(())
}

/// Delivers as a careful program does: create in `tmp`, write, fsync, rename to `new`, fsync the directory.
fn deliver(folder: &Path, name: &str, mail: &[u8], durable: bool) -> io::Result<()> {
    let (tmp, new) = (folder.join("tmp").join(name), folder.join("new"));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
    file.write_all(mail)?;
    if durable {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(&tmp, new.join(name))?;
    if durable {
        File::open(&new)?.sync_all()?;
    }
    Ok(())
}

/// Deliveries by some clients at once; the names say round, kind and client.
fn deliveries(
    bench: &Bench,
    place: &Place,
    kind: &str,
    clients: usize,
    durable: bool,
) -> Result<(usize, f64), Error> {
    let folder = place.dir.join("box");
    let each = DELIVERIES / clients;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..clients)
            .map(|client| {
                let folder = &folder;
                scope.spawn(move || {
                    (0..each).try_for_each(|serial| {
                        let name = format!(
                            "{}.M{serial}P{client}R{}.{kind},S={},W={}",
                            1_700_000_000 + serial,
                            bench.round,
                            bench.mail.len(),
                            bench.mail.len() + 60
                        );
                        // Each is another mail: one content would be stored once.
                        let mut mail = bench.mail.clone();
                        let unlike = name.len().min(mail.len());
                        let at = mail.len() - unlike;
                        mail[at..].copy_from_slice(&name.as_bytes()[..unlike]);
                        deliver(folder, &name, &mail, durable)
                    })
                })
            })
            .collect();
        running
            .into_iter()
            .try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    Ok((each * clients, start.elapsed().as_secs_f64()))
}

fn deliver_one(bench: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    deliveries(bench, place, "one", 1, true)
}

fn deliver_eight(bench: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    deliveries(bench, place, "eight", CLIENTS, true)
}

fn deliver_unsynced(bench: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let figures = deliveries(bench, place, "unsynced", 1, false)?;
    names_in(&place.dir.join("box/new"))?
        .iter()
        .filter(|path| path.to_string_lossy().contains(".unsynced,"))
        .try_for_each(fs::remove_file)?;
    Ok(figures)
}

/// The floor of durability: the mail's bytes over a zero-filled file, one fdatasync each.
fn bare_sync(bench: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let path = place.dir.join("bare");
    let file = File::create(&path)?;
    let rounds = DELIVERIES;
    file.write_all_at(&vec![0; rounds * bench.mail.len()], 0)?;
    file.sync_all()?;
    let start = Instant::now();
    for at in 0..rounds {
        file.write_all_at(&bench.mail, (at * bench.mail.len()) as u64)?;
        file.sync_data()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok((rounds, seconds))
}

/// Paths of the entries of a directory, sorted.
fn names_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// Deletes what this round's durable deliveries brought.
fn unlink(bench: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let new = place.dir.join("box/new");
    if names_in(&new)?.is_empty() {
        deliveries(bench, place, "one", 1, false)?;
        place.settle()?;
    }
    let paths = names_in(&new)?;
    let start = Instant::now();
    paths.iter().try_for_each(fs::remove_file)?;
    Ok((paths.len(), start.elapsed().as_secs_f64()))
}

/// Sets or clears `S` on every message of the inbox.
fn flag_rename(_: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let pairs: Vec<(PathBuf, PathBuf)> = names_in(&place.dir.join("inbox/cur"))?
        .into_iter()
        .map(|path| {
            let name = path.to_string_lossy().into_owned();
            let changed = match name.strip_suffix('S') {
                Some(unseen) => unseen.to_owned(),
                None => format!("{name}S"),
            };
            (path, changed.into())
        })
        .collect();
    let start = Instant::now();
    for (from, to) in &pairs {
        fs::rename(from, to)?;
    }
    Ok((pairs.len(), start.elapsed().as_secs_f64()))
}

/// Lists the names of a large folder, which was listed just before.
fn list(_: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let dir = place.dir.join("big/cur");
    let count = || -> io::Result<usize> {
        fs::read_dir(&dir)?.try_fold(0, |count, entry| entry.map(|_| count + 1))
    };
    count()?;
    let start = Instant::now();
    let mut listed = 0;
    for _ in 0..10 {
        listed += count()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    if listed != 10 * BIG {
        return Err(format!("{}: listed {listed} of {}", place.name, 10 * BIG).into());
    }
    Ok((listed, seconds))
}

/// Stats every message of a large folder, which was done just before.
fn stat(_: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let paths = names_in(&place.dir.join("big/cur"))?;
    let all = || {
        paths
            .iter()
            .try_for_each(|path| fs::metadata(path).map(drop))
    };
    all()?;
    let start = Instant::now();
    for _ in 0..5 {
        all()?;
    }
    Ok((5 * paths.len(), start.elapsed().as_secs_f64()))
}

/// Opens, reads and closes.
fn read_all(paths: &[PathBuf], buffer: &mut Vec<u8>) -> io::Result<()> {
    paths.iter().try_for_each(|path| {
        buffer.clear();
        File::open(path)?.read_to_end(buffer).map(drop)
    })
}

/// Reads every message of 64 KiB or less of the inbox, which was done just before.
fn read_warm(_: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    let mut paths = names_in(&place.dir.join("inbox/cur"))?;
    paths.retain(|path| fs::metadata(path).is_ok_and(|meta| meta.len() <= 65536));
    let mut buffer = Vec::new();
    read_all(&paths, &mut buffer)?;
    let start = Instant::now();
    for _ in 0..5 {
        read_all(&paths, &mut buffer)?;
    }
    Ok((5 * paths.len(), start.elapsed().as_secs_f64()))
}

/// Reads every message of the inbox, large ones too, from a cold start: no page, no inode in memory, mailbraid's process new.
fn read_cold(_: &Bench, place: &mut Place) -> Result<(usize, f64), Error> {
    place.restart()?;
    places::drop_caches()?;
    let paths = names_in(&place.dir.join("inbox/cur"))?;
    let mut buffer = Vec::new();
    let start = Instant::now();
    read_all(&paths, &mut buffer)?;
    Ok((paths.len(), start.elapsed().as_secs_f64()))
}
