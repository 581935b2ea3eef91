//! Many threads: order, the shared sync, waiting.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::journal::segment::Segment;

#[test]
fn many_waiters_share_a_sync() {
    const THREADS: u64 = 8;
    const EACH: u64 = 50;
    let bench = Bench::new();
    let (journal, _) = bench.open(Options {
        segment_bytes: 1024 * 1024,
        ..Options::default()
    });
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, start) = (&journal, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..EACH {
                    let seq = journal
                        .append(&delivery(thread * EACH + number, 300), 0)
                        .expect("appended");
                    journal.wait_durable(seq).expect("durable");
                    assert!(journal.durable() >= seq);
                }
            });
        }
    });
    let stats = journal.stats();
    assert_eq!(stats.appended, THREADS * EACH);
    assert_eq!(journal.durable(), THREADS * EACH);
    // A leader's sync begins after its own record, so each waiter sees at most one sync that does not cover it and one that does:
    // never more syncs than records, and fewer as soon as two wait at once.
    assert!(stats.syncs <= stats.appended, "{stats:?}");
}

#[test]
fn one_sync_covers_all_that_was_written_before_it() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.append(&journal, 40, 1000);
    assert_eq!((journal.durable(), journal.stats().syncs), (0, 0));
    journal.wait_durable(7).expect("durable");
    assert_eq!((journal.durable(), journal.stats().syncs), (40, 1));
    journal.wait_durable(40).expect("durable");
    assert_eq!(journal.stats().syncs, 1);
    thread::scope(|scope| {
        for seq in 1..=40 {
            let journal = &journal;
            scope.spawn(move || journal.wait_durable(seq).expect("durable"));
        }
    });
    assert_eq!(journal.stats().syncs, 1);
}

#[test]
fn what_was_left_is_done_once_when_its_record_is_durable() {
    const THREADS: u64 = 4;
    const EACH: u64 = 200;
    let bench = Bench::new();
    let (journal, _) = bench.open(Options {
        segment_bytes: 1024 * 1024,
        ..Options::default()
    });
    let (done, outcomes) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, done) = (&journal, done.clone());
            scope.spawn(move || {
                for number in 0..EACH {
                    let seq = journal
                        .append(&delivery(thread * EACH + number, 300), 0)
                        .expect("appended");
                    let (done, held) = (done.clone(), std::sync::Arc::downgrade(journal));
                    let then = move |outcome: Result<(), JournalError>| {
                        let durable = held.upgrade().expect("still open").durable();
                        done.send((seq, outcome.is_ok() && durable >= seq))
                            .expect("somebody listens");
                    };
                    journal.when_durable(seq, Box::new(then));
                }
            });
        }
    });
    drop(done);
    let mut told: Vec<(u64, bool)> = outcomes.iter().collect();
    told.sort_unstable();
    assert_eq!(
        told,
        (1..=THREADS * EACH)
            .map(|seq| (seq, true))
            .collect::<Vec<_>>()
    );
    assert_eq!(journal.durable(), THREADS * EACH);
}

#[test]
fn a_lone_waiter_syncs_itself() {
    let bench = Bench::new();
    let (journal, _) = bench.open(small());
    let here = thread::current().id();
    for _ in 0..20 {
        let seq = journal.append(&flag(1), 0).expect("appended");
        let (done, outcome) = std::sync::mpsc::channel();
        let then = move |outcome: Result<(), JournalError>| {
            done.send((thread::current().id(), outcome.is_ok()))
                .expect("somebody listens");
        };
        journal.when_durable(seq, Box::new(then));
        assert_eq!(outcome.try_recv(), Ok((here, true)));
    }
}

#[test]
fn a_failed_sync_is_told_to_all_who_wait_and_to_all_who_come() {
    let bench = Bench::new();
    let (journal, _) = bench.open(small());
    journal.append(&flag(1), 0).expect("appended");
    journal.wait_durable(1).expect("durable");
    journal.append(&flag(2), 0).expect("appended");
    {
        // A device that cannot be synced takes the place of the segment.
        let mut state = journal.shared.state.lock();
        let held = state.held.back_mut().expect("a record is held");
        held.segment = std::sync::Arc::new(Segment {
            header: held.segment.header,
            path: "/dev/null".into(),
            file: std::fs::File::open("/dev/null").expect("opened"),
        });
    }
    let told = |seq| {
        let (done, outcome) = std::sync::mpsc::channel();
        let then = move |outcome| done.send(outcome).expect("somebody listens");
        journal.when_durable(seq, Box::new(then));
        outcome.try_recv().expect("told at once")
    };
    assert!(matches!(told(2), Err(JournalError::Poisoned { .. })));
    assert!(matches!(told(2), Err(JournalError::Poisoned { .. })));
    assert!(matches!(
        journal.wait_durable(2),
        Err(JournalError::Poisoned { .. })
    ));
    assert!(told(1).is_ok());
    assert!(journal.append(&flag(3), 0).is_err());
}

#[test]
fn a_record_that_was_never_appended_is_not_waited_for() {
    let bench = Bench::new();
    let (journal, _) = bench.open(small());
    assert!(matches!(
        journal.wait_durable(1),
        Err(JournalError::NotFound { seq: 1 })
    ));
    assert!(matches!(
        journal.release(1),
        Err(JournalError::NotFound { seq: 1 })
    ));
}

#[test]
fn numbers_follow_the_order_of_appends_from_all_threads() {
    let bench = Bench::new();
    let (journal, _) = bench.open(small());
    let order = parking_lot::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (journal, order) = (&journal, &order);
            scope.spawn(move || {
                for number in 0..100 {
                    let op = flag(thread * 1000 + number);
                    let mut order = order.lock();
                    let seq = journal.append(&op, 0).expect("appended");
                    order.push((seq, op));
                }
            });
        }
    });
    let read = journal.read(0, usize::MAX, usize::MAX).expect("read");
    let read: Vec<(u64, Op)> = read.into_iter().map(|it| (it.seq, it.op)).collect();
    assert_eq!(read, *order.lock());
}

#[test]
fn a_reader_is_woken_by_an_append_and_by_a_wake() {
    let bench = Bench::new();
    let (journal, _) = bench.open(small());
    let long = Duration::from_secs(60);
    assert!(!journal.wait_appended(0, Duration::from_millis(1)));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| journal.wait_appended(0, long));
        journal.append(&flag(1), 0).expect("appended");
        assert!(waiting.join().expect("no panic"));
        let waiting = scope.spawn(|| journal.wait_appended(1, long));
        journal.wake();
        assert!(!waiting.join().expect("no panic"));
    });
    // A wake before the wait is not lost, and counts once.
    journal.wake();
    assert!(!journal.wait_appended(1, long));
    assert!(!journal.wait_appended(1, Duration::from_millis(1)));
    assert!(journal.wait_appended(0, long));
}

#[test]
fn a_reader_drains_what_writers_append_across_segments() {
    let bench = Bench::new();
    let (journal, _) = bench.open(small());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            loop {
                let ended = done.load(Ordering::Acquire);
                journal.wait_appended(seen, Duration::from_millis(5));
                let batch = journal.read(seen, 7, 5000).expect("read");
                for record in &batch {
                    assert_eq!(record.seq, seen + 1);
                    assert_eq!(record.op, delivery(record.time as u64, 700));
                    seen = record.seq;
                }
                journal.release(seen).expect("released");
                if ended && batch.is_empty() {
                    return seen;
                }
            }
        });
        for number in 0..300 {
            journal.wait_room();
            let seq = journal
                .append(&delivery(number, 700), number as i64)
                .expect("appended");
            if number % 10 == 0 {
                journal.wait_durable(seq).expect("durable");
            }
        }
        done.store(true, Ordering::Release);
        assert_eq!(reader.join().expect("no panic"), 300);
    });
    assert_eq!(journal.released(), 300);
}
