//! Where the programs under test are, and the user they run as.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

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

/// A directory below the `usr` of the servers that `tests/run` unpacks and does not install.
#[track_caller]
pub fn unpacked_dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/test-servers/usr")
        .join(name);
    assert!(dir.is_dir(), "{} is missing: run tests/run", dir.display());
    dir
}

/// A program of these, copied to `dir`, where [`MAIL_USER`] can run it.
#[track_caller]
pub fn unpacked(name: &str, dir: &Path) -> PathBuf {
    let from = ["bin", "sbin"]
        .map(|sub| unpacked_dir(sub).join(name))
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run tests/run"));
    let to = dir.join(name);
    std::fs::copy(from, &to).expect("copy a program");
    to
}

/// The block of the README whose first line is this: the tests run the servers with what the README tells its readers to write.
#[track_caller]
pub fn readme(first: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).expect("read README.md");
    let lines = text.lines().skip_while(|line| *line != first);
    let block: Vec<&str> = lines.take_while(|line| !line.starts_with("```")).collect();
    assert!(
        !block.is_empty(),
        "README.md has no block that begins with {first}"
    );
    block.join("\n") + "\n"
}

/// Ends a server that is the leader of a process group of its own: asks it, and kills the group if it does not go.
pub fn end(child: &mut Child) {
    let pid =
        rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a child has a process id");
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let patience = Instant::now() + Duration::from_secs(10);
    while Instant::now() < patience && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    drop(child.wait());
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
