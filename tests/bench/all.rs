//! `cargo bench --bench all`: what mailbraid is to reach and what it reaches, everything in one run, in less than half an hour; the table in the README.
//!
//! The works are those of the other benches, whose own tables are printed as they come. Arguments: `--rounds N` (5).

// The modules are shared by all benches; each uses a part.
#![allow(dead_code)]

mod arguments;
#[path = "../replication/net/arrivals.rs"]
mod arrivals;
#[path = "../replication/net/cluster.rs"]
mod cluster;
mod dovecot_works;
#[path = "../replication/net/servers.rs"]
mod imap;
mod import_works;
#[path = "../replication/net/knobs.rs"]
mod knobs;
#[path = "../replication/node.rs"]
mod live_node;
mod live_works;
mod mail;
#[path = "../replication/net/mailbox.rs"]
mod mailbox;
mod maildir_works;
#[path = "../replication/net/network.rs"]
mod network;
#[path = "../replication/net/node.rs"]
mod node;
mod nullfs;
mod places;
#[path = "../simulation/random.rs"]
mod random;
#[path = "../replication/net/relay.rs"]
mod relay;
mod report;
mod scale;
mod separated;
#[path = "../replication/net/ssh.rs"]
mod ssh;
#[path = "../support/mod.rs"]
mod support;
mod synthetic;
mod targets;
#[path = "../replication/net/wire.rs"]
mod wire;

use std::time::Instant;

// The same servers, under the name that the works know.
use imap as harness;
use places::{BINDFS, EXT4, NULLFS};
use report::Report;
use targets::{Bound, Targets};

/// Deliveries from node to node.
const ARRIVALS: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if places::served_nullfs()? {
        return Ok(());
    }
    let arguments = arguments::Arguments::parse(std::env::args().skip(1))?;
    let start = Instant::now();
    let mut targets = Targets::default();

    let mount = maildir_works::run(&arguments)?;
    println!("{}", mount.text(&[EXT4, BINDFS, NULLFS]));
    of_the_mount(&mut targets, &mount);

    let [(_, off), (_, on)] = dovecot_works::run(&arguments)?;
    println!("{}", off.text(&[EXT4, NULLFS]));
    println!("{}", on.text(&[EXT4, NULLFS]));
    of_dovecot(&mut targets, &off, &on);

    let import = import_works::run(&arguments)?;
    println!("{}", import.text(&[EXT4]));
    targets.ratio(import_works::IMPORT, EXT4, 0.4, &import, None);

    let ours = arrivals::over_mailbraid(ARRIVALS);
    let doveadms = arrivals::over_doveadm(ARRIVALS);
    targets.add(
        "delivery to IDLE client on the peer, p50",
        "doveadm sync",
        (Bound::AtLeast, 3.0),
        "×",
        Some(p50(&doveadms) / p50(&ours)),
    );

    of_scale(&mut targets);
    println!("{}", targets.text());
    println!("in {:.0} s", start.elapsed().as_secs_f64());
    println!("{}", targets.json());
    Ok(())
}

fn of_scale(targets: &mut Targets) {
    let mut add = |what: &str, bound: f64, unit, reached: f64| {
        targets.add(what, "", (Bound::AtMost, bound), unit, Some(reached));
    };
    for figures in [
        scale::size(),
        scale::corpus(),
        scale::copies(),
        scale::load(),
        scale::mount(),
    ] {
        for scale::Figure(what, bound, unit, reached) in figures {
            add(what, bound, unit, reached);
        }
    }
    let [_, bytes] = wire::run(100_000);
    let what = "bytes on the wire for a flag change in 100,000";
    add(what, 1024.0, "B", bytes as f64);
    let [_, answered] = live_works::measure(100_000, 10_000);
    let what = "braid into live mounts, 100,000 × 10,000 a side";
    add(what, 2.0, "s", answered);
    let behind = places::LONGEST_FLUSH.load(std::sync::atomic::Ordering::Relaxed);
    let what = "store thread behind the mount, at most";
    add(what, 5.0, "s", behind as f64 / 1e3);
}

/// Seconds from the beginning of a delivery that half of all took at most.
fn p50(times: &arrivals::Times) -> f64 {
    let mut sorted = times.from_start.clone();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64()
}

fn of_the_mount(targets: &mut Targets, report: &Report) {
    use maildir_works::{DELIVER_1, DELIVER_8};
    for (work, reference, least) in [
        (DELIVER_1, EXT4, 2.0),
        (DELIVER_8, EXT4, 1.5),
        ("flag rename", NULLFS, 0.85),
        ("flag rename", BINDFS, 3.0),
        ("stat, warm", EXT4, 0.9),
        ("list of 10,000, warm (entries)", EXT4, 0.9),
        ("read, warm", EXT4, 0.75),
        ("read, cold", EXT4, 0.5),
    ] {
        targets.ratio(work, reference, least, report, None);
    }
    targets.add(
        "durable delivery above one fdatasync",
        "null FUSE's whole delivery",
        (Bound::AtMost, 1.2),
        "×",
        maildir_works::above_bare(report),
    );
}

fn of_dovecot(targets: &mut Targets, off: &Report, on: &Report) {
    for (work, reference, least) in [
        ("APPEND", EXT4, 1.2),
        ("LMTP delivery", EXT4, 1.2),
        ("STORE one by one", EXT4, 0.8),
        ("FETCH body", EXT4, 0.95),
        ("MOVE 1:* of 1,000", EXT4, 0.35),
        ("EXPUNGE of 1,000", EXT4, 0.35),
        ("STORE one by one", NULLFS, 0.85),
        ("MOVE 1:* of 1,000", NULLFS, 0.85),
        ("EXPUNGE of 1,000", NULLFS, 0.85),
    ] {
        targets.ratio(work, reference, least, off, Some(on));
    }
}
