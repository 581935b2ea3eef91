//! Keyword letters that wait, and names that Courier remembers.
//!
//! What Courier says of keywords waits in an attribute, because it must not find its messages renamed
//! ([`crate::maildir::translate::keywords`]). When Dovecot takes the folder's lock, it is about to read file names: then they are written out. A Courier
//! that has the folder open at that moment goes on under the names it remembers, which are good for as long as they stand for nothing else. So does one that
//! changes a flag and gives a name without the letters, which we keep: it deletes a message only if it finds it under the name it gave.

use hashbrown::HashSet;
use log::warn;

use super::super::node::{Ino, Name};
use super::super::space::Space;
use super::super::{Fs, FsError, attrs_of};
use super::{DOVECOT_LOCK, KEYWORD_DIR};
use crate::maildir::translate::keywords;
use crate::maildir::translate::uids::Read;
use crate::maildir::{Op, hidden};

/// Former names are remembered up to this many a folder; a Courier that has slept longer finds its messages by itself, with a flag lost.
const FORMER_MAX: usize = 10_000;

impl Fs {
    /// A file was made. If it is Dovecot's lock, letters that wait are written out; what goes wrong is logged, the lock is taken.
    pub(in super::super) fn locked(&self, folder: Ino, name: &[u8]) {
        if name == DOVECOT_LOCK
            && let Err(error) = self
                .load_messages(folder)
                .and_then(|()| self.write_letters(folder))
        {
            let path = self.space.lock().path(folder).unwrap_or_default();
            warn!("{path}: keyword letters wait on: {error}");
        }
    }

    /// Writes out the letters that wait. Messages are loaded.
    fn write_letters(&self, folder: Ino) -> Result<(), FsError> {
        let waits = {
            let space = self.space.lock();
            space
                .mailbox(folder)
                .is_some_and(|mailbox| !mailbox.letters.is_empty())
        };
        if !waits {
            return Ok(());
        }
        let mut space = self.space.lock();
        let waiting: HashSet<Ino> = std::mem::take(&mut space.mailbox_mut(folder)?.letters);
        for ino in waiting {
            let places: Vec<(Ino, Name)> = match space.file(ino) {
                Ok(file) => file
                    .names
                    .iter()
                    .filter(|link| link.marks.ext.contains_key(&hidden::KEYWORDS))
                    .filter(|link| space.dir(link.parent).is_ok_and(|dir| dir.parent == folder))
                    .map(|link| (link.parent, Name::clone(&link.name)))
                    .collect(),
                // Expunged meanwhile.
                Err(_) => continue,
            };
            for (dir, name) in places {
                self.write_letters_of(&mut space, folder, (dir, &name), ino)?;
            }
        }
        Ok(())
    }

    fn write_letters_of(
        &self,
        space: &mut Space,
        folder: Ino,
        (dir, name): (Ino, &Name),
        ino: Ino,
    ) -> Result<(), FsError> {
        let mut marks = space.marks(ino, dir, name);
        let Some(letters) = marks.ext.remove(&hidden::KEYWORDS) else {
            return Ok(());
        };
        let to = keywords::written_out(name, &letters);
        let path = space.path(dir)?;
        let mut ops = Vec::new();
        if to != **name {
            if space.child(dir, &to)?.is_some() {
                return Ok(());
            }
            ops.push(Op::Rename {
                from: path.join(name),
                to: path.join(&to),
            });
        }
        ops.push(Op::SetAttrs {
            path: path.join(&to),
            attrs: attrs_of(space, ino, &marks)?,
        });
        let promised = Vec::new();
        self.take(space, folder, Read { ops, promised })?;
        Self::known_as(space, dir, name, ino)
    }

    /// Courier remembers a message of `dir` by this name, which it does not have.
    pub(in super::super) fn known_as(
        space: &mut Space,
        dir: Ino,
        name: &[u8],
        ino: Ino,
    ) -> Result<(), FsError> {
        let folder = space.dir(dir)?.parent;
        let mailbox = space.mailbox_mut(folder)?;
        if mailbox.former.len() >= FORMER_MAX {
            mailbox.former.clear();
        }
        mailbox.former.insert(Name::from(name), ino);
        Ok(())
    }

    /// The name that a message has now, where Courier asks for one it had before its letters were written out, or gave it without them.
    pub(in super::super) fn present_name(space: &Space, dir: Ino, name: &[u8]) -> Option<Name> {
        let body = space.dir(dir).ok()?;
        let mailbox = space.mailbox(body.parent)?;
        let ino = *mailbox.former.get(name)?;
        if space.child(dir, name).ok()?.is_some() {
            return None;
        }
        let folder_has = |name: &[u8]| {
            space
                .child(body.parent, name)
                .is_ok_and(|found| found.is_some())
        };
        if !folder_has(KEYWORD_DIR) || folder_has(DOVECOT_LOCK) {
            return None;
        }
        let file = space.file(ino).ok()?;
        let link = file.names.iter().find(|link| link.parent == dir)?;
        Some(Name::clone(&link.name))
    }
}
