//! The messages that differ, as slots: one message of one folder, as the base and each side have it.
//!
//! A message is its identity within the folder *and* its content: a file written anew in place is another message, for a UID must never come to mean
//! other content. Several files of one identity and content are one message; the first of them speaks for all.

use std::collections::BTreeMap;

use super::entities::{Entity, Id};
use super::source::{MergeError, RawEntry, Trees};
use crate::maildir::{Attrs, Oid, name};

/// Index of a slot.
pub(super) type SlotId = usize;

/// Where in its folder a message is. `cur` comes first: it wins over `new`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    Cur,
    New,
}

impl Place {
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::Cur => b"cur",
            Self::New => b"new",
        }
    }

    /// The place in a directory of this name.
    pub(super) fn of(name: &[u8]) -> Self {
        if name == b"new" { Self::New } else { Self::Cur }
    }
}

/// One file of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rec {
    pub(super) place: Place,
    pub(super) name: Vec<u8>,
    pub(super) attrs: Attrs,
}

/// Files of one message in one tree, the one that speaks for it first. Nearly always none or one.
pub(super) type Recs = Vec<Rec>;

/// One message of one folder.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) folder: Id,
    pub(super) identity: Vec<u8>,
    pub(super) oid: Oid,
    pub(super) base: Recs,
    pub(super) sides: [Recs; 2],
}

impl Slot {
    /// The message on a side.
    pub(super) fn on(&self, side: usize) -> Option<&Rec> {
        self.sides[side].first()
    }

    /// The message in the base.
    pub(super) fn in_base(&self) -> Option<&Rec> {
        self.base.first()
    }
}

/// All messages that differ, by folder, identity and content.
pub(super) fn find<T: Trees>(entities: &[Entity]) -> Result<Vec<Slot>, MergeError<T::Error>> {
    let mut found: BTreeMap<(Id, Vec<u8>, Oid), Slot> = BTreeMap::new();
    for entity in entities {
        let Some(folder) = entity.folder else {
            continue;
        };
        let place = Place::of(entity.some_path().name());
        let mut put = |raw: &RawEntry, into: [bool; 3]| -> Result<(), MergeError<T::Error>> {
            let (visible, attrs) = raw.file()?;
            let identity = name::identity(&visible).into_owned();
            let rec = Rec {
                place,
                name: visible,
                attrs,
            };
            let slot = found.entry((folder, identity, raw.oid)).or_insert_with_key(
                |(folder, identity, oid)| Slot {
                    folder: *folder,
                    identity: identity.clone(),
                    oid: *oid,
                    base: Vec::new(),
                    sides: [Vec::new(), Vec::new()],
                },
            );
            let [left, right] = &mut slot.sides;
            for (recs, into) in [&mut slot.base, left, right].into_iter().zip(into) {
                if into {
                    recs.push(rec.clone());
                }
            }
            Ok(())
        };
        // In which of the sides a file of the base is missing.
        let mut base: BTreeMap<&RawEntry, [bool; 2]> = BTreeMap::new();
        for raw in &entity.files.all {
            base.insert(raw, [false; 2]);
        }
        for side in 0..2 {
            for raw in &entity.files.removed[side] {
                base.entry(raw).or_default()[side] = true;
            }
        }
        for (raw, missing) in base {
            put(raw, [true, !missing[0], !missing[1]])?;
        }
        for side in 0..2 {
            for raw in &entity.files.added[side] {
                put(raw, [false, side == 0, side == 1])?;
            }
        }
    }
    let mut slots: Vec<Slot> = found.into_values().collect();
    for slot in &mut slots {
        let [left, right] = &mut slot.sides;
        for recs in [&mut slot.base, left, right] {
            if recs.len() > 1 {
                recs.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
            }
        }
    }
    Ok(slots)
}
