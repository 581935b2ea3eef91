//! sshd in a machine of its own, and the keys of all.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::network::Host;
use crate::imap::tools;

/// The keys of one machine: its sshd's, its mailbraid's, and its administrator's, who may do everything.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// Makes them in a directory.
    #[track_caller]
    pub fn make(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("mkdir");
        for name in ["host", "node", "admin"] {
            let done = Command::new(tools::program("ssh-keygen"))
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(dir.join(name))
                .status()
                .expect("run ssh-keygen");
            assert!(done.success(), "ssh-keygen: {done}");
        }
        Self {
            dir: dir.to_owned(),
        }
    }

    fn public(&self, name: &str) -> String {
        let path = self.dir.join(name).with_extension("pub");
        fs::read_to_string(path)
            .expect("a public key")
            .trim()
            .to_owned()
    }

    /// Writes what the machine's ssh reads: whom it trusts, and as whom it logs in. `bin/ssh` is an ssh that reads it, `bin/admin` one that logs in
    /// as administrator; put `bin` at the head of `PATH`.
    pub fn write_client(&self, others: &[&Self]) {
        let known: String = others
            .iter()
            // A relay has another address and port than the host behind it.
            .map(|keys| format!("* {}\n", keys.public("host")))
            .collect();
        fs::write(self.dir.join("known_hosts"), known).expect("write known_hosts");
        fs::create_dir_all(self.bin()).expect("mkdir");
        for (program, key) in [("ssh", "node"), ("admin", "admin")] {
            let config = self.dir.join(format!("config.{program}"));
            let text = format!(
                "Host *\n  User root\n  IdentityFile {dir}/{key}\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
                 UserKnownHostsFile {dir}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n",
                dir = self.dir.display()
            );
            fs::write(&config, text).expect("write ssh's config");
            let script = format!(
                "#!/bin/sh\nexec {} -F {} \"$@\"\n",
                tools::program("ssh").display(),
                config.display()
            );
            let path = self.bin().join(program);
            fs::write(&path, script).expect("write a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
    }

    /// The directory of the machine's own `ssh`.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// `PATH` with it at the head.
    pub fn path(&self) -> String {
        let rest = std::env::var("PATH").unwrap_or_default();
        format!("{}:{rest}", self.bin().display())
    }
}

/// A running sshd; ended on drop.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    log: PathBuf,
}

impl Sshd {
    /// Serves `store` on port 22 of the machine to the nodes named, with the forced command that the README tells, and everything to each one's administrator.
    #[track_caller]
    pub fn start(host: &Host, keys: &Keys, store: &Path, nodes: &[(&str, &Keys)]) -> Self {
        let authorized: String = nodes
            .iter()
            .map(|(name, theirs)| {
                format!(
                    "restrict,command=\"{} serve --node {name} --store {}\" {}\n{}\n",
                    env!("CARGO_BIN_EXE_mailbraid"),
                    store.display(),
                    theirs.public("node"),
                    theirs.public("admin"),
                )
            })
            .collect();
        fs::write(keys.dir.join("authorized_keys"), authorized).expect("write authorized_keys");
        // sshd insists on its privilege separation directory.
        fs::create_dir_all("/run/sshd").expect("mkdir /run/sshd: run the tests as root");
        let config = keys.dir.join("sshd_config");
        // Forced commands run in the account's shell, and a bash that sshd starts at level 1 reads ~/.bashrc: on a developer's machine that takes longer than
        // all else.
        let text = format!(
            "ListenAddress {ip}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized_keys\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             PrintMotd no\nUseDNS no\nMaxStartups 100\nSetEnv PATH={path} HOME={dir} SHLVL=2\n",
            ip = host.ip,
            dir = keys.dir.display(),
            path = std::env::var("PATH").unwrap_or_default(),
        );
        fs::write(&config, text).expect("write sshd_config");
        let log = keys.dir.join("sshd.log");
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("open a log");
        let child = host.run(|| {
            Command::new(tools::program("sshd"))
                .args(["-D", "-e", "-f"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(file)
                .process_group(0)
                .spawn()
                .expect("start sshd")
        });
        let mut sshd = Self { child, log };
        let patience = Instant::now() + Duration::from_secs(20);
        while host.run(|| TcpStream::connect((host.ip, 22)).is_err()) {
            let ended = sshd.child.try_wait().expect("wait");
            assert!(
                ended.is_none() && Instant::now() < patience,
                "sshd does not start ({ended:?}): {}",
                sshd.said()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        sshd
    }

    /// Its log.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let from = said.lines().count().saturating_sub(30);
            let end: Vec<&str> = said.lines().skip(from).collect();
            eprintln!("sshd said:\n{}", end.join("\n"));
        }
        tools::end(&mut self.child);
    }
}
