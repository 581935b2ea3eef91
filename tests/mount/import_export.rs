//! `import` interrupted and resumed, then `export`: message for message, flag for flag, date for date.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::mounted::{Mounted, mailbraid_ok};

const MESSAGES: u64 = 20_000;

/// A Maildir with folders, flags and dates.
fn generate(dir: &Path) {
    for folder in ["", ".Archive", ".Sent.2026"] {
        for sub in ["tmp", "new", "cur"] {
            fs::create_dir_all(dir.join(folder).join(sub)).unwrap();
        }
    }
    for n in 0..MESSAGES {
        let folder = ["", ".Archive", ".Sent.2026"][(n % 3) as usize];
        let (sub, info) = match n % 5 {
            0 => ("new", ""),
            1 => ("cur", ":2,"),
            2 => ("cur", ":2,S"),
            3 => ("cur", ":2,FRS"),
            _ => ("cur", ":2,Sac"),
        };
        let name = format!("{}.M{n}P7.vm{info}", 1_700_000_000 + n * 60);
        let path = dir.join(folder).join(sub).join(name);
        let body = format!("Subject: {n}\n\n{}\n", "text ".repeat((n % 97) as usize));
        fs::write(&path, body).unwrap();
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + n);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(date)
            .unwrap();
    }
    fs::write(dir.join("subscriptions"), "Archive\n").unwrap();
    fs::write(dir.join("dovecot.index"), "left behind").unwrap();
}

/// Path → content and date of every file.
fn all(dir: &Path) -> BTreeMap<String, (Vec<u8>, i64)> {
    fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<String, (Vec<u8>, i64)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, found);
            } else {
                let key = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                let mtime = fs::metadata(&path).unwrap().mtime();
                found.insert(key, (fs::read(&path).unwrap(), mtime));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

#[test]
fn interrupted_resumed_and_exported_whole() {
    let mounted = Mounted::new();
    let source = mounted.beside().join("source");
    generate(&source);
    let dest = mounted.path().join("u");
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    // Interrupted by SIGKILL somewhere in the middle; under a terminal the bar is seen to move.
    let bar = mounted.beside().join("bar");
    let command = format!(
        "exec {} import {} {}",
        env!("CARGO_BIN_EXE_mailbraid"),
        text(&source),
        text(&dest)
    );
    let mut import = Command::new("script")
        .args(["-qfec", &command])
        .arg(&bar)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("script(1) is missing: run tests/run");
    let copied = |sub: &str| fs::read_dir(dest.join(sub)).map_or(0, Iterator::count);
    while copied("cur") < 1500 {
        assert!(
            import.try_wait().unwrap().is_none(),
            "the import ended before it could be interrupted"
        );
        thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("pkill")
        .args(["-KILL", "-P"])
        .arg(import.id().to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    import.wait().unwrap();
    let shown = String::from_utf8_lossy(&fs::read(&bar).unwrap()).into_owned();
    assert!(
        shown.contains(&format!("/{}", MESSAGES + 1)),
        "no progress bar in {shown:?}"
    );
    let partly = all(&dest).len() as u64;
    assert!(partly < MESSAGES, "{partly}");

    let done = mailbraid_ok(&["import", &text(&source), &text(&dest)]);
    let said = String::from_utf8(done.stdout).unwrap();
    println!("after {partly} files: {said}");
    assert!(said.contains(" already there"), "{said}");
    mounted.flush();
    mounted.fsck();

    let out = mounted.beside().join("out");
    mailbraid_ok(&["export", &text(mounted.store()), "HEAD", &text(&out)]);
    let mut expected = all(&source);
    expected.remove("dovecot.index");
    let exported = all(&out.join("u"));
    assert_eq!(exported.len(), expected.len());
    for (path, file) in &expected {
        assert!(exported.get(path) == Some(file), "{path} differs");
    }
    assert_eq!(fs::read_dir(out.join("u/tmp")).unwrap().count(), 0);
    let again = Command::new(env!("CARGO_BIN_EXE_mailbraid"))
        .args(["export", &text(mounted.store()), "HEAD", &text(&out)])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1));
}
