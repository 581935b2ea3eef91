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

use super::entities::Entity;
use super::slots::{self, Slot, SlotId};
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

/// Finds what `side` has moved. Many messages may be of one content, so nothing here compares each with each.
pub(super) fn find(entities: &[Entity], slots: &[Slot], side: usize) -> Moves {
    let mut moves = Moves::default();
    let mut gone: Vec<(Oid, SlotId)> = Vec::new();
    let mut new: Vec<(Oid, &[u8], SlotId)> = Vec::new();
    for (id, slot) in slots.iter().enumerate() {
        match (slot.base.is_empty(), slot.sides[side].is_empty()) {
            (false, true) => gone.push((slot.oid, id)),
            (true, false) => new.push((slot.oid, &slot.identity, id)),
            _ => {}
        }
    }
    gone.sort_unstable();
    new.sort_unstable();
    for gone in gone.chunk_by(|a, b| a.0 == b.0) {
        let oid = gone[0].0;
        let start = new.partition_point(|new| new.0 < oid);
        let len = new[start..].partition_point(|new| new.0 == oid);
        let new = &new[start..start + len];
        for &(_, from) in gone {
            let identity = slots[from].identity.as_slice();
            let start = new.partition_point(|new| new.1 < identity);
            for &(_, _, to) in new[start..].iter().take_while(|new| new.1 == identity) {
                moves.add(from, to);
            }
        }
        if let ([(_, from)], [(_, _, to)]) = (gone, new)
            && !moves.to.contains_key(from)
            && are_of_one_mailbox(entities, slots, *from, *to)
        {
            moves.add(*from, *to);
        }
        for &(_, from) in gone {
            if !moves.to.contains_key(&from)
                && let Some(to) = written_anew(slots, from, side)
            {
                moves.add(from, to);
            }
        }
    }
    moves
}

/// The first message that is new on `side` under the name of one that is gone.
fn written_anew(slots: &[Slot], gone: SlotId, side: usize) -> Option<SlotId> {
    let is_new = |&id: &SlotId| slots[id].base.is_empty() && !slots[id].sides[side].is_empty();
    slots::of_one_name(slots, gone).find(is_new)
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
