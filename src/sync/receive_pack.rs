//! The receiving side of pushes from a peer that is mailbraid too: one connection, many pushes.
//!
//! The problem: git's receive-pack takes one push and ends. Each costs a shell, this program and three processes of git, each of which opens every pack index: some 30 ms of processor
//! before the head is there. A mailbraid asks for `mailbraid-receive-pack` instead, and this process stays.
//!
//! ```text
//! server: refs it has, capabilities                             as git's receive-pack says them
//! client: mailbraid-deflate                                     where it wants all that follows compressed, both ways: super::deflate
//!         OLD NEW REF\0 report-status …, flush                  as git's send-pack says it
//!         pack, in packet lines, flush                          (a pack does not say where it ends)
//! server: unpack ok, ok REF, flush
//! client: the next push, with what the last one left as OLD …
//! ```
//!
//! Rules:
//! - One ref may be moved, `refs/mailbraid/peers/NODE`, from the value the client names, never removed.
//! - The pack is checked as an object store needs it: every object's id is computed, every delta resolved, sizes bounded, and what the objects name is here. Until then nobody can see it
//!   ([`Incoming`]): a mail that the daemon finds in the repository is not written once more.
//! - What the objects say is checked by the daemon before it is braided ([`super::verify`]), exactly as what was fetched. Until then nothing but that ref knows of them.
//! - Pack, index and ref are durable before the report.
//! - The first failure is told and ends the connection: the client begins anew with what we have then.

use std::io::{self, BufRead, BufWriter, Read, Write};

use gix_transport::packetline::PacketLineRef;
use gix_transport::packetline::blocking_io::{StreamingPeekableIter, encode};

use super::deflate::{Deflated, Deflation, Inflated};
use super::heads::PEERS;
use super::one_line;
use crate::history::{HEAD_REF, HistoryError, Incoming, Received, Repo};
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// The capability by which a client knows that it is not git who answers.
pub const MANY_PUSHES: &str = "mailbraid-pushes";

/// The capability by which it knows that it may say this word, and that all that follows it is compressed.
pub const DEFLATE: &str = "mailbraid-deflate";

/// Why a connection ended before the client closed it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// Not what a client says.
    #[error("{0:?} is no push of one ref")]
    Command(String),
    /// The repository could not be read or written, or the pack is bad; the client has been told if it was there to hear it.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The client has been told.
    #[error("{refname} was refused: {why}")]
    Refused {
        /// What was to be moved.
        refname: String,
        /// Why it was not.
        why: String,
    },
}

/// Takes pushes of `node` until the client closes the connection. Returns how many there were.
///
/// # Errors
/// See [`ReceiveError`].
pub fn serve(
    repo: &Repo,
    node: &str,
    input: impl Read,
    output: impl Write,
) -> Result<u64, ReceiveError> {
    let own = format!("{PEERS}{node}");
    let deflation = Deflation::default();
    let input = Inflated::new(input, &deflation);
    let mut lines = StreamingPeekableIter::new(input, &[PacketLineRef::Flush], false);
    let mut output = BufWriter::new(Deflated::new(output, &deflation));
    advertise(repo, &own, &mut output)?;
    let mut count = 0;
    while let Some(push) = command(&mut lines, &deflation, repo.kind())? {
        if push.refname != own {
            let why = format!("this key may move {own} alone");
            return refuse(&mut output, "ok", &push.refname, &why);
        }
        if push.new == Oid::null(repo.kind()) {
            return refuse(&mut output, "ok", &push.refname, "it may not be removed");
        }
        lines.reset();
        let received = match take(repo, &mut lines, push.new) {
            Ok(received) => received,
            Err(why) => return refuse(&mut output, &one_line(&why), &push.refname, "no pack"),
        };
        let old = (push.old != Oid::null(repo.kind())).then_some(push.old);
        if let Err(why) = repo.update_ref(&own, push.new, old) {
            return refuse(&mut output, "ok", &push.refname, &one_line(&why));
        }
        // A ref has it now.
        drop(received);
        encode::text_to_write(b"unpack ok", &mut output)?;
        encode::text_to_write(format!("ok {own}").as_bytes(), &mut output)?;
        encode::flush_to_write(&mut output)?;
        output.flush()?;
        lines.reset();
        count += 1;
    }
    Ok(count)
}

/// What there is: the ref that may be moved, and our own head, which says what need not be sent.
fn advertise(repo: &Repo, own: &str, output: &mut impl Write) -> Result<(), ReceiveError> {
    let kind = repo.kind();
    let mut known = Vec::new();
    known.extend(repo.find_ref(own)?.map(|id| (id, own)));
    known.extend(repo.find_ref(HEAD_REF)?.map(|id| (id, ".have")));
    if known.is_empty() {
        known.push((Oid::null(kind), "capabilities^{}"));
    }
    let capabilities = format!(
        "\0report-status ofs-delta {MANY_PUSHES} {DEFLATE} object-format={} agent=mailbraid/{}",
        kind.name(),
        env!("CARGO_PKG_VERSION")
    );
    for (at, (id, name)) in known.into_iter().enumerate() {
        let more = if at == 0 { capabilities.as_str() } else { "" };
        encode::text_to_write(format!("{id} {name}{more}").as_bytes(), &mut *output)?;
    }
    encode::flush_to_write(&mut *output)?;
    output.flush()?;
    Ok(())
}

struct Push {
    old: Oid,
    new: Oid,
    refname: String,
}

/// The next command; `None` where the client has closed the connection.
fn command<R: Read>(
    lines: &mut StreamingPeekableIter<R>,
    deflation: &Deflation,
    kind: HashKind,
) -> Result<Option<Push>, ReceiveError> {
    let mut words = None;
    loop {
        let line = match lines.read_line() {
            // The flush after the command.
            None if words.is_some() => break,
            None => return Ok(None),
            Some(Err(end)) if end.kind() == io::ErrorKind::UnexpectedEof && words.is_none() => {
                return Ok(None);
            }
            Some(line) => line?.map_err(|error| io::Error::other(error.to_string()))?,
        };
        let text = line.as_slice().unwrap_or_default();
        let text = String::from_utf8_lossy(text).into_owned();
        if words.is_some() {
            return Err(ReceiveError::Command(text));
        }
        if text.trim_end() == DEFLATE {
            deflation.begin();
            continue;
        }
        words = Some(text);
    }
    let text = words.unwrap_or_default();
    let command = text.split('\0').next().unwrap_or("").trim_end();
    let parsed = (|| {
        let (old, rest) = command.split_once(' ')?;
        let (new, refname) = rest.split_once(' ')?;
        let id = |hex: &str| Oid::from_hex(hex.as_bytes()).filter(|id| id.kind() == kind);
        Some(Push {
            old: id(old)?,
            new: id(new)?,
            refname: refname.to_owned(),
        })
    })();
    match parsed {
        Some(push) => Ok(Some(push)),
        None => Err(ReceiveError::Command(command.to_owned())),
    }
}

fn take<R: Read>(
    repo: &Repo,
    lines: &mut StreamingPeekableIter<R>,
    head: Oid,
) -> Result<Received, HistoryError> {
    let mut pack = Bounded {
        inner: lines.as_read(),
        left: limits::PUSH_BYTES,
    };
    let taken: Incoming = repo.take_pack(&mut pack)?;
    drain(&mut pack)?;
    match taken.lacks(head)? {
        None => taken.admit(),
        Some(oid) => Err(HistoryError::Missing(oid)),
    }
}

/// Tells the client, and ends.
fn refuse(
    output: &mut impl Write,
    unpack: &str,
    refname: &str,
    why: &str,
) -> Result<u64, ReceiveError> {
    encode::text_to_write(format!("unpack {unpack}").as_bytes(), &mut *output)?;
    encode::text_to_write(format!("ng {refname} {why}").as_bytes(), &mut *output)?;
    encode::flush_to_write(&mut *output)?;
    output.flush()?;
    Err(ReceiveError::Refused {
        refname: refname.to_owned(),
        why: if unpack == "ok" { why } else { unpack }.to_owned(),
    })
}

/// Reads up to the flush after the pack.
fn drain(pack: &mut impl Read) -> Result<(), HistoryError> {
    let more = io::copy(pack, &mut io::sink()).and_then(|more| match more {
        0 => Ok(()),
        more => Err(io::Error::other(format!("{more} bytes after the pack"))),
    });
    more.map_err(HistoryError::git("the push is damaged"))
}

/// At most so many bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let found = self.inner.fill_buf()?;
        if found.len() as u64 > self.left {
            return Err(io::Error::other("it is larger than a push may be"));
        }
        Ok(found)
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        self.inner.consume(count);
    }
}
