//! `cargo bench --bench import`: the work of [`import_works`], as a table and as JSON.
//!
//! Arguments: `--rounds N`; `--without PLACE`.

// The modules are shared by all benches; each uses a part.
#![allow(dead_code)]

mod arguments;
mod import_works;
mod mail;
mod nullfs;
mod places;
mod report;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let report = import_works::run(&arguments::Arguments::parse(std::env::args().skip(1))?)?;
    println!("{}", report.text(&[places::EXT4]));
    println!("{}", report.json());
    Ok(())
}
