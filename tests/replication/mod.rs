//! Exchange with peers.

mod push;
