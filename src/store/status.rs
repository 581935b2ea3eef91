//! What `mailbraid status` tells, as values.

use serde::{Deserialize, Serialize};

use super::Layout;

/// The state of a store. The JSON form is stable: fields are added, never renamed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// Id of the newest commit; absent in an empty store.
    pub head: Option<String>,
    /// Where the store is mounted; absent where no daemon runs.
    pub mountpoint: Option<String>,
    /// Why the store refuses to write; absent while all is well.
    pub poisoned: Option<String>,
    /// How far the history lags behind the mount.
    pub journal: JournalStatus,
    /// Packs in the repository.
    pub packs: usize,
    /// What the store thread is waiting for (a full disk), if it is.
    pub waiting: Option<String>,
    /// The peers.
    pub peers: Vec<PeerStatus>,
}

/// Sequence numbers of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Last operation the journal took.
    pub acknowledged: u64,
    /// Last operation durable in the repository.
    pub committed: u64,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name: that of the git remote.
    pub name: String,
    /// Its URL; empty for a node that calls us and is not called.
    pub url: String,
    /// Commits of ours that it does not have yet, counted up to 10,000.
    pub lag: u64,
    /// Last successful contact, in seconds since the epoch.
    pub last_contact: Option<i64>,
    /// Last error; absent after a success.
    pub last_error: Option<String>,
    /// Why what it sent is not braided; absent while all of it is.
    #[serde(default)]
    pub refused: Option<String>,
    /// What goes on with it at this moment, and how far it is; absent while all is quiet.
    #[serde(default)]
    pub doing: Option<String>,
}

/// Packs with an index in the repository.
#[must_use]
pub fn count_packs(layout: &Layout) -> usize {
    std::fs::read_dir(layout.repo().join("objects/pack"))
        .map(|listing| {
            listing
                .flatten()
                .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "idx"))
                .count()
        })
        .unwrap_or(0)
}
