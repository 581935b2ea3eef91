//! Where a daemon in the background logs: the system's log socket, one datagram a line (RFC 3164, as syslog(3) writes it).

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// syslog's number for the mail system.
const FACILITY_MAIL: u32 = 2;

/// syslog's number for a level, which is also journald's.
#[must_use]
pub fn severity(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// `/dev/log`. Each write is a line that begins with the digit of its [`severity`]. Lines are dropped where nobody listens there.
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
            let (severity, text) = text.split_at_checked(1).unwrap_or((b"5", text));
            let severity = u32::from(severity[0].wrapping_sub(b'0').min(7));
            let mut line = format!(
                "<{}>mailbraid[{}]: ",
                FACILITY_MAIL * 8 + severity,
                std::process::id()
            )
            .into_bytes();
            line.extend_from_slice(text.trim_ascii_end());
            let _ = socket.send(&line);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
