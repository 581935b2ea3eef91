//! What the codecs share: numbers, and lines that know their number.

use super::{Fault, Malformed};

/// Greatest UID (RFC 9051 makes it a 32-bit number; Dovecot keeps 2³²−1 for "none").
pub const UID_MAX: u32 = u32::MAX - 1;

/// Bytes that would end a line or a C string early, wherever they stand.
pub fn breaks_line(byte: u8) -> bool {
    matches!(byte, 0 | b'\n' | b'\r')
}

/// Whether these bytes can be the name of a file in an index file.
pub fn is_file_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.iter().any(|&byte| byte == b'/' || breaks_line(byte))
}

/// Whether these bytes can be a line of their own: a keyword, a mailbox name.
pub fn is_line(line: &[u8]) -> bool {
    !line.is_empty() && !line.iter().any(|&byte| breaks_line(byte))
}

/// A decimal 32-bit number: digits and nothing else.
pub fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |sum, &digit| {
        let value = digit.checked_sub(b'0').filter(|&value| value <= 9)?;
        sum.checked_mul(10)?.checked_add(u32::from(value))
    })
}

/// A 32-bit number that is not zero.
pub fn nonzero(digits: &[u8]) -> Option<u32> {
    number(digits).filter(|&value| value != 0)
}

/// A UID: 1 to [`UID_MAX`].
pub fn uid(digits: &[u8]) -> Option<u32> {
    nonzero(digits).filter(|&value| value <= UID_MAX)
}

/// Splits at the first `separator`; the rest is empty where there is none.
pub fn split_once(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The lines of a file, each with its number, without their line feeds.
pub struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Lines<'a> {
    /// All lines of a file.
    pub const fn new(file: &'a [u8]) -> Self {
        Self::after(0, file)
    }

    /// The lines of a tail, `line` lines of the file having been read before.
    pub const fn after(line: usize, rest: &'a [u8]) -> Self {
        Self { rest, line }
    }

    /// The next line; `Err` where it does not end.
    pub fn next(&mut self) -> Option<Result<(usize, &'a [u8]), Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (line, rest) = split_once(self.rest, b'\n');
        match rest {
            Some(rest) => {
                self.rest = rest;
                Some(Ok((self.line, line)))
            }
            None => {
                self.rest = b"";
                Some(Err(Fault::Truncated.at(self.line)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_32_bits_and_nothing_beside_digits() {
        assert_eq!(number(b"0017"), Some(17));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [
            &b""[..],
            b"4294967296",
            b"99999999999999",
            b"-1",
            b"+1",
            b"1 ",
            b"0x1",
        ] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(uid(b"4294967294"), Some(UID_MAX));
        assert_eq!(uid(b"4294967295"), None);
        assert_eq!(uid(b"0"), None);
    }
}
