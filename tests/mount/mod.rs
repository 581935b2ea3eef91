//! The real mount: what the kernel, and programs through it, get to see.

mod adopt;
mod bad_input;
mod content;
mod differential;
mod ending;
mod fstab;
mod full;
mod history;
mod import_export;
mod invalidation;
mod listing;
mod names;
mod posix;
mod real;
mod restore;
mod tools;
mod torn;
