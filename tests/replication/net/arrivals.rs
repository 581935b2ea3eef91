//! From an LMTP delivery on one node to `EXISTS` in a session in IDLE on another; and the same where Dovecot's own replication, `doveadm sync`, is run for
//! each delivery.
//!
//! The sessions are of several users in turn, each asleep (see [`super::node`]) when its mail comes. `MAILBRAID_NET_DELIVERIES=500` says how many mails.
//! Times are printed and are no assertion; that every mail is told is one.

use std::process::Command;
use std::time::{Duration, Instant};

use super::cluster::Cluster;

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
        let start = Instant::now();
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
    let cluster = Cluster::start(&["a", "b"], &[(0, 1)]);
    let times = measure(
        &cluster.nodes[0],
        &cluster.nodes[1],
        count,
        |_| {},
        || {
            cluster.converge(Duration::from_secs(60));
        },
    );
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
    let count = super::knobs::number("DELIVERIES", 12);
    println!("doveadm sync {}", over_doveadm(count).text());
}
