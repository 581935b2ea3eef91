//! The real mount.

mod bad_input;
mod full;
mod posix;
