//! What the store's threads and the peers' tell each other: heads of others that are ready to be braided, and that our own has moved.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;

use super::PeerStatus;
use crate::maildir::Oid;

/// Who answers for the peers in `status`.
pub type PeersSay = Box<dyn Fn() -> Vec<PeerStatus> + Send + Sync>;

/// The meeting place. Locks here are held for an instant and never with another.
#[derive(Default)]
pub struct Heads {
    /// Offered and not taken up yet: the last for each name.
    offered: Mutex<BTreeMap<String, Oid>>,
    watchers: Mutex<Vec<Sender<()>>>,
    peers: Mutex<Option<PeersSay>>,
    /// Why heads could not be braided.
    unbraided: Mutex<BTreeMap<String, String>>,
}

impl Heads {
    /// A verified head of a node. The last one counts; the store thread drops it where it knows a later one.
    pub fn offer(&self, node: &str, head: Oid) {
        self.offered.lock().insert(node.to_owned(), head);
    }

    /// What was offered since the last call.
    pub fn take(&self) -> BTreeMap<String, Oid> {
        std::mem::take(&mut *self.offered.lock())
    }

    /// A channel that gets a `()` whenever this node's head has moved. It holds one: who is late learns of many moves at once.
    pub fn watch(&self) -> Receiver<()> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.watchers.lock().push(sender);
        receiver
    }

    /// This node's head has moved.
    pub fn moved(&self) {
        self.watchers.lock().retain(|watcher| {
            // A full channel has told it already.
            !matches!(watcher.try_send(()), Err(TrySendError::Disconnected(())))
        });
    }

    /// Heads of these nodes cannot be braided, or all can where it is empty.
    pub fn set_unbraided(&self, why: BTreeMap<String, String>) {
        *self.unbraided.lock() = why;
    }

    /// Why a node's head could not be braided, by node.
    pub fn unbraided(&self) -> BTreeMap<String, String> {
        self.unbraided.lock().clone()
    }

    /// Sets who answers for the peers.
    pub fn set_peers(&self, say: PeersSay) {
        *self.peers.lock() = Some(say);
    }

    /// The peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.peers
            .lock()
            .as_ref()
            .map_or_else(Vec::new, |say| say())
    }
}
