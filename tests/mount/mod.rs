//! To be filled.
mod bad_input;
mod posix;
