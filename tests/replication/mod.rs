//! Exchange with peers.

mod braid;
mod node;
mod push;
