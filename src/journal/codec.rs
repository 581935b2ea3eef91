//! The body of a record: one operation as bytes.
//!
//! ```text
//! body    = version tag fields
//! version = %x01
//! tag     = 1 Put: path oid attrs content | 2 Rename: path path | 3 Remove: path | 4 Mkdir: path | 5 Rmdir: path
//!         | 6 SetAttrs: path attrs | 7 SetMailbox: path facts | 8 SetMailbox: path facts offer
//!         | 9 MkFolder: path facts | 10 MkFolder: path facts offer
//! path    = bytes                                  ; slash-joined, no leading slash, no empty component
//! oid     = length (20 or 32) that many bytes
//! attrs   = has-uid (0 or 1) [uid] mtime size map  ; uid, size: number; mtime: zigzag number, seconds
//! facts   = uid-validity uid-next has-guid (0 or 1) [bytes] map uid-validity-issued map bytes
//!                                                  ; guid, keywords, ext, unknown; the others are numbers
//! offer   = number bytes                           ; UIDVALIDITY, GUID
//! content = 0 bytes | 1 | 2                        ; inline, spilled, existing
//! bytes   = number that many bytes
//! map     = number *(key bytes)                    ; keys strictly ascending
//! number  = LEB128, seven bits a byte, low first, shortest form
//! ```
//!
//! The encoding is canonical: [`decode`] refuses what [`encode`] would not have written, trailing bytes included, and never
//! panics whatever it is given. Inline content stands last, so that it is found without copying what precedes it.
//!
//! Rejected: serde with a ready-made format. The bytes are on disk across versions, so they are ours to specify.

use std::collections::BTreeMap;

use crate::maildir::{Attrs, Content, MailboxFacts, Offer, Oid, Op, TreePath};

/// Version of the encoding.
const VERSION: u8 = 1;

/// Why a body was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadBody {
    /// The version is not ours.
    #[error("encoding version {0} is not known here")]
    Version(u8),
    /// The bytes are no operation in canonical form.
    #[error("the bytes are no operation")]
    Malformed,
}

/// The bytes of an operation.
#[must_use]
pub fn encode(op: &Op) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(size_hint(op)));
    out.byte(VERSION);
    match op {
        Op::Put {
            path,
            oid,
            content,
            attrs,
        } => {
            out.byte(1);
            out.path(path);
            out.byte(oid.as_bytes().len() as u8);
            out.0.extend_from_slice(oid.as_bytes());
            out.attrs(attrs);
            match content {
                Content::Inline(bytes) => {
                    out.byte(0);
                    out.bytes(bytes);
                }
                Content::Spilled => out.byte(1),
                Content::Existing => out.byte(2),
            }
        }
        Op::Rename { from, to } => {
            out.byte(2);
            out.path(from);
            out.path(to);
        }
        Op::Remove { path } => {
            out.byte(3);
            out.path(path);
        }
        Op::Mkdir { path } => {
            out.byte(4);
            out.path(path);
        }
        Op::Rmdir { path } => {
            out.byte(5);
            out.path(path);
        }
        Op::SetAttrs { path, attrs } => {
            out.byte(6);
            out.path(path);
            out.attrs(attrs);
        }
        Op::SetMailbox { folder, facts } => {
            out.byte(if facts.offer.is_some() { 8 } else { 7 });
            out.path(folder);
            out.facts(facts);
        }
        Op::MkFolder { path, facts } => {
            out.byte(if facts.offer.is_some() { 10 } else { 9 });
            out.path(path);
            out.facts(facts);
        }
    }
    out.0
}

/// The operation that these bytes are.
///
/// # Errors
/// Where they are not in the form [`encode`] writes.
pub fn decode(body: &[u8]) -> Result<Op, BadBody> {
    match body.first() {
        Some(&VERSION) => {}
        Some(&other) => return Err(BadBody::Version(other)),
        None => return Err(BadBody::Malformed),
    }
    let mut rest = In(&body[1..]);
    let op = rest.op().ok_or(BadBody::Malformed)?;
    if rest.0.is_empty() {
        Ok(op)
    } else {
        Err(BadBody::Malformed)
    }
}

/// Whether the record carries a message's bytes.
pub(super) fn has_content(op: &Op) -> bool {
    matches!(
        op,
        Op::Put {
            content: Content::Inline(_),
            ..
        }
    )
}

fn size_hint(op: &Op) -> usize {
    match op {
        Op::Put {
            path,
            content: Content::Inline(bytes),
            ..
        } => path.as_bytes().len() + bytes.len() + 96,
        _ => 256,
    }
}

struct Out(Vec<u8>);

impl Out {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn path(&mut self, path: &TreePath) {
        self.bytes(path.as_bytes());
    }

    fn map(&mut self, map: &BTreeMap<u8, Vec<u8>>) {
        self.number(map.len() as u64);
        for (&key, value) in map {
            self.byte(key);
            self.bytes(value);
        }
    }

    fn facts(&mut self, facts: &MailboxFacts) {
        self.number(facts.uid_validity.into());
        self.number(facts.uid_next.into());
        self.byte(facts.guid.is_some().into());
        if let Some(guid) = &facts.guid {
            self.bytes(guid);
        }
        self.map(&facts.keywords);
        self.number(facts.uid_validity_issued.into());
        self.map(&facts.ext);
        self.bytes(&facts.unknown);
        if let Some(offer) = &facts.offer {
            self.number(offer.uid_validity.into());
            self.bytes(&offer.guid);
        }
    }

    fn attrs(&mut self, attrs: &Attrs) {
        self.byte(attrs.uid.is_some().into());
        if let Some(uid) = attrs.uid {
            self.number(uid.into());
        }
        self.number(((attrs.mtime << 1) ^ (attrs.mtime >> 63)) as u64);
        self.number(attrs.size);
        self.map(&attrs.ext);
    }
}

/// What is left to decode; `None` from any method: malformed.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte < 0x80 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?.try_into().ok()?;
        self.take(len)
    }

    fn path(&mut self) -> Option<TreePath> {
        let raw = self.bytes()?;
        let path = TreePath::new(raw);
        (path.as_bytes() == raw).then_some(path)
    }

    fn map(&mut self) -> Option<BTreeMap<u8, Vec<u8>>> {
        let count = self.number()?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let key = self.byte()?;
            if map.last_key_value().is_some_and(|(&last, _)| last >= key) {
                return None;
            }
            map.insert(key, self.bytes()?.to_vec());
        }
        Some(map)
    }

    fn attrs(&mut self) -> Option<Attrs> {
        let uid = if self.flag()? {
            Some(self.small()?)
        } else {
            None
        };
        let zigzag = self.number()?;
        Some(Attrs {
            uid,
            mtime: (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64),
            size: self.number()?,
            ext: self.map()?,
        })
    }

    fn content(&mut self) -> Option<Content> {
        match self.byte()? {
            0 => Some(Content::Inline(self.bytes()?.to_vec())),
            1 => Some(Content::Spilled),
            2 => Some(Content::Existing),
            _ => None,
        }
    }

    fn op(&mut self) -> Option<Op> {
        Some(match self.byte()? {
            1 => {
                let path = self.path()?;
                let len = self.byte()?;
                let oid = Oid::from_bytes(self.take(len.into())?)?;
                let attrs = self.attrs()?;
                Op::Put {
                    path,
                    oid,
                    content: self.content()?,
                    attrs,
                }
            }
            2 => Op::Rename {
                from: self.path()?,
                to: self.path()?,
            },
            3 => Op::Remove { path: self.path()? },
            4 => Op::Mkdir { path: self.path()? },
            5 => Op::Rmdir { path: self.path()? },
            6 => Op::SetAttrs {
                path: self.path()?,
                attrs: self.attrs()?,
            },
            tag @ (7 | 8) => Op::SetMailbox {
                folder: self.path()?,
                facts: self.facts(tag == 8)?,
            },
            tag @ (9 | 10) => Op::MkFolder {
                path: self.path()?,
                facts: self.facts(tag == 10)?,
            },
            _ => return None,
        })
    }

    fn facts(&mut self, is_offered: bool) -> Option<MailboxFacts> {
        let mut facts = MailboxFacts {
            uid_validity: self.small()?,
            uid_next: self.small()?,
            guid: if self.flag()? {
                Some(self.bytes()?.to_vec())
            } else {
                None
            },
            offer: None,
            keywords: self.map()?,
            uid_validity_issued: self.small()?,
            ext: self.map()?,
            unknown: self.bytes()?.to_vec(),
        };
        if is_offered {
            facts.offer = Some(Offer {
                uid_validity: self.small()?,
                guid: self.bytes()?.to_vec(),
            });
        }
        Some(facts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_op, config};
    use super::*;

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn every_operation_comes_back_as_it_went(op in any_op()) {
            prop_assert_eq!(decode(&encode(&op)), Ok(op));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_are_canonical(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(op) = decode(&body) {
                prop_assert_eq!(encode(&op), body);
            }
        }

        #[test]
        fn mangled_operations_never_panic_and_are_canonical(
            op in any_op(), at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut body = encode(&op);
            let at = at.index(body.len());
            if cut { body.truncate(at) } else { body[at] = byte }
            if let Ok(op) = decode(&body) {
                prop_assert_eq!(encode(&op), body);
            }
        }
    }

    #[test]
    fn a_later_version_is_told_from_nonsense() {
        assert_eq!(decode(&[2, 3, 1, b'a']), Err(BadBody::Version(2)));
        assert_eq!(decode(&[]), Err(BadBody::Malformed));
        assert_eq!(decode(&[1, 3, 0x81, 0x00, b'a']), Err(BadBody::Malformed));
        assert_eq!(
            decode(&[1, 3, 1, b'a']),
            Ok(Op::Remove {
                path: TreePath::new("a")
            })
        );
    }
}
