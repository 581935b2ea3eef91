//! Maildir as values: names, flags, paths, operations. Pure: no I/O, no clock, no git library.
//!
//! Everything that another module must agree on lives here: what identifies a message ([`name`]), how a visible name and
//! its attributes become one git tree entry ([`hidden`]), what a path means to us ([`class`]), and what an operation
//! is ([`op`]).

pub mod change;
pub mod class;
pub mod codec;
pub mod entry;
pub mod hidden;
pub mod laws;
pub mod mailbox;
pub mod name;
pub mod oid;
pub mod op;
pub mod path;
pub mod translate;

pub use change::Change;
pub use class::PathClass;
pub use entry::{Entry, EntryKind};
pub use hidden::Attrs;
pub use mailbox::{MailboxFacts, Offer};
pub use oid::{HashKind, Oid};
pub use op::{Content, Op};
pub use path::TreePath;
