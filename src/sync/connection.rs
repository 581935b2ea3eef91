//! A connection to a peer's git: over ssh, `git://`, or a process on the same machine.
//!
//! One ssh connection to a peer carries everything: OpenSSH itself keeps it open and lets later commands through it (`ControlMaster`), so a push costs
//! no new key exchange. Where the store's path is too long for a socket, each command connects anew.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use gix_transport::client::blocking_io::Transport;
use gix_transport::client::blocking_io::connect::connect;
use gix_transport::client::blocking_io::ssh;
use gix_transport::{Protocol, Service};

use crate::limits;
use crate::maildir::HashKind;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No connection, or it broke.
    #[error("cannot reach {url}: {why}")]
    Broken {
        /// The peer's URL.
        url: String,
        /// What the transport said, on one line.
        why: String,
    },
    /// The peer's repository has another hash function.
    #[error(
        "{url} is a {theirs} repository, and this one is {ours}: they cannot exchange packs; make one of the stores anew"
    )]
    ObjectFormat {
        /// The peer's URL.
        url: String,
        /// The peer's hash function.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
}

impl ConnectionError {
    /// A connection that broke.
    #[must_use]
    pub fn broken(url: &str, why: &dyn std::fmt::Display) -> Self {
        let why = why.to_string();
        Self::Broken {
            url: url.to_owned(),
            why: why.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

/// A connection on which the peer has said what it has.
pub struct Connection {
    /// For requests.
    pub transport: Box<dyn Transport + Send>,
    /// What it said.
    pub handshake: gix_protocol::Handshake,
}

impl Connection {
    /// Connects, and reads the peer's refs. Protocol V1: V2 has no push, and its fetch tells the refs only when asked.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub fn open(
        url: &str,
        ssh_command: Option<&OsStr>,
        service: Service,
        kind: HashKind,
    ) -> Result<Self, ConnectionError> {
        let broken = |why: &dyn std::fmt::Display| ConnectionError::broken(url, why);
        let mut transport = connect(
            repository(url).as_str(),
            gix_transport::client::blocking_io::connect::Options {
                version: Protocol::V1,
                ssh: ssh::connect::Options {
                    command: ssh_command.map(OsStr::to_owned),
                    disallow_shell: false,
                    kind: ssh_command.map(|_| ssh::ProgramKind::Ssh),
                },
                trace: false,
            },
        )
        .map_err(|error| broken(&format!("{error:#}")))?;
        let handshake = gix_protocol::handshake(
            &mut transport,
            service,
            |_| {
                Err(gix::Error::from_error(std::io::Error::other(
                    "no credentials are asked for",
                )))
            },
            Vec::new(),
            &mut gix::progress::Discard,
        )
        .map_err(|error| broken(&format!("{error:#}")))?;
        let theirs = handshake
            .capabilities
            .capability("object-format")
            .and_then(|found| found.value().map(ToString::to_string))
            .unwrap_or_else(|| HashKind::Sha1.name().to_owned());
        if theirs != kind.name() {
            return Err(ConnectionError::ObjectFormat {
                url: url.to_owned(),
                theirs,
                ours: kind.name(),
            });
        }
        Ok(Self {
            transport,
            handshake,
        })
    }
}

/// A path or `file://` URL of a store means its repository; `serve` does the same at the other end of an ssh connection.
fn repository(url: &str) -> String {
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.starts_with('/') && Path::new(path).join("repo.git/HEAD").exists() {
        return format!("{}/repo.git", url.trim_end_matches('/'));
    }
    url.to_owned()
}

/// The ssh command with which peers are called: `configured` (git's `core.sshCommand`) or `ssh`. Options of ours are added where it is OpenSSH by its name;
/// any other program is taken as it is.
#[must_use]
pub fn ssh_command(configured: Option<&str>, sockets: &Path) -> OsString {
    let base = configured.unwrap_or("ssh");
    let program = base.split(' ').next().unwrap_or("");
    let mut command = OsString::from(base);
    if Path::new(program).file_name() != Some(OsStr::new("ssh")) {
        return command;
    }
    // No terminal is there to ask anybody.
    command.push(format!(
        " -o BatchMode=yes -o ConnectTimeout={} -o ServerAliveInterval={} -o ServerAliveCountMax=2",
        limits::CONNECT_WAIT.as_secs(),
        limits::KEEPALIVE.as_secs()
    ));
    // %C is 40 hexadecimal digits.
    let socket = sockets.join("ssh-%C");
    if socket.as_os_str().len() + 38 <= limits::SSH_SOCKET_PATH
        && let Some(socket) = socket.to_str()
        && !socket.contains(['\'', '"', '\\', ' '])
    {
        command.push(format!(
            " -o ControlMaster=auto -o ControlPersist={} -o 'ControlPath={socket}'",
            limits::SSH_PERSIST.as_secs()
        ));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssh_keeps_one_connection_and_others_are_left_alone() {
        let command = |configured: Option<&str>, path: &str| {
            let command = ssh_command(configured, Path::new(path));
            command.to_str().unwrap().to_owned()
        };
        assert!(command(None, "/s/local").starts_with("ssh -o BatchMode=yes"));
        assert!(command(None, "/s/local").contains("ControlPath=/s/local/ssh-%C"));
        assert!(
            command(Some("/usr/bin/ssh -i /k"), "/s/local").starts_with("/usr/bin/ssh -i /k -o ")
        );
        let long = format!("/{}", "x".repeat(60));
        assert!(!command(None, &long).contains("Control"));
        assert_eq!(command(Some("/bin/my-ssh"), "/s"), "/bin/my-ssh");
    }
}
