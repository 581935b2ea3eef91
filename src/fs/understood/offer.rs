//! The numbers that a folder is made with, so that two servers do not number it twice.
//!
//! The problem: a folder has UIDVALIDITY and GUID from the first server that opens it, which may be long after it was made. By then other nodes have
//! it too, and a server there gives it numbers of its own: when the greater UIDVALIDITY reaches the other node, its clients must begin anew. Rules:
//!
//! - **Whatever makes a directory a folder records an [`Offer`] first**, in the facts: UIDVALIDITY is the time, or the next one above all issued in the
//!   account and all offered since the mount; the GUID is random. No commit has the folder without it.
//!   In a Maildir that is the `mkdir` of a name that begins with a dot, in the same operation: another node's Dovecot that sees no more than that name makes the
//!   rest of the folder itself. Anywhere else it is the `mkdir` of `cur`.
//! - **A server takes it where it would make its file**: it holds the folder's lock and looks for the file. It finds one that says what is offered, and that
//!   counts as if the server had written it: read once the lock is gone, it brings UIDVALIDITY and GUID on record like any first file. Every node's servers find
//!   the same.
//! - Then the number is issued: it goes into the account's facts, so that no later folder of that name, and no server by itself, takes it again.
//! - **An offer binds nobody.** Who copies a Maildir looks for `dovecot-uidlist` without the lock, and finds none; what is put there is the folder's first
//!   file, with a UIDVALIDITY that may be years older. So may what a server writes that was told the number (`doveadm backup`), before it lets the lock go.
//! - In a braid an offer is nothing against a UIDVALIDITY; of two, the greater stays. Whoever has numbered mail by one has put it on record.
//!
//! Rejected: UIDVALIDITY itself at `mkdir`, for then a copied Maildir's falls, which clients must never see and so is refused. Keeping a new folder from peers until it is
//! opened: a mail may lie in it. A number made from the commit that brings the folder: nothing in a tree names it, and a rename loses it.

use super::super::node::{self, Ino};
use super::super::space::Space;
use super::super::{Fs, FsError};
use super::parsed::Parsed;
use super::{Index, Mailbox};
use crate::maildir::class::{Place, place};
use crate::maildir::codec::courier_uiddb::Uiddb;
use crate::maildir::codec::uidlist::Uidlist;
use crate::maildir::{MailboxFacts, Offer, Op, TreePath};

impl Fs {
    /// A directory is about to come to `path`, in the directory `folder`. If that makes it a folder, it is given its offer.
    pub(in super::super) fn offer_numbers(
        &self,
        space: &mut Space,
        folder: Ino,
        path: &TreePath,
    ) -> Result<(), FsError> {
        let is_made = path.name() == b"cur"
            && path.parent().as_ref().map(place) == Some(Place::Folder)
            && self.options.assign_uids;
        let known = space.mailbox(folder).map(|mailbox| &mailbox.facts);
        if !is_made || known.is_some_and(|facts| facts.uid_validity > 0 || facts.offer.is_some()) {
            return Ok(());
        }
        let mut facts = known.cloned().unwrap_or_default();
        facts.offer = Some(Self::next_offer(space, folder)?);
        facts.uid_next = facts.uid_next.max(1);
        self.record_facts(space, folder, facts)
    }

    /// What a directory is to be made with that is about to come to `path`, in `parent`: in a Maildir, one that begins with a dot is a folder, and Dovecot makes
    /// what a folder lacks as soon as it sees the name.
    pub(in super::super) fn facts_of_subfolder(
        &self,
        space: &mut Space,
        parent: Ino,
        path: &TreePath,
    ) -> Result<Option<MailboxFacts>, FsError> {
        let is_folder = path.name().first() == Some(&b'.')
            && place(path) == Place::Folder
            && space.child(parent, b"cur")?.is_some()
            && self.options.assign_uids;
        if !is_folder {
            return Ok(None);
        }
        Ok(Some(MailboxFacts {
            uid_next: 1,
            offer: Some(Self::next_offer(space, parent)?),
            ..MailboxFacts::default()
        }))
    }

    /// Numbers that no folder has been offered.
    fn next_offer(space: &mut Space, near: Ino) -> Result<Offer, FsError> {
        let now = u32::try_from(node::now().0).unwrap_or(0);
        let taken = Self::greatest_issued(space, near).max(space.offered);
        let uid_validity = now.max(taken.saturating_add(1));
        space.offered = uid_validity;
        let guid = random_guid()?;
        Ok(Offer { uid_validity, guid })
    }

    /// The greatest UIDVALIDITY issued to any folder of the account, as far as directories above this one know it.
    fn greatest_issued(space: &Space, folder: Ino) -> u32 {
        Self::with_ancestors(space, folder)
            .filter_map(|dir| space.mailbox(dir))
            .map(|mailbox| mailbox.facts.uid_validity_issued)
            .max()
            .unwrap_or(0)
    }

    fn with_ancestors(space: &Space, folder: Ino) -> impl Iterator<Item = Ino> {
        std::iter::successors(Some(folder), |at| {
            let parent = space.dir(*at).ok()?.parent;
            (parent != 0 && parent != *at).then_some(parent)
        })
    }

    /// Whether a server is to be shown the offer: it looks for its file under its lock, and no server has opened the folder.
    pub(super) fn is_offered(space: &Space, folder: Ino, mailbox: &Mailbox, index: Index) -> bool {
        mailbox.facts.uid_validity == 0
            && mailbox.facts.offer.is_some()
            && match index {
                Index::Uidlist => Self::holds_dovecot(space, folder),
                Index::Uiddb => Self::holds_courier(space, folder),
                _ => false,
            }
    }

    /// Shows the offer as the server's first file, which it has written as far as anyone can tell.
    pub(super) fn show_offer(
        &self,
        space: &mut Space,
        folder: Ino,
        index: Index,
    ) -> Result<(), FsError> {
        let Some(facts) = space.mailbox(folder).map(|mailbox| &mailbox.facts) else {
            return Ok(());
        };
        let Some(Offer { uid_validity, guid }) = facts.offer.clone() else {
            return Ok(());
        };
        let header_uid_next = facts.uid_next.max(1);
        let bytes = if index == Index::Uiddb {
            let records = Vec::new();
            let db = Uiddb {
                uid_validity,
                header_uid_next,
                records,
            };
            db.encode()
        } else {
            let list = Uidlist {
                uid_validity,
                header_uid_next,
                guid: Some(guid),
                ext: facts.ext.clone(),
                records: Vec::new(),
            };
            list.encode()
        };
        self.install(space, folder, index.name(), &bytes, node::now())?;
        if let Some(view) = space.mailbox_mut(folder)?.view_mut(index) {
            view.forget();
            view.written = Some(0);
        }
        space.written.insert(folder);
        Ok(())
    }

    /// A folder's first file is about to be read. Where it says what was offered, that is issued now.
    pub(super) fn issue_offer(
        &self,
        space: &mut Space,
        folder: Ino,
        first: &Parsed,
    ) -> Result<(), FsError> {
        let offered = space
            .mailbox(folder)
            .filter(|mailbox| mailbox.facts.uid_validity == 0)
            .and_then(|mailbox| mailbox.facts.offer.as_ref());
        let Some(number) = offered.map(|offer| offer.uid_validity) else {
            return Ok(());
        };
        if first.uid_validity() != Some(number) {
            return Ok(());
        }
        let account = Self::account_of(space, folder)?;
        let mut facts = space.mailbox_mut(account)?.facts.clone();
        if facts.uid_validity_issued < number {
            facts.uid_validity_issued = number;
            self.record_facts(space, account, facts)?;
        }
        Ok(())
    }

    /// Where the account of a folder keeps what it has issued: where it did so before, or in the directory of the account's INBOX, which is a folder itself.
    fn account_of(space: &Space, folder: Ino) -> Result<Ino, FsError> {
        let has_issued = |dir: &Ino| {
            let mailbox = space.mailbox(*dir);
            mailbox.is_some_and(|mailbox| mailbox.facts.uid_validity_issued > 0)
        };
        if let Some(dir) = Self::with_ancestors(space, folder).find(has_issued) {
            return Ok(dir);
        }
        let above = space.dir(folder)?.parent;
        let is_folder = above != 0 && space.child(above, b"cur")?.is_some();
        Ok(if is_folder { above } else { folder })
    }

    fn record_facts(
        &self,
        space: &mut Space,
        folder: Ino,
        facts: MailboxFacts,
    ) -> Result<(), FsError> {
        let op = Op::SetMailbox {
            folder: space.path(folder)?,
            facts: facts.clone(),
        };
        self.append(space, &op, &[folder])?;
        space.mailbox_mut(folder)?.set_facts(facts);
        Ok(())
    }
}

/// A GUID as Dovecot writes it: 128 bits, hexadecimal.
fn random_guid() -> Result<Vec<u8>, FsError> {
    let mut bits = [0; 16];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| FsError::Io(errno.into()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)).into_bytes())
}
