//! Segments: prepared ahead, recycled, bounded; content read back.

use super::*;

fn tight() -> Options {
    Options {
        max_segments: 4,
        ..small()
    }
}

#[test]
fn a_spare_and_the_reserve_are_kept_ahead() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    eventually("a spare and the reserve", || journal.stats().prepared == 2);
    bench.deliver(&journal, 40, 1000);
    eventually("a spare and the reserve", || journal.stats().prepared == 2);
    let held = journal.stats().held;
    assert!(held >= 4, "{held}");
    assert_eq!(bench.segments().len(), held + 2);
}

#[test]
fn released_segments_are_used_again_and_the_surplus_goes() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 200, 1000);
    let before = bench.segments();
    journal.release(200).expect("released");
    let ahead = small().reserve_segments + 1 + crate::limits::JOURNAL_KEEP_SEGMENTS;
    eventually("one held and some ahead", || {
        journal.stats().held == 1 && journal.stats().prepared == ahead
    });
    let after = bench.segments();
    assert_eq!(after.len(), 1 + ahead);
    assert!(after.first() > before.first() && after.last() > before.last());
    bench.deliver(&journal, 200, 1000);
    let first = journal.read(0, 1, 0).expect("read")[0].seq;
    assert!(first > 180, "{first}");
    bench.expect(&journal, first, 400);
}

#[test]
fn on_a_full_disk_what_is_released_or_ready_is_given_back() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 200, 1000);
    let (first, held) = (bench.segments(), journal.stats().held);
    assert!(held > 8, "{held}");
    // What waits for its commit stays, and the reserve.
    journal.give_back(1);
    assert_eq!((journal.stats().held, journal.stats().prepared), (held, 1));
    bench.expect(&journal, 1, 200);
    // Half of it is committed.
    journal.release(100).expect("released");
    journal.give_back(0);
    assert_eq!(journal.stats().prepared, 0);
    let left = bench.segments();
    assert_eq!(left.len(), journal.stats().held);
    assert!(left.len() <= held / 2 + 1 && left.first() > first.first());
    assert_eq!(
        left.windows(2)
            .filter(|pair| pair[0] + 1 != pair[1])
            .count(),
        0,
        "{left:?}"
    );
    // Content is refused at once where the last segment is full.
    let mut refused = Vec::new();
    for _ in 0..20 {
        let op = delivery(bench.ops.len() as u64 + 1, 1000);
        match journal.append(&op, bench.ops.len() as i64) {
            Ok(_) => bench.ops.push(op),
            Err(error) => refused.push(error),
        }
    }
    assert!(refused.len() > 5, "{}", refused.len());
    assert!(
        refused.iter().all(|why| why.to_string().contains("full")),
        "{}",
        refused[0]
    );
    // There is room again.
    journal.keep();
    eventually("a spare and the reserve", || journal.stats().prepared >= 2);
    bench.deliver(&journal, 40, 1000);
    let last = bench.ops.len() as u64;
    let held = journal.read(0, 1, 0).expect("read")[0].seq;
    assert!(held > 80, "{held}");
    bench.expect(&journal, held, last);
}

#[test]
fn a_segment_with_one_record_not_released_stays() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 40, 1000);
    let last_of_first = bench.offsets(1).len() as u64;
    journal.release(last_of_first - 1).expect("released");
    bench.deliver(&journal, 40, 1000);
    bench.expect(&journal, 1, 80);
    journal.release(last_of_first).expect("released");
    eventually("the first segment to go", || !bench.segment(1).exists());
    bench.expect(&journal, last_of_first + 1, 80);
}

#[test]
fn content_is_read_back_until_it_is_recycled() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 60, 1000);
    let renamed = journal.append(&flag(1), 0).expect("appended");
    for seq in [1, 30, 60] {
        let content = journal.inline_content(seq).expect("held");
        assert_eq!(content.len(), 1000);
        assert!(content.starts_with(format!("mail {seq}\n").as_bytes()));
    }
    for absent in [0, renamed, renamed + 1] {
        assert!(matches!(
            journal.inline_content(absent),
            Err(JournalError::NotFound { .. })
        ));
    }
    journal.release(30).expect("released");
    eventually("the first segment to go", || {
        matches!(
            journal.inline_content(1),
            Err(JournalError::NotFound { seq: 1 })
        )
    });
    assert_eq!(journal.inline_content(31).expect("held").len(), 1000);
}

#[test]
fn reads_stop_at_either_bound_but_never_at_nothing() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.append(&journal, 40, 1000);
    let read = |after, records, bytes| journal.read(after, records, bytes).expect("read").len();
    assert_eq!(read(0, 25, usize::MAX), 25);
    assert_eq!(read(0, usize::MAX, 3500), 3);
    assert_eq!(read(0, usize::MAX, 1), 1);
    assert_eq!(read(38, usize::MAX, usize::MAX), 2);
    assert_eq!(read(40, usize::MAX, usize::MAX), 0);
    assert_eq!(read(99, usize::MAX, usize::MAX), 0);
    assert_eq!(read(u64::MAX, usize::MAX, usize::MAX), 0);
    assert_eq!(read(0, 0, usize::MAX), 0);
}

#[test]
fn content_is_refused_at_the_bound_and_small_records_go_on() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(tight());
    let full = loop {
        let op = delivery(bench.ops.len() as u64 + 1, 1000);
        match journal.append(&op, bench.ops.len() as i64) {
            Ok(_) => bench.ops.push(op),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, JournalError::Full { .. }), "{full}");
    assert_eq!(full.errno(), rustix::io::Errno::NOSPC.raw_os_error());
    assert!(journal.poisoned().is_none());
    for _ in 0..60 {
        let op = flag(bench.ops.len() as u64);
        journal
            .append(&op, bench.ops.len() as i64)
            .expect("a rename has room");
        bench.ops.push(op);
    }
    assert!(journal.append(&delivery(1, 1000), 0).is_err());
    let last = bench.ops.len() as u64;
    journal.wait_durable(last).expect("durable");
    bench.expect(&journal, 1, last);

    // It recovers by itself once the store has committed.
    journal.release(last).expect("released");
    journal.wait_room();
    let op = delivery(last + 1, 1000);
    assert_eq!(journal.append(&op, last as i64).expect("room"), last + 1);
    bench.ops.push(op);
    drop(journal);
    let (journal, recovery) = bench.open(Options {
        first_seq: last + 1,
        ..tight()
    });
    assert_eq!(recovery.last, last + 1);
    // Those before it are released, and may be recycled at any moment.
    bench.expect(&journal, last + 1, last + 1);
}

#[test]
fn a_delivery_waits_for_a_store_that_lags() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(tight());
    std::thread::scope(|scope| {
        let store = scope.spawn(|| {
            let mut done = 0;
            while done < 300 {
                journal.wait_appended(done, Duration::from_secs(5));
                std::thread::sleep(Duration::from_millis(1));
                done += journal.read(done, 4, usize::MAX).expect("read").len() as u64;
                journal.release(done).expect("released");
            }
        });
        for number in 1..=300 {
            journal.wait_room();
            let op = delivery(number, 1000);
            journal
                .append(&op, number as i64 - 1)
                .expect("slowed, not refused");
            bench.ops.push(op);
        }
        store.join().expect("no panic");
    });
}

#[test]
fn a_record_larger_than_a_segment_is_refused() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    let error = journal
        .append(&delivery(1, SMALL as usize), 0)
        .expect_err("too large");
    assert!(matches!(error, JournalError::TooLarge { .. }), "{error}");
    bench.deliver(&journal, 1, SMALL as usize - 4096 - 200);
    bench.expect(&journal, 1, 1);
}

#[test]
fn a_segment_that_cannot_be_made_is_made_when_it_can() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    eventually("a spare and the reserve", || journal.stats().prepared == 2);
    // A directory in the way of the file that is prepared.
    let way = bench.path().join(crate::journal::segment::PREPARING);
    fs::create_dir(&way).expect("created");
    fs::write(way.join("x"), "").expect("written");
    let full = loop {
        let op = delivery(bench.ops.len() as u64 + 1, 1000);
        match journal.append(&op, bench.ops.len() as i64) {
            Ok(_) => bench.ops.push(op),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, JournalError::Full { .. }), "{full}");
    fs::remove_dir_all(&way).expect("removed");
    eventually("a spare", || journal.stats().prepared == 2);
    bench.deliver(&journal, 5, 1000);
    bench.expect(&journal, 1, bench.ops.len() as u64);
}
