//! From an LMTP delivery on one node to `EXISTS` in a session in IDLE on another; and the same where Dovecot's own replication, `doveadm sync`, is run for
//! each delivery.
//!
//! The sessions are of several users in turn, each asleep (see [`super::node`]) when its mail comes. `MAILBRAID_NET_DELIVERIES=500` says how many mails.
//! Times are printed and are no assertion; that every mail is told is one. With `MAILBRAID_NET_STAGES=1` the daemons say in their logs what they do when, and the median of
//! each stage is printed.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::cluster::Cluster;
use super::knobs::number;
use super::mailbox::message;
use super::node::Node;
use crate::imap::client::{Client, Idle};
use crate::imap::tools;

/// Users, so that each session has time to fall asleep again.
const USERS: usize = 12;
/// Dovecot puts a session to sleep after this, and needs a moment to do it.
const SLEEP: Duration = Duration::from_millis(1600);

/// What was measured.
#[derive(Debug, Default)]
pub struct Times {
    /// From the beginning of the LMTP transaction.
    pub from_start: Vec<Duration>,
    /// From the LMTP server's acknowledgement.
    pub from_acknowledged: Vec<Duration>,
    /// Beginning, acknowledgement and end of each, by the clock of the logs.
    clock: Vec<[f64; 3]>,
}

/// The way of a delivery: on which node, the words in its log, and what is done by then.
const STAGES: [(usize, &str, &str); 10] = [
    (0, "commit begins", "LMTP, journal"),
    (0, "commit ends", "commit"),
    (0, ": push begins", "peer's thread wakes"),
    (0, "pack sent", "pack made and sent"),
    (
        1,
        "head of a came",
        "ssh, receive-pack, the kernel tells of the ref",
    ),
    (1, "braid begins", "check, store thread wakes"),
    (1, "braid ends", "plan"),
    (1, "application begins", "lock"),
    (1, "application ends", "head moved, tree switched"),
    (1, "woken", "kernel and watchers told"),
];

/// Seconds since the epoch.
fn clock() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a clock that is set").as_secs_f64()
}

/// The lines of level `debug` of a log: when, and what.
fn log_lines(path: &PathBuf) -> Vec<(f64, String)> {
    let log = std::fs::read_to_string(path).expect("read a daemon's log");
    log.lines()
        .filter_map(|line| {
            let (time, said) = line.split_once("debug: ")?.1.split_once(' ')?;
            Some((time.parse().ok()?, said.to_owned()))
        })
        .collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, |time| time * 1e3)
}

impl Times {
    /// The median of each stage, in milliseconds, as the logs of both nodes have it.
    fn stages(&self, logs: [Vec<(f64, String)>; 2]) -> String {
        let mut stages = vec![Vec::new(); STAGES.len() + 1];
        for [start, _, end] in &self.clock {
            let mut at = *start;
            let mut times = Vec::new();
            for (node, words, _) in STAGES {
                let from = logs[node].partition_point(|(time, _)| *time < at);
                let found = logs[node][from..]
                    .iter()
                    .find(|(_, said)| said.contains(words));
                let Some((time, _)) = found else { break };
                times.push(time - at);
                at = *time;
            }
            if times.len() == STAGES.len() {
                times.push(end - at);
                for (stage, time) in stages.iter_mut().zip(times) {
                    stage.push(time);
                }
            }
        }
        let acknowledged = self.clock.iter().map(|[start, told, _]| told - start);
        let mut text = format!(
            "{:7.2} ms  (LMTP's acknowledgement)\n",
            median(acknowledged.collect())
        );
        let names = STAGES.iter().map(|(_, _, name)| *name);
        for (name, times) in names.chain(["Dovecot tells its client"]).zip(stages) {
            text += &format!("{:7.2} ms  {name}\n", median(times));
        }
        text
    }
}

impl Times {
    /// p50 and p99 of both, in milliseconds.
    pub fn text(&mut self) -> String {
        let [start, acknowledged] =
            [&mut self.from_start, &mut self.from_acknowledged].map(|times| {
                times.sort();
                let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms",
                    at(50).as_secs_f64() * 1e3,
                    at(99).as_secs_f64() * 1e3
                )
            });
        format!(
            "{} deliveries: {start} (from the 250: {acknowledged})",
            self.from_start.len()
        )
    }
}

/// Delivers at `from` and waits for `EXISTS` at `to`. `after` is run after each delivery, for what must be done to bring it over.
#[track_caller]
pub fn measure(
    from: &Node,
    to: &Node,
    count: usize,
    mut after: impl FnMut(&str),
    level: impl FnOnce(),
) -> Times {
    let mut lmtp = from.lmtp();
    let users: Vec<String> = (0..USERS).map(|number| format!("u{number}")).collect();
    for user in &users {
        lmtp.deliver(user, &message("first@example.org"));
        after(user);
    }
    level();
    let mut clients: Vec<Client> = users.iter().map(|user| to.imap(user)).collect();
    for client in &mut clients {
        let exists = client.ok("SELECT INBOX").count("EXISTS");
        assert_eq!(exists, Some(1), "the first mail is not there");
    }
    let mut sessions: Vec<Idle<'_>> = clients.iter_mut().map(Client::idle).collect();
    let mut times = Times::default();
    std::thread::sleep(SLEEP);
    for number in 0..count {
        let turn = Instant::now();
        let at = number % USERS;
        let text = message(&format!("m{number}@example.org"));
        let (start, began) = (Instant::now(), clock());
        lmtp.deliver(&users[at], &text);
        let acknowledged = Instant::now();
        after(&users[at]);
        let wanted = format!("* {} EXISTS", 2 + number / USERS);
        assert!(
            sessions[at].wait(Duration::from_secs(60), |line| line == wanted),
            "delivery {number} to {} was not told: {}",
            users[at],
            to.said()
        );
        times.from_start.push(start.elapsed());
        times.from_acknowledged.push(acknowledged.elapsed());
        let told = clock();
        times
            .clock
            .push([began, told - acknowledged.elapsed().as_secs_f64(), told]);
        let pause = SLEEP / u32::try_from(USERS).expect("few users");
        std::thread::sleep(pause.saturating_sub(turn.elapsed()));
    }
    for session in sessions {
        session.done();
    }
    times
}

/// Over mailbraid: two nodes that are peers.
#[track_caller]
pub fn over_mailbraid(count: usize) -> Times {
    let stages = number("STAGES", 0) > 0;
    let mut cluster = Cluster::machines(&["a", "b"]);
    for node in &mut cluster.nodes {
        node.init();
        if stages {
            node.set_env("MAILBRAID_LOG", "info,fuser=warn,mailbraid=debug");
        }
        node.mount();
        node.start_dovecot();
    }
    cluster.link(0, 1);
    cluster.link(1, 0);
    let times = measure(
        &cluster.nodes[0],
        &cluster.nodes[1],
        count,
        |_| {},
        || {
            cluster.converge(Duration::from_secs(60));
        },
    );
    if stages {
        let logs = [0, 1]
            .map(|at: usize| log_lines(&cluster.nodes[at].mountpoint().with_extension("log")));
        println!("{}", times.stages(logs));
    }
    cluster.assert_sound();
    times
}

/// Over Dovecot's own: two plain Maildirs, and `doveadm sync` over ssh after each delivery. The ssh connection is kept open.
#[track_caller]
pub fn over_doveadm(count: usize) -> Times {
    let mut cluster = Cluster::machines(&["a", "b"]);
    for node in &mut cluster.nodes {
        node.start_plain_dovecot();
    }
    let [a, b] = &cluster.nodes[..] else {
        unreachable!("two nodes")
    };
    let doveadm = tools::program("doveadm");
    let socket = cluster.dir().join("admin-%C");
    let sync = |user: &str| {
        let done = a.host.run(|| {
            Command::new(&doveadm)
                .arg("-c")
                .arg(a.dovecot().config())
                .args(["sync", "-u", user])
                .arg(a.keys.bin().join("admin"))
                .args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o"])
                .arg(format!("ControlPath={}", socket.display()))
                .arg(b.host.ip.to_string())
                .arg(&doveadm)
                .arg("-c")
                .arg(b.dovecot().config())
                .args(["dsync-server", "-u", user])
                .output()
                .expect("run doveadm")
        });
        assert!(
            done.status.success(),
            "doveadm sync: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let times = measure(a, b, count, sync, || {});
    for node in &cluster.nodes {
        node.dovecot().assert_silent();
    }
    times
}

#[test]
fn dovecots_own_replication_for_comparison() {
    let count = number("DELIVERIES", 12);
    println!("doveadm sync {}", over_doveadm(count).text());
}
