//! Where a daemon in the background logs: the system's log socket, one datagram a line (RFC 3164, as syslog(3) writes it).

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// `/dev/log`. Lines are dropped where nobody listens there.
pub struct SystemLog {
    socket: Option<UnixDatagram>,
}

impl SystemLog {
    /// Connects.
    #[must_use]
    pub fn open() -> Self {
        let socket = UnixDatagram::unbound()
            .ok()
            .filter(|socket| socket.connect("/dev/log").is_ok());
        Self { socket }
    }
}

impl Write for SystemLog {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Some(socket) = &self.socket {
            // Facility mail (2), severity notice (5); the level stands in the line.
            let mut line =
                format!("<{}>mailbraid[{}]: ", 2 * 8 + 5, std::process::id()).into_bytes();
            line.extend_from_slice(text.trim_ascii_end());
            let _ = socket.send(&line);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
