//! UIDs, UIDNEXT and UIDVALIDITY of one folder (RFC 9051 §2.3.1.1): Rule U.
//!
//! The problem: nodes that cannot see each other give the same UID to different messages, and clients have already seen both.
//!
//! A *view* is a folder as one side of the merge shows it: its UIDVALIDITY, its UIDNEXT, and which UID it gives to which message.
//!
//! 1. The greatest UIDVALIDITY of all views stays. UIDs of a view with another one say nothing.
//! 2. A message keeps a UID if *every* view with that UIDVALIDITY either gives this UID to this message, or has a UIDNEXT that is not greater than it.
//! 3. A message that has no UID in any view gets none: its server has not seen it yet, and gives it the next one.
//! 4. Every other message gets a new UID from the greatest UIDNEXT on, in the order of [`Order`], which is the same everywhere.
//! 5. UIDNEXT becomes greater than the greatest of all views and of all UIDs given.
//!
//! At most one UID of a message can pass rule 2: if `u` of view 1 and `v` of view 2 passed, `u ≥ UIDNEXT₂ > v` and `v ≥ UIDNEXT₁ > u`.
//!
//! # Why no UID ever names two messages to anyone
//!
//! Say that state M *continues* state H if in M every UID below H's UIDNEXT belongs to the message that had it in H, or to none, and M's UIDNEXT is
//! not less. That is what a client which has seen H needs of M: what it knows stays true or is expunged, and all else it meets is at or above its UIDNEXT, so in the order of arrival. A server's
//! own work continues the state before it. A merge continues each of its sides: a kept UID below a side's UIDNEXT meant this message there (rule 2); a new one is not
//! below (rule 4). Continuing is transitive, so every commit continues all of its ancestors; and a node moves only from a commit to its
//! descendants. A greater UIDVALIDITY continues everything. That covers two messages that got one UID on two sides, a UID given on a cut-off node to a
//! message that a merge renumbers elsewhere, and UIDs expunged on one side and in use on another: the side that expunged it has UIDNEXT above it.

use crate::maildir::Oid;

/// A folder's UID facts as one side shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// UIDVALIDITY; 0 where no server has opened the folder.
    pub validity: u32,
    /// UIDNEXT: no message has this UID or a greater one.
    pub next: u32,
}

/// The order in which messages get new UIDs: delivery time, blob id, unique name.
pub type Order<'a> = (i64, Oid, &'a [u8]);

/// One message as Rule U sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim<'a> {
    /// Its UID in each view; `None` where the view gives it none or does not have it.
    pub uids: &'a [Option<u32>],
    /// Its place among those that get new UIDs.
    pub order: Order<'a>,
}

/// What Rule U says of one folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// UIDVALIDITY and UIDNEXT.
    pub view: View,
    /// The UID of each message, in the order they were asked for.
    pub uids: Vec<Option<u32>>,
    /// Which of them, by their place, have another UID than some view that counts gave them.
    pub renumbered: Vec<usize>,
}

/// Largest UID we give. RFC 9051 allows one more, but then there would be no UIDNEXT.
pub const UID_MAX: u32 = u32::MAX - 1;

/// Rule U for one folder. `views` are all sides that have or had the folder; `claims` all messages that are not the same, UID included, in every view.
#[must_use]
pub fn rule_u(views: &[View], claims: &[Claim]) -> Given {
    let validity = views.iter().map(|view| view.validity).max().unwrap_or(0);
    let counts: Vec<bool> = views.iter().map(|view| view.validity == validity).collect();
    let mut next = views
        .iter()
        .zip(&counts)
        .filter(|(_, counts)| **counts)
        .map(|(view, _)| view.next)
        .max()
        .unwrap_or(1)
        .max(1);
    let mut given = Given {
        view: View { validity, next },
        uids: Vec::with_capacity(claims.len()),
        renumbered: Vec::new(),
    };
    let mut without = Vec::new();
    for (at, claim) in claims.iter().enumerate() {
        let kept = keep(views, &counts, claim);
        if let Some(uid) = kept {
            next = next.max(uid.saturating_add(1));
        } else if claim.uids.iter().any(Option::is_some) {
            without.push(at);
        }
        given.uids.push(kept);
    }
    without.sort_by(|a, b| claims[*a].order.cmp(&claims[*b].order));
    for at in without {
        if next <= UID_MAX {
            given.uids[at] = Some(next);
            next += 1;
        }
    }
    for (at, claim) in claims.iter().enumerate() {
        let uids = claim.uids.iter().zip(&counts);
        let mut seen = uids.filter_map(|(uid, counts)| uid.filter(|_| *counts));
        if seen.any(|uid| given.uids[at] != Some(uid)) {
            given.renumbered.push(at);
        }
    }
    given.view.next = next;
    given
}

/// The UID that the message may keep (rule 2).
fn keep(views: &[View], counts: &[bool], claim: &Claim) -> Option<u32> {
    let counting = || {
        views
            .iter()
            .zip(claim.uids)
            .zip(counts)
            .filter(|(_, counts)| **counts)
            .map(|(view, _)| view)
    };
    let fits = |uid: u32| counting().all(|(view, own)| *own == Some(uid) || uid >= view.next);
    counting()
        .filter_map(|(_, own)| *own)
        .find(|&uid| fits(uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::HashKind;

    fn view(validity: u32, next: u32) -> View {
        View { validity, next }
    }

    type Sketch = (i64, Vec<Option<u32>>);

    fn claim(time: i64, uids: &[u32]) -> Sketch {
        let uids = uids.iter().map(|&uid| (uid > 0).then_some(uid));
        (time, uids.collect())
    }

    fn rule(views: &[View], sketches: &[Sketch]) -> Given {
        let claims = sketches.iter().map(|(time, uids)| Claim {
            uids,
            order: (*time, Oid::null(HashKind::Sha1), b""),
        });
        rule_u(views, &claims.collect::<Vec<Claim>>())
    }

    fn given(views: &[View], claims: &[Sketch]) -> (View, Vec<u32>) {
        let forth = rule(views, claims);
        // The order of the sides does not matter.
        let views: Vec<View> = views.iter().rev().copied().collect();
        let mut claims = claims.to_vec();
        for (_, uids) in &mut claims {
            uids.reverse();
        }
        assert_eq!(rule(&views, &claims), forth);
        let uids = forth.uids.iter().map(|uid| uid.unwrap_or(0)).collect();
        (forth.view, uids)
    }

    #[test]
    fn a_uid_that_no_other_side_gave_is_kept() {
        let (folder, uids) = given(
            &[view(9, 20), view(9, 15)],
            &[claim(1, &[18, 0]), claim(2, &[15, 0])],
        );
        assert_eq!((folder, uids), (view(9, 20), vec![18, 15]));
    }

    #[test]
    fn two_messages_with_one_uid_are_both_renumbered() {
        let (folder, uids) = given(
            &[view(9, 6), view(9, 6)],
            &[claim(2, &[5, 0]), claim(1, &[0, 5])],
        );
        assert_eq!((folder, uids), (view(9, 8), vec![7, 6]));
    }

    #[test]
    fn a_uid_expunged_on_the_other_side_does_not_return() {
        let (folder, uids) = given(&[view(9, 6), view(9, 6)], &[claim(1, &[5, 0])]);
        assert_eq!((folder, uids), (view(9, 7), vec![6]));
    }

    #[test]
    fn one_message_with_two_uids_keeps_what_both_sides_can_take() {
        // 7 is above what the other side gave out; 3 is not.
        let (_, uids) = given(&[view(9, 6), view(9, 8)], &[claim(1, &[3, 7])]);
        assert_eq!(uids, [7]);
        let (folder, uids) = given(&[view(9, 9), view(9, 8)], &[claim(1, &[3, 7])]);
        assert_eq!((folder, uids), (view(9, 10), vec![9]));
    }

    #[test]
    fn the_greater_uidvalidity_stays_and_the_rest_is_appended() {
        let claims = [claim(2, &[0, 1]), claim(1, &[0, 2]), claim(3, &[7, 1])];
        let (folder, uids) = given(&[view(9, 8), view(5, 90)], &claims);
        assert_eq!((folder, uids), (view(9, 10), vec![9, 8, 7]));
    }

    #[test]
    fn what_no_server_has_seen_gets_no_uid() {
        let (folder, uids) = given(&[view(9, 8), view(9, 9)], &[claim(1, &[0, 0])]);
        assert_eq!((folder, uids), (view(9, 9), vec![0]));
        let (folder, uids) = given(&[view(0, 0), view(0, 0)], &[claim(1, &[0, 0])]);
        assert_eq!((folder, uids), (view(0, 1), vec![0]));
    }

    #[test]
    fn uids_do_not_run_over() {
        let (folder, uids) = given(
            &[view(9, u32::MAX), view(9, 6)],
            &[claim(1, &[5, 0]), claim(2, &[0, 5])],
        );
        assert_eq!((folder, uids), (view(9, u32::MAX), vec![0, 0]));
    }
}
