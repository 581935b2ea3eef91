//! What goes on with a peer at this moment, for `status` and the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::stream::Traffic;

/// A part of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing {
    part: Part,
    since: Instant,
    /// Bytes exchanged before it began.
    before: u64,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Sending,
    Receiving,
    Checking,
}

impl Doing {
    /// A push.
    pub(super) fn sending(traffic: &Traffic) -> Self {
        Self::new(Part::Sending, traffic)
    }

    /// A fetch.
    pub(super) fn receiving(traffic: &Traffic) -> Self {
        Self::new(Part::Receiving, traffic)
    }

    /// The check of what was fetched.
    pub(super) fn checking(traffic: &Traffic) -> Self {
        Self::new(Part::Checking, traffic)
    }

    fn new(part: Part, traffic: &Traffic) -> Self {
        Self {
            part,
            since: Instant::now(),
            before: part.count(traffic),
        }
    }

    /// In one word.
    pub(super) fn name(&self) -> &'static str {
        match self.part {
            Part::Sending => "push",
            Part::Receiving => "fetch",
            Part::Checking => "check",
        }
    }

    /// Whether it has gone on for so long.
    pub(super) fn is_older(&self, than: Duration) -> bool {
        self.since.elapsed() >= than
    }

    /// In words, with how far it is.
    pub(super) fn text(&self, traffic: &Traffic) -> String {
        let what = match self.part {
            Part::Sending => "sending",
            Part::Receiving => "receiving",
            Part::Checking => "checking what came",
        };
        let seconds = self.since.elapsed().as_secs();
        match self.part.count(traffic).saturating_sub(self.before) {
            0 => format!("{what} for {seconds} s"),
            bytes => {
                let megabytes = bytes as f64 / 1e6;
                format!("{what}, {megabytes:.1} MB in {seconds} s")
            }
        }
    }
}

impl Part {
    fn count(self, traffic: &Traffic) -> u64 {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        match self {
            Self::Sending => of(&traffic.sent),
            Self::Receiving => of(&traffic.received),
            Self::Checking => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_where_it_began() {
        let traffic = Traffic::default();
        traffic.received.store(7, Ordering::Relaxed);
        let doing = Doing::receiving(&traffic);
        assert_eq!(doing.text(&traffic), "receiving for 0 s");
        traffic.received.store(2_500_007, Ordering::Relaxed);
        assert_eq!(doing.text(&traffic), "receiving, 2.5 MB in 0 s");
        assert!(doing.is_older(Duration::ZERO) && !doing.is_older(Duration::from_secs(60)));
    }
}
