//! Random operations, then random damage, then another opening: never an invented record, never a silent loss.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::journal::record::Frame;
use crate::journal::segment::{HEADER, Segment};
use crate::journal::testing::{any_op, config};

#[derive(Clone, Debug)]
enum Step {
    Append(Box<Op>),
    Sync,
    Release(Index),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any_op().prop_map(|op| Step::Append(Box::new(op))),
        3 => Just(Step::Sync),
        1 => any::<Index>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Debug)]
enum Harm {
    /// One byte of one segment becomes another.
    Byte(Index, Index, u8),
    /// A run of zeros.
    Hole(Index, Index, u16),
    /// The file ends there.
    Truncate(Index, Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<Index>(), any::<Index>(), any::<u8>()).prop_map(|(a, b, c)| Harm::Byte(a, b, c)),
        (any::<Index>(), any::<Index>(), 1..3000_u16).prop_map(|(a, b, c)| Harm::Hole(a, b, c)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Harm::Truncate(a, b)),
    ]
}

/// What a journal should hold.
#[derive(Default)]
struct Model {
    /// All records appended, the first being 1.
    ops: Vec<Op>,
    /// Released up to here.
    history: u64,
}

impl Model {
    fn run(&mut self, bench: &Bench, steps: Vec<Step>) {
        let (mut journal, _) = bench.open(from(1));
        for step in steps {
            match step {
                Step::Append(op) => {
                    let seq = journal.append(&op, -3).expect("appended");
                    self.ops.push(*op);
                    assert_eq!(seq, self.ops.len() as u64);
                }
                Step::Sync => journal.wait_durable(journal.last()).expect("durable"),
                Step::Release(index) => {
                    let upto = index.index(self.ops.len() + 1) as u64;
                    journal.release(upto).expect("released");
                    self.history = self.history.max(upto);
                }
                Step::Reopen => {
                    drop(journal);
                    journal = bench.open(from(self.history + 1)).0;
                    self.holds(&journal, self.ops.len() as u64);
                }
            }
        }
    }

    /// The journal holds all records from the history's end up to `last`.
    fn holds(&self, journal: &Journal, last: u64) {
        let read = journal
            .read(self.history, usize::MAX, usize::MAX)
            .expect("read");
        let seqs: Vec<u64> = read.iter().map(|record| record.seq).collect();
        let expected: Vec<u64> = (self.history + 1..=last).collect();
        assert_eq!(seqs, expected);
        for record in read {
            assert_eq!(record.op, self.ops[record.seq as usize - 1]);
            assert_eq!(record.time, -3);
        }
    }
}

/// The greatest record that a frame or header still readable says is durable, without what the opened journal thinks.
fn proven(bench: &Bench) -> u64 {
    let mut most = 0;
    for number in bench.segments() {
        let Ok(segment) = Segment::open(&bench.path(), number) else {
            continue;
        };
        most = most.max(segment.header.durable);
        let bytes = fs::read(bench.segment(number)).expect("read");
        for offset in (HEADER..bytes.len()).step_by(8) {
            let frame = Frame::decode(&bytes[offset..], segment.place(offset as u64));
            most = most.max(frame.map_or(0, |frame| frame.durable));
        }
    }
    most
}

fn inflict(bench: &Bench, harm: &Harm) {
    let numbers = bench.segments();
    if numbers.is_empty() {
        return;
    }
    let (segment, at) = match harm {
        Harm::Byte(segment, at, _) | Harm::Hole(segment, at, _) | Harm::Truncate(segment, at) => {
            (segment, at)
        }
    };
    let number = *segment.get(&numbers);
    let file = bench.file(number);
    let len = file.metadata().expect("there").len();
    let offset = at.index(len.max(1) as usize) as u64;
    match harm {
        Harm::Byte(_, _, byte) => file.write_all_at(&[*byte], offset).expect("written"),
        Harm::Hole(_, _, long) => {
            let end = (offset + u64::from(*long)).min(len);
            crate::journal::segment::zero(&file, offset, end, 512).expect("zeroed");
        }
        Harm::Truncate(..) => file.set_len(offset).expect("truncated"),
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_mangled_journal_loses_nothing_silently(
        steps in proptest::collection::vec(step(), 1..60),
        harms in proptest::collection::vec(harm(), 1..4),
    ) {
        let bench = Bench::new();
        let mut model = Model::default();
        model.run(&bench, steps);
        for harm in &harms {
            inflict(&bench, harm);
        }
        let proven = proven(&bench);
        match Journal::open(&bench.path(), from(model.history + 1)) {
            Ok((journal, recovery)) => {
                let last = recovery.last;
                prop_assert!(last <= model.ops.len() as u64);
                prop_assert!(last >= proven.min(model.ops.len() as u64) , "{last} left, {proven} proven durable");
                model.holds(&journal, last);
                // What was cut stays cut, and new records follow.
                model.ops.truncate(last as usize);
                for number in 0..20 {
                    let op = delivery(number, 400);
                    let seq = journal.append(&op, -3).expect("appended");
                    model.ops.push(op);
                    prop_assert_eq!(seq, model.ops.len() as u64);
                }
                journal.wait_durable(journal.last()).expect("durable");
                drop(journal);
                let (journal, recovery) = bench.open(from(model.history + 1));
                prop_assert_eq!(recovery.cut, None);
                model.holds(&journal, model.ops.len() as u64);
            }
            Err(JournalError::Damaged { .. } | JournalError::NewerFormat { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_sound_journal_is_never_called_damaged(steps in proptest::collection::vec(step(), 1..80)) {
        let bench = Bench::new();
        let mut model = Model::default();
        model.run(&bench, steps);
        let (journal, recovery) = bench.open(from(model.history + 1));
        prop_assert_eq!(recovery.cut, None);
        model.holds(&journal, model.ops.len() as u64);
    }
}
