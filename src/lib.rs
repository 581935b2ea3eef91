//! mailbraid: a FUSE filesystem that presents an ordinary Maildir tree and keeps it as a replicated git history.
//!
//! Modules in order of dependency; a test holds the order.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod maildir;

pub mod history;
pub mod journal;
pub mod merge;

pub mod store;

pub mod fs;
pub mod sync;

pub mod fuse;

pub mod awake;
pub mod background;
pub mod cli;
pub mod config;
pub mod limits;
pub mod turns;
