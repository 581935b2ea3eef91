//! Exchange with peers.

mod braid;
mod dovecot;
mod kill;
mod node;
mod nodes;
mod peers;
mod push;
mod refusal;
mod serve;
