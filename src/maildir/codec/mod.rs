//! Codecs of the index files that IMAP servers keep beside a Maildir. One file a format; the header of each gives the format, the
//! rule that makes a file valid, and where that was read.
//!
//! | file | server | codec |
//! |---|---|---|
//! | `dovecot-uidlist` | Dovecot | [`uidlist`] |
//! | `dovecot-keywords` | Dovecot | [`keywords`] |
//! | `dovecot-uidvalidity`, `dovecot-uidvalidity.%08x` | Dovecot | [`uidvalidity`] |
//! | `subscriptions` | Dovecot | [`subscriptions`] |
//! | `courierimapuiddb` | Courier | [`courier_uiddb`] |
//! | `courierimapkeywords/` | Courier | [`courier_keywords`] |
//! | `courierimapsubscribed` | Courier | [`courier_subscribed`] |
//!
//! What Mailutils and mbsync write into file names is read by [`super::name`].
//!
//! Rules for all of them:
//! - Pure and total: any bytes give a value or a [`Malformed`] with the line, never a panic, in time linear in the input.
//! - `parse(encode(value)) == value` for every value a parser can return.
//! - `encode` never writes what `parse` refuses: a field that cannot be written (it may come from another node) is left out.
//! - Stricter than the servers where they skip a bad line and carry on: what one of them would drop in silence is not taken as truth.

pub mod courier_keywords;
pub mod courier_subscribed;
pub mod courier_uiddb;
mod fault;
pub mod keywords;
mod scan;
pub mod subscriptions;
pub mod uidlist;
pub mod uidvalidity;

pub use fault::{Fault, Malformed};
