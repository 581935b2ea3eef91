//! The scripted session: written once, run by each server over each filesystem. Two connections, so that each sees what the other does.

use std::time::Duration;

use super::client::{Client, Reply};
use super::server::Server;
use super::transcript::Transcript;

/// A message in RFC 5322 form with CR LF line ends.
pub fn message(subject: &str, from: &str, date: &str, body: &str) -> Vec<u8> {
    format!(
        "From: {from}\r\nTo: u@example.org\r\nSubject: {subject}\r\nDate: {date}\r\n\
         Message-ID: <{}@example.org>\r\n\r\n{body}\r\n",
        subject.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    )
    .into_bytes()
}

/// A multipart message with an attachment of `lines` lines.
fn attachment(lines: usize) -> Vec<u8> {
    let mut text = String::from(
        "From: Carol <carol@example.org>\r\nTo: u@example.org\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\
         Date: Sat, 03 Feb 2024 12:00:00 +0100\r\nMessage-ID: <big@example.org>\r\nMIME-Version: 1.0\r\n\
         In-Reply-To: <first@example.org>\r\nReferences: <first@example.org>\r\n\
         Content-Type: multipart/mixed; boundary=\"cut\"\r\n\r\n--cut\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         .a line that begins with a dot\r\nGr\u{fc}\u{df}e\r\n--cut\r\n\
         Content-Type: application/octet-stream; name=\"a.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    );
    for line in 0..lines {
        text.push_str(&format!("{line:08}").repeat(9));
        text.push_str("\r\n");
    }
    text.push_str("--cut--\r\n");
    text.into_bytes()
}

/// What the script has found beside the transcript.
#[derive(Debug)]
pub struct Outcome {
    /// All that was said.
    pub transcript: Transcript,
    /// Whether a delivery woke the client in IDLE.
    pub woken: bool,
}

struct Session<'a> {
    server: &'a dyn Server,
    clients: [Client; 2],
    transcript: Transcript,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.transcript.text();
            let from = text.lines().count().saturating_sub(60);
            let end: Vec<&str> = text.lines().skip(from).collect();
            eprintln!("the session ended so:\n{}", end.join("\n"));
        }
    }
}

/// The first connection.
const A: usize = 0;
/// The second.
const B: usize = 1;

impl Session<'_> {
    fn run(&mut self, who: usize, command: &str) {
        if self
            .server
            .dies_of()
            .iter()
            .any(|word| command.contains(word))
        {
            self.transcript.note(&format!("left out: {command}"));
            return;
        }
        if command.starts_with("SELECT") {
            self.server.settle();
        }
        let reply = self.clients[who].run(command);
        self.record(who, command, reply);
    }

    fn record(&mut self, who: usize, command: &str, mut reply: Reply) {
        reply
            .untagged
            .retain(|line| !self.server.is_chance(command, line));
        self.transcript.record(['a', 'b'][who], command, &reply);
    }

    fn all(&mut self, who: usize, commands: &[&str]) {
        for command in commands {
            self.run(who, command);
        }
    }

    fn append(&mut self, folder: &str, flags: &str, date: Option<&str>, message: &[u8]) {
        let reply = self.clients[A].append(folder, flags, date, message);
        let command = format!("APPEND {folder} ({flags}) {date:?}");
        self.record(A, &command, reply);
    }

    fn deliver(&mut self, message: &[u8]) {
        self.server.settle();
        self.server.deliver(message);
        self.transcript.note("a mail is delivered");
    }

    fn idle(&mut self, patience: Duration, message: &[u8]) -> bool {
        let mut idle = self.clients[A].idle();
        self.server.deliver(message);
        let woken = idle.wait(patience, |line| line.ends_with(" EXISTS"));
        let reply = idle.done();
        self.record(A, "IDLE, and a mail is delivered", reply);
        woken
    }
}

/// Runs the script. `patience` is how long IDLE may take to report a delivery.
pub fn run(server: &dyn Server, patience: Duration) -> Outcome {
    let mut s = Session {
        server,
        clients: [server.connect(), server.connect()],
        transcript: Transcript::default(),
    };
    let work = &server.folder(&["Work"]);
    let sub = &server.folder(&["Work", "Sub"]);
    let deep = &server.folder(&["Work", "Sub", "Deep"]);
    let other = &server.folder(&["Other"]);
    let projects = &server.folder(&["Projects"]);
    let nowhere = &server.folder(&["Nowhere"]);

    // Folders.
    s.all(A, &["CAPABILITY", "NAMESPACE", "LIST \"\" \"\"", "NOOP"]);
    for folder in [work, sub, deep, other, work] {
        s.run(A, &format!("CREATE {folder}"));
    }
    for folder in [work, sub, other] {
        s.run(A, &format!("SUBSCRIBE {folder}"));
    }
    s.run(A, &format!("UNSUBSCRIBE {other}"));
    s.all(A, &["LSUB \"\" *", "LIST \"\" *", "LIST \"\" %"]);

    // Mail arrives, with and without a date.
    s.run(A, "SELECT INBOX");
    let first = message(
        "first",
        "Alice <alice@example.org>",
        "Wed, 01 Jan 2020 10:00:00 +0000",
        "Hello.",
    );
    let second = message(
        "second",
        "Bob <bob@example.org>",
        "Thu, 02 Jan 2020 10:00:00 +0000",
        "World.",
    );
    let third = message(
        "Re: first",
        "Bob <bob@example.org>",
        "Fri, 03 Jan 2020 10:00:00 +0000",
        "Hello again.",
    );
    s.append(
        "INBOX",
        "\\Seen",
        Some("01-Feb-2020 10:00:00 +0000"),
        &first,
    );
    s.append("INBOX", "", Some("02-Feb-2020 23:59:59 -0800"), &second);
    s.append("INBOX", "\\Flagged \\Draft", None, &third);
    s.append(
        "INBOX",
        "\\Answered $Label1",
        Some(" 5-Mar-2021 01:02:03 +0530"),
        &attachment(2000),
    );
    s.append("INBOX", "", Some("04-Feb-2020 10:00:00 +0000"), &first);
    s.append(nowhere, "", None, &first);
    s.deliver(&message(
        "delivered",
        "Dan <dan@example.org>",
        "Sat, 04 Jan 2020 10:00:00 +0000",
        "By LMTP or by hand.",
    ));
    s.all(
        A,
        &[
            "NOOP",
            // Mailutils sees new mail at SELECT alone.
            "SELECT INBOX",
            "FETCH 1:* (UID FLAGS INTERNALDATE)",
            "FETCH 1:5 RFC822.SIZE",
            "FETCH 1,4 ENVELOPE",
            "FETCH 4 BODYSTRUCTURE",
            "FETCH 1 BODY.PEEK[]",
            "FETCH 2 BODY[HEADER.FIELDS (SUBJECT FROM)]",
            "FETCH 4 BODY.PEEK[1]",
            "FETCH 4 BODY.PEEK[2]<100.50>",
            "FETCH 6 BODY[]",
            "FETCH 3 RFC822.HEADER",
            "FETCH 9 FLAGS",
        ],
    );

    // Flags and keywords.
    s.all(
        A,
        &[
            "STORE 2 +FLAGS (\\Answered)",
            "STORE 1 -FLAGS (\\Seen)",
            "STORE 3 FLAGS (\\Seen)",
            "STORE 1:2 +FLAGS.SILENT ($Label1 Junk)",
            "STORE 2 -FLAGS (Junk)",
            "UID STORE 4 +FLAGS (\\Flagged Work)",
            "FETCH 1:* FLAGS",
            "STORE 99 +FLAGS (\\Seen)",
        ],
    );
    s.run(B, "SELECT INBOX");
    s.all(
        B,
        &[
            "FETCH 1:* (UID FLAGS)",
            "STORE 5 +FLAGS (\\Flagged)",
            "NOOP",
        ],
    );
    s.all(
        A,
        &["NOOP", "FETCH 5 FLAGS", "SELECT INBOX", "FETCH 5 FLAGS"],
    );

    // Looking for mail.
    s.all(
        A,
        &[
            "SEARCH ALL",
            "SEARCH FLAGGED",
            "SEARCH KEYWORD $Label1",
            "SEARCH UNKEYWORD $Label1 SEEN",
            "SEARCH SUBJECT first",
            "SEARCH BODY again",
            "SEARCH BEFORE 3-Feb-2020",
            "SEARCH SENTSINCE 2-Jan-2020 NOT FROM bob",
            "SEARCH LARGER 10000",
            "SEARCH OR ANSWERED DRAFT",
            "UID SEARCH UID 2:4 UNDELETED",
            "SEARCH BOGUS",
            "SORT (REVERSE DATE) US-ASCII ALL",
            "SORT (SUBJECT) US-ASCII ALL",
            "UID THREAD REFERENCES US-ASCII ALL",
        ],
    );

    // Copies, moves, expunges.
    s.run(A, &format!("COPY 1:2,4 {work}"));
    s.run(A, &format!("UID COPY 3 {work}"));
    s.run(A, &format!("COPY 1 {nowhere}"));
    s.run(A, &format!("MOVE 5 {other}"));
    s.run(A, &format!("UID MOVE 2 {other}"));
    for folder in ["INBOX", work, other, nowhere] {
        s.run(
            A,
            &format!("STATUS {folder} (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)"),
        );
    }
    s.run(B, "NOOP");
    s.run(B, &format!("SELECT {work}"));
    s.all(
        B,
        &[
            "FETCH 1:* (UID FLAGS INTERNALDATE)",
            "FETCH 1 BODY.PEEK[HEADER]",
        ],
    );
    s.run(A, &format!("SELECT {work}"));
    s.all(
        A,
        &[
            "STORE 1,3 +FLAGS (\\Deleted)",
            "UID EXPUNGE 1",
            "FETCH 1:* (UID FLAGS)",
            "EXPUNGE",
            "SEARCH ALL",
        ],
    );
    s.all(
        B,
        &[
            "NOOP",
            "FETCH 1:* (UID FLAGS)",
            "STORE 1 +FLAGS (\\Deleted)",
            "CLOSE",
        ],
    );
    s.all(A, &["NOOP", "CHECK"]);
    s.run(A, &format!("EXAMINE {work}"));
    s.all(
        A,
        &[
            "FETCH 1:* (UID FLAGS)",
            "STORE 1 +FLAGS (\\Seen)",
            "UNSELECT",
            "EXPUNGE",
        ],
    );

    // Folders move, with what is below and in them. Courier refuses to rename the folder that is open.
    s.run(A, "EXAMINE INBOX");
    s.run(A, &format!("RENAME {work} {projects}"));
    s.run(A, &format!("RENAME {nowhere} {other}"));
    s.run(A, &format!("RENAME {projects} {other}"));
    s.all(A, &["LIST \"\" *", "LSUB \"\" *"]);
    s.run(A, &format!("SELECT {projects}"));
    s.run(A, "FETCH 1:* (UID FLAGS INTERNALDATE)");
    s.append(
        projects,
        "\\Seen",
        Some("06-Feb-2020 10:00:00 +0000"),
        &second,
    );
    s.run(A, "UID FETCH 1:* (UID FLAGS)");
    s.run(A, "CLOSE");
    for folder in [other, projects, nowhere, "INBOX"] {
        s.run(A, &format!("DELETE {folder}"));
    }
    s.all(A, &["LIST \"\" *", "LSUB \"\" *"]);

    // A delivery wakes IDLE.
    s.run(A, "SELECT INBOX");
    s.run(A, "FETCH 1:* (UID FLAGS)");
    let fresh = message(
        "fresh",
        "Eve <eve@example.org>",
        "Sun, 05 Jan 2020 10:00:00 +0000",
        "Wake up.",
    );
    let woken = s.idle(patience, &fresh);
    s.all(
        A,
        &[
            "NOOP",
            "UID FETCH 1:* (UID FLAGS INTERNALDATE)",
            "UID SEARCH SUBJECT fresh",
            "STORE 1:* +FLAGS (\\Deleted)",
            "EXPUNGE",
            "NOOP",
            "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)",
            "BOGUS",
        ],
    );
    s.run(B, "LOGOUT");
    s.run(A, "LOGOUT");
    let root = server.mail_root().display().to_string();
    for line in server.complaints() {
        s.transcript.note(&line.replace(&root, "<root>"));
    }
    Outcome {
        transcript: std::mem::take(&mut s.transcript),
        woken,
    }
}
