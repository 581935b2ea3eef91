//! Rename and link: where files change class.
//!
//! | from \ to | committed | scratch | local |
//! |---|---|---|---|
//! | committed | `Rename` | `Remove` | content written to a plain file, `Remove` |
//! | scratch | sealed, `Put` | names alone | content written to a plain file |
//! | local | sealed, `Put`, plain file removed | content read to memory, plain file removed | plain file renamed |
//!
//! A link is the same without what removes.

use super::content::Sealed;
use super::crossing::Staged;
use super::node::{self, Ino, Marks, Stat};
use super::space::Space;
use super::understood::Event;
use super::{Fs, FsError, Pending, RenameFlags, adopt, attrs_of, is_local};
use crate::maildir::class::{PathClass, classify, classify_dir, place};
use crate::maildir::{Op, TreePath, name};

/// One end of a rename.
#[derive(Clone, Copy)]
struct End<'a> {
    parent: Ino,
    name: &'a [u8],
}

impl Fs {
    /// Renames a file or a directory; a file or an empty directory that is there is replaced.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<(), FsError> {
        self.wait(self.begin_rename(parent, name, new_parent, new_name, flags)?)
    }

    /// [`Fs::rename`] up to what its answer waits for.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub fn begin_rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<Pending, FsError> {
        self.writable()?;
        self.ensure_loaded(parent)?;
        self.ensure_loaded(new_parent)?;
        self.before_place(new_parent, new_name)?;
        let present = Self::present_name(&self.space.lock(), parent, name);
        let name = present.as_deref().unwrap_or(name);
        let kept = if parent == new_parent {
            Self::kept_letters(&self.space.lock(), parent, name, new_name)
        } else {
            None
        };
        let asked = new_name;
        let new_name = kept.as_deref().unwrap_or(new_name);
        let from = End { parent, name };
        let to = End {
            parent: new_parent,
            name: new_name,
        };
        loop {
            let (ino, replaced, is_dir, to_class, from_class) = {
                let space = self.space.lock();
                let ino = space.child(parent, name)?.ok_or(FsError::NotFound)?;
                let replaced = space.child(new_parent, new_name)?;
                if flags.no_replace && replaced.is_some() {
                    return Err(FsError::Exists);
                }
                let to_class = classify(&space.path(new_parent)?.join(new_name));
                let from_class = classify(&space.path(parent)?.join(name));
                (ino, replaced, space.is_dir(ino)?, to_class, from_class)
            };
            if is_dir {
                if let Some(replaced) = replaced
                    && self.space.lock().is_dir(replaced)?
                {
                    self.ensure_loaded(replaced)?;
                }
                self.rename_dir(ino, from, to)?;
                return Ok(Pending(None));
            }
            if replaced == Some(ino) {
                return Ok(Pending(None));
            }
            let dirty = self.space.lock().file(ino)?.dirty;
            if dirty {
                self.commit_content(ino)?;
            }
            let sealed = match (from_class, to_class) {
                (PathClass::Committed, PathClass::Committed) => None,
                (_, PathClass::Committed) => Some(self.seal(ino)?),
                _ => None,
            };
            let staged = if is_local(to_class) {
                self.stage(ino)?
            } else {
                None
            };
            if let Some(done) = self.rename_file(ino, from, to, sealed, staged)? {
                if kept.is_some() {
                    Self::known_as(&mut self.space.lock(), new_parent, asked, ino)?;
                    self.stale_name(new_parent, asked);
                    self.stale_name(new_parent, new_name);
                }
                return Ok(self.pending(done.seq, done.delivery));
            }
        }
    }

    /// The rename of a file under the lock; `None` where something moved since it was looked at.
    fn rename_file(
        &self,
        ino: Ino,
        from: End<'_>,
        to: End<'_>,
        sealed: Option<Sealed>,
        staged: Option<Staged>,
    ) -> Result<Option<Done>, FsError> {
        let mut space = self.space.lock();
        if space.child(from.parent, from.name)? != Some(ino) {
            return Ok(None);
        }
        let file = space.file(ino)?;
        if file.dirty
            || sealed
                .as_ref()
                .is_some_and(|sealed| sealed.version != file.version)
        {
            return Ok(None);
        }
        let old = space.path(from.parent)?.join(from.name);
        let new = space.path(to.parent)?.join(to.name);
        let (old_class, new_class) = (classify(&old), classify(&new));
        if (new_class == PathClass::Committed)
            != (sealed.is_some() || old_class == PathClass::Committed)
            && new_class == PathClass::Committed
        {
            return Ok(None);
        }
        let replaced = space.child(to.parent, to.name)?;
        if let Some(replaced) = replaced {
            if replaced == ino {
                return Ok(Some(Done::default()));
            }
            if space.is_dir(replaced)? {
                return Err(if space.is_within(from.parent, replaced) {
                    FsError::NotEmpty
                } else {
                    FsError::IsDir
                });
            }
        }
        let touched = [from.parent, to.parent, ino];
        let stays = is_same_folder(&old, &new);
        let marks = if stays {
            space.marks(ino, from.parent, from.name)
        } else {
            self.marks_of_arrival(&mut space, to.parent, &new)?
        };
        let mut done = Done::default();
        match (old_class, new_class) {
            (PathClass::Committed, PathClass::Committed) => {
                let op = Op::Rename {
                    from: old.clone(),
                    to: new.clone(),
                };
                done.seq = Some(self.append(&mut space, &op, &touched)?);
                if !stays && marks != Marks::default() {
                    let attrs = attrs_of(&space, ino, &marks)?;
                    let path = new.clone();
                    let op = Op::SetAttrs { path, attrs };
                    done.seq = Some(self.append(&mut space, &op, &touched)?);
                }
                done.delivery = is_arrival(&old, &new);
            }
            (_, PathClass::Committed) => {
                let Some(sealed) = sealed else {
                    return Ok(None);
                };
                let op = Op::Put {
                    path: new.clone(),
                    oid: sealed.oid,
                    content: sealed.content.clone(),
                    attrs: attrs_of(&space, ino, &marks)?,
                };
                let is_delivery = is_message(&new) && !is_held(&space, ino)?;
                let seq = self.append(&mut space, &op, &touched)?;
                let stays_local = self.has_other_local_name(&space, ino, &old)?;
                adopt(&mut space, ino, sealed, seq, stays_local)?;
                if is_local(old_class) {
                    self.local.unlink(&old)?;
                }
                done.seq = Some(seq);
                done.delivery = is_delivery;
            }
            (_, PathClass::Scratch) => {
                if is_local(old_class) {
                    self.local_to_scratch(&mut space, ino, &old)?;
                } else if old_class == PathClass::Committed {
                    let op = Op::Remove { path: old.clone() };
                    done.seq = Some(self.append(&mut space, &op, &touched)?);
                }
            }
            (_, PathClass::ServerLocal | PathClass::Understood) => {
                if !is_local(old_class) && !self.can_enter_local(&space, ino, staged.as_ref())? {
                    return Ok(None);
                }
                if let Some(replaced) = replaced {
                    // Whoever has it open goes on reading it.
                    self.keep_open(&mut space, replaced, &new)?;
                }
                if is_local(old_class) {
                    self.local.rename(&old, &new)?;
                } else {
                    if old_class == PathClass::Committed {
                        let op = Op::Remove { path: old.clone() };
                        done.seq = Some(self.append(&mut space, &op, &touched)?);
                    }
                    self.enter_local(&mut space, ino, &new, staged)?;
                }
            }
        }
        if replaced.is_some() {
            Self::departs(&mut space, to.parent, to.name);
            // A committed name went with the record, a plain file with the rename or the write.
            self.drop_name(&mut space, to.parent, to.name)?;
        }
        if !stays {
            Self::departs(&mut space, from.parent, from.name);
        }
        let time = node::now();
        space.detach(from.parent, from.name, time)?;
        space.attach(to.parent, to.name, ino, time)?;
        if stays {
            moved_within(&mut space, &old, &new, to.parent, &marks);
        } else {
            self.landed(&mut space, to.parent, &new, &marks);
        }
        space.set_marks(ino, to.parent, to.name, marks);
        if is_local(old_class) {
            Self::gone(&mut space, from.parent, from.name);
        }
        if new_class == PathClass::Understood
            && let Some(seq) = self.placed(&mut space, to.parent, to.name)?
        {
            done.seq = Some(seq);
            // The server has synced what it renames.
            done.delivery = true;
        }
        Ok(Some(done))
    }

    fn rename_dir(&self, ino: Ino, from: End<'_>, to: End<'_>) -> Result<(), FsError> {
        self.ensure_loaded(ino)?;
        let mut space = self.space.lock();
        if space.child(from.parent, from.name)? != Some(ino) {
            return Err(FsError::NotFound);
        }
        let old = space.path(ino)?;
        let new = space.path(to.parent)?.join(to.name);
        let replaced = space.child(to.parent, to.name)?;
        if space.is_within(to.parent, ino) {
            return Err(FsError::Invalid);
        }
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            if !space.is_dir(replaced)? {
                return Err(FsError::NotDir);
            }
            if !space.entries(replaced)?.is_empty() {
                return Err(FsError::NotEmpty);
            }
        }
        let class = classify_dir(&old);
        if class != classify_dir(&new) || changes_class(&space, ino, &old, &new)? {
            return Err(FsError::CrossClass);
        }
        let mut seq = None;
        match class {
            PathClass::Scratch => {}
            PathClass::ServerLocal | PathClass::Understood => self.local.rename(&old, &new)?,
            PathClass::Committed => {
                self.offer_numbers(&mut space, to.parent, &new)?;
                let op = Op::Rename {
                    from: old.clone(),
                    to: new.clone(),
                };
                seq = Some(self.append(&mut space, &op, &[from.parent, to.parent, ino])?);
                self.local.rmdir(&new)?;
                self.local.rename(&old, &new)?;
            }
        }
        let time = node::now();
        if let Some(replaced) = replaced {
            space.detach(to.parent, to.name, time)?;
            space.reap(replaced);
        }
        let mtime = space.node(ino)?.mtime;
        space.detach(from.parent, from.name, time)?;
        space.attach(to.parent, to.name, ino, time)?;
        space.node_mut(ino)?.mtime = mtime;
        if space.mailbox(ino).is_some() {
            space.mailbox_mut(ino)?.renamed = true;
        }
        drop(space);
        self.settle(seq, false)
    }

    /// Gives a file a second name, and counts a kernel look-up.
    ///
    /// # Errors
    /// As `link(2)`.
    pub fn link(&self, ino: Ino, new_parent: Ino, new_name: &[u8]) -> Result<Stat, FsError> {
        let (stat, pending) = self.begin_link(ino, new_parent, new_name)?;
        self.wait(pending)?;
        Ok(stat)
    }

    /// [`Fs::link`] up to what its answer waits for.
    ///
    /// # Errors
    /// As `link(2)`.
    pub fn begin_link(
        &self,
        ino: Ino,
        new_parent: Ino,
        new_name: &[u8],
    ) -> Result<(Stat, Pending), FsError> {
        self.writable()?;
        self.ensure_loaded(new_parent)?;
        self.before_place(new_parent, new_name)?;
        loop {
            let (dirty, class) = {
                let space = self.space.lock();
                if space.child(new_parent, new_name)?.is_some()
                    || !Self::may_lock(&space, new_parent, new_name)
                {
                    return Err(FsError::Exists);
                }
                if space.is_dir(ino)? {
                    return Err(FsError::NotPermitted);
                }
                let class = classify(&space.path(new_parent)?.join(new_name));
                (space.file(ino)?.dirty, class)
            };
            if dirty {
                self.commit_content(ino)?;
            }
            let sealed = match class {
                PathClass::Committed => Some(self.seal(ino)?),
                _ => None,
            };
            let staged = if is_local(class) {
                self.stage(ino)?
            } else {
                None
            };
            let mut space = self.space.lock();
            if space.child(new_parent, new_name)?.is_some()
                || !Self::may_lock(&space, new_parent, new_name)
            {
                return Err(FsError::Exists);
            }
            let file = space.file(ino)?;
            if file.names.is_empty() {
                return Err(FsError::NotFound);
            }
            if file.dirty
                || sealed
                    .as_ref()
                    .is_some_and(|sealed| sealed.version != file.version)
            {
                continue;
            }
            let new = space.path(new_parent)?.join(new_name);
            let marks = match marks_of_copy(&space, ino, &new)? {
                Some(marks) => marks,
                None => self.marks_of_arrival(&mut space, new_parent, &new)?,
            };
            let mut seq = None;
            let is_delivery = is_message(&new) && !is_held(&space, ino)?;
            match sealed {
                Some(sealed) => {
                    let op = Op::Put {
                        path: new.clone(),
                        oid: sealed.oid,
                        content: sealed.content.clone(),
                        attrs: attrs_of(&space, ino, &marks)?,
                    };
                    let number = self.append(&mut space, &op, &[new_parent, ino])?;
                    let stays_local = self.local_name(&space, ino)?.is_some();
                    adopt(&mut space, ino, sealed, number, stays_local)?;
                    seq = Some(number);
                }
                None if is_local(class) => {
                    if !self.can_enter_local(&space, ino, staged.as_ref())? {
                        continue;
                    }
                    self.enter_local(&mut space, ino, &new, staged)?;
                }
                None => {}
            }
            space.attach(new_parent, new_name, ino, node::now())?;
            self.landed(&mut space, new_parent, &new, &marks);
            space.set_marks(ino, new_parent, new_name, marks);
            if class == PathClass::Understood
                && let Some(number) = self.placed(&mut space, new_parent, new_name)?
            {
                seq = Some(number);
            }
            space.node_mut(ino)?.lookups += 1;
            let stat = self.stat_of(&space, ino)?;
            drop(space);
            return Ok((stat, self.pending(seq, is_delivery)));
        }
    }
}

/// Notes what a rename within a folder changes for its index files.
fn moved_within(space: &mut Space, old: &TreePath, new: &TreePath, dir: Ino, marks: &Marks) {
    let Ok(folder) = space.dir(dir).map(|dir| dir.parent) else {
        return;
    };
    let (from, to) = (old.name(), new.name());
    if name::stem(from) != name::stem(to) || name::courier(from) != name::courier(to) {
        Fs::records_changed(space, folder, Event::Names);
    }
    if marks.uid > 0 && old.parent() != new.parent() {
        Fs::records_changed(space, folder, Event::Cur);
    }
    let letters = |of| {
        name::flags(of)
            .iter()
            .filter(|letter| letter.is_ascii_lowercase())
    };
    if !letters(from).eq(letters(to)) {
        Fs::records_changed(space, folder, Event::Letters);
    }
}

/// Whether anything in a directory would be of another class under the directory's new path. What lies deeper follows what lies in it.
fn changes_class(space: &Space, dir: Ino, old: &TreePath, new: &TreePath) -> Result<bool, FsError> {
    let (old, new) = (place(old), place(new));
    if old == new {
        return Ok(false);
    }
    for (name, child) in space.entries(dir)?.iter() {
        let changes = if space.is_dir(child)? {
            old.dir(name) != new.dir(name) || old.below(name) != new.below(name)
        } else {
            old.file(name) != new.file(name)
        };
        if changes {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Default)]
struct Done {
    seq: Option<u64>,
    delivery: bool,
}

/// Whether the path is a message's: in `cur` or `new`.
fn is_message(path: &TreePath) -> bool {
    path.folder().is_some()
}

fn is_same_folder(old: &TreePath, new: &TreePath) -> bool {
    is_message(old) && old.folder() == new.folder()
}

/// What a link at `new` has in common with another name of the file: all, where it is the same message in the same folder (a program that
/// moves a message by link and unlink). `None`: it is a new message.
fn marks_of_copy(space: &Space, ino: Ino, new: &TreePath) -> Result<Option<Marks>, FsError> {
    for link in &space.file(ino)?.names {
        let old = space.path(link.parent)?.join(&link.name);
        if is_same_folder(&old, new) && name::identity(old.name()) == name::identity(new.name()) {
            return Ok(Some(link.marks.clone()));
        }
    }
    Ok(None)
}

/// Whether the file is a message already, in whatever folder: then another name of it is a copy and no delivery. A copy need not wait for the disk: records reach
/// it in order, so an expunge of the original is never durable without the copy, and a crash leaves the one or both.
fn is_held(space: &Space, ino: Ino) -> Result<bool, FsError> {
    for link in &space.file(ino)?.names {
        if is_message(&space.path(link.parent)?.join(&link.name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a rename makes a message appear in a folder: a flag change does not, a move from another folder does.
fn is_arrival(old: &TreePath, new: &TreePath) -> bool {
    is_message(new)
        && !(is_same_folder(old, new) && name::identity(old.name()) == name::identity(new.name()))
}
