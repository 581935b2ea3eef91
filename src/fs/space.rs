//! The namespace: all inodes and names, under one lock that its owner holds. Nothing here does I/O.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use hashbrown::{HashMap, HashSet};

use super::error::FsError;
use super::node::{Body, DirBody, FileBody, Ino, Link, Listing, Marks, Name, Node, ROOT, Time};
use super::resting::{Entries, Resting};
use super::understood::Mailbox;
use crate::limits;
use crate::maildir::{Attrs, Oid, TreePath};

/// Inodes and names.
pub struct Space {
    nodes: HashMap<Ino, Box<Node>>,
    /// What directories of messages were loaded with, by the first number of each.
    resting: BTreeMap<Ino, Resting>,
    next: Ino,
    /// Inodes whose content stands in a record, in order of the records.
    pub pending: VecDeque<(u64, Ino)>,
    /// Files with content that no record has.
    pub dirty: Vec<Ino>,
    /// The last record appended.
    pub last_seq: u64,
    /// Folders whose index files were written and not read.
    pub written: HashSet<Ino>,
    /// The greatest UIDVALIDITY offered to a new folder since the mount.
    pub offered: u32,
}

impl Space {
    /// A namespace with a root alone.
    #[must_use]
    pub fn new(root: Listing, mtime: Time) -> Self {
        let mut nodes = HashMap::new();
        let mut node = Node::dir(ROOT, Name::from(&b""[..]), root, mtime);
        node.lookups = 1;
        nodes.insert(ROOT, Box::new(node));
        Self {
            nodes,
            resting: BTreeMap::new(),
            next: ROOT + 1,
            pending: VecDeque::new(),
            dirty: Vec::new(),
            last_seq: 0,
            written: HashSet::new(),
            offered: 0,
        }
    }

    /// What a directory knows of itself as a folder; `None` where it knows nothing.
    #[must_use]
    pub fn mailbox(&self, folder: Ino) -> Option<&Mailbox> {
        self.dir(folder).ok()?.mailbox.as_deref()
    }

    /// The same, to change; it knows nothing at first.
    ///
    /// # Errors
    /// Where the directory is gone.
    pub fn mailbox_mut(&mut self, folder: Ino) -> Result<&mut Mailbox, FsError> {
        Ok(self.dir_mut(folder)?.mailbox.get_or_insert_default())
    }

    fn loaded_with(&self, ino: Ino) -> Option<(&Resting, usize)> {
        let (_, resting) = self.resting.range(..=ino).next_back()?;
        Some((resting, resting.place(ino)?))
    }

    /// A message that nobody has asked for: what was loaded is true of it.
    fn at_rest(&self, ino: Ino) -> Option<(&Resting, usize)> {
        let found = self.loaded_with(ino);
        found.filter(|(resting, at)| resting.rests(*at))
    }

    /// Date (seconds) and size of a file, without making its inode.
    ///
    /// # Errors
    /// Where it is gone or a directory.
    pub fn date_and_size(&self, ino: Ino) -> Result<(i64, u64), FsError> {
        match self.at_rest(ino) {
            Some((resting, at)) => Ok(resting.date_and_size(at)),
            None => Ok((self.node(ino)?.mtime.0, self.file(ino)?.size)),
        }
    }

    /// Takes in the messages of a directory that is being loaded, in the order of their numbers. Returns the first number.
    ///
    /// # Errors
    /// Where it is no directory.
    pub fn rest<'a>(
        &mut self,
        dir: Ino,
        messages: impl Iterator<Item = (&'a [u8], Oid, &'a Attrs)> + Clone,
    ) -> Result<Ino, FsError> {
        let first = self.next;
        let (count, bytes) = messages.clone().fold((0, 0), |(count, bytes), (name, ..)| {
            (count + 1, bytes + name.len())
        });
        if count == 0 {
            return Ok(first);
        }
        let mut resting = Resting::new(dir, first, count, bytes);
        for (name, oid, attrs) in messages {
            resting.push(name, oid, attrs);
        }
        let body = self.dir_mut(dir)?;
        body.changes += 1;
        if let Listing::Loaded(names) = &mut body.listing {
            names.rest(&resting);
        }
        self.resting.insert(first, resting);
        self.next += count as Ino;
        Ok(first)
    }

    /// The inode.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn node(&self, ino: Ino) -> Result<&Node, FsError> {
        if let Some(node) = self.nodes.get(&ino) {
            return Ok(node);
        }
        let (resting, at) = self.loaded_with(ino).ok_or(FsError::NotFound)?;
        Ok(resting.node(at))
    }

    /// The inode, to change.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, FsError> {
        if let Some(node) = self.nodes.get_mut(&ino) {
            return Ok(node);
        }
        self.resting
            .range_mut(..=ino)
            .next_back()
            .and_then(|(_, resting)| {
                let at = resting.place(ino)?;
                resting.node_mut(at)
            })
            .ok_or(FsError::NotFound)
    }

    /// The directory.
    ///
    /// # Errors
    /// Where it is gone or a file.
    pub fn dir(&self, ino: Ino) -> Result<&DirBody, FsError> {
        match &self.node(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            Body::File(_) => Err(FsError::NotDir),
        }
    }

    /// The directory, to change.
    ///
    /// # Errors
    /// Where it is gone or a file.
    pub fn dir_mut(&mut self, ino: Ino) -> Result<&mut DirBody, FsError> {
        match &mut self.node_mut(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            Body::File(_) => Err(FsError::NotDir),
        }
    }

    /// The file.
    ///
    /// # Errors
    /// Where it is gone or a directory.
    pub fn file(&self, ino: Ino) -> Result<&FileBody, FsError> {
        match &self.node(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(FsError::IsDir),
        }
    }

    /// The file, to change.
    ///
    /// # Errors
    /// Where it is gone or a directory.
    pub fn file_mut(&mut self, ino: Ino) -> Result<&mut FileBody, FsError> {
        match &mut self.node_mut(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(FsError::IsDir),
        }
    }

    /// Whether it is a directory.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn is_dir(&self, ino: Ino) -> Result<bool, FsError> {
        Ok(self.at_rest(ino).is_none() && matches!(self.node(ino)?.body, Body::Dir(_)))
    }

    /// The entries of a loaded directory.
    ///
    /// # Errors
    /// Where it is no directory, was removed, or is not loaded (a defect: callers load first).
    pub fn entries(&self, ino: Ino) -> Result<Entries<'_>, FsError> {
        let dir = self.dir(ino)?;
        if dir.parent == 0 {
            return Err(FsError::NotFound);
        }
        match &dir.listing {
            Listing::Loaded(names) => {
                let resting = names.first().and_then(|first| self.resting.get(&first));
                Ok(Entries::new(names, resting))
            }
            Listing::Unloaded(_) => Err(FsError::Io(std::io::Error::other(
                "a directory was used before it was loaded",
            ))),
        }
    }

    /// The inode of a name, if it is there.
    ///
    /// # Errors
    /// As [`Space::entries`], and a name that is too long.
    pub fn child(&self, parent: Ino, name: &[u8]) -> Result<Option<Ino>, FsError> {
        if name.len() > limits::NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        Ok(self.entries(parent)?.get(name))
    }

    /// Whether a directory is another one or lies below it.
    #[must_use]
    pub fn is_within(&self, mut dir: Ino, above: Ino) -> bool {
        while dir != above {
            match self.dir(dir) {
                Ok(body) if dir != ROOT && body.parent != 0 => dir = body.parent,
                _ => return false,
            }
        }
        true
    }

    /// The path of a linked directory.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn path(&self, mut ino: Ino) -> Result<TreePath, FsError> {
        let mut parts: Vec<&[u8]> = Vec::new();
        while ino != ROOT {
            let dir = self.dir(ino)?;
            if dir.parent == 0 {
                return Err(FsError::NotFound);
            }
            parts.push(&dir.name);
            ino = dir.parent;
        }
        parts.reverse();
        Ok(TreePath::new(parts.join(&b'/')))
    }

    /// Adds an inode and returns its number.
    pub fn add(&mut self, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Box::new(node));
        ino
    }

    /// What belongs to the message of this name.
    #[must_use]
    pub fn marks(&self, ino: Ino, parent: Ino, name: &[u8]) -> Marks {
        let found = self.find_marks(ino, parent, name);
        found.map_or_else(Marks::default, Cow::into_owned)
    }

    /// The same, copied only where that costs nothing; `None` where there is no such name.
    #[must_use]
    pub fn find_marks(&self, ino: Ino, parent: Ino, name: &[u8]) -> Option<Cow<'_, Marks>> {
        if let Some((resting, at)) = self.at_rest(ino) {
            let is = resting.dir() == parent && resting.name(at) == name;
            return is.then(|| {
                Cow::Owned(Marks {
                    uid: resting.uid(at),
                    ..Marks::default()
                })
            });
        }
        let names = self.file(ino).map_or(&[][..], |file| &file.names);
        let found = names
            .iter()
            .find(|link| link.parent == parent && *link.name == *name);
        found.map(|link| Cow::Borrowed(&link.marks))
    }

    /// Sets what belongs to the message of this name.
    pub fn set_marks(&mut self, ino: Ino, parent: Ino, name: &[u8], marks: Marks) {
        if marks.ext.is_empty()
            && let Some((_, resting)) = self.resting.range_mut(..=ino).next_back()
            && let Some(at) = resting.place(ino).filter(|at| resting.rests(*at))
        {
            if resting.dir() == parent && resting.name(at) == name {
                resting.set_uid(at, marks.uid);
            }
            return;
        }
        if let Ok(file) = self.file_mut(ino)
            && let Some(link) = file
                .names
                .iter_mut()
                .find(|link| link.parent == parent && *link.name == *name)
        {
            link.marks = marks;
        }
    }

    /// Gives an inode a name; the name is free. The directory's times move.
    ///
    /// # Errors
    /// As [`Space::entries`].
    pub fn attach(
        &mut self,
        parent: Ino,
        name: &[u8],
        ino: Ino,
        time: Time,
    ) -> Result<(), FsError> {
        self.entries(parent)?;
        let name = Name::from(name);
        let is_dir = {
            let node = self.node_mut(ino)?;
            node.ctime = time;
            match &mut node.body {
                Body::File(file) => {
                    file.names.push(Link {
                        parent,
                        name: Name::clone(&name),
                        marks: Marks::default(),
                    });
                    false
                }
                Body::Dir(dir) => {
                    dir.parent = parent;
                    dir.name = Name::clone(&name);
                    true
                }
            }
        };
        let above = self.node_mut(parent)?;
        above.mtime = time;
        above.ctime = time;
        if let Body::Dir(dir) = &mut above.body {
            dir.subdirs += u32::from(is_dir);
            dir.changes += 1;
            if let Listing::Loaded(entries) = &mut dir.listing {
                entries.insert(name, ino);
            }
        }
        Ok(())
    }

    /// Takes a name away. The inode stays while the kernel or another name holds it: see [`Space::reap`].
    ///
    /// # Errors
    /// As [`Space::entries`], or where the name is not there.
    pub fn detach(&mut self, parent: Ino, name: &[u8], time: Time) -> Result<Ino, FsError> {
        let ino = self.child(parent, name)?.ok_or(FsError::NotFound)?;
        let is_dir = {
            let node = self.node_mut(ino)?;
            node.ctime = time;
            match &mut node.body {
                Body::File(file) => {
                    file.names
                        .retain(|link| link.parent != parent || *link.name != *name);
                    false
                }
                Body::Dir(dir) => {
                    dir.parent = 0;
                    true
                }
            }
        };
        // A directory never rests.
        let above = self.nodes.get_mut(&parent).ok_or(FsError::NotFound)?;
        above.mtime = time;
        above.ctime = time;
        if let Body::Dir(dir) = &mut above.body {
            dir.subdirs -= u32::from(is_dir);
            dir.changes += 1;
            if let Listing::Loaded(names) = &mut dir.listing {
                let resting = names.first().and_then(|first| self.resting.get(&first));
                names.remove(name, resting);
            }
        }
        Ok(ino)
    }

    /// Drops an inode that neither a name nor the kernel holds.
    pub fn reap(&mut self, ino: Ino) {
        if self.at_rest(ino).is_some() {
            return;
        }
        let is_held = |node: &Node| node.lookups > 0 || node.is_linked();
        if self.node(ino).map_or(true, is_held) || self.nodes.remove(&ino).is_some() {
            return;
        }
        if let Some((&first, resting)) = self.resting.range_mut(..=ino).next_back()
            && let Some(at) = resting.place(ino)
        {
            resting.remove(at);
            if resting.is_gone() {
                self.resting.remove(&first);
            }
        }
    }
}
