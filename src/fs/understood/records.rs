//! A folder of the live tree as the translations see it.

use std::borrow::Cow;
use std::cell::OnceCell;

use hashbrown::HashMap;

use super::super::node::{Ino, Marks, Name};
use super::super::space::Space;
use super::super::{FsError, attrs_of};
use super::Mailbox;
use crate::maildir::translate::{Folder, Message};
use crate::maildir::{MailboxFacts, TreePath, name};

/// A folder whose `cur` and `new` are loaded (what is not, counts as empty).
pub struct Records<'a> {
    space: &'a Space,
    path: TreePath,
    mailbox: &'a Mailbox,
    /// `cur` and `new`, where they are there.
    dirs: Vec<(Ino, TreePath)>,
    /// Messages by stem, made when something is asked that [`Mailbox::waiting`] does not answer.
    index: OnceCell<ByStem>,
}

type ByStem = HashMap<Vec<u8>, Vec<(Ino, Name)>>;

impl<'a> Records<'a> {
    /// The folder's records.
    ///
    /// # Errors
    /// Where the folder is gone.
    pub fn new(space: &'a Space, folder: Ino, mailbox: &'a Mailbox) -> Result<Self, FsError> {
        let path = space.path(folder)?;
        let mut dirs = Vec::new();
        for name in [&b"cur"[..], b"new"] {
            if let Some(dir) = space.child(folder, name)?
                && space.entries(dir).is_ok()
            {
                dirs.push((dir, path.join(name)));
            }
        }
        Ok(Self {
            space,
            path,
            mailbox,
            dirs,
            index: OnceCell::new(),
        })
    }

    fn message(&self, dir: Ino, file_name: &[u8]) -> Option<Message> {
        let (_, dir_path) = self.dirs.iter().find(|(ino, _)| *ino == dir)?;
        let ino = self.space.child(dir, file_name).ok()??;
        let marks = self.space.marks(ino, dir, file_name);
        Some(Message {
            path: dir_path.join(file_name),
            attrs: attrs_of(self.space, ino, &marks).ok()?,
        })
    }

    /// Name and marks of every message, not copied: what a large folder is compared by.
    pub fn marked(&self) -> impl Iterator<Item = (&[u8], Cow<'_, Marks>)> {
        self.inodes()
            .filter_map(|(dir, name, ino)| Some((name, self.space.find_marks(ino, dir, name)?)))
    }

    fn all(&self) -> impl Iterator<Item = (Ino, &[u8])> {
        self.inodes().map(|(dir, name, _)| (dir, name))
    }

    fn inodes(&self) -> impl Iterator<Item = (Ino, &[u8], Ino)> {
        self.dirs.iter().flat_map(|(dir, _)| {
            let entries = self.space.entries(*dir).ok();
            entries
                .into_iter()
                .flat_map(|entries| entries.iter())
                .filter(|(name, _)| name.first() != Some(&b'.'))
                .map(|(name, ino)| (*dir, name, ino))
        })
    }
}

impl Folder for Records<'_> {
    fn path(&self) -> &TreePath {
        &self.path
    }

    fn facts(&self) -> &MailboxFacts {
        &self.mailbox.facts
    }

    fn with_stem(&self, stem: &[u8]) -> Vec<Message> {
        if self.index.get().is_none()
            && let Some((dir, file_name)) = self.mailbox.waiting.get(stem)
            && let Some(message) = self.message(*dir, file_name)
        {
            return vec![message];
        }
        let index = self.index.get_or_init(|| {
            let mut index = ByStem::new();
            for (dir, file_name) in self.all() {
                let places = index.entry(name::stem(file_name).to_vec()).or_default();
                places.push((dir, Name::from(file_name)));
            }
            index
        });
        let places = index.get(stem).map_or(&[][..], |places| places);
        places
            .iter()
            .filter_map(|(dir, file_name)| self.message(*dir, file_name))
            .collect()
    }

    fn messages(&self) -> Vec<Message> {
        self.all()
            .filter_map(|(dir, file_name)| self.message(dir, file_name))
            .collect()
    }
}
