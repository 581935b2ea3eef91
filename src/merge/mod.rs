//! The braid: a merge of Maildir trees. Pure: values in, values out.
//!
//! Its laws are properties in `tests/merge_laws`: the same heads make the same commit, in whatever order they come; what is merged already changes nothing; no message is lost
//! that nobody removed, none returns that somebody expunged, and no UID ever names two ([`uids`]). `tests/simulation` holds nodes together to them, on 20,000 seeds.

mod braid;
mod changes;
pub mod commit;
pub mod conflict;
mod edits;
mod entities;
mod facts;
pub mod flags;
pub mod keywords;
mod known;
mod messages;
mod moves;
mod names;
mod others;
mod places;
mod renames;
pub mod rest;
mod settle;
mod slots;
pub mod source;
mod three_way;
pub mod uids;
mod walk;

pub use braid::{Braid, braid, independent};
pub use changes::changes;
pub use conflict::Conflict;
pub use source::{Entries, EntryRef, MergeError, Node, Place, RawEntry, Trees, World};
pub use three_way::{Merge, three_way};
