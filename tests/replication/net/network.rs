//! Network namespaces on one bridge.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity,
};

use crate::imap::tools;

/// What all our namespaces' names begin with; the process id follows.
const PREFIX: &str = "mailbraid-";

/// The bridge and the namespaces it joins; removed on drop, with every process in them.
#[derive(Debug)]
pub struct Network {
    hub: String,
    hosts: Vec<Host>,
}

/// One namespace: a machine, as far as its network goes.
#[derive(Clone, Debug)]
pub struct Host {
    /// The node's name, and the name of its port on the bridge.
    pub name: String,
    /// The namespace.
    namespace: String,
    /// Its address.
    pub ip: IpAddr,
    /// The processors that it has to itself.
    processors: Option<Vec<usize>>,
}

impl Network {
    /// Makes a namespace a name, all joined.
    #[track_caller]
    pub fn new(names: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        clear_left_behind();
        let base = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let hub = format!("{base}-hub");
        let mut network = Self {
            hub: hub.clone(),
            hosts: Vec::new(),
        };
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &hub, "link", "set", "br0", "up"]);
        for (at, name) in names.iter().enumerate() {
            let namespace = format!("{base}-{name}");
            let last = u8::try_from(at + 1).expect("few nodes");
            let host = Host {
                name: (*name).to_owned(),
                namespace: namespace.clone(),
                ip: IpAddr::V4(Ipv4Addr::new(10, 77, 0, last)),
                processors: None,
            };
            network.hosts.push(host.clone());
            ip(&["netns", "add", &namespace]);
            ip(&[
                "-n", &hub, "link", "add", "name", name, "type", "veth", "peer", "name", "eth0",
                "netns", &namespace,
            ]);
            ip(&[
                "-n", &hub, "link", "set", "dev", name, "master", "br0", "up",
            ]);
            // No address resolution or multicast of IPv6: the interface counts only what the nodes say.
            host.run(|| {
                let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
            });
            let address = format!("{}/24", host.ip);
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        network
    }

    /// Gives each machine processors of its own, as many to each. Where there are fewer than machines, they share them all. The first one gets those that the devices interrupt, its
    /// disk above all: what it has written is not told to another machine first.
    #[must_use]
    pub fn with_own_processors(mut self) -> Self {
        let ours = sched_getaffinity(None).expect("our processors");
        let mut all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|at| ours.is_set(*at)).collect();
        let interrupts = interrupts();
        all.sort_by_key(|at| Reverse(interrupts.get(*at).copied()));
        let each = all.len() / self.hosts.len();
        if each > 0 {
            for (host, own) in self.hosts.iter_mut().zip(all.chunks_exact(each)) {
                host.processors = Some(own.to_vec());
            }
        }
        self
    }

    /// The machines, in the order of their names as given.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Pulls a machine's cable.
    #[track_caller]
    pub fn cut(&self, name: &str) {
        ip(&["-n", &self.hub, "link", "set", "dev", name, "down"]);
    }

    /// Plugs it in again.
    #[track_caller]
    pub fn join(&self, name: &str) {
        ip(&["-n", &self.hub, "link", "set", "dev", name, "up"]);
    }

    /// A machine's cable in hand, for who must be quick.
    #[track_caller]
    pub fn cable(&self, name: &str) -> Cable {
        let mut child = Command::new(tools::program("ip"))
            .args(["-n", &self.hub, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run ip");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut cable = Cable {
            name: name.to_owned(),
            child,
            said,
        };
        // It is started, and reads.
        cable.plug();
        cable
    }

    /// Plugs all in.
    #[track_caller]
    pub fn heal(&self) {
        for host in &self.hosts {
            self.join(&host.name);
        }
    }

    /// Leaves only the machines named here joined to each other; every other one is alone.
    #[track_caller]
    pub fn leave(&self, together: &[&str]) {
        for host in &self.hosts {
            if together.contains(&host.name.as_str()) {
                self.join(&host.name);
            } else {
                self.cut(&host.name);
            }
        }
    }
}

/// A cable that is pulled within a millisecond: `ip` runs already.
#[derive(Debug)]
pub struct Cable {
    name: String,
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Cable {
    /// Pulls it; it is out on return.
    #[track_caller]
    pub fn pull(&mut self) {
        self.set("down");
    }

    /// Plugs it in.
    #[track_caller]
    pub fn plug(&mut self) {
        self.set("up");
    }

    fn set(&mut self, state: &str) {
        let name = &self.name;
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        let lines = format!("link set dev {name} {state}\nlink show dev {name}\n");
        stdin.write_all(lines.as_bytes()).expect("ask ip");
        // Two lines about the port, when all is done.
        for _ in 0..2 {
            let mut line = String::new();
            let count = self.said.read_line(&mut line).expect("hear from ip");
            assert!(count > 0, "ip has ended");
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&host.namespace);
        }
        remove(&self.hub);
    }
}

impl Host {
    /// Runs something in this machine: sockets it opens, threads and processes it starts are there for good.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.namespace);
        let done = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    let file = File::open(&path).expect("open a network namespace");
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("enter a network namespace: run the tests as root");
                    if let Some(own) = &self.processors {
                        let mut set = CpuSet::new();
                        own.iter().for_each(|at| set.set(*at));
                        sched_setaffinity(None, &set).expect("take processors");
                    }
                    body()
                })
                .join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Bytes that its interface has taken in and sent out.
    #[track_caller]
    pub fn bytes(&self) -> [u64; 2] {
        let shown = self.run(|| fs::read_to_string("/proc/thread-self/net/dev").expect("counters"));
        let line = shown
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("eth0:"))
            .expect("an interface");
        let field = |at| {
            line.split_whitespace()
                .nth(at)
                .and_then(|word: &str| word.parse().ok())
                .expect("a counter")
        };
        [field(0), field(8)]
    }
}

/// How often devices have interrupted each processor.
fn interrupts() -> Vec<u64> {
    let shown = fs::read_to_string("/proc/interrupts").expect("counters");
    let processors = shown
        .lines()
        .next()
        .map_or(0, |line| line.split_whitespace().count());
    let mut sums = vec![0; processors];
    for line in shown.lines() {
        let mut words = line.split_whitespace();
        // Those of the processors themselves have names.
        let is_device = words
            .next()
            .is_some_and(|name| name.trim_end_matches(':').parse::<u32>().is_ok());
        if is_device {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum += word.parse().unwrap_or(0);
            }
        }
    }
    sums
}

#[track_caller]
fn ip(words: &[&str]) -> String {
    let done = Command::new(tools::program("ip"))
        .args(words)
        .output()
        .expect("run ip");
    assert!(
        done.status.success(),
        "ip {}: {}{}",
        words.join(" "),
        String::from_utf8_lossy(&done.stderr),
        if rustix::process::geteuid().is_root() {
            ""
        } else {
            "network namespaces need root: run tests/run as root"
        }
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Ends all that runs in a namespace of ours, and removes it. Whatever is gone already is no fault.
fn remove(namespace: &str) {
    let Ok(path) = std::panic::catch_unwind(|| tools::program("ip")) else {
        return;
    };
    for _ in 0..20 {
        let Ok(listed) = Command::new(&path)
            .args(["netns", "pids", namespace])
            .output()
        else {
            return;
        };
        let pids: Vec<Pid> = String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter_map(|line| Pid::from_raw(line.trim().parse().ok()?))
            .collect();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _ = Command::new(&path)
        .args(["netns", "del", namespace])
        .output();
}

/// Removes the namespaces of test processes that are no more.
#[track_caller]
fn clear_left_behind() {
    for line in ip(&["netns", "list"]).lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(name);
        }
    }
}

#[test]
fn a_cable_is_pulled_and_plugged_in() {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    let network = Network::new(&["a", "b"]);
    let [a, b] = network.hosts() else {
        unreachable!("two names, two hosts")
    };
    let address = std::net::SocketAddr::new(b.ip, 700);
    let _listener = b.run(|| TcpListener::bind(address).unwrap());
    let reach = || a.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(400)));
    reach().unwrap();
    let before = b.bytes();
    network.cut("b");
    reach().unwrap_err();
    network.join("b");
    let after = (0..20).find_map(|_| reach().ok());
    assert!(after.is_some(), "the cable is plugged in and nothing comes");
    assert!(b.bytes()[0] > before[0], "the interface counts nothing");
}
