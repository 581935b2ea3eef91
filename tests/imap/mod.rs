//! Real IMAP servers, delivery agents and clients over the mount.
//!
//! The harness: [`client`] and [`lmtp`] speak the protocols; [`dovecot`], [`courier`] and [`mailutils`] run the servers; [`ground`] is
//! where they run; [`session`] is the script they all run, and [`transcript`] makes two runs of it comparable.

// A harness: replication and benchmarks use parts that no test here does.
#![allow(dead_code)]

pub mod agents;
mod arrivals;
pub mod client;
mod clone;
mod cost;
pub mod courier;
mod delivery;
pub mod dovecot;
mod equality;
pub mod ground;
pub mod lmtp;
pub mod mailutils;
pub mod postfix;
mod readme;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod tools;
pub mod transcript;
mod works;
