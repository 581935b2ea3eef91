//! Every bound, with its reason.

use std::time::Duration;

/// Content up to this many bytes stands in the journal record; larger content is spilled to a file of its own. Large enough
/// for nine mails in ten, small enough that a record fits a segment many times over.
pub const INLINE_MAX: usize = 64 * 1024;

/// A lock file that has not been touched for this long is held by nobody (Dovecot's `MAILDIR_UIDLIST_LOCK_STALE_TIMEOUT`; Courier's is the same).
pub const LOCK_STALE: std::time::Duration = std::time::Duration::from_secs(120);

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

/// Most bytes of content that wait for their commit before a further delivery waits: what the store thread compresses and writes in some two seconds, so
/// that history and peers are never far behind the mount. A single message may be larger.
pub const BACKLOG_BYTES: u64 = 128 * 1024 * 1024;

/// Room that a delivery waits for before it locks the namespace: sixteen inline mails, more than there are threads to append them.
pub const JOURNAL_ROOM_MARGIN: u64 = 16 * INLINE_MAX as u64;

/// Pause before a segment that could not be prepared is tried again: soon enough that space freed is felt at once, and
/// idle on a disk that stays full.
pub const JOURNAL_RETRY: Duration = Duration::from_millis(500);

/// Newest store format (`mailbraid.format`) this program reads and the one it writes.
pub const STORE_FORMAT: u32 = 1;

/// How long we wait for a lock that another process holds on a ref or the config. git's own default is 0.1 s to 1 s; writers hold it
/// for one sync.
pub const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Pause between two tries for a lock: short against a sync, long against a system call.
pub const LOCK_POLL: Duration = Duration::from_millis(5);

/// A head's lock of this age was left by a killed daemon: we hold the store's lock, and nobody holds the ref's longer than a sync takes.
/// A remount after SIGKILL must not take longer.
pub const HEAD_LOCK_STALE: Duration = Duration::from_secs(2);

/// Any other lock of this age was left by a killed process: a push holds its ref's lock for the instant of the update.
pub const REF_LOCK_STALE: Duration = Duration::from_secs(60);

/// Pack slots of an open repository, fixed at open: the library fails at one pack more. Maintenance keeps packs far below; peers' pushes
/// add one each in between.
pub const PACK_SLOTS: u16 = 4096;

/// Memory in which a reader keeps versions of trees while it walks along their deltas.
pub const READER_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Ids of objects written since the list of packs was read last; beyond, it is read again, which costs a stat a pack.
pub const RECENT_OBJECTS: usize = 20_000;

/// Trees that a braid keeps as it has read them, in bytes: those of 10,000 changes on each side of a million messages.
pub const BRAID_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Trees that are worth a thread of their own to read or to compress them: some milliseconds' work.
pub const TREES_A_THREAD: usize = 256;

/// More names than this below a trie node split it. Measured in the header of the module `history`.
pub const TRIE_LEAF_MAX: usize = 64;

/// Longest chain of tree deltas in a pack: git's own default for `pack.depth`.
pub const DELTA_DEPTH: u16 = 50;

/// zlib level of message blobs: level 1 does not compress base64 at all.
pub const BLOB_LEVEL: u32 = 2;

/// zlib level of trees and commits: small, and half of a tree is ids that no level compresses.
pub const TREE_LEVEL: u32 = 1;

/// Compressed bytes that are gathered before they are written as a pack of their own: bounds memory under an import, and is large enough
/// that packs stay few.
pub const PENDING_BYTES: usize = 64 * 1024 * 1024;

/// Memory that loaded trie nodes may take between two commits. 100,000 messages are 8 MB of leaves.
pub const TRIE_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Longest chain of deltas that is copied as it came, from a peer or from git: git cannot read more than 4,095 steps.
pub const DELTA_DEPTH_MAX: u16 = 4000;

/// Longest chain of deltas within a pack for a peer: git's own default.
pub const SENT_DEPTH: u16 = 50;

/// zlib level of deltas: made once, copied ever after.
pub const DELTA_LEVEL: u32 = 9;

/// How often an object that was read wrong is read again.
pub const WRONG_RETRIES: u32 = 3;

/// Packs that gather before maintenance merges them under load: fewer would copy the same objects too often, more would slow lookups.
pub const MERGE_MIN: usize = 8;

/// Merged packs that stay beside their successors at most, whatever their grace: each one costs every process of git that a push starts, and each look
/// for an object that is not there, some 30 µs.
pub const RETIRED_MOST: usize = 24;

/// Most packs that were not merged yet which one merge takes: it is over in the moment that a daemon on a busy machine has.
pub const MERGE_MOST: usize = 64;

/// As [`MERGE_MIN`], once a store has come to rest.
pub const MERGE_MIN_AT_REST: usize = 4;

/// Packs up to this many bytes are merged whenever a store has come to rest, be they two: the whole trees of a lone commit (some 3 KB) become deltas of those in
/// the pack that is there. Written anew at most once in [`MAINTAIN_REST`], which is nothing beside the syncs of a delivery.
pub const SMALL_PACK: u64 = 512 * 1024;

/// Trees that are planted in a small pack: those of a mail's arrival, and of a move between two folders, several times over.
pub const SEED_TREES: usize = 32;

/// How long after the last commit a store is at rest: longer than the pauses within a burst, so that one merge takes all of it.
pub const MAINTAIN_REST: Duration = Duration::from_secs(1);

/// How old a merged pack says it is at most. git looks at packs from the youngest to the oldest, so a merged pack is as old as the oldest one in it; but
/// `git gc` drops what nothing refers to after two weeks, and the store may be about to refer to it.
pub const PACK_AGE_MOST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Blobs that take so many bytes of a pack are held against others by maintenance: smaller ones have too little to save.
pub const SIMILAR_LEAST: usize = 2 * 1024;

/// Larger blobs than this are not: both are in memory while one becomes a delta of the other.
pub const SIMILAR_MOST: u64 = 32 * 1024 * 1024;

/// Most steps from a blob that maintenance has made a delta to a whole one.
pub const SIMILAR_DEPTH: u16 = 4;

/// Blobs whose sketches maintenance keeps: some 5 MB.
pub const SKETCHES: usize = 16 * 1024;

/// zlib level of text that maintenance compresses anew, some 4 % smaller than by [`BLOB_LEVEL`], at half its speed.
pub const TEXT_LEVEL: u32 = 6;

/// What was compressed to less than so many tenths is text: base64 of files comes to 7.6.
pub const TEXT_TENTHS: u64 = 7;

/// Trees and commits that maintenance keeps unpacked while it looks for versions of one tree.
pub const MAINTAIN_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Most records of one commit round. Bounds the length of a commit message (about 60 bytes an action) and the time a braid waits.
pub const ROUND_RECORDS: usize = 4096;

/// Most record bytes read for one commit round: what one round holds in memory.
pub const ROUND_BYTES: usize = 32 * 1024 * 1024;

/// How long the store thread sleeps at most before it looks whether to stop.
pub const STORE_IDLE: Duration = Duration::from_millis(500);

/// How long a busy store thread lets operations gather, in terms of what the last commit took: its syncs compete with the journal's own, and
/// are a tenth of the time at most.
pub const GATHER_TIMES: u32 = 10;

/// The longest that it lets them gather: a peer sees a burst this much later.
pub const GATHER_MOST: Duration = Duration::from_millis(250);

/// Operations come in a stream where so long brings [`COMMIT_ASIDE`] of them.
pub const LULL: Duration = Duration::from_millis(5);

/// How long a thread behind the requests may run where others want its processor: longer than any that a client waits for. A thread of
/// the usual slice (0.7 to 3 ms) that is woken takes the processor at once then.
pub const BACKGROUND_SLICE: Duration = Duration::from_millis(10);

/// Operations from which on a commit steps aside for who waits for the processor. A few are committed at once: a peer's clients wait for them.
pub const COMMIT_ASIDE: u64 = 10;

/// How long a thread that works aside ([`crate::background::aside`]) computes at once, and how long it sleeps then: whoever waits for the processor has it meanwhile.
pub const BREATH_EVERY: Duration = Duration::from_micros(250);

/// See [`BREATH_EVERY`].
pub const BREATH: Duration = Duration::from_micros(200);

/// How long a commit is tried again that could not read the repository or lock a ref.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two such tries.
pub const COMMIT_RETRY: Duration = Duration::from_millis(500);

/// How often a commit is tried again on a full disk.
pub const DISK_FULL_RETRY: Duration = Duration::from_millis(500);

/// Commits between two rounds of pack maintenance. Each commit is a pack of its own, and look-ups slow down with their number.
pub const MAINTAIN_AFTER: usize = 8;

/// Threads of an import: enough deliveries at once to share the journal's syncs, few enough for two processors.
pub const IMPORT_THREADS: usize = 16;

/// Most bytes of one push that a peer may send: a joining node's whole mailbox fits, an endless stream does not.
pub const PUSH_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// After so many failures a peer is asked anew whether it takes many pushes over one connection: a plain git may have taken its place, or its ssh say of
/// a command that it does not know what it says of a host.
pub const ASK_AGAIN: u32 = 8;

/// After so many failures in a row a peer that nobody answers for is called by ssh all the same, and ssh asked anew where it would connect to.
pub const ASK_SSH: u32 = 64;

/// First wait after a failed exchange with a peer: a restarting peer is back about so soon.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// Longest wait between two tries of a dead peer: how late a returning peer is noticed if it does not call us first. A try costs a few packets, or one process where
/// ssh goes through another host, and where nothing answers it lasts [`CONNECT_WAIT`] by itself.
pub const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// Scratch content up to this many bytes stays in memory; beyond it goes to a file. Sixteen times a usual mail with an attachment.
pub const SCRATCH_MEMORY: u64 = 1024 * 1024;

/// Bytes that a writer may not take from the store's disk, beyond what the commits of all that was taken need: trees and indices, the next segment of the
/// journal, and what several writers take at once.
pub const ROOM_KEPT: u64 = 4 * 1024 * 1024 + JOURNAL_SEGMENT_BYTES;

/// Bytes that a peer's pack may not take from the store's disk: deliveries end before, and what they brought is committed in what is left.
pub const INCOMING_ROOM_KEPT: u64 = 2 * ROOM_KEPT;

/// With so much more room than is asked for, an answer of some milliseconds ago will do.
pub const ROOM_PLENTY: u64 = 256 * 1024 * 1024;

/// Bytes of decoded blobs kept for readers that take a large mail piece by piece.
pub const BLOB_CACHE: usize = 64 * 1024 * 1024;

/// How long content written in place rests before it is recorded without an fsync: editors and scripts write in several steps.
pub const WRITE_REST: Duration = Duration::from_secs(1);

/// Longest request on the control socket.
pub const CONTROL_LINE: u64 = 64 * 1024;

/// Threads that serve FUSE requests. One of them waits for the disk where a delivery is alone; more deliveries are answered by the journal's own
/// thread, and nobody waits.
pub const FUSE_THREADS: usize = 4;

/// Processors are kept awake until no request has come for this long (up to twice that): longer than a sync, or than what a mail server does between two requests.
pub const AWAKE_REST: Duration = Duration::from_millis(5);

/// How long a stopping daemon waits for open files before it commits and ends without them.
pub const STOP_WAIT: Duration = Duration::from_secs(5);

/// How long a merged pack stays beside its successor (`mailbraid.packGrace`): as long as plain git may need from listing the packs to opening the
/// youngest. A store under full load has four commits, so four packs, a second, and every one of them slows look-ups.
pub const PACK_GRACE: Duration = Duration::from_secs(15);

/// A merged pack stays a second longer for so many bytes of it: `git fsck` has verified all that is younger, which is less, before it opens this one.
pub const PACK_GRACE_BYTES: u64 = 4 * 1024 * 1024;

/// How long the store thread waits for the UID of a message that a server has just delivered, from when the server was told that it is durable, so that both are
/// one commit: Dovecot writes its uidlist right after the rename. A peer hears of a message that gets none so much later.
pub const UID_WAIT: Duration = Duration::from_millis(5);

/// How long a command waits for a daemon that holds the store and answers nothing: it commits what the journal holds before it ends,
/// or recovers before it begins. As long as systemd waits for a service to stop.
pub const HOLDER_WAIT: Duration = Duration::from_secs(90);

/// How often such a command looks whether the daemon is gone: soon enough that `umount` and `mount` in a row are no pause.
pub const HOLDER_POLL: Duration = Duration::from_millis(10);

/// How long `restore` waits for a server that writes a folder's keywords, which takes it a few milliseconds.
pub const KEYWORDS_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Sorted listings kept for readers that take them piece by piece: more directories than are listed at once, and each goes when it was read
/// to its end.
pub const LISTINGS_KEPT: usize = 8;

/// How long a node leaves it to the next in line to braid heads that differ only in braids: several times what a push, a braid and the push back take
/// between machines on one continent; where the way is longer it doubles. In a chain of nodes the next in line may not know the heads, and then all wait for it in vain.
pub const BRAID_TURN: Duration = Duration::from_millis(500);

/// Longest such turn, after waits that did not bring rest. Only braids wait, never operations.
pub const BRAID_TURN_MOST: Duration = Duration::from_secs(60);

/// How often a read of an object that is not found looks again. A pack that was just written or merged is found at the second look; what is
/// really missing is damage, and may take its time.
pub const MISS_RETRIES: u32 = 5;

/// Pause between two such looks.
pub const MISS_PAUSE: Duration = Duration::from_millis(10);

/// Room set aside for a recovery on a full disk: the commits of one journal segment, which is then given back, and a little more.
pub const BALLAST: u64 = JOURNAL_SEGMENT_BYTES + 4 * 1024 * 1024;

/// Most record bytes of a commit round in such a recovery.
pub const ROUND_BYTES_TIGHT: usize = 1024 * 1024;

/// Bytes of trees that a push keeps between its plan and its pack. Those of a usual push, and of any while the node is under load, are a few hundred KB.
pub const PLANNED_TREES: usize = 16 * 1024 * 1024;

/// Bytes of objects kept in memory from the writer for the next push: more than come in half a second under full load.
pub const FRESH_BYTES: usize = 8 * 1024 * 1024;

/// How long after a push the writer keeps objects for the next one.
pub const FRESH_WANTED: Duration = Duration::from_secs(10);

/// Commits of which parents and time are kept in memory: 100 bytes each.
pub const COMMITS_KEPT: usize = 1_000_000;

/// Tries of a braid that operations may overtake; the next one holds the namespace while it merges.
pub const BRAID_TRIES: u32 = 2;

/// How often a braid looks whether a server has let go of a folder that it changes: servers hold them for milliseconds.
pub const BRAID_LOCK_POLL: Duration = Duration::from_millis(5);

/// How long a braid waits for that. Longer than any server works on one folder; one that is stopped must not stop the exchange.
pub const BRAID_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Largest object taken from a peer whole into memory, in bytes: a message.
pub const OBJECT_MAX: usize = MESSAGE_MAX as usize;

/// Largest commit taken from a peer, in bytes: [`ROUND_RECORDS`] lines with two paths each.
pub const COMMIT_BYTES: u64 = ROUND_RECORDS as u64 * 2 * 4 * PATH_MAX as u64;

/// Largest tree taken from a peer, in bytes. A leaf has [`TRIE_LEAF_MAX`] entries of some 300 bytes; only names of one identity may be more.
pub const TREE_BYTES: u64 = 16 * 1024 * 1024;

/// Largest facts of a folder taken from a peer, in bytes: 26 keywords and a few numbers.
pub const FACTS_BYTES: u64 = 1024 * 1024;

/// Longest path that the kernel takes in one call, in bytes.
pub const PATH_MAX: usize = 4096;

/// Longest path taken from a peer, in bytes: relative calls can nest deeper than [`PATH_MAX`], but nobody has folders like that.
pub const PEER_PATH: usize = 16 * PATH_MAX;

/// Most commits that a peer may bring at once to a node that has a history: a month at one commit in five seconds. A node that joins takes any number.
pub const PEER_COMMITS: usize = 500_000;

/// Commits of peers that are known to be good: 2 MB of their ids.
pub const CHECKED_KEPT: usize = 64 * 1024;

/// Most commits that are counted for a peer's lag: beyond it is "many", and counting takes time.
pub const LAG_COUNTED: usize = 10_000;

/// How often a peer is asked what it has. What it pushes comes at once; this is for peers that cannot call us.
pub const FETCH_EVERY: Duration = Duration::from_secs(10);

/// How often the refs are looked at even where the kernel reported no change: a directory that `git pack-refs` removed, say, was not watched for a moment.
pub const REFS_LOOK: Duration = Duration::from_secs(1);

/// How long a stopping daemon waits for its peers to take the last commits.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// How long a connection to a peer may take to come about.
pub const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// How often an idle ssh connection is probed. Two probes without an answer end it: a link that was cut drops packets silently, and what was sent
/// before is repeated ever more slowly.
pub const KEEPALIVE: Duration = Duration::from_secs(1);

/// How long an idle ssh connection stays open for the next push.
pub const SSH_PERSIST: Duration = Duration::from_secs(600);

/// Longest path of a Unix socket that ssh can bind: the kernel's 108 bytes less the suffix that ssh adds while it does.
pub const SSH_SOCKET_PATH: usize = 108 - 18;

/// How long a peer may say nothing, or take nothing, before it is given up: git's server sends a sign of life every 5 s while it makes a pack, and a busy machine may be ten
/// times slower. Another number of seconds may be set (`mailbraid.peerTimeout`).
pub const PEER_SILENCE: Duration = Duration::from_secs(60);

/// Bytes of a pack that any peer checks in a second, at least: it says nothing while it does.
pub const CHECKED_A_SECOND: u64 = 1024 * 1024;

/// How long a peer's process that has closed its output may take to end, so that its reason can be read.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes of what is said to a peer at a time that are compressed with what was said before; whoever says more says it as it is.
pub const DEFLATED: usize = 8 * 1024;

/// zlib level of these.
pub const DEFLATED_LEVEL: u32 = 6;

/// Bytes for a peer that are gathered into one packet: a usual push whole.
pub const STREAM_BUFFER: usize = 64 * 1024;

/// How often the log hears how far a long exchange is.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// How long it must be quiet before the connection for the next push is opened: the peer braids, shows and tells its clients in less.
pub const LINE_REST: Duration = Duration::from_millis(50);

/// How long a store's lock is waited for whose holder is gone: a program that it was starting has the lock until its exec.
pub const STORE_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Pause between two tries of it.
pub const STORE_LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How long the threads of a killed daemon may take to end before the connection to its mount is broken; nobody answers on it any more.
pub const GUARD_WAIT: Duration = Duration::from_millis(500);

/// Pause between two looks at them.
pub const GUARD_POLL: Duration = Duration::from_millis(20);
