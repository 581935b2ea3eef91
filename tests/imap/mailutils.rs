//! GNU Mailutils' `imap4d`, one process a connection, pre-authenticated, over standard input and output.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::Client;
use super::server::{self, Server};
use super::tools::{self, MAIL_GID, MAIL_UID};

/// Mailutils over a directory of Maildirs: the inbox is `u/INBOX`, all other folders are directories below `folders`.
#[derive(Debug)]
pub struct Mailutils {
    dir: tempfile::TempDir,
    binary: PathBuf,
    mail_root: PathBuf,
}

impl Mailutils {
    /// Makes ready; creates the Maildir of `u` where there is none.
    #[track_caller]
    pub fn start(mail_root: &Path) -> Self {
        let dir = tools::temporary();
        let binary = tools::unpacked("imap4d", dir.path());
        for sub in ["u", "folders"] {
            let path = mail_root.join(sub);
            if !path.is_dir() {
                tools::mail_dir(&path);
            }
        }
        let root = mail_root.display();
        let here = dir.path().display();
        // Its user comes from a password file of ours, so that the home directory, where it keeps subscriptions, is the Maildir.
        std::fs::create_dir(dir.path().join("domains")).expect("mkdir");
        std::fs::write(
            dir.path().join("domains/test"),
            format!("u:x:{MAIL_UID}:{MAIL_GID}::{root}/u:/bin/sh\n"),
        )
        .expect("write a password file");
        std::fs::write(dir.path().join("whoami"), "#!/bin/sh\necho u@test\n")
            .expect("write a script");
        std::fs::set_permissions(
            dir.path().join("whoami"),
            std::fs::Permissions::from_mode(0o755),
        )
        .expect("chmod");
        let config = format!(
            "mode inetd;
preauth prog://{here}/whoami;
preauth-only yes;
mailbox {{ mailbox-pattern \"maildir:{root}/u/INBOX\"; mailbox-type maildir; }};
namespace personal {{ prefix \"\" {{ directory \"{root}/folders\"; delimiter \"/\"; mailbox-type maildir; }}; }};
virtdomain {{ passwd-dir \"{here}/domains\"; }};
auth {{ authorization virtdomain:system; }};
logging {{ syslog no; }};
"
        );
        std::fs::write(dir.path().join("imap4d.conf"), config).expect("write imap4d.conf");
        Self {
            dir,
            binary,
            mail_root: mail_root.to_owned(),
        }
    }

    /// All that Mailutils has said on its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Server for Mailutils {
    fn connect(&self) -> Client {
        let mut command = Command::new(&self.binary);
        command
            .arg("--config-file")
            .arg(self.dir.path().join("imap4d.conf"))
            .current_dir(&self.mail_root)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.mail_root.join("u"));
        server::over_stdio(command, &self.dir.path().join("log"))
    }

    fn deliver(&self, message: &[u8]) {
        server::deliver_plainly(&self.mail_root.join("u/INBOX"), message);
    }

    fn folder(&self, parts: &[&str]) -> String {
        parts.join("/")
    }

    fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let usual = [
            "cannot obtain IP address of client",
            "logged in (source: virtdomain)",
            "session terminating for user",
            "incoming connection opened",
        ];
        log.lines()
            .filter(|line| !usual.iter().any(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }

    fn dies_of(&self) -> &[&str] {
        &["UNKEYWORD"]
    }

    // It compares the times of directories in whole seconds.
    fn settle(&self) {
        std::thread::sleep(std::time::Duration::from_millis(1_050));
    }

    // So it tells of a message in the same second or not at all.
    fn is_chance(&self, command: &str, response: &str) -> bool {
        let told = response.ends_with(" EXISTS") || response.ends_with(" RECENT");
        told && (command.starts_with("APPEND") || command == "NOOP")
    }

    fn mail_root(&self) -> &Path {
        &self.mail_root
    }
}
