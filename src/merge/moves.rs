//! Which messages a side has moved: gone from one folder since the base, new in another.
//!
//! Content is the witness (the blob id), and so is arrival: the target must be new since the base, so in a folder with UIDs it has one
//! that the base had not given out. Of those,
//! 1. the same identity in whatever folder: Dovecot links a message into the other folder under its own name; all such targets count, for a message copied twice and
//!    then deleted is in both places;
//! 2. another identity, if on that side exactly one message of this content is gone and exactly one is new, and both folders are of one
//!    mailbox (the other servers copy and delete). More than one cannot be told apart: the same mail is delivered to many;
//! 3. the same identity in the same folder with other content: it was written anew in place.

use std::collections::BTreeMap;

use super::entities::{Entity, Id};
use super::slots::{Slot, SlotId};
use crate::maildir::{Oid, TreePath};

/// What one side has moved.
#[derive(Default, Debug)]
pub(super) struct Moves {
    /// From a slot of the base to slots of the side.
    pub(super) to: BTreeMap<SlotId, Vec<SlotId>>,
    /// From a slot of the side to the slot of the base.
    pub(super) from: BTreeMap<SlotId, SlotId>,
}

impl Moves {
    fn add(&mut self, from: SlotId, to: SlotId) {
        self.to.entry(from).or_default().push(to);
        self.from.entry(to).or_insert(from);
    }
}

/// Finds what `side` has moved.
pub(super) fn find(entities: &[Entity], slots: &[Slot], side: usize) -> Moves {
    let mut moves = Moves::default();
    let mut gone: BTreeMap<Oid, Vec<SlotId>> = BTreeMap::new();
    let mut new: BTreeMap<Oid, Vec<SlotId>> = BTreeMap::new();
    let mut rewritten: BTreeMap<(Id, &[u8]), SlotId> = BTreeMap::new();
    for (id, slot) in slots.iter().enumerate() {
        match (slot.base.is_empty(), slot.sides[side].is_empty()) {
            (false, true) => gone.entry(slot.oid).or_default().push(id),
            (true, false) => {
                new.entry(slot.oid).or_default().push(id);
                rewritten.entry((slot.folder, &slot.identity)).or_insert(id);
            }
            _ => {}
        }
    }
    for (oid, gone) in gone {
        let none = Vec::new();
        let new = new.get(&oid).unwrap_or(&none);
        for &from in &gone {
            for &to in new {
                if slots[to].identity == slots[from].identity {
                    moves.add(from, to);
                }
            }
        }
        if let ([from], [to]) = (gone.as_slice(), new.as_slice())
            && !moves.to.contains_key(from)
            && are_of_one_mailbox(entities, slots, *from, *to)
        {
            moves.add(*from, *to);
        }
        for from in gone {
            if !moves.to.contains_key(&from)
                && let Some(&to) = rewritten.get(&(slots[from].folder, &slots[from].identity))
            {
                moves.add(from, to);
            }
        }
    }
    moves
}

/// Whether two folders are one, one holds the other, or both are Maildir++ folders of one mailbox (`.Name` beside each other).
fn are_of_one_mailbox(entities: &[Entity], slots: &[Slot], from: SlotId, to: SlotId) -> bool {
    let path = |slot: SlotId| entities[slots[slot].folder].key().1;
    let (from, to) = (path(from), path(to));
    let is_dotted = |path: &TreePath| path.name().first() == Some(&b'.');
    from.is_within(to)
        || to.is_within(from)
        || (from.parent() == to.parent() && is_dotted(from) && is_dotted(to))
}
