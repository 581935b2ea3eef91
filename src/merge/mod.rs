//! The braid: a merge of Maildir trees. Pure: values in, values out.

pub mod flags;
pub mod keywords;
pub mod uids;
