//! `mailbraid peer add|remove|list STORE [NAME URL]`: peers are git remotes in the repository's own config. A daemon that has the store mounted notices.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Failure, open_repo};
use crate::config::{self, check_peer};

/// What to do with the peers.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Exchange history with a node from now on
    Add {
        /// The store directory
        store: PathBuf,
        /// The name of the peer's node
        name: String,
        /// ssh://USER@HOST/STORE, git://HOST/REPOSITORY, file:///STORE or a path
        url: String,
    },
    /// End the exchange with a node; its mail stays
    Remove {
        /// The store directory
        store: PathBuf,
        /// The name of the peer's node
        name: String,
    },
    /// List the peers: name, tab, URL
    List {
        /// The store directory
        store: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// One line.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Add { store, name, url } => add(&store, &name, &url),
        Command::Remove { store, name } => remove(&store, &name),
        Command::List { store } => list(&store),
    }
}

fn add(store: &Path, name: &str, url: &str) -> Result<(), Failure> {
    let repo = open_repo(store)?;
    let peer = check_peer(name, &whole(url))?;
    let own = config::Config::read(&repo)
        .map_err(|error| error.to_string())?
        .node;
    if own == name {
        return Err(format!(
            "{name} is this node's own name; give the name of the peer's node (mailbraid.node in its config)"
        ));
    }
    let remotes = repo.remotes().map_err(|error| error.to_string())?;
    if let Some(known) = remotes.get(name)
        && *known != peer.url
    {
        return Err(format!(
            "{name} is a peer already, at {known}; remove it first with `mailbraid peer remove {} {name}`",
            store.display()
        ));
    }
    repo.set_config(&format!("remote.{name}.url"), &peer.url)
        .map_err(|error| error.to_string())
}

/// A path that is there is made absolute: the daemon works elsewhere.
fn whole(url: &str) -> String {
    if url.starts_with('-') || url.starts_with('/') || url.contains(':') {
        return url.to_owned();
    }
    match Path::new(url).canonicalize() {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => url.to_owned(),
    }
}

fn remove(store: &Path, name: &str) -> Result<(), Failure> {
    let repo = open_repo(store)?;
    if repo
        .remove_remote(name)
        .map_err(|error| error.to_string())?
    {
        return Ok(());
    }
    Err(format!(
        "{name} is no peer of {}; `mailbraid peer list {}` shows them",
        store.display(),
        store.display()
    ))
}

fn list(store: &Path) -> Result<(), Failure> {
    let repo = open_repo(store)?;
    let (peers, faults) = config::peers(&repo).map_err(|error| error.to_string())?;
    let mut out = std::io::stdout().lock();
    for peer in peers {
        writeln!(out, "{}\t{}", peer.name, peer.url).map_err(|error| error.to_string())?;
    }
    match faults.first() {
        Some(fault) => Err(fault.clone()),
        None => Ok(()),
    }
}
