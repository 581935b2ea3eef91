//! Courier's own: keywords by message, subscriptions, and flags that must not lose letters.

use super::super::node::{self, Content, Ino, Name, Node};
use super::super::space::Space;
use super::super::{Fs, FsError};
use super::mailbox::State;
use super::records::Records;
use super::{Index, KEYWORD_DIR, SUBSCRIBED, SUBSCRIPTIONS};
use crate::limits;
use crate::maildir::codec::courier_keywords::{self, FileName};
use crate::maildir::codec::courier_subscribed::Subscribed;
use crate::maildir::codec::courier_uiddb::Uiddb;
use crate::maildir::codec::subscriptions::Subscriptions;
use crate::maildir::translate::uids::{self, Read};
use crate::maildir::translate::{keywords, subscriptions};
use crate::maildir::{self, Attrs, Oid, Op};

/// What Courier subtracts from the time for a new UIDVALIDITY (`IMAP_EPOCH`).
const COURIER_EPOCH: i64 = 1_000_000_000;

impl Fs {
    /// Courier has written the keywords of one message.
    pub(super) fn read_keyword_update(
        &self,
        space: &mut Space,
        folder: Ino,
        file_name: &[u8],
    ) -> Result<Option<u64>, FsError> {
        let FileName::Update(message) = courier_keywords::file_name(file_name) else {
            return Ok(None);
        };
        let path = space.path(folder)?.join(KEYWORD_DIR).join(file_name);
        let bytes = self.read_local(&path, 0)?;
        space.mailbox_mut(folder)?;
        let Some(mailbox) = space.mailbox(folder) else {
            return Ok(None);
        };
        let view = Records::new(space, folder, mailbox)?;
        let ops = courier_keywords::parse_update(&bytes)
            .and_then(|set| keywords::courier_update(&view, message, &set));
        match ops {
            Ok(ops) => {
                let promised = Vec::new();
                self.take(space, folder, Read { ops, promised })
            }
            Err(bad) => {
                self.refuse(space, folder, Index::KeywordUpdate, &bad)?;
                Ok(None)
            }
        }
    }

    /// The folder was renamed and Courier deleted its UIDs: no UID of before means anything, and UIDVALIDITY is what Courier would choose, or the
    /// next one where that would not be greater.
    pub(super) fn begin_anew(&self, space: &mut Space, folder: Ino) -> Result<(), FsError> {
        let Some(mailbox) = space.mailbox(folder).filter(|mailbox| mailbox.begins_anew) else {
            return Ok(());
        };
        let by_time = u32::try_from(node::now().0 - COURIER_EPOCH).unwrap_or(0);
        let uid_validity = by_time.max(mailbox.facts.uid_validity.saturating_add(1));
        let empty = Uiddb {
            uid_validity,
            header_uid_next: 1,
            records: Vec::new(),
        };
        let view = Records::new(space, folder, mailbox)?;
        let read = uids::uiddb(&view, &empty).unwrap_or_default();
        self.take(space, folder, read)?;
        let mailbox = space.mailbox_mut(folder)?;
        (mailbox.renamed, mailbox.begins_anew) = (false, false);
        Ok(())
    }

    /// The name a message really gets, where Courier renames it for a flag and would drop its keyword letters: Dovecot renames under its lock, so a
    /// rename without it, in a folder that Courier uses, is Courier's.
    pub(in super::super) fn kept_letters(
        space: &Space,
        parent: Ino,
        from: &[u8],
        to: &[u8],
    ) -> Option<Vec<u8>> {
        let kept = keywords::kept_through_flags(from, to)?;
        let folder = space.dir(parent).ok()?.parent;
        let has = |name: &[u8]| space.child(folder, name).is_ok_and(|found| found.is_some());
        (has(KEYWORD_DIR) && !has(super::DOVECOT_LOCK)).then_some(kept)
    }

    /// The blob of the folder's `subscriptions`; `None` where it has none.
    pub(super) fn subscriptions_oid(space: &Space, folder: Ino) -> Option<Oid> {
        let ino = space.child(folder, SUBSCRIPTIONS).ok()??;
        space.file(ino).ok()?.oid
    }

    /// Courier has written its subscriptions: the record is Dovecot's file.
    pub(super) fn read_subscribed(
        &self,
        space: &mut Space,
        folder: Ino,
    ) -> Result<Option<u64>, FsError> {
        let bytes = self.bytes_of(space, folder, Index::Subscribed)?;
        let subscribed = match Subscribed::parse(&bytes) {
            Ok(subscribed) => subscribed,
            Err(bad) => {
                self.refuse(space, folder, Index::Subscribed, &bad)?;
                return Ok(None);
            }
        };
        let record = subscriptions::from_courier(&subscribed).encode();
        let seq = self.put_subscriptions(space, folder, record)?;
        let source = Self::subscriptions_oid(space, folder);
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(Index::Subscribed) {
            view.state = State::Agrees;
            view.written = None;
            view.source = source;
        }
        Ok(seq)
    }

    /// Replaces `subscriptions`, with a new inode.
    fn put_subscriptions(
        &self,
        space: &mut Space,
        folder: Ino,
        content: Vec<u8>,
    ) -> Result<Option<u64>, FsError> {
        let oid = self.backing.hash(&content);
        if Self::subscriptions_oid(space, folder) == Some(oid) {
            return Ok(None);
        }
        if content.len() > limits::INLINE_MAX {
            log::warn!(
                "a list of subscriptions is too long: {} bytes",
                content.len()
            );
            return Ok(None);
        }
        let path = space.path(folder)?.join(SUBSCRIPTIONS);
        let time = node::now();
        let attrs = Attrs {
            mtime: time.0,
            size: content.len() as u64,
            ..Attrs::default()
        };
        let op = Op::Put {
            path,
            oid,
            content: maildir::Content::Inline(content),
            attrs: attrs.clone(),
        };
        let seq = self.append(space, &op, &[folder])?;
        if space.child(folder, SUBSCRIPTIONS)?.is_some() {
            self.drop_name(space, folder, SUBSCRIPTIONS)?;
        }
        let mut file = Node::file(Content::Pending(seq), Some(oid), attrs.size, time);
        file.last_seq = seq;
        let ino = space.add(file);
        space.pending.push_back((seq, ino));
        space.attach(folder, SUBSCRIPTIONS, ino, time)?;
        self.stale_name(folder, SUBSCRIPTIONS);
        Ok(Some(seq))
    }

    /// Makes `courierimapsubscribed` from `subscriptions`, where that is another one than it was made from or turned into.
    pub(super) fn show_subscribed(&self, folder: Ino) -> Result<(), FsError> {
        let (ino, source, there) = {
            let space = self.space.lock();
            let Some(ino) = space.child(folder, SUBSCRIPTIONS)? else {
                return Ok(());
            };
            (ino, space.file(ino)?.oid, space.child(folder, SUBSCRIBED)?)
        };
        let Ok(record) = Subscriptions::parse(&self.read_all(ino)?) else {
            // Dovecot's to say.
            return Ok(());
        };
        let shown = subscriptions::to_courier(&record).encode();
        let mut space = self.space.lock();
        if space.child(folder, SUBSCRIPTIONS)? != Some(ino) || space.file(ino)?.oid != source {
            return Ok(());
        }
        let same = there.is_some() && self.bytes_of(&space, folder, Index::Subscribed)? == shown;
        if !same {
            self.install(&mut space, folder, SUBSCRIBED, &shown, node::now())?;
        }
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(Index::Subscribed) {
            view.forget();
            view.state = State::Agrees;
            view.source = source;
        }
        Ok(())
    }

    /// Removes the keyword updates of single messages: they are in the records, and would hide a list that is made anew.
    pub(super) fn drop_updates(&self, space: &mut Space, dir: Ino) -> Result<(), FsError> {
        let updates: Vec<Name> = space
            .entries(dir)?
            .iter()
            .map(|(name, _)| name)
            .filter(|name| {
                let meaning = courier_keywords::file_name(name);
                matches!(meaning, FileName::Update(_) | FileName::Gathered { .. })
            })
            .map(Name::from)
            .collect();
        for name in updates {
            let ino = space.child(dir, &name)?.ok_or(FsError::NotFound)?;
            let path = space.path(dir)?.join(&name);
            self.leave_local(space, ino, &path)?;
            self.drop_name(space, dir, &name)?;
            self.stale_name(dir, &name);
        }
        Ok(())
    }
}
