//! Names of merged messages.
//!
//! A name that a side has already is taken over as it is, so that nothing is renamed for its looks alone. Two messages of one identity: the one with the smaller blob id keeps
//! the name, the other is called `UNIQUE,D=` and twelve digits of its blob id. That name depends on nothing else, so every node finds the same one, and
//! finds it again.

use super::messages::Out;
use super::slots::{Place, Rec, Slot};
use crate::limits::NAME_MAX;
use crate::maildir::{Oid, name};

/// Bytes that `:2,` and letters may take: six flags, 26 keywords, and some to spare.
const INFO_ROOM: usize = 3 + 40;

/// The file name of a message whose letters are known.
pub(super) fn render(out: &Out, slot: &Slot, letters: &[u8]) -> Vec<u8> {
    if let Some(info) = &out.info {
        return [out.unique.as_slice(), b":", info].concat();
    }
    let says_it = |rec: &&Rec| {
        let (unique, info) = name::split(&rec.name);
        rec.place == out.place
            && unique == out.unique
            && info.is_none_or(|info| info.starts_with(b"2,"))
            && {
                let said = name::flags(&rec.name);
                said.iter().all(|letter| letters.contains(letter))
                    && letters.iter().all(|letter| said.contains(letter))
            }
    };
    let of_sides = slot
        .sides
        .iter()
        .flat_map(|recs| recs.first())
        .filter(says_it);
    let known = slot
        .in_base()
        .filter(says_it)
        .or_else(|| of_sides.min_by(|a, b| a.name.cmp(&b.name)));
    match known {
        Some(rec)
            if slot.on(0).is_some_and(|left| left.name == rec.name)
                || slot.on(1).is_some_and(|right| right.name == rec.name) =>
        {
            rec.name.clone()
        }
        _ if out.place == Place::New && letters.is_empty() => out.unique.clone(),
        _ => name::with_flags(&out.unique, letters),
    }
}

/// Another unique name for a message whose own is taken.
pub(super) fn derive(unique: &[u8], oid: Oid) -> Vec<u8> {
    let hex = oid.to_string();
    let tail = [b",D=", &hex.as_bytes()[..12]].concat();
    let room = NAME_MAX - INFO_ROOM - tail.len();
    let mut derived = unique[..unique.len().min(room)].to_vec();
    derived.extend_from_slice(&tail);
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_name_tells_the_same_time_and_fits() {
        let oid = Oid::from_bytes(&[0xab; 20]).unwrap();
        let derived = derive(b"1795466045.M6P1.vm,S=20", oid);
        assert_eq!(derived, b"1795466045.M6P1.vm,S=20,D=abababababab");
        assert_eq!(name::delivery_time(&derived), Some(1_795_466_045));
        assert_eq!(name::claimed_size(&derived), Some(20));
        assert_eq!(*name::identity(&derived), *derived);
        assert!(derive(&[b'x'; 255], oid).len() + INFO_ROOM <= NAME_MAX);
    }
}
