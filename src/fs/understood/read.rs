//! What a server wrote, into the records.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use log::warn;

use super::super::live::Stale;
use super::super::node::{self, Ino, Marks};
use super::super::space::Space;
use super::super::{Fs, FsError};
use super::mailbox::{Event, State};
use super::parsed::Parsed;
use super::records::Records;
use super::{Index, KEYWORD_DIR, UIDLIST};
use crate::maildir::codec::courier_keywords;
use crate::maildir::codec::uidlist::Record;
use crate::maildir::codec::{Fault, Malformed, uidvalidity};
use crate::maildir::translate::uids::{self, Appended, Read};
use crate::maildir::translate::{Folder as _, show};
use crate::maildir::{Attrs, MailboxFacts, Op, TreePath, hidden, name};

impl Fs {
    /// Reads all of a folder's files that were written and not read. Messages are loaded. `now`: a first uidlist does not wait for messages. Returns the last
    /// record appended.
    pub(super) fn read_written(
        &self,
        space: &mut Space,
        folder: Ino,
        now: bool,
    ) -> Result<Option<u64>, FsError> {
        let mut last = self.read_tail(space, folder)?;
        for index in [
            Index::Uidlist,
            Index::Keywords,
            Index::Uidvalidity,
            Index::Uiddb,
            Index::KeywordList,
            Index::Subscribed,
        ] {
            let mailbox = space.mailbox(folder);
            let written = mailbox.and_then(|mailbox| mailbox.view(index)?.written);
            if written.is_some()
                && let Some(seq) = self.read_whole(space, folder, (index, b""), now)?
            {
                last = Some(seq);
            }
        }
        if !space
            .mailbox(folder)
            .is_some_and(super::Mailbox::is_written)
        {
            space.written.remove(&folder);
        }
        Ok(last)
    }

    /// Reads what was appended to a uidlist, if that is all that was written.
    fn read_tail(&self, space: &mut Space, folder: Ino) -> Result<Option<u64>, FsError> {
        let Some(mailbox) = space.mailbox(folder) else {
            return Ok(None);
        };
        let Some(view) = mailbox.view(Index::Uidlist) else {
            return Ok(None);
        };
        let (Some(from), Some((length, mut tail)), state) = (view.written, view.tail, view.state)
        else {
            return Ok(None);
        };
        let Some(ino) = space.child(folder, UIDLIST)? else {
            return Ok(None);
        };
        let size = space.file(ino)?.size;
        if from < length || size < length || state == State::Refused {
            return Ok(None);
        }
        let bytes = self.read_local(&space.path(folder)?.join(UIDLIST), length)?;
        let lines = tail.lines;
        let found = tail.parse(&bytes).and_then(|records| {
            let view = Records::new(space, folder, mailbox);
            let tail = Appended {
                lines,
                records: &records,
            };
            let read =
                view.map_or_else(|_| Ok(Read::default()), |view| uids::appended(&view, tail));
            read.map(|read| (read, records))
        });
        let (read, records) = match found {
            Ok(found) => found,
            Err(bad) => {
                self.refuse(space, folder, Index::Uidlist, &bad)?;
                return Ok(None);
            }
        };
        let seq = self.take(space, folder, read)?;
        let agrees = state == State::Agrees && Self::says(space, folder, &records)?;
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(Index::Uidlist) {
            view.tail = Some((length + bytes.len() as u64, tail));
            view.written = None;
            view.state = if agrees { State::Agrees } else { State::Behind };
        }
        Ok(seq)
    }

    /// Whether the records say of these messages what the file says.
    fn says(space: &Space, folder: Ino, records: &[Record]) -> Result<bool, FsError> {
        let Some(mailbox) = space.mailbox(folder) else {
            return Ok(false);
        };
        let view = Records::new(space, folder, mailbox)?;
        let mut next = mailbox.facts.uid_next;
        Ok(records.iter().all(|record| {
            next = next.max(record.uid.saturating_add(1));
            view.with_stem(name::stem(&record.name))
                .iter()
                .all(|found| {
                    found.attrs.uid == Some(record.uid) && show::fields(found) == record.ext
                })
        }) && next == mailbox.facts.uid_next)
    }

    /// Reads a whole file that a server wrote: `(what it is, its name)`. `now`: a folder's first uidlist does not wait for messages.
    pub(super) fn read_whole(
        &self,
        space: &mut Space,
        folder: Ino,
        (index, file_name): (Index, &[u8]),
        now: bool,
    ) -> Result<Option<u64>, FsError> {
        match index {
            Index::KeywordDir => return Ok(None),
            Index::Subscribed => return self.read_subscribed(space, folder),
            Index::KeywordUpdate => return self.read_keyword_update(space, folder, file_name),
            Index::Companion(number) => return self.issued(space, folder, number),
            _ => {}
        }
        let bytes = self.bytes_of(space, folder, index)?;
        if index == Index::Uidvalidity {
            return match uidvalidity::parse(&bytes) {
                Ok(number) => self.issued(space, folder, number),
                Err(bad) => self.refuse(space, folder, index, &bad).map(|()| None),
            };
        }
        let Some(parsed) = Parsed::parse(index, &bytes) else {
            return Ok(None);
        };
        let first = space.mailbox_mut(folder)?.facts.uid_validity == 0;
        if let Ok(parsed) = &parsed {
            self.issue_offer(space, folder, parsed)?;
        }
        let mut agrees = None;
        let found = parsed.and_then(|parsed| {
            let read = Self::with_records(space, folder, |view| {
                if parsed.is_no_news(view) {
                    agrees = Some(true);
                    return Ok(Read::default());
                }
                parsed.news(view)
            });
            read.map(|read| (parsed, read))
        });
        match found {
            Err(bad) => self.refuse(space, folder, index, &bad).map(|()| None),
            Ok((_, read)) if first && !now && !read.promised.is_empty() => {
                if let Some(view) = space.mailbox_mut(folder)?.view_mut(index) {
                    view.written = Some(0);
                }
                space.written.insert(folder);
                Ok(None)
            }
            Ok((parsed, read)) => {
                let seq = self.take(space, folder, read)?;
                let agrees = agrees.unwrap_or_else(|| Self::agrees(space, folder, &parsed));
                let length = bytes.len() as u64;
                self.settle_view(space, folder, index, (&parsed, length), agrees)?;
                Ok(seq)
            }
        }
    }

    /// The first look at a file since the mount: it may know more than the records, or less. Afterwards it agrees, is behind, or is refused.
    pub(super) fn catch_up(
        &self,
        space: &mut Space,
        folder: Ino,
        index: Index,
    ) -> Result<(), FsError> {
        let bytes = self.bytes_of(space, folder, index)?;
        space.mailbox_mut(folder)?;
        let Some(parsed) = Parsed::parse(index, &bytes) else {
            return Ok(());
        };
        if let Ok(parsed) = &parsed {
            self.issue_offer(space, folder, parsed)?;
        }
        let found = parsed.and_then(|parsed| {
            let read = Self::with_records(space, folder, |view| parsed.old_news(view));
            read.map(|read| (parsed, read))
        });
        match found {
            // A crash may have torn it: it was not synced, since the records are.
            Err(bad)
                if index == Index::Uidlist
                    && space.mailbox_mut(folder)?.facts.uid_validity != 0 =>
            {
                let path = Self::path_of(space, folder, index)?;
                warn!("{path}: {bad}; it is made anew from the records");
                if let Some(view) = space.mailbox_mut(folder)?.view_mut(index) {
                    view.forget();
                    view.state = State::Behind;
                }
                Ok(())
            }
            Err(bad) => self.refuse(space, folder, index, &bad),
            Ok((parsed, read)) => {
                self.take(space, folder, read)?;
                let agrees = Self::agrees(space, folder, &parsed);
                let length = bytes.len() as u64;
                self.settle_view(space, folder, index, (&parsed, length), agrees)
            }
        }
    }

    fn with_records(
        space: &Space,
        folder: Ino,
        read: impl FnOnce(&Records<'_>) -> Result<Read, Malformed>,
    ) -> Result<Read, Malformed> {
        let Some(mailbox) = space.mailbox(folder) else {
            return Ok(Read::default());
        };
        match Records::new(space, folder, mailbox) {
            Ok(view) => read(&view),
            // The folder went away meanwhile.
            Err(_) => Ok(Read::default()),
        }
    }

    /// Whether a file says what the records say now.
    fn agrees(space: &Space, folder: Ino, parsed: &Parsed) -> bool {
        space
            .mailbox(folder)
            .and_then(|mailbox| Records::new(space, folder, mailbox).ok())
            .is_some_and(|view| parsed.agrees(&view))
    }

    /// Notes of a file that was read whole whether it says what the records say.
    fn settle_view(
        &self,
        space: &mut Space,
        folder: Ino,
        index: Index,
        (parsed, length): (&Parsed, u64),
        agrees: bool,
    ) -> Result<(), FsError> {
        let mailbox = space.mailbox_mut(folder)?;
        mailbox.renamed &= index != Index::Uiddb;
        if let Some(view) = mailbox.view_mut(index) {
            view.state = if agrees { State::Agrees } else { State::Behind };
            view.written = None;
            view.tail = parsed.tail().map(|tail| (length, tail));
        }
        Ok(())
    }

    /// Dovecot has issued a UIDVALIDITY.
    fn issued(&self, space: &mut Space, folder: Ino, number: u32) -> Result<Option<u64>, FsError> {
        let facts = space.mailbox_mut(folder)?.facts.clone();
        let from = facts.uid_validity_issued;
        if number < from {
            let fell = Fault::UidValidityFell { from, to: number }.at(1);
            self.refuse(space, folder, Index::Uidvalidity, &fell)?;
            return Ok(None);
        }
        let mut read = Read::default();
        if number > from {
            read.ops.push(Op::SetMailbox {
                folder: space.path(folder)?,
                facts: MailboxFacts {
                    uid_validity_issued: number,
                    ..facts
                },
            });
        }
        let seq = self.take(space, folder, read)?;
        let agrees = match space.mailbox(folder) {
            Some(_) => self.shows_issued(space, folder, number),
            None => false,
        };
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(Index::Uidvalidity) {
            view.written = None;
            view.state = if agrees { State::Agrees } else { State::Behind };
        }
        Ok(seq)
    }

    /// Whether the main file and the companion say this number. Between Dovecot's two steps the main file is behind.
    fn shows_issued(&self, space: &Space, folder: Ino, number: u32) -> bool {
        let main = self.bytes_of(space, folder, Index::Uidvalidity);
        let companion = space.child(folder, &uidvalidity::companion(number));
        main.is_ok_and(|bytes| uidvalidity::parse(&bytes) == Ok(number))
            && companion.is_ok_and(|found| found.is_some())
    }

    /// Appends the operations to the journal and applies them to the live tree.
    pub(super) fn take(
        &self,
        space: &mut Space,
        folder: Ino,
        read: Read,
    ) -> Result<Option<u64>, FsError> {
        let mut last = None;
        for op in read.ops {
            if let Op::Rename { from, to } = &op {
                let (dir, _) = Self::place_of(space, folder, from)?;
                if space.child(dir, to.name())?.is_some() {
                    // Two messages of one name: neither may go.
                    continue;
                }
            }
            last = Some(self.append(space, &op, &[folder])?);
            self.apply(space, folder, &op)?;
        }
        Ok(last)
    }

    fn apply(&self, space: &mut Space, folder: Ino, op: &Op) -> Result<(), FsError> {
        match op {
            Op::SetAttrs { path, attrs } => {
                let (dir, ino) = Self::place_of(space, folder, path)?;
                let old = space.marks(ino, dir, path.name());
                space.set_marks(ino, dir, path.name(), Marks::of(attrs));
                let mailbox = space.mailbox_mut(folder)?;
                mailbox.waiting.remove(name::stem(path.name()));
                let letters = attrs.ext.get(&hidden::KEYWORDS);
                if old.ext.get(&hidden::KEYWORDS) != letters {
                    mailbox.changed(Event::Letters);
                    if letters.is_some() {
                        mailbox.letters.insert(ino);
                        // Dovecot looks through a folder whose directory has changed.
                        let now = node::now();
                        let node = space.node_mut(dir)?;
                        (node.mtime, node.ctime) = (now, now);
                        self.stale(Stale::Inode(dir));
                    }
                }
                let mailbox = space.mailbox_mut(folder)?;
                if attrs.uid.unwrap_or(0) != old.uid || !same_fields(&old, attrs) {
                    mailbox.changed(Event::Uids);
                }
                if let Some(uid) = attrs.uid {
                    mailbox.raise_uid_next(uid);
                }
            }
            Op::SetMailbox { facts, .. } => space.mailbox_mut(folder)?.set_facts(facts.clone()),
            Op::Rename { from, to } => {
                let (dir, ino) = Self::place_of(space, folder, from)?;
                let time = node::now();
                let marks = space.marks(ino, dir, from.name());
                space.detach(dir, from.name(), time)?;
                space.attach(dir, to.name(), ino, time)?;
                space.set_marks(ino, dir, to.name(), marks);
                self.stale_name(dir, from.name());
                self.stale_name(dir, to.name());
                space.mailbox_mut(folder)?.changed(Event::Letters);
            }
            _ => {}
        }
        Ok(())
    }

    /// The directory and the inode of a message's path.
    fn place_of(space: &Space, folder: Ino, path: &TreePath) -> Result<(Ino, Ino), FsError> {
        let dir_path = path.parent().unwrap_or_default();
        let dir = space.child(folder, dir_path.name())?;
        let dir = dir.ok_or(FsError::NotFound)?;
        let ino = space.child(dir, path.name())?.ok_or(FsError::NotFound)?;
        Ok((dir, ino))
    }

    /// The file breaks a rule: it is shown as it is, and said so once.
    pub(super) fn refuse(
        &self,
        space: &mut Space,
        folder: Ino,
        index: Index,
        bad: &Malformed,
    ) -> Result<(), FsError> {
        let path = Self::path_of(space, folder, index)?;
        warn!("{path}: {bad}; its server gets it back as it is, the records stay as they were");
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(index) {
            view.forget();
            view.state = State::Refused;
        }
        // It is all there is of itself, and may not have been synced.
        if let Ok(file) = self.local.open(&path) {
            file.sync_all()?;
        }
        Ok(())
    }

    fn path_of(space: &Space, folder: Ino, index: Index) -> Result<TreePath, FsError> {
        let path = space.path(folder)?;
        Ok(match index {
            Index::KeywordList => path.join(KEYWORD_DIR).join(courier_keywords::LIST),
            Index::KeywordUpdate => path.join(KEYWORD_DIR),
            _ => path.join(index.name()),
        })
    }

    /// The bytes of an index file.
    pub(super) fn bytes_of(
        &self,
        space: &Space,
        folder: Ino,
        index: Index,
    ) -> Result<Vec<u8>, FsError> {
        self.read_local(&Self::path_of(space, folder, index)?, 0)
    }

    /// The bytes of a file of the local tree from an offset on.
    pub(super) fn read_local(&self, path: &TreePath, from: u64) -> Result<Vec<u8>, FsError> {
        let mut file = self.local.open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether the fields that a uidlist shows are the same.
fn same_fields(marks: &Marks, attrs: &Attrs) -> bool {
    let fields = |ext: &BTreeMap<u8, Vec<u8>>| {
        let mut fields = ext.clone();
        fields.remove(&hidden::KEYWORDS);
        fields
    };
    fields(&marks.ext) == fields(&attrs.ext)
}
