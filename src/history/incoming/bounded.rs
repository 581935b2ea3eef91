//! A peer may not fill the disk: what the mount has acknowledged needs room for its commit.

use std::io::{self, BufRead, Read};

use crate::limits;

/// How many bytes are taken between two looks at the disk.
const LOOK_EVERY: u64 = 1024 * 1024;

/// A stream that fails as a full disk does once less than [`limits::INCOMING_ROOM_KEPT`] is left.
pub(super) struct Bounded<'a, Room> {
    stream: &'a mut dyn BufRead,
    room: Room,
    /// Bytes that may be taken before the next look.
    before_look: u64,
}

impl<'a, Room: FnMut() -> io::Result<u64>> Bounded<'a, Room> {
    /// `room` says how many bytes are left where the stream is written to.
    pub(super) fn new(stream: &'a mut dyn BufRead, room: Room) -> Self {
        Self {
            stream,
            room,
            before_look: 0,
        }
    }

    fn look(&mut self) -> io::Result<()> {
        if self.before_look == 0 {
            if (self.room)()? < limits::INCOMING_ROOM_KEPT + LOOK_EVERY {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.before_look = LOOK_EVERY;
        }
        Ok(())
    }
}

impl<Room: FnMut() -> io::Result<u64>> Read for Bounded<'_, Room> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<Room: FnMut() -> io::Result<u64>> BufRead for Bounded<'_, Room> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.look()?;
        let found = self.stream.fill_buf()?;
        let most = usize::try_from(self.before_look).unwrap_or(usize::MAX);
        Ok(&found[..found.len().min(most)])
    }

    fn consume(&mut self, count: usize) {
        self.before_look = self.before_look.saturating_sub(count as u64);
        self.stream.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_before_the_disk_is_full() {
        let sent = vec![7; 10 * LOOK_EVERY as usize];
        for (fits, most) in [(20, 10), (10, 10), (4, 4), (0, 0)] {
            let mut left = limits::INCOMING_ROOM_KEPT + fits * LOOK_EVERY;
            let mut stream = sent.as_slice();
            let mut bounded = Bounded::new(&mut stream, || {
                let now = left;
                left = left.saturating_sub(LOOK_EVERY);
                Ok(now)
            });
            let mut taken = Vec::new();
            let done = bounded.read_to_end(&mut taken);
            assert_eq!(taken.len() as u64, most * LOOK_EVERY, "{fits}");
            match done {
                Ok(_) => assert!(fits > 10),
                Err(full) => assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{fits}"),
            }
        }
    }
}
