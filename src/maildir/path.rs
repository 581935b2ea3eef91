//! A path inside the mount: slash-joined bytes without a leading slash; the root is empty.

use std::fmt;

/// A path of the live tree, relative to the mount point. Any bytes but `/` and NUL may stand in a component.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The mount point itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// From slash-joined bytes; empty components are dropped, so `/a//b/` is `a/b`.
    #[must_use]
    pub fn new(raw: impl AsRef<[u8]>) -> Self {
        let mut joined = Vec::with_capacity(raw.as_ref().len());
        for part in raw
            .as_ref()
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            if !joined.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(part);
        }
        Self(joined)
    }

    /// This path with one more component.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        if !joined.is_empty() {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        Self(joined)
    }

    /// Slash-joined bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the mount point itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
    }

    /// The directory that holds it; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(self.before_name().to_vec()))
    }

    fn before_name(&self) -> &[u8] {
        let cut = self.0.iter().rposition(|&byte| byte == b'/');
        &self.0[..cut.unwrap_or(0)]
    }

    /// Whether both are in one directory.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        self.before_name() == other.before_name()
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or(b"")
    }

    /// The folder whose message this path is: the directory that holds its `cur` or `new`. `None` for all else.
    #[must_use]
    pub fn folder(&self) -> Option<Self> {
        let dir = self.parent()?;
        if matches!(dir.name(), b"cur" | b"new") {
            dir.parent()
        } else {
            None
        }
    }

    /// Whether `self` is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}
