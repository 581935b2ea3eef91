//! Dovecot as a child of the test: IMAP on a port of a loopback address of its own, LMTP on a socket file, its log captured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::Client;
use super::lmtp::Lmtp;
use super::server::Server;
use super::tools::{self, MAIL_USER};

/// How a Dovecot is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the index files are: beside the mail (`None`), or below this directory.
    pub index: Option<PathBuf>,
    /// The address to listen on; `None` picks a free one on the loopback interface.
    pub address: Option<SocketAddr>,
    /// The directory of Postfix's private sockets, and the user Postfix runs as, where LMTP is for Postfix too.
    pub postfix: Option<(PathBuf, String)>,
    /// More lines of configuration.
    pub extra: String,
    /// Names of folders in UTF-8 on the disk, as Courier has them.
    pub utf8: bool,
    /// A word put before the command, with its arguments: `ip netns exec NAME`.
    pub prefix: Vec<String>,
}

#[allow(clippy::derivable_impls)] // spelt out: these are the choices a test makes
impl Default for Options {
    fn default() -> Self {
        Self {
            index: None,
            address: None,
            postfix: None,
            extra: String::new(),
            utf8: false,
            prefix: Vec::new(),
        }
    }
}

/// A running Dovecot. Users are `u` and any other name: the Maildir of user X is `mail_root/X`, any password is right.
#[derive(Debug)]
pub struct Dovecot {
    child: Child,
    dir: tempfile::TempDir,
    mail_root: PathBuf,
    address: SocketAddr,
}

impl Dovecot {
    /// Starts Dovecot over the Maildirs below `mail_root`, and waits until it answers.
    #[track_caller]
    pub fn start(mail_root: &Path) -> Self {
        Self::start_with(mail_root, &Options::default())
    }

    /// Starts Dovecot with choices.
    #[track_caller]
    pub fn start_with(mail_root: &Path, options: &Options) -> Self {
        let binary = tools::program("dovecot");
        let dir = tools::temporary();
        // LMTP and imap processes are of the mail user and write here.
        std::fs::create_dir(dir.path().join("run")).expect("mkdir");
        let address = options.address.unwrap_or_else(free_address);
        let config = configuration(dir.path(), mail_root, address, options);
        let file = dir.path().join("dovecot.conf");
        std::fs::write(&file, config).expect("write dovecot.conf");
        let mut command = match options.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let child = command
            .arg("-F")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("stderr")).expect("create a file"))
            .process_group(0)
            .spawn()
            .expect("start dovecot");
        let mut dovecot = Self {
            child,
            dir,
            mail_root: mail_root.to_owned(),
            address,
        };
        dovecot.wait_ready(!options.prefix.is_empty());
        dovecot
    }

    #[track_caller]
    fn wait_ready(&mut self, elsewhere: bool) {
        let patience = Instant::now() + Duration::from_secs(30);
        let socket = self.lmtp_socket();
        loop {
            let ended = self.child.try_wait().expect("wait");
            assert!(
                ended.is_none() && Instant::now() < patience,
                "Dovecot does not start ({ended:?}):\n{}{}",
                std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default(),
                self.log(),
            );
            // Another network namespace's port is not ours to reach; the socket file always is.
            let lmtp = std::os::unix::net::UnixStream::connect(&socket).is_ok();
            if lmtp && (elsewhere || TcpStream::connect(self.address).is_ok()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where IMAP is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket file of LMTP.
    pub fn lmtp_socket(&self) -> PathBuf {
        self.dir.path().join("run/lmtp")
    }

    /// The configuration file, for `doveadm -c`.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("dovecot.conf")
    }

    /// A new connection, logged in as `user`.
    #[track_caller]
    pub fn login(&self, user: &str) -> Client {
        let mut client = Client::connect(self.address).expect("connect to Dovecot");
        client.ok(&format!("LOGIN {user} secret"));
        client
    }

    /// A new LMTP connection.
    #[track_caller]
    pub fn lmtp(&self) -> Lmtp {
        Lmtp::connect(&self.lmtp_socket())
    }

    /// All that Dovecot has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Panics if Dovecot has logged a warning or an error.
    #[track_caller]
    pub fn assert_silent(&self) {
        let complaints = self.complaints();
        assert!(
            complaints.is_empty(),
            "Dovecot complains:\n{}",
            complaints.join("\n")
        );
    }
}

impl Server for Dovecot {
    fn connect(&self) -> Client {
        self.login("u")
    }

    fn deliver(&self, message: &[u8]) {
        self.lmtp().deliver("u", message);
    }

    fn folder(&self, parts: &[&str]) -> String {
        parts.join(".")
    }

    /// The lines of the log that are more than information. That its master did not run for a tenth of a second is of the machine.
    fn complaints(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| !line.contains("master: Warning: Time moved forwards by "))
            .filter(|line| {
                ["Warning: ", "Error: ", "Fatal: ", "Panic: "]
                    .iter()
                    .any(|level| line.contains(level))
            })
            .map(str::to_owned)
            .collect()
    }

    fn mail_root(&self) -> &Path {
        &self.mail_root
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        tools::end(&mut self.child);
        if std::thread::panicking() {
            eprintln!("Dovecot's log:\n{}", self.log());
        }
    }
}

/// A free port on a loopback address that is probably ours alone, so that other tests do not race for it.
pub fn free_address() -> SocketAddr {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        .to_le_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, random[0], random[1], random[2] | 1));
    TcpListener::bind((ip, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on the loopback interface")
}

/// The configuration: what keeps this Dovecot apart from the machine's, then the README's.
fn configuration(dir: &Path, mail_root: &Path, address: SocketAddr, options: &Options) -> String {
    let mut site = tools::readme("# /etc/dovecot/local.conf");
    // In the place of the README's paths and users stand this test's.
    let mut replace = |what: &str, with: &str| {
        assert!(
            site.contains(what),
            "the README's Dovecot block lacks {what}"
        );
        site = site.replace(what, with);
    };
    match &options.index {
        Some(index) => replace("/var/lib/dovecot/index", &index.display().to_string()),
        None => replace(":INDEX=/var/lib/dovecot/index/%u", ""),
    }
    if options.utf8 {
        let line = site
            .lines()
            .find(|line| line.starts_with("mail_location = "))
            .expect("the README's Dovecot block has a mail_location")
            .to_owned();
        site = site.replace(&line, &format!("{line}:UTF-8"));
    }
    let mut replace = |what: &str, with: &str| {
        assert!(
            site.contains(what),
            "the README's Dovecot block lacks {what}"
        );
        site = site.replace(what, with);
    };
    replace("/srv/mail", &mail_root.display().to_string());
    replace("mail_uid = vmail", &format!("mail_uid = {MAIL_USER}"));
    replace("mail_gid = vmail", "mail_gid = nogroup");
    let (postfix, owner) = match &options.postfix {
        Some((private, owner)) => (private.clone(), owner.as_str()),
        None => (dir.to_owned(), "root"),
    };
    replace("/var/spool/postfix/private", &postfix.display().to_string());
    replace("user = postfix", &format!("user = {owner}"));
    replace("    group = postfix\n", "");
    format!(
        "base_dir = {dir}/run
state_dir = {dir}/run
instance_name = {name}
log_path = {dir}/log
auth_verbose = no
listen = {ip}
ssl = no
disable_plaintext_auth = no
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = home={root}/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
{site}
{extra}
",
        dir = dir.display(),
        name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
        ip = address.ip(),
        port = address.port(),
        root = mail_root.display(),
        extra = options.extra,
    )
}
