//! Object ids, held without the git library so that pure modules can speak of them.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The hash function of a repository (git `extensions.objectFormat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum HashKind {
    /// SHA-1: 20 bytes, git's default.
    #[default]
    Sha1,
    /// SHA-256: 32 bytes.
    Sha256,
}

impl HashKind {
    /// Length of an id in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Never true; here because a `len` asks for it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The name git uses in `extensions.objectFormat` and `--object-format`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }
}

/// A git object id of either hash kind. Ordered by bytes, as git orders ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oid {
    bytes: [u8; 32],
    len: u8,
}

/// It is a hash: some bytes of it tell it from all others.
impl Hash for Oid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes[..8]);
    }
}

impl Oid {
    /// From raw bytes; `None` unless there are 20 or 32 of them.
    #[must_use]
    pub fn from_bytes(raw: &[u8]) -> Option<Self> {
        if raw.len() != 20 && raw.len() != 32 {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..raw.len()].copy_from_slice(raw);
        Some(Self {
            bytes,
            len: raw.len() as u8,
        })
    }

    /// From 40 or 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        if hex.len() != 40 && hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, pair) in hex.chunks_exact(2).enumerate() {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            bytes[at] = (high * 16 + low) as u8;
        }
        Some(Self {
            bytes,
            len: (hex.len() / 2) as u8,
        })
    }

    /// The null id, which git writes for "no such ref".
    #[must_use]
    pub fn null(kind: HashKind) -> Self {
        Self {
            bytes: [0; 32],
            len: kind.len() as u8,
        }
    }

    /// The raw bytes, as they stand in a tree object.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The hash function that made it.
    #[must_use]
    pub fn kind(&self) -> HashKind {
        if self.len == 20 {
            HashKind::Sha1
        } else {
            HashKind::Sha256
        }
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
