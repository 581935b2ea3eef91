//! One session, run over two filesystems, reads the same.

use std::time::Duration;

use super::courier::Courier;
use super::dovecot::Dovecot;
use super::ground::Ground;
use super::mailutils::Mailutils;
use super::server::Server;
use super::session::{self, Outcome};

/// How long IDLE may take to report a delivery.
const PATIENCE: Duration = Duration::from_secs(30);
/// Mailutils reports none in IDLE, over any filesystem: it need not be waited for long.
const SHORT: Duration = Duration::from_secs(2);

type Start = fn(&Ground) -> (Box<dyn Server>, Duration);

fn dovecot(ground: &Ground) -> (Box<dyn Server>, Duration) {
    (Box::new(Dovecot::start(ground.root())), PATIENCE)
}

fn courier(ground: &Ground) -> (Box<dyn Server>, Duration) {
    (Box::new(Courier::start(ground.root())), PATIENCE)
}

fn mailutils(ground: &Ground) -> (Box<dyn Server>, Duration) {
    (Box::new(Mailutils::start(ground.root())), SHORT)
}

fn session_over(ground: &Ground, start: Start) -> Outcome {
    let (server, patience) = start(ground);
    let outcome = session::run(server.as_ref(), patience);
    assert!(
        outcome.transcript.commands() >= 40,
        "the session is too short"
    );
    outcome
}

#[track_caller]
fn compare(start: Start, left: &Ground, right: &Ground) -> (Outcome, Outcome) {
    let one = session_over(left, start);
    let two = session_over(right, start);
    if let Some(dir) = std::env::var_os("MAILBRAID_TRANSCRIPTS") {
        let dir = std::path::PathBuf::from(dir);
        std::fs::write(dir.join(left.name), one.transcript.text()).expect("write a transcript");
        std::fs::write(dir.join(right.name), two.transcript.text()).expect("write a transcript");
    }
    one.transcript
        .assert_equal(&two.transcript, left.name, right.name);
    assert_eq!(one.woken, two.woken, "IDLE was woken over one only");
    left.assert_sound();
    right.assert_sound();
    (one, two)
}

#[test]
fn dovecot_over_the_plain_filesystem_twice() {
    let (outcome, _) = compare(dovecot, &Ground::plain(), &Ground::plain());
    assert!(outcome.woken);
}

#[test]
fn courier_over_the_plain_filesystem_twice() {
    let (outcome, _) = compare(courier, &Ground::plain(), &Ground::plain());
    assert!(outcome.woken);
}

#[test]
fn mailutils_over_the_plain_filesystem_twice() {
    compare(mailutils, &Ground::plain(), &Ground::plain());
}

#[test]
fn dovecot_over_bindfs() {
    compare(dovecot, &Ground::plain(), &Ground::bindfs());
}

#[test]
fn dovecot_over_the_mount() {
    let (outcome, _) = compare(dovecot, &Ground::plain(), &Ground::mailbraid());
    assert!(outcome.woken);
}

#[test]
fn courier_over_the_mount() {
    let (outcome, _) = compare(courier, &Ground::plain(), &Ground::mailbraid());
    assert!(outcome.woken);
}

#[test]
fn mailutils_over_the_mount() {
    let ground = Ground::mailbraid();
    compare(mailutils, &Ground::plain(), &ground);
    // A mail is written as `muXXXXXX` beside `cur/` and renamed: what is not a mail yet is no action.
    let is_temporary = |name: &str| {
        let letters = name.strip_prefix("mu").unwrap_or_default();
        letters.len() == 6 && letters.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let history = ground.history();
    assert!(history.contains("deliver "), "{history}");
    let temporary = history
        .split([' ', '\t', '\n', '/', '%'])
        .find(|name| is_temporary(name));
    assert_eq!(temporary, None, "a temporary is in the history");
}
