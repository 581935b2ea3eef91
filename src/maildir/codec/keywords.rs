//! `dovecot-keywords` (Dovecot `src/lib-storage/index/maildir/maildir-keywords.c`, 2.3.19).
//!
//! ```text
//! 0 $Forwarded        number, name; the letter in file names is 'a' + number
//! 1 Important
//! ```
//!
//! - Numbers 0 to 25, a letter each; numbers may be missing. Names are IMAP keywords (RFC 9051 flag-keyword), but Dovecot takes any line.
//!   No name twice, case ignored (ASCII), as IMAP compares keywords.
//! - Written whole through `dovecot-keywords.lock` + rename. Dovecot reads it again only where its mtime *in whole seconds* differs.
//! - Dovecot skips lines that it cannot use. We refuse the file.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{self, Lines};
use super::{Fault, Malformed};

/// Keywords a folder can have: the letters `a` to `z`.
pub const KEYWORDS_MAX: usize = 26;

/// A parsed `dovecot-keywords`: names by letter, `0` = `a` … `25` = `z`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keywords {
    /// Names by number.
    pub names: BTreeMap<u8, Vec<u8>>,
}

impl Keywords {
    /// Reads a whole file. An empty one has no keywords.
    ///
    /// # Errors
    /// Where a line is not as specified.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let mut names = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut lines = Lines::new(file);
        while let Some(line) = lines.next() {
            let (at, line) = line?;
            let (digits, name) = scan::split_once(line, b' ');
            let number = scan::number(digits)
                .and_then(|number| u8::try_from(number).ok())
                .filter(|&number| usize::from(number) < KEYWORDS_MAX)
                .ok_or_else(|| Fault::KeywordNumber.at(at))?;
            let name = name
                .filter(|name| !name.is_empty())
                .ok_or_else(|| Fault::NameMissing.at(at))?;
            if !scan::is_line(name) {
                return Err(Fault::Name.at(at));
            }
            if names.insert(number, name.to_vec()).is_some()
                || !seen.insert(name.to_ascii_lowercase())
            {
                return Err(Fault::KeywordTwice.at(at));
            }
        }
        Ok(Self { names })
    }

    /// The file. What no reader would take is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut seen = BTreeSet::new();
        for (&number, name) in &self.names {
            if usize::from(number) < KEYWORDS_MAX
                && scan::is_line(name)
                && seen.insert(name.to_ascii_lowercase())
            {
                file.extend_from_slice(format!("{number} ").as_bytes());
                file.extend_from_slice(name);
                file.push(b'\n');
            }
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dovecot_writes_comes_back_as_it_was() {
        let file = b"0 $Forwarded\n1 Important\n25 a/b c\n";
        let keywords = Keywords::parse(file).unwrap();
        assert_eq!(keywords.names[&25], b"a/b c");
        assert_eq!(keywords.encode(), file);
        assert_eq!(Keywords::parse(b""), Ok(Keywords::default()));
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (file, line, what) in [
            (&b"0 a\n26 z\n"[..], 2, Fault::KeywordNumber),
            (b"256 a\n", 1, Fault::KeywordNumber),
            (b"x a\n", 1, Fault::KeywordNumber),
            (b"\n", 1, Fault::KeywordNumber),
            (b"0\n", 1, Fault::NameMissing),
            (b"0 \n", 1, Fault::NameMissing),
            (b"0 a\r\n", 1, Fault::Name),
            (b"0 a\n0 b\n", 2, Fault::KeywordTwice),
            (b"0 a\n1 A\n", 2, Fault::KeywordTwice),
            (b"0 a\n1 b", 2, Fault::Truncated),
        ] {
            assert_eq!(
                Keywords::parse(file),
                Err(what.at(line)),
                "{:?}",
                String::from_utf8_lossy(file)
            );
        }
    }

    #[test]
    fn what_cannot_be_written_is_left_out() {
        let names = [
            (0, &b"a"[..]),
            (1, b"A"),
            (2, b""),
            (3, b"x\ny"),
            (26, b"z"),
        ];
        let keywords = Keywords {
            names: names.map(|(number, name)| (number, name.to_vec())).into(),
        };
        assert_eq!(keywords.encode(), b"0 a\n");
    }
}
