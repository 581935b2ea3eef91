//! The journal on a disk that forgets, fills up, and fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailbraid::journal::{Journal, JournalError, Options};
use mailbraid::maildir::{Attrs, Content, Oid, Op, TreePath};
use parking_lot::Mutex;

use super::crash::{Crash, Notes, Run, record, sync_all};
use super::disk::Tear;
use super::disk::recording::{Faults, Recording};
use crate::support::seed;

const SEGMENT: u64 = 16 * 1024;

fn options(first_seq: u64) -> Options {
    Options {
        segment_bytes: SEGMENT,
        max_segments: 6,
        first_seq,
        ..Options::default()
    }
}

fn delivery(number: u64, len: usize) -> Op {
    let content: Vec<u8> = format!("mail {number}\n")
        .bytes()
        .cycle()
        .take(len)
        .collect();
    Op::Put {
        path: TreePath::new(format!("u/new/{number}.M1P1.vm")),
        oid: Oid::from_bytes(&[number as u8; 20]).expect("20 bytes"),
        attrs: Attrs {
            uid: None,
            mtime: number as i64,
            size: len as u64,
            ext: BTreeMap::new(),
        },
        content: Content::Inline(content),
    }
}

fn flag(number: u64) -> Op {
    Op::Rename {
        from: TreePath::new(format!("u/cur/{number}.M1P1.vm:2,")),
        to: TreePath::new(format!("u/cur/{number}.M1P1.vm:2,S")),
    }
}

/// What a script says.
enum Note {
    /// `wait_durable` returned.
    Durable(u64),
    /// The history has all up to here.
    History(u64),
}

/// A journal under a script, and what was given to it.
struct Script<'a> {
    journal: Arc<Journal>,
    notes: &'a Notes<'a, Note>,
    ops: &'a Mutex<BTreeMap<u64, Op>>,
}

impl Script<'_> {
    fn append(&self, op: Op) -> u64 {
        let mut ops = self.ops.lock();
        let seq = self.journal.append(&op, 5).expect("appended");
        ops.insert(seq, op);
        seq
    }

    fn durable(&self, seq: u64) {
        self.journal.wait_durable(seq).expect("durable");
        self.notes.note(Note::Durable(seq));
    }

    fn release(&self, seq: u64) {
        self.notes.note(Note::History(seq));
        self.journal.release(seq).expect("released");
    }
}

/// Every crash of a run: what was acknowledged is there once and in order, nothing else is, and the journal goes on.
fn verify(run: &Run<Note>, ops: &BTreeMap<u64, Op>, seeds: std::ops::Range<u64>) {
    let verified = run.crash_everywhere(seeds, |root, notes, crash| {
        let (mut durable, mut history) = (0, 0);
        for (_, note) in notes {
            match note {
                Note::Durable(seq) => durable = durable.max(*seq),
                Note::History(seq) => history = history.max(*seq),
            }
        }
        let dir = root.join("journal");
        let last = holds(&dir, ops, history, durable, crash);
        // New records follow, and nothing that was cut comes back with them.
        let (journal, _) = Journal::open(&dir, options(history + 1)).expect("it opens again");
        let mut ops: BTreeMap<u64, Op> = ops
            .clone()
            .into_iter()
            .filter(|(seq, _)| *seq <= last)
            .collect();
        for number in 0..4 {
            let op = delivery(900 + number, 700);
            let seq = journal.append(&op, 5).expect("appended");
            ops.insert(seq, op);
        }
        let new = journal.last();
        assert!(new >= last + 4, "{crash}");
        journal.wait_durable(new).expect("durable");
        drop(journal);
        assert_eq!(holds(&dir, &ops, history, new, crash), new, "{crash}");
    });
    println!("{} events, {verified} different crashes", run.events.len());
    assert!(verified > 50);
}

/// Opens a journal and compares; returns the last record.
fn holds(dir: &Path, ops: &BTreeMap<u64, Op>, history: u64, durable: u64, crash: Crash) -> u64 {
    let (journal, recovery) =
        Journal::open(dir, options(history + 1)).unwrap_or_else(|error| panic!("{crash}: {error}"));
    let records = journal
        .read(history, usize::MAX, usize::MAX)
        .unwrap_or_else(|error| panic!("{crash}: {error}"));
    let last = records.last().map_or(history, |record| record.seq);
    assert!(
        last >= durable,
        "{crash}: {durable} was acknowledged, {last} is the last; {recovery:?}"
    );
    let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
    let expected: Vec<u64> = ops
        .keys()
        .copied()
        .filter(|seq| *seq > history && *seq <= last)
        .collect();
    assert_eq!(seqs, expected, "{crash}");
    for record in records {
        assert_eq!(record.time, 5, "{crash}");
        assert_eq!(record.op, ops[&record.seq], "{crash}: {}", record.seq);
    }
    recovery.last
}

/// One thread: deliveries of many sizes, each durable; flag changes that nobody waits for; a store that releases; reopening.
#[test]
fn every_crash_of_one_writer_keeps_what_was_acknowledged() {
    let ops = Mutex::new(BTreeMap::new());
    let run = record(|root, notes| {
        let mut last = 0;
        for round in 0..3 {
            let (journal, recovery) =
                Journal::open(&root.join("journal"), options(last.max(1))).expect("opened");
            assert_eq!(recovery.cut, None);
            let script = Script {
                journal,
                notes,
                ops: &ops,
            };
            for step in 0..24_u64 {
                let number = round * 100 + step;
                script.append(flag(number));
                let seq = script.append(delivery(number, 100 + (step as usize * 397) % 2500));
                if step % 3 != 2 {
                    script.durable(seq);
                }
                if step % 8 == 7 {
                    script.release(script.journal.durable().saturating_sub(3));
                }
            }
            last = script.journal.released();
        }
    });
    verify(&run, &ops.into_inner(), seeds(3));
}

/// Four threads that share syncs, beside a store that reads, releases and lags.
#[test]
fn every_crash_of_many_writers_keeps_what_was_acknowledged() {
    let ops = Mutex::new(BTreeMap::new());
    let run = record(|root, notes| {
        let (journal, _) = Journal::open(&root.join("journal"), options(1)).expect("opened");
        let script = Script {
            journal,
            notes,
            ops: &ops,
        };
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let script = &script;
                scope.spawn(move || {
                    for step in 0..12 {
                        script.journal.wait_room();
                        let number = thread * 100 + step;
                        let seq = script.append(delivery(number, 200 + number as usize * 3));
                        if step % 2 == 0 {
                            script.append(flag(number));
                        }
                        script.durable(seq);
                    }
                });
            }
            let script = &script;
            scope.spawn(move || {
                let mut done = 0;
                while done < 72 {
                    script.journal.wait_appended(done, Duration::from_secs(5));
                    let read = script.journal.read(done, 7, usize::MAX).expect("read");
                    done += read.len() as u64;
                    script.journal.wait_durable(done).expect("durable");
                    script.release(done);
                }
            });
        });
    });
    verify(&run, &ops.into_inner(), seeds(2));
}

/// Records behind a hole, in several segments: the recovery that cuts them may itself be cut short at any point.
#[test]
fn every_crash_of_a_recovery_is_recovered_from() {
    const DURABLE: u64 = 4;
    let before = Mutex::new(BTreeMap::new());
    let first = record(|root, notes| {
        let (journal, _) = Journal::open(&root.join("journal"), options(1)).expect("opened");
        let script = Script {
            journal,
            notes,
            ops: &before,
        };
        for number in 0..DURABLE {
            script.append(delivery(number, 1000));
        }
        script.durable(DURABLE);
        for number in DURABLE..40 {
            script.append(delivery(number, 1000));
        }
    });
    let before = before.into_inner();
    let mut cuts = 0;
    for seed in seeds(6) {
        let ops = Mutex::new(before.clone());
        let run = record(|root, notes| {
            let crash = Crash {
                after: first.events.len(),
                tear: Tear::Random { seed },
            };
            first.image(crash).materialise(root);
            sync_all(root);
            notes.note(Note::Durable(DURABLE));
            notes.start();
            let (journal, recovery) =
                Journal::open(&root.join("journal"), options(1)).expect("opened");
            cuts += usize::from(recovery.cut.is_some());
            ops.lock().retain(|seq, _| *seq <= recovery.last);
            notes.note(Note::Durable(recovery.last));
            let script = Script {
                journal,
                notes,
                ops: &ops,
            };
            for number in 0..14 {
                let seq = script.append(delivery(500 + number, 1000));
                script.durable(seq);
            }
        });
        verify(&run, &ops.into_inner(), seed..seed + 1);
    }
    assert!(cuts > 3, "{cuts} of 6 had something to cut");
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = seed() >> 8;
    first..first + count
}

fn journal_on(disk: &Recording, first_seq: u64) -> Arc<Journal> {
    Journal::open(&disk.path().join("journal"), options(first_seq))
        .expect("opened")
        .0
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_failed_sync_poisons_for_ever() {
    let disk = Recording::mount();
    let journal = journal_on(&disk, 1);
    eventually("segments ahead", || journal.stats().prepared == 2);
    let first = journal.append(&delivery(1, 100), 0).expect("appended");
    journal.wait_durable(first).expect("durable");
    let second = journal.append(&delivery(2, 100), 0).expect("appended");
    disk.set_faults(Faults {
        sync: true,
        ..Faults::default()
    });
    let failed = journal.wait_durable(second).expect_err("the sync fails");
    assert!(matches!(failed, JournalError::Poisoned { .. }), "{failed}");
    assert_eq!(failed.errno(), rustix::io::Errno::IO.raw_os_error());
    // The disk says that all is well again. The journal does not believe it.
    disk.set_faults(Faults::default());
    assert!(journal.wait_durable(second).is_err());
    assert!(matches!(
        journal.append(&flag(1), 0),
        Err(JournalError::Poisoned { .. })
    ));
    assert!(journal.release(first).is_err());
    assert!(journal.poisoned().is_some_and(|why| why.contains("sync")));
    // What was durable before stays so, and reading goes on.
    journal.wait_durable(first).expect("durable before");
    assert_eq!(journal.inline_content(second).expect("read").len(), 100);
    assert!(!journal.wait_appended(second, Duration::from_secs(60)));
    drop(journal);
    let journal = journal_on(&disk, 1);
    assert!(journal.poisoned().is_none());
    journal.append(&flag(1), 0).expect("a new mount takes more");
}

#[test]
fn a_waiter_beside_the_failing_leader_hears_of_it_too() {
    let disk = Recording::mount();
    let journal = journal_on(&disk, 1);
    eventually("segments ahead", || journal.stats().prepared == 2);
    disk.set_faults(Faults {
        sync: true,
        ..Faults::default()
    });
    std::thread::scope(|scope| {
        for number in 0..6 {
            let journal = &journal;
            scope.spawn(move || {
                let Ok(seq) = journal.append(&delivery(number, 50), 0) else {
                    return;
                };
                assert!(journal.wait_durable(seq).is_err());
            });
        }
    });
    assert_eq!(journal.durable(), 0);
    disk.set_faults(Faults::default());
}

#[test]
fn a_failed_write_poisons_too() {
    let disk = Recording::mount();
    let journal = journal_on(&disk, 1);
    eventually("segments ahead", || journal.stats().prepared == 2);
    journal.append(&flag(1), 0).expect("appended");
    disk.set_faults(Faults {
        write: true,
        ..Faults::default()
    });
    assert!(matches!(
        journal.append(&flag(2), 0),
        Err(JournalError::Poisoned { .. })
    ));
    disk.set_faults(Faults::default());
    assert!(journal.append(&flag(3), 0).is_err());
    assert_eq!(journal.last(), 1);
}

#[test]
fn a_full_disk_refuses_content_takes_renames_and_recovers_by_itself() {
    let disk = Recording::mount();
    let journal = journal_on(&disk, 1);
    eventually("segments ahead", || journal.stats().prepared == 2);
    // Room for one more segment, then none.
    disk.set_faults(Faults {
        limit: Some(3 * SEGMENT),
        ..Faults::default()
    });
    let mut number = 0;
    let full = loop {
        number += 1;
        journal.wait_room();
        if let Err(error) = journal.append(&delivery(number, 2000), 5) {
            break error;
        }
    };
    assert_eq!(full.errno(), rustix::io::Errno::NOSPC.raw_os_error());
    assert!(full.to_string().contains("space"), "{full}");
    let held = journal.last();
    assert!(held >= 10, "{held}");
    for flagged in 0..30 {
        journal
            .append(&flag(flagged), 5)
            .expect("a rename has room");
    }
    journal.wait_durable(held + 30).expect("durable");
    assert_eq!(journal.inline_content(1).expect("read").len(), 2000);
    // A mount on a full disk works as well.
    drop(journal);
    let journal = journal_on(&disk, 1);
    assert_eq!(journal.last(), held + 30);
    journal.append(&flag(99), 5).expect("a rename has room");
    // Space returns, and nobody has to do anything.
    disk.set_faults(Faults::default());
    eventually("a spare", || journal.stats().prepared >= 2);
    let seq = journal.append(&delivery(99, 2000), 5).expect("room again");
    journal.wait_durable(seq).expect("durable");
}
