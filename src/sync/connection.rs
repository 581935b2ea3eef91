//! A connection to a peer's git: over ssh, `git://`, or a process on the same machine.
//!
//! One ssh connection to a peer carries everything: OpenSSH itself keeps it open and lets later commands through it (`ControlMaster`), so a push costs
//! no new key exchange. Where the store's path is too long for a socket, each command connects anew.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gix::bstr::ByteSlice as _;
use gix::url::{ArgumentSafety as Safe, Scheme};
use gix_transport::Protocol;
use gix_transport::client::git::ConnectMode;

use super::deflate::{Deflated, Deflation, Inflated};
use super::direct::Direct;
use super::one_line;
use super::stream::{self, Patience, Reader, Traffic, Writer};
use crate::limits;
use crate::maildir::HashKind;

/// Where `git daemon` listens.
const GIT_PORT: u16 = 9418;

/// What is asked of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// git's `upload-pack`: a fetch.
    Upload,
    /// git's `receive-pack`: one push.
    Receive,
    /// [`super::receive_pack`]: pushes, one after the other. mailbraid's own, over ssh alone.
    Pushes,
}

impl Service {
    /// The command by which it is asked for.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::Upload => "git-upload-pack",
            Self::Receive => "git-receive-pack",
            Self::Pushes => "mailbraid-receive-pack",
        }
    }

    /// What git would call it.
    fn git(self) -> gix_transport::Service {
        match self {
            Self::Upload => gix_transport::Service::UploadPack,
            Self::Receive | Self::Pushes => gix_transport::Service::ReceivePack,
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No connection, or it broke.
    #[error("cannot reach {url}: {why}")]
    Broken {
        /// The peer's URL.
        url: String,
        /// What the transport said, on one line.
        why: String,
    },
    /// No connection: ssh says that it has none. Whatever else is asked of that peer meets the same.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// The peer's URL.
        url: String,
        /// What ssh said, on one line.
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
    /// Whether the peer is out of reach, whatever it is asked for.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// A connection that broke.
    #[must_use]
    pub fn broken(url: &str, why: &dyn std::fmt::Display) -> Self {
        Self::Broken {
            url: url.to_owned(),
            why: one_line(why),
        }
    }
}

/// Whom to reach, and how.
#[derive(Clone, Debug)]
pub struct Address {
    /// A URL, or a path.
    pub url: String,
    /// The ssh command (git's `core.sshCommand`), if not `ssh`.
    pub ssh_command: Option<OsString>,
    /// How long each word of the peer is waited for.
    pub patience: Duration,
    /// Counts what is exchanged.
    pub traffic: Arc<Traffic>,
}

impl Address {
    /// Whether it is reached by ssh.
    #[must_use]
    pub fn is_ssh(&self) -> bool {
        gix::url::parse(self.url.as_bytes()).is_ok_and(|url| url.scheme == Scheme::Ssh)
    }

    /// Where ssh would connect to, if it is OpenSSH and would do so by itself.
    pub(super) fn direct(&self) -> Option<Direct> {
        let base = self.ssh_command.as_deref()?.to_str()?;
        let url = gix::url::parse(self.url.as_bytes()).ok()?;
        if !is_openssh(base) || url.scheme != Scheme::Ssh {
            return None;
        }
        let (mut command, host) = ssh_host(self, &url).ok()?;
        command.arg("-G").arg(host);
        Direct::ask(command)
    }

    /// One that is called with `ssh`, and waited for as long as is usual.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self {
            url,
            ssh_command: None,
            patience: limits::PEER_SILENCE,
            traffic: Arc::default(),
        }
    }
}

/// gix's protocol over our streams.
pub type Transport = gix_transport::client::git::blocking_io::Connection<
    Inflated<Reader>,
    BufWriter<Deflated<Writer>>,
>;

/// A connection on which the peer has said what it has.
pub struct Connection {
    /// For requests.
    pub transport: Transport,
    /// What it said.
    pub handshake: gix_protocol::Handshake,
    /// How long it is waited for.
    pub patience: Patience,
    /// Compresses what is exchanged, where the peer has been told so.
    pub deflation: Deflation,
}

impl Connection {
    /// Connects, and reads the peer's refs. Protocol V1: V2 has no push, and its fetch tells the refs only when asked.
    ///
    /// # Errors
    /// See [`ConnectionError`].
    pub fn open(
        address: &Address,
        service: Service,
        kind: HashKind,
    ) -> Result<Self, ConnectionError> {
        let url = address.url.as_str();
        let broken = |why: &dyn std::fmt::Display| ConnectionError::broken(url, why);
        let deflation = Deflation::default();
        let (mut transport, patience) =
            connect(address, service, &deflation).map_err(|why| broken(&why))?;
        let handshake = gix_protocol::handshake(
            &mut transport,
            service.git(),
            |_| {
                Err(gix::Error::from_error(io::Error::other(
                    "no credentials are asked for",
                )))
            },
            Vec::new(),
            &mut gix::progress::Discard,
        )
        .map_err(|error| match broken(&format!("{error:#}")) {
            ConnectionError::Broken { url, why } if is_unreachable(&error) => {
                ConnectionError::Unreachable { url, why }
            }
            other => other,
        })?;
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
            patience,
            deflation,
        })
    }
}

/// Whether it is ssh's own failure, or a silence in which whatever is asked next would be waited for as long.
fn is_unreachable(error: &gix::Error) -> bool {
    error.downcast_any_ref().is_some_and(|error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotConnected | io::ErrorKind::TimedOut
        )
    })
}

/// Starts git on this machine or, by ssh, on the peer's, or calls a git daemon.
fn connect(
    address: &Address,
    service: Service,
    deflation: &Deflation,
) -> Result<(Transport, Patience), String> {
    let url = repository(&address.url);
    let url = gix::url::parse(url.as_bytes()).map_err(|error| error.to_string())?;
    let path = gix::url::expand_path::for_shell(url.path.clone());
    let program = service.command();
    if path.starts_with(b"-") {
        return Err("its path would be taken for an option".to_owned());
    }
    let (patience, traffic) = (address.patience, &address.traffic);
    let text = |error: io::Error| error.to_string();
    let (ends, host) = match url.scheme {
        Scheme::File => {
            let mut command = git();
            command
                .arg(program.trim_start_matches("git-"))
                .arg(OsStr::from_bytes(&path));
            let ends = stream::process(command, patience, traffic)
                .map_err(|error| format!("cannot run git: {error}; install git"))?;
            (ends, None)
        }
        Scheme::Ssh => {
            let command = ssh(address, &url, program, &path)?;
            let ends = stream::process(command, patience, traffic)
                .map_err(|error| format!("cannot run ssh: {error}"))?;
            (ends, None)
        }
        Scheme::Git => {
            let host = url.host().ok_or("its URL names no host")?;
            let port = url.port.unwrap_or(GIT_PORT);
            let ends = stream::tcp(host, port, patience, traffic).map_err(text)?;
            (ends, Some((host.to_owned(), url.port)))
        }
        other => {
            return Err(format!(
                "{other} is no way to a peer: use ssh://, git://, file:// or a path"
            ));
        }
    };
    let mode = match host {
        Some(_) => ConnectMode::Daemon,
        None => ConnectMode::Process,
    };
    let (reader, writer, patience) = ends;
    let reader = Inflated::new(reader, deflation);
    let writer = Deflated::new(writer, deflation);
    let writer = BufWriter::with_capacity(limits::STREAM_BUFFER, writer);
    let transport = Transport::new(reader, writer, Protocol::V1, path, host, mode, false);
    Ok((transport, patience))
}

/// git, without what our own environment says of some repository.
fn git() -> Command {
    let mut command = Command::new("git");
    for name in [
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_PROTOCOL",
        "GIT_WORK_TREE",
    ] {
        command.env_remove(name);
    }
    command
}

/// The command, which may be a shell's as git's `core.sshCommand` may, with where to and what to run there.
fn ssh(address: &Address, url: &gix::Url, program: &str, path: &[u8]) -> Result<Command, String> {
    let (mut command, host) = ssh_host(address, url)?;
    let mut remote = OsString::from(program);
    remote.push(" '");
    remote.push(OsStr::from_bytes(&path.replace("'", "'\\''")));
    remote.push("'");
    // What it says is shown to administrators, and compared with nothing.
    command.arg(host).arg(remote).env("LC_ALL", "C");
    command.env_remove("GIT_PROTOCOL");
    Ok(command)
}

/// The command without them, and the host.
fn ssh_host(address: &Address, url: &gix::Url) -> Result<(Command, String), String> {
    let host = match (url.user_as_argument(), url.host_as_argument()) {
        (Safe::Usable(user), Safe::Usable(host) | Safe::Dangerous(host)) => {
            format!("{user}@{host}")
        }
        (Safe::Absent, Safe::Usable(host)) => host.to_owned(),
        _ => return Err("its host or user would be taken for an option".to_owned()),
    };
    let base = address
        .ssh_command
        .clone()
        .unwrap_or_else(|| OsString::from("ssh"));
    let mut script = base.clone();
    script.push(" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(base);
    if let Some(port) = url.port {
        command.arg(format!("-p{port}"));
    }
    Ok((command, host))
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
    let mut command = OsString::from(base);
    if !is_openssh(base) {
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

/// By its name.
fn is_openssh(command: &str) -> bool {
    let program = command.split(' ').next().unwrap_or("");
    Path::new(program).file_name() == Some(OsStr::new("ssh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_out_of_reach_is_told_from_a_command_that_fails() {
        let unreachable = |script: &str| {
            let mut address = Address::new("ssh://host/repo.git".to_owned());
            address.ssh_command = Some(format!("sh -c '{script}' #").into());
            match Connection::open(&address, Service::Pushes, HashKind::Sha1) {
                Err(ConnectionError::Unreachable { why, .. }) => {
                    assert!(why.contains("no route"), "{why}");
                    true
                }
                Err(ConnectionError::Broken { why, .. }) => {
                    assert!(why.contains("no route"), "{why}");
                    false
                }
                _ => panic!("connected"),
            }
        };
        assert!(unreachable("echo no route >&2; exit 255"));
        assert!(!unreachable("echo no route >&2; exit 127"));
    }

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
