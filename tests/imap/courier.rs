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
            .envs(self.environment(user));
        server::over_stdio(command, &self.dir.path().join("log"))
    }

    /// A program that serves `user` on its standard input and output, for a client that starts its server itself.
    #[track_caller]
    pub fn tunnel(&self, user: &str) -> PathBuf {
        let mut script = String::from("#!/bin/sh\n");
        // Without the tag of a login to answer, it greets one who is known already.
        let known = |name: &str| name != "IMAPLOGINTAG";
        for (name, value) in self
            .environment(user)
            .into_iter()
            .filter(|(name, _)| known(name))
        {
            script.push_str(&format!("export {name}='{value}'\n"));
        }
        script.push_str(&format!(
            "cd {root}\nexec {binary} {root}/{user} 2>>{dir}/tunnel.log\n",
            root = self.mail_root.display(),
            binary = self.binary.display(),
            dir = self.dir.path().display(),
        ));
        let path = self.dir.path().join(format!("tunnel-{user}"));
        std::fs::write(&path, script).expect("write a script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("chmod");
        // The mail user's own file: it starts the program and may not write in the directory.
        let log = self.dir.path().join("tunnel.log");
        std::fs::write(&log, "").expect("create a log");
        std::os::unix::fs::chown(&log, Some(tools::MAIL_UID), Some(tools::MAIL_GID))
            .expect("chown");
        path
    }

    /// What couriertcpd and imaplogin would have set, and what the init script takes from `/etc/courier/imapd`: the README's, where it says something, and
    /// Debian's.
    fn environment(&self, user: &str) -> Vec<(String, String)> {
        let home = self.mail_root.join(user).display().to_string();
        let fixed = [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", &home),
            ("AUTHENTICATED", user),
            ("AUTHADDR", user),
            ("IMAPLOGINTAG", "*"),
            ("PROTOCOL", "IMAP4"),
            ("TCPREMOTEIP", "127.0.0.1"),
            ("TCPREMOTEPORT", "0"),
            ("TCPLOCALIP", "127.0.0.1"),
            ("TCPLOCALPORT", "143"),
            ("IMAP_ACL", "1"),
            ("IMAP_IDLE_TIMEOUT", "60"),
            ("IMAP_MAILBOX_SANITY_CHECK", "1"),
            ("IMAP_TRASHFOLDERNAME", "Trash"),
            ("IMAP_EMPTYTRASH", "Trash:7"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let readme = tools::readme("# /etc/courier/imapd");
        let ours = readme.lines().skip(1).map(|line| {
            let (name, value) = line.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        fixed.into_iter().chain(ours).collect()
    }

    /// All that Courier has said on its standard error.
    pub fn log(&self) -> String {
        ["log", "tunnel.log"]
            .map(|name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default())
            .concat()
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
