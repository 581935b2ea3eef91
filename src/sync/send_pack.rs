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
//! A peer that is mailbraid too takes one push after the other over one connection ([`super::receive_pack`]). There the pack is packet lines up to a flush, since a pack
//! does not say where it ends; everything else is the same. Where it says that it can ([`DEFLATE`]), all that is said from the first push on is compressed ([`super::deflate`]).
//!
//! Rules: side-band is not asked for (nothing there concerns a daemon), so the report is plain packet lines. The reply is read to its end
//! before the connection is dropped, because dropping kills a spawned child. Protocol V1: V2 has no push.

use std::io::{BufRead, BufWriter, Write};
use std::time::Duration;

use gix_transport::Protocol;
use gix_transport::client::blocking_io::Transport as _;
use gix_transport::client::{MessageKind, WriteMode};
use gix_transport::packetline::blocking_io::{Writer, encode};
use log::debug;

use super::connection::{Address, Connection, ConnectionError, Service, Transport};
use super::receive_pack::{DEFLATE, MANY_PUSHES};
use super::stream::Patience;
use crate::history::{PackError, PackForm, Reader};
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No connection, or it broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer's ref has what the commit to be sent does not contain: a head of a former life of this node, whose store was lost. It is to be fetched first,
    /// or it would be lost there too.
    #[error(
        "{refname} is at {theirs} there, which this store does not contain; it is fetched and braided first"
    )]
    FormerLife {
        /// The ref that was to move.
        refname: String,
        /// What it has.
        theirs: Oid,
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

impl PushError {
    /// See [`ConnectionError::is_unreachable`].
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connection(why) if why.is_unreachable())
    }

    fn broken(url: &str, why: &dyn std::fmt::Display) -> Self {
        Self::Connection(ConnectionError::broken(url, why))
    }
}

/// Makes packs.
pub trait PackSource {
    /// Whether the object is here: a peer's ref may name what we do not have. A no may be wrong where it has just come.
    fn has(&self, id: Oid) -> bool;

    /// The same, and a no is right; it takes a while.
    fn surely_has(&self, id: Oid) -> bool;

    /// Whether a commit that is here is `of` or an ancestor of it.
    ///
    /// # Errors
    /// Where a commit cannot be read.
    fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, PackError>;

    /// Writes a pack that brings `want` and all that it needs to a repository which has `haves`, all of them here, and returns its
    /// bytes. Deltas may refer to objects of the haves (a thin pack).
    ///
    /// # Errors
    /// Where an object cannot be read, or the pack not be written.
    fn write_pack(
        &self,
        want: Oid,
        haves: &[Oid],
        form: PackForm,
        out: &mut dyn Write,
    ) -> Result<u64, PackError>;
}

impl PackSource for Reader {
    fn has(&self, id: Oid) -> bool {
        self.has_commit(id)
    }

    fn surely_has(&self, id: Oid) -> bool {
        self.has_commit(id) || Self::surely_has(self, id)
    }

    fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, PackError> {
        Ok(self.is_contained(commit, of)?)
    }

    fn write_pack(
        &self,
        want: Oid,
        haves: &[Oid],
        form: PackForm,
        out: &mut dyn Write,
    ) -> Result<u64, PackError> {
        let plan = self.plan_pack(want, haves)?;
        Self::write_pack(self, &plan, form, out)
    }
}

/// Where and how to push.
#[derive(Clone, Debug)]
pub struct Target {
    /// The peer.
    pub address: Address,
    /// The ref that moves there.
    pub refname: String,
}

/// What a push did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// Bytes of the pack; 0 where the peer was level already.
    pub pack_bytes: u64,
}

/// A connection that waits for a push: the peer has told its refs. It may be opened long before, so that the push itself is
/// one message and its answer; and it serves one push or, with [`Service::Pushes`], many.
pub struct Line {
    target: Target,
    service: Service,
    transport: Transport,
    patience: Patience,
    refs: Vec<(Vec<u8>, Oid)>,
    form: PackForm,
}

impl Line {
    /// Connects.
    ///
    /// # Errors
    /// [`PushError::Connection`].
    pub fn open(target: &Target, service: Service, kind: HashKind) -> Result<Self, PushError> {
        let Connection {
            mut transport,
            handshake,
            patience,
            deflation,
        } = Connection::open(&target.address, service, kind)?;
        let refs = handshake.refs.iter().flatten().filter_map(|advertised| {
            let (name, id, _) = advertised.unpack();
            Some((name.to_vec(), Oid::from_bytes(id?.as_bytes())?))
        });
        // An ssh that runs git whatever it is asked for.
        let many = handshake.capabilities.contains(MANY_PUSHES);
        let service = match service {
            Service::Pushes if !many => Service::Receive,
            service => service,
        };
        let mut form = PackForm::Compressed;
        if service == Service::Pushes && handshake.capabilities.contains(DEFLATE) {
            let broken = |why: &dyn std::fmt::Display| PushError::broken(&target.address.url, why);
            let request = transport
                .request(WriteMode::Binary, MessageKind::Flush, false)
                .map_err(|error| broken(&error))?;
            let (mut raw, _) = request.into_parts();
            encode::text_to_write(DEFLATE.as_bytes(), &mut raw)
                .and_then(|_| raw.flush())
                .map_err(|error| broken(&error))?;
            deflation.begin();
            form = PackForm::ForDeflate;
        }
        Ok(Self {
            target: target.clone(),
            service,
            refs: refs.collect(),
            transport,
            patience,
            form,
        })
    }

    /// What the peer does.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// Moves the ref to `new`. `also` is a commit that the peer is known to have beside what its refs say. The line is of no more use after a failure, nor, unless it is
    /// for many pushes, after a success.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn send(
        &mut self,
        new: Oid,
        also: Option<Oid>,
        kind: HashKind,
        packs: &dyn PackSource,
    ) -> Result<Pushed, PushError> {
        let target = self.target.clone();
        let many = self.service == Service::Pushes;
        let broken = |why: &dyn std::fmt::Display| PushError::broken(&target.address.url, why);
        let old = self
            .refs
            .iter()
            .find(|(name, _)| name == target.refname.as_bytes())
            .map_or(Oid::null(kind), |(_, id)| *id);
        if old == new {
            return Ok(Pushed { pack_bytes: 0 });
        }
        if old != Oid::null(kind) && !(packs.surely_has(old) && packs.is_ancestor(old, new)?) {
            return Err(PushError::FormerLife {
                refname: target.refname.clone(),
                theirs: old,
            });
        }
        let haves: Vec<Oid> = self
            .refs
            .iter()
            .map(|(_, id)| *id)
            .chain(also)
            .filter(|id| packs.has(*id))
            .collect();
        let mut request = self
            .transport
            .request(WriteMode::Binary, MessageKind::Flush, false)
            .map_err(|error| broken(&error))?;
        let command = format!(
            "{old} {new} {}\0 report-status object-format={} agent=mailbraid/{}",
            target.refname,
            kind.name(),
            env!("CARGO_PKG_VERSION")
        );
        request
            .write_all(command.as_bytes())
            .and_then(|()| request.write_message(MessageKind::Flush))
            .map_err(|error| broken(&error))?;
        // The stream gathers: a small push is one packet.
        let (mut raw, mut reply) = request.into_parts();
        reply.reset(Protocol::V1);
        // Where the peer refuses early it stops reading, and its reason is in the reply.
        let written = if many {
            let mut lines = BufWriter::with_capacity(limits::STREAM_BUFFER, Writer::new(&mut raw));
            packs
                .write_pack(new, &haves, self.form, &mut lines)
                .and_then(|bytes| Ok(lines.flush().map(|()| bytes)?))
        } else {
            packs.write_pack(new, &haves, self.form, &mut raw)
        };
        let written = written.and_then(|bytes| {
            if many {
                encode::flush_to_write(&mut raw)?;
            }
            raw.flush()?;
            Ok(bytes)
        });
        drop(raw);
        let (pack_bytes, write_error) = match written {
            Ok(bytes) => (bytes, None),
            Err(PackError::Write(error)) => (0, Some(error)),
            Err(error) => return Err(error.into()),
        };
        debug!("pack sent: {pack_bytes} bytes");
        // It says nothing while it checks what it got.
        let checks = Duration::from_secs(pack_bytes / limits::CHECKED_A_SECOND);
        self.patience.add(checks).map_err(|error| broken(&error))?;
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            match reply.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => lines.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
                Err(error) => return Err(broken(&write_error.unwrap_or(error))),
            }
        }
        if let (Some(error), true) = (write_error, lines.is_empty()) {
            return Err(broken(&error));
        }
        if lines.is_empty() {
            return Err(broken(&"it closed the connection without a report"));
        }
        report(&lines, &target.refname).map_err(|why| PushError::Refused {
            url: target.address.url.clone(),
            refname: target.refname.clone(),
            why,
        })?;
        drop(reply);
        self.patience
            .add(Duration::ZERO)
            .map_err(|error| broken(&error))?;
        self.refs = vec![(target.refname.into_bytes(), new)];
        Ok(Pushed { pack_bytes })
    }
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
    Line::open(target, Service::Receive, kind)?.send(new, None, kind, packs)
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
