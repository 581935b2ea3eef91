//! Mail arrives from three sides in a folder that three sessions look at: no UID ever means two messages.
//!
//! LMTP, maildrop and a script deliver at the same time; two Dovecot sessions and one of Courier take what comes, and one of them flags and expunges. Whatever a
//! session is told, that a UID is this message, is noted in one table for all: the same UID must be the same message for everybody, for ever. A message may get
//! another UID, where Courier numbers what it finds in `new/` (it always does); the old one is gone then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::agents;
use super::client::{Client, Reply, number_after};
use super::courier::Courier;
use super::dovecot::{Dovecot, Options};
use super::ground::Ground;
use super::server::{self, Server};
use super::session::message;
use super::tools;
use crate::codecs::random::Random;

/// Deliveries by LMTP, by maildrop, by a script.
const DELIVERIES: [usize; 3] = [150, 100, 250];
/// Longest pause between two of one agent.
const PAUSE: u64 = 60;

/// What all sessions together were told.
struct Told {
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// (UIDVALIDITY, UID) → message.
    means: BTreeMap<(u64, u64), String>,
    /// What was new to anybody, in the order of time, for the report of a failure.
    news: Vec<String>,
    /// Observations, to see that there were many.
    times: usize,
    /// Messages that were expunged on purpose.
    expunged: BTreeSet<String>,
    /// UIDs that moved.
    moved: Vec<String>,
}

impl Told {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, who: &str, uid_validity: u64, uid: u64, id: &str) {
        let mut seen = self.seen();
        seen.times += 1;
        let known = seen.means.insert((uid_validity, uid), id.to_owned());
        if known.as_deref() == Some(id) {
            return;
        }
        let when = self.began.elapsed().as_millis();
        let news = format!("{when:6} ms: {who}: UID {uid} is {id}");
        if let Some(known) = known {
            seen.moved.push(format!("{news}, and was {known}"));
        }
        seen.news.push(news);
    }
}

/// UID and identity of the messages in `FETCH` responses.
fn fetched(reply: &Reply) -> Vec<(u64, String)> {
    let one = |line: &String| {
        let id = line.split("Message-ID: ").nth(1)?.split("\r\n").next()?;
        Some((number_after(line, "UID")?, id.to_owned()))
    };
    reply.untagged.iter().filter_map(one).collect()
}

/// One session: looks again and again, until all has arrived.
struct Session<'a> {
    who: &'static str,
    client: Client,
    uid_validity: u64,
    told: &'a Told,
}

impl<'a> Session<'a> {
    fn open(who: &'static str, mut client: Client, told: &'a Told) -> Self {
        let opened = client.ok("SELECT INBOX");
        Self {
            who,
            client,
            uid_validity: opened.code("UIDVALIDITY").expect("UIDVALIDITY"),
            told,
        }
    }

    /// All messages it is shown.
    fn look(&mut self) -> Vec<(u64, String)> {
        let reply = self
            .client
            .run("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])");
        // What somebody else has just expunged cannot be fetched.
        assert!(
            reply.is_ok() || reply.tagged.contains("EXPUNGE") || reply.tagged.starts_with("NO"),
            "{}: {}",
            self.who,
            reply.tagged
        );
        let found = fetched(&reply);
        let uids: BTreeSet<u64> = found.iter().map(|(uid, _)| *uid).collect();
        assert_eq!(uids.len(), found.len(), "{}: a UID twice", self.who);
        for (uid, id) in &found {
            self.told.note(self.who, self.uid_validity, *uid, id);
        }
        found
    }

    /// Until `done`, then once more.
    fn run(mut self, done: &AtomicBool, mut random: Random, idles: bool, meddles: bool) {
        loop {
            let last = done.load(Ordering::Acquire);
            if idles && !last {
                let mut idle = self.client.idle();
                idle.wait(Duration::from_millis(300), |line| line.ends_with("EXISTS"));
                idle.done().expect_ok("IDLE");
            } else {
                self.client.ok("NOOP");
            }
            let found = self.look();
            if last {
                return;
            }
            if meddles && !found.is_empty() {
                let (uid, id) = random.pick(&found);
                self.client
                    .run(&format!("UID STORE {uid} +FLAGS.SILENT (\\Seen $Label1)"));
                if random.once_in(4) {
                    let gone = self
                        .client
                        .run(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
                    // Renumbered meanwhile, it is another's to expunge.
                    if gone.is_ok() && gone.untagged.iter().any(|line| line.contains("\\Deleted")) {
                        self.told.seen().expunged.insert(id.clone());
                        self.client.ok(&format!("UID EXPUNGE {uid}"));
                    }
                }
            }
            if random.once_in(15) {
                self.client.ok("SELECT INBOX");
            }
            std::thread::sleep(Duration::from_millis(random.below(40) as u64));
        }
    }
}

fn mail(agent: &str, number: usize) -> Vec<u8> {
    message(
        &format!("{agent} {number}"),
        "Alice <alice@example.org>",
        "Wed, 01 Jan 2020 10:00:00 +0000",
        "Hello.",
    )
}

fn pause(random: &mut Random) {
    std::thread::sleep(Duration::from_millis(random.next() % PAUSE));
}

/// All three agents at once.
fn deliver(dovecot: &Dovecot, maildir: &Path, seeds: [u64; 3]) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(seeds[0]);
            let mut lmtp = dovecot.lmtp();
            for number in 0..DELIVERIES[0] {
                pause(&mut random);
                lmtp.deliver("u", &mail("lmtp", number));
            }
        });
        scope.spawn(|| {
            let mut random = Random::new(seeds[1]);
            for number in 0..DELIVERIES[1] {
                pause(&mut random);
                let text = String::from_utf8(mail("maildrop", number)).expect("ASCII");
                agents::maildrop(maildir, text.replace("\r\n", "\n").as_bytes());
            }
        });
        scope.spawn(|| {
            let mut random = Random::new(seeds[2]);
            for number in 0..DELIVERIES[2] {
                pause(&mut random);
                server::deliver_plainly(maildir, &mail("script", number));
            }
        });
    });
}

#[test]
fn no_uid_moves_to_another_message() {
    let mut random = Random::from_env("no_uid_moves_to_another_message");
    let ground = Ground::mailbraid();
    let index = ground.beside().join("index");
    tools::mail_dir(&index);
    let options = Options {
        index: Some(index),
        ..Options::default()
    };
    let dovecot = Dovecot::start_with(ground.root(), &options);
    let courier = Courier::start(ground.root());
    let told = Told::new();
    let done = AtomicBool::new(false);
    let maildir = ground.root().join("u");
    // The folder is open before the first mail comes.
    let sessions = [
        Session::open("Dovecot, NOOP", dovecot.connect(), &told),
        Session::open("Dovecot, IDLE", dovecot.connect(), &told),
        Session::open("Courier", courier.connect(), &told),
    ];
    std::thread::scope(|scope| {
        for (at, session) in sessions.into_iter().enumerate() {
            let random = Random::new(random.next());
            let done = &done;
            scope.spawn(move || session.run(done, random, at == 1, at == 0));
        }
        let seeds = [random.next(), random.next(), random.next()];
        let delivered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            deliver(&dovecot, &maildir, seeds);
        }));
        done.store(true, Ordering::Release);
        if let Err(why) = delivered {
            std::panic::resume_unwind(why);
        }
    });

    let moved = std::mem::take(&mut told.seen().moved);
    if !moved.is_empty() {
        for line in &told.seen().news {
            eprintln!("{line}");
        }
        eprintln!("{}", ground.history());
        panic!("UIDs moved:\n{}", moved.join("\n"));
    }

    // At rest all messages are there, each once, and both servers say the same.
    let agents = ["lmtp", "maildrop", "script"];
    let mut expected: BTreeSet<String> = (0..3)
        .flat_map(|agent| {
            (0..DELIVERIES[agent])
                .map(move |number| format!("<{}-{number}@example.org>", agents[agent]))
        })
        .collect();
    let expunged = told.seen().expunged.clone();
    expected.retain(|id| !expunged.contains(id));
    let courier_shows = Session::open("Courier, at rest", courier.connect(), &told).look();
    let dovecot_shows = Session::open("Dovecot, at rest", dovecot.connect(), &told).look();
    assert_eq!(
        courier_shows, dovecot_shows,
        "the servers differ when all is at rest"
    );
    let shown: BTreeSet<String> = dovecot_shows.iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(shown.len(), dovecot_shows.len(), "a message is there twice");
    assert_eq!(shown, expected, "messages are missing, or have come back");

    let seen = told.seen();
    assert_eq!(seen.moved, [""; 0]);
    let mut uids: BTreeMap<&String, usize> = BTreeMap::new();
    for id in seen.means.values() {
        *uids.entry(id).or_default() += 1;
    }
    println!(
        "{} deliveries, {} observations of {} UIDs; {} messages expunged, {} renumbered",
        DELIVERIES.iter().sum::<usize>(),
        seen.times,
        seen.means.len(),
        expunged.len(),
        uids.values().filter(|count| **count > 1).count(),
    );
    drop(seen);
    dovecot.assert_silent();
    assert_eq!(courier.complaints(), [""; 0]);
    ground.assert_sound();
}
