//! Hidden names: one git tree entry's name for a visible name and its attributes.
//!
//! The problem: git keeps no mtime, no UID, no size in a tree, and forbids some names that a Maildir may hold. The
//! attributes must change with one entry of one leaf, and plain `git log`, `git show` must stay readable.
//!
//! ```text
//! 1795466045.M6P1.vm,S=2345:2,FS%,u=17,m=1795400000,s=2345,W=2400
//! └──── escaped visible name ──┘└────── attributes ──────────────┘
//! ```
//!
//! Rules:
//! - In the visible part `%` and `\` are written `%25` and `%5c` (lower-case hex). git's own names are made
//!   harmless by escaping one letter (`.git` → `%2egit`, `git~1` → `%67it~1`), and so is a name that is one hexadecimal digit, because a trie names
//!   its branches so. All other bytes stand as they are, UTF-8 or not.
//! - `%,` begins the attributes: `key=value` joined by `,`. `u`: UID, at least 1. `m`: mtime in seconds since the epoch, left
//!   out where it equals the delivery time in the name. `s`: size in bytes, left out where `,S=` in the name says the same. Capital letters: fields of
//!   `dovecot-uidlist`, with `%`, `,`, `/`, `\` and control bytes escaped. `k`: see [`KEYWORDS`]. Order: `u`, `m`, `s`, capitals ascending, `k`.
//! - Directories have no attributes.
//! - A hidden name is canonical: [`decode`] refuses what [`encode`] would not have written.
//! - Names starting with `%` and a letter that is no hexadecimal digit never come from a visible name: [`MAILBOX`].
//!
//! Rejected: a side file of attributes per folder (its blob grows with the folder), `.gitattributes`, notes (a second tree).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::name;

/// Hidden name of the file that holds a folder's facts.
pub const MAILBOX: &[u8] = b"%mailbox";

/// Key, among [`Attrs::ext`], of the message's keyword letters where its name does not show them yet: a server that keeps keywords elsewhere (Courier) must
/// not find its messages renamed. Present and empty: the message has none, whatever its name shows.
pub const KEYWORDS: u8 = b'k';

/// Attributes of a file in the tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attrs {
    /// IMAP UID; `None` while no UID was given.
    pub uid: Option<u32>,
    /// mtime in whole seconds since the epoch: IMAP's INTERNALDATE.
    pub mtime: i64,
    /// Size in bytes.
    pub size: u64,
    /// Fields of `dovecot-uidlist` that we do not interpret, by their capital letter; and [`KEYWORDS`].
    pub ext: BTreeMap<u8, Vec<u8>>,
}

/// Why a hidden name was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("tree entry {name:?} is not written as mailbraid writes names")]
pub struct BadHiddenName {
    /// The name, for the log.
    pub name: String,
}

/// The hidden name of a file.
#[must_use]
pub fn encode(visible: &[u8], attrs: &Attrs) -> Vec<u8> {
    let plain = escape(visible);
    let mut hidden = Vec::with_capacity(plain.len() + 24);
    hidden.extend_from_slice(&plain);
    let mut lead: &[u8] = b"%,";
    let mut field = |key: u8, value: &[u8]| {
        hidden.extend_from_slice(lead);
        hidden.extend_from_slice(&[key, b'=']);
        hidden.extend_from_slice(value);
        lead = b",";
    };
    let mut digits = [0; 20];
    if let Some(uid) = attrs.uid {
        field(b'u', decimal(&mut digits, u64::from(uid)));
    }
    if name::delivery_time(visible) != Some(attrs.mtime) {
        field(b'm', attrs.mtime.to_string().as_bytes());
    }
    if name::claimed_size(visible) != Some(attrs.size) {
        field(b's', decimal(&mut digits, attrs.size));
    }
    for (&key, value) in &attrs.ext {
        let mut escaped = Vec::with_capacity(value.len());
        for &byte in value {
            if byte < 0x20 || byte == 0x7f || b"%,/\\".contains(&byte) {
                push_escape(&mut escaped, byte);
            } else {
                escaped.push(byte);
            }
        }
        field(key, &escaped);
    }
    hidden
}

/// The hidden name of a directory: the escaped name alone.
#[must_use]
pub fn encode_plain(visible: &[u8]) -> Vec<u8> {
    escape(visible).into_owned()
}

/// As [`encode_plain`], without a copy where nothing is to be escaped.
#[must_use]
pub fn escape(visible: &[u8]) -> Cow<'_, [u8]> {
    let risky = risky_at(visible);
    if risky.is_none() && !visible.iter().any(|&byte| byte == b'%' || byte == b'\\') {
        return visible.into();
    }
    let mut hidden = Vec::with_capacity(visible.len() + 8);
    for (at, &byte) in visible.iter().enumerate() {
        if byte == b'%' || byte == b'\\' || Some(at) == risky {
            push_escape(&mut hidden, byte);
        } else {
            hidden.push(byte);
        }
    }
    hidden.into()
}

/// The visible name and the attributes of a file entry.
///
/// # Errors
/// Where the name is not canonical.
pub fn decode(hidden: &[u8]) -> Result<(Vec<u8>, Attrs), BadHiddenName> {
    let bad = || BadHiddenName {
        name: String::from_utf8_lossy(hidden).into_owned(),
    };
    let (plain, fields) = match attributes_at(hidden) {
        Some(at) => (&hidden[..at], Some(&hidden[at + 2..])),
        None => (hidden, None),
    };
    let visible = unescape(plain)
        .filter(|visible| is_visible(visible))
        .ok_or_else(bad)?;
    let mut attrs = Attrs {
        uid: None,
        mtime: name::delivery_time(&visible).unwrap_or(0),
        size: name::claimed_size(&visible).unwrap_or(0),
        ext: BTreeMap::new(),
    };
    for field in fields
        .into_iter()
        .flat_map(|all| all.split(|&byte| byte == b','))
    {
        let (&[key, b'='], value) = field.split_first_chunk::<2>().ok_or_else(bad)? else {
            return Err(bad());
        };
        let text = || std::str::from_utf8(value).ok();
        match key {
            b'u' => {
                attrs.uid = Some(
                    text()
                        .and_then(|t| t.parse().ok())
                        .filter(|&uid| uid > 0)
                        .ok_or_else(bad)?,
                )
            }
            b'm' => attrs.mtime = text().and_then(|t| t.parse().ok()).ok_or_else(bad)?,
            b's' => attrs.size = text().and_then(|t| t.parse().ok()).ok_or_else(bad)?,
            b'A'..=b'Z' | KEYWORDS => {
                attrs.ext.insert(key, unescape(value).ok_or_else(bad)?);
            }
            _ => return Err(bad()),
        }
    }
    if encode(&visible, &attrs) != hidden {
        return Err(bad());
    }
    Ok((visible, attrs))
}

/// The visible name of a directory entry.
///
/// # Errors
/// Where the name is not canonical.
pub fn decode_plain(hidden: &[u8]) -> Result<Vec<u8>, BadHiddenName> {
    unescape(hidden)
        .filter(|visible| is_visible(visible) && encode_plain(visible) == hidden)
        .ok_or_else(|| BadHiddenName {
            name: String::from_utf8_lossy(hidden).into_owned(),
        })
}

/// Where the attributes begin.
fn attributes_at(hidden: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += hidden[at..].iter().position(|&byte| byte == b'%')?;
        if hidden.get(at + 1) == Some(&b',') {
            return Some(at);
        }
        at += 1;
    }
}

/// The number as it is written.
fn decimal(digits: &mut [u8; 20], number: u64) -> &[u8] {
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[
        b'%',
        HEX[usize::from(byte >> 4)],
        HEX[usize::from(byte & 15)],
    ]);
}

/// Undoes `%xx`; `None` where something else stands after a `%`.
pub(super) fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    if !escaped.contains(&b'%') {
        return Some(escaped.to_vec());
    }
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let high = (*rest.next()? as char).to_digit(16)?;
        let low = (*rest.next()? as char).to_digit(16)?;
        plain.push((high * 16 + low) as u8);
    }
    Some(plain)
}

/// Whether a directory can hold this name. git's trees can say more: `..`, and a peer's tree may say it.
fn is_visible(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

/// The byte to escape in a name that `git fsck` or a trie reader would take for something else: `.git`, `.gitmodules` and their
/// kin as HFS+ (which ignores some code points) and NTFS fold them; one hexadecimal digit. NTFS shortens `.gitmodules` to `GITMOD~1`, and
/// to `GI7EBA~1` where that is taken; with more digits fewer letters are left, at last none: `G~123456`, `~1234567` (git's
/// `is_ntfs_dot_generic`). So the first letter alone is asked.
fn risky_at(visible: &[u8]) -> Option<usize> {
    if let [byte] = visible {
        return matches!(byte, b'0'..=b'9' | b'a'..=b'f').then_some(0);
    }
    let first = visible.iter().position(u8::is_ascii)?;
    let risky = match visible[first] {
        b'g' | b'G' | b'~' => visible.contains(&b'~'),
        b'.' => {
            let ascii = visible.iter().filter(|byte| byte.is_ascii());
            ascii.take(4).map(u8::to_ascii_lowercase).eq(*b".git")
        }
        _ => false,
    };
    risky.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(uid: Option<u32>, mtime: i64, size: u64) -> Attrs {
        Attrs {
            uid,
            mtime,
            size,
            ext: BTreeMap::new(),
        }
    }

    #[test]
    fn a_usual_mail_carries_no_attributes() {
        let hidden = encode(
            b"1795466045.M6P1.vm,S=2345:2,FS",
            &attrs(None, 1_795_466_045, 2345),
        );
        assert_eq!(hidden, b"1795466045.M6P1.vm,S=2345:2,FS");
    }

    #[test]
    fn attributes_follow_the_name() {
        let mut with = attrs(Some(17), 5, 9);
        with.ext.insert(b'W', b"2,4".to_vec());
        let hidden = encode(b"1795466045.M6P1.vm", &with);
        assert_eq!(hidden, b"1795466045.M6P1.vm%,u=17,m=5,s=9,W=2%2c4");
        assert_eq!(decode(&hidden), Ok((b"1795466045.M6P1.vm".to_vec(), with)));
    }

    #[test]
    fn names_git_forbids_are_escaped() {
        for (visible, hidden) in [
            (&b".git"[..], &b"%2egit"[..]),
            (b".GITmodules", b"%2eGITmodules"),
            (b"git~1", b"%67it~1"),
            (b"gi7eba~1", b"%67i7eba~1"),
            (b"G~123456", b"%47~123456"),
            (b"~1234567", b"%7e1234567"),
            (b"go~", b"%67o~"),
            (b"mail~1", b"mail~1"),
            (b"\xe2\x80\x8c.git", b"\xe2\x80\x8c%2egit"),
            (b"a\\.git", b"a%5c.git"),
            (b"a", b"%61"),
            (b"7", b"%37"),
            (b"g", b"g"),
            (b"100%", b"100%25"),
            (b"%mailbox", b"%25mailbox"),
            (b"\xff\xfe", b"\xff\xfe"),
        ] {
            assert_eq!(encode_plain(visible), hidden);
            assert_eq!(decode_plain(hidden), Ok(visible.to_vec()));
        }
    }

    #[test]
    fn only_canonical_names_are_read() {
        for hidden in [
            &b"x%,u=017"[..],
            b"x%2e",
            b"%",
            b"",
            b"x%,",
            b"x%,s=1,u=2",
            b"x%,u=0,s=1",
            b"x%,q=1,s=1",
            b"x",
            b"%mailbox",
            b"x%2Fy%,s=1",
        ] {
            assert!(
                decode(hidden).is_err(),
                "{}",
                String::from_utf8_lossy(hidden)
            );
        }
    }
}
