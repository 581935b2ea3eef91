//! Crashes at every event of a recorded run.
//!
//! [`record`] runs a script on a [recording disk](super::disk::recording) and keeps what the script notes (an acknowledgement, say) with the
//! number of changes made by then. [`Run::crash_everywhere`] then builds what a disk would hold after each of them, with each
//! kind of loss, and hands it to a verifier together with the notes made before.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::disk::recording::Recording;
use super::disk::{Disk, Event, Image, Tear};

/// What a script says while it runs, with how many changes were made by then. Shared by the script's threads.
pub struct Notes<'a, N> {
    disk: &'a Recording,
    notes: Mutex<Vec<(usize, N)>>,
    start: AtomicUsize,
}

impl<N> Notes<'_, N> {
    /// Notes something that holds from now on: whatever crash comes later must respect it.
    pub fn note(&self, note: N) {
        let mut notes = self.notes.lock();
        notes.push((self.disk.position(), note));
    }

    /// Crashes are looked at from here on: what was done before only sets the stage.
    pub fn start(&self) {
        self.start.store(self.disk.position(), Ordering::Relaxed);
    }
}

/// A script that has run.
pub struct Run<N> {
    /// All changes, in order.
    pub events: Vec<Event>,
    /// What was noted, each with the number of changes before it; ascending.
    pub notes: Vec<(usize, N)>,
    /// Crashes before this many changes are not looked at.
    start: usize,
}

/// A crash to verify.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// How many changes were made.
    pub after: usize,
    /// What reached the disk.
    pub tear: Tear,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crash after {} changes, {:?}", self.after, self.tear)
    }
}

/// Runs a script on an empty recording disk, mounted at the path it gets.
pub fn record<N>(script: impl FnOnce(&Path, &Notes<'_, N>)) -> Run<N> {
    let disk = Recording::mount();
    let notes = Notes {
        disk: &disk,
        notes: Mutex::new(Vec::new()),
        start: AtomicUsize::new(0),
    };
    script(&disk.path(), &notes);
    Run {
        events: disk.events(),
        start: notes.start.load(Ordering::Relaxed),
        notes: notes.notes.into_inner(),
    }
}

impl<N> Run<N> {
    /// What is found after a crash.
    pub fn image(&self, crash: Crash) -> Image {
        let mut disk = Disk::default();
        self.events[..crash.after]
            .iter()
            .for_each(|event| disk.apply(event));
        disk.image(crash.tear)
    }

    /// Hands every different outcome of a crash after every change to `verify`: the directory found, the notes made before the crash, and which crash
    /// it was. `seeds` gives the random losses, tried at each change.
    ///
    /// Outcomes that equal an earlier one in all, notes included, are left out. Returns how many were verified.
    pub fn crash_everywhere(
        &self,
        seeds: std::ops::Range<u64>,
        mut verify: impl FnMut(&Path, &[(usize, N)], Crash),
    ) -> usize {
        let mut disk = Disk::default();
        let mut seen = HashSet::new();
        let mut verified = 0;
        for after in 0..=self.events.len() {
            if let Some(before) = after.checked_sub(1) {
                disk.apply(&self.events[before]);
            }
            if after < self.start {
                continue;
            }
            let known = self.notes.partition_point(|(at, _)| *at <= after);
            for tear in tears(&disk, &seeds) {
                let image = disk.image(tear);
                if !seen.insert((image.fingerprint(), known)) {
                    continue;
                }
                let dir = scratch();
                let root = dir.path().join("disk");
                image.materialise(&root);
                verify(&root, &self.notes[..known], Crash { after, tear });
                verified += 1;
            }
        }
        verified
    }
}

/// Syncs all below a directory, and itself.
pub fn sync_all(dir: &Path) {
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sync_all(&path);
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .expect("synced");
        }
    }
    File::open(dir)
        .and_then(|open| open.sync_all())
        .expect("synced");
}

/// The losses to try after the last change.
fn tears(disk: &Disk, seeds: &std::ops::Range<u64>) -> Vec<Tear> {
    let mut tears = vec![Tear::Strict, Tear::KILLED];
    if let Some(sectors) = disk.last_sectors() {
        for kept in [1, sectors / 2, sectors - 1] {
            if kept > 0 && kept < sectors {
                tears.push(Tear::Torn { sectors: kept });
                tears.push(Tear::Kept { sectors: kept });
            }
        }
        tears.push(Tear::Torn { sectors });
    }
    tears.extend(seeds.clone().map(|seed| Tear::Random { seed }));
    tears
}

/// A directory where syncs cost nothing, if there is one: thousands of stores are opened in it.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().expect("a temporary directory")
}
