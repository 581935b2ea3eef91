//! A clone becomes a store (see `history::adopt`): which node it is.
//!
//! A clone holds another node's history, and two living nodes of one name would each take the other's operations for its own. So a clone that is just mounted gets a name that
//! its history does not know: the host's, with a number where that is taken. Who replaces a lost node names it (`mailbraid init STORE --node NAME`): its journal then goes on
//! after the last operation of that node that the clone holds.

use log::info;

use super::{Layout, Store, StoreError, recovery};
use crate::history::Repo;

/// Refs of the heads that were pushed by other nodes.
const PEERS: &str = "refs/mailbraid/peers/";

impl Store {
    /// Makes a store of the clone at `path`, under a name like `node` that its history does not know, and leaves it closed.
    ///
    /// # Errors
    /// [`StoreError::Exists`] where it is a store already; see [`Store::init`].
    pub fn adopt(path: &std::path::Path, node: &str) -> Result<(), StoreError> {
        let layout = Layout::new(path);
        layout.check_usable()?;
        if !layout.exists() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        let _lock = super::Lock::take(&layout)?;
        let adopted = under_a_new_name(&layout, node)?;
        adopted
            .map(drop)
            .ok_or_else(|| StoreError::Exists(path.to_owned()))
    }
}

/// Adopts the clone under exactly this name; `None` where it is a store already.
pub(super) fn under(layout: &Layout, node: &str) -> Result<Option<Repo>, StoreError> {
    Repo::adopt(&layout.repo(), |_| Ok(node.to_owned()))
}

/// Adopts the clone under a name like this one that its history does not know; `None` where it is a store already.
pub(super) fn under_a_new_name(layout: &Layout, node: &str) -> Result<Option<Repo>, StoreError> {
    Repo::adopt(&layout.repo(), |clone| {
        let head = clone.head()?;
        let known = clone.refs(PEERS)?;
        let mut name = node.to_owned();
        let mut number = 1;
        while known.contains_key(&format!("{PEERS}{name}"))
            || recovery::last_committed(clone, head, &name)? > 0
        {
            number += 1;
            name = format!("{node}-{number}");
        }
        info!("{}: a clone; this node is {name}", layout.root().display());
        Ok(name)
    })
}
