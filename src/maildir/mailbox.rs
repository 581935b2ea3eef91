//! What a folder knows of itself: UIDVALIDITY, UIDNEXT, mailbox GUID, keyword names.

use std::collections::BTreeMap;

/// Facts of one folder, kept in a small file of the folder in the repository (RFC 9051 §2.3.1.1 for the UID values).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MailboxFacts {
    /// UIDVALIDITY; 0 while no server has opened the folder.
    pub uid_validity: u32,
    /// UIDNEXT; the next message gets this UID or a greater one. At least 1.
    pub uid_next: u32,
    /// Mailbox GUID as Dovecot writes it (32 hexadecimal digits); `None` while unknown.
    pub guid: Option<Vec<u8>>,
    /// Keyword names by letter, `0` = `a` … `25` = `z`.
    pub keywords: BTreeMap<u8, Vec<u8>>,
    /// The greatest UIDVALIDITY issued to any folder at or below this directory (`dovecot-uidvalidity`), so that a folder made anew
    /// gets a greater one; 0 while none was issued. Braids take the greater.
    pub uid_validity_issued: u32,
    /// Header fields of `dovecot-uidlist` that we do not interpret, by key.
    pub ext: BTreeMap<u8, Vec<u8>>,
}
