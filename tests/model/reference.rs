//! The reference: a tree of maps that answers as Linux answers for ext4, with the few differences that mailbraid promises.

use std::collections::BTreeMap;

use mailbraid::maildir::TreePath;
use mailbraid::maildir::class::{PathClass, classify};

use super::ground::{Errno, Expected, Mtime, Truth};
use super::op::{Op, SLOTS};

enum Body {
    Dir(BTreeMap<Vec<u8>, usize>),
    File(Vec<u8>),
}

struct Node {
    body: Body,
    mtime: Mtime,
}

/// The tree. Nodes are never removed, so a held file outlives its names.
pub struct Reference {
    nodes: Vec<Node>,
    held: Vec<Option<usize>>,
    clock: u64,
}

const ROOT: usize = 0;

/// A path taken apart: the directory that should hold the name.
type Place<'a> = (usize, &'a [u8]);

fn is_tmp(part: &[u8]) -> bool {
    part == b"tmp"
}

/// The class of a directory: patterns for files do not apply, for folders are named by users.
pub fn dir_class(path: &TreePath) -> PathClass {
    let above = path.parent().unwrap_or_default();
    if above.components().any(is_tmp) {
        PathClass::Scratch
    } else if path.components().any(|part| part == b"courierimapkeywords") {
        PathClass::Understood
    } else {
        PathClass::Committed
    }
}

impl Reference {
    pub fn new() -> Self {
        let root = Node {
            body: Body::Dir(BTreeMap::new()),
            mtime: Mtime::Open,
        };
        Self {
            nodes: vec![root],
            held: vec![None; SLOTS],
            clock: 0,
        }
    }

    fn entries(&self, id: usize) -> Result<&BTreeMap<Vec<u8>, usize>, Errno> {
        match &self.nodes[id].body {
            Body::Dir(entries) => Ok(entries),
            Body::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn is_dir(&self, id: usize) -> bool {
        matches!(self.nodes[id].body, Body::Dir(_))
    }

    fn touch(&mut self, id: usize) {
        self.clock += 1;
        self.nodes[id].mtime = Mtime::Clock(self.clock);
    }

    fn child(&self, dir: usize, name: &[u8]) -> Result<Option<usize>, Errno> {
        let entries = self.entries(dir)?;
        if name.len() > 255 {
            return Err(libc::ENAMETOOLONG);
        }
        Ok(entries.get(name).copied())
    }

    fn walk(&self, path: &TreePath) -> Result<usize, Errno> {
        let mut at = ROOT;
        for part in path.components() {
            at = self.child(at, part)?.ok_or(libc::ENOENT)?;
        }
        Ok(at)
    }

    fn place<'a>(&self, path: &'a TreePath) -> Result<Place<'a>, Errno> {
        let dir = self.walk(&path.parent().unwrap_or_default())?;
        self.entries(dir)?;
        Ok((dir, path.name()))
    }

    fn file(&mut self, id: usize) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.nodes[id].body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(libc::EISDIR),
        }
    }

    fn add(&mut self, (dir, name): Place<'_>, body: Body) -> usize {
        self.clock += 1;
        let mtime = Mtime::Clock(self.clock);
        self.nodes.push(Node { body, mtime });
        let id = self.nodes.len() - 1;
        self.attach((dir, name), id);
        id
    }

    fn attach(&mut self, (dir, name): Place<'_>, id: usize) {
        if let Body::Dir(entries) = &mut self.nodes[dir].body {
            entries.insert(name.to_vec(), id);
        }
        self.touch(dir);
    }

    fn detach(&mut self, (dir, name): Place<'_>) {
        if let Body::Dir(entries) = &mut self.nodes[dir].body {
            entries.remove(name);
        }
        self.touch(dir);
    }

    fn write(&mut self, id: usize, at: u64, len: usize, fill: u8) -> Result<(), Errno> {
        let content = self.file(id)?;
        let (from, to) = (at as usize, at as usize + len);
        if content.len() < to {
            content.resize(to, 0);
        }
        content[from..to].fill(fill);
        self.touch(id);
        Ok(())
    }

    fn rename(&mut self, from: &TreePath, to: &TreePath, no_replace: bool) -> Result<(), Errno> {
        let (from_place, to_place) = (self.place(from)?, self.place(to)?);
        let source = self
            .child(from_place.0, from_place.1)?
            .ok_or(libc::ENOENT)?;
        let target = self.child(to_place.0, to_place.1)?;
        if no_replace && target.is_some() {
            return Err(libc::EEXIST);
        }
        if to != from && to.is_within(from) {
            return Err(libc::EINVAL);
        }
        if to != from && from.is_within(to) {
            return Err(libc::ENOTEMPTY);
        }
        if target == Some(source) {
            return Ok(());
        }
        if let Some(target) = target {
            match (self.is_dir(source), self.is_dir(target)) {
                (true, false) => return Err(libc::ENOTDIR),
                (false, true) => return Err(libc::EISDIR),
                (true, true) if !self.entries(target)?.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        if self.is_dir(source) && self.changes_class(source, from, to) {
            return Err(libc::EXDEV);
        }
        self.detach(from_place);
        self.attach(to_place, source);
        Ok(())
    }

    fn changes_class(&self, dir: usize, from: &TreePath, to: &TreePath) -> bool {
        dir_class(from) != dir_class(to)
            || self.entries(dir).is_ok_and(|entries| {
                entries.iter().any(|(name, &child)| {
                    let class = if self.is_dir(child) {
                        dir_class
                    } else {
                        classify
                    };
                    class(&from.join(name)) != class(&to.join(name))
                })
            })
    }

    fn nlink(&self, id: usize) -> u64 {
        let mut names = 0;
        let mut dirs = 0;
        for node in self.reachable() {
            if let Body::Dir(entries) = &self.nodes[node].body {
                names += entries.values().filter(|&&child| child == id).count() as u64;
                if node == id {
                    dirs = entries
                        .values()
                        .filter(|&&child| self.is_dir(child))
                        .count() as u64;
                }
            }
        }
        if self.is_dir(id) { 2 + dirs } else { names }
    }

    fn reachable(&self) -> Vec<usize> {
        let mut found = vec![ROOT];
        let mut at = 0;
        while let Some(&node) = found.get(at) {
            if let Body::Dir(entries) = &self.nodes[node].body {
                found.extend(
                    entries
                        .values()
                        .copied()
                        .filter(|&child| self.is_dir(child)),
                );
            }
            at += 1;
        }
        found
    }

    fn expected(&self, id: usize) -> Expected {
        let content = match &self.nodes[id].body {
            Body::File(content) => Some(content.clone()),
            Body::Dir(_) => None,
        };
        Expected {
            content,
            nlink: self.nlink(id),
            mtime: self.nodes[id].mtime,
            id,
        }
    }

    /// All paths and open files.
    pub fn truth(&self) -> Truth {
        let mut paths = BTreeMap::new();
        let mut open = vec![(TreePath::root(), ROOT)];
        while let Some((path, id)) = open.pop() {
            if let Body::Dir(entries) = &self.nodes[id].body {
                open.extend(
                    entries
                        .iter()
                        .map(|(name, &child)| (path.join(name), child)),
                );
            }
            paths.insert(path, self.expected(id));
        }
        let held = self
            .held
            .iter()
            .map(|held| held.map(|id| self.expected(id)))
            .collect();
        Truth { paths, held }
    }

    /// What a new mount shows of this one.
    fn remount(&mut self) {
        self.held = vec![None; SLOTS];
        let mut open = vec![(TreePath::root(), ROOT)];
        while let Some((path, id)) = open.pop() {
            let Body::Dir(entries) = &self.nodes[id].body else {
                continue;
            };
            let entries = entries.clone();
            let mut kept = BTreeMap::new();
            let mut shared = BTreeMap::new();
            for (name, child) in entries {
                let below = path.join(&name);
                if self.is_dir(child) {
                    if dir_class(&below) != PathClass::Scratch {
                        kept.insert(name, child);
                        open.push((below, child));
                    }
                    continue;
                }
                let class = classify(&below);
                if class == PathClass::Scratch {
                    continue;
                }
                let Body::File(content) = &self.nodes[child].body else {
                    continue;
                };
                let content = content.clone();
                let mtime = match self.nodes[child].mtime {
                    Mtime::Set(seconds, _) if class == PathClass::Committed => {
                        Mtime::Set(seconds, 0)
                    }
                    Mtime::Set(seconds, nanos) => Mtime::Set(seconds, nanos),
                    _ => Mtime::Open,
                };
                // Plain files of one directory stay one file; committed names part.
                let known = (class != PathClass::Committed)
                    .then(|| shared.get(&child).copied())
                    .flatten();
                let fresh = known.unwrap_or_else(|| {
                    self.nodes.push(Node {
                        body: Body::File(content),
                        mtime,
                    });
                    self.nodes.len() - 1
                });
                if class != PathClass::Committed {
                    shared.insert(child, fresh);
                }
                kept.insert(name, fresh);
            }
            self.nodes[id] = Node {
                body: Body::Dir(kept),
                mtime: Mtime::Open,
            };
        }
    }
}

impl Reference {
    /// Does it, or says why not.
    pub fn apply(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Create { path, exclusive } => {
                let place = self.place(path)?;
                match self.child(place.0, place.1)? {
                    Some(_) if *exclusive => return Err(libc::EEXIST),
                    Some(id) if self.is_dir(id) => return Err(libc::EISDIR),
                    Some(_) => {}
                    None => {
                        self.add(place, Body::File(Vec::new()));
                    }
                }
            }
            Op::Write {
                path,
                at,
                len,
                fill,
            } => {
                let id = self.walk(path)?;
                self.write(id, *at, *len, *fill)?;
            }
            Op::Truncate { path, size } => {
                let id = self.walk(path)?;
                self.file(id)?.resize(*size as usize, 0);
                self.touch(id);
            }
            Op::Mkdir { path } => {
                let place = self.place(path)?;
                if self.child(place.0, place.1)?.is_some() {
                    return Err(libc::EEXIST);
                }
                self.add(place, Body::Dir(BTreeMap::new()));
            }
            Op::Rmdir { path } => {
                let place = self.place(path)?;
                let id = self.child(place.0, place.1)?.ok_or(libc::ENOENT)?;
                if !self.entries(id)?.is_empty() {
                    return Err(libc::ENOTEMPTY);
                }
                self.detach(place);
            }
            Op::Unlink { path } => {
                let place = self.place(path)?;
                let id = self.child(place.0, place.1)?.ok_or(libc::ENOENT)?;
                if self.is_dir(id) {
                    return Err(libc::EISDIR);
                }
                self.detach(place);
            }
            Op::Rename {
                from,
                to,
                no_replace,
            } => self.rename(from, to, *no_replace)?,
            Op::Link { from, to } => {
                let id = self.walk(from)?;
                let place = self.place(to)?;
                if self.child(place.0, place.1)?.is_some() {
                    return Err(libc::EEXIST);
                }
                if self.is_dir(id) {
                    return Err(libc::EPERM);
                }
                self.attach(place, id);
            }
            Op::SetTime { path, mtime } => {
                let id = self.walk(path)?;
                self.nodes[id].mtime = Mtime::Set(mtime.0, mtime.1);
            }
            Op::Sync { path } => {
                self.walk(path)?;
            }
            Op::Hold { slot, path } => {
                self.held[*slot] = None;
                let id = self.walk(path)?;
                self.file(id)?;
                self.held[*slot] = Some(id);
            }
            Op::WriteHeld {
                slot,
                at,
                len,
                fill,
            } => {
                let id = self.held[*slot].ok_or(libc::EBADF)?;
                self.write(id, *at, *len, *fill)?;
            }
            Op::Remount => self.remount(),
            Op::Rest | Op::Commit | Op::FailNext => {}
        }
        Ok(())
    }
}
