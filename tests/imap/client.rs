//! An IMAP client (RFC 3501, RFC 9051) that sends one tagged command at a time and collects what the server says. It parses no more
//! than the framing: lines and literals.
//!
//! Uses the standard library alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

/// A server that says nothing for this long fails the test.
const SILENCE: Duration = Duration::from_secs(60);

/// A connected stream with time-outs.
#[derive(Debug)]
pub enum Stream {
    /// To a server that listens on a port.
    Tcp(TcpStream),
    /// To a server that listens on a socket file, or is our child and has the other end as its standard input and output.
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    /// `None` waits for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}

/// What a server said to one command.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The untagged responses, each without its last line end, literals included as they came (`{3}\r\nabc`).
    pub untagged: Vec<String>,
    /// The tagged response without its tag: `OK …`, `NO …`, `BAD …`.
    pub tagged: String,
}

impl Reply {
    /// Whether the command succeeded.
    pub fn is_ok(&self) -> bool {
        self.tagged.starts_with("OK")
    }

    /// Panics unless the command succeeded.
    #[track_caller]
    pub fn expect_ok(self, command: &str) -> Self {
        assert!(self.is_ok(), "{command}: {}", self.tagged);
        self
    }

    /// The numbers of `* SEARCH` and `* SORT`.
    pub fn numbers(&self) -> Vec<u32> {
        self.untagged
            .iter()
            .filter_map(|line| {
                line.strip_prefix("* SEARCH")
                    .or_else(|| line.strip_prefix("* SORT"))
            })
            .flat_map(|rest| rest.split_whitespace().map(str::to_owned))
            .filter_map(|word| word.parse().ok())
            .collect()
    }

    /// The number before `what`: `count("EXISTS")` is 4 where the server said `* 4 EXISTS`. The last one counts.
    pub fn count(&self, what: &str) -> Option<u32> {
        self.untagged.iter().rev().find_map(|line| {
            let (number, rest) = line.strip_prefix("* ")?.split_once(' ')?;
            (rest == what).then(|| number.parse().ok())?
        })
    }

    /// The number of a response code or status item: `code("UIDNEXT")` is 7 for `* OK [UIDNEXT 7] …` and for `* STATUS x (UIDNEXT 7)`.
    pub fn code(&self, what: &str) -> Option<u64> {
        self.untagged
            .iter()
            .chain([&self.tagged])
            .find_map(|line| number_after(line, what))
    }
}

/// The number that follows the word `what` in a line.
pub fn number_after(line: &str, what: &str) -> Option<u64> {
    let mut rest = line;
    while let Some(at) = rest.find(what) {
        let before = rest[..at].chars().next_back();
        rest = &rest[at + what.len()..];
        if before.is_some_and(|c| c.is_ascii_alphanumeric()) {
            continue;
        }
        let digits: String = rest
            .strip_prefix(' ')
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        if let Ok(number) = digits.parse() {
            return Some(number);
        }
    }
    None
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<Stream>,
    writer: Stream,
    tags: u32,
    child: Option<Child>,
    /// What the server said first.
    pub greeting: String,
}

impl Client {
    /// Reads the greeting. `child` is the server's process where it serves this connection alone; it is reaped with the client.
    #[track_caller]
    pub fn new(stream: Stream, child: Option<Child>) -> Self {
        stream
            .set_read_timeout(Some(SILENCE))
            .expect("set a time-out");
        let writer = stream.try_clone().expect("duplicate a socket");
        let mut client = Self {
            reader: BufReader::new(stream),
            writer,
            tags: 0,
            child,
            greeting: String::new(),
        };
        client.greeting = client.response().expect("a greeting");
        client
    }

    /// Connects to an address and waits for the greeting.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(address: std::net::SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self::new(Stream::Tcp(stream), None))
    }

    /// Runs a command and returns all that was said up to its tagged response.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Reply {
        let tag = self.send(command);
        self.finish(&tag)
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, command: &str) -> Reply {
        self.run(command).expect_ok(command)
    }

    /// `APPEND folder (flags) "date" {n}`. A server that refuses before the literal gives its refusal.
    #[track_caller]
    pub fn append(
        &mut self,
        folder: &str,
        flags: &str,
        date: Option<&str>,
        message: &[u8],
    ) -> Reply {
        let date = date.map_or(String::new(), |date| format!("\"{date}\" "));
        let tag = self.send(&format!(
            "APPEND {folder} ({flags}) {date}{{{}}}",
            message.len()
        ));
        let mut untagged = Vec::new();
        loop {
            let line = self.response().expect("a continuation");
            if line.starts_with('+') {
                break;
            }
            if let Some(tagged) = line.strip_prefix(&format!("{tag} ")) {
                let tagged = tagged.to_owned();
                return Reply { untagged, tagged };
            }
            untagged.push(line);
        }
        self.write(message);
        self.write(b"\r\n");
        let mut reply = self.finish(&tag);
        untagged.append(&mut reply.untagged);
        Reply { untagged, ..reply }
    }

    /// Starts `IDLE` (RFC 2177) and waits for the continuation.
    #[track_caller]
    pub fn idle(&mut self) -> Idle<'_> {
        let tag = self.send("IDLE");
        let mut untagged = Vec::new();
        loop {
            let line = self.response().expect("a continuation");
            if line.starts_with('+') {
                break;
            }
            assert!(!line.starts_with(&tag), "IDLE: {line}");
            untagged.push(line);
        }
        Idle {
            client: self,
            tag,
            untagged,
        }
    }

    /// Sends a command without waiting, and gives its tag.
    #[track_caller]
    pub fn send(&mut self, command: &str) -> String {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.write(format!("{tag} {command}\r\n").as_bytes());
        tag
    }

    /// Collects all responses up to the tagged one.
    #[track_caller]
    pub fn finish(&mut self, tag: &str) -> Reply {
        self.collect(tag).unwrap_or_else(|(error, before)| {
            panic!("no reply to {tag}: {error}; before: {before:?}")
        })
    }

    /// Runs a command; `None` where the server says that the folder is gone, and hangs up.
    #[track_caller]
    pub fn run_unless_deleted(&mut self, command: &str) -> Option<Reply> {
        let tag = self.send(command);
        match self.collect(&tag) {
            Ok(reply) => Some(reply),
            Err((_, before))
                if before.iter().any(|line| {
                    line.starts_with("* BYE") && line.contains("Mailbox was deleted under us")
                }) =>
            {
                None
            }
            Err((error, before)) => panic!("no reply to {command}: {error}; before: {before:?}"),
        }
    }

    fn collect(&mut self, tag: &str) -> Result<Reply, (std::io::Error, Vec<String>)> {
        let mut untagged = Vec::new();
        let prefix = format!("{tag} ");
        loop {
            let line = match self.response() {
                Ok(line) => line,
                Err(error) => return Err((error, untagged)),
            };
            if let Some(tagged) = line.strip_prefix(&prefix) {
                let tagged = tagged.to_owned();
                return Ok(Reply { untagged, tagged });
            }
            untagged.push(line);
        }
    }

    #[track_caller]
    fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).expect("write to the server");
        self.writer.flush().expect("write to the server");
    }

    /// One response: a line, and after each literal the line that goes on.
    fn response(&mut self) -> std::io::Result<String> {
        let mut whole = Vec::new();
        loop {
            let start = whole.len();
            self.reader.read_until(b'\n', &mut whole)?;
            if whole.last() != Some(&b'\n') {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("closed after {:?}", String::from_utf8_lossy(&whole)),
                ));
            }
            let Some(length) = literal(&whole[start..]) else {
                break;
            };
            let at = whole.len();
            whole.resize(at + length, 0);
            self.reader.read_exact(&mut whole[at..])?;
        }
        while matches!(whole.last(), Some(b'\r' | b'\n')) {
            whole.pop();
        }
        Ok(String::from_utf8_lossy(&whole).into_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        match &self.writer {
            Stream::Tcp(stream) => drop(stream.shutdown(std::net::Shutdown::Both)),
            Stream::Unix(stream) => drop(stream.shutdown(std::net::Shutdown::Both)),
        }
        // The end of its input ends the server; one that hangs is killed.
        let patience = Instant::now() + Duration::from_secs(5);
        while Instant::now() < patience {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(child.kill());
        drop(child.wait());
    }
}

/// The length of the literal that a line announces: `… {12}\r\n`.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_suffix(b"}")?;
    let at = line.iter().rposition(|&byte| byte == b'{')?;
    std::str::from_utf8(&line[at + 1..]).ok()?.parse().ok()
}

/// A connection in `IDLE`.
#[derive(Debug)]
pub struct Idle<'a> {
    client: &'a mut Client,
    tag: String,
    untagged: Vec<String>,
}

impl Idle<'_> {
    /// Waits until a response satisfies `wanted`, at most `patience`; whether it came.
    pub fn wait(&mut self, patience: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        if self.untagged.iter().any(|line| wanted(line)) {
            return true;
        }
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let stream = self.client.reader.get_ref();
            stream.set_read_timeout(Some(left)).expect("set a time-out");
            // Only whole responses are taken: a time-out in the middle of one would lose its beginning.
            let seen = self.client.reader.fill_buf().is_ok();
            self.client
                .reader
                .get_ref()
                .set_read_timeout(Some(SILENCE))
                .expect("set a time-out");
            if !seen {
                return false;
            }
            let line = self.client.response().expect("a response in IDLE");
            let found = wanted(&line);
            self.untagged.push(line);
            if found {
                return true;
            }
        }
    }

    /// Ends `IDLE` and returns all that was said in it.
    #[track_caller]
    pub fn done(mut self) -> Reply {
        self.client.write(b"DONE\r\n");
        let mut reply = self.client.finish(&self.tag);
        self.untagged.append(&mut reply.untagged);
        Reply {
            untagged: self.untagged,
            ..reply
        }
    }
}

#[test]
fn literals_and_codes_are_found() {
    assert_eq!(literal(b"* 1 FETCH (BODY[] {12}\r\n"), Some(12));
    assert_eq!(literal(b"* OK {x}\r\n"), None);
    assert_eq!(literal(b"* OK\r\n"), None);
    assert_eq!(number_after("* OK [UIDNEXT 7] next", "UIDNEXT"), Some(7));
    assert_eq!(
        number_after("* STATUS a (XUIDNEXT 1 UIDNEXT 9)", "UIDNEXT"),
        Some(9)
    );
    assert_eq!(number_after("* OK no", "UIDNEXT"), None);
}
