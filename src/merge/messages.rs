//! The merge of messages, case by case.
//!
//! | base | one side | other side | outcome |
//! |---|---|---|---|
//! | any | there | there | flags and keywords per element, `cur` wins over `new`, dates and fields against the base |
//! | – | there | – | stays; if it was moved here, what the other side did to its flags follows |
//! | there | there | moved away | gone here |
//! | there | undeleted | expunged | stays; Rule U gives it a new UID |
//! | there | there | expunged | gone, whatever its flags |
//! | there | moved away | expunged | stays where it was moved to, unless an ancestor has it there too (module `known`) |
//! | there | – | – | gone |
//!
//! Two copies of a message, of which each side removed another: one stays. Each side still has the mail, and it may have been a braid that
//! made one of two (where folders were united), not a user.
//!
//! Keywords that wait in an attribute ([`hidden::KEYWORDS`]) are the message's; those in its name are merged too, so that a server which remembers file names
//! finds them unchanged. Whether they wait is merged against the base like any value.

use std::collections::BTreeMap;

use super::entities::{Entity, Id};
use super::facts;
use super::flags::Marks;
use super::keywords;
use super::known::Known;
use super::moves::Moves;
use super::slots::{Place, Rec, Slot, SlotId};
use crate::maildir::{Attrs, Oid, hidden, name};

/// A message of the merged tree.
#[derive(Clone, Debug)]
pub(super) struct Out {
    pub(super) folder: Id,
    pub(super) place: Place,
    /// The unique name.
    pub(super) unique: Vec<u8>,
    /// What follows the colon, where that is not `2,` and letters.
    pub(super) info: Option<Vec<u8>>,
    pub(super) marks: Marks,
    /// What the name shows, where the keywords are to wait in an attribute.
    pub(super) shown: Option<Marks>,
    pub(super) oid: Oid,
    /// All but the UID and keywords that wait.
    pub(super) attrs: Attrs,
    /// Its UID on each side.
    pub(super) uids: [Option<u32>; 2],
    /// The slot it comes from.
    pub(super) slot: SlotId,
}

/// Something to tell about a message, once its path is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Note {
    Undeleted(usize),
    MovedTwice(usize),
    MovedAndExpunged(usize),
    LastCopy(usize),
    /// The slot, and the side that still has it.
    FlaggedAndExpunged(SlotId, usize),
}

/// The merged messages, in the order of their slots.
#[derive(Default, Debug)]
pub(super) struct Merged {
    pub(super) outs: Vec<Out>,
    pub(super) notes: Vec<Note>,
}

/// Merges all messages that differ.
pub(super) fn merge(
    entities: &[Entity],
    slots: &[Slot],
    moves: &[Moves; 2],
    known: &Known,
) -> Merged {
    let case = Case {
        entities,
        slots,
        moves,
        known,
    };
    let mut merged = Merged::default();
    for id in 0..slots.len() {
        case.merge(id, &mut merged);
    }
    case.keep_last_copies(&mut merged);
    merged
}

struct Case<'a> {
    entities: &'a [Entity],
    slots: &'a [Slot],
    moves: &'a [Moves; 2],
    known: &'a Known,
}

impl Case<'_> {
    fn merge(&self, id: SlotId, merged: &mut Merged) {
        let slot = &self.slots[id];
        match (slot.on(0), slot.on(1)) {
            (Some(left), Some(right)) => merged.outs.push(self.both(id, left, right)),
            (Some(rec), None) => self.one(id, 0, rec, merged),
            (None, Some(rec)) => self.one(id, 1, rec, merged),
            (None, None) => {}
        }
    }

    /// Where each side has a copy that the other removed, and none would be left, one stays.
    fn keep_last_copies(&self, merged: &mut Merged) {
        let mut kept = vec![false; self.slots.len()];
        for out in &merged.outs {
            kept[out.slot] = true;
        }
        let mut copies: BTreeMap<(&[u8], Oid), [Vec<SlotId>; 2]> = BTreeMap::new();
        for (id, slot) in self.slots.iter().enumerate() {
            let only = [slot.on(0).is_some(), slot.on(1).is_some()];
            if !kept[id] && only[0] != only[1] {
                let of_mail = copies.entry((&slot.identity, slot.oid)).or_default();
                of_mail[usize::from(only[1])].push(id);
            }
        }
        copies.retain(|_, sides| sides.iter().all(|copies| !copies.is_empty()));
        if copies.is_empty() {
            return;
        }
        for out in &merged.outs {
            copies.remove(&(self.slots[out.slot].identity.as_slice(), out.oid));
        }
        for sides in copies.into_values() {
            let all = sides.into_iter().flatten();
            let first = all.min_by_key(|&id| self.entities[self.slots[id].folder].key());
            let Some(id) = first else { continue };
            let side = usize::from(self.slots[id].on(0).is_none());
            if let Some(rec) = self.slots[id].on(side) {
                merged.notes.push(Note::LastCopy(merged.outs.len()));
                merged.outs.push(self.copy(id, side, rec));
            }
        }
    }

    /// Both sides have it.
    fn both(&self, id: SlotId, left: &Rec, right: &Rec) -> Out {
        let slot = &self.slots[id];
        // Moved here by both: what it was like before is known.
        let origin = match (self.moves[0].from.get(&id), self.moves[1].from.get(&id)) {
            (Some(a), Some(b)) if a == b => *a,
            _ => id,
        };
        let base = self.slots[origin].in_base();
        let said = Said::merge(
            base.map(|rec| self.base_said(origin, rec)).as_ref(),
            &self.said(id, 0, left),
            &self.said(id, 1, right),
        );
        fn unique(rec: &Rec) -> &[u8] {
            name::unique(&rec.name)
        }
        fn info(rec: &Rec) -> Option<&[u8]> {
            opaque_info(&rec.name)
        }
        Out {
            folder: slot.folder,
            place: left.place.min(right.place),
            unique: three_way(base.map(unique), unique(left), unique(right)).to_vec(),
            info: three_way(base.map(info), info(left), info(right)).map(<[u8]>::to_vec),
            marks: said.marks,
            shown: said.shown,
            oid: slot.oid,
            attrs: merge_attrs(base.map(|rec| &rec.attrs), &left.attrs, &right.attrs),
            uids: [left.attrs.uid, right.attrs.uid],
            slot: id,
        }
    }

    /// Only `side` has it.
    fn one(&self, id: SlotId, side: usize, rec: &Rec, merged: &mut Merged) {
        let slot = &self.slots[id];
        let other = 1 - side;
        let at = merged.outs.len();
        let mut out = self.copy(id, side, rec);
        let Some(base) = slot.in_base() else {
            let kept = match (self.moves[side].from.get(&id), self.known.get(&id)) {
                (Some(&origin), _) => self.follow(&mut out, origin, side, at, merged),
                (None, Some(&was_deleted)) => undeleted(&out, was_deleted, at, merged),
                (None, None) => true,
            };
            if kept {
                merged.outs.push(out);
            }
            return;
        };
        if self.moves[other].to.contains_key(&id) {
            return;
        }
        if self.outlives_expunge(&out, &self.base_said(id, base).marks, side, merged) {
            merged.outs.push(out);
        }
    }

    /// The other side expunged it: whether it stays.
    fn outlives_expunge(&self, out: &Out, base: &Marks, side: usize, merged: &mut Merged) -> bool {
        let undeleted = base.has(b'T') && !out.marks.has(b'T');
        if undeleted {
            merged.notes.push(Note::Undeleted(merged.outs.len()));
        } else if *base != out.marks {
            merged.notes.push(Note::FlaggedAndExpunged(out.slot, side));
        }
        undeleted
    }

    /// The message as `side` has it.
    fn copy(&self, id: SlotId, side: usize, rec: &Rec) -> Out {
        let said = self.said(id, side, rec);
        let mut out = Out {
            folder: self.slots[id].folder,
            place: rec.place,
            unique: name::unique(&rec.name).to_vec(),
            info: opaque_info(&rec.name).map(<[u8]>::to_vec),
            marks: said.marks,
            shown: said.shown,
            oid: self.slots[id].oid,
            attrs: merge_attrs(None, &rec.attrs, &rec.attrs),
            uids: [None; 2],
            slot: id,
        };
        out.uids[side] = rec.attrs.uid;
        out
    }

    /// `side` moved a message here: what the other side did to it follows. Whether it stays.
    fn follow(
        &self,
        out: &mut Out,
        origin: SlotId,
        side: usize,
        at: usize,
        merged: &mut Merged,
    ) -> bool {
        let other = 1 - side;
        let before = &self.slots[origin];
        let Some(base) = before.in_base() else {
            return true;
        };
        // Only its name is another, perhaps because two messages had one: it is still the same message.
        let is_renamed = before.folder == out.folder && before.oid == out.oid;
        let moved_to = self.moves[other].to.get(&origin).and_then(|to| to.first());
        let there = match (moved_to, self.known.get(&out.slot)) {
            _ if before.on(other).is_some() => origin,
            // Only the other side has moved it.
            (Some(to), Some(_)) if !self.known.contains_key(to) => return false,
            (Some(&to), known) => {
                if known.is_none() && !self.known.contains_key(&to) {
                    merged.notes.push(Note::MovedTwice(at));
                }
                to
            }
            (None, Some(&was_deleted)) => return undeleted(out, was_deleted, at, merged),
            (None, None) if is_renamed => {
                let base = self.base_said(origin, base).marks;
                return self.outlives_expunge(out, &base, side, merged);
            }
            (None, None) => {
                merged.notes.push(Note::MovedAndExpunged(at));
                return true;
            }
        };
        let Some(rec) = self.slots[there].on(other) else {
            return true;
        };
        let own = Said {
            marks: std::mem::take(&mut out.marks),
            shown: out.shown.take(),
        };
        let said = Said::merge(
            Some(&self.base_said(origin, base)),
            &own,
            &self.said(there, other, rec),
        );
        (out.marks, out.shown) = (said.marks, said.shown);
        // The UID it had on the other side still means it.
        if is_renamed && there == origin {
            out.uids[other] = rec.attrs.uid;
        }
        true
    }

    fn said(&self, slot: SlotId, side: usize, rec: &Rec) -> Said {
        let facts = &self.entities[self.slots[slot].folder].facts;
        Said::of(facts.sides[side].as_ref().map(|facts| &facts.keywords), rec)
    }

    fn base_said(&self, slot: SlotId, rec: &Rec) -> Said {
        let facts = &self.entities[self.slots[slot].folder].facts;
        Said::of(facts.base.as_ref().map(|facts| &facts.keywords), rec)
    }
}

/// Whether a message was undeleted that had its deleted flag, or not, in an ancestor.
fn undeleted(out: &Out, was_deleted: bool, at: usize, merged: &mut Merged) -> bool {
    let undeleted = was_deleted && !out.marks.has(b'T');
    if undeleted {
        merged.notes.push(Note::Undeleted(at));
    }
    undeleted
}

/// What one tree says of a message's flags and keywords.
struct Said {
    marks: Marks,
    /// What its name shows, where its keywords wait in an attribute.
    shown: Option<Marks>,
}

impl Said {
    fn of(table: Option<&keywords::Table>, rec: &Rec) -> Self {
        let parse = |letters: &[u8]| {
            Marks::parse(letters, |letter| match table {
                Some(table) => keywords::name(table, letter),
                None => keywords::name(&keywords::Table::new(), letter),
            })
        };
        let shown = name::flags(&rec.name);
        let Some(waiting) = rec.attrs.ext.get(&hidden::KEYWORDS) else {
            return Self {
                marks: parse(shown),
                shown: None,
            };
        };
        let flags = shown.iter().filter(|letter| !letter.is_ascii_lowercase());
        let keywords = waiting.iter().filter(|letter| letter.is_ascii_lowercase());
        Self {
            marks: parse(&flags.chain(keywords).copied().collect::<Vec<u8>>()),
            shown: Some(parse(shown)),
        }
    }

    fn shown(&self) -> &Marks {
        self.shown.as_ref().unwrap_or(&self.marks)
    }

    fn merge(base: Option<&Self>, left: &Self, right: &Self) -> Self {
        let waits = |said: &Self| said.shown.is_some();
        let shown = three_way(base.map(waits), waits(left), waits(right))
            .then(|| Marks::merge(base.map(Self::shown), left.shown(), right.shown()));
        Self {
            marks: Marks::merge(base.map(|base| &base.marks), &left.marks, &right.marks),
            shown,
        }
    }
}

/// What follows the colon where it is not `2,` and letters: nobody knows its parts, so it is merged whole.
fn opaque_info(visible: &[u8]) -> Option<&[u8]> {
    let info = name::split(visible).1?;
    (!info.starts_with(b"2,")).then_some(info)
}

/// A value that only one side changed is that side's; of two different changes the greater stays.
pub(super) fn three_way<V: Ord>(base: Option<V>, left: V, right: V) -> V {
    match base {
        Some(base) if base == left => right,
        Some(base) if base == right => left,
        _ => left.max(right),
    }
}

/// Attributes of one file on two sides. The UID is left out, for Rule U decides it, and so are keywords that wait.
pub(super) fn merge_attrs(base: Option<&Attrs>, left: &Attrs, right: &Attrs) -> Attrs {
    let mut ext = facts::merge_map(base.map(|attrs| &attrs.ext), &left.ext, &right.ext);
    ext.remove(&hidden::KEYWORDS);
    Attrs {
        uid: None,
        mtime: three_way(base.map(|attrs| attrs.mtime), left.mtime, right.mtime),
        size: three_way(base.map(|attrs| attrs.size), left.size, right.size),
        ext,
    }
}
