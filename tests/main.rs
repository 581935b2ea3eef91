//! All integration tests, one binary. Run with `tests/run`, which installs what they need.

mod codecs;
mod history;
mod house;
mod imap;
mod merge_laws;
mod model;
mod mount;
mod recovery;
mod replication;
mod simulation;
mod support;
