//! To be filled.

mod kill;
