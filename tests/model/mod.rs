//! The live tree against a reference model, operation by operation, over a store in memory.

pub mod ground;
mod live;
mod memory;
pub mod op;
pub mod reference;
pub mod runner;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mailbraid::maildir::TreePath;
use mailbraid::maildir::class::{PathClass, classify};
use mailbraid::store::Backing as _;

use ground::{Checker, Ground as _, View};
use live::Live;
use memory::Item;
use op::{Aimed, Op};
use reference::{Reference, dir_class};

/// Runs the operations on both and compares after each. An error tells what was done.
fn compare(aimed: &[Aimed]) -> Result<(), String> {
    let mut run = Run::default();
    for dir in op::DIRS {
        run.step(&Op::Mkdir {
            path: TreePath::new(dir),
        })?;
    }
    let mut done = String::new();
    let mut all = || {
        for aimed in aimed {
            let truth = run.reference.truth();
            let files = truth
                .paths
                .iter()
                .filter(|(_, seen)| seen.content.is_some());
            let op = aimed.at(files.map(|(path, _)| path));
            let _ = writeln!(done, "{op:?}");
            run.step(&op)?;
        }
        run.finish()
    };
    // A panic is a failure like others, but what was done is to be told.
    let outcome = catch_unwind(AssertUnwindSafe(&mut all));
    outcome
        .unwrap_or_else(|_| Err("panicked".to_owned()))
        .map_err(|wrong| format!("{wrong}\nafter\n{done}"))
}

/// Both, side by side.
struct Run {
    live: Live,
    reference: Reference,
    checker: Checker,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            live: Live::new(),
            reference: Reference::new(),
            checker: Checker::default(),
        }
    }
}

impl Run {
    fn step(&mut self, op: &Op) -> Result<(), String> {
        let answer = self.live.apply(op);
        if *op != Op::FailNext && self.live.store.take_failed() {
            // The disk was full. Nothing may have changed; content that waits for the journal goes on waiting.
            if !matches!(op, Op::Rest) && answer != Err(libc::ENOSPC) {
                return Err(format!("a refused record, and the answer is {answer:?}"));
            }
        } else {
            let expected = self.reference.apply(op);
            if answer != expected {
                return Err(format!("answers {answer:?}, expected {expected:?}"));
            }
        }
        if *op == Op::Remount {
            self.checker.remounted();
        }
        let seen = self.live.view();
        self.checker.check(&self.reference.truth(), &seen)
    }

    /// The records make what is seen.
    fn finish(&mut self) -> Result<(), String> {
        self.live.store.take_failed();
        self.step(&Op::Rest)?;
        let seen = self.live.view();
        let store = &self.live.store;
        same_as_recorded(&seen, &store.tree(), |content| store.hash(content))
    }
}

/// The records alone make exactly the committed part of what is seen.
fn same_as_recorded(
    view: &View,
    recorded: &BTreeMap<TreePath, Item>,
    hash: impl Fn(&[u8]) -> mailbraid::maildir::Oid,
) -> Result<(), String> {
    let mut committed = BTreeMap::new();
    for (path, seen) in &view.paths {
        let class = if seen.content.is_some() {
            classify(path)
        } else {
            dir_class(path)
        };
        if class == PathClass::Committed && !path.is_root() {
            let item = seen
                .content
                .as_ref()
                .map(|content| (hash(content), content.len() as u64, seen.mtime.0));
            committed.insert(path.clone(), item);
        }
    }
    let recorded: BTreeMap<_, _> = recorded
        .iter()
        .map(|(path, item)| match item {
            Item::Dir => (path.clone(), None),
            Item::File(oid, attrs) => (path.clone(), Some((*oid, attrs.size, attrs.mtime))),
        })
        .collect();
    if committed != recorded {
        return Err(format!(
            "the records make {recorded:?}, seen is {committed:?}"
        ));
    }
    Ok(())
}

#[test]
fn the_live_tree_answers_as_the_reference_does() {
    runner::run(
        "the_live_tree_answers_as_the_reference_does",
        256,
        op::all_ops(80),
        |ops| compare(&ops),
    );
}

/// Large content stands in a file until its record is committed. It was written again, and recorded again, before the first record was
/// committed: reading it then asked the repository for a blob that only the second record's commit would bring.
#[test]
fn regression_large_content_recorded_twice_before_the_first_commit() {
    let path = TreePath::new("in/cur/1.a.b:2,S");
    let write = |fill| Op::Write {
        path: path.clone(),
        at: 0,
        len: 70_000,
        fill,
    };
    let create = Op::Create {
        path: path.clone(),
        exclusive: false,
    };
    let mut run = Run::default();
    for dir in op::DIRS {
        run.step(&Op::Mkdir {
            path: TreePath::new(dir),
        })
        .expect("mkdir");
    }
    for op in [
        create,
        write(1),
        Op::Rest,
        write(2),
        Op::Rest,
        Op::Commit,
        write(3),
    ] {
        run.step(&op)
            .unwrap_or_else(|wrong| panic!("{op:?}: {wrong}"));
    }
}

/// What was acknowledged must find room when it is committed: a writer that came later took it, and a store that was killed then could not be mounted.
#[test]
fn the_room_for_what_waits_for_its_commit_is_nobody_elses() {
    let mut live = Live::new();
    for dir in op::DIRS {
        live.apply(&Op::Mkdir {
            path: TreePath::new(dir),
        })
        .expect("mkdir");
    }
    let scratch = TreePath::new("in/tmp/1.a.b");
    let write = |at| Op::Write {
        path: scratch.clone(),
        at,
        len: 1000,
        fill: 7,
    };
    let deliver = Op::Rename {
        from: scratch.clone(),
        to: TreePath::new("in/new/1.a.b"),
        no_replace: false,
    };
    live.apply(&Op::Create {
        path: scratch.clone(),
        exclusive: true,
    })
    .expect("create");
    live.apply(&write(0)).expect("write");
    let stat = rustix::fs::statvfs(live.store.spill_dir()).expect("statvfs");
    live.store.set_backlog(stat.f_blocks * stat.f_frsize);
    // Neither more bytes, nor the delivery of those that are there already; moving goes on.
    assert_eq!(live.apply(&write(1000)), Err(libc::ENOSPC));
    assert_eq!(live.apply(&deliver), Err(libc::ENOSPC));
    live.store.set_backlog(0);
    live.apply(&deliver).expect("delivered");
    live.store.set_backlog(stat.f_blocks * stat.f_frsize);
    live.apply(&Op::Rename {
        from: TreePath::new("in/new/1.a.b"),
        to: TreePath::new("in/cur/1.a.b:2,S"),
        no_replace: false,
    })
    .expect("what is there can be moved");
}
