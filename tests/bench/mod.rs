//! What the benches share with the tests: generated mail, and the null filesystem. Tested here, used there too.
//!
//! The benches themselves are `mount.rs` and its siblings; each is a program of its own and takes these as modules.

pub mod mail;
pub mod nullfs;

mod mail_test;
mod nullfs_test;
