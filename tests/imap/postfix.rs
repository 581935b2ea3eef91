//! Postfix, unpacked and run from there with a queue of its own: SMTP in, LMTP out.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::dovecot;
use super::tools;

/// The user that Postfix runs as here, in the place of `postfix`, which only an installed package creates: Debian's `news`.
pub const OWNER: (&str, u32) = ("news", 9);
/// And its group for programs that submit mail, in the place of `postdrop`: Debian's `uucp`.
const SUBMIT: (&str, u32) = ("uucp", 10);

/// The services that a delivery by LMTP needs, as in Debian's `master.cf`, without chroot.
const SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// A queue directory, and Postfix once it is started over it.
#[derive(Debug)]
pub struct Postfix {
    dir: tempfile::TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Postfix {
    /// Lays out the queue, in which other programs may put sockets before Postfix runs.
    pub fn prepare() -> Self {
        let dir = tools::temporary();
        let queue = dir.path().join("queue");
        for (sub, mode) in [
            ("active", 0o700),
            ("bounce", 0o700),
            ("corrupt", 0o700),
            ("defer", 0o700),
            ("deferred", 0o700),
            ("flush", 0o700),
            ("hold", 0o700),
            ("incoming", 0o700),
            ("private", 0o700),
            ("saved", 0o700),
            ("trace", 0o700),
            ("maildrop", 0o730),
            ("public", 0o710),
            ("../data", 0o700),
        ] {
            let path = queue.join(sub);
            std::fs::create_dir_all(&queue).expect("mkdir");
            std::fs::create_dir(&path).expect("mkdir");
            let group = mode & 0o070 != 0;
            chown(&path, Some(OWNER.1), group.then_some(SUBMIT.1)).expect("chown");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        }
        std::fs::create_dir(queue.join("pid")).expect("mkdir");
        std::fs::create_dir(dir.path().join("config")).expect("mkdir");
        Self {
            dir,
            address: dovecot::free_address(),
            child: None,
        }
    }

    /// The directory that `private/…` in its configuration means.
    pub fn private(&self) -> PathBuf {
        self.dir.path().join("queue/private")
    }

    /// Starts it with the README's `main.cf` and waits until it takes mail.
    #[track_caller]
    pub fn start(&mut self) {
        let base = self.dir.path().display();
        let programs = tools::unpacked_dir("lib/postfix");
        let here = programs.display();
        let (owner, submit) = (OWNER.0, SUBMIT.0);
        // What keeps this Postfix apart from the machine's, then what a user of mailbraid writes.
        let main = format!(
            "compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
daemon_directory = {here}/sbin
shlib_directory = {here}
mail_owner = {owner}
setgid_group = {submit}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
export_environment = MAIL_CONFIG LD_LIBRARY_PATH
maillog_file_prefixes = {base}
maillog_file = {base}/log
myhostname = localhost.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
inet_protocols = ipv4
{}",
            tools::readme("# /etc/postfix/main.cf")
        );
        let config = self.dir.path().join("config");
        std::fs::write(config.join("main.cf"), main).expect("write main.cf");
        let master = format!("{} inet n - n - - smtpd\n{SERVICES}", self.address);
        std::fs::write(config.join("master.cf"), master).expect("write master.cf");
        let child = Command::new(programs.join("sbin/master"))
            .arg("-d")
            .arg("-c")
            .arg(&config)
            .env("LD_LIBRARY_PATH", &programs)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start Postfix");
        self.child = Some(child);
        let patience = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(self.address).is_err() {
            assert!(
                Instant::now() < patience,
                "Postfix does not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All that Postfix has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Sends a mail by SMTP and waits until Postfix has handed it on.
    #[track_caller]
    pub fn send(&self, recipient: &str, message: &[u8]) {
        let stream = TcpStream::connect(self.address).expect("connect to Postfix");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("set a time-out");
        let mut smtp = Smtp(BufReader::new(stream));
        smtp.reply(220);
        smtp.command("EHLO localhost", 250);
        smtp.command("MAIL FROM:<sender@example.org>", 250);
        smtp.command(&format!("RCPT TO:<{recipient}>"), 250);
        smtp.command("DATA", 354);
        smtp.0
            .get_mut()
            .write_all(message)
            .expect("write to Postfix");
        let queued = smtp.command("\r\n.", 250);
        smtp.command("QUIT", 221);
        // `250 2.0.0 Ok: queued as 4D2B1C`
        let id = queued
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| line.contains(&format!("{id}: to=")));
            if let Some(line) = line {
                assert!(line.contains("status=sent"), "Postfix: {line}");
                return;
            }
            assert!(
                Instant::now() < patience,
                "Postfix delivers nothing:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        tools::end(child);
    }
}

struct Smtp(BufReader<TcpStream>);

impl Smtp {
    #[track_caller]
    fn command(&mut self, line: &str, code: u16) -> String {
        self.0
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("write to Postfix");
        self.reply(code)
    }

    #[track_caller]
    fn reply(&mut self, code: u16) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("read from Postfix");
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(&code.to_string()), "Postfix: {line}");
                return line;
            }
        }
    }
}
