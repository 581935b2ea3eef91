//! `mailbraid restore STORE REV PATH`: brings a message or a folder back from history, into the live mount.
//!
//! The problem: what was deleted shall be as it was, and yet nothing that is there now may change, no UID may return, and a keyword's letter may
//! have got another meaning. Rules:
//!
//! - Everything goes through the mount as any program's would: written in `tmp/`, dated, renamed to its place. So a message that returns is a new message to every
//!   server and gets a new UID, and running the same command again goes on where it stopped.
//! - A message that is there (its unique name in `cur` or `new` of the folder) is left alone, whatever its flags are now; so is every other file.
//! - The flag `T` is not restored: the next EXPUNGE would take the message away again.
//! - Keywords are restored by name: a letter becomes the one that the name has now. A name that the folder has no more is entered in its `dovecot-keywords`, the way
//!   Dovecot does it (`dovecot-keywords.lock` and rename). A letter that never had a name stays a letter where it still means nothing.
//!
//! Restoring a folder from its old tree id in one operation was rejected: it would undo what has come since.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;

use super::export::time;
use super::{control, import};
use crate::history::{HistoryError, Reader, Repo};
use crate::limits;
use crate::maildir::codec::keywords::{KEYWORDS_MAX, Keywords};
use crate::maildir::{Attrs, Oid, TreePath, hidden, name};
use crate::store::{Entry, EntryKind, Layout, Status};

/// The names of a folder's keywords, by number.
const KEYWORDS: &str = "dovecot-keywords";

/// Why a restoration ended early; what was restored stays.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The path was not there then.
    #[error(
        "{path}: not in {rev}; mailbraid log STORE shows what happened to it, export writes all of a revision"
    )]
    Absent {
        /// What was asked for.
        path: TreePath,
        /// Where it was looked for.
        rev: String,
    },
    /// Another program is about to write the folder's keywords.
    #[error("{0}: held by another program; run the same command again")]
    Held(PathBuf),
    /// The mount.
    #[error("{path}: {source}; run the same command again to go on")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RestoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// What a restoration did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Messages and files brought back.
    pub restored: u64,
    /// Those that are there.
    pub present: u64,
}

/// Where the store is mounted, as its daemon says.
///
/// # Errors
/// Where none serves it: a line for the user.
pub fn mountpoint(store: &Path) -> Result<PathBuf, String> {
    let status = control::ask(&Layout::new(store).control(), "status")?
        .and_then(|value| serde_json::from_value::<Status>(value).ok());
    match status.and_then(|status| status.mountpoint) {
        Some(mountpoint) => Ok(mountpoint.into()),
        None => Err(format!(
            "{}: not mounted; mount it first, what is restored comes through the mount",
            store.display()
        )),
    }
}

/// A path as the user gives it: below the mount point, or absolute and inside it.
#[must_use]
pub fn below(mountpoint: &Path, path: &OsStr) -> TreePath {
    let path = Path::new(path);
    let inside = path.strip_prefix(mountpoint).unwrap_or(path);
    TreePath::new(inside.as_os_str().as_bytes())
}

/// Brings `path` of `rev` back to the mount: a directory with all below it, or one message, also by its unique name alone (in its folder, or in `cur` or `new`).
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(
    repo: &Repo,
    rev: &str,
    path: &TreePath,
    mountpoint: &Path,
    progress: &ProgressBar,
) -> Result<Restored, RestoreError> {
    let reader = repo.reader();
    let root = reader.commit(repo.resolve(rev)?)?.tree;
    let (path, entry) = find(&reader, root, path)?.ok_or_else(|| RestoreError::Absent {
        path: path.clone(),
        rev: rev.to_owned(),
    })?;
    let mut restorer = Restorer {
        reader: &reader,
        root,
        mountpoint,
        progress,
        done: Restored::default(),
    };
    let parent = path.parent().unwrap_or_default();
    match (&entry.kind, path.folder()) {
        (EntryKind::Dir, _) => {
            restorer.make(&path)?;
            restorer.directory(&path, entry.oid)?;
        }
        (EntryKind::File(_), Some(folder)) => {
            for sub in [&b"cur"[..], b"new", b"tmp"] {
                restorer.make(&folder.join(sub))?;
            }
            restorer.messages(&folder, parent.name(), vec![entry])?;
        }
        (EntryKind::File(attrs), None) => {
            restorer.make(&parent)?;
            restorer.file(&path, entry.oid, attrs)?;
        }
    }
    Ok(restorer.done)
}

/// The path itself, or the message of that unique name in `cur` or `new` of its folder.
fn find(
    reader: &Reader,
    root: Oid,
    path: &TreePath,
) -> Result<Option<(TreePath, Entry)>, RestoreError> {
    if let Some(entry) = reader.lookup(root, path)? {
        return Ok(Some((path.clone(), entry)));
    }
    let Some(folder) = path.folder().or_else(|| path.parent()) else {
        return Ok(None);
    };
    let wanted = name::identity(path.name());
    for sub in [&b"cur"[..], b"new"] {
        let dir = folder.join(sub);
        let Some(found) = reader.lookup(root, &dir)? else {
            continue;
        };
        if found.kind != EntryKind::Dir {
            continue;
        }
        let entries = reader.dir(found.oid)?.into_iter();
        let mut same = entries.filter(|entry| name::identity(&entry.name) == wanted);
        if let Some(entry) = same.next() {
            return Ok(Some((dir.join(&entry.name), entry)));
        }
    }
    Ok(None)
}

struct Restorer<'a> {
    reader: &'a Reader,
    /// The tree of the revision.
    root: Oid,
    mountpoint: &'a Path,
    progress: &'a ProgressBar,
    done: Restored,
}

impl Restorer<'_> {
    fn at(&self, path: &TreePath) -> PathBuf {
        self.mountpoint.join(OsStr::from_bytes(path.as_bytes()))
    }

    /// Makes a directory of the mount and those above it.
    fn make(&self, path: &TreePath) -> Result<(), RestoreError> {
        let dir = self.at(path);
        fs::create_dir_all(&dir).map_err(RestoreError::io(&dir))
    }

    /// Brings one file of the revision to a place where there is none.
    fn place(&self, path: &TreePath, blob: Oid, attrs: &Attrs) -> Result<(), RestoreError> {
        let content = self.reader.blob(blob)?;
        let below = Path::new(OsStr::from_bytes(path.as_bytes()));
        import::place(
            &mut content.as_slice(),
            time(attrs.mtime),
            self.mountpoint,
            below,
        )
        .map_err(RestoreError::io(&self.at(path)))
    }

    fn directory(&mut self, path: &TreePath, tree: Oid) -> Result<(), RestoreError> {
        let mut entries = self.reader.dir(tree)?;
        // By name is by time of delivery, so that what comes back gets its UIDs in the old order.
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        let (dirs, files): (Vec<Entry>, Vec<Entry>) = entries
            .into_iter()
            .partition(|entry| entry.kind == EntryKind::Dir);
        // All of a folder's directories before its messages, which pass through `tmp`.
        for dir in &dirs {
            self.make(&path.join(&dir.name))?;
        }
        self.progress.inc_length(files.len() as u64);
        if matches!(path.name(), b"cur" | b"new")
            && let Some(folder) = path.parent()
        {
            self.make(&folder.join(b"tmp"))?;
            self.messages(&folder, path.name(), files)?;
        } else {
            for file in &files {
                if let EntryKind::File(attrs) = &file.kind {
                    self.file(&path.join(&file.name), file.oid, attrs)?;
                }
            }
        }
        for dir in &dirs {
            self.directory(&path.join(&dir.name), dir.oid)?;
        }
        Ok(())
    }

    /// A file that is no message.
    fn file(&mut self, path: &TreePath, blob: Oid, attrs: &Attrs) -> Result<(), RestoreError> {
        let to = self.at(path);
        self.progress.inc(1);
        if to.exists() {
            self.done.present += 1;
            return Ok(());
        }
        self.place(path, blob, attrs)?;
        self.done.restored += 1;
        Ok(())
    }

    /// Messages of one folder's `cur` or `new`.
    fn messages(
        &mut self,
        folder: &TreePath,
        sub: &[u8],
        messages: Vec<Entry>,
    ) -> Result<(), RestoreError> {
        let mut present = HashSet::new();
        for sub in [&b"cur"[..], b"new"] {
            let dir = self.at(&folder.join(sub));
            match fs::read_dir(&dir) {
                Ok(listing) => {
                    for entry in listing {
                        let entry = entry.map_err(RestoreError::io(&dir))?;
                        let name = entry.file_name();
                        present.insert(name::identity(name.as_bytes()).into_owned());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RestoreError::io(&dir)(error)),
            }
        }
        let before = messages.len();
        let missing: Vec<Entry> = messages
            .into_iter()
            .filter(|entry| !present.contains(name::identity(&entry.name).as_ref()))
            .collect();
        let there = (before - missing.len()) as u64;
        self.done.present += there;
        self.progress.inc(there);
        let letters = self.letters(folder, &missing)?;
        for entry in &missing {
            let EntryKind::File(attrs) = &entry.kind else {
                continue;
            };
            let name = renamed(entry, attrs, &letters);
            // Only `cur` shows flags.
            let sub = if name::split(&name).1.is_some() {
                b"cur"
            } else {
                sub
            };
            self.place(&folder.join(sub).join(&name), entry.oid, attrs)?;
            self.done.restored += 1;
            self.progress.inc(1);
        }
        Ok(())
    }

    /// What becomes of each keyword letter of `messages`: the letter of the same name in the folder as it is now. `None`: the folder has no room for it.
    fn letters(
        &self,
        folder: &TreePath,
        messages: &[Entry],
    ) -> Result<BTreeMap<u8, Option<u8>>, RestoreError> {
        let used: BTreeSet<u8> = messages
            .iter()
            .filter_map(|entry| match &entry.kind {
                EntryKind::File(attrs) => Some(keywords(entry, attrs)),
                EntryKind::Dir => None,
            })
            .flatten()
            .collect();
        if used.is_empty() {
            return Ok(BTreeMap::new());
        }
        let then = match self.reader.lookup(self.root, folder)? {
            Some(found) => self.reader.mailbox(found.oid)?.unwrap_or_default().keywords,
            None => BTreeMap::new(),
        };
        let file = self.at(&folder.join(KEYWORDS.as_bytes()));
        let mut now = match fs::read(&file) {
            Ok(text) => Keywords::parse(&text).map_err(|malformed| {
                RestoreError::io(&file)(io::Error::other(malformed.to_string()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Keywords::default(),
            Err(error) => return Err(RestoreError::io(&file)(error)),
        };
        let mut letters = BTreeMap::new();
        let mut grown = false;
        for letter in used {
            let number = letter - b'a';
            let Some(keyword) = then.get(&number) else {
                // It means nothing, and shall not come to mean something.
                let free = !now.names.contains_key(&number);
                letters.insert(letter, free.then_some(letter));
                continue;
            };
            let known = now
                .names
                .iter()
                .find(|(_, name)| name.eq_ignore_ascii_case(keyword))
                .map(|(&number, _)| number);
            let number = known.or_else(|| {
                let free = (0..KEYWORDS_MAX as u8).find(|at| !now.names.contains_key(at))?;
                now.names.insert(free, keyword.clone());
                grown = true;
                Some(free)
            });
            letters.insert(letter, number.map(|number| b'a' + number));
        }
        if grown {
            enter(&file, &now)?;
        }
        Ok(letters)
    }
}

/// The keyword letters that a message had.
fn keywords(entry: &Entry, attrs: &Attrs) -> Vec<u8> {
    let letters = match attrs.ext.get(&hidden::KEYWORDS) {
        Some(letters) => letters.as_slice(),
        None => name::flags(&entry.name),
    };
    let letters = letters.iter().copied();
    letters.filter(u8::is_ascii_lowercase).collect()
}

/// The name that a message comes back under.
fn renamed(entry: &Entry, attrs: &Attrs, letters: &BTreeMap<u8, Option<u8>>) -> Vec<u8> {
    let (unique, info) = name::split(&entry.name);
    let wanted = keywords(entry, attrs)
        .into_iter()
        .filter_map(|letter| letters.get(&letter).copied().flatten());
    match info.map(|info| info.strip_prefix(b"2,")) {
        Some(Some(flags)) => {
            let mut all: Vec<u8> = flags
                .iter()
                .copied()
                .filter(|&letter| letter != b'T' && !letter.is_ascii_lowercase())
                .collect();
            all.extend(wanted);
            name::with_flags(unique, &all)
        }
        _ => name::with_keywords(&entry.name, wanted),
    }
}

/// Writes the folder's keywords as Dovecot does: into the lock file, which then takes the file's place.
fn enter(file: &Path, keywords: &Keywords) -> Result<(), RestoreError> {
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let deadline = Instant::now() + limits::KEYWORDS_LOCK_WAIT;
    let mut held = loop {
        match File::create_new(&lock) {
            Ok(held) => break held,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if Instant::now() > deadline {
                    return Err(RestoreError::Held(lock));
                }
                std::thread::sleep(limits::LOCK_POLL);
            }
            Err(error) => return Err(RestoreError::io(&lock)(error)),
        }
    };
    held.write_all(&keywords.encode())
        .and_then(|()| fs::rename(&lock, file))
        .map_err(|error| {
            let _ = fs::remove_file(&lock);
            RestoreError::io(file)(error)
        })
}
