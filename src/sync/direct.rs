//! A look whether a dead peer is back, for the price of a packet.
//!
//! The problem: a dead peer is tried every second, so that it is noticed soon. Each try started a shell and ssh, which takes some ten milliseconds of a processor, in pieces that
//! deliveries wait for.
//!
//! So where ssh has found nobody, it is asked once where it would connect to (`ssh -G`, after its configuration), and ssh is started again when somebody listens there. Where it would go through
//! another host or program, or is no OpenSSH, there is nothing to look at, and every try starts it.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::{Command, Stdio};

use log::debug;

use crate::limits;

/// Where ssh would connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Direct {
    host: String,
    port: u16,
}

impl Direct {
    /// Asks ssh. `question` is its command with `-G`.
    pub(super) fn ask(mut question: Command) -> Option<Self> {
        let answer = question
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let found = Self::parse(&String::from_utf8(answer.stdout).ok()?);
        debug!("ssh connects to {found:?}");
        found.filter(|_| answer.status.success())
    }

    /// A line an option: its name in small letters, and its value (ssh(1), `-G`).
    fn parse(answer: &str) -> Option<Self> {
        let value = |name: &str| {
            answer
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        let is_direct = ["proxyjump", "proxycommand"]
            .iter()
            .all(|name| value(name).is_none_or(|value| value == "none"));
        is_direct.then_some(())?;
        Some(Self {
            host: value("hostname")?.to_owned(),
            port: value("port")?.parse().ok()?,
        })
    }

    /// Whether somebody listens there.
    pub(super) fn answers(&self) -> bool {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        addresses.is_ok_and(|mut addresses| {
            addresses
                .any(|address| TcpStream::connect_timeout(&address, limits::CONNECT_WAIT).is_ok())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let direct = Direct {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        assert!(direct.answers());
        drop(listener);
        assert!(!direct.answers());
    }

    #[test]
    fn ssh_says_where_it_would_connect_to() {
        let ask = |options: &[&str]| {
            let mut question = Command::new("ssh");
            question.args(["-F", "none", "-G"]).args(options);
            Direct::ask(question)
        };
        let expected = |host: &str, port| {
            Some(Direct {
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(ask(&["mail@example.org"]), expected("example.org", 22));
        let named = ["-p2222", "-oHostName=192.0.2.7", "example"];
        assert_eq!(ask(&named), expected("192.0.2.7", 2222));
        assert_eq!(
            ask(&["-oProxyCommand=none", "-oProxyJump=none", "a"]),
            expected("a", 22)
        );
        assert_eq!(ask(&["-oProxyJump=gate", "example.org"]), None);
        assert_eq!(ask(&["-oProxyCommand=nc %h %p", "example.org"]), None);
        assert_eq!(ask(&["-oNoSuchOption=1", "example.org"]), None);
    }
}
