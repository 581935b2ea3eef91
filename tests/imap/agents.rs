//! Delivery agents and a synchronising client: maildrop, procmail, mbsync. All run as the mail user.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::tools::{self, MAIL_GID, MAIL_UID};

/// Delivers a mail with maildrop (`to "MAILDIR"`). The Maildir must exist.
#[track_caller]
pub fn maildrop(maildir: &Path, message: &[u8]) {
    let dir = tools::temporary();
    let filter = format!("to \"{}\"\n", maildir.display());
    let filter = private_file(dir.path(), "filter", &filter);
    let mut command = as_mail_user("maildrop", dir.path());
    command.arg(filter);
    feed(command, message);
}

/// Delivers a mail with procmail (`DEFAULT=MAILDIR/`).
#[track_caller]
pub fn procmail(maildir: &Path, message: &[u8]) {
    let dir = tools::temporary();
    let rules = format!("DEFAULT={}/\n", maildir.display());
    let rules = private_file(dir.path(), "procmailrc", &rules);
    let mut command = as_mail_user("procmail", dir.path());
    command.arg(rules);
    feed(command, message);
}

/// What one run of mbsync did, on both sides together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Synced {
    /// Messages copied to the far side (IMAP).
    pub pushed: u32,
    /// Messages copied to the near side (the local Maildir).
    pub fetched: u32,
    /// Messages whose flags were changed, on either side.
    pub flagged: u32,
    /// Messages moved to a trash folder, on either side; an expunge counts as the flag T in `flagged`.
    pub trashed: u32,
}

/// How mbsync reaches an account.
#[derive(Clone, Debug)]
pub enum Far {
    /// A server at an address, and its user; any password is right.
    Server(SocketAddr, String),
    /// A command that speaks IMAP, logged in already, on its standard input and output.
    Tunnel(PathBuf),
}

/// An mbsync client: an IMAP account on one side, a tree of Maildirs on the other, its state beside them.
#[derive(Debug)]
pub struct Mbsync {
    dir: tempfile::TempDir,
    local: PathBuf,
}

impl Mbsync {
    /// Sets up a client of `user` at `server`, with its Maildirs in `local` (created where missing; may be on a mount) and its
    /// state in a directory of its own.
    #[track_caller]
    pub fn new(server: SocketAddr, user: &str, local: &Path) -> Self {
        Self::with(&Far::Server(server, user.to_owned()), local)
    }

    /// The same, however the account is reached.
    #[track_caller]
    pub fn with(far: &Far, local: &Path) -> Self {
        let dir = tools::temporary();
        tools::mail_dir(&dir.path().join("state"));
        tools::mail_dir(local);
        let client = Self {
            dir,
            local: local.to_owned(),
        };
        client.reach(far);
        client
    }

    /// Lets the client find its account at another server: what it does when a user's node changes.
    #[track_caller]
    pub fn point_at(&self, server: SocketAddr, user: &str) {
        self.reach(&Far::Server(server, user.to_owned()));
    }

    /// The same, however the account is reached.
    #[track_caller]
    pub fn reach(&self, far: &Far) {
        let account = match far {
            Far::Server(address, user) => format!(
                "Host {}\nPort {}\nUser {user}\nPass secret\nAuthMechs LOGIN",
                address.ip(),
                address.port()
            ),
            Far::Tunnel(command) => format!("Tunnel {}", command.display()),
        };
        let config = format!(
            "IMAPAccount server
{account}
SSLType None

IMAPStore far
Account server

MaildirStore near
Path {local}/
Inbox {local}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
CopyArrivalDate yes
SyncState {state}/
",
            local = self.local.display(),
            state = self.dir.path().join("state").display(),
        );
        private_file(self.dir.path(), "mbsyncrc", &config);
    }

    /// Looks at these folders alone from now on (words of `Patterns`).
    #[track_caller]
    pub fn limit_to(&self, folders: &str) {
        let path = self.dir.path().join("mbsyncrc");
        let config = std::fs::read_to_string(&path).expect("read mbsyncrc");
        assert!(config.contains("Patterns *\n"), "mbsyncrc: {config}");
        let config = config.replace("Patterns *\n", &format!("Patterns {folders}\n"));
        private_file(self.dir.path(), "mbsyncrc", &config);
    }

    /// Where its Maildirs are.
    pub fn local(&self) -> &Path {
        &self.local
    }

    /// Synchronises once; what it did. Panics if mbsync fails or warns.
    #[track_caller]
    pub fn run(&self) -> Synced {
        self.run_over().0
    }

    /// The same, and how many folders it went through.
    #[track_caller]
    pub fn run_over(&self) -> (Synced, u32) {
        tools::program("mbsync");
        // It shows its counts on a terminal only, so it is given one by script(1).
        let mut command = as_mail_user("script", self.dir.path());
        let config = self.dir.path().join("mbsyncrc");
        command.arg("-qec");
        command.arg(format!("mbsync -a -c {}", config.display()));
        command.arg("/dev/null");
        let output = feed(command, b"");
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
        let warned = text
            .lines()
            .any(|line| line.contains("arning") && !line.contains("sent in the clear"));
        assert!(!warned, "mbsync warns:\n{text}");
        let found = counts(&text).zip(boxes(&text));
        found.unwrap_or_else(|| panic!("mbsync says no counts:\n{text}"))
    }
}

/// Reads the last `B: 2/2`.
fn boxes(text: &str) -> Option<u32> {
    let rest = &text[text.rfind(" B: ")? + 4..];
    rest.split('/').next()?.trim().parse().ok()
}

/// Reads the last `F: +1/1 *2/2 #3/3  N: +4/4 *5/5 #6/6`.
fn counts(text: &str) -> Option<Synced> {
    let side = |name: &str| {
        let rest = &text[text.rfind(name)? + name.len()..];
        let mut numbers = rest.split_whitespace().take(3).map(|word| {
            let done = word.trim_start_matches(['+', '*', '#']).split('/').next();
            done?.parse::<u32>().ok()
        });
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    };
    let (far, near) = (side(" F: ")?, side(" N: ")?);
    Some(Synced {
        pushed: far[0],
        fetched: near[0],
        flagged: far[1] + near[1],
        trashed: far[2] + near[2],
    })
}

fn private_file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("write a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    chown(&path, Some(MAIL_UID), Some(MAIL_GID)).expect("chown");
    path
}

fn as_mail_user(program: &str, home: &Path) -> Command {
    let mut command = Command::new(tools::program(program));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", home)
        .env("LOGNAME", tools::MAIL_USER)
        .current_dir("/")
        .uid(MAIL_UID)
        .gid(MAIL_GID);
    command
}

/// Runs a command with `input` and panics unless it succeeds.
#[track_caller]
fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    let mut pipe = child.stdin.take().expect("a piped standard input");
    pipe.write_all(input).expect("write to a program");
    drop(pipe);
    let output = child.wait_with_output().expect("wait for a program");
    assert!(
        output.status.success(),
        "{:?}: {}\n{}{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn the_counts_of_mbsync_are_read() {
    let line = "C: 1/1  B: 2/2  F: +1/1 *2/2 #3/3  N: +4/4 *5/5 #6/6\n";
    assert_eq!(boxes(line), Some(2));
    assert_eq!(
        counts(line),
        Some(Synced {
            pushed: 1,
            fetched: 4,
            flagged: 7,
            trashed: 9
        })
    );
}
