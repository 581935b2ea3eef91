//! What the benches take from the harness of `tests/imap`: Dovecot, and clients of IMAP and LMTP.

#[path = "../imap/client.rs"]
pub mod client;
#[path = "../imap/dovecot.rs"]
pub mod dovecot;
#[path = "../imap/lmtp.rs"]
pub mod lmtp;
#[path = "../imap/server.rs"]
pub mod server;
#[path = "../imap/tools.rs"]
pub mod tools;
