//! All integration tests, one binary. Run with `tests/run`, which installs what they need.

// A bench that takes these modules uses more of them than the tests do.
#[allow(dead_code)]
mod bench;
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
