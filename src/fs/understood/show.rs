//! Making an index file from the records.

use std::sync::Arc;

use super::super::node::{self, Content, Ino, Listing, Name, Node, Time};
use super::super::resting::Names;
use super::super::space::Space;
use super::super::{Fs, FsError};
use super::mailbox::State;
use super::records::Records;
use super::{Index, KEYWORD_DIR, UIDVALIDITY};
use crate::maildir::codec::uidlist::Tail;
use crate::maildir::codec::{courier_keywords, uidvalidity};
use crate::maildir::translate::show;

impl Fs {
    /// Makes a file say what the records say; one that was not looked at since the mount is compared first. Messages are loaded.
    pub(super) fn show(&self, space: &mut Space, folder: Ino, index: Index) -> Result<(), FsError> {
        if index == Index::KeywordDir {
            return self.show_keyword_dir(space, folder);
        }
        let there = Self::is_there(space, folder, index);
        let state = space
            .mailbox(folder)
            .and_then(|mailbox| mailbox.view(index))
            .map_or(State::Unread, |view| view.state);
        if there && state == State::Unread {
            self.catch_up(space, folder, index)?;
            if self.is_ready(space, folder, index) {
                return Ok(());
            }
        }
        let Some(mailbox) = space.mailbox(folder) else {
            return Ok(());
        };
        let mut tail: Option<Tail> = None;
        let bytes = match index {
            Index::Uidlist => show::uidlist(&Records::new(space, folder, mailbox)?).map(|list| {
                tail = Some(list.tail());
                list.encode()
            }),
            Index::Uiddb => {
                show::uiddb(&Records::new(space, folder, mailbox)?).map(|db| db.encode())
            }
            Index::Keywords => show::keywords(&mailbox.facts).map(|keywords| keywords.encode()),
            Index::KeywordList => {
                let list = show::keyword_list(&Records::new(space, folder, mailbox)?);
                // No file means no keywords, but an old file must not say otherwise.
                Some(list.unwrap_or_default().encode())
            }
            Index::Uidvalidity | Index::Companion(_) => {
                let issued = mailbox.facts.uid_validity_issued;
                return self.show_issued(space, folder, issued);
            }
            Index::KeywordDir | Index::KeywordUpdate | Index::Subscribed => return Ok(()),
        };
        let Some(bytes) = bytes else {
            return Ok(());
        };
        let Some((dir, old)) = Self::place(space, folder, index) else {
            return Ok(());
        };
        if index == Index::KeywordList {
            if bytes.is_empty() && old.is_none() {
                return Ok(());
            }
            self.drop_updates(space, dir)?;
        }
        // Dovecot reads its keywords again only in another second.
        let mut mtime = node::now();
        if let Some(old) = old.filter(|_| index == Index::Keywords) {
            mtime.0 = mtime.0.max(space.node(old)?.mtime.0 + 1);
        }
        self.install(space, dir, index.name(), &bytes, mtime)?;
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(index) {
            view.forget();
            view.state = State::Agrees;
            view.tail = tail.map(|tail| (bytes.len() as u64, tail));
        }
        if index == Index::Uidlist {
            space.mailbox_mut(folder)?.uidlist_is_new();
        }
        Ok(())
    }

    /// `courierimapkeywords/`, where there are keywords: Courier looks into it before it would make it.
    fn show_keyword_dir(&self, space: &mut Space, folder: Ino) -> Result<(), FsError> {
        let has_keywords = space
            .mailbox(folder)
            .is_some_and(|mailbox| !mailbox.facts.keywords.is_empty());
        if !has_keywords || space.child(folder, KEYWORD_DIR)?.is_some() {
            return Ok(());
        }
        let path = space.path(folder)?.join(KEYWORD_DIR);
        self.local.mkdir(&path)?;
        let time = node::now();
        let entries = Listing::Loaded(Names::default());
        let dir = space.add(Node::dir(folder, Name::from(KEYWORD_DIR), entries, time));
        space.attach(folder, KEYWORD_DIR, dir, time)
    }

    /// `dovecot-uidvalidity` and its one companion.
    fn show_issued(&self, space: &mut Space, folder: Ino, issued: u32) -> Result<(), FsError> {
        if issued == 0 {
            return Ok(());
        }
        let companion = uidvalidity::companion(issued);
        let others: Vec<Name> = space
            .entries(folder)?
            .iter()
            .map(|(name, _)| name)
            .filter(|name| uidvalidity::parse_companion(name).is_some() && **name != *companion)
            .map(Name::from)
            .collect();
        for name in others {
            let ino = space.child(folder, &name)?.ok_or(FsError::NotFound)?;
            let path = space.path(folder)?.join(&name);
            self.leave_local(space, ino, &path)?;
            self.drop_name(space, folder, &name)?;
        }
        if space.child(folder, &companion)?.is_none() {
            self.install(space, folder, &companion, b"", node::now())?;
        }
        let main = uidvalidity::encode(issued);
        self.install(space, folder, UIDVALIDITY, &main, node::now())?;
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(Index::Uidvalidity) {
            view.forget();
            view.state = State::Agrees;
        }
        Ok(())
    }

    /// Puts a file of the local tree in place, with an inode of its own. Whoever has the old one open goes on reading it.
    pub(super) fn install(
        &self,
        space: &mut Space,
        dir: Ino,
        name: &[u8],
        bytes: &[u8],
        mtime: Time,
    ) -> Result<(), FsError> {
        let path = space.path(dir)?.join(name);
        if let Some(old) = space.child(dir, name)? {
            self.leave_local(space, old, &path)?;
            self.drop_name(space, dir, name)?;
        }
        let open = self.local.write(&path, bytes)?;
        let since = std::time::Duration::new(mtime.0.max(0) as u64, mtime.1);
        open.set_modified(std::time::UNIX_EPOCH + since)?;
        let content = Content::Local(Some(Arc::new(open)));
        let file = Node::file(content, None, bytes.len() as u64, mtime);
        let ino = space.add(file);
        space.attach(dir, name, ino, mtime)?;
        if name == courier_keywords::LIST {
            self.stale_name(dir, name);
        }
        Ok(())
    }
}
