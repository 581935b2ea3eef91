//! LMTP (RFC 2033): how an MTA hands a mail to Dovecot.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One connection to an LMTP server on a socket file.
#[derive(Debug)]
pub struct Lmtp {
    reader: BufReader<UnixStream>,
}

impl Lmtp {
    /// Connects and says `LHLO`.
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket)
            .unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("set a time-out");
        let mut lmtp = Self {
            reader: BufReader::new(stream),
        };
        lmtp.expect("greeting", 220);
        lmtp.command("LHLO localhost", 250);
        lmtp
    }

    /// Delivers one message (lines end in CR LF or LF) to one recipient; panics unless it was accepted.
    #[track_caller]
    pub fn deliver(&mut self, recipient: &str, message: &[u8]) {
        let (code, text) = self.try_deliver(recipient, message);
        assert_eq!(code, 250, "LMTP delivery to {recipient}: {text}");
    }

    /// Delivers one message; the code and text of the last reply.
    #[track_caller]
    pub fn try_deliver(&mut self, recipient: &str, message: &[u8]) -> (u16, String) {
        self.command("MAIL FROM:<sender@example.org>", 250);
        let accepted = self.send(&format!("RCPT TO:<{recipient}>"));
        if accepted.0 != 250 {
            self.command("RSET", 250);
            return accepted;
        }
        self.command("DATA", 354);
        let mut data = Vec::with_capacity(message.len() + message.len() / 32);
        for line in message.split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.starts_with(b".") {
                data.push(b'.');
            }
            data.extend_from_slice(line);
            data.extend_from_slice(b"\r\n");
        }
        data.extend_from_slice(b".\r\n");
        self.reader
            .get_mut()
            .write_all(&data)
            .expect("write to the LMTP server");
        self.reply()
    }

    #[track_caller]
    fn command(&mut self, line: &str, code: u16) {
        let (got, text) = self.send(line);
        assert_eq!(got, code, "{line}: {text}");
    }

    #[track_caller]
    fn expect(&mut self, what: &str, code: u16) {
        let (got, text) = self.reply();
        assert_eq!(got, code, "{what}: {text}");
    }

    #[track_caller]
    fn send(&mut self, line: &str) -> (u16, String) {
        self.reader
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("write to the LMTP server");
        self.reply()
    }

    #[track_caller]
    fn reply(&mut self) -> (u16, String) {
        loop {
            let mut line = String::new();
            self.reader
                .read_line(&mut line)
                .expect("read from the LMTP server");
            let code = line
                .get(..3)
                .and_then(|code| code.parse().ok())
                .unwrap_or_else(|| panic!("not an LMTP reply: {line:?}"));
            if line.as_bytes().get(3) != Some(&b'-') {
                return (code, line.trim_end().to_owned());
            }
        }
    }
}
