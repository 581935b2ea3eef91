//! The hidden repository: tries, packs and deltas, commits, refs, maintenance. The only importer of gix.

mod durable;
mod error;
mod hash;
mod pack;
mod pending;
mod reader;
mod refs;
mod repo;
mod revision;
mod tree;
mod trie;
mod writer;

pub use error::HistoryError;
pub use hash::{BlobHasher, hash_blob};
pub use reader::{CommitInfo, Reader};
pub use refs::HEAD_REF;
pub use repo::{InitOptions, Repo};
pub use writer::{CommitText, Writer};
