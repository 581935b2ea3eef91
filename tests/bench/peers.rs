//! `cargo bench --bench peers`: what peers cost and what they take, between machines.
//!
//! Sections: `arrivals` (an LMTP delivery on one node until `EXISTS` in a sleeping session on another, beside `doveadm sync` run for each delivery),
//! `wire` (bytes for one flag change in a folder of 100,000 messages), `load` (1,000 deliveries a second with a far peer and a dead one).
//!
//! Arguments: names (or parts of names) of sections. How long each is: `MAILBRAID_NET_DELIVERIES`, `…_MESSAGES`, `…_RATE`, `…_SECONDS`.

// The modules are shared with the tests in `tests/replication/net`; the bench uses a part.
#![allow(dead_code)]

#[path = "../replication/net/arrivals.rs"]
mod arrivals;
#[path = "../replication/net/cluster.rs"]
mod cluster;
#[path = "../replication/net/servers.rs"]
mod imap;
#[path = "../replication/net/knobs.rs"]
mod knobs;
#[path = "../replication/net/load.rs"]
mod load;
#[path = "../replication/net/mailbox.rs"]
mod mailbox;
#[path = "../replication/net/network.rs"]
mod network;
#[path = "../replication/net/node.rs"]
mod node;
#[path = "../simulation/random.rs"]
mod random;
#[path = "../replication/net/relay.rs"]
mod relay;
#[path = "../replication/net/ssh.rs"]
mod ssh;
#[path = "../support/mod.rs"]
mod support;
#[path = "../replication/net/wire.rs"]
mod wire;

use knobs::{number, seconds};

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let wants =
        |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    if wants("arrivals") {
        let count = number("DELIVERIES", 500);
        println!("mailbraid    {}", arrivals::over_mailbraid(count).text());
        println!("doveadm sync {}", arrivals::over_doveadm(count).text());
    }
    if wants("wire") {
        wire::run(number("MESSAGES", 100_000));
    }
    if wants("load") {
        let rate = u32::try_from(number("RATE", 1_000)).expect("a rate");
        load::run(rate, seconds(60));
    }
}
