//! The files of `courierimapkeywords/` (Courier `maildir/README.imapkeywords.html`, `maildir/maildirkeywords2.c`, 5.0.13).
//!
//! ```text
//! :list                      the keywords of all messages, as last gathered
//!   $Forwarded                 keyword names, a line each; their number is their place, from 0
//!   Important
//!                              an empty line
//!   1795466045.M6P1.vm:0 1     file name up to its first colon, colon, numbers joined by spaces
//!
//! NAME                       the keywords of message NAME, newer than :list: names, a line each; empty: none
//! .N.NAME                    the same, already gathered into :list; N is the time in seconds over 300 at which it was read, plus one
//! .tmp.…                     scratch
//! ```
//!
//! - To change a message's keywords Courier writes a file in `tmp/` and renames it to `courierimapkeywords/NAME`, where NAME is the
//!   message's file name up to its last colon. A reader takes `:list`, then for each message the update `NAME`, else the greatest `.N.NAME`;
//!   where that changed something it writes `:list` anew through `tmp/` and rename, and renames each `NAME` to `.N.NAME`.
//! - `:list` is missing where no message has keywords. Messages without keywords are not listed.
//! - A keyword is any line. Courier turns the bytes that IMAP forbids in a keyword into `_`.
//! - Courier skips a line that it cannot use and a number outside the list. We refuse the file.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{self, Lines};
use super::{Fault, Malformed};

/// Name of the gathered list within `courierimapkeywords/`.
pub const LIST: &[u8] = b":list";

/// The keywords of one message.
pub type KeywordSet = BTreeSet<Vec<u8>>;

/// A parsed `:list`: for each message that has any, its keywords, by file name up to the first colon.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeywordList {
    /// Keywords by message; no set is empty.
    pub messages: BTreeMap<Vec<u8>, KeywordSet>,
}

impl KeywordList {
    /// Reads a whole file. Keywords that no message has are forgotten, as Courier forgets them.
    ///
    /// # Errors
    /// Where a line is not as specified.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let mut lines = Lines::new(file);
        let mut names: Vec<&[u8]> = Vec::new();
        while let Some(line) = lines.next() {
            let (at, line) = line?;
            if line.is_empty() {
                break;
            }
            if !scan::is_line(line) {
                return Err(Fault::Name.at(at));
            }
            names.push(line);
        }
        let mut messages = BTreeMap::new();
        while let Some(line) = lines.next() {
            let (at, line) = line?;
            let (name, numbers) = scan::split_once(line, b':');
            let numbers = numbers.ok_or_else(|| Fault::NameMissing.at(at))?;
            if !scan::is_file_name(name) {
                return Err(Fault::Name.at(at));
            }
            let set = numbers
                .split(|&byte| byte == b' ')
                .filter(|digits| !digits.is_empty())
                .map(|digits| {
                    scan::number(digits)
                        .and_then(|number| names.get(number as usize))
                        .map(|name| name.to_vec())
                        .ok_or_else(|| Fault::KeywordNumber.at(at))
                })
                .collect::<Result<KeywordSet, _>>()?;
            // A later line replaces an earlier one, also by nothing.
            if set.is_empty() {
                messages.remove(name);
            } else {
                messages.insert(name.to_vec(), set);
            }
        }
        Ok(Self { messages })
    }

    /// The file; empty where no message has keywords, and Courier would have no file then. What no reader would take is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let writable = |name: &&Vec<u8>| scan::is_line(name);
        let listed = || {
            self.messages
                .iter()
                .filter(|(name, _)| scan::is_file_name(name) && !name.contains(&b':'))
        };
        let numbers: BTreeMap<&Vec<u8>, usize> = listed()
            .flat_map(|(_, set)| set.iter().filter(writable))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .enumerate()
            .map(|(number, name)| (name, number))
            .collect();
        let mut file = Vec::new();
        if numbers.is_empty() {
            return file;
        }
        for name in numbers.keys() {
            file.extend_from_slice(name);
            file.push(b'\n');
        }
        file.push(b'\n');
        for (name, set) in listed() {
            let words: Vec<String> = set
                .iter()
                .filter_map(|keyword| numbers.get(keyword))
                .map(usize::to_string)
                .collect();
            if !words.is_empty() {
                file.extend_from_slice(name);
                file.push(b':');
                file.extend_from_slice(words.join(" ").as_bytes());
                file.push(b'\n');
            }
        }
        file
    }
}

/// Reads the update file of one message: its keywords. What follows an empty line is not read.
///
/// # Errors
/// Where a name holds CR or NUL, or the last line does not end.
pub fn parse_update(file: &[u8]) -> Result<KeywordSet, Malformed> {
    let mut lines = Lines::new(file);
    let mut set = KeywordSet::new();
    while let Some(line) = lines.next() {
        let (at, line) = line?;
        if line.is_empty() {
            break;
        }
        if !scan::is_line(line) {
            return Err(Fault::Name.at(at));
        }
        set.insert(line.to_vec());
    }
    Ok(set)
}

/// The update file of one message.
#[must_use]
pub fn encode_update(set: &KeywordSet) -> Vec<u8> {
    let mut file = Vec::new();
    for keyword in set.iter().filter(|keyword| scan::is_line(keyword)) {
        file.extend_from_slice(keyword);
        file.push(b'\n');
    }
    file
}

/// What a file name within `courierimapkeywords/` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileName<'a> {
    /// The gathered list.
    List,
    /// The newest keywords of a message: its file name up to the last colon.
    Update(&'a [u8]),
    /// Keywords of a message that have been gathered.
    Gathered {
        /// The five-minute span in which they were.
        span: u64,
        /// The message's file name up to the last colon.
        message: &'a [u8],
    },
    /// Scratch, or nothing that Courier reads.
    Other,
}

/// Reads a file name within `courierimapkeywords/`.
#[must_use]
pub fn file_name(name: &[u8]) -> FileName<'_> {
    match name.first() {
        None => FileName::Other,
        Some(b':') if name == LIST => FileName::List,
        Some(b':') => FileName::Other,
        Some(b'.') => {
            let (digits, message) = scan::split_once(&name[1..], b'.');
            let span = std::str::from_utf8(digits)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|&span| span != 0);
            match (span, message) {
                (Some(span), Some(message)) if !message.is_empty() => {
                    FileName::Gathered { span, message }
                }
                _ => FileName::Other,
            }
        }
        Some(_) => FileName::Update(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&[u8]]) -> KeywordSet {
        names.iter().map(|name| name.to_vec()).collect()
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        let file = b"$Forwarded\nImportant\n\n1.a:0 1\n2.b,S=3:1\n";
        let list = KeywordList::parse(file).unwrap();
        assert_eq!(
            list.messages[&b"1.a"[..]],
            set(&[b"$Forwarded", b"Important"])
        );
        assert_eq!(list.messages[&b"2.b,S=3"[..]], set(&[b"Important"]));
        assert_eq!(list.encode(), file);
        assert_eq!(KeywordList::parse(b""), Ok(KeywordList::default()));
        assert_eq!(KeywordList::default().encode(), b"");
    }

    #[test]
    fn keywords_that_no_message_has_are_forgotten() {
        let list = KeywordList::parse(b"b\na\nunused\n\nx:0\nx:1 1\ny:\n").unwrap();
        assert_eq!(list.encode(), b"a\n\nx:0\n");
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (file, line, what) in [
            (&b"a\n\nx\n"[..], 3, Fault::NameMissing),
            (b"a\n\n:0\n", 3, Fault::Name),
            (b"a\n\nx/y:0\n", 3, Fault::Name),
            (b"a\n\nx:1\n", 3, Fault::KeywordNumber),
            (b"a\n\nx:b\n", 3, Fault::KeywordNumber),
            (b"a\r\n\nx:0\n", 1, Fault::Name),
            (b"a\n\nx:0", 3, Fault::Truncated),
        ] {
            assert_eq!(
                KeywordList::parse(file),
                Err(what.at(line)),
                "{:?}",
                String::from_utf8_lossy(file)
            );
        }
        assert_eq!(parse_update(b"a\nb"), Err(Fault::Truncated.at(2)));
    }

    #[test]
    fn updates_and_their_names() {
        assert_eq!(
            parse_update(b"b\na\n").map(|set| encode_update(&set)),
            Ok(b"a\nb\n".to_vec())
        );
        assert_eq!(parse_update(b""), Ok(KeywordSet::new()));
        assert_eq!(file_name(b":list"), FileName::List);
        assert_eq!(file_name(b"1.a,S=2"), FileName::Update(b"1.a,S=2"));
        assert_eq!(
            file_name(b".5984886.1.a"),
            FileName::Gathered {
                span: 5_984_886,
                message: b"1.a"
            }
        );
        for name in [
            &b""[..],
            b":x",
            b".tmp.179.x",
            b".0.x",
            b".7.",
            b".7",
            b".99999999999999999999.x",
            b"..x",
        ] {
            assert_eq!(file_name(name), FileName::Other);
        }
    }
}
