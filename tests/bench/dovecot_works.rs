//! Dovecot over ext4, bindfs, the null FUSE filesystem and mailbraid.
//!
//! One Dovecot a place, all in one run, in rounds as in [`super::maildir_works`]. Each work is done twice: with Dovecot's index files off
//! the mount (`INDEX=`, what the README recommends; all on the same plain directory) and on it (Dovecot's default). Two tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::arguments::Arguments;
use super::harness::client::Client;
use super::harness::dovecot::{Dovecot, Options};
use super::harness::tools::{self, MAIL_GID, MAIL_UID};
use super::mail::{self, MailGen, maildir};
use super::places::{self, Place};
use super::report::Report;

type Error = Box<dyn std::error::Error>;

/// Messages that a round brings by APPEND, and by LMTP.
const ARRIVALS: usize = 150;
/// Messages of the folder that is read, flagged and moved, and of the one that is emptied.
const FOLDER: usize = 1_000;

/// Dovecot's index files are beside the mount.
pub const OFF: &str = "index files off the mount (INDEX=)";
/// They are on it.
pub const ON: &str = "index files on the mount";

/// One Dovecot over one place, with its user `u`.
struct Site {
    dovecot: Dovecot,
    maildir: PathBuf,
    mail: Vec<u8>,
    round: usize,
}

impl Site {
    fn start(place: &Place, index: Option<PathBuf>) -> Result<Self, Error> {
        // The user's Maildir is `u` below a root of its own, so that the two Dovecots of a place do not meet.
        let root = place.dir.join(if index.is_some() { "off" } else { "on" });
        tools::mail_dir(&root);
        if let Some(index) = &index {
            tools::mail_dir(index);
        }
        let maildir = root.join("u");
        // The generator's mails, large ones too, in one folder of a thousand.
        fill(&maildir.join(".Work"), MailGen::new(2).take(FOLDER))?;
        own(&maildir)?;
        let dovecot = Dovecot::start_with(
            &root,
            &Options {
                index,
                ..Options::default()
            },
        );
        let mut client = dovecot.login("u");
        for folder in ["Append", "Other", "Bin"] {
            client.ok(&format!("CREATE {folder}"));
        }
        client.ok("SELECT Work");
        Ok(Self {
            dovecot,
            maildir,
            mail: MailGen::new(1).sized(3 * 1024).bytes,
            round: 0,
        })
    }

    /// A session with a folder selected, and how many messages it holds.
    fn select(&self, folder: &str) -> (Client, u32) {
        let mut client = self.dovecot.login("u");
        let exists = client.ok(&format!("SELECT {folder}")).count("EXISTS");
        (client, exists.unwrap_or(0))
    }
}

/// Writes mails as the mail user's.
fn fill(folder: &Path, mails: impl Iterator<Item = mail::Mail>) -> Result<(), Error> {
    maildir::write(folder, mails)?;
    own(folder)
}

/// Gives a directory and all below it to the mail user; where the mount gives it already, that is no change.
fn own(dir: &Path) -> Result<(), Error> {
    std::os::unix::fs::chown(dir, Some(MAIL_UID), Some(MAIL_GID))?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            own(&path)?;
        } else {
            std::os::unix::fs::chown(&path, Some(MAIL_UID), Some(MAIL_GID))?;
        }
    }
    Ok(())
}

/// One work: gives the number of messages and the seconds they took. What must be there before is made before the time starts.
type Work = fn(&Site, &Place) -> Result<(usize, f64), Error>;

const WORKS: [(&str, Work); 6] = [
    ("APPEND", append),
    ("LMTP delivery", lmtp),
    ("STORE one by one", store),
    ("FETCH body", fetch),
    ("MOVE 1:* of 1,000", move_all),
    ("EXPUNGE of 1,000", expunge),
];

/// Does the works in every place; a report for [`OFF`] and one for [`ON`].
///
/// # Errors
/// Where a place cannot be made, or a work fails in it.
pub fn run(arguments: &Arguments) -> Result<[(&'static str, Report); 2], Error> {
    let rounds = arguments.rounds.unwrap_or(5);
    // The mail user must be able to go in.
    let base = tools::temporary();
    let owner = Some((MAIL_UID, MAIL_GID));
    let mut places = places::all(base.path(), owner, |place| arguments.has(place))?;
    let mut sites = Vec::new();
    for place in &places {
        eprintln!("preparing {}", place.name);
        let index = base
            .path()
            .join(format!("index-{}", places::slug(place.name)));
        sites.push([Site::start(place, Some(index))?, Site::start(place, None)?]);
    }
    let mut reports = [(OFF, Report::default()), (ON, Report::default())];
    for (_, report) in &mut reports {
        report.note(format!(
            "the plain directory is on {}",
            places::filesystem_of(base.path())?
        ));
    }
    for round in 0..rounds {
        eprintln!("imap: round {} of {rounds}", round + 1);
        for (name, work) in WORKS.iter().filter(|(name, _)| arguments.wants(name)) {
            for turn in 0..places.len() {
                let at = (round + turn) % places.len();
                for (site, (_, report)) in sites[at].iter_mut().zip(&mut reports) {
                    site.round = round;
                    let place = &mut places[at];
                    let (messages, seconds) = work(site, place)?;
                    report.add(name, place.name, messages as f64 / seconds);
                }
            }
        }
    }
    for site in sites.iter().flatten() {
        site.dovecot.assert_silent();
    }
    Ok(reports)
}

/// Nothing is left to do from before: so no work pays for another.
fn quiet(place: &Place) -> Result<Instant, Error> {
    place.settle()?;
    rustix::fs::sync();
    Ok(Instant::now())
}

fn append(site: &Site, place: &Place) -> Result<(usize, f64), Error> {
    let (mut client, _) = site.select("INBOX");
    let start = quiet(place)?;
    for _ in 0..ARRIVALS {
        client
            .append("Append", "", None, &site.mail)
            .expect_ok("APPEND");
    }
    Ok((ARRIVALS, start.elapsed().as_secs_f64()))
}

fn lmtp(site: &Site, place: &Place) -> Result<(usize, f64), Error> {
    let mut connection = site.dovecot.lmtp();
    let start = quiet(place)?;
    for _ in 0..ARRIVALS {
        connection.deliver("u", &site.mail);
    }
    Ok((ARRIVALS, start.elapsed().as_secs_f64()))
}

/// The folder that holds the thousand messages in this round; they are moved to the other one in each.
fn filled(site: &Site) -> [&'static str; 2] {
    let (_, exists) = site.select("Work");
    if exists > 0 {
        ["Work", "Other"]
    } else {
        ["Other", "Work"]
    }
}

fn store(site: &Site, place: &Place) -> Result<(usize, f64), Error> {
    let [folder, _] = filled(site);
    let (mut client, exists) = site.select(folder);
    let sign = if site.round.is_multiple_of(2) {
        '+'
    } else {
        '-'
    };
    let start = quiet(place)?;
    for number in 1..=exists {
        client.ok(&format!("STORE {number} {sign}FLAGS (\\Flagged)"));
    }
    Ok((exists as usize, start.elapsed().as_secs_f64()))
}

fn fetch(site: &Site, place: &Place) -> Result<(usize, f64), Error> {
    let [folder, _] = filled(site);
    let (mut client, exists) = site.select(folder);
    // Once before: the figure is of warm reads.
    client.ok("FETCH 1:* (BODY.PEEK[])");
    let start = quiet(place)?;
    for number in 1..=exists {
        client.ok(&format!("FETCH {number} (BODY.PEEK[])"));
    }
    Ok((exists as usize, start.elapsed().as_secs_f64()))
}

fn move_all(site: &Site, place: &Place) -> Result<(usize, f64), Error> {
    let [from, to] = filled(site);
    let (mut client, exists) = site.select(from);
    let start = quiet(place)?;
    client.ok(&format!("MOVE 1:* {to}"));
    Ok((exists as usize, start.elapsed().as_secs_f64()))
}

fn expunge(site: &Site, place: &Place) -> Result<(usize, f64), Error> {
    let mut small = MailGen::new(site.round as u64 + 10);
    fill(
        &site.maildir.join(".Bin"),
        (0..FOLDER).map(|_| small.sized(2_048)),
    )?;
    let (mut client, exists) = site.select("Bin");
    client.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)");
    let start = quiet(place)?;
    client.ok("EXPUNGE");
    Ok((exists as usize, start.elapsed().as_secs_f64()))
}
