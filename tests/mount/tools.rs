//! `mount-tools/`: the helper, the unit, the man pages, their installation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::mounted::mailbraid_ok;

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-tools")
}

fn run(command: &mut Command) -> Output {
    let done = command.output();
    done.unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/run"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the helper; the program it would start prints its arguments, one a line.
fn helper(arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let done = run(Command::new(tools().join("mount.mailbraid"))
        .args(arguments)
        .env("MAILBRAID", &program));
    let lines = text(&done.stdout).lines().map(str::to_owned).collect();
    (done.status.code(), lines, text(&done.stderr))
}

#[test]
fn the_helper_passes_on_what_mount_gives_it() {
    let (code, lines, _) = helper(&["/a store", "/m n", "-o", "rw,uid=5"]);
    assert_eq!(code, Some(0));
    assert_eq!(lines, ["mount", "/a store", "/m n", "-o", "rw,uid=5"]);
    let (_, lines, _) = helper(&[
        "/s",
        "/m",
        "-s",
        "-n",
        "-o",
        "ro",
        "-t",
        "mailbraid",
        "-o",
        "noexec",
    ]);
    assert_eq!(lines, ["mount", "/s", "/m", "-o", "ro,noexec"]);
    let (_, lines, _) = helper(&["/s", "/m", "-N", "/proc/1/ns/mnt"]);
    assert_eq!(lines, ["mount", "/s", "/m"]);
    // -v says what is done, -f does not do it.
    let (code, lines, _) = helper(&["/s", "/m", "-f", "-o", "rw"]);
    assert_eq!((code, lines), (Some(0), vec![]));
    let (code, lines, _) = helper(&["/s", "/m", "-fv", "-o", "rw"]);
    assert_eq!(code, Some(0));
    assert!(lines[0].ends_with("mount /s /m -o rw"), "{lines:?}");
    for wrong in [&["/s"][..], &[], &["/s", "/m", "-x"]] {
        let (code, lines, said) = helper(wrong);
        assert_eq!((code, lines), (Some(2), vec![]), "{wrong:?}");
        assert!(
            said.starts_with("mount.mailbraid: usage:") && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn the_man_pages_have_no_faults() {
    for page in ["mailbraid.1", "mount.mailbraid.8"] {
        let done = run(Command::new("mandoc")
            .args(["-T", "lint", "-W", "warning"])
            .arg(tools().join(page)));
        let said = text(&done.stdout) + &text(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn the_man_pages_know_every_command_and_option() {
    let page = fs::read_to_string(tools().join("mailbraid.1")).unwrap();
    let help = text(&mailbraid_ok(&["--help"]).stdout);
    let commands_of = |help: &str| -> Vec<String> {
        help.lines()
            .skip_while(|line| !line.starts_with("Commands:"))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            .filter(|command| *command != "help")
            .map(str::to_owned)
            .collect()
    };
    let mut commands = Vec::new();
    for command in commands_of(&help) {
        let below = commands_of(&text(&mailbraid_ok(&[&command, "--help"]).stdout));
        if below.is_empty() {
            commands.push(command);
        } else {
            commands.extend(below.iter().map(|below| format!("{command} {below}")));
        }
    }
    assert!(commands.len() >= 8, "{help}");
    for command in commands {
        assert!(
            page.contains(&format!(".It Cm {command}\n"))
                && page.contains(&format!(".Cm {command}\n")),
            "mailbraid.1 does not describe {command}"
        );
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = text(&mailbraid_ok(&words).stdout);
        for long in help.split("--").skip(1) {
            let end = long
                .find(|c: char| c != '-' && !c.is_ascii_lowercase())
                .unwrap_or(long.len());
            let long = &long[..end];
            if !["help", "foreground"].contains(&long) {
                assert!(
                    page.contains(&format!("Fl -{long}")),
                    "mailbraid.1 lacks {command} --{long}"
                );
            }
        }
    }
    let page = fs::read_to_string(tools().join("mount.mailbraid.8")).unwrap();
    for option in [
        "uid",
        "gid",
        "umask",
        "allow_other",
        "ro",
        "durability",
        "threads",
        "idle",
    ] {
        assert!(
            page.contains(&format!("Cm {option}")),
            "mount.mailbraid.8 lacks {option}"
        );
    }
}

#[test]
fn install_puts_everything_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(Command::new(tools().join("install"))
        .env("DESTDIR", dir.path())
        .env("PREFIX", "/opt/mb")
        .env("PROGRAM", env!("CARGO_BIN_EXE_mailbraid"))
        .current_dir("/"));
    assert!(done.status.success(), "{}", text(&done.stderr));
    for (path, mode) in [
        ("opt/mb/bin/mailbraid", 0o755),
        ("sbin/mount.mailbraid", 0o755),
        ("etc/systemd/system/mailbraid@.service", 0o644),
        ("opt/mb/share/man/man1/mailbraid.1", 0o644),
        ("opt/mb/share/man/man8/mount.mailbraid.8", 0o644),
    ] {
        let metadata = fs::metadata(dir.path().join(path));
        let found = metadata.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
    }
    let unit = dir.path().join("etc/systemd/system/mailbraid@.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(
        unit.contains("ExecStart=/opt/mb/bin/mailbraid mount"),
        "{unit}"
    );
    assert!(!unit.contains("/usr/local"), "{unit}");
    // The installed helper finds the installed program, whatever the PATH of mount(8).
    let helper = fs::read_to_string(dir.path().join("sbin/mount.mailbraid")).unwrap();
    assert!(helper.contains("/opt/mb/bin"), "{helper}");
    let done = run(Command::new(tools().join("install"))
        .env("DESTDIR", dir.path())
        .env("PROGRAM", "/nonexistent"));
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("cargo build --release"));
}

#[test]
fn the_daemon_tells_systemd_when_it_is_ready() {
    let mut mounted = crate::support::mounted::Mounted::new();
    mounted.unmount();
    let socket = mounted.beside().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .arg("mount")
        .args([mounted.store(), mounted.path()])
        .args(["-f", "-o", "rw"])
        .env("NOTIFY_SOCKET", &socket)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait = |what: &str| {
        let mut bytes = [0; 1_000];
        listener
            .set_read_timeout(Some(std::time::Duration::from_secs(30)))
            .unwrap();
        let length = listener.recv(&mut bytes).unwrap();
        let said = text(&bytes[..length]);
        assert!(said.contains(what), "{said}");
    };
    wait("READY=1");
    // It answers by then.
    fs::create_dir(mounted.at("u")).unwrap();
    run(Command::new("kill").arg(child.id().to_string()));
    wait("STOPPING=1");
    assert!(child.wait().unwrap().success());
}
