//! A node killed, or its cable pulled, at any moment: in a push, a fetch, a braid, or while a braid is applied.
//!
//! On each of two nodes a writer delivers, flags and expunges without pause; the third node only takes part. At a random moment one of them is killed with SIGKILL
//! or cut off, and comes back a little later. What a writer was told is done must hold on all nodes in the end, once; what it was not
//! told may or may not.
//!
//! `MAILBRAID_NET_KILLS=100` of each sort (4 by default).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cluster::Cluster;
use crate::imap::tools::mail_dir;
use crate::random::Random;
use crate::support::mounted::deliver;

/// What a writer knows of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// Its delivery was acknowledged.
    There,
    /// Its removal was.
    Gone,
    /// Something went wrong in between.
    Doubt,
}

/// A program that works on a Maildir of one node, and starts again after each failure.
struct Writer {
    folder: PathBuf,
    prefix: String,
    random: Random,
    count: usize,
    known: BTreeMap<String, Known>,
    /// Unique name → file, of what is there for certain.
    files: BTreeMap<String, PathBuf>,
}

impl Writer {
    fn step(&mut self) {
        match self.random.below(10) {
            0..=6 => self.deliver(),
            7..=8 => self.flag(),
            _ => self.expunge(),
        }
    }

    fn deliver(&mut self) {
        self.count += 1;
        let name = format!("1700000000.M{}P{}.net", self.count, self.prefix);
        let text = format!("Subject: {name}\n\nHello.\n");
        match deliver(&self.folder, &name, text.as_bytes()) {
            Ok(path) => {
                self.known.insert(name.clone(), Known::There);
                self.files.insert(name, path);
            }
            Err(_) => {
                self.known.insert(name, Known::Doubt);
                pause();
            }
        }
    }

    fn choose(&mut self) -> Option<(String, PathBuf)> {
        let at = self.random.below(self.files.len().max(1));
        let (name, path) = self.files.iter().nth(at)?;
        Some((name.clone(), path.clone()))
    }

    fn flag(&mut self) {
        let Some((name, path)) = self.choose() else {
            return;
        };
        let flags = ["", "F", "S", "FS", "RS"][self.random.below(5)];
        let to = self.folder.join("cur").join(format!("{name}:2,{flags}"));
        match fs::rename(&path, &to) {
            Ok(()) => {
                self.files.insert(name, to);
            }
            // The other node, or the kill, moved it: this program lets it be.
            Err(_) => {
                self.files.remove(&name);
                pause();
            }
        }
    }

    fn expunge(&mut self) {
        let Some((name, path)) = self.choose() else {
            return;
        };
        self.files.remove(&name);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.known.insert(name, Known::Gone);
            }
            Err(_) => {
                self.known.insert(name, Known::Doubt);
                pause();
            }
        }
    }
}

/// A program whose filesystem is gone tries again soon.
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Unique name → file names, of a Maildir.
fn list(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for sub in ["new", "cur"] {
        for entry in fs::read_dir(folder.join(sub)).expect("list a Maildir") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy().into_owned();
            let unique = name.split(':').next().unwrap_or("").to_owned();
            found.entry(unique).or_default().push(name);
        }
    }
    found
}

/// What happens to a node.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    Kill,
    Cut,
}

/// Strikes so often, then looks.
#[track_caller]
pub fn strike(blow: Blow, times: usize, random: &mut Random) {
    let mut cluster = Cluster::machines(&["a", "b", "c"]);
    for node in &mut cluster.nodes {
        node.init();
        node.mount();
    }
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
        cluster.link(from, to);
    }
    let folder = cluster.nodes[0].mountpoint().join("u");
    for sub in ["", "tmp", "new", "cur"] {
        mail_dir(&folder.join(sub));
    }
    cluster.converge(Duration::from_secs(60));
    let mut writers: Vec<Writer> = (0..2)
        .map(|at| Writer {
            folder: cluster.nodes[at].mountpoint().join("u"),
            prefix: cluster.nodes[at].name().to_owned(),
            random: Random::new(random.next()),
            count: 0,
            known: BTreeMap::new(),
            files: BTreeMap::new(),
        })
        .collect();
    // Once in a while all stop, and all must be right.
    let mut left = times;
    let mut worst = Duration::ZERO;
    while left > 0 {
        let now = left.min(5);
        left -= now;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        writer.step();
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            for _ in 0..now {
                let victim = random.below(3);
                // A push, a fetch and a braid take milliseconds, one after another: any moment is in the middle of one.
                std::thread::sleep(Duration::from_micros(20_000 + random.next() % 400_000));
                let away = Duration::from_micros(random.next() % 300_000);
                match blow {
                    Blow::Kill => {
                        cluster.nodes[victim].kill();
                        std::thread::sleep(away);
                        cluster.nodes[victim].mount();
                    }
                    Blow::Cut => {
                        let name = cluster.nodes[victim].name().to_owned();
                        cluster.network.cut(&name);
                        std::thread::sleep(away);
                        cluster.network.join(&name);
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let (took, _) = cluster.converge(Duration::from_secs(120));
        worst = worst.max(took);
        look(&cluster, &writers);
    }
    let made: usize = writers.iter().map(|writer| writer.known.len()).sum();
    println!(
        "{blow:?} {times} times: {made} messages, one commit at most {:.2} s after the last",
        worst.as_secs_f64()
    );
    for node in &cluster.nodes {
        node.assert_sound();
    }
}

/// All is as the writers know it, on every node.
#[track_caller]
fn look(cluster: &Cluster, writers: &[Writer]) {
    let mut before = None;
    for node in &cluster.nodes {
        let found = list(&node.mountpoint().join("u"));
        for (name, files) in &found {
            assert_eq!(
                files.len(),
                1,
                "{}: {name} is there twice: {files:?}",
                node.name()
            );
        }
        for (name, known) in writers.iter().flat_map(|writer| &writer.known) {
            match known {
                Known::There => {
                    assert!(found.contains_key(name), "{}: {name} is lost", node.name())
                }
                Known::Gone => {
                    assert!(!found.contains_key(name), "{}: {name} is back", node.name())
                }
                Known::Doubt => {}
            }
        }
        match &before {
            None => before = Some(found),
            Some(before) => assert_eq!(before, &found, "{} shows other files", node.name()),
        }
    }
}
