//! Refs: read past the git library (its view may be cached), written by git's own lock protocol and synced.
//!
//! A ref is the file `NAME` (a hexadecimal id and a newline), or else its line in `packed-refs`. To change it:
//! `NAME.lock` is created with O_EXCL, the old value is read under it, the new one is written and synced, the lock is renamed to
//! `NAME`, and the directory is synced. The ref is durable when [`Refs::update`] returns. `git pack-refs`, `git update-ref` and `git receive-pack` take the
//! same lock, so none of them loses an update of ours, nor we theirs.
//!
//! **Stale locks.** A process killed between O_EXCL and rename leaves its lock behind, and git waits for a human then. We cannot:
//! [`Refs::clear_stale`] is called by the daemon, and by it alone (it holds the store's lock, so no other process of ours changes refs
//! here). It removes locks older than [`limits::REF_LOCK_STALE`]; the lock of the head, which nobody but a previous daemon
//! takes for longer than an instant, already after [`limits::HEAD_LOCK_STALE`].
//! Age is the lock's mtime against a file written just then, so only one clock is asked.
//!
//! No reflogs: the head only ever moves forward, its history is the log.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{HistoryError, durable};
use crate::limits;
use crate::maildir::{HashKind, Oid};

/// This node's line of history.
pub const HEAD_REF: &str = "refs/heads/mail";

/// The refs of one repository.
pub(super) struct Refs {
    git_dir: PathBuf,
    kind: HashKind,
}

impl Refs {
    pub(super) fn new(git_dir: &Path, kind: HashKind) -> Self {
        Self {
            git_dir: git_dir.to_path_buf(),
            kind,
        }
    }

    /// The value of a ref; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Oid>, HistoryError> {
        check_name(name)?;
        // A ref on its way from its file into packed-refs is written there first and its file removed after: read in this order
        // it is seen at every instant. The way back (update) writes the file first, so one more look at the file settles it.
        if let Some(oid) = self.read_loose(name)? {
            return Ok(Some(oid));
        }
        if let Some(oid) = self.packed()?.get(name) {
            return Ok(Some(self.read_loose(name)?.unwrap_or(*oid)));
        }
        self.read_loose(name)
    }

    /// All refs whose names start with `prefix`, in order of their names.
    pub(super) fn list(&self, prefix: &str) -> Result<BTreeMap<String, Oid>, HistoryError> {
        let mut found = BTreeMap::new();
        // Files first, packed refs after, files win: a ref that moves in between is not missed (see `read`).
        let mut todo = vec![(self.git_dir.join("refs"), "refs".to_owned())];
        while let Some((dir, name)) = todo.pop() {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(HistoryError::io("list", &dir)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(HistoryError::io("list", &dir))?;
                let Ok(part) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{name}/{part}");
                let kin = name.starts_with(prefix) || prefix.starts_with(&name);
                if !kin || check_name(&name).is_err() {
                    continue;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push((entry.path(), name));
                } else if name.starts_with(prefix)
                    && let Some(oid) = self.read_loose(&name)?
                {
                    found.insert(name, oid);
                }
            }
        }
        for (name, oid) in self.packed()? {
            if name.starts_with(prefix) {
                found.entry(name).or_insert(oid);
            }
        }
        Ok(found)
    }

    /// Sets a ref if it is now what [`Refs::read`] said (`None`: absent). Durable when it returns.
    pub(super) fn update(
        &self,
        name: &str,
        new: Oid,
        expected: Option<Oid>,
    ) -> Result<(), HistoryError> {
        check_name(name)?;
        let path = self.git_dir.join(name);
        let lock = self.lock(&path)?;
        let found = self.read(name)?;
        if found != expected {
            return Err(HistoryError::RefMoved {
                name: name.to_owned(),
                expected,
                found,
            });
        }
        lock.commit(&path, format!("{new}\n").as_bytes())
    }

    /// Removes a ref that has the value `expected`. Durable when it returns.
    pub(super) fn delete(&self, name: &str, expected: Oid) -> Result<(), HistoryError> {
        check_name(name)?;
        let path = self.git_dir.join(name);
        let lock = self.lock(&path)?;
        let found = self.read(name)?;
        if found != Some(expected) {
            return Err(HistoryError::RefMoved {
                name: name.to_owned(),
                expected: Some(expected),
                found,
            });
        }
        // From packed-refs first: the other way round a crash would bring an older value back.
        let packed = self.git_dir.join("packed-refs");
        let packed_lock = self.lock(&packed)?;
        if let Some(text) = read_file(&packed)? {
            let mut kept = Vec::with_capacity(text.len());
            let mut dropped = false;
            for line in text.split_inclusive(|&byte| byte == b'\n') {
                let ours = line
                    .trim_ascii_end()
                    .strip_suffix(name.as_bytes())
                    .is_some_and(|rest| rest.ends_with(b" ") && !line.starts_with(b"#"));
                if ours || (dropped && line.starts_with(b"^")) {
                    dropped = true;
                } else {
                    dropped = false;
                    kept.extend_from_slice(line);
                }
            }
            if kept != text {
                packed_lock.commit(&packed, &kept)?;
            }
        }
        match fs::remove_file(&path) {
            Ok(()) => durable::sync_dir(parent(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(HistoryError::io("remove", &path)(error)),
        }
        drop(lock);
        Ok(())
    }

    /// Removes locks that a killed process left behind (see the module's header). Waits for a young lock of the head to go or to grow
    /// old.
    pub(super) fn clear_stale(&self) -> Result<(), HistoryError> {
        let head_lock = lock_path(&self.git_dir.join(HEAD_REF));
        while let Some(age) = self.age(&head_lock)? {
            if age >= limits::HEAD_LOCK_STALE {
                remove_lock(&head_lock)?;
                break;
            }
            std::thread::sleep(limits::LOCK_POLL);
        }
        let mut todo = vec![self.git_dir.join("refs")];
        let mut locks = ["packed-refs.lock", "config.lock", "HEAD.lock"]
            .map(|name| self.git_dir.join(name))
            .to_vec();
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(path);
                } else if path.extension().is_some_and(|ext| ext == "lock") {
                    locks.push(path);
                }
            }
        }
        for lock in locks {
            if self
                .age(&lock)?
                .is_some_and(|age| age >= limits::REF_LOCK_STALE)
            {
                remove_lock(&lock)?;
            }
        }
        Ok(())
    }

    /// How old a file is by its filesystem's clock; `None` where it is gone.
    fn age(&self, path: &Path) -> Result<Option<Duration>, HistoryError> {
        let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
        let then = match modified(path) {
            Ok(then) => then,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HistoryError::io("stat", path)(error)),
        };
        let now = tempfile::NamedTempFile::new_in(&self.git_dir)
            .and_then(|probe| modified(probe.path()))
            // A full or read-only disk must not keep us from starting.
            .unwrap_or_else(|_| SystemTime::now());
        Ok(Some(now.duration_since(then).unwrap_or_default()))
    }

    fn read_loose(&self, name: &str) -> Result<Option<Oid>, HistoryError> {
        let Some(text) = read_file(&self.git_dir.join(name))? else {
            return Ok(None);
        };
        match Oid::from_hex(text.trim_ascii()) {
            Some(oid) if oid.kind() == self.kind => Ok(Some(oid)),
            _ => Err(HistoryError::BadRef {
                name: name.to_owned(),
            }),
        }
    }

    fn packed(&self) -> Result<BTreeMap<String, Oid>, HistoryError> {
        let text = read_file(&self.git_dir.join("packed-refs"))?.unwrap_or_default();
        let mut refs = BTreeMap::new();
        for line in text.split(|&byte| byte == b'\n') {
            if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"^") {
                continue;
            }
            let parsed = line
                .split_at_checked(2 * self.kind.len())
                .and_then(|(hex, rest)| {
                    let name = std::str::from_utf8(rest.strip_prefix(b" ")?).ok()?;
                    Some((name.to_owned(), Oid::from_hex(hex)?))
                });
            let (name, oid) = parsed.ok_or_else(|| HistoryError::BadRef {
                name: "packed-refs".to_owned(),
            })?;
            refs.insert(name, oid);
        }
        Ok(refs)
    }

    /// Takes `PATH.lock`, waiting a little for whoever holds it.
    pub(super) fn lock(&self, path: &Path) -> Result<Lock, HistoryError> {
        let lock = lock_path(path);
        let since = Instant::now();
        loop {
            let opened = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&lock);
            match opened {
                Ok(file) => {
                    return Ok(Lock {
                        file,
                        path: lock,
                        done: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if since.elapsed() >= limits::LOCK_WAIT {
                        return Err(HistoryError::Locked { path: lock });
                    }
                    std::thread::sleep(limits::LOCK_POLL);
                }
                // The first ref below a directory, or git has just removed the empty directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if since.elapsed() >= limits::LOCK_WAIT {
                        return Err(HistoryError::io("create", &lock)(error));
                    }
                    durable::create_dirs(parent(&lock))?;
                }
                Err(error) => return Err(HistoryError::io("create", &lock)(error)),
            }
        }
    }
}

/// A held lock file; removed unless committed.
pub(super) struct Lock {
    file: fs::File,
    path: PathBuf,
    done: bool,
}

impl Lock {
    /// Writes the content, syncs it, and renames the lock to its target.
    pub(super) fn commit(mut self, target: &Path, content: &[u8]) -> Result<(), HistoryError> {
        use io::Write as _;
        self.file
            .write_all(content)
            .and_then(|()| self.file.sync_data())
            .map_err(HistoryError::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(HistoryError::io("rename", &self.path))?;
        self.done = true;
        durable::sync_dir(parent(target))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.done {
            // Should this fail, `clear_stale` finds it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_lock(lock: &Path) -> Result<(), HistoryError> {
    log::warn!(
        "removing {}: its owner is gone and left it behind",
        lock.display()
    );
    match fs::remove_file(lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HistoryError::io("remove", lock)(error))
        }
        _ => Ok(()),
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, HistoryError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(HistoryError::io("read", path)(error)),
    }
}

/// git's rules for ref names (`git help check-ref-format`), below `refs/`.
fn check_name(name: &str) -> Result<(), HistoryError> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad = !name.starts_with("refs/")
        || name.ends_with('.')
        || name.contains("..")
        || name.contains("@{")
        || name.split('/').any(bad_part)
        || name
            .bytes()
            .any(|byte| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte));
    if bad {
        return Err(HistoryError::BadRef {
            name: name.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refs() -> (tempfile::TempDir, Refs) {
        let dir = tempfile::tempdir().unwrap();
        let refs = Refs::new(dir.path(), HashKind::Sha1);
        (dir, refs)
    }

    fn oid(byte: u8) -> Oid {
        Oid::from_bytes(&[byte; 20]).unwrap()
    }

    #[test]
    fn a_ref_is_set_read_and_removed() {
        let (_dir, refs) = refs();
        let name = "refs/mailbraid/peers/a";
        assert_eq!(refs.read(name).unwrap(), None);
        refs.update(name, oid(1), None).unwrap();
        assert_eq!(refs.read(name).unwrap(), Some(oid(1)));
        refs.update(name, oid(2), Some(oid(1))).unwrap();
        assert!(matches!(
            refs.update(name, oid(3), Some(oid(1))),
            Err(HistoryError::RefMoved { found: Some(found), .. }) if found == oid(2)
        ));
        assert_eq!(
            refs.list("refs/mailbraid/").unwrap(),
            [(name.to_owned(), oid(2))].into()
        );
        refs.delete(name, oid(2)).unwrap();
        assert_eq!(refs.read(name).unwrap(), None);
    }

    #[test]
    fn packed_refs_are_read_and_files_win() {
        let (dir, refs) = refs();
        let text = format!(
            "# pack-refs with: peeled fully-peeled sorted \n{} refs/heads/mail\n{} refs/tags/t\n^{}\n",
            oid(1),
            oid(2),
            oid(3)
        );
        fs::write(dir.path().join("packed-refs"), text).unwrap();
        assert_eq!(refs.read(HEAD_REF).unwrap(), Some(oid(1)));
        refs.update(HEAD_REF, oid(4), Some(oid(1))).unwrap();
        assert_eq!(
            refs.list("refs/").unwrap(),
            [
                (HEAD_REF.to_owned(), oid(4)),
                ("refs/tags/t".to_owned(), oid(2))
            ]
            .into()
        );
        refs.delete("refs/tags/t", oid(2)).unwrap();
        refs.delete(HEAD_REF, oid(4)).unwrap();
        assert!(refs.list("refs/").unwrap().is_empty());
    }

    #[test]
    fn a_held_lock_is_waited_for_and_then_named() {
        let (dir, refs) = refs();
        let lock = refs.lock(&dir.path().join(HEAD_REF)).unwrap();
        assert!(matches!(
            refs.update(HEAD_REF, oid(1), None),
            Err(HistoryError::Locked { .. })
        ));
        drop(lock);
        refs.update(HEAD_REF, oid(1), None).unwrap();
    }

    #[test]
    fn a_lock_left_by_a_kill_does_not_wedge_the_head() {
        let (dir, refs) = refs();
        for name in [HEAD_REF, "refs/mailbraid/peers/a", "refs/mailbraid/peers/b"] {
            refs.update(name, oid(1), None).unwrap();
            fs::write(dir.path().join(format!("{name}.lock")), b"").unwrap();
        }
        let old = SystemTime::now() - limits::REF_LOCK_STALE - Duration::from_secs(1);
        let lock = dir.path().join("refs/mailbraid/peers/a.lock");
        fs::File::options()
            .write(true)
            .open(&lock)
            .unwrap()
            .set_modified(old)
            .unwrap();
        refs.clear_stale().unwrap();
        refs.update(HEAD_REF, oid(2), Some(oid(1))).unwrap();
        assert!(!lock.exists());
        assert!(dir.path().join("refs/mailbraid/peers/b.lock").exists());
    }

    #[test]
    fn bad_names_are_refused() {
        let (_dir, refs) = refs();
        for name in [
            "HEAD",
            "refs/",
            "refs/../x",
            "refs/a..b",
            "refs/.a",
            "refs/a.lock",
            "refs/a b",
            "refs//a",
            "refs/a/",
            "refs/a@{1",
        ] {
            assert!(matches!(refs.read(name), Err(HistoryError::BadRef { .. })));
        }
    }
}
