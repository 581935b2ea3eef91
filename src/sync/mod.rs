//! A thread per peer: pushes at once, fetches where a peer cannot push, and passes on what it learns.

pub mod send_pack;
pub mod state;
