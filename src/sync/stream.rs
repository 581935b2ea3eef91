//! The bytes to a peer and back, every read and write of which comes to an end.
//!
//! The problem: a peer that hangs (a stopped git, a dead disk, a link that drops packets) says nothing, and a thread that waits for its word waits for ever. The library's
//! own transports read from pipes, which know no time-out, and wait 5 ms more after each short read from ssh.
//!
//! Rules:
//! - A process gets one end of a socket pair as its standard input and output. So both kinds of peer, processes and TCP, are sockets with time-outs.
//! - It is a process group of its own: a shell between us and ssh goes with it, and a terminal's interrupt is ours alone. OpenSSH's shared connection has a session of its own
//!   and stays.
//! - What it says on its standard error is read when it has ended: it is the reason of a failure. Nobody reads it before; a peer that fills it is stuck, and is ended like any other.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::limits;

/// Bytes exchanged with a peer, ever.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the peer.
    pub received: AtomicU64,
    /// To the peer.
    pub sent: AtomicU64,
}

/// How a peer is reached.
#[derive(Debug)]
enum Socket {
    Process(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Process(socket) => Self::Process(socket.try_clone()?),
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
        })
    }

    fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        match self {
            Self::Process(socket) => {
                socket.set_read_timeout(Some(read))?;
                socket.set_write_timeout(Some(write))
            }
            Self::Tcp(socket) => {
                socket.set_read_timeout(Some(read))?;
                socket.set_write_timeout(Some(write))
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Process(socket) => socket.read(buffer),
            Self::Tcp(socket) => socket.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Process(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        }
    }
}

/// What a peer says. Its process, if it is one, ends on drop.
#[derive(Debug)]
pub struct Reader {
    socket: Socket,
    process: Option<Process>,
    patience: Patience,
    traffic: Arc<Traffic>,
}

/// What is said to it.
#[derive(Debug)]
pub struct Writer {
    socket: Socket,
    patience: Patience,
    traffic: Arc<Traffic>,
}

/// How long a silent peer is waited for.
#[derive(Clone, Debug)]
pub struct Patience {
    socket: Arc<Socket>,
    usual: Duration,
}

impl Patience {
    /// Waits longer for the next answers, or as usual again with zero.
    ///
    /// # Errors
    /// Where the socket takes no time-out.
    pub fn add(&self, more: Duration) -> io::Result<()> {
        self.socket.set_timeouts(self.usual + more, self.usual)
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    words: UnixStream,
}

/// Both directions of a connection.
pub type Ends = (Reader, Writer, Patience);

/// Starts a process and talks to it. `patience` bounds each read and write.
///
/// # Errors
/// Where it cannot be started.
pub fn process(
    mut command: Command,
    patience: Duration,
    traffic: &Arc<Traffic>,
) -> io::Result<Ends> {
    let (ours, theirs) = UnixStream::pair()?;
    let (words, saying) = UnixStream::pair()?;
    words.set_nonblocking(true)?;
    let child = command
        .stdin(OwnedFd::from(theirs.try_clone()?))
        .stdout(OwnedFd::from(theirs))
        .stderr(OwnedFd::from(saying))
        .process_group(0)
        .spawn()?;
    // It holds their ends: while they are open here nobody hears that the process is gone.
    drop(command);
    let process = Process { child, words };
    ends(Socket::Process(ours), Some(process), patience, traffic)
}

/// Connects to a port. `patience` bounds each read and write.
///
/// # Errors
/// Where none of the host's addresses answers.
pub fn tcp(host: &str, port: u16, patience: Duration, traffic: &Arc<Traffic>) -> io::Result<Ends> {
    let mut last = io::Error::other("the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limits::CONNECT_WAIT) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                // What is not acknowledged for so long is lost with the link.
                let lost = limits::KEEPALIVE.as_millis() as u32 * 3;
                rustix::net::sockopt::set_tcp_user_timeout(&socket, lost)?;
                return ends(Socket::Tcp(socket), None, patience, traffic);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ends(
    socket: Socket,
    process: Option<Process>,
    usual: Duration,
    traffic: &Arc<Traffic>,
) -> io::Result<Ends> {
    let patience = Patience {
        socket: Arc::new(socket.try_clone()?),
        usual,
    };
    patience.add(Duration::ZERO)?;
    let writer = Writer {
        socket: socket.try_clone()?,
        patience: patience.clone(),
        traffic: Arc::clone(traffic),
    };
    let reader = Reader {
        socket,
        process,
        patience: patience.clone(),
        traffic: Arc::clone(traffic),
    };
    Ok((reader, writer, patience))
}

/// A time-out by its name: the kernel calls it "would block".
fn in_time<T>(done: io::Result<T>, patience: &Patience, does: &'static str) -> io::Result<T> {
    done.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it hangs: it {does} for {:?}", patience.usual),
        ),
        _ => error,
    })
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.socket.read(buffer) {
            Ok(0) if !buffer.is_empty() => self.end().map_or(Ok(0), Err),
            // It ended without reading all that was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(self.end().unwrap_or(error))
            }
            done => {
                let count = in_time(done, &self.patience, "said nothing")?;
                self.traffic
                    .received
                    .fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.socket.write(bytes);
        let count = in_time(done, &self.patience, "took nothing")?;
        self.traffic.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    /// Why a process that says no more has failed, if it has.
    fn end(&mut self) -> Option<io::Error> {
        let process = self.process.as_mut()?;
        let status = process.ended(limits::LAST_WORDS)?;
        if status.success() {
            return None;
        }
        let words = process.last_words();
        let words = if words.is_empty() {
            format!("it ended with {status}")
        } else {
            words
        };
        // ssh(1), "EXIT STATUS": that of what it ran there, or this where it failed itself.
        let kind = match status.code() {
            Some(255) => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        Some(io::Error::new(kind, words))
    }
}

impl Process {
    fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(limits::HOLDER_POLL),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The last lines of its standard error, on one.
    fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        // It ends with "would block" where another process still has the other end.
        let _ = self.words.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Ends {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        process(command, Duration::from_millis(200), &Arc::default()).unwrap()
    }

    #[test]
    fn a_process_that_hangs_is_given_up_and_ended() {
        let (mut reader, _writer, _) = shell("echo yes; sleep 1000; echo never");
        let mut word = [0; 4];
        reader.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"yes\n");
        let error = reader.read(&mut word).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "it hangs: it said nothing for 200ms");
        let pid = reader.process.as_ref().unwrap().child.id();
        drop(reader);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_process_that_takes_nothing_is_given_up() {
        let (_reader, mut writer, _) = shell("sleep 1000");
        let error = std::iter::repeat_with(|| writer.write_all(&[0; 65536]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.to_string(), "it hangs: it took nothing for 200ms");
    }

    #[test]
    fn a_process_that_fails_says_why() {
        let (mut reader, _writer, _) = shell("echo fatal: no such store >&2; exit 3");
        let error = reader.read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.to_string(), "fatal: no such store");
        let (mut reader, _writer, _) = shell("exit 3");
        let error = reader.read(&mut [0; 4]).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert_ne!(error.kind(), io::ErrorKind::NotConnected);
        let (mut reader, _writer, _) = shell("echo no route >&2; exit 255");
        let error = reader.read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected, "as ssh has it");
        let (mut reader, _writer, _) = shell("echo only a warning >&2");
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn more_patience_is_had_where_it_is_asked_for() {
        let (mut reader, mut writer, patience) = shell("read line; sleep 0.5; echo \"$line\"");
        patience.add(Duration::from_secs(60)).unwrap();
        writer.write_all(b"late\n").unwrap();
        writer.flush().unwrap();
        let mut word = [0; 5];
        reader.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"late\n");
        assert_eq!(reader.traffic.received.load(Ordering::Relaxed), 5);
    }
}
