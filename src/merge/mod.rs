//! The braid: a merge of Maildir trees. Pure: values in, values out.

pub mod conflict;
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
mod settle;
mod slots;
pub mod source;
pub mod uids;
mod walk;
