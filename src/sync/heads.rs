//! The heads of other nodes: heard of, checked, told to the store.
//!
//! A head comes by a push into `refs/mailbraid/peers/NODE`, or by a fetch that found it at a peer. Either way it goes through
//! [`Heads::consider`]:
//!
//! ```text
//! older than what is known of NODE ───────────────► nothing
//! neither older nor newer (NODE lost its store) ──► waits until our own head holds what is known
//! contained in our own head ──────────────────────► noted
//! new ──► checked ──┬─ good ──► durable, its ref set ──► the store, which braids it
//!                   └─ bad ───► refs/mailbraid/refused/NODE; `status` says why
//! ```
//!
//! Rules:
//! - What is told to the store has passed [`super::verify`], is durable, and is held by a ref.
//! - A refused head's objects stay under a ref out of the way: an administrator can look at them, and nothing else does.
//! - A head under our own name that our history does not contain is of a former life of this node. It is braided like any other, and only then do we
//!   push over it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::sync::Arc;

use log::{debug, info, warn};
use parking_lot::Mutex;

use super::one_line;
use super::verify::{Checked, verify};
use crate::awake;
use crate::config::{PEER_COMMITS, check_node};
use crate::history::{HistoryError, Repo};
use crate::limits;
use crate::maildir::Oid;
use crate::store::Store;

/// Heads of other nodes.
pub const PEERS: &str = "refs/mailbraid/peers/";
/// Heads that were refused.
pub const REFUSED: &str = "refs/mailbraid/refused/";

/// What became of a head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Considered {
    /// Nothing new.
    Known,
    /// The store has it.
    Offered,
    /// To be asked again when our own head has moved.
    Later,
    /// It is bad.
    Refused(String),
}

/// See the module's header.
pub struct Heads {
    store: Arc<Store>,
    repo: Repo,
    state: Mutex<State>,
    checked: Mutex<Checked>,
    /// Packs known to be on the disk.
    synced: Mutex<HashSet<OsString>>,
}

#[derive(Default)]
struct State {
    /// The newest checked head of each node.
    known: BTreeMap<String, Oid>,
    /// When it came, in seconds since the epoch.
    heard: BTreeMap<String, i64>,
    refused: BTreeMap<String, (Oid, String)>,
    /// Values of refs that need no second look.
    seen: BTreeMap<String, Oid>,
}

impl Heads {
    /// Nothing is known yet but what was refused before.
    ///
    /// # Errors
    /// Where the refs cannot be read.
    pub fn new(store: &Arc<Store>) -> Result<Self, HistoryError> {
        let repo = store.repo().clone();
        let mut state = State::default();
        for (name, head) in repo.refs(REFUSED)? {
            let node = name[REFUSED.len()..].to_owned();
            let why = format!("head {head} was refused, see the log of that time and {name}");
            state.refused.insert(node, (head, why));
        }
        Ok(Self {
            store: Arc::clone(store),
            repo,
            state: Mutex::new(state),
            checked: Mutex::default(),
            synced: Mutex::new(HashSet::new()),
        })
    }

    /// Looks at the refs that peers push. Returns the nodes that have pushed since the last look.
    pub fn look(&self) -> Vec<String> {
        let mut moved = Vec::new();
        let refs = match self.repo.refs(PEERS) {
            Ok(refs) => refs,
            Err(error) => {
                warn!("the peers' refs cannot be read: {error}");
                return moved;
            }
        };
        for (name, head) in refs {
            if self.state.lock().seen.get(&name) == Some(&head) {
                continue;
            }
            let node = &name[PEERS.len()..];
            if check_node(node.to_owned()).is_err() {
                // git lets a peer that may write `a` write `a/b` too.
                warn!("{name} has no node's name and is removed");
                if let Err(error) = self.repo.delete_ref(&name, head) {
                    warn!("{name}: {error}");
                }
                continue;
            }
            match self.consider(node, head, true) {
                Ok(Considered::Later) => {}
                Ok(_) => {
                    moved.push(node.to_owned());
                    self.state.lock().seen.insert(name, head);
                }
                Err(error) => warn!("head {head} of {node}: {error}; it is tried again"),
            }
        }
        moved
    }

    /// Takes up a head of `node`; `pushed`: it is the value of its ref.
    ///
    /// # Errors
    /// Where our own history or refs cannot be read or written. The head is not to blame, and is to be asked for again.
    pub fn consider(
        &self,
        node: &str,
        head: Oid,
        pushed: bool,
    ) -> Result<Considered, HistoryError> {
        awake::touch();
        debug!("head of {node} came: {head}");
        let (before, mut good) = {
            let state = self.state.lock();
            if let Some((refused, why)) = state.refused.get(node)
                && *refused == head
                && !pushed
            {
                return Ok(Considered::Refused(why.clone()));
            }
            let good: Vec<Oid> = state.known.values().copied().collect();
            (state.known.get(node).copied(), good)
        };
        if before == Some(head) {
            return Ok(Considered::Known);
        }
        if check_node(node.to_owned()).is_err() {
            // What a meeting point has beside nodes' heads is not for us.
            return Ok(Considered::Known);
        }
        let reader = self.repo.reader();
        let own = self.repo.head()?;
        good.extend(own);
        let is_own = node == self.store.node();
        if !reader.surely_has(head) {
            return self.refuse(node, head, pushed, &format!("object {head} is missing"));
        }
        let contained = match own {
            Some(own) => reader.is_contained(head, own),
            None => Ok(false),
        };
        let contained = match contained {
            Ok(contained) => contained,
            Err(why) => return self.refuse(node, head, pushed, &why.to_string()),
        };
        if is_own && contained {
            return Ok(Considered::Known);
        }
        if let Some(before) = before
            && !is_own
        {
            if reader.is_contained(head, before)? {
                return Ok(Considered::Known);
            }
            let held = own.is_some_and(|own| reader.is_contained(before, own).unwrap_or(false));
            if !held && !reader.is_contained(before, head)? {
                return Ok(Considered::Later);
            }
        }
        if !contained {
            let most = own.map(|_| self.most_commits());
            match verify(&reader, head, &good, most, &self.checked) {
                Ok(commits) => info!("{node}: head {head}, {commits} commits"),
                Err(why) => return self.refuse(node, head, pushed, &why.to_string()),
            }
        }
        self.repo.sync_packs(&mut self.synced.lock())?;
        if !pushed && !is_own {
            let name = format!("{PEERS}{node}");
            let now = self.repo.find_ref(&name)?;
            if now != Some(head) {
                // Before it is there, or the watcher would check it once more.
                self.state.lock().seen.insert(name.clone(), head);
                if let Err(why) = self.repo.update_ref(&name, head, now) {
                    self.state.lock().seen.remove(&name);
                    return match why {
                        // It was pushed in this moment, and is seen at the next look.
                        HistoryError::RefMoved { .. } => Ok(Considered::Known),
                        why => Err(why),
                    };
                }
            }
        }
        {
            let mut state = self.state.lock();
            if !is_own {
                state.known.insert(node.to_owned(), head);
                state.heard.insert(node.to_owned(), super::unix_now());
            }
            state.refused.remove(node);
        }
        self.store.offer(node, head);
        Ok(Considered::Offered)
    }

    /// The newest checked head of a node.
    #[must_use]
    pub fn known(&self, node: &str) -> Option<Oid> {
        self.state.lock().known.get(node).copied()
    }

    /// Nodes that were heard of, and when: seconds since the epoch.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<String, i64> {
        self.state.lock().heard.clone()
    }

    /// Why heads were refused, by node.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<String, String> {
        let state = self.state.lock();
        let refused = state.refused.iter();
        refused
            .map(|(node, (_, why))| (node.clone(), why.clone()))
            .collect()
    }

    fn most_commits(&self) -> usize {
        let set = self.repo.config_string(PEER_COMMITS).ok().flatten();
        set.and_then(|text| text.parse().ok())
            .unwrap_or(limits::PEER_COMMITS)
    }

    fn refuse(
        &self,
        node: &str,
        head: Oid,
        pushed: bool,
        why: &str,
    ) -> Result<Considered, HistoryError> {
        let why = one_line(&format_args!("head {head} is refused: {why}"));
        warn!("{node}: {why}");
        let reader = self.repo.reader();
        if reader.surely_has(head) {
            let name = format!("{REFUSED}{node}");
            let now = self.repo.find_ref(&name)?;
            if now != Some(head) {
                self.repo.update_ref(&name, head, now)?;
            }
        }
        let before = {
            let mut state = self.state.lock();
            state.refused.insert(node.to_owned(), (head, why.clone()));
            state.known.get(node).copied()
        };
        if pushed {
            let name = format!("{PEERS}{node}");
            let moved = match before {
                Some(before) => self.repo.update_ref(&name, before, Some(head)),
                None => self.repo.delete_ref(&name, head),
            };
            match moved {
                // It was pushed again in this moment.
                Err(HistoryError::RefMoved { .. }) => {}
                done => done?,
            }
        }
        Ok(Considered::Refused(why))
    }
}
