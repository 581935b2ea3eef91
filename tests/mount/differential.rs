//! The real mount and ext4, side by side: the same system calls on both, and both as the reference says.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use mailbraid::maildir::TreePath;

use super::real::Real;
use crate::model::ground::{Checker, Ground as _};
use crate::model::op::{self, Aimed, Op};
use crate::model::reference::Reference;
use crate::model::runner;
use crate::support::mounted::Mounted;

/// A ground with its name and its checker.
struct Side {
    name: &'static str,
    ground: Real,
    checker: Checker,
}

impl Side {
    fn check(
        &mut self,
        op: &Op,
        expected: Result<(), i32>,
        reference: &Reference,
    ) -> Result<(), String> {
        let answer = self.ground.apply(op);
        if answer != expected {
            return Err(format!(
                "{} answers {answer:?}, expected {expected:?}",
                self.name
            ));
        }
        self.checker
            .check(&reference.truth(), &self.ground.view())
            .map_err(|wrong| format!("{}: {wrong}", self.name))
    }
}

fn compare(aimed: &[Aimed], mount: &mut Side, ext4: &mut Side) -> Result<(), String> {
    let mut reference = Reference::new();
    let mut done = String::new();
    let prelude = op::DIRS.map(|dir| Op::Mkdir {
        path: TreePath::new(dir),
    });
    let mut aimed = aimed.iter();
    let mut prelude = prelude.into_iter();
    while let Some(op) = prelude.next().or_else(|| {
        let truth = reference.truth();
        let files = truth
            .paths
            .iter()
            .filter(|(_, seen)| seen.content.is_some());
        Some(aimed.next()?.at(files.map(|(path, _)| path)))
    }) {
        let _ = writeln!(done, "{op:?}");
        let expected = reference.apply(&op);
        mount
            .check(&op, expected, &reference)
            .map_err(|wrong| format!("{wrong}\nafter\n{done}"))?;
        // A directory does not change its path class; ext4 knows no classes.
        if expected != Err(libc::EXDEV) {
            ext4.check(&op, expected, &reference)
                .map_err(|wrong| format!("{wrong}\nafter\n{done}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_mount_answers_as_ext4_does() {
    let mut mounted = Mounted::unmounted_node("a");
    // A server that looks for its uidlist under its lock is shown what the folder is offered: ext4 does not do that.
    mounted.git(&["config", "mailbraid.assignUids", "false"]);
    mounted.mount();
    let case = Cell::new(0);
    runner::run(
        "the_mount_answers_as_ext4_does",
        48,
        op::plain_ops(60),
        |ops| {
            // Each case has a directory of its own on both.
            case.set(case.get() + 1);
            let name = format!("case-{}", case.get());
            let side = |side, root: &Path, checker| {
                let root = root.join(&name);
                fs::create_dir(&root).expect("mkdir");
                let ground = Real::new(&root);
                Side {
                    name: side,
                    ground,
                    checker,
                }
            };
            let mut mount = side("the mount", mounted.path(), Checker::default());
            let mut ext4 = side("ext4", mounted.beside(), Checker::ext4());
            compare(&ops, &mut mount, &mut ext4)
        },
    );
    mounted.flush();
    mounted.fsck();
}
