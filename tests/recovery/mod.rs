//! To be filled.

mod kill;
mod labels;
