//! Every bound, with its reason.

use std::time::Duration;

/// Content up to this many bytes stands in the journal record; larger content is spilled to a file of its own. Large enough
/// for nine mails in ten, small enough that a record fits a segment many times over.
pub const INLINE_MAX: usize = 64 * 1024;

/// Longest file name in bytes: what `statfs` reports and ext4 allows.
pub const NAME_MAX: usize = 255;

/// Largest message in bytes. A tree entry's blob must fit memory twice while it is packed.
pub const MESSAGE_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Size of a journal segment in bytes. Large enough that a thousand deliveries pass between two preparations, small enough that the
/// four of a quiet store are no burden and that recovery reads one in a few milliseconds.
pub const JOURNAL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Segments kept for records without content when the disk is full: some 50,000 renames and deletions each.
pub const JOURNAL_RESERVE_SEGMENTS: usize = 1;

/// Most journal segments with records that are not committed yet: 512 MiB that a mount after a crash may have to commit first.
pub const JOURNAL_MAX_SEGMENTS: usize = 64;

/// Released journal segments kept beyond those wanted, so that a burst does not remove and fill the same files again and again.
pub const JOURNAL_KEEP_SEGMENTS: usize = 3;

/// Longest wait of an append for a segment that is being prepared. Filling 8 MiB and syncing it takes tens of milliseconds; a disk that
/// needs seconds for it is as good as full.
pub const JOURNAL_PREPARE_WAIT: Duration = Duration::from_secs(2);

/// Longest wait of a delivery for the store to commit what is held. Delivery agents give up after a minute or more.
pub const JOURNAL_ROOM_WAIT: Duration = Duration::from_secs(30);

/// Room that a delivery waits for before it locks the namespace: sixteen inline mails, more than there are threads to append them.
pub const JOURNAL_ROOM_MARGIN: u64 = 16 * INLINE_MAX as u64;

/// Pause before a segment that could not be prepared is tried again: soon enough that space freed is felt at once, and
/// idle on a disk that stays full.
pub const JOURNAL_RETRY: Duration = Duration::from_millis(500);
