//! The README is true: its commands are run, and what it shows them print is compared.
//!
//! A block of ```` ```console ```` is a session: lines after `$ ` are commands, the others what they print; `…` stands for any text, and on a line of its
//! own for any lines. A block of ```` ```sh ```` is run and must succeed. All blocks run in the README's order, in one home directory.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::client::Client;
use super::dovecot::{Dovecot, Options};
use super::ground::Ground;
use super::tools::{self, MAIL_UID, MAIL_USER};
use crate::support::mounted::free;

/// Ends a command's output: the shell prints it with the exit code.
const END: &str = "=end-of-output=";

/// A command and what the README says it prints; `None` where it says nothing about it.
struct Step {
    command: String,
    expected: Option<Vec<String>>,
}

/// The steps of all blocks that are run.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut kind = None;
    for line in readme.lines() {
        match (kind, line.strip_prefix("```")) {
            (None, Some(name)) => kind = Some(name),
            (Some(_), Some(_)) => kind = None,
            (Some("sh"), None) => steps.push(Step {
                command: line.to_owned(),
                expected: None,
            }),
            (Some("console"), None) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    command: command.to_owned(),
                    expected: Some(Vec::new()),
                }),
                None => steps
                    .last_mut()
                    .and_then(|step| step.expected.as_mut())
                    .expect("output stands after a command")
                    .push(line.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// Whether printed lines are those expected.
fn matches(expected: &[String], printed: &[&str]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((first, rest)), _) if first == "…" => {
            (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((line, others))) => {
            line_matches(first, line) && matches(rest, others)
        }
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Unmounts what a failed run has left.
struct Home(tempfile::TempDir);

impl Drop for Home {
    fn drop(&mut self) {
        for name in ["mail", "spare", "other", "srv/mail", "fstab"] {
            free(&self.0.path().join(name));
        }
    }
}

/// The README's mail user is not on every machine; the tests' is.
fn with_our_user(options: &str) -> String {
    options
        .replace("uid=vmail", &format!("uid={MAIL_USER}"))
        .replace("gid=vmail", "gid=nogroup")
}

#[test]
fn its_commands_do_what_it_says() {
    let readme = include_str!("../../README.md");
    let home = Home(tools::temporary());
    let dir = home.0.path();
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("mkdir");
    std::fs::create_dir_all(dir.join("srv/mail")).expect("mkdir");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mailbraid"), bin.join("mailbraid"))
        .expect("symlink");

    // What a reader's shell would build, install or have: the test has built it already, and has other users.
    let mut script = String::from(
        r#"
exec 2>&1
cargo() { case $1 in build) ;; run) shift 3; mailbraid "$@" ;; *) exit 9 ;; esac; }
target/release/mailbraid() { mailbraid "$@"; }
sudo() { :; }
tests/run() { :; }
cd
"#,
    );
    let steps = steps(readme);
    for step in &steps {
        let command = with_our_user(&step.command).replace("/srv/", "~/srv/");
        // The first blocks are two ways to the same mount: the second finds it free.
        if command.contains("cargo run") {
            script.push_str("umount ~/mail\n");
        }
        let _ = writeln!(script, "{command}\necho; echo {END} $?");
    }
    script.push_str("cd; umount ~/mail ~/srv/mail\n");

    let mut shell = Command::new("bash")
        .env_clear()
        .env("HOME", dir)
        .env(
            "PATH",
            format!(
                "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                bin.display()
            ),
        )
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run bash");
    let mut input = shell.stdin.take().expect("a piped standard input");
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = shell.wait_with_output().expect("wait for bash");
    writer.join().expect("no panic").expect("write to bash");
    let printed = String::from_utf8_lossy(&output.stdout);

    let mut rest = &*printed;
    let mut faults = String::new();
    for step in &steps {
        let end = format!("\n{END} ");
        let Some((said, after)) = rest.split_once(&end) else {
            panic!("bash ended at: {}\n{rest}", step.command);
        };
        let (code, after) = after.split_once('\n').unwrap_or((after, ""));
        rest = after;
        let lines: Vec<&str> = said.lines().collect();
        let right = match &step.expected {
            Some(expected) => matches(expected, &lines),
            None => code == "0",
        };
        if !right {
            let _ = writeln!(faults, "$ {}\n{said}(exit code {code})", step.command);
        }
    }
    assert!(faults.is_empty(), "README.md says otherwise:\n{faults}");
}

#[test]
fn its_line_for_fstab_is_understood() {
    let readme = include_str!("../../README.md");
    let line = readme
        .lines()
        .skip_while(|line| *line != "```fstab")
        .nth(1)
        .expect("a line for fstab");
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, kind, options, "0", "0"] = fields[..] else {
        panic!("six fields: {line}");
    };
    assert_eq!(kind, "mailbraid");
    let home = Home(tools::temporary());
    let mountpoint = home.0.path().join("fstab");
    std::fs::create_dir(&mountpoint).expect("mkdir");
    // As mount(8) runs the helper for such a line.
    let done = Command::new("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-tools/mount.mailbraid"))
        .arg(home.0.path().join("store"))
        .arg(&mountpoint)
        .args(["-o", &format!("rw,{}", with_our_user(options))])
        .env("MAILBRAID", env!("CARGO_BIN_EXE_mailbraid"))
        .status()
        .expect("run the mount helper");
    assert!(done.success(), "mount.mailbraid: {done}");
    let data = std::fs::metadata(&mountpoint).expect("a mounted directory");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&data), MAIL_UID);
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
}

#[test]
fn its_way_to_take_modification_sequences_out_works() {
    let ground = Ground::plain();
    let capabilities = |client: &mut Client| {
        let said = client.ok("CAPABILITY").untagged.join(" ");
        said.replace("* CAPABILITY ", "")
    };
    let all = capabilities(&mut Dovecot::start(ground.root()).login("u"));
    assert!(
        all.contains(" CONDSTORE ") && all.contains(" QRESYNC "),
        "{all}"
    );
    let without = all.replace(" CONDSTORE ", " ").replace(" QRESYNC ", " ");
    let options = Options {
        extra: format!("protocol imap {{\n  imap_capability = {without}\n}}"),
        ..Options::default()
    };
    let fewer = capabilities(&mut Dovecot::start_with(ground.root(), &options).login("u"));
    assert_eq!(fewer, without);
}

#[test]
fn the_matching_of_output_is_strict_where_it_says_something() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, printed, right) in [
        ("a\nb", "a\nb", true),
        ("a", "a\nb", false),
        ("a\nb", "a", false),
        ("…", "", true),
        ("a\n…\nd", "a\nb\nc\nd", true),
        ("a\n…\nd", "a\nb\nc", false),
        ("x … y … z", "x 1 y 2 z", true),
        ("x … y … z", "x 1 y 2", false),
        ("x…", "y", false),
    ] {
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(
            matches(&lines(expected), &printed),
            right,
            "{expected:?} {printed:?}"
        );
    }
}
