//! The braid: a merge of Maildir trees. Pure: values in, values out.

pub mod conflict;
mod entities;
pub mod flags;
pub mod keywords;
mod messages;
mod moves;
mod places;
mod renames;
mod slots;
pub mod source;
pub mod uids;
mod walk;
