//! Object ids computed as git computes them: over `TYPE SIZE NUL CONTENT`.

use crate::maildir::{HashKind, Oid};

/// The kinds of objects we write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum ObjectKind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl ObjectKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// The git library's name for a hash function.
pub(crate) const fn gix_kind(kind: HashKind) -> gix::hash::Kind {
    match kind {
        HashKind::Sha1 => gix::hash::Kind::Sha1,
        HashKind::Sha256 => gix::hash::Kind::Sha256,
    }
}

/// Our id as the git library holds it.
pub(crate) fn to_gix(oid: Oid) -> gix::ObjectId {
    gix::ObjectId::from_bytes_or_panic(oid.as_bytes())
}

/// The git library's name for a kind of object.
pub(crate) const fn to_gix_kind(kind: ObjectKind) -> gix::objs::Kind {
    match kind {
        ObjectKind::Commit => gix::objs::Kind::Commit,
        ObjectKind::Tree => gix::objs::Kind::Tree,
        ObjectKind::Blob => gix::objs::Kind::Blob,
        ObjectKind::Tag => gix::objs::Kind::Tag,
    }
}

/// Ours.
pub(crate) const fn from_gix_kind(kind: gix::objs::Kind) -> ObjectKind {
    match kind {
        gix::objs::Kind::Commit => ObjectKind::Commit,
        gix::objs::Kind::Tree => ObjectKind::Tree,
        gix::objs::Kind::Blob => ObjectKind::Blob,
        gix::objs::Kind::Tag => ObjectKind::Tag,
    }
}

/// The git library's id as we hold it.
pub(crate) fn from_gix(id: impl AsRef<gix::oid>) -> Oid {
    Oid::from_bytes(id.as_ref().as_bytes()).expect("because the library's ids have 20 or 32 bytes")
}

/// The id of any object; the null id where SHA-1 collision detection fires.
pub(crate) fn hash_object(kind: HashKind, object: ObjectKind, content: &[u8]) -> Oid {
    let mut hasher = Hasher::new(kind, object, content.len() as u64);
    hasher.update(content);
    hasher.finish()
}

/// The id of a blob with this content.
///
/// The null id means that the content carries a SHA-1 collision attack, which git (and we) detect: no repository can hold it, and
/// the caller refuses the file.
#[must_use]
pub fn hash_blob(kind: HashKind, content: &[u8]) -> Oid {
    hash_object(kind, ObjectKind::Blob, content)
}

/// A checksum over raw bytes, as packs and their indices end with.
pub(crate) struct Checksum {
    kind: HashKind,
    inner: gix::hash::Hasher,
}

impl Checksum {
    pub(crate) fn new(kind: HashKind) -> Self {
        Self {
            kind,
            inner: gix::hash::hasher(gix_kind(kind)),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The null id where SHA-1 collision detection fires.
    pub(crate) fn finish(self) -> Oid {
        let kind = self.kind;
        self.inner
            .try_finalize()
            .map_or_else(|_| Oid::null(kind), from_gix)
    }
}

/// Computes an object's id piece by piece.
pub(crate) struct Hasher {
    sum: Checksum,
}

impl Hasher {
    pub(crate) fn new(kind: HashKind, object: ObjectKind, len: u64) -> Self {
        let mut sum = Checksum::new(kind);
        sum.update(object.name().as_bytes());
        sum.update(b" ");
        sum.update(len.to_string().as_bytes());
        sum.update(b"\0");
        Self { sum }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
    }

    pub(crate) fn finish(self) -> Oid {
        self.sum.finish()
    }
}

/// Computes the id of a blob piece by piece; the length must be known before.
pub struct BlobHasher {
    inner: Hasher,
    left: u64,
}

impl BlobHasher {
    /// A hasher for a blob of `len` bytes.
    #[must_use]
    pub fn new(kind: HashKind, len: u64) -> Self {
        Self {
            inner: Hasher::new(kind, ObjectKind::Blob, len),
            left: len,
        }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.left = self.left.wrapping_sub(bytes.len() as u64);
        self.inner.update(bytes);
    }

    /// The id; the null id where fewer or more bytes came than announced, or where [`hash_blob`] would say so.
    #[must_use]
    pub fn finish(self) -> Oid {
        let kind = self.inner.sum.kind;
        if self.left == 0 {
            self.inner.finish()
        } else {
            Oid::null(kind)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_gits() {
        for (kind, empty_blob, empty_tree) in [
            (
                HashKind::Sha1,
                "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
                "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            ),
            (
                HashKind::Sha256,
                "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
                "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
            ),
        ] {
            assert_eq!(hash_blob(kind, b"").to_string(), empty_blob);
            assert_eq!(
                hash_object(kind, ObjectKind::Tree, b"").to_string(),
                empty_tree
            );
        }
    }

    #[test]
    fn a_blob_hashed_in_pieces_has_the_same_id() {
        let content = vec![7; 100_000];
        let mut hasher = BlobHasher::new(HashKind::Sha1, 100_000);
        for piece in content.chunks(999) {
            hasher.update(piece);
        }
        assert_eq!(hasher.finish(), hash_blob(HashKind::Sha1, &content));
        let mut short = BlobHasher::new(HashKind::Sha1, 5);
        short.update(b"1234");
        assert_eq!(short.finish(), Oid::null(HashKind::Sha1));
    }
}
