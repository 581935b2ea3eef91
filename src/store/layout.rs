//! Where things lie in a store directory.
//!
//! ```text
//! STORE/
//!   repo.git/     the bare repository
//!   journal/      the journal's segments
//!   local/tree/   server-local files, mirroring the paths of the mount
//!   local/spill/  content too large for a journal record, and scratch files too large for memory
//!   ballast       room set aside for a recovery on a full disk
//!   lock          held by the daemon; holds its process id
//!   control       the daemon's Unix socket
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The paths of one store.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    tree: PathBuf,
    spill: PathBuf,
}

impl Layout {
    /// The layout of the store at `root`, which need not exist.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            tree: root.join("local/tree"),
            spill: root.join("local/spill"),
        }
    }

    /// The store directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bare repository.
    #[must_use]
    pub fn repo(&self) -> PathBuf {
        self.root.join("repo.git")
    }

    /// The journal's directory.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Server-local files.
    #[must_use]
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Spilled content.
    #[must_use]
    pub fn spill(&self) -> &Path {
        &self.spill
    }

    /// Room set aside for a recovery on a full disk.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// The lock file.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// Whether a store is here: its repository exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.repo().join("HEAD").exists()
    }

    /// Refuses a directory that is no store and could not become one without mixing with what it holds.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] where the directory holds other files or is no directory.
    pub fn check_usable(&self) -> Result<(), StoreError> {
        if self.exists() {
            return Ok(());
        }
        let listing = match fs::read_dir(&self.root) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(StoreError::NotAStore(self.root.clone()));
            }
            Err(error) => return Err(StoreError::io(&self.root, error)),
        };
        // An interrupted creation leaves only these.
        let ours = [
            "repo.git",
            "repo.git.making",
            "journal",
            "local",
            "lock",
            "control",
            "ballast",
        ];
        for entry in listing {
            let name = entry
                .map_err(|error| StoreError::io(&self.root, error))?
                .file_name();
            if !ours.iter().any(|known| name.as_os_str() == *known) {
                return Err(StoreError::NotAStore(self.root.clone()));
            }
        }
        Ok(())
    }

    /// Makes the store's directory. Its name, and those of the directories above that had to be made, are durable then.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create_root(&self) -> Result<(), StoreError> {
        let missing = self
            .root
            .ancestors()
            .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
            .count();
        fs::create_dir_all(&self.root).map_err(|error| StoreError::io(&self.root, error))?;
        // At least one, though none was missing: an earlier creation may have been interrupted before its sync.
        let above = self.root.ancestors().skip(1).take(missing.max(1));
        above.into_iter().try_for_each(sync_dir)
    }

    /// Makes the directories that the daemon writes to. They are durable then.
    ///
    /// # Errors
    /// Where one cannot be made.
    pub fn create_local(&self) -> Result<(), StoreError> {
        for dir in [&self.tree, &self.spill] {
            fs::create_dir_all(dir).map_err(|error| StoreError::io(dir, error))?;
        }
        sync_dir(&self.root.join("local"))?;
        sync_dir(&self.root)
    }
}

/// Makes the names in a directory durable.
fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|open| open.sync_all())
        .map_err(|error| StoreError::io(dir, error))
}
