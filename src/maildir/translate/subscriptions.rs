//! One list of subscriptions for both servers: Dovecot's `subscriptions` is the record, `courierimapsubscribed` a view of it.
//!
//! Courier names a mailbox as IMAP shows it, `INBOX.lists.git`; Dovecot's file names it within its namespace, `lists` and `git`. `INBOX` is
//! `INBOX` for both. Names of other namespaces (`#shared.…`) mean nothing to Dovecot: they are kept as a single level with the mark first.

use crate::maildir::codec::courier_subscribed::Subscribed;
use crate::maildir::codec::subscriptions::{Subscriptions, Version};

/// Courier's hierarchy separator, and Maildir++'s.
const SEPARATOR: u8 = b'.';

/// `courierimapsubscribed` for the subscriptions on record.
#[must_use]
pub fn to_courier(subscriptions: &Subscriptions) -> Subscribed {
    let names = subscriptions
        .levels(SEPARATOR)
        .into_iter()
        .map(|levels| {
            let is_inbox = levels
                .first()
                .is_some_and(|first| first.eq_ignore_ascii_case(b"INBOX"));
            let is_other = levels.first().is_some_and(|first| first.starts_with(b"#"));
            let joined = levels.join(&SEPARATOR);
            if is_other || (is_inbox && levels.len() == 1) {
                joined
            } else {
                [b"INBOX.", joined.as_slice()].concat()
            }
        })
        .collect();
    Subscribed { names }
}

/// The subscriptions that a `courierimapsubscribed` means, as Dovecot writes them today.
#[must_use]
pub fn from_courier(subscribed: &Subscribed) -> Subscriptions {
    let mut names: Vec<Vec<Vec<u8>>> = Vec::new();
    for name in &subscribed.names {
        let within = match name.split_at_checked(6) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"INBOX.") && !rest.is_empty() => {
                rest
            }
            _ => name,
        };
        let levels = if name.starts_with(b"#") {
            vec![name.clone()]
        } else {
            within
                .split(|&byte| byte == SEPARATOR)
                .map(<[u8]>::to_vec)
                .collect()
        };
        if !names.contains(&levels) {
            names.push(levels);
        }
    }
    Subscriptions {
        version: Version::V2,
        names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_survive_both_ways() {
        let courier = b"INBOX\nINBOX.lists.git\n#shared.a.b\nINBOX.&AMU-\n";
        let parsed = Subscribed::parse(courier).unwrap();
        let record = from_courier(&parsed);
        assert_eq!(
            record.encode(),
            b"V\t2\n\nINBOX\nlists\tgit\n#shared.a.b\n&AMU-\n"
        );
        assert_eq!(to_courier(&record).encode(), courier);
        let old = Subscriptions::parse(b"INBOX\nlists.git\n").unwrap();
        assert_eq!(to_courier(&old).encode(), b"INBOX\nINBOX.lists.git\n");
    }
}
