//! One test for each case of the table in the module's header.

use super::*;
use crate::journal::record::{self, FRAME, Frame, Place};
use crate::journal::segment::{self, HEADER, Header, Segment};

const START: u64 = HEADER as u64;

/// Size of the record that [`delivery`] makes.
fn size_of(op: &Op) -> u64 {
    record::size(crate::journal::codec::encode(op).len()) as u64
}

/// A journal with `count` durable deliveries of 500 bytes in its first segment, closed.
fn with(count: usize) -> Bench {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, count, 500);
    bench
}

/// Overwrites a segment with zeros from an offset on.
fn zero_from(bench: &Bench, number: u64, offset: u64) {
    segment::zero(&bench.file(number), offset, SMALL, 4096).expect("zeroed");
}

/// Writes a record in the way the journal does, with everything told.
fn forge(bench: &Bench, number: u64, offset: u64, seq: u64, durable: u64, body: &[u8]) {
    let segment = Segment::open(&bench.path(), number).expect("opened");
    let frame = Frame {
        len: body.len() as u32,
        seq,
        prev: seq - 1,
        durable,
        released: 0,
        time: seq as i64 - 1,
        body_crc: crc32fast::hash(body),
    };
    let mut bytes = frame.encode(segment.place(offset)).to_vec();
    bytes.extend_from_slice(body);
    segment.file.write_all_at(&bytes, offset).expect("written");
}

fn damage(error: JournalError) -> (PathBuf, u64, String) {
    match error {
        JournalError::Damaged {
            file, offset, why, ..
        } => (file, offset, why),
        other => panic!("not damage: {other}"),
    }
}

#[test]
fn j1_an_absent_or_empty_directory_is_a_new_journal() {
    let mut bench = Bench::new();
    let (journal, recovery) = bench.open(small());
    assert_eq!(
        recovery,
        Recovery {
            records: 0,
            first: None,
            last: 0,
            released: None,
            cut: None
        }
    );
    bench.deliver(&journal, 2, 10);
    bench.expect(&journal, 1, 2);

    let empty = Bench::new();
    fs::create_dir(empty.path()).expect("created");
    let (journal, recovery) = empty.open(from(9));
    assert_eq!((recovery.records, recovery.last), (0, 8));
    assert_eq!(journal.append(&flag(1), 0).expect("appended"), 9);
}

#[test]
fn j2_zeros_behind_the_last_record_need_no_cut() {
    let mut bench = with(5);
    let (journal, recovery) = bench.open(small());
    assert_eq!((recovery.records, recovery.first), (5, Some(1)));
    assert_eq!((recovery.last, recovery.cut), (5, None));
    bench.expect(&journal, 1, 5);
    bench.deliver(&journal, 1, 500);
    drop(journal);
    let (journal, recovery) = bench.open(small());
    assert_eq!(recovery.cut, None);
    bench.expect(&journal, 1, 6);
}

#[test]
fn j3_a_torn_record_is_cut_wherever_it_is_torn() {
    let whole = with(4);
    let last = whole.offsets(1)[3];
    let size = size_of(&whole.ops[3]);
    for kept in (1..size).step_by(7).chain([FRAME as u64, FRAME as u64 + 1]) {
        let mut bench = Bench::new();
        bench.ops = whole.ops.clone();
        copy(&whole.path(), &bench.path());
        zero_from(&bench, 1, last + kept);
        let (journal, recovery) = bench.open(small());
        // The padding, and the last zero bytes of the body, may be all that is missing.
        if recovery.records == 4 {
            assert!(kept + 8 > size, "kept {kept} of {size}");
            continue;
        }
        bench.expect(&journal, 1, 3);
        let cut = recovery.cut.expect("reported");
        assert_eq!((cut.file, cut.offset), (bench.segment(1), last));
        let behind = fs::read(bench.segment(1)).expect("read");
        assert!(behind[last as usize..].iter().all(|&byte| byte == 0));
        drop(journal);
        assert_eq!(bench.open(small()).1.cut, None, "cut once");
    }
    // Torn the other way: its end is there, its beginning is not.
    zero_to(&whole, last, last + 512);
    let (journal, recovery) = whole.open(small());
    whole.expect(&journal, 1, 3);
    assert_eq!(recovery.cut.expect("reported").offset, last);
}

fn zero_to(bench: &Bench, from: u64, to: u64) {
    segment::zero(&bench.file(1), from, to, 512).expect("zeroed");
}

#[test]
fn j4_a_last_record_with_a_wrong_checksum_is_cut() {
    for inside in [0, 4, 10, FRAME as u64 + 20] {
        let bench = with(4);
        let last = bench.offsets(1)[3];
        bench.flip(1, last + inside);
        let (journal, recovery) = bench.open(small());
        bench.expect(&journal, 1, 3);
        assert_eq!(recovery.cut.expect("reported").offset, last);
        assert_eq!(journal.append(&flag(1), 0).expect("appended"), 4);
    }
}

#[test]
fn j5_a_bad_record_that_was_durable_is_damage_and_nothing_is_changed() {
    for inside in [0, 5, 9, FRAME as u64 + 3] {
        let bench = with(6);
        let bad = bench.offsets(1)[2];
        bench.flip(1, bad + inside);
        let before = fs::read(bench.segment(1)).expect("read");
        let error = bench.refused(small());
        assert!(error.to_string().contains("truncate -s"), "{error}");
        let (file, offset, why) = damage(error);
        assert_eq!((file, offset), (bench.segment(1), bad));
        assert!(why.starts_with("record 3 is unreadable"), "{why}");
        assert_eq!(fs::read(bench.segment(1)).expect("read"), before);
    }
}

#[test]
fn j5_the_proof_may_stand_in_a_later_segment() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 30, 1000);
    drop(journal);
    assert!(bench.segments().len() > 3);
    let bad = *bench.offsets(1).last().expect("records");
    bench.flip(1, bad + FRAME as u64);
    let (file, offset, _) = damage(bench.refused(small()));
    assert_eq!((file, offset), (bench.segment(1), bad));
}

#[test]
fn j5_the_proof_may_stand_in_a_header() {
    let bench = with(1);
    let (journal, _) = bench.open(small());
    eventually("segments ahead", || journal.stats().prepared == 2);
    drop(journal);
    // The header of the last segment made says that record 1 is durable.
    let last = *bench.segments().last().expect("segments");
    let mut header = Segment::open(&bench.path(), last).expect("opened").header;
    header.durable = 1;
    bench
        .file(last)
        .write_all_at(&header.encode(), 0)
        .expect("written");
    bench.open(small());
    bench.flip(1, bench.offsets(1)[0]);
    let (file, offset, why) = damage(bench.refused(small()));
    assert_eq!((file, offset), (bench.segment(1), START));
    assert!(why.contains(&segment::name(last)), "{why}");
    bench.open(from(2));
}

#[test]
fn j5_the_remedy_in_the_message_works() {
    let bench = with(6);
    let bad = bench.offsets(1)[2];
    bench.flip(1, bad);
    let (file, offset, _) = damage(bench.refused(small()));
    let cut = OpenOptions::new().write(true).open(&file).expect("opened");
    cut.set_len(offset).expect("truncated");
    for number in bench.segments().into_iter().skip(1) {
        fs::remove_file(bench.segment(number)).expect("removed");
    }
    let (journal, _) = bench.open(small());
    bench.expect(&journal, 1, 2);
    assert_eq!(journal.append(&flag(1), 0).expect("appended"), 3);
}

#[test]
fn j6_records_of_an_earlier_life_are_not_ours() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 60, 1000);
    journal.release(60).expect("released");
    eventually("the first segments to be recycled", || {
        journal.stats().held == 1 && journal.stats().prepared == 5
    });
    // Through the two fresh segments that were ahead, into the recycled ones.
    bench.deliver(&journal, 40, 1000);
    drop(journal);
    let active = *bench
        .segments()
        .iter()
        .rfind(|&&number| !bench.offsets(number).is_empty())
        .expect("records");
    let header = Segment::open(&bench.path(), active).expect("opened").header;
    assert!(header.recycled, "{header:?}");
    let ours = bench.offsets(active);
    let end = ours.last().expect("records") + size_of(&bench.ops[99]);
    let behind = || {
        fs::read(bench.segment(active))
            .expect("read")
            .split_off(end as usize)
    };
    assert!(
        behind().iter().any(|&byte| byte != 0),
        "nothing old stands behind"
    );
    let (journal, recovery) = bench.open(from(61));
    assert_eq!((recovery.last, recovery.cut), (100, None));
    bench.expect(&journal, 61, 100);
    assert!(behind().iter().all(|&byte| byte == 0));
}

#[test]
fn j6_a_copy_of_a_record_in_another_place_is_not_ours() {
    let bench = with(3);
    let offsets = bench.offsets(1);
    let bytes = fs::read(bench.segment(1)).expect("read");
    let first = &bytes[offsets[0] as usize..offsets[1] as usize];
    let end = offsets[2] + size_of(&bench.ops[2]);
    bench.file(1).write_all_at(first, end).expect("written");
    let (journal, recovery) = bench.open(small());
    bench.expect(&journal, 1, 3);
    assert_eq!(recovery.cut.expect("it is no zeros").offset, end);
}

#[test]
fn j7_a_half_prepared_segment_is_removed() {
    for content in [&b""[..], &b"half"[..], &[0; 9000][..]] {
        let bench = with(2);
        let half = bench.path().join(segment::PREPARING);
        fs::write(&half, content).expect("written");
        let (journal, recovery) = bench.open(small());
        assert!(!half.exists());
        assert_eq!(recovery.cut, None);
        bench.expect(&journal, 1, 2);
    }
}

#[test]
fn j8_a_gap_in_the_sequence_is_damage() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 30, 1000);
    drop(journal);
    fs::remove_file(bench.segment(2)).expect("removed");
    let (file, _, why) = damage(bench.refused(small()));
    assert_eq!(file, bench.segment(2));
    assert!(why.contains("missing"), "{why}");
}

#[test]
fn j9_a_later_format_is_refused() {
    let bench = with(2);
    // A body of a later version.
    let end = bench.offsets(1)[1] + size_of(&bench.ops[1]);
    forge(&bench, 1, end, 3, 2, &[2, 1, 2, 3]);
    let error = bench.refused(small());
    assert!(
        matches!(error, JournalError::NewerFormat { version: 2, .. }),
        "{error}"
    );
    // A segment of a later format.
    let bench = with(2);
    let mut page = Segment::open(&bench.path(), 1)
        .expect("opened")
        .header
        .encode();
    page[8] = 7;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&page[..12]);
    crc.update(&page[16..]);
    page[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    bench.file(1).write_all_at(&page, 0).expect("written");
    let error = bench.refused(small());
    assert!(
        matches!(error, JournalError::NewerFormat { version: 7, .. }),
        "{error}"
    );
}

#[test]
fn j10_a_hole_among_records_that_were_never_durable_is_cut_with_all_behind_it() {
    let mut bench = with(3);
    let (journal, _) = bench.open(small());
    bench.append(&journal, 4, 500);
    drop(journal);
    let hole = bench.offsets(1)[4];
    bench.flip(1, hole + 2);
    let (journal, recovery) = bench.open(small());
    bench.expect(&journal, 1, 4);
    let cut = recovery.cut.expect("reported");
    assert_eq!(cut.offset, hole);
    assert!(cut.why.contains("record 5 is missing"), "{}", cut.why);
    // Records 6 and 7 must not come back behind a new 5 of the same size.
    bench.ops.truncate(4);
    bench.deliver(&journal, 1, 500);
    drop(journal);
    let (journal, _) = bench.open(small());
    bench.expect(&journal, 1, 5);
}

#[test]
fn j11_records_missing_between_history_and_journal_are_damage() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 30, 1000);
    drop(journal);
    fs::remove_file(bench.segment(1)).expect("removed");
    let first = Segment::open(&bench.path(), 2).expect("opened");
    let frame = Frame::decode(&first.read(START, FRAME).expect("read"), first.place(START))
        .expect("a record");
    let (_, offset, why) = damage(bench.refused(small()));
    assert_eq!(offset, START);
    assert!(why.contains("the history ends with 0"), "{why}");
    damage(bench.refused(from(frame.seq - 1)));
    let (journal, _) = bench.open(from(frame.seq));
    bench.expect(&journal, frame.seq, 30);
}

#[test]
fn j12_what_the_history_has_may_be_bad() {
    let bench = with(6);
    bench.flip(1, bench.offsets(1)[1]);
    // The history ends before the bad record: it is lost.
    damage(bench.refused(from(2)));
    let (journal, recovery) = bench.open(from(3));
    assert_eq!((recovery.first, recovery.last), (Some(3), 6));
    bench.expect(&journal, 3, 6);
}

#[test]
fn regression_j12_no_gap_is_left_below_the_segments_passed_over() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 40, 1000);
    drop(journal);
    bench.flip(2, bench.offsets(2)[1]);
    let third = bench.offsets(1).len() as u64 + bench.offsets(2).len() as u64 + 1;
    let (journal, _) = bench.open(from(third));
    bench.expect(&journal, third, 40);
    bench.deliver(&journal, 40, 1000);
    journal.release(70).expect("released");
    eventually("the third segment to go", || !bench.segment(3).exists());
    drop(journal);
    let (journal, _) = bench.open(from(71));
    bench.expect(&journal, 71, 80);
}

#[test]
fn j13_an_unreadable_or_foreign_header_is_damage() {
    let bench = with(2);
    bench.flip(1, 20);
    let (file, offset, _) = damage(bench.refused(small()));
    assert_eq!((file, offset), (bench.segment(1), 0));

    let bench = with(2);
    fs::copy(bench.segment(1), bench.segment(2)).expect("copied");
    let (file, _, why) = damage(bench.refused(small()));
    assert_eq!(file, bench.segment(2));
    assert!(why.contains(&segment::name(1)), "{why}");
}

#[test]
fn j14_numbers_go_on_above_the_history() {
    let mut bench = with(3);
    let (journal, recovery) = bench.open(from(10));
    assert_eq!(
        (recovery.first, recovery.last, recovery.records),
        (Some(1), 9, 3)
    );
    assert_eq!(journal.append(&flag(1), 7).expect("appended"), 10);
    assert_eq!(journal.append(&flag(2), 8).expect("appended"), 11);
    journal.wait_durable(11).expect("durable");
    drop(journal);
    let (journal, recovery) = bench.open(from(10));
    assert_eq!((recovery.last, recovery.cut), (11, None));
    let read = journal.read(9, 10, 10_000).expect("read");
    assert_eq!(
        read.iter().map(|record| record.seq).collect::<Vec<_>>(),
        [10, 11]
    );
    // The last of them torn: the numbers that were skipped prove no loss.
    drop(journal);
    let jumped = *bench
        .segments()
        .iter()
        .find(|&&number| number > 1 && !bench.offsets(number).is_empty())
        .expect("a second segment");
    bench.flip(jumped, bench.offsets(jumped)[0]);
    let (journal, recovery) = bench.open(from(4));
    assert_eq!(recovery.last, 3);
    bench.ops.truncate(3);
    bench.deliver(&journal, 1, 10);
}

#[test]
fn j15_records_in_a_segment_behind_a_torn_tail_are_removed() {
    let mut bench = with(3);
    let (journal, _) = bench.open(small());
    bench.append(&journal, 24, 1000);
    drop(journal);
    let hole = bench.offsets(1)[4];
    bench.flip(1, hole + 2);
    assert!(!bench.offsets(2).is_empty() && !bench.offsets(3).is_empty());
    let (journal, recovery) = bench.open(small());
    bench.expect(&journal, 1, 4);
    assert_eq!(recovery.cut.expect("reported").offset, hole);
    // New records of the same sizes: none of the old ones may follow them.
    bench.ops.truncate(4);
    bench.deliver(&journal, 7, 1000);
    drop(journal);
    let (journal, _) = bench.open(small());
    bench.expect(&journal, 1, 11);
}

#[test]
fn j16_a_short_segment_is_read_as_if_zeros_followed() {
    let bench = with(4);
    let offsets = bench.offsets(1);
    bench.file(1).set_len(offsets[3] + 9).expect("truncated");
    let (journal, recovery) = bench.open(small());
    bench.expect(&journal, 1, 3);
    assert_eq!(recovery.cut.expect("reported").offset, offsets[3]);
    assert_eq!(fs::metadata(bench.segment(1)).expect("there").len(), SMALL);

    // A prepared one is made anew.
    drop(journal);
    bench.file(2).set_len(START + 1).expect("truncated");
    let (journal, _) = bench.open(small());
    bench.expect(&journal, 1, 3);
    eventually("two whole segments ahead", || journal.stats().prepared == 2);
    assert_eq!(fs::metadata(bench.segment(2)).expect("there").len(), SMALL);
}

#[test]
fn a_segment_that_is_no_segment_of_ours_is_left_alone() {
    let bench = with(1);
    let foreign = bench.path().join("notes.txt");
    fs::write(&foreign, "hello").expect("written");
    let (journal, _) = bench.open(small());
    bench.expect(&journal, 1, 1);
    assert_eq!(fs::read(&foreign).expect("read"), b"hello");
}

#[test]
fn a_journal_made_with_segments_of_another_size_goes_on() {
    let mut bench = with(12);
    let larger = Options {
        segment_bytes: 4 * SMALL,
        ..Options::default()
    };
    let (journal, _) = bench.open(larger.clone());
    bench.deliver(&journal, 60, 1000);
    journal.release(60).expect("released");
    eventually("the small ones to go", || {
        bench.segments().iter().all(|&number| {
            fs::metadata(bench.segment(number)).map_or(true, |meta| meta.len() == 4 * SMALL)
        })
    });
    drop(journal);
    let (journal, recovery) = bench.open(Options {
        first_seq: 61,
        ..larger
    });
    let first = recovery.first.expect("records").max(61);
    bench.expect(&journal, first, 72);
}

#[test]
fn a_place_is_part_of_the_header_too() {
    // A header never says a size below itself, and survives a round trip.
    let header = Header {
        number: 1,
        bytes: START,
        salt: 0,
        durable: 0,
        released: 0,
        recycled: true,
    };
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    let place = Place { salt: 0, offset: 0 };
    assert_eq!(Frame::decode(&header.encode(), place), None);
}
