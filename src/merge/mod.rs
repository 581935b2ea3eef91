//! The braid: a merge of Maildir trees. Pure: values in, values out.

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
