//! What a folder knows of itself: UIDVALIDITY, UIDNEXT, mailbox GUID, keyword names; and the small file that holds it.
//!
//! ```text
//! uidvalidity 1795466045
//! uidnext 18
//! issued 1795466045
//! guid 4f1c…
//! offer 1795466045 4f1c…
//! keyword a $Forwarded
//! ext K value
//! ```
//!
//! The hidden file [`super::hidden::MAILBOX`] of a folder, one fact a line, in this order; `issued` only where it is not 0, `guid` only where it is known, `offer` only until a server has opened the folder, `keyword` and `ext` ascending by letter.
//! Values end at the newline; `%`, newline and the other control bytes are written `%xx`, a blank only as a key. Lines with a word this version does not
//! know follow, ascending, and are kept. The text is canonical: equal facts are one blob, and [`decode`] refuses what [`encode`]
//! would not write.

use std::collections::BTreeMap;

use super::hidden::unescape;

/// Facts of one folder, kept in a small file of the folder in the repository (RFC 9051 §2.3.1.1 for the UID values).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MailboxFacts {
    /// UIDVALIDITY; 0 while no server has opened the folder.
    pub uid_validity: u32,
    /// UIDNEXT; the next message gets this UID or a greater one. At least 1.
    pub uid_next: u32,
    /// Mailbox GUID as Dovecot writes it (32 hexadecimal digits); `None` while unknown.
    pub guid: Option<Vec<u8>>,
    /// What the first server that opens the folder is to call it; `None` once one has.
    pub offer: Option<Offer>,
    /// Keyword names by letter, `0` = `a` … `25` = `z`.
    pub keywords: BTreeMap<u8, Vec<u8>>,
    /// The greatest UIDVALIDITY issued to any folder at or below this directory (`dovecot-uidvalidity`), so that a folder made anew
    /// gets a greater one; 0 while none was issued. Braids take the greater.
    pub uid_validity_issued: u32,
    /// Header fields of `dovecot-uidlist` that we do not interpret, by key.
    pub ext: BTreeMap<u8, Vec<u8>>,
    /// Lines of the facts file that this version does not know, ascending, each with its newline.
    pub unknown: Vec<u8>,
}

/// UIDVALIDITY and GUID that a folder was made with. Nobody has seen them: they mean nothing until a server takes them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Offer {
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// Mailbox GUID, as in [`MailboxFacts::guid`].
    pub guid: Vec<u8>,
}

impl MailboxFacts {
    /// Whether nothing is known but the offer: the folder was made, and no server has opened it.
    #[must_use]
    pub fn is_only_offered(&self) -> bool {
        let rest = Self {
            offer: None,
            uid_next: 0,
            ..self.clone()
        };
        self.offer.is_some() && self.uid_next <= 1 && rest == Self::default()
    }
}

/// Why a facts file was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of a folder's %mailbox is not written as mailbraid writes it")]
pub struct BadMailbox {
    /// The first bad line, from 1.
    pub line: usize,
}

/// The facts file.
#[must_use]
pub fn encode(facts: &MailboxFacts) -> Vec<u8> {
    let mut text = format!(
        "uidvalidity {}\nuidnext {}\n",
        facts.uid_validity, facts.uid_next
    )
    .into_bytes();
    if facts.uid_validity_issued > 0 {
        text.extend_from_slice(format!("issued {}\n", facts.uid_validity_issued).as_bytes());
    }
    if let Some(guid) = &facts.guid {
        text.extend_from_slice(b"guid ");
        escape(&mut text, guid);
        text.push(b'\n');
    }
    if let Some(offer) = &facts.offer {
        text.extend_from_slice(format!("offer {} ", offer.uid_validity).as_bytes());
        escape(&mut text, &offer.guid);
        text.push(b'\n');
    }
    for (word, table) in [("keyword", &facts.keywords), ("ext", &facts.ext)] {
        for (&key, value) in table {
            let key = if word == "keyword" {
                key.wrapping_add(b'a')
            } else {
                key
            };
            text.extend_from_slice(word.as_bytes());
            text.push(b' ');
            if key == b' ' {
                text.extend_from_slice(b"%20");
            } else {
                escape(&mut text, &[key]);
            }
            text.push(b' ');
            escape(&mut text, value);
            text.push(b'\n');
        }
    }
    text.extend_from_slice(&facts.unknown);
    text
}

/// The facts a file holds.
///
/// # Errors
/// Where the text is not canonical.
pub fn decode(text: &[u8]) -> Result<MailboxFacts, BadMailbox> {
    let mut facts = MailboxFacts::default();
    let body = text.strip_suffix(b"\n").ok_or(BadMailbox { line: 1 })?;
    for (at, line) in body.split(|&byte| byte == b'\n').enumerate() {
        read_line(&mut facts, line).ok_or(BadMailbox { line: at + 1 })?;
    }
    let again = encode(&facts);
    if again != text {
        let same = again.iter().zip(text).take_while(|(a, b)| a == b);
        let line = 1 + same.filter(|(byte, _)| **byte == b'\n').count();
        return Err(BadMailbox { line });
    }
    Ok(facts)
}

fn read_line(facts: &mut MailboxFacts, line: &[u8]) -> Option<()> {
    let (word, rest) = match line.iter().position(|&byte| byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[][..]),
    };
    let number = || std::str::from_utf8(rest).ok()?.parse().ok();
    let keyed = || {
        let at = rest.iter().position(|&byte| byte == b' ')?;
        let &[key] = unescape(&rest[..at])?.as_slice() else {
            return None;
        };
        Some((key, unescape(&rest[at + 1..])?))
    };
    match word {
        b"uidvalidity" => facts.uid_validity = number()?,
        b"uidnext" => facts.uid_next = number()?,
        b"issued" => facts.uid_validity_issued = number()?,
        b"guid" => facts.guid = Some(unescape(rest)?),
        b"offer" => {
            let at = rest.iter().position(|&byte| byte == b' ')?;
            facts.offer = Some(Offer {
                uid_validity: std::str::from_utf8(&rest[..at]).ok()?.parse().ok()?,
                guid: unescape(&rest[at + 1..])?,
            });
        }
        b"keyword" => {
            let (key, name) = keyed()?;
            facts.keywords.insert(key.wrapping_sub(b'a'), name);
        }
        b"ext" => {
            let (key, value) = keyed()?;
            facts.ext.insert(key, value);
        }
        b"" => return None,
        _ => {
            let last = facts.unknown.split(|&byte| byte == b'\n').rev().nth(1);
            if last.is_some_and(|last| last >= line) {
                return None;
            }
            facts.unknown.extend_from_slice(line);
            facts.unknown.push(b'\n');
        }
    }
    Some(())
}

fn escape(text: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        if byte < 0x20 || byte == 0x7f || byte == b'%' {
            text.extend_from_slice(format!("%{byte:02x}").as_bytes());
        } else {
            text.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_facts() -> MailboxFacts {
        MailboxFacts {
            uid_validity: 1_795_466_045,
            uid_next: 18,
            uid_validity_issued: 1_795_466_046,
            guid: Some(b"4f1c00aa".to_vec()),
            offer: Some(Offer {
                uid_validity: 7,
                guid: b"4f 1d".to_vec(),
            }),
            keywords: [(0, b"$Forwarded".to_vec()), (25, b"a b\n%".to_vec())].into(),
            ext: [(b'K', b"v".to_vec()), (b' ', Vec::new())].into(),
            unknown: b"modseq 7\nx\n".to_vec(),
        }
    }

    #[test]
    fn the_text_is_what_the_header_says() {
        assert_eq!(
            String::from_utf8(encode(&some_facts())).unwrap(),
            "uidvalidity 1795466045\nuidnext 18\nissued 1795466046\nguid 4f1c00aa\noffer 7 4f 1d\nkeyword a $Forwarded\nkeyword z a b%0a%25\next %20 \next K v\nmodseq 7\nx\n"
        );
    }

    #[test]
    fn facts_come_back() {
        for facts in [some_facts(), MailboxFacts::default()] {
            assert_eq!(decode(&encode(&facts)), Ok(facts));
        }
    }

    #[test]
    fn only_canonical_text_is_read() {
        for (text, line) in [
            ("", 1),
            ("uidvalidity 1\nuidnext 1", 1),
            ("uidvalidity 01\nuidnext 1\n", 1),
            ("uidvalidity 1\nuidnext 4294967296\n", 2),
            ("uidnext 1\nuidvalidity 1\n", 1),
            ("uidvalidity 1\nuidnext 1\nkeyword b x\nkeyword a x\n", 3),
            ("uidvalidity 1\nuidnext 1\nguid %4x\n", 3),
            ("uidvalidity 1\nuidnext 1\noffer 7\n", 3),
            ("uidvalidity 1\nuidnext 1\noffer 07 x\n", 3),
            ("uidvalidity 1\nuidnext 1\nz\na\n", 4),
            ("uidvalidity 1\nuidnext 1\n\n", 3),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(BadMailbox { line }), "{text}");
        }
    }
}
