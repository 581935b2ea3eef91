//! A node: a machine with sshd, a store, its mount and a Dovecot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::network::Host;
use super::ssh::{Keys, Sshd};
use crate::imap::agents::Far;
use crate::imap::client::Client;
use crate::imap::courier::Courier;
use crate::imap::dovecot::{Dovecot, Options};
use crate::imap::lmtp::Lmtp;
use crate::imap::server::Server as _;
use crate::imap::tools::{self, MAIL_GID, MAIL_UID};
use crate::support::daemon::Daemon;
use crate::support::mounted;

/// Dovecot tells a session in IDLE of a change half a second after it saw the first sign of it, on any filesystem (`mailbox-watch.c`); a session that has been
/// put to sleep is woken at once. Dovecot 2.4 puts them to sleep after 30 seconds by itself.
const HIBERNATION: &str = "imap_hibernate_timeout = 1 s
service imap {
  service_count = 0
  process_limit = 100
  process_min_avail = 3
  unix_listener imap-master {
    user = $default_internal_user
  }
}
service imap-hibernate {
  unix_listener imap-hibernate {
    mode = 0666
  }
}
";

/// One node. All of it is ended on drop, however stuck.
pub struct Node {
    // Dropped in this order: servers go before what they serve.
    dovecot: Option<Dovecot>,
    courier: Option<Courier>,
    daemon: Option<Daemon>,
    sshd: Option<Sshd>,
    /// The machine.
    pub host: Host,
    /// Its keys.
    pub keys: Keys,
    dir: PathBuf,
    environment: Vec<(String, String)>,
}

impl Node {
    /// Lays it out below `dir` and starts nothing.
    pub fn new(host: &Host, keys: &Keys, dir: &Path) -> Self {
        let node = Self {
            dovecot: None,
            courier: None,
            daemon: None,
            sshd: None,
            host: host.clone(),
            keys: keys.clone(),
            dir: dir.to_owned(),
            environment: Vec::new(),
        };
        fs::create_dir_all(node.mountpoint()).expect("mkdir");
        tools::mail_dir(&dir.join("index"));
        node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// Its store.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Its mount point.
    pub fn mountpoint(&self) -> PathBuf {
        self.dir.join("mail")
    }

    /// Its repository.
    pub fn repo(&self) -> PathBuf {
        self.store().join("repo.git")
    }

    /// What a peer calls it.
    pub fn url(&self) -> String {
        format!("ssh://root@{}{}", self.host.ip, self.repo().display())
    }

    /// A variable of the daemon's environment, from its next start on; an empty value takes it away.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Creates the store.
    #[track_caller]
    pub fn init(&self) {
        let store = self.store();
        let store = store.to_str().expect("UTF-8");
        mounted::mailbraid_ok(&["init", store, "--node", self.name()]);
    }

    /// Serves its store to peers.
    #[track_caller]
    pub fn start_sshd(&mut self, nodes: &[(&str, &Keys)]) {
        self.sshd = Some(Sshd::start(&self.host, &self.keys, &self.store(), nodes));
    }

    /// Ends its sshd.
    pub fn stop_sshd(&mut self) {
        self.sshd = None;
    }

    /// Mounts, and waits until the mount answers.
    #[track_caller]
    pub fn mount(&mut self) {
        self.start_daemon();
        self.daemon.as_mut().expect("it was started").wait_ready();
    }

    /// Starts the daemon and does not wait.
    pub fn start_daemon(&mut self) {
        let options = format!("rw,allow_other,uid={MAIL_UID},gid={MAIL_GID}");
        let path = self.keys.path();
        let mut environment = vec![("PATH", path.as_str())];
        environment.extend(
            self.environment
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let daemon = self
            .host
            .run(|| Daemon::spawn_in(&self.store(), &self.mountpoint(), &options, &environment));
        self.daemon = Some(daemon);
    }

    /// Waits until the mount answers.
    pub fn wait_mounted(&mut self) {
        self.daemon.as_mut().expect("it was started").wait_ready();
    }

    /// SIGKILL, and the dead mount freed.
    pub fn kill(&mut self) {
        self.daemon.take().expect("it is mounted").kill();
        mounted::free(&self.mountpoint());
    }

    /// An orderly end.
    pub fn unmount(&mut self) {
        self.daemon.take().expect("it is mounted").unmount();
    }

    /// Whether there is a daemon.
    pub fn is_mounted(&self) -> bool {
        self.daemon.is_some()
    }

    /// Bytes of memory that the daemon has.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        self.daemon.as_ref().expect("it is mounted").resident()
    }

    /// What the daemon has said.
    pub fn said(&self) -> String {
        self.daemon.as_ref().map(Daemon::said).unwrap_or_default()
    }

    /// Starts Dovecot on ports of this machine.
    #[track_caller]
    pub fn start_dovecot(&mut self) {
        let options = Options {
            index: Some(self.dir.join("index")),
            address: Some((self.host.ip, 143).into()),
            extra: HIBERNATION.to_owned(),
            ..Options::default()
        };
        let root = self.mountpoint();
        self.dovecot = Some(self.host.run(|| Dovecot::start_with(&root, &options)));
    }

    /// Starts Dovecot over a directory beside the mount, where mailbraid has no part.
    #[track_caller]
    pub fn start_plain_dovecot(&mut self) {
        let root = self.dir.join("plain");
        tools::mail_dir(&root);
        let options = Options {
            index: Some(self.dir.join("index")),
            address: Some((self.host.ip, 143).into()),
            extra: HIBERNATION.to_owned(),
            ..Options::default()
        };
        self.dovecot = Some(self.host.run(|| Dovecot::start_with(&root, &options)));
    }

    /// Ends Dovecot.
    pub fn stop_dovecot(&mut self) {
        self.dovecot = None;
    }

    /// The running Dovecot.
    #[track_caller]
    pub fn dovecot(&self) -> &Dovecot {
        self.dovecot.as_ref().expect("Dovecot runs here")
    }

    /// Courier serves instead.
    #[track_caller]
    pub fn start_courier(&mut self) {
        self.courier = Some(Courier::start(&self.mountpoint()));
    }

    /// Whether Courier serves.
    pub fn is_courier(&self) -> bool {
        self.courier.is_some()
    }

    /// A new IMAP connection, logged in.
    #[track_caller]
    pub fn imap(&self, user: &str) -> Client {
        match &self.courier {
            Some(courier) => courier.login(user),
            None => self.host.run(|| self.dovecot().login(user)),
        }
    }

    /// Where a client program finds the account of a user.
    #[track_caller]
    pub fn far(&self, user: &str) -> Far {
        match &self.courier {
            Some(courier) => Far::Tunnel(courier.tunnel(user)),
            None => Far::Server(self.dovecot().address(), user.to_owned()),
        }
    }

    /// A new LMTP connection.
    #[track_caller]
    pub fn lmtp(&self) -> Lmtp {
        self.dovecot().lmtp()
    }

    /// What Dovecot and the daemon have complained of; lines of ordinary trouble with peers are none of it.
    pub fn complaints(&self) -> Vec<String> {
        let dovecot = self.dovecot.as_ref().map(|dovecot| dovecot.complaints());
        let mut lines = dovecot.unwrap_or_default();
        let courier = self.courier.as_ref().map(|courier| courier.complaints());
        lines.extend(courier.unwrap_or_default());
        lines.extend(
            self.said()
                .lines()
                .filter(|line| line.contains(": error: ") || line.contains("panicked"))
                .map(str::to_owned),
        );
        for line in &mut lines {
            *line = format!("{}: {line}", self.name());
        }
        lines
    }

    /// Runs the program in this machine; what it said on both streams, and whether it succeeded.
    pub fn mailbraid(&self, words: &[&str]) -> (bool, String) {
        let done = self.host.run(|| {
            Command::new(env!("CARGO_BIN_EXE_mailbraid"))
                .args(words)
                .env("PATH", self.keys.path())
                .output()
                .expect("run mailbraid")
        });
        let said = [done.stdout, done.stderr].concat();
        (
            done.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// `mailbraid peer add`.
    #[track_caller]
    pub fn add_peer(&self, name: &str, url: &str) {
        let store = self.store();
        let (done, said) =
            self.mailbraid(&["peer", "add", store.to_str().expect("UTF-8"), name, url]);
        assert!(done, "mailbraid peer add: {said}");
    }

    /// Forgets a peer.
    pub fn remove_peer(&self, name: &str) {
        let store = self.store();
        let (done, said) =
            self.mailbraid(&["peer", "remove", store.to_str().expect("UTF-8"), name]);
        assert!(done, "mailbraid peer remove: {said}");
    }

    /// `mailbraid status --json`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let store = self.store();
        let (done, said) = self.mailbraid(&["status", "--json", store.to_str().expect("UTF-8")]);
        assert!(done, "mailbraid status: {said}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The commit id of its head, read from the repository itself, where asking is cheap.
    pub fn head(&self) -> Option<String> {
        let text = fs::read_to_string(self.repo().join("refs/heads/mail")).ok()?;
        Some(text.trim().to_owned())
    }

    /// All that was acknowledged is committed.
    #[track_caller]
    pub fn flush(&self) {
        let store = self.store();
        let (done, said) = self.mailbraid(&["flush", store.to_str().expect("UTF-8")]);
        assert!(done, "mailbraid flush: {said}");
    }

    /// Runs git on its repository.
    #[track_caller]
    pub fn git(&self, words: &[&str]) -> String {
        mounted::git(&self.repo(), words)
    }

    /// What must hold at every end: git finds the repository sound, and `mailbraid check` too.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.flush();
        mounted::fsck(&self.store());
        let store = self.store();
        let (done, said) = self.mailbraid(&["check", store.to_str().expect("UTF-8")]);
        assert!(done, "mailbraid check of {}: {said}", self.name());
    }

    /// All names below a directory of the mount, what stands in the files in which servers keep keywords and UIDs, where the mount shows other mail than the
    /// head has, and the last actions of the history: for a failure's reader.
    pub fn files(&self, below: &str) -> String {
        let script = r#"find . -name tmp -prune -o -type f -print | sort
            find . -name ':list' -o -name 'dovecot-keywords' -o -name 'courierimapuiddb' -o -name 'dovecot-uidlist' | sort |
            while read -r file; do echo "--- $file"; cat "$file"; done
            rm -rf "$2"; "$0" flush "$1" && "$0" export "$1" mail "$2" && echo "mount and head:" && {
                (find . -path '*/cur/*' -o -path '*/new/*') | sort >"$2.shown"
                cd "$2/$3" && (find . -path '*/cur/*' -o -path '*/new/*') | sort | diff "$2.shown" -
            }
            "$0" log "$1" | head -n 150"#;
        let done = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_mailbraid")])
            .arg(self.store())
            .arg(self.dir.join("exported"))
            .arg(below)
            .current_dir(self.mountpoint().join(below))
            .output();
        done.map_or_else(
            |error| error.to_string(),
            |done| String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    }

    /// A directory beside store and mount.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Loses the disk: store and Dovecot's index files are gone.
    pub fn lose_disk(&mut self) {
        assert!(!self.is_mounted() && self.dovecot.is_none());
        fs::remove_dir_all(self.store()).expect("remove a store");
        fs::remove_dir_all(self.dir.join("index")).expect("remove the index files");
        tools::mail_dir(&self.dir.join("index"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- node {}, head {:?}", self.name(), self.head());
        }
        self.dovecot = None;
        self.daemon = None;
        self.sshd = None;
        mounted::free(&self.mountpoint());
    }
}

/// A directory for nodes, that the mail user can pass.
pub fn temporary() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("mailbraid-net-")
        .tempdir()
        .expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}
