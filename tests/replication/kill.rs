//! SIGKILL in the middle of whatever goes on between two nodes: pushes, fetches, braids, and braids being shown. And peers that hang.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::nodes::{Node, bare, converged, wait_until};
use crate::simulation::random::Random;
use crate::support::mounted::{deliver, folder};
use crate::support::seed;

/// Kills: `MAILBRAID_KILLS`, or some.
fn kills() -> usize {
    let given = std::env::var("MAILBRAID_KILLS").ok();
    given.map_or(10, |text| {
        text.parse().expect("MAILBRAID_KILLS is a number")
    })
}

/// Delivers, flags and removes until the mount is gone or `count` is reached. Returns names that must be there, and names that must not.
fn work(inbox: &Path, prefix: &str, count: usize) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for number in 0..count {
        let name = format!("{}.M{number}.{prefix}", 1_795_466_045 + number);
        let Ok(at) = deliver(inbox, &name, name.as_bytes()) else {
            break;
        };
        match number % 5 {
            0 => {
                // Durable at the next delivery alone: what is not answered for may be either way.
                if fs::remove_file(&at).is_err() {
                    break;
                }
                gone.push(name);
                continue;
            }
            1 => {
                let _ = fs::rename(&at, inbox.join("cur").join(format!("{name}:2,S")));
            }
            _ => {}
        }
        kept.push(name);
    }
    // A deletion is durable with the next delivery: the last ones may be undone.
    let sure = kept.last().cloned();
    let number = |name: &str| name.split('.').next().map(str::to_owned);
    gone.retain(|name| {
        sure.as_ref()
            .is_some_and(|sure| number(name) < number(sure))
    });
    (kept, gone)
}

#[test]
fn killed_at_any_moment_a_node_loses_and_doubles_nothing() {
    let mut random = Random::new(seed());
    let mut a = Node::new("a");
    let b = Node::new("b");
    a.add(&b);
    b.add(&a);
    let inboxes: [PathBuf; 2] = [a.mounted.at("u"), b.mounted.at("u")];
    folder(&inboxes[0]);
    converged(&[&a, &b]);
    let (mut kept, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..kills() {
        let pause = Duration::from_micros(random.below(150_000) as u64);
        let done = thread::scope(|scope| {
            let workers: Vec<_> = inboxes
                .iter()
                .zip(["a", "b"])
                .map(|(inbox, name)| {
                    scope.spawn(move || work(inbox, &format!("r{round}{name}"), 40))
                })
                .collect();
            thread::sleep(pause);
            a.mounted.kill();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("a worker"))
                .collect::<Vec<_>>()
        });
        a.mounted.mount();
        for (names, removed) in done {
            kept.extend(names);
            gone.extend(removed);
        }
    }
    converged(&[&a, &b]);
    let shown = a.messages("u");
    assert_eq!(shown, b.messages("u"));
    let names: Vec<&str> = shown
        .keys()
        .map(|name| name.split(':').next().expect("a name"))
        .collect();
    let set: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(set.len(), names.len(), "a mail is there twice");
    for name in &kept {
        assert!(set.contains(name.as_str()), "{name} was acknowledged");
    }
    for name in &gone {
        assert!(!set.contains(name.as_str()), "{name} was removed");
    }
    for node in [&a, &b] {
        node.mounted.fsck();
    }
}

/// Writes a program that stands for ssh.
fn program(at: &Path, script: &str) {
    let beside = at.with_extension("new");
    fs::write(&beside, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&beside, at).unwrap();
}

#[test]
fn a_peer_that_hangs_is_given_up_and_holds_nobody_up() {
    let (a, c) = (Node::new("a"), Node::new("c"));
    let dir = tempfile::tempdir().unwrap();
    let hub = dir.path().join("hub.git");
    bare(&hub);
    let (call, hub) = (dir.path().join("call"), hub.display());
    a.config("core.sshCommand", call.to_str().unwrap());
    a.config("mailbraid.peerTimeout", "1");
    let hangs = |a: &Node| {
        let said = a.peer("hub")["last_error"].to_string();
        said.contains("it hangs: it said nothing for 1s")
    };
    // Not a word.
    program(&call, "sleep 1000");
    a.add_url("hub", "ssh://hub/hub.git");
    a.add(&c);
    let inbox = a.mounted.at("u");
    folder(&inbox);
    deliver(&inbox, "1795466045.M1.a", b"first").unwrap();
    wait_until("a peer that says nothing is given up", || hangs(&a));
    // It greets, and hangs in the middle of the push.
    let greets = format!(
        "case \"$2\" in *receive*) sleep 1000 | git receive-pack {hub};; *) git upload-pack {hub};; esac"
    );
    program(&call, &greets);
    deliver(&inbox, "1795466046.M2.a", b"second").unwrap();
    wait_until("status says what goes on", || {
        let doing = a.peer("hub")["doing"].to_string();
        doing.contains("sending")
    });
    wait_until("the push is given up", || hangs(&a));
    wait_until("the other peer has it all", || c.messages("u").len() == 2);
    let mended = greets.replace("sleep 1000 | ", "");
    program(&call, &mended);
    wait_until("it is tried again", || {
        a.peer("hub")["last_error"].is_null() && a.peer("hub")["lag"] == 0
    });
}

/// Threads of a process that have not ended, by name, each with its number and state; none where it is gone or waits to be reaped.
fn threads(process: u32) -> Vec<(String, i32, char)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten();
    let thread = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let (number, name) = head.split_once(" (")?;
        let state = rest.chars().next()?;
        (state != 'Z').then(|| (name.to_owned(), number.parse().expect("a number"), state))
    };
    tasks
        .filter_map(|task| thread(&task.ok()?.path()))
        .collect()
}

/// Stops one thread of another process for as long as that lives.
#[allow(unsafe_code)]
fn stop_thread(number: i32) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: system calls that touch no memory of ours; the thread is not one of this process.
    let stopped = unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, number, none, none) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, number, none, none) == 0
            && libc::waitpid(number, std::ptr::null_mut(), libc::__WALL) == number
    };
    assert!(stopped, "as root: {}", std::io::Error::last_os_error());
}

/// Waits for the end of a thread that was stopped.
#[allow(unsafe_code)]
fn reap_thread(number: i32) {
    // SAFETY: as above.
    unsafe { libc::waitpid(number, std::ptr::null_mut(), libc::__WALL) };
}

/// Met by `a_node_is_killed`: the kernel was being told to forget a name, and waited for the lock of the directory, which a client had that waited for the daemon. Neither would
/// ever have gone on.
#[test]
fn regression_a_killed_daemon_ends_although_its_mount_waits_for_it() {
    let mut a = Node::new("a");
    let b = Node::new("b");
    a.add(&b);
    b.add(&a);
    let inbox = b.mounted.at("u");
    folder(&inbox);
    deliver(&inbox, "1795466045.M1.b", b"first").unwrap();
    converged(&[&a, &b]);
    let new = a.mounted.at("u/new");
    assert_eq!(fs::read_dir(&new).unwrap().count(), 1);

    let process = a.mounted.pid();
    let mut answering = threads(process);
    answering.retain(|(name, ..)| name.starts_with("fuser-"));
    assert!(!answering.is_empty(), "{:?}", threads(process));
    for (_, number, _) in &answering {
        stop_thread(*number);
    }
    thread::scope(|scope| {
        // It has the directory's lock, and waits for an answer.
        let client = scope.spawn(|| File::create_new(new.join("1795466046.M1.a")));
        thread::sleep(Duration::from_millis(200));
        deliver(&inbox, "1795466047.M1.b", b"second").unwrap();
        wait_until(
            "the kernel is to forget the name, and waits for the lock",
            || {
                let waits = |(name, _, state): &(String, i32, char)| {
                    name == "mb-invalidate" && *state == 'D'
                };
                threads(process).iter().any(waits)
            },
        );
        let pid = rustix::process::Pid::from_raw(process as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        for (_, number, _) in &answering {
            reap_thread(*number);
        }
        wait_until("the process ends", || threads(process).is_empty());
        let refused = client.join().unwrap().unwrap_err();
        println!("the client heard: {refused}");
    });
    // The mount is there, dead, until somebody unmounts it: nothing is delivered to what lies below.
    assert!(fs::write(new.join("1795466048.M1.a"), b"x").is_err());
    a.mounted.kill_and_remount();
    converged(&[&a, &b]);
    assert_eq!(a.messages("u").len(), 2);
}
