//! The real `/etc/fstab`, as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use crate::support::mounted::{deliver, folder, free, fsck};

const FSTAB: &str = "/etc/fstab";
/// mount(8) looks for helpers here alone.
const HELPER: &str = "/sbin/mount.mailbraid";
/// Ends our lines, so that those of a test that was killed can be told.
const MARK: &str = "# mailbraid's test";
const DEVICE: &str = "/dev/fuse";
/// `nobody`.
const USER: &str = "65534";

/// One test at a time has a line in fstab.
static ONE: Mutex<()> = Mutex::new(());

/// A line in fstab, the helper where mount(8) finds it, and a program that any user may run. All gone on drop.
struct Line {
    dir: tempfile::TempDir,
    helper_is_ours: bool,
    /// The device's mode, where we have changed it.
    device: Option<fs::Permissions>,
    program: PathBuf,
}

impl Line {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["mnt", "srv"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let program = dir.path().join("mailbraid");
        fs::copy(env!("CARGO_BIN_EXE_mailbraid"), &program).unwrap();
        let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-tools/mount.mailbraid");
        let line = Self {
            helper_is_ours: !Path::new(HELPER).exists(),
            device: None,
            program,
            dir,
        };
        if line.helper_is_ours {
            fs::copy(helper, HELPER).unwrap();
        }
        line.rewrite(Some(&format!(
            "{} {} mailbraid noauto,nofail,{options} 0 0 {MARK}",
            line.store().display(),
            line.root().display()
        )));
        line
    }

    /// Lets every user open the device, as udev does; a container's may lack that.
    fn open_device(&mut self) {
        let metadata = fs::metadata(DEVICE).expect("/dev/fuse is missing: run tests/run");
        if metadata.permissions().mode() & 0o666 != 0o666 {
            fs::set_permissions(DEVICE, fs::Permissions::from_mode(0o666)).unwrap();
            self.device = Some(metadata.permissions());
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("srv/mail.store")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Takes our lines out, and puts one in.
    fn rewrite(&self, line: Option<&str>) {
        let text = fs::read_to_string(FSTAB).unwrap_or_default();
        let mut kept: String = text
            .lines()
            .filter(|line| !line.ends_with(MARK))
            .flat_map(|line| [line, "\n"])
            .collect();
        if let Some(line) = line {
            kept.push_str(line);
            kept.push('\n');
        }
        fs::write(FSTAB, kept).expect("the tests run as root");
    }

    fn run(&self, command: &mut Command) -> Output {
        command
            .env("MAILBRAID", &self.program)
            .current_dir("/")
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/run"))
    }

    #[track_caller]
    fn ok(&self, command: &mut Command) -> String {
        let done = self.run(command);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success(),
            "{command:?}: {}: {said}",
            done.status
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// The columns that findmnt shows of the mount point; nothing where nothing is mounted.
    fn findmnt(&self, columns: &str) -> Vec<String> {
        let done = self.run(
            Command::new("findmnt")
                .args(["-n", "-o", columns, "--mountpoint"])
                .arg(self.root()),
        );
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        shown.split_whitespace().map(str::to_owned).collect()
    }

    /// Until the daemon has let go of the store.
    fn flush(&self) {
        self.ok(Command::new(&self.program).arg("flush").arg(self.store()));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.rewrite(None);
        free(&self.root());
        if let Some(permissions) = self.device.take() {
            let _ = fs::set_permissions(DEVICE, permissions);
        }
        if self.helper_is_ours {
            let _ = fs::remove_file(HELPER);
        }
    }
}

fn as_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", program]);
    command
}

#[test]
fn a_line_in_fstab_is_all_that_mount_needs() {
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let line =
        Line::new("uid=65534,gid=65534,umask=027,allow_other,noexec,x-systemd.automount,_netdev");
    let root = line.root();
    for round in 0..3 {
        line.ok(Command::new("mount").arg(&root));
        assert_eq!(
            line.findmnt("SOURCE,FSTYPE"),
            [line.store().to_str().unwrap(), "fuse.mailbraid"]
        );
        let options = line.findmnt("OPTIONS").concat();
        for word in ["rw", "noexec", "allow_other"] {
            assert!(options.split(',').any(|option| option == word), "{options}");
        }
        folder(&root.join("u"));
        deliver(&root.join("u"), &format!("{round}.M1.vm"), b"x").unwrap();
        line.ok(as_user("cat").arg(root.join(format!("u/new/{round}.M1.vm"))));
        let again = line.run(Command::new("mount").arg(&root));
        assert!(!again.status.success(), "it is mounted already");
        line.ok(Command::new("umount").arg(&root));
        assert_eq!(line.findmnt("SOURCE"), [""; 0]);
    }
    line.flush();
    fsck(&line.store());
    // And by hand, with the options of the command line.
    line.ok(Command::new("mount")
        .args(["-t", "mailbraid", "-o", "ro"])
        .args([&line.store(), &root]));
    assert_eq!(fs::read_dir(root.join("u/new")).unwrap().count(), 3);
    assert!(fs::write(root.join("u/tmp/x"), "x").is_err());
    line.ok(Command::new("umount").arg(&root));
    line.flush();
    // What cannot be is said by the helper, and mount(8) passes its failure on.
    let refused = line.run(
        Command::new("mount")
            .args(["-t", "mailbraid", "-o", "colour=blue"])
            .args([&line.store(), &root]),
    );
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("colour=blue"),
        "{said}"
    );
    assert_eq!(line.findmnt("SOURCE"), [""; 0]);
}

#[test]
fn an_ordinary_user_mounts_and_unmounts() {
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut line = Line::new("user");
    line.open_device();
    let (root, user) = (line.root(), Some(65_534));
    for dir in [&root, &line.dir.path().join("srv")] {
        std::os::unix::fs::chown(dir, user, user).unwrap();
    }
    let check = |name: &str| {
        assert_eq!(
            line.findmnt("SOURCE,FSTYPE"),
            [line.store().to_str().unwrap(), "fuse.mailbraid"]
        );
        let options = line.findmnt("OPTIONS").concat();
        for word in ["nosuid", "nodev", &format!("user_id={USER}")] {
            assert!(options.split(',').any(|option| option == word), "{options}");
        }
        let script = format!(
            "mkdir -p u/cur u/new u/tmp && echo x >u/tmp/{name} && mv u/tmp/{name} u/new/ && stat -c %u:%a u/new/{name}"
        );
        let shown =
            line.ok(as_user("sh").args(["-c", &format!("cd {} && {script}", root.display())]));
        assert_eq!(shown, format!("{USER}:600"));
        // Nobody else sees anything, root neither.
        assert!(fs::read_dir(&root).is_err());
    };
    // As fstab allows a user to: mount(8) and umount(8), and fusermount3 below them.
    line.ok(as_user("mount").arg(&root));
    check("1.M1.vm");
    line.ok(as_user("umount").arg(&root));
    assert_eq!(line.findmnt("SOURCE"), [""; 0]);
    line.ok(as_user("mount").arg(&root));
    check("2.M1.vm");
    line.ok(as_user("fusermount3").arg("-u").arg(&root));
    assert_eq!(line.findmnt("SOURCE"), [""; 0]);
    // Without fstab: the command alone.
    line.ok(as_user(line.program.to_str().unwrap())
        .arg("mount")
        .args([&line.store(), &root]));
    check("3.M1.vm");
    // A signal ends it for a user too.
    let pid = fs::read_to_string(line.store().join("lock")).unwrap();
    line.ok(as_user("kill").arg(pid.trim()));
    line.ok(as_user(line.program.to_str().unwrap())
        .arg("flush")
        .arg(line.store()));
    assert_eq!(line.findmnt("SOURCE"), [""; 0]);
    let tree = line.ok(as_user("git")
        .arg("-C")
        .arg(line.store().join("repo.git"))
        .args(["ls-tree", "-r", "--name-only", "mail"]));
    for name in ["1.M1.vm", "2.M1.vm", "3.M1.vm"] {
        assert!(tree.contains(name), "{tree}");
    }
}
