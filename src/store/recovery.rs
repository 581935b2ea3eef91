//! Opening a store: from whatever a crash left to a head that holds every acknowledged operation.
//!
//! The repository's head names, in its trailers, the last operation it holds. The journal holds the operations after it (and perhaps some before).
//! Recovery commits the rest before the mount is shown, so a mount always starts from a tree of the repository alone.
//!
//! | label | found | done |
//! |---|---|---|
//! | S1 | nothing, or an interrupted creation | the store is created, or its creation finished |
//! | S2 | a head, and a journal that holds nothing after it | nothing to do: a clean stop |
//! | S3 | a head, and later operations in the journal | they are committed |
//! | S4 | no head, and operations from 1 on | they are committed: killed before the first commit |
//! | S5 | operations in the journal that the head holds already | skipped: killed between the commit and the journal's release |
//! | S6 | the journal begins later than the head's last operation + 1 | refused by the journal: acknowledged operations are missing |
//! | S7 | no journal (lost or removed), and a head | a new journal that counts on from the head |
//! | S8 | spilled files that no operation names | removed: killed before the record, or after the commit |
//! | S9 | a spilled file missing, its blob in the repository | the blob is used: killed while spilled files were removed |
//! | S10 | a spilled file missing, and no such blob | refused: content of an acknowledged delivery is missing |
//! | S11 | a stale `refs/heads/mail.lock` | removed: the store's lock says that its writer is dead |
//! | S12 | a head made elsewhere (no trailer of this node) | the nearest ancestor with one tells where the journal goes on |
//! | S13 | the journal's torn tail | cut, and said in the log (the journal's own table) |
//! | S14 | a full disk | the ballast is given up, and small rounds each give back what they have committed: spilled files and segments |

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs;

use log::{info, warn};

use super::committer::Committer;
use super::{Layout, StoreError, message};
use crate::history::{Repo, room_left};
use crate::journal::{self, Journal, Recovery};
use crate::limits;
use crate::maildir::Oid;

/// The last operation of `node` that the history at `head` holds; 0 where it holds none (S4, S12).
///
/// Of one life all commits of a node are in a line, so below the newest there is nothing to look for: the walk goes down by commit time, and ends when
/// all that is left are ancestors of commits of this node. Others' commits beyond its newest are read, others' whole histories are not.
///
/// # Errors
/// Where a commit cannot be read.
pub fn last_committed(repo: &Repo, head: Option<Oid>, node: &str) -> Result<u64, StoreError> {
    let reader = repo.reader();
    let mut queue = BinaryHeap::new();
    // Whether a commit is below one of ours.
    let mut seen: HashMap<Oid, bool> = HashMap::new();
    // Queued commits that are not.
    let mut open = 0_usize;
    let mut last = 0;
    if let Some(head) = head {
        queue.push((reader.commit(head)?.time, head));
        seen.insert(head, false);
        open = 1;
    }
    let mut queued: HashSet<Oid> = head.into_iter().collect();
    while open > 0
        && let Some((_, id)) = queue.pop()
    {
        queued.remove(&id);
        let mut below = seen.get(&id).copied().unwrap_or(false);
        open -= usize::from(!below);
        let commit = reader.commit(id)?;
        if let Some((of, sequence)) = message::trailers(&commit.message)
            && of == node
        {
            last = last.max(sequence.last);
            below = true;
        }
        for parent in commit.parents {
            let known = seen.get(&parent).copied();
            if known.is_some_and(|known| known || !below) {
                continue;
            }
            seen.insert(parent, below);
            if queued.insert(parent) {
                queue.push((reader.commit(parent)?.time, parent));
                open += usize::from(!below);
            } else {
                // It was open and is not any more.
                open -= 1;
            }
        }
    }
    Ok(last)
}

/// The last operation of `node` among the commits that `head` has beyond `own`; 0 where there is none. Reads those commits and no others, however long the
/// histories are: this is asked for every braid.
///
/// # Errors
/// Where a commit cannot be read.
pub fn last_beyond(repo: &Repo, head: Oid, own: Oid, node: &str) -> Result<u64, StoreError> {
    let reader = repo.reader();
    let mut last = 0;
    for id in reader.commits_between(head, &[own], usize::MAX - 1)? {
        let commit = reader.commit(id)?;
        if let Some((of, sequence)) = message::trailers(&commit.message)
            && of == node
        {
            last = last.max(sequence.last);
        }
    }
    Ok(last)
}

/// Opens the journal beside a history that ends at operation `committed`.
///
/// # Errors
/// What the journal refuses, S6 among it.
pub fn open_journal(
    layout: &Layout,
    committed: u64,
    options: &journal::Options,
) -> Result<(std::sync::Arc<Journal>, Recovery), StoreError> {
    let options = journal::Options {
        first_seq: committed + 1,
        ..options.clone()
    };
    let (journal, found) = Journal::open(&layout.journal(), options)?;
    if let Some(cut) = &found.cut {
        warn!(
            "journal: cut a torn tail in {} at byte {}: {}",
            cut.file.display(),
            cut.offset,
            cut.why
        );
    }
    Ok((journal, found))
}

/// Commits what the journal holds beyond the head (S3, S4, S5), then removes spilled files that nothing needs (S8).
///
/// # Errors
/// S10; [`StoreError::NoRoom`]; a repository that cannot be written.
pub fn replay(
    layout: &Layout,
    journal: &Journal,
    committer: &mut Committer,
) -> Result<(), StoreError> {
    let from = committer.done();
    let mut bytes = limits::ROUND_BYTES;
    while journal.last() > committer.done() {
        let tight = bytes == limits::ROUND_BYTES_TIGHT;
        let round = match committer.round_of(journal, bytes) {
            Ok(round) => round,
            Err(error) if error.is_disk_full() && !tight => {
                warn!("the disk is full; recovering with the room set aside");
                let _ = fs::remove_file(layout.ballast());
                // Nothing is appended before all is committed.
                journal.give_back(0);
                bytes = limits::ROUND_BYTES_TIGHT;
                continue;
            }
            Err(error) if error.is_disk_full() => return Err(StoreError::NoRoom(error.into())),
            Err(error) => return Err(error),
        };
        // Each round gives back what it no longer needs: segments and spilled files.
        journal.release(round.committed)?;
        for id in &round.spilled {
            // What cannot be removed goes with the rest, below.
            let _ = fs::remove_file(layout.spill().join(id.to_string()));
        }
        if tight {
            journal.give_back(0);
        }
    }
    journal.keep();
    if committer.done() > from {
        info!("recovered operations {} to {}", from + 1, committer.done());
    }
    journal.release(committer.done())?;
    let listing =
        fs::read_dir(layout.spill()).map_err(|error| StoreError::io(layout.spill(), error))?;
    for entry in listing.flatten() {
        if let Err(error) = fs::remove_file(entry.path()) {
            warn!("{}: {error}", entry.path().display());
        }
    }
    Ok(())
}

/// Sets room aside for the next recovery (S14), where the disk has plenty. Without it, a store that was killed on a full disk could
/// not be mounted before somebody made room.
pub fn set_aside(layout: &Layout) {
    let path = layout.ballast();
    let made = || -> std::io::Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        if file.metadata()?.len() < limits::BALLAST && room_left(&path)? > 2 * limits::BALLAST {
            rustix::fs::fallocate(
                &file,
                rustix::fs::FallocateFlags::empty(),
                0,
                limits::BALLAST,
            )?;
        }
        Ok(())
    };
    if let Err(error) = made() {
        info!("{}: no room set aside: {error}", path.display());
    }
}
