//! The messages that differ, as slots: one message of one folder, as the base and each side have it.
//!
//! A message is its identity within the folder *and* its content: a file written anew in place is another message, for a UID must never come to mean
//! other content. Several files of one identity and content are one message; the first of them speaks for all.

use std::ops::Range;
use std::rc::Rc;

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

/// Files of one message in one tree, the one that speaks for it first. Nearly always none or one, which then is what other trees have too.
#[derive(Clone, Debug, Default)]
pub(super) struct Recs {
    first: Option<Rc<Rec>>,
    /// Ordered, like it, by place and name.
    more: Vec<Rc<Rec>>,
}

impl Recs {
    pub(super) fn first(&self) -> Option<&Rec> {
        self.first.as_deref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rec> {
        self.first.iter().chain(&self.more).map(|rec| &**rec)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn add(&mut self, rec: Rc<Rec>) {
        fn key(rec: &Rec) -> (Place, &[u8]) {
            (rec.place, &rec.name)
        }
        let Some(first) = &mut self.first else {
            self.first = Some(rec);
            return;
        };
        let rec = if key(&rec) < key(first) {
            std::mem::replace(first, rec)
        } else {
            rec
        };
        let at = self.more.partition_point(|other| key(other) <= key(&rec));
        self.more.insert(at, rec);
    }
}

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

    fn add(&mut self, rec: &Rc<Rec>, into: [bool; 3]) {
        let [left, right] = &mut self.sides;
        for (recs, into) in [&mut self.base, left, right].into_iter().zip(into) {
            if into {
                recs.add(Rc::clone(rec));
            }
        }
    }
}

/// A file of a message, before it is known which files are one message.
struct File {
    folder: Id,
    identity: Vec<u8>,
    oid: Oid,
    rec: Rc<Rec>,
    /// Whether the base and each side have it.
    into: [bool; 3],
}

/// All messages that differ, ordered by folder, identity and content.
pub(super) fn find<T: Trees>(entities: &[Entity]) -> Result<Vec<Slot>, MergeError<T::Error>> {
    let mut files = Vec::new();
    for entity in entities {
        let Some(folder) = entity.folder else {
            continue;
        };
        let place = Place::of(entity.some_path().name());
        let mut put = |raw: &RawEntry, into: [bool; 3]| -> Result<(), MergeError<T::Error>> {
            let (name, attrs) = raw.file()?;
            files.push(File {
                folder,
                identity: name::identity(&name).into_owned(),
                oid: raw.oid,
                rec: Rc::new(Rec { place, name, attrs }),
                into,
            });
            Ok(())
        };
        for (raw, missing) in &entity.files.base {
            put(raw, [true, !missing[0], !missing[1]])?;
        }
        for side in 0..2 {
            for raw in &entity.files.added[side] {
                put(raw, [false, side == 0, side == 1])?;
            }
        }
    }
    let mut slots: Vec<Slot> = Vec::new();
    for at in order(&files) {
        let file = &mut files[at];
        let is_same = |slot: &&mut Slot| {
            slot.folder == file.folder && slot.oid == file.oid && slot.identity == file.identity
        };
        match slots.last_mut().filter(is_same) {
            Some(slot) => slot.add(&file.rec, file.into),
            None => {
                let mut slot = Slot {
                    folder: file.folder,
                    identity: std::mem::take(&mut file.identity),
                    oid: file.oid,
                    base: Recs::default(),
                    sides: Default::default(),
                };
                slot.add(&file.rec, file.into);
                slots.push(slot);
            }
        }
    }
    Ok(slots)
}

/// Places of files in their order. Most comparisons end in the first bytes of an identity, which are kept beside each other.
fn order(files: &[File]) -> Vec<usize> {
    let mut keys: Vec<(Id, u128, usize)> = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let mut first = [0; 16];
        let len = file.identity.len().min(16);
        first[..len].copy_from_slice(&file.identity[..len]);
        keys.push((file.folder, u128::from_be_bytes(first), at));
    }
    keys.sort_unstable_by(|a, b| {
        let rest = |at: usize| (&files[at].identity, files[at].oid, at);
        (a.0, a.1)
            .cmp(&(b.0, b.1))
            .then_with(|| rest(a.2).cmp(&rest(b.2)))
    });
    keys.into_iter().map(|(_, _, at)| at).collect()
}

/// The slots that have the folder and identity of this one, and it: they are beside each other.
pub(super) fn of_one_name(slots: &[Slot], id: SlotId) -> Range<SlotId> {
    let is_same = |slot: &&Slot| is_of_one_name(slot, &slots[id]);
    let before = slots[..id].iter().rev().take_while(is_same);
    let after = slots[id..].iter().take_while(is_same);
    id - before.count()..id + after.count()
}

/// Whether no other slot has the folder and identity of this one.
pub(super) fn is_alone(slots: &[Slot], id: SlotId) -> bool {
    let is_other =
        |other: Option<&Slot>| other.is_none_or(|other| !is_of_one_name(other, &slots[id]));
    is_other(slots[..id].last()) && is_other(slots.get(id + 1))
}

fn is_of_one_name(one: &Slot, other: &Slot) -> bool {
    one.folder == other.folder && one.identity == other.identity
}
