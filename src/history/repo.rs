//! The repository as a whole: created, opened, its config and its refs.
//!
//! `init` writes the skeleton itself, synced; what stands in the config and why is in [`CONFIG`]. A store is a bare
//! repository whose config has `mailbraid.format`; a newer format is refused before anything is read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fresh::Fresh;
use super::hash::gix_kind;
use super::refs::{HEAD_REF, Refs};
use super::{HistoryError, Reader, durable, revision};
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// How a store is created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitOptions {
    /// The hash function of all objects, for good.
    pub kind: HashKind,
    /// The node's name (`mailbraid.node`).
    pub node: String,
}

/// What a new repository's config holds besides format and node.
///
/// Reflogs would repeat the history. gc and maintenance are ours, while mounted and otherwise (an administrator's `git gc` is safe at any
/// moment all the same). A push becomes one pack, not loose objects, is checked as `git fsck` checks, and is synced before it is acknowledged.
pub(super) const CONFIG: &str = "\
\tbare = true
\tfilemode = false
\tlogAllRefUpdates = false
\tfsync = all
[gc]
\tauto = 0
[maintenance]
\tauto = false
[receive]
\tunpackLimit = 1
\tautogc = false
\tfsckObjects = true
\tdenyDeletes = true
[fetch]
\tunpackLimit = 1
";

struct Inner {
    path: PathBuf,
    kind: HashKind,
    git: gix::ThreadSafeRepository,
    refs: Refs,
    fresh: Fresh,
}

/// The hidden repository. Cheap to clone, shared between threads; [`Repo::reader`] gives each thread its own reader.
#[derive(Clone)]
pub struct Repo {
    inner: Arc<Inner>,
}

impl Repo {
    /// Creates a bare repository, HEAD at `refs/heads/mail`, and opens it. All of it is durable when it returns. It is made beside its
    /// place, in `NAME.making`, and renamed: an interrupted creation leaves nothing at `path`, and what it left beside is removed.
    ///
    /// # Errors
    /// [`HistoryError::Exists`] where `path` holds anything; I/O errors.
    pub fn init(path: &Path, options: &InitOptions) -> Result<Self, HistoryError> {
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(HistoryError::Exists {
                        path: path.to_path_buf(),
                    });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(HistoryError::io("list", path)(error)),
        }
        let mut making = path.as_os_str().to_owned();
        making.push(".making");
        let making = Path::new(&making);
        match fs::remove_dir_all(making) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(HistoryError::io("remove", making)(error)),
        }
        for dir in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            durable::create_dirs(&making.join(dir))?;
        }
        durable::write_new(
            &making.join("HEAD"),
            format!("ref: {HEAD_REF}\n").as_bytes(),
            0o644,
        )?;
        let core = match options.kind {
            HashKind::Sha1 => "[core]\n\trepositoryformatversion = 0\n".to_owned(),
            HashKind::Sha256 => {
                "[extensions]\n\tobjectFormat = sha256\n[core]\n\trepositoryformatversion = 1\n"
                    .to_owned()
            }
        };
        let config = making.join("config");
        let text = edit(
            &config,
            format!("{core}{CONFIG}").as_bytes(),
            &[
                ("mailbraid.format", &limits::STORE_FORMAT.to_string()),
                ("mailbraid.node", &options.node),
            ],
        )?;
        durable::write_new(&config, &text, 0o644)?;
        durable::sync_dir(making)?;
        fs::rename(making, path).map_err(HistoryError::io("rename", making))?;
        durable::sync_dir(match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        })?;
        Self::open(path)
    }

    /// Opens a store's repository.
    ///
    /// # Errors
    /// [`HistoryError::NotARepository`], [`HistoryError::NewerFormat`], [`HistoryError::Config`], [`HistoryError::Unsupported`].
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let is_repository = path.join("HEAD").exists()
            && path.join("objects").is_dir()
            && path.join("refs").is_dir();
        if !is_repository {
            return Err(HistoryError::NotARepository {
                path: path.to_path_buf(),
            });
        }
        let config = read_config(path)?;
        let Some(format) = config.string("mailbraid.format") else {
            return Err(HistoryError::Unsupported {
                path: path.to_path_buf(),
                what: "not a mailbraid store: its config has no mailbraid.format; a clone of a store becomes one by `mailbraid init`".to_owned(),
            });
        };
        if !format
            .to_string()
            .parse::<u32>()
            .is_ok_and(|format| format <= limits::STORE_FORMAT)
        {
            return Err(HistoryError::NewerFormat {
                path: path.to_path_buf(),
                found: format.to_string(),
                known: limits::STORE_FORMAT,
            });
        }
        Self::open_any(path)
    }

    /// Opens a repository that is a store's, or is to become one.
    pub(super) fn open_any(path: &Path) -> Result<Self, HistoryError> {
        let unsupported = |what: &str| HistoryError::Unsupported {
            path: path.to_path_buf(),
            what: what.to_owned(),
        };
        if read_config(path)?
            .string("extensions.refStorage")
            .is_some_and(|storage| storage != "files")
        {
            return Err(unsupported("only refs in files are supported"));
        }
        let options = gix::open::Options::isolated()
            .with(gix::sec::Trust::Full)
            .open_path_as_is(true)
            .object_store_slots(gix::odb::store::init::Slots::Given(limits::PACK_SLOTS));
        let git = options
            .open(path)
            .map_err(HistoryError::git("cannot open the repository"))?;
        let kind = match git.to_thread_local().object_hash() {
            gix::hash::Kind::Sha1 => HashKind::Sha1,
            gix::hash::Kind::Sha256 => HashKind::Sha256,
            _ => return Err(unsupported("unknown object format")),
        };
        debug_assert_eq!(gix_kind(kind).len_in_bytes(), kind.len());
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_path_buf(),
                kind,
                git,
                refs: Refs::new(path, kind),
                fresh: Fresh::new(),
            }),
        })
    }

    /// The repository's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The hash function.
    #[must_use]
    pub fn kind(&self) -> HashKind {
        self.inner.kind
    }

    /// `objects/pack`.
    pub(super) fn pack_dir(&self) -> PathBuf {
        self.inner.path.join("objects/pack")
    }

    /// The objects that are there now: packs that come later are never seen. `None` where the list of packs cannot be read.
    ///
    /// Of other handles the library says that an object is not there only after it has read the list of packs twice without a change, and all of them in between. That is without
    /// end where peers send packs faster than it reads: a hundred and more had come for a node that was killed again and again, and its mount waited.
    pub(super) fn packs_now(&self) -> Option<gix::odb::Handle> {
        let options = gix::odb::store::init::Options {
            slots: gix::odb::store::init::Slots::Given(limits::PACK_SLOTS),
            ..gix::odb::store::init::Options::default()
        };
        let objects = self.inner.path.join("objects");
        let mut handle = gix::odb::at_opts(objects, gix_kind(self.kind()), None, options).ok()?;
        handle.ignore_replacements = true;
        handle.refresh_never();
        // All of them at once; else each one is read after a look into those before.
        handle.packed_object_count().ok()?;
        Some(handle)
    }

    /// A handle of the git library for the calling thread.
    pub(super) fn git(&self) -> gix::Repository {
        let mut git = self.inner.git.to_thread_local();
        // A `refs/replace/` that some peer sent must not change what we read.
        git.objects.ignore_replacements = true;
        // It may answer with what stood at the same place in a pack that is gone: see [`super::reader`].
        git.objects.unset_pack_cache();
        git
    }

    /// This node's head: `refs/heads/mail`.
    ///
    /// # Errors
    /// I/O errors, a malformed ref.
    pub fn head(&self) -> Result<Option<Oid>, HistoryError> {
        self.find_ref(HEAD_REF)
    }

    /// The value of a ref by its full name; `None` where there is none.
    ///
    /// # Errors
    /// I/O errors, a malformed ref or name.
    pub fn find_ref(&self, name: &str) -> Result<Option<Oid>, HistoryError> {
        self.inner.refs.read(name)
    }

    /// All refs whose full names start with `prefix`.
    ///
    /// # Errors
    /// I/O errors, a malformed ref.
    pub fn refs(&self, prefix: &str) -> Result<BTreeMap<String, Oid>, HistoryError> {
        self.inner.refs.list(prefix)
    }

    /// Sets a ref, if it is still what [`Repo::find_ref`] said (`None`: absent). Durable when it returns.
    ///
    /// # Errors
    /// [`HistoryError::RefMoved`], [`HistoryError::Locked`], I/O errors.
    pub fn update_ref(
        &self,
        name: &str,
        new: Oid,
        expected_old: Option<Oid>,
    ) -> Result<(), HistoryError> {
        self.inner.refs.update(name, new, expected_old)
    }

    /// Removes a ref that has the value `expected_old`. Durable when it returns.
    ///
    /// # Errors
    /// As [`Repo::update_ref`].
    pub fn delete_ref(&self, name: &str, expected_old: Oid) -> Result<(), HistoryError> {
        self.inner.refs.delete(name, expected_old)
    }

    /// Removes lock files that a killed process left behind. Only the daemon calls it, holding the store's lock.
    ///
    /// # Errors
    /// I/O errors.
    pub fn clear_stale_locks(&self) -> Result<(), HistoryError> {
        self.inner.refs.clear_stale()
    }

    /// A value of the repository's own config, as it stands in the file now; the last one where a key repeats. `key` is
    /// `section.name` or `section.subsection.name`.
    ///
    /// # Errors
    /// Where the config cannot be read.
    pub fn config_string(&self, key: &str) -> Result<Option<String>, HistoryError> {
        Ok(read_config(self.path())?
            .string(key)
            .map(|value| value.to_string()))
    }

    /// Sets a value in the repository's own config and keeps the rest of the file as it is. Durable when it returns.
    ///
    /// # Errors
    /// [`HistoryError::Config`], [`HistoryError::Locked`], I/O errors.
    pub fn set_config(&self, key: &str, value: &str) -> Result<(), HistoryError> {
        self.rewrite_config(|path, text| edit(path, text, &[(key, value)]))
    }

    /// Replaces the config by what is made of it, under git's own lock. Durable when it returns.
    pub(super) fn rewrite_config(
        &self,
        change: impl FnOnce(&Path, &[u8]) -> Result<Vec<u8>, HistoryError>,
    ) -> Result<(), HistoryError> {
        let path = self.path().join("config");
        let lock = self.inner.refs.lock(&path)?;
        let text = fs::read(&path).map_err(HistoryError::io("read", &path))?;
        let text = change(&path, &text)?;
        lock.commit(&path, &text)
    }

    /// The git remotes of the repository's own config that have a URL: name and URL, in order of their names.
    ///
    /// # Errors
    /// Where the config cannot be read.
    pub fn remotes(&self) -> Result<BTreeMap<String, String>, HistoryError> {
        let file = read_config(self.path())?;
        let mut found = BTreeMap::new();
        for section in file.sections_by_name("remote").into_iter().flatten() {
            let name = section.header().subsection_name();
            let url = section.body().value("url");
            if let (Some(name), Some(url)) = (name, url) {
                found.insert(name.to_string(), url.to_string());
            }
        }
        Ok(found)
    }

    /// Removes a git remote from the repository's own config; whether there was one. Durable when it returns.
    ///
    /// # Errors
    /// As [`Repo::set_config`].
    pub fn remove_remote(&self, name: &str) -> Result<bool, HistoryError> {
        let path = self.path().join("config");
        let lock = self.inner.refs.lock(&path)?;
        let text = fs::read(&path).map_err(HistoryError::io("read", &path))?;
        let mut file = parse_config(&path, &text)?;
        let mut any = false;
        while file.remove_section("remote", name).is_some() {
            any = true;
        }
        if any {
            let text: Vec<u8> = file.to_bstring().into();
            lock.commit(&path, &text)?;
        }
        Ok(any)
    }

    /// Objects that were written a moment ago.
    pub(super) fn fresh(&self) -> &Fresh {
        &self.inner.fresh
    }

    /// A reader for one thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self)
    }

    /// The commit that a revision names: anything git understands, or else a date (`2026-11-01 12:00`, local time where it
    /// names no zone): the last commit of the head that is not younger.
    ///
    /// # Errors
    /// [`HistoryError::Revision`] where it names none.
    pub fn resolve(&self, rev: &str) -> Result<Oid, HistoryError> {
        revision::resolve(self, rev)
    }
}

pub(super) type ConfigFile = gix::config::File;

pub(super) fn parse_config(path: &Path, text: &[u8]) -> Result<ConfigFile, HistoryError> {
    ConfigFile::from_bytes_no_includes(
        text,
        gix::config::file::Metadata::from(gix::config::Source::Local),
        Default::default(),
    )
    .map_err(|error| HistoryError::Config {
        path: path.to_path_buf(),
        reason: format!("{error:#}"),
    })
}

pub(super) fn read_config(git_dir: &Path) -> Result<ConfigFile, HistoryError> {
    let path = git_dir.join("config");
    let text = fs::read(&path).map_err(|error| HistoryError::Config {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    parse_config(&path, &text)
}

pub(super) fn edit(
    path: &Path,
    text: &[u8],
    values: &[(&str, &str)],
) -> Result<Vec<u8>, HistoryError> {
    let mut file = parse_config(path, text)?;
    for (key, value) in values {
        file.set_raw_value(*key, *value)
            .map_err(|error| HistoryError::Config {
                path: path.to_path_buf(),
                reason: format!("{key}: {error:#}"),
            })?;
    }
    Ok(file.to_bstring().into())
}
