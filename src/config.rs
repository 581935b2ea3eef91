//! Node, peers, policy: read from the repository's git config.
//!
//! | key | values | default |
//! |---|---|---|
//! | `mailbraid.node` | the node's name | set by `init` |
//! | `mailbraid.durability` | `strict`, `delivery`, `relaxed` | `delivery` |
//! | `mailbraid.assignUids` | a git boolean | `true` |
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
    /// Whether a message gets its UID where it lands.
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
}
