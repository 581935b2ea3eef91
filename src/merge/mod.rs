//! The braid: a merge of Maildir trees. Pure: values in, values out.

pub mod conflict;
mod entities;
pub mod flags;
pub mod keywords;
mod places;
mod renames;
pub mod source;
pub mod uids;
mod walk;
