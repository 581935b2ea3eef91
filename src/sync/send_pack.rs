//! The sending side of git's push protocol (gitprotocol-pack(5), "Pushing Data To a Server"), over gix's transport.
//!
//! gix has no push. One push here updates one ref, and sends the pack that a [`PackSource`] makes for it:
//!
//! ```text
//! server: refs it has, capabilities          → what need not be sent
//! client: OLD NEW refs/mailbraid/peers/NODE\0 report-status …, flush, pack
//! server: unpack ok, ok REF | ng REF reason
//! ```
//!
//! Rules: side-band is not asked for (nothing there concerns a daemon), so the report is plain packet lines. The reply is read to its end
//! before the connection is dropped, because dropping kills a spawned child. Protocol V1: V2 has no push.

use std::ffi::OsString;
use std::io::{BufRead, BufWriter, Read, Write};

use gix_transport::client::blocking_io::connect::connect;
use gix_transport::client::blocking_io::ssh;
use gix_transport::client::{MessageKind, WriteMode};
use gix_transport::{Protocol, Service};

use crate::history::{PackError, Reader};
use crate::maildir::{HashKind, Oid};

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No connection, or it broke.
    #[error("cannot reach {url}: {why}")]
    Connection {
        /// The peer's URL.
        url: String,
        /// What the transport said.
        why: String,
    },
    /// The peer's repository has another hash function.
    #[error("{url} is a {theirs} repository, and this one is {ours}: they cannot exchange packs")]
    ObjectFormat {
        /// The peer's URL.
        url: String,
        /// The peer's hash function.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// The pack could not be made.
    #[error("cannot send the pack: {0}")]
    Pack(#[from] PackError),
    /// The peer refused it.
    #[error("{url} refused {refname}: {why}")]
    Refused {
        /// The peer's URL.
        url: String,
        /// The ref that was to move.
        refname: String,
        /// The peer's words.
        why: String,
    },
}

/// Makes packs.
pub trait PackSource {
    /// Whether the object is here: a peer's ref may name what we do not have.
    fn has(&self, id: Oid) -> bool;

    /// Writes a pack that brings `want` and all that it needs to a repository which has `haves`, all of them here, and returns its
    /// bytes. Deltas may refer to objects of the haves (a thin pack).
    ///
    /// # Errors
    /// Where an object cannot be read, or the pack not be written.
    fn write_pack(&self, want: Oid, haves: &[Oid], out: &mut dyn Write) -> Result<u64, PackError>;
}

impl PackSource for Reader {
    fn has(&self, id: Oid) -> bool {
        Self::has(self, id)
    }

    fn write_pack(&self, want: Oid, haves: &[Oid], out: &mut dyn Write) -> Result<u64, PackError> {
        let plan = self.plan_pack(want, haves)?;
        Self::write_pack(self, &plan, out)
    }
}

/// Where and how to push.
#[derive(Clone, Debug)]
pub struct Target {
    /// The peer's URL, or a path.
    pub url: String,
    /// The ref that moves there.
    pub refname: String,
    /// The ssh command (git's `core.sshCommand`), if not `ssh`.
    pub ssh_command: Option<OsString>,
}

/// What a push did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// Bytes of the pack; 0 where the peer was level already.
    pub pack_bytes: u64,
}

/// Moves `target.refname` at the peer to `new`.
///
/// # Errors
/// See [`PushError`].
pub fn push(
    target: &Target,
    new: Oid,
    kind: HashKind,
    packs: &dyn PackSource,
) -> Result<Pushed, PushError> {
    let broken = |why: &dyn std::fmt::Display| PushError::Connection {
        url: target.url.clone(),
        why: one_line(&why.to_string()),
    };
    let mut transport = connect(
        target.url.as_str(),
        gix_transport::client::blocking_io::connect::Options {
            version: Protocol::V1,
            ssh: ssh::connect::Options {
                command: target.ssh_command.clone(),
                disallow_shell: false,
                kind: target.ssh_command.as_ref().map(|_| ssh::ProgramKind::Ssh),
            },
            trace: false,
        },
    )
    .map_err(|error| broken(&error))?;
    let handshake = gix_protocol::handshake(
        &mut transport,
        Service::ReceivePack,
        |_| {
            Err(gix::Error::from_error(std::io::Error::other(
                "no credentials are asked for",
            )))
        },
        Vec::new(),
        &mut gix::progress::Discard,
    )
    .map_err(|error| broken(&error))?;

    let theirs = handshake
        .capabilities
        .capability("object-format")
        .and_then(|found| found.value().map(ToString::to_string))
        .unwrap_or_else(|| HashKind::Sha1.name().to_owned());
    if theirs != kind.name() {
        return Err(PushError::ObjectFormat {
            url: target.url.clone(),
            theirs,
            ours: kind.name(),
        });
    }
    let mut old = Oid::null(kind);
    let mut haves = Vec::new();
    for advertised in handshake.refs.iter().flatten() {
        let (name, id, _) = advertised.unpack();
        let Some(id) = id.and_then(|id| Oid::from_bytes(id.as_bytes())) else {
            continue;
        };
        if name == target.refname.as_bytes() {
            old = id;
        }
        if packs.has(id) {
            haves.push(id);
        }
    }
    let up_to_date = old == new;

    let mut request = transport
        .request(WriteMode::Binary, MessageKind::Flush, false)
        .map_err(|error| broken(&error))?;
    if !up_to_date {
        let command = format!(
            "{old} {new} {}\0 report-status object-format={} agent=mailbraid/{}",
            target.refname,
            kind.name(),
            env!("CARGO_PKG_VERSION")
        );
        request
            .write_all(command.as_bytes())
            .map_err(|error| broken(&error))?;
    }
    request
        .write_message(MessageKind::Flush)
        .map_err(|error| broken(&error))?;
    let (mut raw, mut reply) = request.into_parts();
    let mut pack_bytes = 0;
    if !up_to_date {
        let mut buffered = BufWriter::new(&mut raw);
        pack_bytes = packs.write_pack(new, &haves, &mut buffered)?;
        buffered.flush().map_err(|error| broken(&error))?;
    }
    drop(raw);
    if up_to_date {
        let _ = reply.read_to_end(&mut Vec::new());
        return Ok(Pushed { pack_bytes: 0 });
    }
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        match reply.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => lines.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Err(error) => return Err(broken(&error)),
        }
    }
    report(&lines, &target.refname).map_err(|why| PushError::Refused {
        url: target.url.clone(),
        refname: target.refname.clone(),
        why,
    })?;
    Ok(Pushed { pack_bytes })
}

/// Reads a report-status: `unpack ok`, then `ok REF` or `ng REF reason`.
fn report(lines: &[String], refname: &str) -> Result<(), String> {
    match lines.first().and_then(|line| line.strip_prefix("unpack ")) {
        Some("ok") => {}
        Some(why) => return Err(why.to_owned()),
        None => return Err("it closed the connection without a report".to_owned()),
    }
    for line in &lines[1..] {
        if line.strip_prefix("ok ") == Some(refname) {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("ng ")
            && let Some(why) = rest.strip_prefix(refname)
        {
            return Err(why.trim().to_owned());
        }
    }
    Err("its report does not name the ref".to_owned())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_report_says_why() {
        let name = "refs/mailbraid/peers/a";
        assert_eq!(
            report(&lines(&["unpack ok", "ok refs/mailbraid/peers/a"]), name),
            Ok(())
        );
        assert_eq!(
            report(
                &lines(&["unpack ok", "ng refs/mailbraid/peers/a hook declined"]),
                name
            ),
            Err("hook declined".to_owned())
        );
        assert_eq!(
            report(&lines(&["unpack index-pack abnormal exit"]), name),
            Err("index-pack abnormal exit".to_owned())
        );
        assert!(report(&[], name).is_err());
        assert!(report(&lines(&["unpack ok"]), name).is_err());
    }
}
