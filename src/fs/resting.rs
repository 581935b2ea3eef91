//! Messages that nobody has asked for since their directory was loaded.
//!
//! The problem: an inode with its name is some four hundred bytes, and a folder may have a million messages, of which a server that lists it looks at a few.
//! Rules:
//! - The messages that a directory is loaded with get consecutive numbers and rest in columns: a hundred bytes each, in a few large blocks.
//! - **Whoever asks for the inode gets one**: it is made then, and stays. So nothing but [`super::space`] has to know who rests.
//! - What is asked of all messages of a folder (names, marks, size, date) is answered without making inodes.
//! - A name that went, or an inode that was let go of, leaves its place empty until all of the directory's are.

use std::cell::OnceCell;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::node::{self, Body, Content, Ino, Link, Marks, Name, Node};
use crate::maildir::{Attrs, Oid};

/// What is kept of a message besides name and id.
#[derive(Debug)]
struct Fact {
    mtime: i64,
    size: u32,
    /// [`GONE`] where it is.
    uid: u32,
}

/// No message has this UID: it is Dovecot's "none".
const GONE: u32 = u32::MAX;

/// The messages that one directory was loaded with.
#[derive(Debug)]
pub struct Resting {
    dir: Ino,
    first: Ino,
    names: Vec<u8>,
    /// Where each name ends.
    ends: Vec<u32>,
    ids: Vec<u8>,
    facts: Vec<Fact>,
    inodes: Vec<OnceCell<Box<Node>>>,
    gone: usize,
}

impl Resting {
    /// Room for so many messages of the directory `dir`, whose names have so many bytes together; the first gets the number `first`.
    #[must_use]
    pub fn new(dir: Ino, first: Ino, count: usize, name_bytes: usize) -> Self {
        Self {
            dir,
            first,
            names: Vec::with_capacity(name_bytes),
            ends: Vec::with_capacity(count),
            ids: Vec::new(),
            facts: Vec::with_capacity(count),
            inodes: Vec::with_capacity(count),
            gone: 0,
        }
    }

    /// The next message; of `attrs` all but the fields of its server. One that is too large to rest becomes an inode.
    pub fn push(&mut self, name: &[u8], oid: Oid, attrs: &Attrs) {
        let id = oid.as_bytes();
        if self.ids.is_empty() {
            self.ids.reserve_exact(id.len() * self.facts.capacity());
        }
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len() as u32);
        self.ids.extend_from_slice(id);
        self.facts.push(Fact {
            mtime: attrs.mtime,
            size: u32::try_from(attrs.size).unwrap_or(u32::MAX),
            uid: attrs.uid.filter(|uid| *uid != GONE).unwrap_or(0),
        });
        self.inodes.push(OnceCell::new());
        if attrs.size > u64::from(u32::MAX)
            && let Some(node) = self.node_mut(self.facts.len() - 1)
        {
            node::set_attrs(node, attrs);
        }
    }

    /// How many there were at first.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether none of them is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone == self.facts.len()
    }

    /// The place of a number here.
    #[must_use]
    pub fn place(&self, ino: Ino) -> Option<usize> {
        let at = usize::try_from(ino.checked_sub(self.first)?).ok()?;
        self.facts
            .get(at)
            .is_some_and(|fact| fact.uid != GONE)
            .then_some(at)
    }

    /// The name it was loaded under.
    #[must_use]
    pub fn name(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.names[start as usize..self.ends[at] as usize]
    }

    /// The directory it was loaded in.
    #[must_use]
    pub fn dir(&self) -> Ino {
        self.dir
    }

    /// Whether it still rests: then what was loaded is true.
    #[must_use]
    pub fn rests(&self, at: usize) -> bool {
        self.inodes[at].get().is_none()
    }

    /// Date and size of one that rests.
    #[must_use]
    pub fn date_and_size(&self, at: usize) -> (i64, u64) {
        (self.facts[at].mtime, self.facts[at].size.into())
    }

    /// The UID of one that rests; 0 where none was given.
    #[must_use]
    pub fn uid(&self, at: usize) -> u32 {
        self.facts[at].uid
    }

    /// Gives one that rests a UID.
    pub fn set_uid(&mut self, at: usize, uid: u32) {
        self.facts[at].uid = if uid == GONE { 0 } else { uid };
    }

    /// The inode, made if need be.
    #[must_use]
    pub fn node(&self, at: usize) -> &Node {
        self.inodes[at].get_or_init(|| Box::new(self.make(at)))
    }

    /// The same, to change.
    pub fn node_mut(&mut self, at: usize) -> Option<&mut Node> {
        let _ = self.node(at);
        self.inodes[at].get_mut().map(|node| &mut **node)
    }

    /// Lets go of an inode for good.
    pub fn remove(&mut self, at: usize) {
        self.inodes[at].take();
        self.facts[at].uid = GONE;
        self.gone += 1;
    }

    fn make(&self, at: usize) -> Node {
        let fact = &self.facts[at];
        let width = self.ids.len() / self.facts.len();
        let oid = Oid::from_bytes(&self.ids[at * width..(at + 1) * width]);
        let mut node = Node::file(Content::Blob, oid, fact.size.into(), (fact.mtime, 0));
        if let Body::File(file) = &mut node.body {
            file.names.push(Link {
                parent: self.dir,
                name: Name::from(self.name(at)),
                marks: Marks {
                    uid: fact.uid,
                    ..Marks::default()
                },
            });
        }
        node
    }
}

/// The names in a directory.
#[derive(Debug, Default)]
pub struct Names {
    own: HashMap<Name, Ino>,
    resting: Option<Box<Index>>,
}

/// Finds those that a directory was loaded with by name.
#[derive(Debug)]
struct Index {
    first: Ino,
    hasher: DefaultHashBuilder,
    places: HashTable<u32>,
}

impl Names {
    /// Takes in what was loaded, once.
    pub fn rest(&mut self, resting: &Resting) {
        let hasher = DefaultHashBuilder::default();
        let mut places = HashTable::with_capacity(resting.len());
        for at in 0..resting.len() {
            let hash = |at: &u32| hasher.hash_one(resting.name(*at as usize));
            let at = at as u32;
            places.insert_unique(hash(&at), at, hash);
        }
        self.resting = Some(Box::new(Index {
            first: resting.first,
            hasher,
            places,
        }));
    }

    /// The first number of those it was loaded with.
    #[must_use]
    pub fn first(&self) -> Option<Ino> {
        self.resting.as_ref().map(|index| index.first)
    }

    /// Adds a name that is not there.
    pub fn insert(&mut self, name: Name, ino: Ino) {
        self.own.insert(name, ino);
    }

    /// Takes a name away. `resting`: what the directory was loaded with.
    pub fn remove(&mut self, name: &[u8], resting: Option<&Resting>) {
        if self.own.remove(name).is_some() {
            return;
        }
        if let (Some(index), Some(resting)) = (&mut self.resting, resting) {
            let hash = index.hasher.hash_one(name);
            let is = |at: &u32| resting.name(*at as usize) == name;
            if let Ok(found) = index.places.find_entry(hash, is) {
                found.remove();
            }
        }
    }
}

/// The same, to read.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    names: &'a Names,
    resting: Option<&'a Resting>,
}

impl<'a> Entries<'a> {
    /// Names, and what the directory was loaded with.
    #[must_use]
    pub fn new(names: &'a Names, resting: Option<&'a Resting>) -> Self {
        Self { names, resting }
    }

    fn rested(&self) -> Option<(&'a Index, &'a Resting)> {
        Some((self.names.resting.as_deref()?, self.resting?))
    }

    /// The inode of a name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Ino> {
        if let Some(ino) = self.names.own.get(name) {
            return Some(*ino);
        }
        let (index, resting) = self.rested()?;
        let hash = index.hasher.hash_one(name);
        let is = |at: &u32| resting.name(*at as usize) == name;
        let at = index.places.find(hash, is)?;
        Some(index.first + Ino::from(*at))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let rested = self.rested().map_or(0, |(index, _)| index.places.len());
        self.names.own.len() + rested
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Ino)> + use<'a> {
        let own = self.names.own.iter().map(|(name, ino)| (&**name, *ino));
        let rested = self.rested().into_iter().flat_map(|(index, resting)| {
            index
                .places
                .iter()
                .map(move |at| (resting.name(*at as usize), index.first + Ino::from(*at)))
        });
        own.chain(rested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::HashKind;

    fn loaded(names: &[&str]) -> Resting {
        let bytes = names.iter().map(|name| name.len()).sum();
        let mut resting = Resting::new(2, 10, names.len(), bytes);
        for (name, uid) in names.iter().zip(1..) {
            let attrs = Attrs {
                uid: Some(uid),
                mtime: 100 + i64::from(uid),
                size: 7,
                ..Attrs::default()
            };
            resting.push(name.as_bytes(), Oid::null(HashKind::Sha256), &attrs);
        }
        resting
    }

    #[test]
    fn what_rests_becomes_an_inode_once_asked_for() {
        let mut resting = loaded(&["a", "", "ccc"]);
        assert_eq!((resting.place(9), resting.place(13)), (None, None));
        let at = resting.place(12).unwrap();
        assert_eq!((resting.name(at), resting.uid(at)), (&b"ccc"[..], 3));
        resting.set_uid(at, 9);
        let Body::File(file) = &resting.node(at).body else {
            panic!("a message is a file");
        };
        assert_eq!(file.oid, Some(Oid::null(HashKind::Sha256)));
        assert_eq!(
            (&*file.names[0].name, file.names[0].parent),
            (&b"ccc"[..], 2)
        );
        assert_eq!((file.names[0].marks.uid, file.size), (9, 7));
        resting.node_mut(at).unwrap().lookups = 5;
        assert_eq!(resting.node(at).lookups, 5);
        assert!(!resting.rests(at) && resting.rests(0));
        for ino in 10..13 {
            assert!(!resting.is_gone());
            let at = resting.place(ino).unwrap();
            resting.remove(at);
            assert_eq!(resting.place(ino), None);
        }
        assert!(resting.is_gone());
    }

    #[test]
    fn what_is_too_large_to_rest_does_not() {
        let mut resting = Resting::new(2, 10, 1, 1);
        let attrs = Attrs {
            size: 5 << 30,
            ..Attrs::default()
        };
        resting.push(b"a", Oid::null(HashKind::Sha1), &attrs);
        assert!(!resting.rests(0));
        assert!(matches!(&resting.node(0).body, Body::File(file) if file.size == 5 << 30));
    }

    #[test]
    fn names_are_those_loaded_and_those_that_came() {
        let all: Vec<String> = (0..500).map(|number| format!("{number}.m:2,")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let resting = loaded(&all);
        let mut names = Names::default();
        names.rest(&resting);
        names.insert(Name::from(&b"own"[..]), 1000);
        names.remove(b"7.m:2,", Some(&resting));
        names.insert(Name::from(&b"7.m:2,S"[..]), 17);
        names.remove(b"absent", Some(&resting));
        let entries = Entries::new(&names, Some(&resting));
        assert_eq!(entries.get(b"499.m:2,"), Some(509));
        assert_eq!(
            (entries.get(b"7.m:2,"), entries.get(b"7.m:2,S")),
            (None, Some(17))
        );
        assert_eq!(entries.len(), 501);
        let mut inodes: Vec<Ino> = entries.iter().map(|(_, ino)| ino).collect();
        inodes.sort_unstable();
        assert_eq!(inodes, (10..510).chain([1000]).collect::<Vec<_>>());
        for (name, ino) in entries.iter() {
            assert_eq!(entries.get(name), Some(ino));
        }
    }
}
