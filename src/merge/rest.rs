//! What a node does with the heads it knows, and why nodes that keep braiding come to rest.
//!
//! The problem: merging the same heads gives the same commit everywhere, but nodes do not know the same heads. If A braids (a, b) while B braids
//! (b, c) and C braids (c, a), there are three new heads with the same operations, and the game begins anew.
//!
//! # The rule
//!
//! A node knows a head for each name: its own, and those its peers told it, their own and all they know. They are told together, and for each
//! name the later one counts (heads of one name only move to descendants). *In play* are the heads that are no ancestors of others. A node *has the news* of a head if all operation commits (those
//! that are no braids) that the head has are also in its own.
//!
//! 1. Only its own head is in play: nothing to do.
//! 2. Only one head is in play, and it is another's: move to it, its own is an ancestor.
//! 3. Several are in play, and one has news: braid *all* that are in play, at once. Users come first.
//! 4. Several are in play and none has news, so they differ only in braids: the node with the lowest name among all that hold a head in play braids all of them at once. The
//!    others wait.
//! 5. Who has waited too long does what 4 asks of the lowest name. The wait is a multiple of a turn by the node's place in the line, with jitter, and it doubles
//!    with each time that it did not bring rest.
//!
//! A node moves only to descendants of its head. Otherwise a push to its peers would be no fast-forward, and a UID that its clients have seen might be unknown to the new head's history. That is
//! why two heads with equal trees are not made one by dropping one of them, though it would save a commit.
//!
//! # Why it ends
//!
//! Let there be no more operations, let each round take every node's knowledge over every link, let D be the most links between two nodes, n the number of nodes, and let nobody's wait be over. Then
//! **after (n + 1)·D rounds all nodes have the same head**:
//!
//! - After D rounds all have all news, by rule 2 or 3. Only rule 4 makes commits from now on.
//! - *Who knows a commit knows that its maker holds it or a descendant of it*, since heads are told together. So a head in play in somebody's eyes is held by its maker in the same eyes; and node k, with
//!   the k-th lowest name, makes a commit by rule 4 only if all other heads in play that it sees were made by nodes with higher names.
//! - The highest name makes no commit. Once the names above k make no more, k knows their last ones after D rounds and makes at most one commit of all of them. So after n·D rounds nobody
//!   makes commits.
//! - After D more rounds all know all heads. If several were in play, the lowest name that holds one would braid. So it is one, and all have moved to it.
//!
//! If the node whose turn it is cannot be reached, rule 5 lets the next one in, and when that node returns it finds its head to be an ancestor. If two nodes braid because a wait was too short, that is one more round of the
//! same game, with a longer wait.
//!
//! Rule 3 cannot go on without operations either: each of its commits gives the node operations it did not have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{BRAID_TURN, BRAID_TURN_MOST};
use crate::maildir::Oid;

/// What the rule asks of the history.
pub trait Lines {
    /// Why a commit could not be read.
    type Error;

    /// Whether `commit` is `of` or an ancestor of it.
    ///
    /// # Errors
    /// Where a commit is missing or damaged.
    fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, Self::Error>;

    /// Whether `head` has operation commits (with less than two parents) that are not ancestors of `own`.
    ///
    /// # Errors
    /// Where a commit is missing or damaged.
    fn has_news(&self, head: Oid, own: Oid) -> Result<bool, Self::Error>;
}

/// The heads that a node knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Its head; `None` for an empty store.
    pub own: Option<Oid>,
    /// Heads of others by name.
    pub peers: &'a BTreeMap<String, Oid>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing: all heads that are known are ancestors of the node's own.
    Rest,
    /// Move to this head.
    FastForward(Oid),
    /// Braid these heads, ascending, and move to the braid.
    Braid(Vec<Oid>),
    /// It is another's turn to braid these heads.
    Wait {
        /// The heads in play, ascending.
        heads: Vec<Oid>,
        /// How many come before this node; at least 1.
        place: u32,
    },
}

/// Rules 1 to 4.
///
/// # Errors
/// Where a commit is missing or damaged.
pub fn decide<L: Lines>(lines: &L, view: &View<'_>) -> Result<Action, L::Error> {
    let heads = in_play(lines, view)?;
    let Some(own) = view.own else {
        return Ok(heads
            .first()
            .map_or(Action::Rest, |&head| Action::FastForward(head)));
    };
    match heads.as_slice() {
        [] => return Ok(Action::Rest),
        [one] if *one == own => return Ok(Action::Rest),
        [one] => return Ok(Action::FastForward(*one)),
        _ => {}
    }
    for &head in &heads {
        if lines.has_news(head, own)? {
            return Ok(Action::Braid(heads));
        }
    }
    let holds = |head: &Oid| heads.binary_search(head).is_ok();
    let peers = view.peers.iter().filter(|(_, head)| holds(head));
    let before = peers.filter(|(name, _)| !holds(&own) || name.as_str() < view.name);
    match before.count() {
        0 => Ok(Action::Braid(heads)),
        place => Ok(Action::Wait {
            heads,
            place: u32::try_from(place).unwrap_or(u32::MAX),
        }),
    }
}

/// The heads that are no ancestors of others, ascending.
fn in_play<L: Lines>(lines: &L, view: &View<'_>) -> Result<Vec<Oid>, L::Error> {
    let all: BTreeSet<Oid> = view.peers.values().copied().chain(view.own).collect();
    let mut kept = Vec::new();
    for &head in &all {
        let mut is_best = true;
        for &other in all.iter().filter(|other| **other != head) {
            is_best &= !lines.is_ancestor(head, other)?;
        }
        if is_best {
            kept.push(head);
        }
    }
    Ok(kept)
}

/// Rule 5: how long a node has waited for what.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    waiting: Option<(Vec<Oid>, Duration)>,
    /// Waits that ended without rest.
    tries: u32,
}

/// What to do, and when to ask again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Do this now.
    Do(Action),
    /// Ask again at this time, or when a head has moved.
    At(Duration),
}

impl Turns {
    /// All five rules. `now` is the time by a clock that does not run backwards; `jitter` a random number of the caller.
    ///
    /// # Errors
    /// Where a commit is missing or damaged.
    pub fn next<L: Lines>(
        &mut self,
        lines: &L,
        view: &View<'_>,
        now: Duration,
        jitter: u32,
    ) -> Result<Next, L::Error> {
        let action = decide(lines, view)?;
        let Action::Wait { heads, place } = action else {
            self.waiting = None;
            if matches!(action, Action::Rest | Action::FastForward(_)) {
                self.tries = 0;
            }
            return Ok(Next::Do(action));
        };
        match &self.waiting {
            Some((known, until)) if *known == heads => {
                if now < *until {
                    return Ok(Next::At(*until));
                }
                self.waiting = None;
                self.tries = self.tries.saturating_add(1);
                Ok(Next::Do(Action::Braid(heads)))
            }
            _ => {
                let until = now.saturating_add(wait(place, self.tries, jitter));
                self.waiting = Some((heads, until));
                Ok(Next::At(until))
            }
        }
    }
}

/// The wait of the node at `place` in the line: between one and two turns for each before it.
fn wait(place: u32, tries: u32, jitter: u32) -> Duration {
    let turn = BRAID_TURN
        .saturating_mul(1 << tries.min(16))
        .min(BRAID_TURN_MOST);
    let part = turn.mul_f64(f64::from(jitter) / f64::from(u32::MAX));
    turn.saturating_mul(place).saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits as sets of letters: capitals are operations. An ancestor's set is part of its descendants'.
    struct Letters;

    fn commit(letters: &str) -> Oid {
        let mut raw = [0; 20];
        raw[..letters.len()].copy_from_slice(letters.as_bytes());
        Oid::from_bytes(&raw).unwrap()
    }

    fn letters(commit: Oid) -> BTreeSet<u8> {
        commit
            .as_bytes()
            .iter()
            .copied()
            .filter(|byte| *byte != 0)
            .collect()
    }

    impl Lines for Letters {
        type Error = ();

        fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, ()> {
            Ok(letters(commit).is_subset(&letters(of)))
        }

        fn has_news(&self, head: Oid, own: Oid) -> Result<bool, ()> {
            let own = letters(own);
            Ok(letters(head)
                .iter()
                .any(|letter| letter.is_ascii_uppercase() && !own.contains(letter)))
        }
    }

    fn peers(text: &str) -> BTreeMap<String, Oid> {
        let pairs = text
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap());
        pairs
            .map(|(name, head)| (name.to_owned(), commit(head)))
            .collect()
    }

    fn decided(name: &str, own: &str, others: &str) -> Action {
        let peers = peers(others);
        let own = (!own.is_empty()).then(|| commit(own));
        decide(
            &Letters,
            &View {
                name,
                own,
                peers: &peers,
            },
        )
        .unwrap()
    }

    fn braid(heads: &[&str]) -> Action {
        Action::Braid(heads.iter().map(|head| commit(head)).collect())
    }

    #[test]
    fn one_head_in_play_is_moved_to() {
        assert_eq!(decided("b", "A", ""), Action::Rest);
        assert_eq!(decided("b", "AB", "a=A c=AB"), Action::Rest);
        assert_eq!(
            decided("b", "A", "a=A c=AC"),
            Action::FastForward(commit("AC"))
        );
        assert_eq!(decided("b", "", ""), Action::Rest);
        assert_eq!(decided("b", "", "a=A"), Action::FastForward(commit("A")));
    }

    #[test]
    fn news_is_braided_at_once_by_everyone() {
        assert_eq!(decided("z", "AB", "a=AC b=B"), braid(&["AB", "AC"]));
        // Its own head need not be in play.
        assert_eq!(decided("z", "A", "a=AB c=AC"), braid(&["AB", "AC"]));
        // All heads in play, those without news too.
        assert_eq!(decided("z", "ABx", "a=ABy c=ABxC"), braid(&["ABxC", "ABy"]));
    }

    #[test]
    fn braids_alone_are_left_to_the_lowest_name() {
        assert_eq!(decided("a", "ABx", "b=ABy c=A"), braid(&["ABx", "ABy"]));
        let heads = vec![commit("ABx"), commit("ABy")];
        let wait = |place| Action::Wait {
            heads: heads.clone(),
            place,
        };
        assert_eq!(decided("b", "ABy", "a=ABx c=A"), wait(1));
        assert_eq!(decided("c", "ABy", "a=ABx b=ABx"), wait(2));
        // A name that holds no head in play has no turn.
        assert_eq!(decided("b", "ABy", "a=A c=ABx"), braid(&["ABx", "ABy"]));
        assert_eq!(decided("a", "AB", "b=ABx c=ABy"), wait(2));
    }

    #[test]
    fn who_has_waited_too_long_steps_in() {
        let peers = peers("a=ABx");
        let view = View {
            name: "b",
            own: Some(commit("ABy")),
            peers: &peers,
        };
        let mut turns = Turns::default();
        let next = |turns: &mut Turns, at| turns.next(&Letters, &view, at, 0).unwrap();
        assert_eq!(next(&mut turns, Duration::ZERO), Next::At(BRAID_TURN));
        assert_eq!(next(&mut turns, BRAID_TURN / 2), Next::At(BRAID_TURN));
        assert_eq!(
            next(&mut turns, BRAID_TURN),
            Next::Do(braid(&["ABx", "ABy"]))
        );
        // No rest came of it: the next wait is longer.
        assert_eq!(next(&mut turns, BRAID_TURN), Next::At(BRAID_TURN * 3));
    }

    #[test]
    fn a_head_that_moves_starts_the_wait_anew_and_rest_forgets_it() {
        let mut turns = Turns {
            waiting: None,
            tries: 1,
        };
        let mut at = |own: &str, others: &str, now| {
            let peers = peers(others);
            let view = View {
                name: "b",
                own: Some(commit(own)),
                peers: &peers,
            };
            turns.next(&Letters, &view, now, 0).unwrap()
        };
        assert_eq!(at("ABy", "a=ABx", Duration::ZERO), Next::At(BRAID_TURN * 2));
        assert_eq!(at("ABy", "a=ABxz", BRAID_TURN), Next::At(BRAID_TURN * 3));
        assert_eq!(at("ABxyz", "a=ABxz", BRAID_TURN), Next::Do(Action::Rest));
        assert_eq!(at("ABxyz", "a=ABw", BRAID_TURN), Next::At(BRAID_TURN * 2));
    }

    #[test]
    fn waits_are_told_apart_and_bounded() {
        assert!(wait(1, 0, u32::MAX) <= wait(2, 0, 0));
        assert!(wait(1, 40, 0) == BRAID_TURN_MOST);
    }
}
