//! `courierimapsubscribed` (Courier `imap/imapd.c` and `imap/mailboxlist.c`, 5.0.13).
//!
//! A mailbox name a line, as IMAP names it: `INBOX`, `INBOX.lists.git`, `#shared.…`; levels are joined by dots. Written whole, to a file in
//! `tmp/` that is renamed over the old one, new names last. Courier compares names byte by byte, but the case of a leading `INBOX` says nothing.
//! The order says nothing, nor do empty lines or repeats; the last line needs no line feed.

use std::collections::HashSet;

use super::scan;
use super::{Fault, Malformed};

/// A parsed `courierimapsubscribed`: mailbox names in the order of the file, each once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subscribed {
    /// The names.
    pub names: Vec<Vec<u8>>,
}

impl Subscribed {
    /// Reads a whole file.
    ///
    /// # Errors
    /// Where a name holds CR or NUL.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        for (at, line) in file.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            if !scan::is_line(line) {
                return Err(Fault::Name.at(at + 1));
            }
            if seen.insert(line) {
                names.push(line.to_vec());
            }
        }
        Ok(Self { names })
    }

    /// The file. Names that no reader would take are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for name in self.names.iter().filter(|name| scan::is_line(name)) {
            file.extend_from_slice(name);
            file.push(b'\n');
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_courier_writes_comes_back_as_it_was() {
        let file = b"INBOX\nINBOX.lists.git\n#shared.x\n";
        let parsed = Subscribed::parse(file).unwrap();
        assert_eq!(parsed.names.len(), 3);
        assert_eq!(parsed.encode(), file);
        assert_eq!(Subscribed::parse(b"a\n\na\nb").unwrap().encode(), b"a\nb\n");
        assert_eq!(Subscribed::parse(b"a\nb\r\n"), Err(Fault::Name.at(2)));
    }
}
