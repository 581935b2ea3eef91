//! The hidden repository: tries, packs and deltas, commits, refs, maintenance. The only importer of gix.

mod adopt;
mod canonical;
mod complete;
mod diff;
mod durable;
mod error;
mod exchange;
mod facts;
mod fetch;
mod fresh;
mod graph;
mod hash;
mod incoming;
mod lawful;
mod log;
mod maintain;
mod pack;
mod paint;
mod pending;
mod reach;
mod reader;
mod refs;
mod repo;
mod revision;
mod tree;
mod trie;
mod writer;

#[cfg(test)]
mod model;

pub use canonical::Canonical;
pub use diff::{Difference, TrieNode};
pub use durable::room_left;
pub use error::HistoryError;
pub use exchange::{PackError, PackForm, PackPlan};
pub use fetch::Received;
pub use graph::Graph;
pub use hash::{BlobHasher, hash_blob};
pub use incoming::Incoming;
pub use log::{FirstParents, PathChange};
pub use maintain::{Maintainer, Maintenance, Report, maintain};
pub use reader::{CommitInfo, Memory, Reader};
pub use refs::HEAD_REF;
pub use repo::{InitOptions, Repo};
pub use writer::{CommitText, RawNode, RawPlace, Weaver, Writer};
