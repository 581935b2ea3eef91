//! The places a bench works in: a plain directory, and mounts that are undone on drop.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The plain directory on disk, whatever its filesystem: the benches are meant for ext4 and say what they found.
pub const EXT4: &str = "ext4";
/// bindfs over such a directory.
pub const BINDFS: &str = "bindfs";
/// [`super::nullfs`] in a process of its own.
pub const NULLFS: &str = "null FUSE";
/// The program under test, the release binary, in a process of its own.
pub const MAILBRAID: &str = "mailbraid";

/// Argument with which a bench runs as the null filesystem's server: so it is a process of its own, as all others are.
pub const SERVE_NULLFS: &str = "--serve-nullfs";

/// Serves the null filesystem where this process was started to do that ([`SERVE_NULLFS`]); whether it was.
///
/// # Errors
/// Where it does not mount.
pub fn served_nullfs() -> io::Result<bool> {
    let mut words = std::env::args().skip(1);
    match (words.next(), words.next()) {
        (Some(word), Some(mountpoint)) if word == SERVE_NULLFS => {
            super::nullfs::serve(Path::new(&mountpoint))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The user and group that all files are to belong to; `None`: whoever runs the bench.
pub type Owner = Option<(u32, u32)>;

/// Every place, in the order in which they are shown: [`EXT4`], [`BINDFS`], [`NULLFS`], [`MAILBRAID`]; those that `wanted` names.
///
/// # Errors
/// Where one cannot be made.
pub fn all(base: &Path, owner: Owner, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Place>> {
    type Make = fn(&Path, Owner) -> io::Result<Place>;
    let makers: [(&str, Make); 4] = [
        (EXT4, Place::plain),
        (BINDFS, Place::bindfs),
        (NULLFS, Place::nullfs),
        (MAILBRAID, Place::mailbraid),
    ];
    makers
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(_, make)| make(base, owner))
        .collect()
}

/// A directory to work in.
pub struct Place {
    /// One of the names above.
    pub name: &'static str,
    /// The directory.
    pub dir: PathBuf,
    server: Option<Server>,
    /// mailbraid's store.
    store: Option<PathBuf>,
    owner: Owner,
}

/// A process that serves a mount.
struct Server {
    child: Child,
    mountpoint: PathBuf,
}

impl Server {
    fn start(mut command: Command, mountpoint: &Path) -> io::Result<Self> {
        let before = fs::metadata(mountpoint)?.dev();
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut server = Self {
            child,
            mountpoint: mountpoint.to_owned(),
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::metadata(mountpoint)?.dev() == before {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{command:?} ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{command:?} did not mount")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors leave a process behind, which the next line ends.
        let unmounted = Command::new("fusermount3")
            .arg("-u")
            .arg(&self.mountpoint)
            .status()
            .is_ok_and(|status| status.success());
        if !unmounted {
            let _ = Command::new("fusermount3")
                .arg("-uz")
                .arg(&self.mountpoint)
                .status();
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Milliseconds that a flush after a work has taken at most: how far the store thread was behind the mount.
pub static LONGEST_FLUSH: AtomicU64 = AtomicU64::new(0);

impl Place {
    /// The plain directory.
    ///
    /// # Errors
    /// Those of mkdir.
    pub fn plain(base: &Path, owner: Owner) -> io::Result<Self> {
        let dir = base.join("plain");
        make_dir(&dir, owner)?;
        Ok(Self {
            name: EXT4,
            dir,
            server: None,
            store: None,
            owner,
        })
    }

    /// bindfs with its default options.
    ///
    /// # Errors
    /// Where bindfs is missing or does not mount.
    pub fn bindfs(base: &Path, owner: Owner) -> io::Result<Self> {
        let (below, dir) = (base.join("bindfs-below"), base.join("bindfs"));
        make_dir(&below, owner)?;
        fs::create_dir(&dir)?;
        let mut command = Command::new("bindfs");
        command.arg("-f").arg(&below).arg(&dir);
        let server = Server::start(command, &dir)
            .map_err(|error| io::Error::other(format!("bindfs (run tests/run): {error}")))?;
        Ok(Self {
            name: BINDFS,
            dir,
            server: Some(server),
            store: None,
            owner,
        })
    }

    /// The null filesystem, served by this very program.
    ///
    /// # Errors
    /// Where it does not mount.
    pub fn nullfs(base: &Path, owner: Owner) -> io::Result<Self> {
        let dir = base.join("nullfs");
        fs::create_dir(&dir)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SERVE_NULLFS).arg(&dir);
        Ok(Self {
            name: NULLFS,
            server: Some(Server::start(command, &dir)?),
            dir,
            store: None,
            owner,
        })
    }

    /// mailbraid with its default options on a new store.
    ///
    /// # Errors
    /// Where it does not mount.
    pub fn mailbraid(base: &Path, owner: Owner) -> io::Result<Self> {
        let (store, dir) = (base.join("store"), base.join("mailbraid"));
        fs::create_dir(&dir)?;
        Ok(Self {
            name: MAILBRAID,
            server: Some(Server::start(mailbraid_command(&store, &dir, owner), &dir)?),
            dir,
            store: Some(store),
            owner,
        })
    }

    /// Unmounts mailbraid and mounts it again, so that its process has nothing in memory. Other places stay as they are.
    ///
    /// # Errors
    /// Where it does not mount again.
    pub fn restart(&mut self) -> io::Result<()> {
        if let Some(store) = &self.store {
            self.server = None;
            self.server = Some(Server::start(
                mailbraid_command(store, &self.dir, self.owner),
                &self.dir,
            )?);
        }
        Ok(())
    }

    /// Waits until mailbraid has committed everything. Nothing to do for the others.
    ///
    /// # Errors
    /// Where `mailbraid flush` fails.
    pub fn settle(&self) -> io::Result<()> {
        if let Some(store) = &self.store {
            let since = std::time::Instant::now();
            let status = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
                .arg("flush")
                .arg(store)
                .stdout(Stdio::null())
                .status()?;
            if !status.success() {
                return Err(io::Error::other(format!("mailbraid flush: {status}")));
            }
            let millis = since.elapsed().as_millis() as u64;
            LONGEST_FLUSH.fetch_max(millis, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn mailbraid_command(store: &Path, mountpoint: &Path, owner: Owner) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailbraid"));
    command.arg("mount").arg(store).arg(mountpoint).arg("-f");
    if let Some((uid, gid)) = owner {
        command
            .arg("-o")
            .arg(format!("allow_other,uid={uid},gid={gid}"));
    }
    command
}

fn make_dir(dir: &Path, owner: Owner) -> io::Result<()> {
    fs::create_dir(dir)?;
    match owner {
        Some((uid, gid)) => std::os::unix::fs::chown(dir, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Drops the page cache, dentries and inodes of the whole machine. Needs root.
///
/// # Errors
/// Without root: `EACCES`.
pub fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// The name of the filesystem that holds `dir`, from `/proc/self/mounts`.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn filesystem_of(dir: &Path) -> io::Result<String> {
    let dir = fs::canonicalize(dir)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mountpoint, _)| dir.starts_with(mountpoint))
        .max_by_key(|(mountpoint, _)| mountpoint.len())
        .map_or_else(|| "unknown".into(), |(_, kind)| kind.to_owned()))
}

/// A place's name as a file name.
pub fn slug(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}
