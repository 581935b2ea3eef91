//! What a ground is (something operations are done on), what is seen of it, and how two are compared.

use std::collections::BTreeMap;

use mailbraid::maildir::TreePath;

use super::op::Op;

/// A number from `errno.h`.
pub type Errno = i32;

/// What `stat` and `read` show of one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// `None` for a directory.
    pub content: Option<Vec<u8>>,
    pub nlink: u64,
    pub mtime: (i64, u32),
    /// Inode number; only which paths share one is compared.
    pub ino: u64,
}

/// What is seen of all paths, and of the open files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    pub paths: BTreeMap<TreePath, Seen>,
    pub held: Vec<Option<Seen>>,
}

/// Something operations are done on, and what is seen of it.
pub trait Ground {
    fn apply(&mut self, op: &Op) -> Result<(), Errno>;
    fn view(&mut self) -> View;
}

/// What time a file should show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mtime {
    /// This one: it was set.
    Set(i64, u32),
    /// Whatever the clock said; another number means another time.
    Clock(u64),
    /// Nothing is promised, until something changes it.
    Open,
}

/// What the reference says of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    pub content: Option<Vec<u8>>,
    pub nlink: u64,
    pub mtime: Mtime,
    pub id: usize,
}

/// What the reference says of all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Truth {
    pub paths: BTreeMap<TreePath, Expected>,
    pub held: Vec<Option<Expected>>,
}

/// Compares a ground with the reference, step by step: times are compared with those of the step before.
#[derive(Default)]
pub struct Checker {
    /// Id in the reference → inode number, expected mtime and seen mtime of the last step.
    last: BTreeMap<usize, (u64, Mtime, (i64, u32))>,
    /// Inode numbers of files that are gone: none may return.
    gone: std::collections::BTreeSet<u64>,
    /// ext4 uses an inode's number again at once, and on older kernels its clock ticks only every few milliseconds.
    is_ext4: bool,
}

impl Checker {
    /// For a directory on ext4.
    pub fn ext4() -> Self {
        Self {
            is_ext4: true,
            ..Self::default()
        }
    }

    /// What is wrong, if anything is.
    pub fn check(&mut self, truth: &Truth, view: &View) -> Result<(), String> {
        let (there, expected): (Vec<_>, Vec<_>) =
            (view.paths.keys().collect(), truth.paths.keys().collect());
        if there != expected {
            return Err(format!("listed {there:?}, expected {expected:?}"));
        }
        let mut now = BTreeMap::new();
        let held = truth.held.iter().zip(&view.held).enumerate();
        let held = held.filter_map(|(slot, pair)| match pair {
            (Some(expected), Some(seen)) => Some((format!("slot {slot}"), expected, seen)),
            _ => None,
        });
        let paths = truth
            .paths
            .iter()
            .map(|(path, expected)| (path.to_string(), expected, &view.paths[path]));
        for (name, expected, seen) in paths.chain(held) {
            if seen.content != expected.content {
                return Err(format!(
                    "{name}: content {}, expected {}",
                    brief(seen.content.as_deref()),
                    brief(expected.content.as_deref())
                ));
            }
            if seen.nlink != expected.nlink {
                return Err(format!(
                    "{name}: nlink {}, expected {}",
                    seen.nlink, expected.nlink
                ));
            }
            if let Some(old) = now.insert(expected.id, (seen.ino, expected.mtime, seen.mtime))
                && old != (seen.ino, expected.mtime, seen.mtime)
            {
                return Err(format!(
                    "{name}: two names of one file differ: {old:?}, {seen:?}"
                ));
            }
            if self.gone.contains(&seen.ino) {
                return Err(format!("{name}: inode number {} is used again", seen.ino));
            }
            let before = self.last.get(&expected.id);
            if let Some((ino, ..)) = before
                && *ino != seen.ino
            {
                return Err(format!("{name}: inode number {} became {}", ino, seen.ino));
            }
            match (expected.mtime, before) {
                (Mtime::Set(seconds, nanos), _) if seen.mtime != (seconds, nanos) => {
                    return Err(format!(
                        "{name}: mtime {:?}, {:?} was set",
                        seen.mtime,
                        (seconds, nanos)
                    ));
                }
                (Mtime::Clock(_), Some((_, old, at)))
                    if *old == expected.mtime && *at != seen.mtime =>
                {
                    return Err(format!(
                        "{name}: mtime moved from {at:?} to {:?}",
                        seen.mtime
                    ));
                }
                (Mtime::Clock(_), Some((_, old, at)))
                    if *old != expected.mtime && *at == seen.mtime && !self.is_ext4 =>
                {
                    return Err(format!("{name}: mtime stayed at {at:?}"));
                }
                _ => {}
            }
        }
        let mut by_ino = BTreeMap::new();
        for (id, (ino, ..)) in &now {
            if let Some(other) = by_ino.insert(*ino, *id) {
                return Err(format!(
                    "inode number {ino} stands for two files ({id}, {other})"
                ));
            }
        }
        if !self.is_ext4 {
            let left = self.last.iter().filter(|(id, _)| !now.contains_key(id));
            self.gone.extend(left.map(|(_, (ino, ..))| *ino));
        }
        self.last = now;
        Ok(())
    }

    /// Numbers mean nothing after a remount.
    pub fn remounted(&mut self) {
        self.last.clear();
        self.gone.clear();
    }
}

fn brief(content: Option<&[u8]>) -> String {
    match content {
        None => "of a directory".to_owned(),
        Some(bytes) if bytes.len() <= 40 => format!("{bytes:?}"),
        Some(bytes) => {
            let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
            format!("{} bytes {:?}… (sum {sum})", bytes.len(), &bytes[..20])
        }
    }
}
