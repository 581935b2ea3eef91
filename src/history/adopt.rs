//! A clone becomes a store.
//!
//! The problem: a backup of a store is `git clone --mirror`, and a clone's config is a new one: it lacks the store's format, the node's name and the policy that keeps
//! plain git's maintenance away. Rules:
//!
//! - Only a bare repository whose `refs/heads/mail` is a history as we write it is taken; any other is refused untouched.
//! - What the clone was made from is forgotten. A mirror's `fetch = +refs/*:refs/*` would let `git fetch` overwrite the head below a mount; and a backup that is mounted
//!   is not asked whether it wants to exchange mail: peers are added by name.
//! - The config is replaced by one rename: an interrupted adoption leaves a clone.

use std::path::Path;

use super::repo::{CONFIG, edit, parse_config, read_config};
use super::{HistoryError, Repo};
use crate::limits;

impl Repo {
    /// Makes the clone of a store's repository at `path` a store's own, for the node that `name` chooses, and opens it; `None` where it is one already. Durable when it returns.
    ///
    /// # Errors
    /// [`HistoryError::Unsupported`] where the repository is no clone of a store's; what `name` says; I/O errors.
    pub fn adopt<E: From<HistoryError>>(
        path: &Path,
        name: impl FnOnce(&Self) -> Result<String, E>,
    ) -> Result<Option<Self>, E> {
        let config = read_config(path)?;
        if config.string("mailbraid.format").is_some() {
            return Ok(None);
        }
        if !matches!(config.boolean("core.bare"), Ok(Some(true))) {
            return Err(foreign(path, "clone the store's repo.git with --mirror").into());
        }
        let clone = Self::open_any(path)?;
        clone.check_history()?;
        let node = name(&clone)?;
        clone.take_over(&node)?;
        Ok(Some(Self::open(path)?))
    }

    /// Whether the head is a history as we write it.
    fn check_history(&self) -> Result<(), HistoryError> {
        let not_ours = || {
            foreign(
                self.path(),
                "its refs/heads/mail is no history of a mailbraid store",
            )
        };
        let head = self.head()?.ok_or_else(not_ours)?;
        let reader = self.reader();
        let tree = reader.commit(head)?.tree;
        reader.dir(tree).map(drop).map_err(|_| not_ours())
    }

    fn take_over(&self, node: &str) -> Result<(), HistoryError> {
        self.rewrite_config(|path, text| {
            let mut config = parse_config(path, text)?;
            while config.remove_section("remote", "origin").is_some() {}
            // Where a key stands twice, the later one counts.
            let policy = parse_config(path, format!("[core]\n{CONFIG}").as_bytes())?;
            config
                .append(policy)
                .map_err(|error| HistoryError::Config {
                    path: path.to_path_buf(),
                    reason: format!("{error:#}"),
                })?;
            let text = config.to_bstring();
            let format = limits::STORE_FORMAT.to_string();
            let ours = [
                ("mailbraid.format", format.as_str()),
                ("mailbraid.node", node),
            ];
            edit(path, &text, &ours)
        })
    }
}

fn foreign(path: &Path, why: &str) -> HistoryError {
    HistoryError::Unsupported {
        path: path.to_path_buf(),
        what: format!("not a mailbraid store, nor a clone of one: {why}"),
    }
}
