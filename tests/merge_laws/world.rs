//! A repository in memory: trees as tries of small nodes, commits as a graph. Operations that do not fit the tree they meet panic, so the order of a merge's
//! operations is tested wherever a tree is built.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use mailbraid::maildir::{Attrs, Content, MailboxFacts, Oid, Op, TreePath, hidden, mailbox, name};
use mailbraid::merge::{Node, RawEntry, Trees, World};

/// More names than this below a node split it.
const LEAF_MAX: usize = 5;

/// A directory by value.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Dir {
    pub facts: Option<MailboxFacts>,
    pub files: BTreeMap<Vec<u8>, (Oid, Attrs)>,
    pub dirs: BTreeMap<Vec<u8>, Rc<Dir>>,
    /// Its tree, while nothing has changed.
    tree: Option<Oid>,
}

impl Dir {
    /// The directory at a path.
    pub fn at(&self, path: &TreePath) -> Option<&Dir> {
        let mut dir = self;
        for part in path.components() {
            dir = dir.dirs.get(part)?;
        }
        Some(dir)
    }

    /// The greatest UIDNEXT of folders with this UIDVALIDITY here and below.
    fn uid_next(&self, validity: u32) -> Option<u32> {
        let own = self
            .facts
            .as_ref()
            .filter(|facts| facts.uid_validity == validity);
        let below = self.dirs.values().filter_map(|dir| dir.uid_next(validity));
        below.chain(own.map(|facts| facts.uid_next)).max()
    }

    fn at_mut(&mut self, path: &TreePath) -> &mut Dir {
        let mut dir = self;
        dir.tree = None;
        for part in path.components() {
            let child = dir.dirs.get_mut(part);
            dir = Rc::make_mut(child.unwrap_or_else(|| panic!("{path}: no such directory")));
            dir.tree = None;
        }
        dir
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.dirs.is_empty()
    }

    fn has(&self, name: &[u8]) -> bool {
        self.files.contains_key(name) || self.dirs.contains_key(name)
    }

    /// Applies an operation as the history's writer does; panics where it does not fit.
    pub fn apply(&mut self, op: &Op) {
        let split = |path: &TreePath| (path.parent().expect("not the root"), path.name().to_vec());
        match op {
            Op::Put {
                path, oid, attrs, ..
            } => {
                let (parent, name) = split(path);
                let dir = self.at_mut(&parent);
                assert!(
                    !dir.dirs.contains_key(&name),
                    "{path}: a directory is in the way"
                );
                dir.files.insert(name, (*oid, attrs.clone()));
            }
            Op::Mkdir { path } => {
                let (parent, name) = split(path);
                let dir = self.at_mut(&parent);
                assert!(!dir.has(&name), "{path}: it exists already");
                dir.dirs.insert(name, Rc::default());
            }
            Op::MkFolder { path, facts } => {
                self.apply(&Op::Mkdir { path: path.clone() });
                self.at_mut(path).facts = Some(facts.clone());
            }
            Op::Remove { path } => {
                let (parent, name) = split(path);
                let gone = self.at_mut(&parent).files.remove(&name);
                assert!(gone.is_some(), "{path}: nothing to remove");
            }
            Op::Rmdir { path } => {
                let (parent, name) = split(path);
                let gone = self.at_mut(&parent).dirs.remove(&name);
                let gone = gone.unwrap_or_else(|| panic!("{path}: no such directory"));
                assert!(gone.is_empty(), "{path}: not empty: {gone:?}");
            }
            Op::SetAttrs { path, attrs } => {
                let (parent, name) = split(path);
                let file = self.at_mut(&parent).files.get_mut(&name);
                file.unwrap_or_else(|| panic!("{path}: no such file")).1 = attrs.clone();
            }
            Op::SetMailbox { folder, facts } => {
                self.at_mut(folder).facts = Some(facts.clone());
            }
            Op::Rename { from, to } => {
                let ((from_dir, from_name), (to_dir, to_name)) = (split(from), split(to));
                if let Some(file) = self.at_mut(&from_dir).files.remove(&from_name) {
                    let dir = self.at_mut(&to_dir);
                    assert!(!dir.has(&to_name), "{to}: it exists already");
                    dir.files.insert(to_name, file);
                } else {
                    let moved = self.at_mut(&from_dir).dirs.remove(&from_name);
                    let moved = moved.unwrap_or_else(|| panic!("{from}: nothing to rename"));
                    let dir = self.at_mut(&to_dir);
                    assert!(!dir.has(&to_name), "{to}: it exists already");
                    dir.dirs.insert(to_name, moved);
                }
            }
        }
    }
}

/// A commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    pub time: i64,
    /// Its number; its ancestors, itself too, as a set of numbers.
    ancestors: Vec<u64>,
}

/// A repository in memory.
#[derive(Default)]
pub struct Memory {
    nodes: HashMap<Oid, Arc<Node>>,
    blobs: HashMap<Oid, Vec<u8>>,
    dirs: HashMap<Oid, Rc<Dir>>,
    commits: HashMap<Oid, Commit>,
    /// Commits by number.
    order: Vec<Oid>,
    /// Numbers of commits that are operations, not braids.
    operations: Vec<u64>,
}

/// A hash of bytes as an object id: quick, and good enough for a few thousand objects.
pub fn digest(kind: u8, bytes: &[u8]) -> Oid {
    let mut lanes = [
        0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(kind),
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
    ];
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 59);
        for (at, lane) in lanes.iter_mut().enumerate() {
            *lane = (*lane ^ word.rotate_left(at as u32 * 21)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            *lane ^= *lane >> 29;
        }
    }
    let mut raw = [0; 20];
    for (at, lane) in lanes.iter().enumerate() {
        let mixed = (lane ^ (lane >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        let bytes = (mixed ^ (mixed >> 29)).to_le_bytes();
        let end = (at * 8 + 8).min(20);
        raw[at * 8..end].copy_from_slice(&bytes[..end - at * 8]);
    }
    Oid::from_bytes(&raw).expect("twenty bytes")
}

impl Memory {
    /// The tree of a directory.
    pub fn write(&mut self, dir: &mut Rc<Dir>) -> Oid {
        if let Some(tree) = dir.tree {
            return tree;
        }
        let own = Rc::make_mut(dir);
        let mut entries = Vec::with_capacity(own.files.len() + own.dirs.len());
        for (visible, child) in &mut own.dirs {
            let oid = self.write(child);
            let name = hidden::encode_plain(visible);
            entries.push((
                digest(0, &name::identity(visible)),
                RawEntry {
                    name,
                    dir: true,
                    oid,
                },
            ));
        }
        for (visible, (oid, attrs)) in &own.files {
            let name = hidden::encode(visible, attrs);
            let oid = *oid;
            entries.push((
                digest(0, &name::identity(visible)),
                RawEntry {
                    name,
                    dir: false,
                    oid,
                },
            ));
        }
        let mailbox = own.facts.as_ref().map(mailbox::encode);
        let mailbox = mailbox.map(|text| self.put_blob(&text));
        let tree = self.write_node(mailbox, entries, 0);
        own.tree = Some(tree);
        self.dirs.insert(tree, Rc::clone(dir));
        tree
    }

    fn write_node(
        &mut self,
        mailbox: Option<Oid>,
        mut entries: Vec<(Oid, RawEntry)>,
        depth: usize,
    ) -> Oid {
        let mut bytes = Vec::new();
        if let Some(oid) = mailbox {
            bytes.extend_from_slice(oid.as_bytes());
        }
        let node = if entries.len() <= LEAF_MAX || depth == 8 {
            let mut entries: Vec<RawEntry> = entries.into_iter().map(|(_, entry)| entry).collect();
            entries.sort();
            for entry in &entries {
                bytes.push(u8::from(entry.dir));
                bytes.extend_from_slice(&entry.name);
                bytes.push(0);
                bytes.extend_from_slice(entry.oid.as_bytes());
            }
            let entries = entries.into_iter().collect();
            Node::Leaf { mailbox, entries }
        } else {
            let mut branches = [None; 16];
            for (digit, branch) in branches.iter_mut().enumerate() {
                let is_below = |(place, _): &mut (Oid, RawEntry)| {
                    let byte = place.as_bytes()[depth / 2];
                    usize::from(if depth.is_multiple_of(2) {
                        byte >> 4
                    } else {
                        byte & 15
                    }) == digit
                };
                let below: Vec<_> = entries.extract_if(.., is_below).collect();
                if !below.is_empty() {
                    let oid = self.write_node(None, below, depth + 1);
                    *branch = Some(oid);
                    bytes.push(digit as u8);
                    bytes.extend_from_slice(oid.as_bytes());
                }
            }
            Node::Split { mailbox, branches }
        };
        let tree = digest(1, &bytes);
        self.nodes.insert(tree, Arc::new(node));
        tree
    }

    /// The directory that a tree is.
    pub fn dir(&self, tree: Oid) -> Rc<Dir> {
        Rc::clone(&self.dirs[&tree])
    }

    /// Takes a blob.
    pub fn put_blob(&mut self, content: &[u8]) -> Oid {
        let oid = digest(2, content);
        self.blobs.entry(oid).or_insert_with(|| content.to_vec());
        oid
    }

    /// The content of a blob.
    pub fn content(&self, blob: Oid) -> Vec<u8> {
        self.blobs[&blob].clone()
    }

    /// Adds a commit; one that is there already stays.
    pub fn commit(&mut self, tree: Oid, parents: &[Oid], time: i64, text: &[u8]) -> Oid {
        let mut bytes = tree.as_bytes().to_vec();
        for parent in parents {
            bytes.extend_from_slice(parent.as_bytes());
        }
        bytes.extend_from_slice(&time.to_le_bytes());
        bytes.extend_from_slice(text);
        let oid = digest(3, &bytes);
        if self.commits.contains_key(&oid) {
            return oid;
        }
        let number = self.order.len();
        let mut ancestors = vec![0; number / 64 + 1];
        for parent in parents {
            for (word, theirs) in ancestors.iter_mut().zip(&self.commits[parent].ancestors) {
                *word |= theirs;
            }
        }
        ancestors[number / 64] |= 1 << (number % 64);
        self.operations.resize(ancestors.len(), 0);
        if parents.len() < 2 {
            self.operations[number / 64] |= 1 << (number % 64);
        }
        self.order.push(oid);
        let commit = Commit {
            tree,
            parents: parents.to_vec(),
            time,
            ancestors,
        };
        self.commits.insert(oid, commit);
        oid
    }

    /// A commit.
    pub fn get(&self, commit: Oid) -> &Commit {
        &self.commits[&commit]
    }

    /// Ancestors of any of the commits, themselves too.
    fn ancestors(&self, commits: &[Oid]) -> Vec<u64> {
        let mut all = Vec::new();
        for commit in commits {
            let theirs = &self.commits[commit].ancestors;
            all.resize(all.len().max(theirs.len()), 0);
            for (word, theirs) in all.iter_mut().zip(theirs) {
                *word |= theirs;
            }
        }
        all
    }

    /// Whether `commit` is `of` or an ancestor of it.
    pub fn is_ancestor(&self, commit: Oid, of: Oid) -> bool {
        let number = self.commits[&commit].ancestors.len() - 1;
        let own = self.commits[&commit].ancestors[number];
        let bit = 63 - own.leading_zeros();
        let of = &self.commits[&of].ancestors;
        of.get(number).is_some_and(|word| word & (1 << bit) != 0)
    }

    /// Whether `head` has operations that are not in `own`.
    pub fn has_news(&self, head: Oid, own: Oid) -> bool {
        let own = &self.commits[&own].ancestors;
        let head = self.commits[&head].ancestors.iter().enumerate();
        let mut news =
            head.map(|(at, word)| word & !own.get(at).copied().unwrap_or(0) & self.operations[at]);
        news.any(|word| word != 0)
    }

    fn numbered(&self, set: &[u64]) -> Vec<Oid> {
        let mut found = Vec::new();
        for (at, &word) in set.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                found.push(self.order[at * 64 + rest.trailing_zeros() as usize]);
                rest &= rest - 1;
            }
        }
        found
    }
}

impl Trees for Memory {
    type Error = Infallible;

    fn node(&self, tree: Oid) -> Result<Arc<Node>, Infallible> {
        Ok(Arc::clone(&self.nodes[&tree]))
    }

    fn blob(&self, blob: Oid) -> Result<Vec<u8>, Infallible> {
        Ok(self.blobs[&blob].clone())
    }

    fn hash(&self, content: &[u8]) -> Oid {
        digest(2, content)
    }
}

impl World for Memory {
    fn tree(&self, commit: Oid) -> Result<Oid, Infallible> {
        Ok(self.commits[&commit].tree)
    }

    fn time(&self, commit: Oid) -> Result<i64, Infallible> {
        Ok(self.commits[&commit].time)
    }

    fn merge_bases(&self, left: &[Oid], right: &[Oid]) -> Result<Vec<Oid>, Infallible> {
        let (left, right) = (self.ancestors(left), self.ancestors(right));
        let mut common: Vec<u64> = left.iter().zip(&right).map(|(a, b)| a & b).collect();
        let mut best = Vec::new();
        // The newest first: whatever it does not have is not its ancestor.
        while let Some(at) = common.iter().rposition(|word| *word != 0) {
            let bit = 63 - common[at].leading_zeros() as usize;
            let commit = self.order[at * 64 + bit];
            best.push(commit);
            for (word, theirs) in common.iter_mut().zip(&self.commits[&commit].ancestors) {
                *word &= !theirs;
            }
        }
        Ok(best)
    }

    fn uid_next_before(
        &self,
        heads: &[Oid],
        bases: &[Oid],
        validity: u32,
    ) -> Result<Option<u32>, Infallible> {
        let (heads, bases) = (self.ancestors(heads), self.ancestors(bases));
        let own: Vec<u64> = heads
            .iter()
            .enumerate()
            .map(|(at, word)| word & !bases.get(at).copied().unwrap_or(0))
            .collect();
        let commits = self.numbered(&own).into_iter();
        let known = commits.filter_map(|commit| {
            let dir = &self.dirs[&self.commits[&commit].tree];
            dir.uid_next(validity)
        });
        Ok(known.max())
    }

    fn build(&mut self, on: Option<Oid>, ops: &[Op]) -> Result<Oid, Infallible> {
        let mut dir = on.map(|tree| self.dir(tree)).unwrap_or_default();
        if on.is_none() || !ops.is_empty() {
            let root = Rc::make_mut(&mut dir);
            root.tree = None;
            for op in ops {
                if let Op::Put {
                    content: Content::Inline(bytes),
                    oid,
                    ..
                } = op
                {
                    assert_eq!(self.put_blob(bytes), *oid);
                }
                root.apply(op);
            }
        }
        Ok(self.write(&mut dir))
    }
}
