//! `cargo bench --bench imap`: the works of [`dovecot_works`], as two tables and as JSON.
//!
//! Arguments: names (or parts of names) of works to do; `--rounds N`; `--without PLACE`.

// The modules are shared by all benches; each uses a part.
#![allow(dead_code)]

mod arguments;
mod dovecot_works;
mod harness;
mod mail;
mod nullfs;
mod places;
mod report;

use places::{BINDFS, EXT4, NULLFS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if places::served_nullfs()? {
        return Ok(());
    }
    let reports = dovecot_works::run(&arguments::Arguments::parse(std::env::args().skip(1))?)?;
    let mut json = serde_json::Map::new();
    for (title, report) in &reports {
        println!("{title}\n{}", report.text(&[EXT4, BINDFS, NULLFS]));
        json.insert((*title).to_owned(), report.json());
    }
    println!("{}", serde_json::Value::from(json));
    Ok(())
}
