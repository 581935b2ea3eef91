//! Parses the command line and calls the command.
#![allow(unused_crate_dependencies)]

fn main() {}
