//! How a mount begins and ends: in the background, by umount(8), by fusermount3, by signals, with files open.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::mounted::{Mounted, deliver, free, mailbraid_ok};

fn ok(command: &mut Command) -> String {
    let done = command.output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/run"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What is mounted on a directory, the topmost last: type and source.
fn mounts(at: &Path) -> Vec<(String, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == at.to_str())
        .filter_map(|line| {
            let mut rest = line.split(" - ").nth(1)?.split(' ');
            Some((rest.next()?.to_owned(), rest.next()?.to_owned()))
        })
        .collect()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(pid: u32, name: &str) {
    ok(Command::new("kill").args(["-s", name]).arg(pid.to_string()));
}

#[test]
fn findmnt_shows_type_source_and_no_more_rights_than_needed() {
    let mounted = Mounted::new();
    let shown = ok(Command::new("findmnt")
        .args(["-n", "-o", "SOURCE,FSTYPE"])
        .arg(mounted.path()));
    let fields: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(
        fields,
        [mounted.store().to_str().unwrap(), "fuse.mailbraid"]
    );
    let options = ok(Command::new("findmnt")
        .args(["-n", "-o", "OPTIONS"])
        .arg(mounted.path()));
    for word in ["rw", "nosuid", "nodev"] {
        assert!(
            options.trim().split(',').any(|option| option == word),
            "{options}"
        );
    }
    assert!(!options.contains("allow_other"), "{options}");
}

#[test]
fn processors_are_kept_awake_where_that_is_allowed_and_wanted() {
    let device = mailbraid::awake::DEVICE;
    let allowed = File::options().write(true).open(device).is_ok();
    for (options, wanted) in [("rw", true), ("idle=poll", true), ("idle=sleep", false)] {
        let mounted = Mounted::with_options(options);
        let open = fs::read_dir(format!("/proc/{}/fd", mounted.pid())).unwrap();
        let held = open
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(device)));
        assert_eq!(held, allowed && wanted, "{options:?}");
        assert_eq!(mounted.said().contains(device), !allowed && wanted);
    }
}

#[test]
fn umount_ends_the_daemon_and_all_is_committed() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    deliver(&u, "1.M1.vm", b"x").unwrap();
    fs::write(u.join("note"), "written and not synced").unwrap();
    ok(Command::new("umount").arg(mounted.path()));
    mounted.ended();
    assert_eq!(mounts(mounted.path()), []);
    let tree = mounted.git(&["ls-tree", "-r", "--name-only", "mail"]);
    assert!(tree.contains("1.M1.vm") && tree.contains("note"), "{tree}");
    let status = mounted.status();
    assert_eq!(status["mountpoint"], serde_json::Value::Null);
    assert_eq!(
        status["journal"]["acknowledged"],
        status["journal"]["committed"]
    );
    assert!(!mounted.store().join("control").exists());
}

#[test]
fn signals_end_the_daemon_cleanly() {
    let mut mounted = Mounted::new();
    for name in ["TERM", "INT", "HUP"] {
        let u = mounted.maildir(name);
        deliver(&u, "1.M1.vm", name.as_bytes()).unwrap();
        signal(mounted.pid(), name);
        mounted.ended();
        assert_eq!(mounts(mounted.path()), []);
        mounted.mount();
        assert_eq!(fs::read(u.join("new/1.M1.vm")).unwrap(), name.as_bytes());
    }
    mounted.fsck();
}

#[test]
fn a_signal_ends_the_daemon_with_files_open_too() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    let path = deliver(&u, "1.M1.vm", b"kept open").unwrap();
    let open = File::options().read(true).write(true).open(&path).unwrap();
    open.write_all_at(b"K", 0).unwrap();
    signal(mounted.pid(), "TERM");
    mounted.ended();
    assert_eq!(mounts(mounted.path()), []);
    drop(open);
    mounted.mount();
    assert_eq!(fs::read(&path).unwrap(), b"Kept open");
    mounted.fsck();
}

#[test]
fn regression_a_filesystem_mounted_over_a_detached_one_stays() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    let path = deliver(&u, "1.M1.vm", b"open").unwrap();
    let open = File::open(&path).unwrap();
    ok(Command::new("umount").arg("-l").arg(mounted.path()));
    ok(Command::new("mount")
        .args(["-t", "tmpfs", "ours"])
        .arg(mounted.path()));
    // The detached mount serves its open file, and ends with it.
    let mut bytes = [0; 4];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"open");
    drop(open);
    mounted.ended();
    assert_eq!(
        mounts(mounted.path()),
        [("tmpfs".to_owned(), "ours".to_owned())]
    );
    free(mounted.path());
}

#[test]
fn in_the_background_it_is_there_when_the_command_returns() {
    let mut mounted = Mounted::new();
    mounted.unmount();
    let (store, root) = (
        mounted.store().to_str().unwrap().to_owned(),
        mounted.path().to_owned(),
    );
    // Again and again without a pause: a daemon that is still on its way out is waited for.
    for round in 0..10 {
        mailbraid_ok(&["mount", &store, root.to_str().unwrap()]);
        assert_eq!(
            mounts(&root),
            [("fuse.mailbraid".to_owned(), store.clone())]
        );
        let u = mounted.maildir("u");
        for number in 0..20 {
            deliver(&u, &format!("{round}.M{number}.vm"), b"x").unwrap();
        }
        let pid = fs::read_to_string(mounted.store().join("lock")).unwrap();
        let status = mounted.status();
        assert_eq!(status["mountpoint"], root.to_str().unwrap());
        // A daemon of its own: no terminal, no stream of whoever started it, not in the way of an unmount.
        let proc = Path::new("/proc").join(pid.trim());
        let stat = fs::read_to_string(proc.join("stat")).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(
            (fields[3], fields[4]),
            (pid.trim(), "0"),
            "session, terminal"
        );
        for stream in 0..3 {
            let to = fs::read_link(proc.join("fd").join(stream.to_string())).unwrap();
            assert_eq!(to, Path::new("/dev/null"));
        }
        assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
        ok(Command::new("umount").arg(&root));
    }
    // What a flush speaks of is committed, whoever commits it.
    mounted.flush();
    let count = mounted.git(&["ls-tree", "-r", "--name-only", "mail"]);
    assert_eq!(
        count.lines().filter(|line| line.contains(".vm")).count(),
        200
    );
    wait_until("the daemon's end", || {
        fs::read_dir("/proc").unwrap().flatten().all(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            !String::from_utf8_lossy(&line).contains(&store)
        })
    });
    mounted.fsck();
}

#[test]
fn a_background_mount_that_fails_says_why_and_leaves_nothing() {
    let mounted = Mounted::new();
    let (store, root) = (mounted.beside().join("s"), mounted.beside().join("m"));
    fs::create_dir(&root).unwrap();
    mailbraid_ok(&["init", store.to_str().unwrap()]);
    fs::write(store.join("repo.git/config"), "[core\n").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .arg("mount")
        .args([&store, &root])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&done.stderr).lines().count(), 1);
    assert_eq!(mounts(&root), []);
}
