//! The files that servers keep UIDs and keywords in: read when a server has written one, made when a server looks for one.
//!
//! The problem: a server's index file is a view of the folder's records (UIDs and fields per message, facts per folder), yet the server
//! believes in the file alone, and in the bytes it wrote last. Rules:
//!
//! - **The server's own bytes are shown as long as they say what the records say.** They lie in the local tree, as server-local files do.
//! - A file that was written is read when its writer is done: when it is renamed into place, when it is synced, when the folder's lock goes away, when
//!   someone else needs the records, or when it has been at rest. What was appended to a uidlist is read as a tail.
//! - A file that is missing, or says less or other than the records, is made anew when a server *looks for it*, so a mount and a braid cost nothing
//!   here: a new inode (Dovecot compares inodes), for keywords a later whole-second mtime (Dovecot compares those).
//! - A file that breaks a rule is shown back as it is, and the records stay as they are; one warning names file and line.
//! - The kernel asks each time it needs such a name or its attributes ([`asks_each_time`]), so nothing here has to be invalidated; but what it was told of a uidlist while Dovecot has
//!   the folder's lock holds for an instant ([`Fs::is_locked_uidlist`]), since Dovecot asks four times then. A name that a file is renamed to has the time
//!   to live of its old one, so the same holds of the names that servers write these files under ([`is_written_for_index`]). Courier writes its `:list` under a
//!   name like a message's: the kernel is told to forget that one.
//! - **A message gets its UID where it lands**, in the record that brings it, unless a server holds the folder's lock, or it lands in `new/` where Courier looks: then the
//!   server is about to give UIDs itself. The uidlist gets its line at once where it was true before.
//! - Dovecot's lock and Courier's exclude each other: two servers on one folder would give one UID to two messages.
//! - Courier deletes its file when a folder is renamed, which gives the folder another UIDVALIDITY; that is honoured when Courier looks for the file. Any
//!   other file that is deleted is made anew.
//! - A folder that no server has opened shows nothing, but to a server that is about to number it: see [`offer`].
//! - A folder's first uidlist that speaks of messages which are not there waits until they are, or until a server asks or nothing has come
//!   for a while: somebody copies a Maildir, in whatever order.
//!
//! After a mount nothing is known of a local file. The first who looks for it has it read and compared: it may hold what a crash took from the
//! journal (UIDs from UIDNEXT on are taken), or be older than the records (it is made anew). A uidlist may be torn:
//! it is made anew too.
//!
//! So a uidlist whose content is on record needs no sync of its own: that of the journal is enough. Dovecot syncs its uidlist with each
//! mail, and a sync of a growing file costs three times one of the journal. The other files are rarely written.
//!
//! | file | written by | read at | made from |
//! |---|---|---|---|
//! | `dovecot-uidlist` | append in place; `.tmp` and rename | lock gone, sync, rename | UIDs, fields, facts |
//! | `dovecot-keywords` | `.lock` and rename | rename | keyword names |
//! | `dovecot-uidvalidity`, `.%08x` | in place; rename of the companion | rename, rest | the greatest UIDVALIDITY issued |
//! | `courierimapuiddb` | `tmp/` and rename | rename | UIDs of `cur/`, facts |
//! | `courierimapkeywords/NAME`, `:list` | `tmp/` and rename | rename | keyword letters and names |
//! | `courierimapsubscribed` | `tmp/` and rename | rename | `subscriptions` |

mod arrival;
mod courier;
mod letters;
mod mailbox;
mod offer;
mod parsed;
mod read;
mod records;
mod show;
#[cfg(test)]
mod tests;

use log::warn;

pub(super) use mailbox::Event;
pub use mailbox::Mailbox;
use mailbox::State;

use super::live::Stale;
use super::node::{Content, FileBody, Ino};
use super::space::Space;
use super::{Fs, FsError};
use crate::maildir::TreePath;
use crate::maildir::codec::courier_keywords::{self, FileName};
use crate::maildir::codec::uidvalidity;
use crate::store::Change;
use crate::turns;

/// An index file by what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Index {
    Uidlist,
    Keywords,
    Uidvalidity,
    Companion(u32),
    Uiddb,
    KeywordDir,
    KeywordList,
    KeywordUpdate,
    Subscribed,
}

const UIDLIST: &[u8] = b"dovecot-uidlist";
/// What Dovecot writes whole before it renames it to the uidlist.
const UIDLIST_TMP: &[u8] = b"dovecot-uidlist.tmp";
const KEYWORDS: &[u8] = b"dovecot-keywords";
const UIDVALIDITY: &[u8] = b"dovecot-uidvalidity";
const UIDDB: &[u8] = b"courierimapuiddb";
const KEYWORD_DIR: &[u8] = b"courierimapkeywords";
const SUBSCRIBED: &[u8] = b"courierimapsubscribed";
const SUBSCRIPTIONS: &[u8] = b"subscriptions";
const DOVECOT_LOCK: &[u8] = b"dovecot-uidlist.lock";
const COURIER_LOCK: &[u8] = b"courier.lock";

impl Index {
    /// By its name in a folder.
    fn in_folder(name: &[u8]) -> Option<Self> {
        match name {
            UIDLIST => Some(Self::Uidlist),
            KEYWORDS => Some(Self::Keywords),
            UIDVALIDITY => Some(Self::Uidvalidity),
            UIDDB => Some(Self::Uiddb),
            KEYWORD_DIR => Some(Self::KeywordDir),
            SUBSCRIBED => Some(Self::Subscribed),
            _ => uidvalidity::parse_companion(name).map(Self::Companion),
        }
    }

    /// By its name in `courierimapkeywords/`.
    fn in_keyword_dir(name: &[u8]) -> Option<Self> {
        match courier_keywords::file_name(name) {
            FileName::List => Some(Self::KeywordList),
            FileName::Update(_) => Some(Self::KeywordUpdate),
            FileName::Gathered { .. } | FileName::Other => None,
        }
    }

    /// Its name in the directory that holds it; of a companion, the main file's.
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Uidlist => UIDLIST,
            Self::Keywords => KEYWORDS,
            Self::Uidvalidity | Self::Companion(_) => UIDVALIDITY,
            Self::Uiddb => UIDDB,
            Self::KeywordDir => KEYWORD_DIR,
            Self::KeywordList | Self::KeywordUpdate => courier_keywords::LIST,
            Self::Subscribed => SUBSCRIBED,
        }
    }
}

/// Whether the kernel must ask about this name each time, be it there or not: what stands under it is made when it is looked for.
#[must_use]
pub fn asks_each_time(name: &[u8]) -> bool {
    name == courier_keywords::LIST || Index::in_folder(name).is_some()
}

/// Whether servers write an index file under this name, to be renamed into its place.
pub(super) fn is_written_for_index(name: &[u8]) -> bool {
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    matches!(name, b"dovecot-uidlist.tmp" | b"dovecot-keywords.lock")
        || name.starts_with(b".tmp.")
        || has(b"imapuid_")
        || has(b"imapsubscribe")
}

impl Fs {
    /// The folder and the meaning of an index file's name; `None` for any other name.
    fn index_at(space: &Space, parent: Ino, name: &[u8]) -> Option<(Ino, Index)> {
        let dir = space.dir(parent).ok()?;
        if *dir.name == *KEYWORD_DIR && dir.parent != 0 {
            return Index::in_keyword_dir(name).map(|index| (dir.parent, index));
        }
        if matches!(&*dir.name, b"cur" | b"new" | b"tmp") {
            return None;
        }
        Index::in_folder(name).map(|index| (parent, index))
    }

    /// The folder and meaning of an index file's inode.
    fn index_of(space: &Space, ino: Ino) -> Option<(Ino, Index)> {
        let file = space.file(ino).ok()?;
        if !matches!(file.content, Content::Local(_)) {
            return None;
        }
        let link = file.names.first()?;
        Self::index_at(space, link.parent, &link.name)
    }

    /// The directory of an index file, and its inode if it is there.
    fn place(space: &Space, folder: Ino, index: Index) -> Option<(Ino, Option<Ino>)> {
        let dir = match index {
            Index::KeywordList | Index::KeywordUpdate => {
                space.child(folder, KEYWORD_DIR).ok()??
            }
            _ => folder,
        };
        Some((dir, space.child(dir, index.name()).ok()?))
    }

    fn is_there(space: &Space, folder: Ino, index: Index) -> bool {
        Self::place(space, folder, index).is_some_and(|(_, ino)| ino.is_some())
    }

    /// Whether a file is the uidlist of a folder that Dovecot has locked. The lock keeps the mount from giving UIDs there, and braids away; Dovecot, once it has it, looks for the
    /// file by its name before it asks for its size.
    pub(super) fn is_locked_uidlist(space: &Space, file: &FileBody) -> bool {
        file.names
            .first()
            .is_some_and(|link| *link.name == *UIDLIST && Self::holds_dovecot(space, link.parent))
    }

    /// A server looks for a name: where it is an index file's, the file is there afterwards and says what the records say. What goes wrong is
    /// logged; the server then finds what there is.
    pub(super) fn look_for(&self, parent: Ino, name: &[u8]) {
        if !asks_each_time(name) {
            return;
        }
        let Some((folder, index)) = Self::index_at(&self.space.lock(), parent, name) else {
            return;
        };
        if let Err(error) = self.make_ready(folder, index) {
            let path = self.space.lock().path(folder).unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            warn!("{path}/{name}: the records could not be shown: {error}");
        }
    }

    fn make_ready(&self, folder: Ino, index: Index) -> Result<(), FsError> {
        if self.is_ready(&self.space.lock(), folder, index) {
            return Ok(());
        }
        turns::wait(|| self.bring_up_to_date(folder, index))
    }

    /// Shows what is not ready: folders are loaded, large files read and written.
    fn bring_up_to_date(&self, folder: Ino, index: Index) -> Result<(), FsError> {
        if index == Index::Subscribed {
            return self.show_subscribed(folder);
        }
        self.load_messages(folder)?;
        let mut space = self.space.lock();
        if !self.is_locked(&space, folder) {
            self.read_written(&mut space, folder, true)?;
        }
        if self.is_ready(&space, folder, index) {
            return Ok(());
        }
        let is_offered = space
            .mailbox(folder)
            .is_some_and(|mailbox| Self::is_offered(&space, folder, mailbox, index));
        if is_offered && !Self::is_there(&space, folder, index) {
            return self.show_offer(&mut space, folder, index);
        }
        if index == Index::Uiddb {
            self.begin_anew(&mut space, folder)?;
        }
        self.show(&mut space, folder, index)
    }

    /// Whether there is nothing to do before the file is shown.
    fn is_ready(&self, space: &Space, folder: Ino, index: Index) -> bool {
        let there = Self::is_there(space, folder, index);
        let Some(mailbox) = space.mailbox(folder) else {
            // Nothing is known of the folder; what is there is a server's, and not read yet.
            return !there && index != Index::Subscribed;
        };
        let Some(view) = mailbox.view(index) else {
            return true;
        };
        if index == Index::KeywordDir {
            return there || mailbox.facts.keywords.is_empty();
        }
        if mailbox.is_written() && !self.is_locked(space, folder) {
            return false;
        }
        if !there && mailbox.is_new_to(index) {
            return !Self::is_offered(space, folder, mailbox, index);
        }
        if index == Index::Subscribed && view.source != Self::subscriptions_oid(space, folder) {
            return false;
        }
        // A file that is being written is its writer's.
        there && (view.written.is_some() || matches!(view.state, State::Agrees | State::Refused))
    }

    /// Loads `cur` and `new`, without the lock.
    fn load_messages(&self, folder: Ino) -> Result<(), FsError> {
        self.ensure_loaded(folder)?;
        for name in [&b"cur"[..], b"new"] {
            let dir = {
                let space = self.space.lock();
                let dir = space.child(folder, name)?;
                dir.filter(|dir| space.is_dir(*dir).unwrap_or(false))
            };
            if let Some(dir) = dir {
                self.ensure_loaded(dir)?;
            }
        }
        Ok(())
    }

    /// An index file's content was changed from `offset` on.
    pub(super) fn wrote(space: &mut Space, ino: Ino, offset: u64) {
        let Some((folder, index)) = Self::index_of(space, ino) else {
            return;
        };
        if let Ok(mailbox) = space.mailbox_mut(folder)
            && let Some(view) = mailbox.view_mut(index)
        {
            view.written = Some(view.written.map_or(offset, |before| before.min(offset)));
            space.written.insert(folder);
        }
    }

    /// A name is about to be given to a file: where it is an index file's, the folder must be loaded to read it.
    pub(super) fn before_place(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        let found = Self::index_at(&self.space.lock(), parent, name);
        match found {
            Some((folder, _)) => self.load_messages(folder),
            None => Ok(()),
        }
    }

    /// A file has come to stand under this name, by a rename or a link. If it is an index file, a server has written it whole.
    pub(super) fn placed(
        &self,
        space: &mut Space,
        parent: Ino,
        name: &[u8],
    ) -> Result<Option<u64>, FsError> {
        let Some((folder, index)) = Self::index_at(space, parent, name) else {
            return Ok(None);
        };
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(index) {
            view.forget();
        }
        if index == Index::KeywordList {
            self.stale(Stale::Entry(parent, name.to_vec()));
        }
        self.read_whole(space, folder, (index, name), false)
    }

    /// A name is gone: where it was an index file's, nothing is known of it any more.
    pub(super) fn gone(space: &mut Space, parent: Ino, name: &[u8]) {
        if let Some((folder, index)) = Self::index_at(space, parent, name)
            && space.mailbox(folder).is_some()
            && let Ok(mailbox) = space.mailbox_mut(folder)
            && let Some(view) = mailbox.view_mut(index)
        {
            view.forget();
            view.state = State::Behind;
            mailbox.begins_anew |= index == Index::Uiddb && mailbox.renamed;
        }
    }

    /// Dovecot is about to let the folder go: what it wrote under its lock is read first. Returns the last record.
    pub(super) fn unlocking(&self, parent: Ino, name: &[u8]) -> Result<Option<u64>, FsError> {
        if name != DOVECOT_LOCK || !self.space.lock().written.contains(&parent) {
            return Ok(None);
        }
        self.load_messages(parent)?;
        self.read_written(&mut self.space.lock(), parent, false)
    }

    /// An index file is synced: what was written becomes records. Returns the last one.
    pub(super) fn syncing(&self, ino: Ino) -> Result<Option<u64>, FsError> {
        let folder = {
            let space = self.space.lock();
            match Self::index_of(&space, ino) {
                Some((folder, _)) if space.written.contains(&folder) => folder,
                _ => return Ok(None),
            }
        };
        self.load_messages(folder)?;
        self.read_written(&mut self.space.lock(), folder, false)
    }

    /// Whether the journal holds all that a uidlist says, so that its sync can be left out. A `dovecot-uidlist.tmp` comes on record when it is
    /// renamed, and that rename waits for the journal.
    pub(super) fn is_on_record(&self, ino: Ino) -> bool {
        let space = self.space.lock();
        if let Some((folder, index)) = Self::index_of(&space, ino) {
            let view = space
                .mailbox(folder)
                .and_then(|mailbox| mailbox.view(index));
            let is_read = view.is_some_and(|view| {
                view.written.is_none() && matches!(view.state, State::Agrees | State::Behind)
            });
            return index == Index::Uidlist && is_read;
        }
        let file = space.file(ino);
        file.is_ok_and(|file| matches!(file.names.as_slice(), [link] if *link.name == *UIDLIST_TMP))
    }

    /// Reads what servers wrote and nobody has asked for, where it is at rest: the background flusher's round. `all` takes the rest too.
    pub(super) fn read_rested(&self, all: bool) {
        let folders: Vec<Ino> = {
            let space = self.space.lock();
            let rested = |folder: &Ino| all || Self::is_rested(&space, *folder);
            space.written.iter().copied().filter(rested).collect()
        };
        for folder in folders {
            let read = self
                .load_messages(folder)
                .and_then(|()| self.read_written(&mut self.space.lock(), folder, true));
            match read {
                Ok(_) => {}
                Err(FsError::NotFound) => {
                    self.space.lock().written.remove(&folder);
                }
                Err(error) => warn!("an index file could not be read: {error}"),
            }
        }
    }

    /// Reads what servers wrote into a folder's index files.
    pub(super) fn read_now(&self, folder: Ino) -> Result<(), FsError> {
        self.load_messages(folder)?;
        let mut space = self.space.lock();
        if !self.is_locked(&space, folder) {
            self.read_written(&mut space, folder, true)?;
        }
        Ok(())
    }

    /// Whether neither an index file nor the messages have changed for a while.
    fn is_rested(space: &Space, folder: Ino) -> bool {
        let rest = super::node::now().0 - crate::limits::WRITE_REST.as_secs() as i64;
        [UIDLIST, KEYWORDS, UIDVALIDITY, UIDDB, b"cur", b"new"]
            .iter()
            .filter_map(|name| space.child(folder, name).ok().flatten())
            .filter_map(|ino| space.node(ino).ok())
            .all(|node| node.ctime.0 <= rest)
    }

    /// A braid has changed something: what lies in its folder is another record now.
    pub(super) fn records_of_change(space: &mut Space, change: &Change) {
        let paths = match change {
            Change::Put { path, .. } | Change::Remove { path } | Change::SetAttrs { path, .. } => {
                [Some(path), None]
            }
            Change::Rename { from, to, .. } => [Some(from), Some(to)],
            Change::Mkdir { .. }
            | Change::RemoveDir { .. }
            | Change::Retree { .. }
            | Change::SetMailbox { .. } => return,
        };
        for folder in paths.into_iter().flatten().filter_map(TreePath::folder) {
            if let Ok((ino, rest)) = Self::deepest_loaded(space, &folder)
                && rest.is_empty()
            {
                Self::records_changed(space, ino, Event::Everything);
            }
        }
    }

    /// The records of a folder changed by other means than its index files.
    pub(super) fn records_changed(space: &mut Space, folder: Ino, event: Event) {
        if space.mailbox(folder).is_some()
            && let Ok(mailbox) = space.mailbox_mut(folder)
        {
            mailbox.changed(event);
        }
    }
}
