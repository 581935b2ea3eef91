//! SIGKILL at random instants under four concurrent writers.
//!
//! Each writer delivers durably (create in `tmp`, write, fsync, rename to `new`), sets flags, moves and deletes. What it was told
//! it writes down; then the daemon is killed and mounted again, unaided, and what the mount shows must be explained by what was told:
//!
//! - a delivery whose rename returned is there, once, with its content;
//! - any other operation that returned is there if it was made durable: by an fsync of the directory, or because a durable operation *of
//!   anyone* began after it had returned (the journal is one sequence);
//! - an operation that was under way, or returned and was not durable, is there wholly or not at all;
//! - nothing else is there; what was deleted stays deleted.
//!
//! In the end the history must be sound to `git fsck --strict`, its commits' sequence trailers must follow each other without gap, each with as many
//! action lines as numbers, and every acknowledged delivery must be told by exactly one of them.
//!
//! One kill in five hits the daemon while it mounts. Run again with `MAILBRAID_SEED`; `MAILBRAID_KILLS` changes the number of kills.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mailbraid::store::message;

use crate::bench::mail::rng::Rng;
use crate::support::daemon::Daemon;

/// Writers at work at a time.
const WRITERS: usize = 4;
/// Messages a writer keeps before it deletes more than it delivers.
const KEPT: usize = 60;
/// The folders; a writer delivers into one and moves to the other.
const FOLDERS: [&str; 2] = ["u", "u/.Archive"];

/// One thing that happened, or may have happened, to a message: where it is then (a path below the mount; `None`: deleted).
#[derive(Clone, Debug)]
struct Step {
    path: Option<String>,
    /// When it returned; `None` where it did not.
    returned: Option<u64>,
    /// It was durable by itself when it returned.
    durable: bool,
}

/// A message: the first step is certain, each later one may be lost with all after it.
#[derive(Clone, Debug)]
struct Message {
    size: usize,
    steps: Vec<Step>,
}

impl Message {
    fn path(&self) -> Option<&String> {
        self.steps.last()?.path.as_ref()
    }
}

/// Time as the writers see it, and how far back everything is durable.
#[derive(Default)]
struct Clock {
    now: AtomicU64,
    horizon: AtomicU64,
    killed: AtomicBool,
}

impl Clock {
    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    /// A durable operation that began at `start` has returned.
    fn durable_since(&self, start: u64) {
        self.horizon.fetch_max(start, Ordering::SeqCst);
    }
}

/// One writer and what it was told.
struct Writer {
    id: usize,
    rng: Rng,
    seed: u64,
    serial: u64,
    messages: BTreeMap<u64, Message>,
    /// Messages it did something to since the last kill.
    touched: Vec<u64>,
    /// Names of the deliveries that were acknowledged.
    delivered: Vec<String>,
    operations: u64,
}

impl Writer {
    fn new(seed: u64, id: usize) -> Self {
        Self {
            id,
            rng: Rng::new(seed ^ (id as u64 + 1).wrapping_mul(0x9e37_79b9)),
            seed,
            serial: 0,
            messages: BTreeMap::new(),
            touched: Vec::new(),
            delivered: Vec::new(),
            operations: 0,
        }
    }

    fn name(&self, serial: u64) -> String {
        format!("{}.M{serial}P{}.kill", 1_700_000_000 + serial, self.id)
    }

    /// The message's content, from its name alone.
    fn content(&self, serial: u64, size: usize) -> Vec<u8> {
        let own = self.seed ^ (serial << 8) ^ self.id as u64;
        let mut content = format!("Subject: {} of {}\n\n", serial, self.id).into_bytes();
        content.extend(Rng::new(own).bytes(size));
        content
    }

    /// Works until the daemon is killed.
    fn run(&mut self, root: &Path, clock: &Clock) {
        self.touched.clear();
        while !clock.killed.load(Ordering::SeqCst) {
            let Err(error) = self.act(root, clock) else {
                continue;
            };
            let killed = clock.killed.load(Ordering::SeqCst);
            let errno = error.raw_os_error().unwrap_or(0);
            let gone = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO, libc::ENODEV];
            assert!(
                killed && gone.contains(&errno),
                "writer {}: {error} (killed: {killed})",
                self.id
            );
            return;
        }
    }

    fn act(&mut self, root: &Path, clock: &Clock) -> io::Result<()> {
        let live: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, message)| message.path().is_some())
            .map(|(&serial, _)| serial)
            .collect();
        let deliver = if live.len() < KEPT { 0.5 } else { 0.2 };
        if live.is_empty() || self.rng.chance(deliver) {
            return self.deliver(root, clock);
        }
        let serial = *self.rng.pick(&live);
        let from = self.messages[&serial]
            .path()
            .cloned()
            .expect("a live message has a path");
        let folder = from.rsplitn(3, '/').nth(2).expect("folder/cur/name");
        let dice = self.rng.unit();
        let to = if dice < 0.3 {
            None
        } else {
            let folder = if dice < 0.4 {
                FOLDERS[usize::from(folder == FOLDERS[0])]
            } else {
                folder
            };
            let flags = *self.rng.pick(&["", "S", "FS", "RS", "T"]);
            Some(format!("{folder}/cur/{}:2,{flags}", self.name(serial)))
        };
        if to.as_ref() == Some(&from) {
            // A rename to the same name is no operation.
            return Ok(());
        }
        self.begin(serial, to.clone());
        match &to {
            Some(to) => fs::rename(root.join(&from), root.join(to))?,
            None => fs::remove_file(root.join(&from))?,
        }
        self.returned(serial, clock, false);
        if self.rng.chance(0.3) {
            let start = clock.tick();
            let changed = to.as_ref().unwrap_or(&from);
            let dir = root.join(changed).parent().map(Path::to_owned);
            File::open(dir.expect("a path has a parent"))?.sync_all()?;
            clock.durable_since(start);
        }
        Ok(())
    }

    fn deliver(&mut self, root: &Path, clock: &Clock) -> io::Result<()> {
        let serial = self.serial;
        self.serial += 1;
        // One in twelve is too large for the journal, and is spilled.
        let size = if self.rng.chance(0.08) {
            self.rng.between(70_000, 200_000)
        } else {
            self.rng.between(500, 9_000)
        } as usize;
        let folder = root.join(FOLDERS[self.id % 2]);
        let name = self.name(serial);
        let tmp = folder.join("tmp").join(&name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
        file.write_all(&self.content(serial, size))?;
        file.sync_all()?;
        drop(file);
        let nowhere = Step {
            path: None,
            returned: None,
            durable: true,
        };
        self.messages.insert(
            serial,
            Message {
                size,
                steps: vec![nowhere],
            },
        );
        self.begin(serial, Some(format!("{}/new/{name}", FOLDERS[self.id % 2])));
        let start = clock.tick();
        fs::rename(&tmp, folder.join("new").join(&name))?;
        self.returned(serial, clock, true);
        clock.durable_since(start);
        self.delivered.push(name);
        Ok(())
    }

    fn begin(&mut self, serial: u64, path: Option<String>) {
        self.touched.push(serial);
        if let Some(message) = self.messages.get_mut(&serial) {
            message.steps.push(Step {
                path,
                returned: None,
                durable: false,
            });
        }
    }

    fn returned(&mut self, serial: u64, clock: &Clock, durable: bool) {
        self.operations += 1;
        if let Some(step) = self
            .messages
            .get_mut(&serial)
            .and_then(|message| message.steps.last_mut())
        {
            step.returned = Some(clock.tick());
            step.durable = durable;
        }
    }

    /// Compares with what is there; what is there becomes certain. `found`: this writer's messages by serial.
    fn verify(&mut self, root: &Path, horizon: u64, mut found: BTreeMap<u64, String>, every: bool) {
        for (&serial, message) in &mut self.messages {
            let there = found.remove(&serial);
            let certain = message
                .steps
                .iter()
                .rposition(|step| step.returned.is_some_and(|at| step.durable || at < horizon))
                .unwrap_or(0);
            let allowed = &message.steps[certain..];
            assert!(
                allowed.iter().any(|step| step.path == there),
                "writer {} message {serial}: found {there:?}, told {:#?}",
                self.id,
                message.steps
            );
            message.steps = vec![Step {
                path: there,
                returned: None,
                durable: true,
            }];
        }
        assert!(
            found.is_empty(),
            "writer {}: messages that should not be there: {found:?}",
            self.id
        );
        self.messages.retain(|_, message| message.path().is_some());
        let chosen: Vec<u64> = if every {
            self.messages.keys().copied().collect()
        } else {
            self.touched.clone()
        };
        for serial in chosen {
            if let Some(message) = self.messages.get(&serial)
                && let Some(path) = message.path()
            {
                let content = fs::read(root.join(path)).unwrap();
                assert!(
                    content == self.content(serial, message.size),
                    "{path}: wrong content, {} bytes",
                    content.len()
                );
            }
        }
    }
}

/// Every message that is there, by writer and serial.
fn listing(root: &Path) -> [BTreeMap<u64, String>; WRITERS] {
    let mut all: [BTreeMap<u64, String>; WRITERS] = Default::default();
    for folder in FOLDERS {
        for part in ["new", "cur"] {
            for entry in fs::read_dir(root.join(folder).join(part)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let inner = name
                    .split_once(".M")
                    .and_then(|(_, rest)| rest.split_once(".kill"));
                let ids = inner.and_then(|(ids, _)| ids.split_once('P'));
                let (serial, writer) = ids.unwrap_or_else(|| panic!("a stranger: {name}"));
                let path = format!("{folder}/{part}/{name}");
                let twice = all[writer.parse::<usize>().unwrap()]
                    .insert(serial.parse().unwrap(), path.clone());
                assert_eq!(twice, None, "a message is there twice, also as {path}");
            }
        }
    }
    all
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_acknowledged_mail_is_lost_or_doubled_by_sigkill() {
    let seed = number("MAILBRAID_SEED").unwrap_or_else(|| {
        u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
    });
    let kills = number("MAILBRAID_KILLS").unwrap_or(300);
    println!("MAILBRAID_SEED={seed}");
    let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (store, root) = (base.path().join("store"), base.path().join("mnt"));
    fs::create_dir(&root).unwrap();
    let mut rng = Rng::new(seed);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|id| Writer::new(seed, id)).collect();
    let clock = Clock::default();
    let mut prepared = false;
    for kill in 0..kills {
        if rng.chance(0.2) {
            let mut daemon = Daemon::spawn(&store, &root);
            thread::sleep(Duration::from_micros(rng.below(40_000)));
            daemon.kill();
            continue;
        }
        let mut daemon = Daemon::spawn(&store, &root);
        daemon.wait_ready();
        if prepared {
            verify(&mut writers, &root, &clock, kill % 50 == 0);
        }
        for folder in FOLDERS {
            for part in ["new", "cur", "tmp"] {
                fs::create_dir_all(root.join(folder).join(part)).unwrap();
            }
        }
        prepared = true;
        clock.killed.store(false, Ordering::SeqCst);
        thread::scope(|scope| {
            let running: Vec<_> = writers
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.run(&root, &clock)))
                .collect();
            thread::sleep(Duration::from_micros(rng.between(5_000, 150_000)));
            clock.killed.store(true, Ordering::SeqCst);
            daemon.kill();
            for writer in running {
                writer.join().unwrap();
            }
        });
    }
    let mut daemon = Daemon::spawn(&store, &root);
    daemon.wait_ready();
    verify(&mut writers, &root, &clock, true);
    let flushed = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .arg("flush")
        .arg(&store)
        .status()
        .unwrap();
    assert!(flushed.success());
    daemon.unmount();
    let delivered: Vec<&String> = writers
        .iter()
        .flat_map(|writer| &writer.delivered)
        .collect();
    let operations: u64 = writers.iter().map(|writer| writer.operations).sum();
    println!(
        "{kills} kills, {} deliveries and {operations} operations acknowledged",
        delivered.len()
    );
    assert!(delivered.len() as u64 > kills, "the writers hardly wrote");
    verify_history(&store.join("repo.git"), &delivered, operations);
}

/// Every acknowledged operation is in the history exactly once, in order.
fn verify_history(repo: &Path, delivered: &[&String], operations: u64) {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(repo)
            .args(arguments)
            .output()
            .expect("git is missing: run tests/run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {arguments:?}: {said}");
        output.stdout
    };
    git(&["fsck", "--strict", "--no-dangling", "--no-progress"]);
    let log = git(&["log", "--reverse", "--format=%B%x00", "HEAD"]);
    let mut last = 0;
    let mut told: BTreeMap<&str, u32> = BTreeMap::new();
    for message in log.split(|&byte| byte == 0) {
        let Some((_, sequence)) = message::trailers(message) else {
            assert!(message.trim_ascii().is_empty(), "a commit without trailers");
            continue;
        };
        assert_eq!(sequence.first, last + 1, "a gap, or a number twice");
        let start = message.iter().position(|byte| !byte.is_ascii_whitespace());
        let actions: Vec<&str> = message::actions(&message[start.unwrap_or(0)..]).collect();
        assert_eq!(actions.len() as u64, sequence.last + 1 - sequence.first);
        last = sequence.last;
        for action in actions {
            if action.starts_with("deliver ") {
                let name = action.rsplit(' ').next().expect("an action has words");
                *told.entry(name).or_default() += 1;
            }
        }
    }
    assert!(
        last >= operations,
        "{last} operations in the history, {operations} acknowledged"
    );
    for name in delivered {
        assert_eq!(told.get(name.as_str()), Some(&1), "{name}");
    }
    assert!(
        told.values().all(|&times| times == 1),
        "a delivery is told twice"
    );
}

fn verify(writers: &mut [Writer], root: &Path, clock: &Clock, every: bool) {
    let horizon = clock.horizon.load(Ordering::SeqCst);
    for (writer, found) in writers.iter_mut().zip(listing(root)) {
        writer.verify(root, horizon, found, every);
    }
}
