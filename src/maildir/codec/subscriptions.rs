//! `subscriptions` (Dovecot `src/lib-storage/list/subscription-file.c`, `src/lib/strescape.c`, 2.3.19).
//!
//! ```text
//! version 1              version 2
//!
//! INBOX                  V→2                     → is a tab
//! lists.git
//!                        INBOX
//!                        lists→git
//! ```
//!
//! - Version 1: a mailbox name a line, with whatever hierarchy separator the server had.
//! - Version 2: the first line is `V`, tab, `2`; the second is empty. Then a name a line, hierarchy levels joined by tabs; in a level NUL,
//!   SOH, tab, CR and LF stand as SOH and one of `0`, `1`, `t`, `r`, `n`.
//! - Written whole through `subscriptions.lock` + rename, new names last. The order says nothing. Empty lines say nothing. The last line needs
//!   no line feed. A name that stands twice is one.

use std::collections::HashSet;

use super::scan;
use super::{Fault, Malformed};

const HEADER_V2: &[u8] = b"V\t2\n\n";

/// The version of the file, kept so that a server gets back what it wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Version {
    /// Plain lines.
    V1,
    /// Escaped levels joined by tabs.
    V2,
}

/// A parsed `subscriptions`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscriptions {
    /// The version.
    pub version: Version,
    /// Mailbox names in the order of the file, each once. In version 2 the levels of a name; in version 1 the whole name is the one level.
    pub names: Vec<Vec<Vec<u8>>>,
}

impl Subscriptions {
    /// Reads a whole file. An empty one has version 1 and no names.
    ///
    /// # Errors
    /// Where the version is unknown, a name holds CR or NUL, or an escape does not end.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let (version, body, skipped) = match file.strip_prefix(HEADER_V2) {
            Some(body) => (Version::V2, body, 2),
            None if file.starts_with(b"V\t") => return Err(unknown_version(file)),
            None => (Version::V1, file, 0),
        };
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        for (at, line) in body.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            if !scan::is_line(line) {
                return Err(Fault::Name.at(skipped + at + 1));
            }
            let name = match version {
                Version::V1 => vec![line.to_vec()],
                Version::V2 => line
                    .split(|&byte| byte == b'\t')
                    .map(|level| unescape(level).ok_or_else(|| Fault::Name.at(skipped + at + 1)))
                    .collect::<Result<_, _>>()?,
            };
            if seen.insert(name.clone()) {
                names.push(name);
            }
        }
        Ok(Self { version, names })
    }

    /// The file. Names that no reader would take are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Vec::new();
        if self.version == Version::V2 {
            file.extend_from_slice(HEADER_V2);
        }
        for name in &self.names {
            let line = match self.version {
                Version::V1 => match name.as_slice() {
                    [whole] if scan::is_line(whole) => whole.clone(),
                    _ => continue,
                },
                Version::V2 => {
                    let levels: Vec<Vec<u8>> = name.iter().map(|level| escape(level)).collect();
                    levels.join(&b'\t')
                }
            };
            if line.is_empty() {
                continue;
            }
            // An empty line says nothing, and keeps a first name from looking like the header of another version.
            if file.is_empty() && line.starts_with(b"V\t") {
                file.push(b'\n');
            }
            file.extend_from_slice(&line);
            file.push(b'\n');
        }
        file
    }

    /// The names as version 2 has them: those of version 1 are split at `separator`.
    #[must_use]
    pub fn levels(&self, separator: u8) -> Vec<Vec<Vec<u8>>> {
        match self.version {
            Version::V2 => self.names.clone(),
            Version::V1 => self
                .names
                .iter()
                .flatten()
                .map(|name| {
                    name.split(|&byte| byte == separator)
                        .map(<[u8]>::to_vec)
                        .collect()
                })
                .collect(),
        }
    }
}

fn unknown_version(file: &[u8]) -> Malformed {
    let line = scan::split_once(file, b'\n').0;
    if line == b"V\t2" {
        return Fault::Truncated.at(2);
    }
    Fault::Version(String::from_utf8_lossy(&line[2..]).into()).at(1)
}

fn escape(level: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(level.len());
    for &byte in level {
        let letter = match byte {
            0 => b'0',
            1 => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            _ => {
                escaped.push(byte);
                continue;
            }
        };
        escaped.extend_from_slice(&[1, letter]);
    }
    escaped
}

/// Dovecot takes any byte after SOH for itself and forgives a lone SOH at the end; `None` for both, as no writer makes them.
fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        plain.push(match byte {
            1 => match rest.next()? {
                b'0' => 0,
                b'1' => 1,
                b't' => b'\t',
                b'r' => b'\r',
                b'n' => b'\n',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(levels: &[&[u8]]) -> Vec<Vec<u8>> {
        levels.iter().map(|level| level.to_vec()).collect()
    }

    #[test]
    fn both_versions_come_back_as_they_were() {
        let v1 = b"INBOX\nlists.git\n";
        let parsed = Subscriptions::parse(v1).unwrap();
        assert_eq!(parsed.names, [name(&[b"INBOX"]), name(&[b"lists.git"])]);
        assert_eq!(parsed.levels(b'.')[1], name(&[b"lists", b"git"]));
        assert_eq!(parsed.encode(), v1);

        let v2 = b"V\t2\n\nINBOX\nlists\tgit\na\x01tb\tc\x011\n";
        let parsed = Subscriptions::parse(v2).unwrap();
        assert_eq!(parsed.names[2], name(&[b"a\tb", b"c\x01"]));
        assert_eq!(parsed.encode(), v2);
    }

    #[test]
    fn empty_lines_and_repeats_say_nothing() {
        let parsed = Subscriptions::parse(b"V\t2\n\n\na\nb\na\nc").unwrap();
        assert_eq!(parsed.encode(), b"V\t2\n\na\nb\nc\n");
        assert_eq!(Subscriptions::parse(b"").unwrap().encode(), b"");
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (file, line, what) in [
            (&b"V\t3\n\na\n"[..], 1, Fault::Version("3".into())),
            (b"V\t2\n", 2, Fault::Truncated),
            (b"V\t2\na\n", 2, Fault::Truncated),
            (b"a\nb\r\n", 2, Fault::Name),
            (b"a\0\n", 1, Fault::Name),
            (b"V\t2\n\na\nb\x01\n", 4, Fault::Name),
            (b"V\t2\n\n\x01x\n", 3, Fault::Name),
        ] {
            assert_eq!(
                Subscriptions::parse(file),
                Err(what.at(line)),
                "{:?}",
                String::from_utf8_lossy(file)
            );
        }
    }
}
