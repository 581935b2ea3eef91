//! The braid: a merge of Maildir trees. Pure: values in, values out.
//!
//! Not in use yet: the store does not braid, because the simulation of nodes (`tests/simulation`) still knows a seed in which an expunged message
//! returns, and the list of changes for a live tree is not written.

mod braid;
pub mod commit;
pub mod conflict;
mod edits;
mod entities;
mod facts;
pub mod flags;
pub mod keywords;
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
pub use conflict::Conflict;
pub use source::{MergeError, Node, RawEntry, Trees, World};
pub use three_way::{Merge, three_way};
