//! Where the programs under test are, and the user they run as.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The user and group that own all mail in these tests: `nobody`, which Debian always has. Dovecot serves no mail as root.
pub const MAIL_USER: &str = "nobody";
/// Their numbers.
pub const MAIL_UID: u32 = 65534;
/// The group of [`MAIL_USER`].
pub const MAIL_GID: u32 = 65534;

/// The full path of an installed program. Panics, naming `tests/run`, where it is missing.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run tests/run"))
}

/// A program of a server that `tests/run` unpacks and does not install, copied to `dir`, where [`MAIL_USER`] can run it.
#[track_caller]
pub fn unpacked(name: &str, dir: &Path) -> PathBuf {
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-servers/usr");
    let from = ["bin", "sbin"]
        .map(|sub| servers.join(sub).join(name))
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run tests/run"));
    let to = dir.join(name);
    std::fs::copy(from, &to).expect("copy a program");
    to
}

/// A temporary directory that [`MAIL_USER`] can enter (temporary directories are private by default).
pub fn temporary() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("mailbraid-imap-")
        .tempdir()
        .expect("a temporary directory");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).expect("chmod");
    dir
}

/// Creates a directory that belongs to [`MAIL_USER`].
pub fn mail_dir(path: &Path) {
    std::fs::create_dir_all(path).expect("mkdir");
    chown(path, Some(MAIL_UID), Some(MAIL_GID)).expect("chown");
}
