//! Nodes on machines of their own: network namespaces joined by a bridge, in each an sshd, a store, its mount and a Dovecot.
//!
//! ```text
//!   namespace a            namespace hub            namespace b
//!   mailbraid ─ ssh ─ eth0 ═════ bridge ═════ eth0 ─ sshd ─ mailbraid serve
//!   dovecot                                          dovecot
//! ```
//!
//! A port of the bridge that is taken down cuts a node off as a pulled cable does: packets vanish and nobody is told. All names carry the
//! process id of the test, so what a killed run left behind is found and cleared by the next one.
//!
//! A binary of its own (`cargo test --test net`), because it wants the processors for itself, and because these are the runs that can be made long:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `MAILBRAID_NET_SECONDS` | how long schedules of partitions, and each phase of the load, go on | 12, 3 |
//! | `MAILBRAID_NET_DELIVERIES` | mails from node to node whose way is timed | 36 |
//! | `MAILBRAID_NET_KILLS` | how often a node is killed, and cut off, in each of four parts of its work | 4 |
//! | `MAILBRAID_NET_RATE` | deliveries a second of the load | 300 |
//! | `MAILBRAID_NET_MESSAGES` | messages of the large folder | 100,000 |
//! | `MAILBRAID_NET_STAGES` | 1: what part of that way takes how long | 0 |
//! | `MAILBRAID_SEED` | repeats a run's random choices | drawn and printed |
//!
//! Needs root, `ip` and `sshd`; the test that lacks one says so.

// The long runs use parts that the short ones do not.
#![allow(dead_code)]

mod alone;
mod arrivals;
mod cluster;
#[path = "servers.rs"]
mod imap;
mod kills;
mod knobs;
mod load;
mod mailbox;
mod network;
mod node;
mod partition;
mod peers;
#[path = "../../simulation/random.rs"]
mod random;
mod relay;
mod shapes;
mod ssh;
#[path = "../../support/mod.rs"]
mod support;
mod wire;
