//! The writer against a naive model: a flat map of paths, from which the canonical tree is built anew each time.

use std::collections::BTreeMap;

use super::hash::{ObjectKind, hash_object};
use super::tree::{self, MAX_DEPTH};
use super::{CommitText, HistoryError, InitOptions, Repo, Writer, hash_blob};
use crate::maildir::{
    Attrs, Content, EntryKind, HashKind, MailboxFacts, Oid, Op, TreePath, hidden, mailbox,
};

/// What the model holds at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    File(Oid, Attrs),
    Dir(Option<MailboxFacts>),
}

/// All paths but the root.
#[derive(Clone, Default)]
struct Model {
    items: BTreeMap<TreePath, Item>,
    root_facts: Option<MailboxFacts>,
}

impl Model {
    fn children(&self, dir: &TreePath) -> Vec<(&TreePath, &Item)> {
        self.items
            .iter()
            .filter(|(path, _)| path.parent().as_ref() == Some(dir))
            .collect()
    }

    fn is_dir(&self, path: &TreePath) -> bool {
        path.is_root() || matches!(self.items.get(path), Some(Item::Dir(_)))
    }

    /// Whether the operation fits, and what it makes of the model if it does.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Put {
                path, oid, attrs, ..
            } => {
                let fits =
                    !path.is_root() && self.is_dir(&path.parent().unwrap()) && !self.is_dir(path);
                if fits {
                    self.items
                        .insert(path.clone(), Item::File(*oid, attrs.clone()));
                    self.raise(path, attrs);
                }
                fits
            }
            Op::Mkdir { path } => {
                let fits = !path.is_root()
                    && self.is_dir(&path.parent().unwrap())
                    && !self.items.contains_key(path);
                if fits {
                    self.items.insert(path.clone(), Item::Dir(None));
                }
                fits
            }
            Op::MkFolder { path, facts } => {
                let folder = path.clone();
                let facts = facts.clone();
                self.apply(&Op::Mkdir { path: path.clone() })
                    && self.apply(&Op::SetMailbox { folder, facts })
            }
            Op::Remove { path } => {
                let fits = matches!(self.items.get(path), Some(Item::File(..)));
                if fits {
                    self.items.remove(path);
                }
                fits
            }
            Op::Rmdir { path } => {
                let fits = !path.is_root() && self.is_dir(path) && self.children(path).is_empty();
                if fits {
                    self.items.remove(path);
                }
                fits
            }
            Op::SetAttrs { path, attrs } => match self.items.get_mut(path) {
                Some(Item::File(_, old)) => {
                    *old = attrs.clone();
                    self.raise(path, attrs);
                    true
                }
                _ => false,
            },
            Op::SetMailbox { folder, facts } => {
                if folder.is_root() {
                    self.root_facts = Some(facts.clone());
                    return true;
                }
                match self.items.get_mut(folder) {
                    Some(Item::Dir(old)) => {
                        *old = Some(facts.clone());
                        true
                    }
                    _ => false,
                }
            }
            Op::Rename { from, to } => self.rename(from, to),
        }
    }

    fn rename(&mut self, from: &TreePath, to: &TreePath) -> bool {
        let Some(item) = self.items.get(from).cloned() else {
            return false;
        };
        if from == to {
            return true;
        }
        if to.is_root() || !self.is_dir(&to.parent().unwrap()) {
            return false;
        }
        let moved_dir = matches!(item, Item::Dir(_));
        let fits = match self.items.get(to) {
            None => true,
            Some(Item::File(..)) => !moved_dir,
            Some(Item::Dir(_)) => moved_dir && self.children(to).is_empty(),
        };
        if !fits || (moved_dir && to.is_within(from)) {
            return false;
        }
        let item = match item {
            Item::File(oid, mut attrs) => {
                if from.folder().is_none() || from.folder() != to.folder() {
                    (attrs.uid, attrs.ext) = Default::default();
                }
                Item::File(oid, attrs)
            }
            dir => dir,
        };
        self.items.insert(from.clone(), item);
        let below: Vec<TreePath> = self
            .items
            .keys()
            .filter(|path| path.is_within(from))
            .cloned()
            .collect();
        self.items.remove(to);
        for path in below {
            let item = self.items.remove(&path).unwrap();
            let rest = &path.as_bytes()[from.as_bytes().len()..];
            self.items
                .insert(TreePath::new([to.as_bytes(), rest].concat()), item);
        }
        true
    }

    /// A UID given raises UIDNEXT above it.
    fn raise(&mut self, path: &TreePath, attrs: &Attrs) {
        let facts = match path.folder() {
            Some(folder) if folder.is_root() => self.root_facts.as_mut(),
            Some(folder) => match self.items.get_mut(&folder) {
                Some(Item::Dir(facts)) => facts.as_mut(),
                _ => None,
            },
            None => None,
        };
        if let (Some(facts), Some(uid)) = (facts, attrs.uid) {
            facts.uid_next = facts.uid_next.max(uid + 1);
        }
    }

    /// The id of the canonical tree, by the rule and nothing else.
    fn tree(&self, kind: HashKind, leaf_max: usize, dir: &TreePath) -> Oid {
        let entries = self
            .children(dir)
            .into_iter()
            .map(|(path, item)| {
                let name = path.name();
                match item {
                    Item::File(oid, attrs) => (name, false, hidden::encode(name, attrs), *oid),
                    Item::Dir(_) => (
                        name,
                        true,
                        hidden::encode_plain(name),
                        self.tree(kind, leaf_max, path),
                    ),
                }
            })
            .collect();
        let facts = match self.items.get(dir) {
            Some(Item::Dir(facts)) => facts,
            _ => &self.root_facts,
        };
        let facts = facts
            .as_ref()
            .filter(|_| dir.is_root() || self.is_dir(dir))
            .map(|facts| hash_blob(kind, &mailbox::encode(facts)));
        build(kind, leaf_max, entries, facts, 0)
    }
}

type Named<'a> = (&'a [u8], bool, Vec<u8>, Oid);

fn build(
    kind: HashKind,
    leaf_max: usize,
    entries: Vec<Named<'_>>,
    facts: Option<Oid>,
    depth: usize,
) -> Oid {
    let mut listed: Vec<(bool, Vec<u8>, Oid)> = Vec::new();
    if let Some(oid) = facts {
        listed.push((false, hidden::MAILBOX.to_vec(), oid));
    }
    if entries.len() > leaf_max && depth < MAX_DEPTH {
        for digit in 0..16 {
            let below: Vec<Named<'_>> = entries
                .iter()
                .filter(|(name, ..)| tree::digit(&tree::digits(name), depth) == digit)
                .cloned()
                .collect();
            if !below.is_empty() {
                let name = format!("{digit:x}").into_bytes();
                listed.push((true, name, build(kind, leaf_max, below, None, depth + 1)));
            }
        }
    } else {
        listed.extend(
            entries
                .into_iter()
                .map(|(_, dir, hidden, oid)| (dir, hidden, oid)),
        );
    }
    listed.sort_by(|a, b| tree::order(&a.1, a.0, &b.1, b.0));
    let mut raw = Vec::new();
    for (dir, name, oid) in listed {
        tree::push(&mut raw, dir, &name, oid.as_bytes());
    }
    hash_object(kind, ObjectKind::Tree, &raw)
}

/// xorshift: the seed is printed and reruns the test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// A name out of a small set, so that collisions, replacements and removals happen: mails of few identities with many flags,
    /// hexadecimal digits, names git forbids, any bytes.
    fn name(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => [
                &b".git"[..],
                b"%mailbox",
                b"a",
                b"7",
                b"git~1",
                b"cur",
                b"x\\y",
                b"100%",
            ][self.below(8)]
            .to_vec(),
            1 => {
                let len = 1 + self.below(4);
                (0..len)
                    .map(|_| self.below(256) as u8)
                    .map(|byte| {
                        if byte == b'/' || byte == 0 {
                            b'-'
                        } else {
                            byte
                        }
                    })
                    .filter(|byte| *byte != b'.')
                    .chain([b'!'])
                    .collect()
            }
            2 => [&b"cur"[..], b"new"][self.below(2)].to_vec(),
            3 => format!("1.same:2,{}", &"DFPRST"[self.below(6)..]).into_bytes(),
            _ => {
                let flags = &"FST"[self.below(4)..];
                format!(
                    "17954660{:02}.M{}.vm:2,{flags}",
                    self.below(90),
                    self.below(3)
                )
                .into_bytes()
            }
        }
    }

    fn path(&mut self, model: &Model) -> TreePath {
        if self.below(3) > 0 && !model.items.is_empty() {
            let at = self.below(model.items.len());
            return model.items.keys().nth(at).unwrap().clone();
        }
        let dirs: Vec<&TreePath> = model
            .items
            .iter()
            .filter(|(_, item)| matches!(item, Item::Dir(_)))
            .map(|(path, _)| path)
            .collect();
        let dir = match dirs.len() {
            0 => TreePath::root(),
            len => match self.below(len + 1) {
                at if at < len => dirs[at].clone(),
                _ => TreePath::root(),
            },
        };
        dir.join(&self.name())
    }

    fn attrs(&mut self) -> Attrs {
        Attrs {
            uid: (self.below(2) > 0).then(|| 1 + self.below(99) as u32),
            mtime: self.below(100) as i64,
            size: self.below(100) as u64,
            ext: [(b'W', vec![self.below(256) as u8])].into(),
        }
    }

    fn op(&mut self, model: &Model, kind: HashKind, shrink: bool) -> Op {
        let path = self.path(model);
        match self.below(20) {
            _ if shrink => Op::Remove { path },
            0..8 => {
                let content = vec![self.below(40) as u8; self.below(30)];
                Op::Put {
                    path,
                    oid: hash_blob(kind, &content),
                    content: Content::Inline(content),
                    attrs: self.attrs(),
                }
            }
            8..12 => {
                let to = if self.below(2) > 0 {
                    path.parent().unwrap_or_default().join(&self.name())
                } else {
                    self.path(model)
                };
                Op::Rename { from: path, to }
            }
            12..14 => Op::Remove { path },
            14 => Op::Rmdir { path },
            15 => Op::Mkdir { path },
            16 => Op::MkFolder {
                path,
                facts: MailboxFacts {
                    uid_validity: self.below(9) as u32,
                    ..MailboxFacts::default()
                },
            },
            17 => Op::SetMailbox {
                folder: path,
                facts: MailboxFacts {
                    uid_next: self.below(9) as u32,
                    ..MailboxFacts::default()
                },
            },
            _ => Op::SetAttrs {
                path,
                attrs: self.attrs(),
            },
        }
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("MAILBRAID_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=12).collect(),
    }
}

fn list(repo: &Repo, tree: Oid, dir: &TreePath, into: &mut BTreeMap<TreePath, Item>) {
    let reader = repo.reader();
    for entry in reader.dir(tree).unwrap() {
        let path = dir.join(&entry.name);
        let found = reader.lookup_in(tree, &entry.name).unwrap();
        assert_eq!(found.as_ref(), Some(&entry));
        match entry.kind {
            EntryKind::File(attrs) => {
                into.insert(path, Item::File(entry.oid, attrs));
            }
            EntryKind::Dir => {
                list(repo, entry.oid, &path, into);
                into.insert(path, Item::Dir(reader.mailbox(entry.oid).unwrap()));
            }
        }
    }
}

/// Random operations: each fits or is refused as the model says; after each commit the tree is the canonical one.
#[test]
fn the_tree_is_a_function_of_what_it_holds() {
    for seed in seeds() {
        println!("MAILBRAID_SEED={seed}");
        let kind = if seed % 3 == 0 {
            HashKind::Sha256
        } else {
            HashKind::Sha1
        };
        let leaf_max = 1 + seed as usize % 5;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("r"), &options).unwrap();
        let mut writer = Writer::with_leaf_max(&repo, None, leaf_max).unwrap();
        let mut model = Model::default();
        for round in 0..120 {
            let shrink = random.below(6) == 0;
            for _ in 0..random.below(if shrink { 60 } else { 25 }) {
                let op = random.op(&model, kind, shrink);
                let fits = model.apply(&op);
                match writer.apply(&op, None) {
                    Ok(()) => assert!(fits, "{op:?} was applied"),
                    Err(HistoryError::Damage { .. }) => assert!(!fits, "{op:?} was refused"),
                    Err(error) => panic!("{op:?}: {error}"),
                }
            }
            let text = CommitText {
                node: "a".to_owned(),
                time: round,
                message: b"x".to_vec(),
                extra_parents: Vec::new(),
            };
            let oid = writer.commit(&text).unwrap();
            let expected = model.tree(kind, leaf_max, &TreePath::root());
            assert_eq!(writer.write_tree().unwrap(), expected, "round {round}");
            match random.below(5) {
                0 => {
                    writer.reset_to(Some(oid)).unwrap();
                }
                1 => {
                    writer.flush().unwrap();
                    let mut found = BTreeMap::new();
                    list(&repo, expected, &TreePath::root(), &mut found);
                    assert_eq!(found, model.items);
                }
                2 => {
                    writer.flush().unwrap();
                    drop(writer);
                    writer = Writer::with_leaf_max(&repo, repo.head().unwrap(), leaf_max).unwrap();
                }
                _ => {}
            }
        }
        writer.flush().unwrap();
        let fsck = std::process::Command::new("git")
            .arg("-C")
            .arg(repo.path())
            .args(["fsck", "--strict", "--full"])
            .output()
            .expect("git is missing: run tests/run");
        let said = String::from_utf8_lossy(&fsck.stderr);
        assert!(
            fsck.status.success() && said.lines().all(|line| line.starts_with("Checking")),
            "{said}"
        );
    }
}

/// The same contents put in by two orders, the second by detours, are one tree.
#[test]
fn the_order_of_operations_does_not_show() {
    let kind = HashKind::Sha1;
    let oid = hash_blob(kind, b"x");
    for count in [0, 1, 4, 5, 6, 12, 40] {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("r"), &options).unwrap();
        let mut trees = Vec::new();
        for detour in [false, true] {
            let mut writer = Writer::with_leaf_max(&repo, None, 5).unwrap();
            let mut put = |name: String| {
                let op = Op::Put {
                    path: TreePath::new(name),
                    oid,
                    content: Content::Inline(b"x".to_vec()),
                    attrs: Attrs::default(),
                };
                writer.apply(&op, None).unwrap();
            };
            if detour {
                (0..count).rev().for_each(|i| put(format!("{i}.vm")));
                (0..30).for_each(|i| put(format!("{i}.gone")));
                for i in 0..30 {
                    let path = TreePath::new(format!("{i}.gone"));
                    writer.apply(&Op::Remove { path }, None).unwrap();
                }
            } else {
                (0..count).for_each(|i| put(format!("{i}.vm")));
            }
            trees.push(writer.write_tree().unwrap());
        }
        assert_eq!(trees[0], trees[1], "{count}");
    }
}
