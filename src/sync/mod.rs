//! Exchange with peers. So far its two ends: a push over git's protocol ([`send_pack`]) and the state of one peer ([`state`]); no thread runs them
//! yet.

pub mod send_pack;
pub mod state;
