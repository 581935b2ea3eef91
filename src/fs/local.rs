//! Server-local files: plain files in the store's `local/tree`, under the path they have in the mount.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::maildir::TreePath;

/// The directory of server-local files.
#[derive(Clone, Debug)]
pub struct LocalTree {
    root: PathBuf,
}

/// A file or directory found there.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes.
    pub size: u64,
    /// Last change.
    pub mtime: (i64, u32),
    /// Further names of the same file, in the same directory.
    pub others: Vec<Vec<u8>>,
}

impl Found {
    fn new(name: Vec<u8>, metadata: &fs::Metadata) -> Self {
        Self {
            name,
            is_dir: metadata.is_dir(),
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            others: Vec::new(),
        }
    }
}

impl LocalTree {
    /// Below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where a path of the mount lies.
    #[must_use]
    pub fn at(&self, path: &TreePath) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// What lies in a directory; nothing where there is none. Names of one file are listed together; a file that has names in other
    /// directories too is copied first, for those are loaded on their own, and must not write to it unseen.
    ///
    /// # Errors
    /// Where it cannot be read or copied.
    pub fn list(&self, dir: &TreePath) -> io::Result<Vec<Found>> {
        let listing = match fs::read_dir(self.at(dir)) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        let mut linked: HashMap<u64, (u64, Found)> = HashMap::new();
        for entry in listing {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name().as_bytes().to_vec();
            if metadata.is_file() && metadata.nlink() > 1 {
                if let Some((_, first)) = linked.get_mut(&metadata.ino()) {
                    first.others.push(name);
                    continue;
                }
                linked.insert(
                    metadata.ino(),
                    (metadata.nlink(), Found::new(name, &metadata)),
                );
            } else {
                found.push(Found::new(name, &metadata));
            }
        }
        for (nlink, file) in linked.into_values() {
            if nlink > file.others.len() as u64 + 1 {
                self.part(dir, &file)?;
            }
            found.push(file);
        }
        Ok(found)
    }

    /// Makes a file that has names elsewhere a file of its own here.
    fn part(&self, dir: &TreePath, file: &Found) -> io::Result<()> {
        let first = self.at(&dir.join(&file.name));
        let copy = self.at(&dir.join(b".mailbraid-copy"));
        fs::copy(&first, &copy)?;
        super::crossing::set_mtime(&File::open(&copy)?, file.mtime)?;
        for name in &file.others {
            let other = self.at(&dir.join(name));
            fs::remove_file(&other)?;
            fs::hard_link(&copy, &other)?;
        }
        fs::rename(copy, first)
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn open(&self, path: &TreePath) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.at(path))
    }

    /// Makes an empty file, and the directories above it.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn create(&self, path: &TreePath) -> io::Result<File> {
        let at = self.at(path);
        if let Some(dir) = at.parent() {
            fs::create_dir_all(dir)?;
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(at)
    }

    /// Makes a file with this content.
    ///
    /// # Errors
    /// Where the disk refuses; no file is left then.
    pub fn write(&self, path: &TreePath, content: &[u8]) -> io::Result<File> {
        let file = self.create(path)?;
        file.write_all_at(content, 0).inspect_err(|_| {
            let _ = fs::remove_file(self.at(path));
        })?;
        Ok(file)
    }

    /// Renames a file or a directory; what is at `to` is replaced. Nothing to rename is no error.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn rename(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from, to) = (self.at(from), self.at(to));
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        match fs::rename(&from, &to) {
            // An empty directory of an earlier folder by that name.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                fs::remove_dir_all(&to)?;
                fs::rename(&from, &to)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Moves a file from outside to `to`; what is there is replaced.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn place(&self, from: &Path, to: &TreePath) -> io::Result<()> {
        let to = self.at(to);
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Where the disk refuses; a file that is not there is no error.
    pub fn unlink(&self, path: &TreePath) -> io::Result<()> {
        match fs::remove_file(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn mkdir(&self, path: &TreePath) -> io::Result<()> {
        fs::create_dir_all(self.at(path))
    }

    /// Removes a directory with whatever lies below it: the mount has shown it empty.
    ///
    /// # Errors
    /// Where the disk refuses; a directory that is not there is no error.
    pub fn rmdir(&self, path: &TreePath) -> io::Result<()> {
        match fs::remove_dir_all(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
