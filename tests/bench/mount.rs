//! `cargo bench --bench mount`: the works of [`maildir_works`], as a table and as JSON.
//!
//! Arguments: names (or parts of names) of works to do; `--rounds N`; `--without PLACE`.

// The modules are shared by all benches; each uses a part.
#![allow(dead_code)]

mod arguments;
mod mail;
mod maildir_works;
mod nullfs;
mod places;
mod report;

use places::{BINDFS, EXT4, NULLFS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if places::served_nullfs()? {
        return Ok(());
    }
    let report = maildir_works::run(&arguments::Arguments::parse(std::env::args().skip(1))?)?;
    println!("{}", report.text(&[EXT4, BINDFS, NULLFS]));
    println!("{}", report.json());
    Ok(())
}
