//! Operations on a tree of files, and a generator that makes them meet: few names, all path classes.

use proptest::collection::vec;
use proptest::prelude::*;

use mailbraid::maildir::TreePath;

/// One operation. Every ground (the reference, the live tree, a real directory) can do each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// `open(O_CREAT)`, with `O_EXCL` where `exclusive`, and `close`.
    Create { path: TreePath, exclusive: bool },
    /// `pwrite` of `len` bytes of `fill`.
    Write {
        path: TreePath,
        at: u64,
        len: usize,
        fill: u8,
    },
    /// `truncate`.
    Truncate { path: TreePath, size: u64 },
    /// `mkdir`.
    Mkdir { path: TreePath },
    /// `rmdir`.
    Rmdir { path: TreePath },
    /// `unlink`.
    Unlink { path: TreePath },
    /// `rename`, or `renameat2(RENAME_NOREPLACE)`.
    Rename {
        from: TreePath,
        to: TreePath,
        no_replace: bool,
    },
    /// `link`.
    Link { from: TreePath, to: TreePath },
    /// `utimensat` of the mtime.
    SetTime { path: TreePath, mtime: (i64, u32) },
    /// `open`, `fsync`, `close` of a file or a directory.
    Sync { path: TreePath },
    /// Opens a file and keeps it open in this slot; what was open there is closed.
    Hold { slot: usize, path: TreePath },
    /// `pwrite` through the slot.
    WriteHeld {
        slot: usize,
        at: u64,
        len: usize,
        fill: u8,
    },
    /// Content written in place comes to rest. Nothing to see.
    Rest,
    /// The store commits the older half of what it was told. Nothing to see.
    Commit,
    /// The next record finds the disk full.
    FailNext,
    /// Unmount and mount: `tmp` is empty, committed names are files of their own, times are whole seconds.
    Remount,
}

/// Slots for open files.
pub const SLOTS: usize = 2;

/// Directories that every run starts with.
pub const DIRS: [&str; 11] = [
    "in",
    "in/cur",
    "in/new",
    "in/tmp",
    "in/.Box",
    "in/.Box/cur",
    "in/.Box/new",
    "in/.Box/tmp",
    "etc",
    "etc/sub",
    "in/courierimapkeywords",
];

/// Names that collide, of every path class, and some that are no good.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => prop::sample::select(vec![
            &b"1795466045.M1P2.vm"[..],
            b"1795466045.M1P2.vm:2,S",
            b"7.h,U=3:2,T",
        ]),
        8 => prop::sample::select(vec![
            &b"dovecot-uidlist"[..],
            b"dovecot-uidlist.lock",
            b"subscriptions",
            b"subscriptions.lock",
        ]),
        1 => prop::sample::select(vec![&b"cur"[..], b"tmp", b".Box", b"sub", b"courierimapkeywords"]),
        1 => prop::sample::select(vec![&b"\xff\xfe\x01 "[..], &[b'n'; 255], &[b'n'; 256], b"a"]),
    ]
    .prop_map(<[u8]>::to_vec)
}

fn dir() -> impl Strategy<Value = TreePath> {
    prop_oneof![
        20 => prop::sample::select(vec!["in", "in/cur", "in/tmp", "in/.Box/cur", "etc", "in/courierimapkeywords"])
            .prop_map(TreePath::new),
        4 => prop::sample::select(DIRS.to_vec()).prop_map(TreePath::new),
        1 => Just(TreePath::root()),
        1 => prop::sample::select(vec!["nowhere", "in/tmp/d", "etc/a", "etc/sub/tmp"]).prop_map(TreePath::new),
    ]
}

/// A file's path, mostly.
fn path() -> impl Strategy<Value = TreePath> {
    prop_oneof![
        12 => (dir(), name()).prop_map(|(dir, name)| dir.join(&name)),
        1 => prop::sample::select(DIRS.to_vec()).prop_map(TreePath::new),
    ]
}

/// A directory's path, mostly.
fn dir_path() -> impl Strategy<Value = TreePath> {
    prop_oneof![
        3 => prop::sample::select(DIRS.to_vec()).prop_map(TreePath::new),
        3 => prop::sample::select(vec!["in/tmp/d", "etc/a", "etc/sub/tmp", "etc/sub/a", "etc/tmp", "in/cur/d", "etc/a.lock"])
            .prop_map(TreePath::new),
        1 => path(),
    ]
}

fn bytes() -> impl Strategy<Value = (u64, usize)> {
    prop_oneof![
        20 => (0..200u64, 1..300usize),
        2 => (0..70_000u64, 1..70_000usize),
        1 => (0..1_100_000u64, 1..200_000usize),
    ]
}

fn time() -> impl Strategy<Value = (i64, u32)> {
    prop::sample::select(vec![
        (1_000_000_000, 0),
        (1_000_000_000, 5),
        (1_795_466_045, 999_999_999),
        (0, 0),
        (-7, 0),
    ])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (path(), any::<bool>()).prop_map(|(path, exclusive)| Op::Create { path, exclusive }),
        8 => (path(), bytes(), any::<u8>()).prop_map(|(path, (at, len), fill)| Op::Write { path, at, len, fill }),
        2 => (path(), 0..90_000u64).prop_map(|(path, size)| Op::Truncate { path, size }),
        3 => dir_path().prop_map(|path| Op::Mkdir { path }),
        3 => dir_path().prop_map(|path| Op::Rmdir { path }),
        4 => path().prop_map(|path| Op::Unlink { path }),
        12 => (path(), path(), prop::bool::weighted(0.1))
            .prop_map(|(from, to, no_replace)| Op::Rename { from, to, no_replace }),
        4 => (dir_path(), dir_path(), prop::bool::weighted(0.1))
            .prop_map(|(from, to, no_replace)| Op::Rename { from, to, no_replace }),
        7 => (path(), path()).prop_map(|(from, to)| Op::Link { from, to }),
        2 => (path(), time()).prop_map(|(path, mtime)| Op::SetTime { path, mtime }),
        1 => path().prop_map(|path| Op::Sync { path }),
        2 => (0..SLOTS, path()).prop_map(|(slot, path)| Op::Hold { slot, path }),
        2 => (0..SLOTS, bytes(), any::<u8>()).prop_map(|(slot, (at, len), fill)| Op::WriteHeld { slot, at, len, fill }),
    ]
}

/// An operation, and whether its path is to be one of the files that are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aimed {
    op: Op,
    at: Option<u16>,
}

impl Aimed {
    /// The operation, given the files that are there.
    pub fn at<'a>(&self, files: impl Iterator<Item = &'a TreePath>) -> Op {
        let mut op = self.op.clone();
        let files: Vec<_> = files.collect();
        if let Some(at) = self.at
            && !files.is_empty()
            && let Some(path) = op.source()
        {
            path.clone_from(files[usize::from(at) % files.len()]);
        }
        op
    }
}

impl Op {
    /// The path that is to be there for the operation to succeed.
    fn source(&mut self) -> Option<&mut TreePath> {
        match self {
            Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Unlink { path }
            | Self::SetTime { path, .. }
            | Self::Hold { path, .. }
            | Self::Rename { from: path, .. }
            | Self::Link { from: path, .. } => Some(path),
            _ => None,
        }
    }
}

fn aimed(op: impl Strategy<Value = Op>) -> impl Strategy<Value = Aimed> {
    (op, prop::option::weighted(0.6, any::<u16>())).prop_map(|(op, at)| Aimed { op, at })
}

/// Operations that a real directory can be asked for too.
pub fn plain_ops(most: usize) -> impl Strategy<Value = Vec<Aimed>> {
    vec(aimed(op()), 1..most)
}

/// The same, with what the store and the administrator do.
pub fn all_ops(most: usize) -> impl Strategy<Value = Vec<Aimed>> {
    let op = prop_oneof![
        40 => op(),
        1 => Just(Op::Rest),
        2 => Just(Op::Commit),
        1 => Just(Op::FailNext),
        1 => Just(Op::Remount),
    ];
    vec(aimed(op), 1..most)
}
