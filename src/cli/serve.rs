//! `mailbraid serve --node NAME [--store STORE]`: the ssh forced command of a peer's key.
//!
//! ```text
//! # ~/.ssh/authorized_keys on this node
//! restrict,command="mailbraid serve --node b --store /srv/mail.store" ssh-ed25519 AAAA… b
//! ```
//!
//! ssh puts what the peer asked for into `SSH_ORIGINAL_COMMAND`. Of all that could stand there three forms are taken, `git-upload-pack 'PATH'`,
//! `git-receive-pack 'PATH'` (also spelt `git upload-pack`) and `mailbraid-receive-pack 'PATH'`, with PATH a store's repository; nothing of it reaches a shell or git's options. The
//! last is ours: [`crate::sync::receive_pack`]. For the others git does the work, with settings given through the environment, where the repository's own config cannot weaken them:
//! - every ref but `refs/mailbraid/peers/NAME` is hidden from receive-pack, and git refuses to update a hidden ref;
//! - objects are checked as `git fsck --strict` checks them, and stay in quarantine until they have passed;
//! - input is bounded, and objects and refs are synced before the reply. A peer may delete its own ref, which takes nothing from us.
//!
//! What git cannot know (tree format, UID laws) is checked before the braid.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::background::{self, Work};
use crate::history::Repo;
use crate::limits;
use crate::sync::connection::Service;
use crate::sync::receive_pack::{self, ReceiveError};

/// Why a peer was turned away.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not called by ssh.
    #[error(
        "serve is for ssh: put it into authorized_keys as command=\"mailbraid serve --node NAME\""
    )]
    NoCommand,
    /// A command we do not take.
    #[error("refused: only git-upload-pack and git-receive-pack with one path are served")]
    Command,
    /// A name that is no node name.
    #[error("{0:?} is no node name: use letters, digits, dots, dashes")]
    Node(String),
    /// A path that is no store's repository, or not the store this key may use.
    #[error("refused: {0} is no mailbraid store that this key may use")]
    Store(PathBuf),
    /// A peer's pushes came to a bad end.
    #[error(transparent)]
    Pushes(#[from] Box<ReceiveError>),
    /// git is missing.
    #[error("cannot run git: {0}; install git")]
    Git(String),
}

/// Whether a word may name a node: it becomes part of a ref's name and of a commit's trailer.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && !name.ends_with('.')
        && !name.ends_with(".lock")
        && !name.contains("..")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Serves one connection. For git's own services it returns only where it failed: otherwise git has replaced the process.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(
    node: &str,
    only: Option<&Path>,
    original: Option<OsString>,
) -> Result<(), ServeError> {
    if !is_node_name(node) {
        return Err(ServeError::Node(node.to_owned()));
    }
    let original = original.ok_or(ServeError::NoCommand)?;
    // git inherits it.
    background::begin(Work::Commits);
    let (service, path) = parse(original.to_str().ok_or(ServeError::Command)?)?;
    let repo = repository(&path, only)?;
    let words: &[&str] = match service {
        Service::Upload => &["upload-pack", "--strict"],
        Service::Receive => &["receive-pack"],
        Service::Pushes => return Ok(pushes(&repo, node).map_err(Box::new)?),
    };
    let mut command = Command::new("git");
    let settings = settings(node);
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (at, (key, value)) in settings.iter().enumerate() {
        command
            .env(format!("GIT_CONFIG_KEY_{at}"), key)
            .env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    for inherited in [
        "GIT_DIR",
        "GIT_CONFIG_PARAMETERS",
        "GIT_PROTOCOL_FROM_USER",
        "GIT_EXEC_PATH",
    ] {
        command.env_remove(inherited);
    }
    let failed = command.args(words).arg(repo).exec();
    Err(ServeError::Git(failed.to_string()))
}

fn pushes(repo: &Path, node: &str) -> Result<(), ReceiveError> {
    let repo = Repo::open(repo)?;
    // The library's own would send a reply in two parts, cut after its last line.
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    receive_pack::serve(&repo, node, io::stdin().lock(), File::from(output)).map(drop)
}

fn settings(node: &str) -> Vec<(&'static str, String)> {
    vec![
        ("safe.directory", "*".to_owned()),
        ("receive.hideRefs", "refs".to_owned()),
        ("receive.hideRefs", format!("!refs/mailbraid/peers/{node}")),
        ("receive.fsckObjects", "true".to_owned()),
        ("transfer.fsckObjects", "true".to_owned()),
        ("receive.denyDeletes", "true".to_owned()),
        ("receive.unpackLimit", "1".to_owned()),
        ("receive.maxInputSize", limits::PUSH_BYTES.to_string()),
        ("receive.autogc", "false".to_owned()),
        ("core.hooksPath", "/dev/null".to_owned()),
        ("core.fsync", "all".to_owned()),
        // One file and one sync less a push.
        ("pack.writeReverseIndex", "false".to_owned()),
        ("core.bigFileThreshold", "64m".to_owned()),
    ]
}

fn parse(original: &str) -> Result<(Service, PathBuf), ServeError> {
    let services = [Service::Upload, Service::Receive, Service::Pushes];
    let found = services.into_iter().find_map(|service| {
        let command = service.command();
        let rest = original.strip_prefix(command).or_else(|| {
            let bare = original.strip_prefix("git ")?;
            bare.strip_prefix(command.strip_prefix("git-")?)
        });
        Some((service, rest?.strip_prefix(' ')?))
    });
    let (service, argument) = found.ok_or(ServeError::Command)?;
    // git and gix quote the path for a shell; a quote within it would be '\'' and is not taken.
    let path = argument
        .strip_prefix('\'')
        .map_or(Some(argument), |quoted| quoted.strip_suffix('\''))
        .ok_or(ServeError::Command)?;
    if !path.starts_with('/') || path.contains(['\'', '"', '\\', '\0', '\n']) || path.contains(" -")
    {
        return Err(ServeError::Command);
    }
    Ok((service, PathBuf::from(path)))
}

/// The repository's directory for a path that names it or its store.
fn repository(path: &Path, only: Option<&Path>) -> Result<PathBuf, ServeError> {
    let refused = || ServeError::Store(path.to_owned());
    let inner = path.join("repo.git");
    let repo = if inner.join("HEAD").exists() {
        inner
    } else {
        path.to_owned()
    };
    let repo = repo.canonicalize().map_err(|_| refused())?;
    if repo.file_name().is_none_or(|name| name != "repo.git") || !repo.join("HEAD").exists() {
        return Err(refused());
    }
    if let Some(store) = only {
        let allowed = store.canonicalize().map_err(|_| refused())?;
        if repo.parent() != Some(allowed.as_path()) {
            return Err(refused());
        }
    }
    Ok(repo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_commands_are_taken() {
        for (text, service) in [
            ("git-upload-pack '/s/repo.git'", Service::Upload),
            ("git-receive-pack '/s/repo.git'", Service::Receive),
            ("git receive-pack /s/repo.git", Service::Receive),
            ("mailbraid-receive-pack '/s/repo.git'", Service::Pushes),
        ] {
            assert_eq!(
                parse(text).unwrap(),
                (service, PathBuf::from("/s/repo.git"))
            );
        }
        for text in [
            "",
            "ls",
            "git-upload-pack",
            "git-upload-archive '/s'",
            "git-receive-pack '/s' '/t'",
            "git-receive-pack '/s'; rm -rf /",
            "git -c core.sshCommand=x receive-pack '/s'",
            "git-receive-pack --exec=x",
            "git-receive-pack -c receive.fsckObjects=false '/s'",
            "git-receive-pack '/s/'\\''x'",
            "git-receive-pack s/repo.git",
            "git mailbraid-receive-pack '/s'",
            "mailbraid-receive-pack",
            "mailbraid-receive-pack --help",
        ] {
            assert!(matches!(parse(text), Err(ServeError::Command)), "{text}");
        }
    }

    #[test]
    fn node_names_make_refs() {
        for name in ["a", "mx1.example.org", "node-2", "A_b"] {
            assert!(is_node_name(name), "{name}");
        }
        for name in [
            "", ".a", "-a", "a..b", "a/b", "a b", "a.lock", "a.", "ä", "a\n",
        ] {
            assert!(!is_node_name(name), "{name}");
        }
    }
}
