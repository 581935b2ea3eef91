//! What several test modules share: temporary stores, a mounted mailbraid, waiting.

// Some tests only start it, others only kill it.
#[allow(dead_code)]
pub mod daemon;
#[allow(dead_code)]
pub mod mounted;
