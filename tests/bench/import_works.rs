//! `mailbraid import` of a large Maildir beside `cp -a` and `sync` to the plain directory.
//!
//! The mails are the generator's, 50,000 of them in eight folders, some 2 GB. Each round copies them once to a new directory and imports them once into a
//! new store, the other way round every second time. The import's time ends when all is committed (`mailbraid flush`): hashing, compression and
//! packing are in it. Both read the source from the page cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::arguments::Arguments;
use super::mail::{MailGen, maildir};
use super::places::{self, EXT4, MAILBRAID, Place};
use super::report::Report;

type Error = Box<dyn std::error::Error>;

/// Messages, in all folders together.
const MESSAGES: usize = 50_000;
/// Folders they are in.
const FOLDERS: usize = 8;
/// What is timed: from the source to a directory of the round, in seconds.
type Work = fn(&Path, &Path) -> Result<f64, Error>;

/// The one work.
pub const IMPORT: &str = "import of 50,000";

/// Runs the rounds.
///
/// # Errors
/// Where a store cannot be made, or a command fails.
pub fn run(arguments: &Arguments) -> Result<Report, Error> {
    let mut report = Report::default();
    if !arguments.wants(IMPORT) {
        return Ok(report);
    }
    let base = tempfile::Builder::new()
        .prefix("bench-import-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let source = base.path().join("source");
    eprintln!("preparing {MESSAGES} messages");
    let bytes = write(&source)?;
    report.note(format!(
        "{MESSAGES} messages in {FOLDERS} folders, {:.0} MB; the plain directory is on {}",
        bytes as f64 / 1e6,
        places::filesystem_of(base.path())?
    ));
    for round in 0..arguments.rounds.unwrap_or(5) {
        eprintln!("import: round {}", round + 1);
        let dir = base.path().join(format!("round-{round}"));
        std::fs::create_dir(&dir)?;
        let works: [(&str, Work); 2] = [(EXT4, copy), (MAILBRAID, import)];
        for turn in 0..works.len() {
            let (place, work) = works[(round + turn) % works.len()];
            if arguments.has(place) {
                rustix::fs::sync();
                report.add(IMPORT, place, MESSAGES as f64 / work(&source, &dir)?);
            }
        }
        std::fs::remove_dir_all(&dir)?;
    }
    let behind = places::LONGEST_FLUSH.load(Ordering::Relaxed);
    report.note(format!(
        "commits were {behind} ms behind the mount at most when an import ended"
    ));
    Ok(report)
}

/// Writes the Maildir; how many bytes the messages have.
fn write(source: &Path) -> Result<u64, Error> {
    let mut mails = MailGen::new(50);
    let mut bytes = 0;
    for folder in 0..FOLDERS {
        let folder: PathBuf = match folder {
            0 => source.to_owned(),
            number => source.join(format!(".Folder-{number}")),
        };
        let written = maildir::write(&folder, mails.by_ref().take(MESSAGES / FOLDERS))?;
        bytes += written.iter().map(|mail| mail.size).sum::<u64>();
    }
    Ok(bytes)
}

fn succeed(command: &mut Command) -> Result<(), Error> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

fn copy(source: &Path, dir: &Path) -> Result<f64, Error> {
    let start = Instant::now();
    succeed(
        Command::new("cp")
            .arg("-a")
            .arg(source)
            .arg(dir.join("copy")),
    )?;
    succeed(&mut Command::new("sync"))?;
    Ok(start.elapsed().as_secs_f64())
}

fn import(source: &Path, dir: &Path) -> Result<f64, Error> {
    let place = Place::mailbraid(dir, None)?;
    let start = Instant::now();
    succeed(
        Command::new(env!("CARGO_BIN_EXE_mailbraid"))
            .arg("import")
            .arg(source)
            .arg(place.dir.join("u"))
            .stderr(Stdio::null()),
    )?;
    place.settle()?;
    Ok(start.elapsed().as_secs_f64())
}
