//! What the scripted session needs of an IMAP server.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::client::{Client, Stream};
use super::tools::{self, MAIL_GID, MAIL_UID};

/// An IMAP server that is run over a directory of Maildirs. Its one user is `u`.
pub trait Server {
    /// A new connection, logged in.
    fn connect(&self) -> Client;

    /// Brings a mail into the inbox from outside.
    fn deliver(&self, message: &[u8]);

    /// A folder's name as this server spells it.
    fn folder(&self, parts: &[&str]) -> String;

    /// What the server has logged beyond the usual. The same mistakes of a client must be answered by the same lines over each
    /// filesystem, so they are part of the transcript.
    fn complaints(&self) -> Vec<String>;

    /// Words of commands that end the server's process, whatever the filesystem: the script leaves such commands out.
    fn dies_of(&self) -> &[&str] {
        &[]
    }

    /// Waits until the server would notice a change made now.
    fn settle(&self) {}

    /// Whether a response to a command depends on the time of day alone: it is left out of the transcript.
    fn is_chance(&self, _command: &str, _response: &str) -> bool {
        false
    }

    /// The directory that holds the Maildir `u`.
    fn mail_root(&self) -> &Path;
}

/// Starts a server that speaks IMAP on its standard input and output, as the mail user; its standard error goes to the
/// file `log`, added at the end.
pub fn over_stdio(mut command: Command, log: &Path) -> Client {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let input = std::os::fd::OwnedFd::from(theirs.try_clone().expect("duplicate a socket"));
    let output = std::os::fd::OwnedFd::from(theirs);
    let error = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("open the log");
    command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(error)
        .uid(MAIL_UID)
        .gid(MAIL_GID);
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    // The command keeps copies of the child's ends; dropped, they let us see when the child closes its own.
    drop(command);
    Client::new(Stream::Unix(ours), Some(child))
}

/// Delivers a mail as <https://cr.yp.to/proto/maildir.html> says: written and synced in `tmp/`, then renamed into `new/`; line
/// ends become LF, as delivery agents write them. Gives the name.
pub fn deliver_plainly(maildir: &Path, message: &[u8]) -> String {
    deliver(maildir, message, None)
}

/// The same with a date, which is the file's modification time.
pub fn deliver_dated(maildir: &Path, message: &[u8], date: std::time::SystemTime) -> String {
    deliver(maildir, message, Some(date))
}

fn deliver(maildir: &Path, message: &[u8], date: Option<std::time::SystemTime>) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock past 1970");
    let name = format!(
        "{}.M{}P{}Q{}.test",
        now.as_secs(),
        now.subsec_micros(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed),
    );
    for sub in ["tmp", "new", "cur"] {
        if !maildir.join(sub).is_dir() {
            tools::mail_dir(&maildir.join(sub));
        }
    }
    let written = maildir.join("tmp").join(&name);
    let file = std::fs::File::create_new(&written).expect("create in tmp/");
    let text = String::from_utf8_lossy(message).replace("\r\n", "\n");
    std::io::Write::write_all(&mut &file, text.as_bytes()).expect("write in tmp/");
    if let Some(date) = date {
        file.set_modified(date).expect("date a file in tmp/");
    }
    file.sync_all().expect("sync in tmp/");
    std::os::unix::fs::chown(&written, Some(MAIL_UID), Some(MAIL_GID)).expect("chown");
    std::fs::rename(&written, maildir.join("new").join(&name)).expect("rename into new/");
    name
}
