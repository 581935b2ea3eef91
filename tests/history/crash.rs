//! A writer killed at any instant leaves nothing that hurts the next one.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::support::*;
use mailbraid::history::{HistoryError, Repo, hash_blob};
use mailbraid::maildir::HashKind;

const KIND: HashKind = HashKind::Sha1;

fn files(store: &Store, ext: &str) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(store.repo.path().join("objects/pack"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(ext))
        .collect();
    found.sort();
    found
}

/// The pack is in place, the ref is not updated, the process dies. An administrator repacks at that moment.
#[test]
fn a_kill_between_pack_and_ref_is_harmless() {
    let store = Store::new(KIND);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    put(&mut writer, KIND, "u/cur/0.vm:2,", b"first\n");
    writer.commit(&text("deliver", 1)).unwrap();
    let head = writer.flush().unwrap();
    assert_eq!(files(&store, ".keep"), [""; 0]);

    let lock = store.repo.path().join("refs/heads/mail.lock");
    std::fs::write(&lock, b"").unwrap();
    let deliver = |writer: &mut mailbraid::history::Writer| {
        put(writer, KIND, "u/cur/1.vm:2,", b"second\n");
        writer.commit(&text("deliver", 2)).unwrap();
        writer.flush()
    };
    assert!(matches!(
        deliver(&mut writer),
        Err(HistoryError::Locked { .. })
    ));
    drop(writer);
    assert_eq!(files(&store, ".keep").len(), 1);
    assert_eq!(store.repo.head().unwrap(), head);
    // A temporary file of a write that was cut off.
    let torn = store.repo.path().join("objects/pack/mailbraid-1-2.tmp");
    std::fs::write(torn, b"PACK").unwrap();

    let mut writer = store.writer();
    assert!(!lock.exists(), "a lock left by a kill wedges the head");
    assert_eq!(files(&store, ".tmp"), [""; 0]);
    // The blob is found in the waiting pack, and is not written again; the repack must not take it away.
    let oid = put(&mut writer, KIND, "u/cur/1.vm:2,", b"second\n");
    assert!(store.repo.reader().has(oid));
    store.git(&["repack", "-adfq"]);
    store.git(&["prune", "--expire=now"]);
    writer.commit(&text("deliver", 2)).unwrap();
    writer.flush().unwrap();
    assert_eq!(files(&store, ".keep"), [""; 0]);
    store.fsck();
    assert_eq!(
        store.git(&["show", "mail:u/cur/1.vm:2,%,m=1795466045,s=7"]),
        "second\n"
    );
}

/// A flush that fails may be repeated, and an outside hand on the head is noticed.
#[test]
fn a_failed_flush_is_repeated() {
    let store = Store::new(KIND);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    let first = writer.commit(&text("mkdir", 1)).unwrap();
    let pack_dir = store.repo.path().join("objects/pack");
    let away = store.repo.path().join("objects/away");
    std::fs::rename(&pack_dir, &away).unwrap();
    assert!(matches!(writer.flush(), Err(HistoryError::Io { .. })));
    std::fs::rename(&away, &pack_dir).unwrap();
    put(&mut writer, KIND, "u/cur/1.vm:2,", b"x\n");
    let second = writer.commit(&text("deliver", 2)).unwrap();
    assert_eq!(writer.flush().unwrap(), Some(second));
    store.fsck();
    store.git(&["update-ref", "refs/heads/mail", &first.to_string()]);
    put(&mut writer, KIND, "u/cur/2.vm:2,", b"y\n");
    writer.commit(&text("deliver", 3)).unwrap();
    assert!(matches!(
        writer.flush(),
        Err(HistoryError::RefMoved { found: Some(found), .. }) if found == first
    ));
    writer.reset_to(Some(first)).unwrap();
    put(&mut writer, KIND, "u/cur/2.vm:2,", b"y\n");
    writer.commit(&text("deliver", 3)).unwrap();
    writer.flush().unwrap();
    store.fsck();
}

/// An operation that does not fit says which path, and the writer goes on.
#[test]
fn damage_names_the_path() {
    let store = Store::new(KIND);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    let op = mailbraid::maildir::Op::Put {
        path: path("u/.Gone/cur/1.vm"),
        oid: hash_blob(KIND, b"x"),
        content: mailbraid::maildir::Content::Inline(b"x".to_vec()),
        attrs: mailbraid::maildir::Attrs::default(),
    };
    let error = writer.apply(&op, None).unwrap_err();
    assert!(
        matches!(&error, HistoryError::Damage { path, .. } if path.as_bytes() == b"u/.Gone/cur/1.vm")
    );
    put(&mut writer, KIND, "u/cur/1.vm:2,", b"x\n");
    writer.commit(&text("deliver", 1)).unwrap();
    writer.flush().unwrap();
    store.fsck();
}

/// SIGKILL at random instants of a process that commits and flushes without pause: what it said is durable is there, and the next
/// one goes on.
#[test]
fn a_writer_killed_at_any_instant() {
    const CHILD: &str = "MAILBRAID_TEST_CHILD";
    if let Some(dir) = std::env::var_os(CHILD) {
        let repo = Repo::open(std::path::Path::new(&dir)).unwrap();
        let store_writer = mailbraid::history::Writer::new(&repo, repo.head().unwrap());
        let mut writer = store_writer.unwrap();
        let done: u64 = match repo.head().unwrap() {
            Some(head) => repo.reader().commit(head).unwrap().time as u64,
            None => {
                mkfolder(&mut writer, "u");
                0
            }
        };
        for number in done + 1.. {
            let content = format!("mail {number}\n");
            put(
                &mut writer,
                KIND,
                format!("u/new/{number}.vm"),
                content.as_bytes(),
            );
            writer.commit(&text("deliver", number as i64)).unwrap();
            writer.flush().unwrap();
            println!("durable {number}");
            if number % 20 == 0 {
                mailbraid::history::maintain(&repo, mailbraid::history::Maintenance::Geometric)
                    .unwrap();
            }
        }
    }
    let store = Store::new(KIND);
    let mut last = 0;
    for kill in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "history::crash::a_writer_killed_at_any_instant",
                "--nocapture",
            ])
            .env(CHILD, store.repo.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wait = 1 + kill % 4;
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("durable ") {
                last = number.parse().unwrap();
                wait -= 1;
                if wait == 0 {
                    break;
                }
            }
        }
        assert_eq!(wait, 0, "the writer stopped by itself");
        std::thread::sleep(std::time::Duration::from_micros(kill * 397 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("durable ") {
                last = number.parse().unwrap();
            }
        }
        let head = store.repo.head().unwrap().unwrap();
        let reader = Repo::open(store.repo.path()).unwrap().reader();
        let commit = reader.commit(head).unwrap();
        assert!(
            commit.time >= last,
            "{pid} said {last}, the head is {}",
            commit.time
        );
        let new = reader.lookup(commit.tree, &path("u/new")).unwrap().unwrap();
        assert_eq!(reader.dir(new.oid).unwrap().len() as i64, commit.time);
    }
    store.fsck();
}
