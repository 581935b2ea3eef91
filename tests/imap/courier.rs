//! Courier's `imapd`, one process a connection, already authenticated, over standard input and output.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Client;
use super::server::{self, Server};
use super::tools;

/// Courier over a directory of Maildirs.
#[derive(Debug)]
pub struct Courier {
    dir: tempfile::TempDir,
    binary: PathBuf,
    mail_root: PathBuf,
}

impl Courier {
    /// Makes ready; creates the Maildir of `u` where there is none, as `maildirmake` would.
    #[track_caller]
    pub fn start(mail_root: &Path) -> Self {
        let dir = tools::temporary();
        let binary = tools::unpacked("imapd", dir.path());
        for sub in ["", "cur", "new", "tmp"] {
            let path = mail_root.join("u").join(sub);
            if !path.is_dir() {
                tools::mail_dir(&path);
            }
        }
        Self {
            dir,
            binary,
            mail_root: mail_root.to_owned(),
        }
    }

    /// A new connection for `user`.
    #[track_caller]
    pub fn login(&self, user: &str) -> Client {
        let mut command = Command::new(&self.binary);
        command
            .arg(self.mail_root.join(user))
            .current_dir(&self.mail_root)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.mail_root.join(user))
            // What couriertcpd and imaplogin would have set.
            .envs([
                ("AUTHENTICATED", user),
                ("AUTHADDR", user),
                ("IMAPLOGINTAG", "*"),
                ("PROTOCOL", "IMAP4"),
                ("TCPREMOTEIP", "127.0.0.1"),
                ("TCPREMOTEPORT", "0"),
                ("TCPLOCALIP", "127.0.0.1"),
                ("TCPLOCALPORT", "143"),
            ])
            // What the init script takes from /etc/courier/imapd: the README's, where it says something, and Debian's.
            .envs([
                ("IMAP_ACL", "1"),
                ("IMAP_IDLE_TIMEOUT", "60"),
                ("IMAP_MAILBOX_SANITY_CHECK", "1"),
                ("IMAP_TRASHFOLDERNAME", "Trash"),
                ("IMAP_EMPTYTRASH", "Trash:7"),
            ])
            .envs(
                tools::readme("# /etc/courier/imapd")
                    .lines()
                    .skip(1)
                    .map(|line| {
                        let (name, value) = line.split_once('=').expect("NAME=VALUE");
                        (name.to_owned(), value.trim_matches('"').to_owned())
                    }),
            );
        server::over_stdio(command, &self.dir.path().join("log"))
    }

    /// All that Courier has said on its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Server for Courier {
    fn connect(&self) -> Client {
        self.login("u")
    }

    fn deliver(&self, message: &[u8]) {
        server::deliver_plainly(&self.mail_root.join("u"), message);
    }

    fn folder(&self, parts: &[&str]) -> String {
        format!("INBOX.{}", parts.join("."))
    }

    fn complaints(&self) -> Vec<String> {
        let log = self.log();
        log.lines()
            .filter(|line| !line.starts_with("INFO: "))
            .map(str::to_owned)
            .collect()
    }

    fn mail_root(&self) -> &Path {
        &self.mail_root
    }
}
