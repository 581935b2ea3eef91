//! `cargo bench --bench braid_live`: a braid into two live mounts, until both Dovecots answer with it ([`live_works`]).
//!
//! Arguments: `SIZExCHANGES`, else `100000x10000`.

// The modules are shared with the tests; the bench uses a part.
#![allow(dead_code)]

mod harness;
#[path = "../replication/node.rs"]
mod live_node;
mod live_works;
mod separated;
#[path = "../support/mod.rs"]
mod support;

fn main() {
    // RUST_LOG=debug tells what the store does meanwhile.
    env_logger::init();
    let arg = std::env::args().find(|arg| arg.contains('x') && !arg.contains('/'));
    let arg = arg.unwrap_or_else(|| "100000x10000".to_owned());
    let (size, count) = arg.split_once('x').expect("SIZExCHANGES");
    let (size, count) = (
        size.parse().expect("a size"),
        count.parse().expect("a number"),
    );
    let [moved, answered] = live_works::measure(size, count);
    println!(
        "{size} messages, {count} changes a side, medians of {}:",
        live_works::RUNS
    );
    println!("both heads moved after           {moved:>8.3} s");
    println!("both Dovecots answer with it     {answered:>8.3} s");
}
