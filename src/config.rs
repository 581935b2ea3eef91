//! Node, peers, policy: read from the repository's git config.
//!
//! | key | values | default |
//! |---|---|---|
//! | `mailbraid.node` | the node's name | set by `init` |
//! | `mailbraid.durability` | `strict`, `delivery`, `relaxed` | `delivery` |
//! | `mailbraid.assignUids` | a git boolean | `true` |
//! | `mailbraid.fetchEvery` | seconds between two looks at what a peer has | 10 |
//! | `mailbraid.packGrace` | seconds that a merged pack stays beside its successor | 15 |
//! | `mailbraid.peerTimeout` | seconds that a peer may be silent in the middle of an exchange | 60 |
//! | `mailbraid.peerCommits` | most commits that a peer may bring at once | 500000 |
//! | `core.sshCommand` | as for git; options of ours are added where it is OpenSSH | `ssh` |
//! | `mailbraid.format` | the store format | set by `init` |
//! | `remote.NAME.url` | a peer (`git remote` shows it) | — |

use crate::history::{HistoryError, Repo};

/// When a namespace operation is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Every namespace operation before it returns.
    Strict,
    /// Deliveries (rename or link of a new mail into `new/` or `cur/`) and explicit fsync before they return.
    #[default]
    Delivery,
    /// Explicit fsync only, as ext4 would.
    Relaxed,
}

impl Durability {
    /// As it stands in the config and among the mount options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Delivery => "delivery",
            Self::Relaxed => "relaxed",
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Strict, Self::Delivery, Self::Relaxed]
            .into_iter()
            .find(|durability| durability.name() == name)
    }
}

/// What the config says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This node's name.
    pub node: String,
    /// When a namespace operation is on the disk.
    pub durability: Durability,
    /// Whether a message gets its UID where it lands, and a folder is made with the numbers for its first server.
    pub assign_uids: bool,
}

/// Why the config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A value that must be there is not.
    #[error("{key} is not set: git -C {repo} config {key} VALUE")]
    Missing {
        /// The key.
        key: &'static str,
        /// The repository.
        repo: String,
    },
    /// A value that is none of those allowed.
    #[error("{key} is {value:?}, but must be {allowed}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What was found.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// The key of the node's name.
pub const NODE: &str = "mailbraid.node";
/// The key of the durability policy.
pub const DURABILITY: &str = "mailbraid.durability";
/// The key of the seconds between two fetches from a peer.
pub const FETCH_EVERY: &str = "mailbraid.fetchEvery";
/// The key of the seconds that a merged pack stays beside its successor.
pub const PACK_GRACE: &str = "mailbraid.packGrace";
/// The key of the seconds that a peer may be silent.
pub const PEER_TIMEOUT: &str = "mailbraid.peerTimeout";
/// The key of the most commits that a peer may bring at once.
pub const PEER_COMMITS: &str = "mailbraid.peerCommits";
/// The key of the UID policy.
pub const ASSIGN_UIDS: &str = "mailbraid.assignUids";

impl Config {
    /// Reads it as it stands in the file now.
    ///
    /// # Errors
    /// Where the file cannot be read or a value is not allowed.
    pub fn read(repo: &Repo) -> Result<Self, ConfigError> {
        let node = repo
            .config_string(NODE)?
            .ok_or_else(|| ConfigError::Missing {
                key: NODE,
                repo: repo.path().display().to_string(),
            })?;
        let node = check_node(node)?;
        let durability = match repo.config_string(DURABILITY)? {
            None => Durability::default(),
            Some(value) => Durability::from_name(&value).ok_or(ConfigError::Invalid {
                key: DURABILITY,
                value,
                allowed: "strict, delivery or relaxed",
            })?,
        };
        let assign_uids = match repo.config_string(ASSIGN_UIDS)? {
            None => true,
            Some(value) => match value.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => true,
                "false" | "no" | "off" | "0" | "" => false,
                _ => {
                    return Err(ConfigError::Invalid {
                        key: ASSIGN_UIDS,
                        value,
                        allowed: "true or false",
                    });
                }
            },
        };
        Ok(Self {
            node,
            durability,
            assign_uids,
        })
    }
}

/// A node's name is one component of a ref name and stands in an identity line: letters, digits, `.`, `_`, `-`, not led by `.` or
/// `-`, no `..`, not ended by `.lock` or `.`.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn check_node(name: String) -> Result<String, ConfigError> {
    let good = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
        && !name.ends_with(".lock")
        && !name.ends_with('.');
    if good {
        Ok(name)
    } else {
        Err(ConfigError::Invalid {
            key: NODE,
            value: name,
            allowed: "letters, digits, '.', '_' and '-' (at most 64)",
        })
    }
}

/// A peer: a git remote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// The peer's node name, and the remote's.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// The peers of the config, in order of their names, and for each that cannot be used a line that says why.
///
/// # Errors
/// Where the file cannot be read.
pub fn peers(repo: &Repo) -> Result<(Vec<Peer>, Vec<String>), HistoryError> {
    let (mut peers, mut faults) = (Vec::new(), Vec::new());
    for (name, url) in repo.remotes()? {
        match check_peer(&name, &url) {
            Ok(peer) => peers.push(peer),
            Err(why) => faults.push(why),
        }
    }
    Ok((peers, faults))
}

/// A peer that may stand in the config.
///
/// # Errors
/// One line that says what is wrong and what is allowed.
pub fn check_peer(name: &str, url: &str) -> Result<Peer, String> {
    check_node(name.to_owned()).map_err(|_| {
        format!("{name:?} cannot be a peer's name: give its node name (letters, digits, '.', '_' and '-', at most 64)")
    })?;
    let fault = |why: &str| {
        Err(format!(
            "peer {name}: {url:?} {why}: give ssh://USER@HOST/STORE, git://HOST/REPOSITORY, file:///STORE or an absolute path"
        ))
    };
    if url.is_empty() || url.starts_with('-') || url.chars().any(char::is_control) {
        return fault("is no URL");
    }
    match url.split_once("://") {
        Some(("ssh" | "git" | "file", rest)) if rest.starts_with('-') || rest.contains("@-") => {
            return fault("names a host that would be taken for an option");
        }
        Some(("ssh" | "git" | "file", rest)) if !rest.is_empty() => {}
        Some((scheme, _)) => {
            return fault(&format!(
                "has the scheme {scheme}, which is not spoken here"
            ));
        }
        None if url.contains("::") => {
            return fault("is for a helper program of git, and none is run here");
        }
        // USER@HOST:PATH, as ssh and git write it.
        None if !url.starts_with('/') => match url.split_once(':') {
            Some((host, path)) if !host.contains('/') && !host.is_empty() && !path.is_empty() => {
                if host.contains("@-") {
                    return fault("names a host that would be taken for an option");
                }
            }
            _ => return fault("is a relative path"),
        },
        None => {}
    }
    Ok(Peer {
        name: name.to_owned(),
        url: url.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::InitOptions;
    use crate::maildir::HashKind;

    #[test]
    fn the_config_is_read_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: HashKind::Sha1,
            node: "a.example".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        let config = Config::read(&repo).unwrap();
        assert_eq!(
            config,
            Config {
                node: "a.example".to_owned(),
                durability: Durability::Delivery,
                assign_uids: true
            }
        );
        repo.set_config(DURABILITY, "strict").unwrap();
        repo.set_config(ASSIGN_UIDS, "no").unwrap();
        repo.set_config("remote.b.url", "ssh://b/s").unwrap();
        let config = Config::read(&repo).unwrap();
        assert_eq!(config.durability, Durability::Strict);
        assert!(!config.assign_uids);
        assert_eq!(
            repo.config_string("remote.b.url").unwrap().as_deref(),
            Some("ssh://b/s")
        );
        repo.set_config(DURABILITY, "often").unwrap();
        let said = Config::read(&repo).unwrap_err().to_string();
        assert_eq!(
            said,
            "mailbraid.durability is \"often\", but must be strict, delivery or relaxed"
        );
    }

    #[test]
    fn node_names_fit_a_ref() {
        for name in ["a", "a.b-c_D9"] {
            assert!(check_node(name.to_owned()).is_ok());
        }
        for name in ["", ".a", "-a", "a b", "a/b", "a..b", "a.lock", "a.", "ä"] {
            assert!(check_node(name.to_owned()).is_err(), "{name}");
        }
    }

    #[test]
    fn peers_are_git_remotes() {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        repo.set_config("remote.mx1.example.org.url", "ssh://mx1/srv/store")
            .unwrap();
        repo.set_config("remote.c.url", "/srv/c.git").unwrap();
        repo.set_config("remote.bad name.url", "/x").unwrap();
        repo.set_config("remote.d.url", "https://d/x").unwrap();
        let (found, faults) = peers(&repo).unwrap();
        let names: Vec<&str> = found.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["c", "mx1.example.org"]);
        assert_eq!(found[1].url, "ssh://mx1/srv/store");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(repo.remove_remote("mx1.example.org").unwrap());
        assert!(!repo.remove_remote("mx1.example.org").unwrap());
        assert_eq!(
            repo.config_string("remote.c.url").unwrap().as_deref(),
            Some("/srv/c.git")
        );
    }

    #[test]
    fn urls_that_could_do_harm_are_refused() {
        for url in [
            "/srv/x",
            "ssh://mail@b.example/srv/x",
            "ssh://b:2222/x",
            "git://b/x",
            "file:///srv/x",
            "mail@b:/srv/x",
            "b:x",
        ] {
            assert!(check_peer("b", url).is_ok(), "{url}");
        }
        for url in [
            "",
            "-oProxyCommand=x",
            "ssh://-oProxyCommand=x/y",
            "ssh://u@-oProxyCommand=x/y",
            "u@-oProxyCommand=x:y",
            "ext::sh -c x",
            "https://b/x",
            "x/y",
            "x",
            "/a\nb",
            "ssh://",
        ] {
            let refused = check_peer("b", url).unwrap_err();
            assert!(!refused.contains('\n'), "{refused}");
        }
        assert!(check_peer("b/c", "/x").is_err());
    }
}
