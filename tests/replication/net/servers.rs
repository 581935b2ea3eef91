//! What these tests take from the harness of `tests/imap`.

#[path = "../../imap/agents.rs"]
pub mod agents;
#[path = "../../imap/client.rs"]
pub mod client;
#[path = "../../imap/courier.rs"]
pub mod courier;
#[path = "../../imap/dovecot.rs"]
pub mod dovecot;
#[path = "../../imap/lmtp.rs"]
pub mod lmtp;
#[path = "../../imap/server.rs"]
pub mod server;
#[path = "../../imap/snapshot.rs"]
pub mod snapshot;
#[path = "../../imap/tools.rs"]
pub mod tools;
#[path = "../../imap/transcript.rs"]
pub mod transcript;
