//! The one owner of the head: drains the journal, commits, and braids into the live tree.

pub mod backing;

pub use crate::maildir::{Entry, EntryKind};
pub use backing::{Backing, Change, LiveView};
