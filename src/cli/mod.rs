//! The command line: one file a command. Errors are one line on standard error that says what to do next; exit codes: 0 done, 1 failed, 2
//! misused.

mod check;
mod control;
mod export;
mod flush;
mod import;
mod log;
mod mount;
mod options;
mod peer;
mod restore;
mod serve;
mod status;
mod syslog;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::check_node;
use crate::fuse::guard;
use crate::history::{InitOptions, Repo};
use crate::maildir::HashKind;
use crate::store::{Layout, Store, StoreError};

/// A Maildir filesystem whose history is git.
#[derive(Parser, Debug)]
#[command(name = "mailbraid", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Mount a store, created if absent; in the background once it is ready
    Mount {
        /// The store directory
        store: PathBuf,
        /// An existing directory
        mountpoint: PathBuf,
        /// Mount options, comma-separated
        #[arg(short = 'o', value_name = "OPTIONS")]
        options: Vec<String>,
        /// Stay in the foreground
        #[arg(short = 'f', long)]
        foreground: bool,
        #[arg(long, hide = true)]
        background: bool,
    },
    #[command(name = guard::COMMAND, hide = true)]
    Guard { mountpoint: PathBuf, daemon: u32 },
    /// Create a store, or make one of a clone of a store's repo.git
    Init {
        /// The store directory
        store: PathBuf,
        /// This node's name [default: the host name; on a clone with a number where the history knows it]
        #[arg(long)]
        node: Option<String>,
        /// Hash function of the repository
        #[arg(long, value_enum, default_value = "sha1")]
        object_format: ObjectFormat,
    },
    /// Show head, journal lag and peers
    Status {
        /// The store directory
        store: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Add, remove or list the nodes with which history is exchanged
    Peer {
        #[command(subcommand)]
        command: peer::Command,
    },
    /// Wait until all acknowledged operations are committed
    Flush {
        /// The store directory
        store: PathBuf,
        /// And until every peer that can be reached has them
        #[arg(long)]
        peers: bool,
    },
    /// Show the history in mail terms, newest first
    Log {
        /// The store directory
        store: PathBuf,
        /// A message, folder or file below the mount point
        path: Option<OsString>,
    },
    /// Bring a Maildir into a mounted store; run again, it goes on where it stopped
    Import {
        /// The Maildir to read
        maildir: PathBuf,
        /// A directory below the mount point
        dest: PathBuf,
        /// Copy where no store is mounted, too
        #[arg(long)]
        anywhere: bool,
    },
    /// Write a plain Maildir as of any revision or date
    Export {
        /// The store directory
        store: PathBuf,
        /// A git revision, HEAD, or a date
        rev: String,
        /// A new or empty directory
        dir: PathBuf,
    },
    /// Bring a message or a folder back from history, into the live mount
    Restore {
        /// The store directory
        store: PathBuf,
        /// A git revision, or a date
        rev: String,
        /// A message (flags may be left out) or a folder, below the mount point
        path: OsString,
    },
    /// Verify repository and journal
    Check {
        /// The store directory
        store: PathBuf,
    },
    /// Serve a peer: the ssh forced command of its key
    Serve {
        /// The peer's node name
        #[arg(long)]
        node: String,
        /// The only store this key may reach
        #[arg(long)]
        store: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectFormat {
    Sha1,
    Sha256,
}

/// A failed command: the line for standard error.
type Failure = String;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            eprintln!("mailbraid: {}", one_line(&error));
            return ExitCode::from(2);
        }
        Err(help) => {
            // Help and version: what was asked for.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match run(arguments.command) {
        Ok(code) => code,
        Err(why) => {
            let line: Vec<&str> = why.split_whitespace().collect();
            eprintln!("mailbraid: {}", line.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// clap's first paragraph without its label, and where help is.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = first.strip_prefix("error: ").unwrap_or(&first);
    format!("{first}; see mailbraid --help")
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Guard { mountpoint, daemon } => return mount::guard(&mountpoint, daemon),
        Command::Mount {
            store,
            mountpoint,
            options,
            foreground,
            background,
        } => {
            let options = match options::parse(&options) {
                Ok(options) => options,
                Err(why) => {
                    eprintln!("mailbraid: {why}");
                    return Ok(ExitCode::from(2));
                }
            };
            return mount::run(&store, &mountpoint, &options, foreground, background);
        }
        Command::Init {
            store,
            node,
            object_format,
        } => {
            let mut create = create_options()?;
            let layout = Layout::new(&store);
            if node.is_none() && layout.exists() {
                Store::adopt(&store, &create.node).map_err(|error| error.to_string())?;
                return Ok(ExitCode::SUCCESS);
            }
            if let Some(node) = node {
                create.node = check_node(node).map_err(|error| error.to_string())?;
            }
            create.kind = match object_format {
                ObjectFormat::Sha1 => HashKind::Sha1,
                ObjectFormat::Sha256 => HashKind::Sha256,
            };
            Store::init(&store, &create).map_err(|error| error.to_string())?;
        }
        Command::Status { store, json } => status::run(&store, json)?,
        Command::Peer { command } => peer::run(command)?,
        Command::Flush { store, peers } => flush::run(&store, peers)?,
        Command::Log { store, path } => {
            let repo = open_repo(&store)?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            log::log(&repo, path.as_deref().map(OsStrExt::as_bytes), &mut out)
                .map_err(|error| error.to_string())?;
        }
        Command::Import {
            maildir,
            dest,
            anywhere,
        } => {
            if !anywhere && !mount::is_in_a_mount(&dest) {
                return Err(import::ImportError::NotMounted(dest).to_string());
            }
            let progress = progress("messages");
            let done =
                import::import(&maildir, &dest, &progress).map_err(|error| error.to_string())?;
            progress.finish_and_clear();
            println!(
                "{} copied, {} already there, {} server-local or temporary left behind",
                done.copied, done.present, done.left
            );
        }
        Command::Export { store, rev, dir } => {
            let repo = open_repo(&store)?;
            let progress = progress("files");
            let done =
                export::export(&repo, &rev, &dir, &progress).map_err(|error| error.to_string())?;
            progress.finish_and_clear();
            println!("{} files in {} directories", done.files, done.directories);
        }
        Command::Restore { store, rev, path } => {
            let repo = open_repo(&store)?;
            let mountpoint = restore::mountpoint(&store)?;
            let path = restore::below(&mountpoint, &path);
            let progress = progress("messages");
            let done = restore::restore(&repo, &rev, &path, &mountpoint, &progress)
                .map_err(|error| error.to_string())?;
            progress.finish_and_clear();
            println!("{} restored, {} already there", done.restored, done.present);
        }
        Command::Check { store } => return check::run(&store),
        Command::Serve { node, store } => {
            let original = std::env::var_os("SSH_ORIGINAL_COMMAND");
            serve::serve(&node, store.as_deref(), original).map_err(|error| error.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How a store is created where nobody said more: SHA-1, named after the host.
fn create_options() -> Result<InitOptions, Failure> {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let node: String = host
        .split('.')
        .next()
        .unwrap_or("")
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .collect();
    let node = check_node(node).or_else(|_| check_node("mailbraid".to_owned()));
    Ok(InitOptions {
        kind: HashKind::Sha1,
        node: node.map_err(|error| error.to_string())?,
    })
}

fn open_repo(store: &Path) -> Result<Repo, Failure> {
    let layout = Layout::new(store);
    if !layout.exists() {
        layout.check_usable().map_err(|error| error.to_string())?;
        return Err(StoreError::Missing(store.to_owned()).to_string());
    }
    Repo::open(&layout.repo()).map_err(|error| error.to_string())
}

fn progress(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(what)
}
