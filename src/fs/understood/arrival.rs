//! UIDs where the mail lands, and the locks of those who give UIDs themselves.

use std::os::unix::fs::FileExt as _;

use log::warn;

use super::super::node::{self, Content, Ino, Marks, Name};
use super::super::space::Space;
use super::super::{Fs, FsError};
use super::mailbox::{Event, State};
use super::{COURIER_LOCK, DOVECOT_LOCK, Index, UIDDB, UIDLIST};
use crate::limits;
use crate::maildir::codec::uidlist::Record;
use crate::maildir::{TreePath, name};

/// Greatest UID that can be given (2³²−1 is Dovecot's "none").
const UID_MAX: u32 = u32::MAX - 1;

impl Fs {
    /// What belongs to a message that lands at `path`, in the directory `dir`: its UID, where it is ours to give. To be recorded with the message, and
    /// [`Fs::landed`] to be called once it is.
    pub(in super::super) fn marks_of_arrival(
        &self,
        space: &mut Space,
        dir: Ino,
        path: &TreePath,
    ) -> Result<Marks, FsError> {
        let Some(folder) = Self::folder_of(space, dir, path) else {
            return Ok(Marks::default());
        };
        let is_couriers = Self::is_new_to_courier(space, folder, path);
        if !self.options.assign_uids || is_couriers || self.is_locked(space, folder) {
            return Ok(Marks::default());
        }
        // Somebody may have appended without a lock.
        self.read_written(space, folder, false)?;
        let uid = space.mailbox_mut(folder)?.facts.uid_next.max(1);
        if uid > UID_MAX {
            warn!("{}: no UID is left", space.path(folder)?);
            return Ok(Marks::default());
        }
        Ok(Marks {
            uid,
            ..Marks::default()
        })
    }

    /// Whether a message that lands at `path` is Courier's to number: it gives whatever it finds in `new/` a UID of its own, so that one given here would be lost
    /// with its first look. Its file is there once it has looked for it.
    fn is_new_to_courier(space: &Space, folder: Ino, path: &TreePath) -> bool {
        let lands_in_new = path.parent().is_some_and(|dir| dir.name() == b"new");
        lands_in_new
            && space
                .child(folder, UIDDB)
                .is_ok_and(|uiddb| uiddb.is_some())
    }

    /// A message has landed with these marks, which its record has.
    pub(in super::super) fn landed(
        &self,
        space: &mut Space,
        dir: Ino,
        path: &TreePath,
        marks: &Marks,
    ) {
        let Some(folder) = Self::folder_of(space, dir, path) else {
            return;
        };
        let Ok(mailbox) = space.mailbox_mut(folder) else {
            return;
        };
        if marks.uid == 0 {
            mailbox.waits(name::stem(path.name()), dir, Name::from(path.name()));
            return;
        }
        let may_add = mailbox.may_add(name::stem(path.name()));
        mailbox.raise_uid_next(marks.uid);
        mailbox.changed(Event::Uids);
        if may_add {
            let record = Record {
                uid: marks.uid,
                ext: marks.ext.clone(),
                name: name::stem(path.name()).to_vec(),
            };
            match self.append_line(space, folder, &record) {
                Ok(true) => {
                    if let Ok(mailbox) = space.mailbox_mut(folder)
                        && let Some(view) = mailbox.view_mut(Index::Uidlist)
                    {
                        view.state = State::Agrees;
                    }
                }
                Ok(false) => {}
                // It is behind, and made anew when somebody looks for it.
                Err(error) => warn!("{path}: its line could not be added to the uidlist: {error}"),
            }
        }
    }

    /// A message is about to leave its folder, or to be replaced there.
    pub(in super::super) fn departs(space: &mut Space, dir: Ino, file_name: &[u8]) {
        let Ok(Some(ino)) = space.child(dir, file_name) else {
            return;
        };
        let folder = match space.dir(dir) {
            Ok(dir) if matches!(&*dir.name, b"cur" | b"new") => dir.parent,
            _ => return,
        };
        if space.marks(ino, dir, file_name).uid > 0
            && space.mailbox(folder).is_some()
            && let Ok(mailbox) = space.mailbox_mut(folder)
        {
            mailbox.leaves(name::stem(file_name));
        }
    }

    /// Adds a record's line to a true uidlist, in place, as Dovecot does. `false` where that is not possible.
    fn append_line(
        &self,
        space: &mut Space,
        folder: Ino,
        record: &Record,
    ) -> Result<bool, FsError> {
        let Some(ino) = space.child(folder, UIDLIST)? else {
            return Ok(false);
        };
        let size = space.file(ino)?.size;
        let mut line = Vec::new();
        record.encode_into(&mut line);
        let Some(view) = space.mailbox_mut(folder)?.view_mut(Index::Uidlist) else {
            return Ok(false);
        };
        let Some((length, mut tail)) = view.tail else {
            return Ok(false);
        };
        if length != size || line.is_empty() || record.uid <= tail.last_uid {
            return Ok(false);
        }
        tail.lines += 1;
        tail.last_uid = record.uid;
        view.tail = Some((length + line.len() as u64, tail));
        let open = match &space.file(ino)?.content {
            Content::Local(Some(open)) => std::sync::Arc::clone(open),
            _ => {
                let path = space.path(folder)?.join(UIDLIST);
                std::sync::Arc::new(self.local.open(&path)?)
            }
        };
        open.write_all_at(&line, length)?;
        let now = node::now();
        let node = space.node_mut(ino)?;
        (node.mtime, node.ctime) = (now, now);
        let file = space.file_mut(ino)?;
        file.content = Content::Local(Some(open));
        file.size = length + line.len() as u64;
        file.version = file.version.wrapping_add(1);
        Ok(true)
    }

    /// The folder whose message lies at `path`, if it has UIDs.
    fn folder_of(space: &Space, dir: Ino, path: &TreePath) -> Option<Ino> {
        path.folder()?;
        let folder = space.dir(dir).ok()?.parent;
        let mailbox = space.mailbox(folder)?;
        (mailbox.facts.uid_validity != 0).then_some(folder)
    }

    /// Whether a server holds the folder.
    pub(in super::super) fn is_locked(&self, space: &Space, folder: Ino) -> bool {
        Self::holds_dovecot(space, folder) || Self::holds_courier(space, folder)
    }

    /// Whether a lock may be taken: the other server's must be free. A server that finds the lock taken waits and tries again.
    pub(in super::super) fn may_lock(space: &Space, parent: Ino, name: &[u8]) -> bool {
        match name {
            DOVECOT_LOCK => !Self::holds_courier(space, parent),
            COURIER_LOCK => {
                let folder = space.dir(parent).map_or(0, |tmp| tmp.parent);
                !Self::holds_dovecot(space, folder)
            }
            _ => true,
        }
    }

    pub(super) fn holds_dovecot(space: &Space, folder: Ino) -> bool {
        Self::holds(space, folder, DOVECOT_LOCK)
    }

    pub(super) fn holds_courier(space: &Space, folder: Ino) -> bool {
        let tmp = space.child(folder, b"tmp").ok().flatten();
        tmp.is_some_and(|tmp| Self::holds(space, tmp, COURIER_LOCK))
    }

    fn holds(space: &Space, dir: Ino, lock: &[u8]) -> bool {
        let ino = space.child(dir, lock).ok().flatten();
        ino.and_then(|ino| space.node(ino).ok())
            .is_some_and(|node| node::now().0 - node.mtime.0 < limits::LOCK_STALE.as_secs() as i64)
    }
}
