//! Numbers that a former life of this node has used.

use super::*;

#[test]
fn numbers_go_on_above_those_of_a_former_life() {
    let mut bench = Bench::new();
    let (journal, _) = bench.open(small());
    bench.deliver(&journal, 5, 500);
    journal.release(5).expect("released");
    journal.skip_to(1_000).expect("skipped");
    assert_eq!((journal.last(), journal.durable()), (1_000, 1_000));
    journal.skip_to(7).expect("nothing to skip");
    assert_eq!(journal.last(), 1_000);
    let op = crate::maildir::Op::Mkdir {
        path: crate::maildir::TreePath::new("x"),
    };
    for seq in 1_001..1_004 {
        assert_eq!(journal.append(&op, 0).expect("appended"), seq);
        journal.wait_durable(seq).expect("durable");
    }
    let read = journal.read(1_000, 10, 1 << 20).expect("read");
    let numbers: Vec<u64> = read.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, [1_001, 1_002, 1_003]);
    drop(journal);
    // Whatever the history has by then, they are found.
    for history in [1_000, 1_002] {
        let (journal, recovery) = bench.open(Options {
            first_seq: history + 1,
            ..small()
        });
        assert_eq!(recovery.last, 1_003);
        let read = journal.read(history, 10, 1 << 20).expect("read");
        assert_eq!(read.len() as u64, 1_003 - history);
        drop(journal);
    }
}
