//! Every bound, with its reason.

/// Content up to this many bytes stands in the journal record; larger content is spilled to a file of its own. Large enough
/// for nine mails in ten, small enough that a record fits a segment many times over.
pub const INLINE_MAX: usize = 64 * 1024;

/// Longest file name in bytes: what `statfs` reports and ext4 allows.
pub const NAME_MAX: usize = 255;

/// Largest message in bytes. A tree entry's blob must fit memory twice while it is packed.
pub const MESSAGE_MAX: u64 = 2 * 1024 * 1024 * 1024;
