//! The UID laws (RFC 9051 §2.3.1.1), checked over one step of a folder's history.
//!
//! A step is a commit and one of its parents, so at a braid every side is a step. What must hold, whatever happened:
//!
//! 1. UIDVALIDITY does not fall. Where it rises all else is new, and laws 2 to 4 say nothing of what was before.
//! 2. UIDNEXT does not fall, and is above every UID.
//! 3. A UID below the parent's UIDNEXT means the message that it meant in the parent, or nothing: so none is reused, and new UIDs ascend.
//! 4. No UID means two messages.
//!
//! A message is the same where its identity ([`name::identity`]) or its blob is: flags and attributes in its name may change, and a server may
//! rename it. Only what changed is looked at: the rest holds by the steps before ([`Step::removed`] and [`Step::added`] come from the difference
//! of two tries). A folder that is gone takes its UIDs along; one that is made anew under its name should have a greater UIDVALIDITY, which nothing but
//! the server can see to. Another folder that has come to its place (of another GUID, or not yet numbered) is none of its business: Dovecot renames each
//! folder that it deletes to one name.

use std::collections::HashMap;

use super::{MailboxFacts, Oid, name};

/// A message with a UID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its UID.
    pub uid: u32,
    /// Its file name.
    pub name: Vec<u8>,
    /// Its blob.
    pub oid: Oid,
}

impl Holder {
    fn is_same_message(&self, other: &Self) -> bool {
        self.oid == other.oid || name::identity(&self.name) == name::identity(&other.name)
    }
}

/// What a commit changed in a folder against one of its parents. `cur/` and `new/` count as one.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The folder's facts in the parent; `None` where it has none there.
    pub before: Option<&'a MailboxFacts>,
    /// The folder's facts in the commit; `None` where it has none.
    pub after: Option<&'a MailboxFacts>,
    /// Messages with UIDs that the parent has and the commit has not, or with another name, UID or blob.
    pub removed: &'a [Holder],
    /// Messages with UIDs that the commit has and the parent has not, or with another name, UID or blob.
    pub added: &'a [Holder],
}

/// A law that a step breaks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// Law 1.
    #[error("UIDVALIDITY falls from {from} to {to}")]
    ValidityFell {
        /// In the parent.
        from: u32,
        /// In the commit.
        to: u32,
    },
    /// Law 2.
    #[error("UIDNEXT falls from {from} to {to}")]
    NextFell {
        /// In the parent.
        from: u32,
        /// In the commit.
        to: u32,
    },
    /// Law 2.
    #[error("UID {uid} is not below UIDNEXT {uid_next}: {}", .name.escape_ascii())]
    AboveNext {
        /// The UID.
        uid: u32,
        /// UIDNEXT of the commit.
        uid_next: u32,
        /// The message's file name.
        name: Vec<u8>,
    },
    /// Law 3.
    #[error("UID {uid} is used again, below UIDNEXT {uid_next}: {}", .name.escape_ascii())]
    Reused {
        /// The UID.
        uid: u32,
        /// UIDNEXT of the parent.
        uid_next: u32,
        /// The message's file name.
        name: Vec<u8>,
    },
    /// Law 4.
    #[error("UID {uid} means two messages: {} and {}", .names.0.escape_ascii(), .names.1.escape_ascii())]
    Twice {
        /// The UID.
        uid: u32,
        /// The messages' file names.
        names: (Vec<u8>, Vec<u8>),
    },
    /// UIDs without UIDVALIDITY mean nothing.
    #[error("UID {uid} in a folder without UIDVALIDITY: {}", .name.escape_ascii())]
    NoValidity {
        /// The UID.
        uid: u32,
        /// The message's file name.
        name: Vec<u8>,
    },
}

/// The laws that a step breaks; none where it is lawful.
#[must_use]
pub fn check(step: &Step<'_>) -> Vec<Violation> {
    let none = MailboxFacts::default();
    let is_same =
        |before: &&MailboxFacts| !step.after.is_some_and(|after| is_another(before, after));
    let before = step.before.filter(is_same).unwrap_or(&none);
    let Some(after) = step.after else {
        return step
            .added
            .first()
            .map(without_validity)
            .into_iter()
            .collect();
    };
    let mut broken = Vec::new();
    let fresh = after.uid_validity > before.uid_validity;
    if after.uid_validity < before.uid_validity {
        broken.push(Violation::ValidityFell {
            from: before.uid_validity,
            to: after.uid_validity,
        });
    } else if after.uid_next < before.uid_next && !fresh {
        broken.push(Violation::NextFell {
            from: before.uid_next,
            to: after.uid_next,
        });
    }
    if after.uid_validity == 0 {
        broken.extend(step.added.first().map(without_validity));
        return broken;
    }
    let floor = if fresh { 0 } else { before.uid_next };
    let mut held: HashMap<u32, Vec<&Holder>> = HashMap::new();
    for holder in step.removed {
        held.entry(holder.uid).or_default().push(holder);
    }
    let mut given: HashMap<u32, &Holder> = HashMap::new();
    for holder in step.added {
        let Holder { uid, name, .. } = holder;
        if *uid >= after.uid_next {
            broken.push(Violation::AboveNext {
                uid: *uid,
                uid_next: after.uid_next,
                name: name.clone(),
            });
        }
        let meant = held.get(uid).into_iter().flatten();
        if *uid < floor && !meant.into_iter().any(|old| old.is_same_message(holder)) {
            broken.push(Violation::Reused {
                uid: *uid,
                uid_next: floor,
                name: name.clone(),
            });
        }
        // One message in new/ and cur/ at once is one message.
        if let Some(other) = given.insert(*uid, holder)
            && !other.is_same_message(holder)
        {
            broken.push(Violation::Twice {
                uid: *uid,
                names: (other.name.clone(), name.clone()),
            });
        }
    }
    broken
}

/// Whether these are certainly the facts of two folders.
fn is_another(before: &MailboxFacts, after: &MailboxFacts) -> bool {
    match (&before.guid, &after.guid) {
        (Some(before), Some(after)) => before != after,
        _ => after.is_only_offered(),
    }
}

fn without_validity(holder: &Holder) -> Violation {
    Violation::NoValidity {
        uid: holder.uid,
        name: holder.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::HashKind;

    fn facts(uid_validity: u32, uid_next: u32) -> MailboxFacts {
        MailboxFacts {
            uid_validity,
            uid_next,
            ..MailboxFacts::default()
        }
    }

    fn holders(of: &[(u32, &str, u8)]) -> Vec<Holder> {
        of.iter()
            .map(|(uid, name, blob)| Holder {
                uid: *uid,
                name: name.as_bytes().to_vec(),
                oid: Oid::from_bytes(&vec![*blob; HashKind::Sha1.len()]).unwrap(),
            })
            .collect()
    }

    fn broken(
        before: (u32, u32),
        after: (u32, u32),
        removed: &[(u32, &str, u8)],
        added: &[(u32, &str, u8)],
    ) -> Vec<Violation> {
        let (before, after) = (facts(before.0, before.1), facts(after.0, after.1));
        check(&Step {
            before: (before.uid_next > 0).then_some(&before),
            after: (after.uid_next > 0).then_some(&after),
            removed: &holders(removed),
            added: &holders(added),
        })
    }

    #[test]
    fn what_servers_do_is_lawful() {
        let delivery = broken((9, 5), (9, 6), &[], &[(5, "a", 1)]);
        let flag = broken((9, 5), (9, 5), &[(4, "a:2,", 1)], &[(4, "a:2,S", 1)]);
        let renamed = broken((9, 5), (9, 5), &[(4, "a", 1)], &[(4, "b", 1)]);
        let rewritten = broken((9, 5), (9, 5), &[(4, "a", 1)], &[(4, "a", 2)]);
        let renumbered = broken((9, 5), (9, 6), &[(4, "a", 1)], &[(5, "a", 1)]);
        let expunge = broken((9, 5), (9, 5), &[(4, "a", 1)], &[]);
        let anew = broken((9, 5), (10, 3), &[(4, "a", 1)], &[(1, "a", 1), (2, "b", 2)]);
        let first = broken((0, 0), (9, 5), &[], &[(4, "a", 1)]);
        let gone = broken((9, 5), (0, 0), &[(4, "a", 1)], &[]);
        let both = broken(
            (9, 5),
            (9, 5),
            &[(4, "a", 1)],
            &[(4, "a", 1), (4, "a:2,S", 1)],
        );
        for step in [
            delivery, flag, renamed, rewritten, renumbered, expunge, anew, first, gone, both,
        ] {
            assert_eq!(step, []);
        }
    }

    #[test]
    fn regression_another_folder_may_come_to_the_place_of_one_that_went() {
        let of = |uid_validity, guid: &str| MailboxFacts {
            guid: (!guid.is_empty()).then(|| guid.as_bytes().to_vec()),
            ..facts(uid_validity, 5)
        };
        let offered = MailboxFacts {
            offer: Some(crate::maildir::Offer {
                uid_validity: 7,
                guid: b"c".to_vec(),
            }),
            ..facts(0, 1)
        };
        let step = |before: &MailboxFacts, after: &MailboxFacts| {
            check(&Step {
                before: Some(before),
                after: Some(after),
                removed: &holders(&[(4, "x", 1)]),
                added: &if after.uid_validity > 0 {
                    holders(&[(2, "y", 2)])
                } else {
                    Vec::new()
                },
            })
        };
        assert_eq!(step(&of(9, "a"), &of(8, "b")), []);
        assert_eq!(step(&of(9, "a"), &offered), []);
        let fell = Violation::ValidityFell { from: 9, to: 8 };
        for (before, after) in [("a", "a"), ("a", ""), ("", "b"), ("", "")] {
            assert!(step(&of(9, before), &of(8, after)).contains(&fell));
        }
    }

    #[test]
    fn each_law_is_seen_broken() {
        assert_eq!(
            broken((9, 5), (8, 6), &[], &[]),
            [Violation::ValidityFell { from: 9, to: 8 }]
        );
        assert_eq!(
            broken((9, 5), (9, 4), &[], &[]),
            [Violation::NextFell { from: 5, to: 4 }]
        );
        let name = |text: &str| text.as_bytes().to_vec();
        assert_eq!(
            broken((9, 5), (9, 6), &[], &[(6, "a", 1)]),
            [Violation::AboveNext {
                uid: 6,
                uid_next: 6,
                name: name("a")
            }]
        );
        assert_eq!(
            broken((9, 5), (9, 5), &[(4, "a", 1)], &[(4, "b", 2)]),
            [Violation::Reused {
                uid: 4,
                uid_next: 5,
                name: name("b")
            }]
        );
        assert_eq!(
            broken((9, 5), (9, 5), &[], &[(3, "b", 2)]),
            [Violation::Reused {
                uid: 3,
                uid_next: 5,
                name: name("b")
            }]
        );
        assert_eq!(
            broken((9, 5), (9, 6), &[], &[(5, "a", 1), (5, "b", 2)]),
            [Violation::Twice {
                uid: 5,
                names: (name("a"), name("b"))
            }]
        );
        assert_eq!(
            broken((9, 5), (0, 0), &[], &[(4, "a", 1)]),
            [Violation::NoValidity {
                uid: 4,
                name: name("a")
            }]
        );
        assert_eq!(
            broken((0, 0), (0, 1), &[], &[(4, "a", 1)]),
            [Violation::NoValidity {
                uid: 4,
                name: name("a")
            }]
        );
    }
}
