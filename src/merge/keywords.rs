//! The keyword tables of a folder: letters `a`–`z` and what they mean.
//!
//! The problem: two nodes give the next free letter to different names, and the letter is part of file names. Tables are merged *by name*;
//! a letter that means something else afterwards is rewritten in the names that carry it.
//!
//! Rules, in this order:
//! 0. A side whose table is the base's has no say: the other side alone changed it.
//! 1. What a letter means in the base stays as long as one side keeps it. So letters of messages that nobody touched stay right.
//! 2. Names that are new, and names that every side has moved away from their letter, get the lowest letter a side gave them if it is free.
//!    Where two names want one letter, the smaller name gets it.
//! 3. The rest, and names that messages carry but no table has any more (they came along from another folder, or one side cleared the table), get the lowest free letter, in order of names.
//! 4. A name for which no letter is left is dropped, from the table and from the messages. (Dovecot too has no more than 26 in the Maildir.)
//!
//! Where both sides changed the table, a name that only one of them dropped stays: whether messages still carry it cannot be known without reading all of
//! them.
//!
//! Names that differ in case alone are one keyword, in IMAP (RFC 9051 §2.3.2) and to Dovecot, whose tables in `maildir-keywords.c` and in the index are hashed without
//! case. So two nodes that spell one differently share a letter; what stands in the base is spelt so, or else what the lowest letter says, or else the smaller name. A
//! table that has both spellings already (Courier tells them apart) keeps them. Marks of a message are compared by their bytes: two spellings of one
//! keyword on it come to one letter when they are written.
//!
//! A letter without a name (a Maildir reader that is no server, or a lost table) is kept as it is where the merged table leaves the letter free, and
//! dropped where the letter has come to mean something.

use std::collections::{BTreeMap, BTreeSet};

/// Letters that exist.
const LETTERS: u8 = 26;

/// Keyword names by letter, `0` = `a` … `25` = `z`: [`crate::maildir::MailboxFacts::keywords`].
pub type Table = BTreeMap<u8, Vec<u8>>;

/// What a letter means: its name in the table, or else a stand-in that no table can hold.
#[must_use]
pub fn name(table: &Table, letter: u8) -> Vec<u8> {
    match table.get(&letter.wrapping_sub(b'a')) {
        Some(name) => name.clone(),
        None => vec![0, letter],
    }
}

/// The letter to write for a name; `None` where it has none.
#[must_use]
pub fn letter(table: &Table, name: &[u8]) -> Option<u8> {
    if let [0, letter] = name {
        return (!table.contains_key(&letter.wrapping_sub(b'a'))).then_some(*letter);
    }
    let exact = table.iter().find(|(_, named)| named.as_slice() == name);
    let found = exact.or_else(|| table.iter().find(|(_, named)| is_same(named, name)));
    found.map(|(&at, _)| at + b'a')
}

/// Whether a letter of the base means something else on one of the sides. Messages that carry it do not show it in their names, so all of the folder's
/// must be looked at.
#[must_use]
pub fn is_reassigned(base: &Table, sides: &[&Table]) -> bool {
    sides.iter().any(|side| {
        base.iter()
            .any(|(at, name)| side.get(at).is_some_and(|other| !is_same(other, name)))
    })
}

/// Whether two names are one keyword.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    folded(one) == folded(other)
}

fn folded(name: &[u8]) -> Vec<u8> {
    name.to_ascii_lowercase()
}

/// A merged table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// The table.
    pub table: Table,
    /// Names that have another letter than a side gave them.
    pub moved: BTreeSet<Vec<u8>>,
    /// Names that found no letter.
    pub dropped: BTreeSet<Vec<u8>>,
}

/// Merges the tables of any number of sides. `wanted` are names that changed messages carry.
#[must_use]
pub fn merge(base: Option<&Table>, sides: &[&Table], wanted: &BTreeSet<Vec<u8>>) -> Merged {
    let mut merged = Merged::default();
    let changed: Vec<&Table> = sides
        .iter()
        .copied()
        .filter(|side| base.is_none_or(|base| *side != base))
        .collect();
    let base = if changed.len() == 1 {
        Some(changed[0])
    } else {
        base
    };
    let sides = if changed.is_empty() { sides } else { &changed };
    let mut known: BTreeSet<&[u8]> = BTreeSet::new();
    let mut placed: BTreeSet<Vec<u8>> = BTreeSet::new();
    for (&at, name) in base.into_iter().flatten() {
        if at < LETTERS
            && sides.iter().any(|side| side.get(&at) == Some(name))
            && known.insert(name)
        {
            merged.table.insert(at, name.clone());
            placed.insert(folded(name));
        }
    }
    let mut claims: Vec<(u8, &[u8])> = Vec::new();
    for side in sides {
        claims.extend(side.iter().map(|(&at, name)| (at, name.as_slice())));
    }
    claims.sort_unstable();
    claims.retain(|(_, name)| !name.is_empty());
    for &(at, name) in &claims {
        let is_free = at < LETTERS && !merged.table.contains_key(&at);
        if is_free && placed.insert(folded(name)) {
            merged.table.insert(at, name.to_vec());
        }
    }
    let rest: BTreeSet<&[u8]> = claims
        .iter()
        .map(|(_, name)| *name)
        .chain(wanted.iter().map(Vec::as_slice))
        .filter(|name| name.first() != Some(&0))
        .collect();
    for name in rest {
        if !placed.insert(folded(name)) {
            continue;
        }
        match (0..LETTERS).find(|at| !merged.table.contains_key(at)) {
            Some(at) => merged.table.insert(at, name.to_vec()),
            None => {
                merged.dropped.insert(name.to_vec());
                continue;
            }
        };
    }
    for (at, name) in claims {
        if !merged.table.get(&at).is_some_and(|now| is_same(now, name)) {
            merged.moved.insert(name.to_vec());
        }
    }
    merged.moved = &merged.moved - &merged.dropped;
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        let pairs = text.split_whitespace().map(|pair| pair.split_at(1));
        pairs
            .map(|(letter, name)| (letter.as_bytes()[0] - b'a', name.as_bytes().to_vec()))
            .collect()
    }

    fn merged(base: Option<&str>, sides: &[&str]) -> Table {
        let sides: Vec<Table> = sides.iter().map(|side| table(side)).collect();
        let base = base.map(table);
        let all: Vec<&Table> = sides.iter().collect();
        let forth = merge(base.as_ref(), &all, &BTreeSet::new());
        let back: Vec<&Table> = sides.iter().rev().collect();
        assert_eq!(forth, merge(base.as_ref(), &back, &BTreeSet::new()));
        forth.table
    }

    #[test]
    fn names_that_clash_are_told_apart() {
        assert_eq!(
            merged(Some("aX"), &["aX bFoo", "aX bBar"]),
            table("aX bBar cFoo")
        );
        assert_eq!(merged(None, &["aFoo", "aBar"]), table("aBar bFoo"));
        assert_eq!(merged(None, &["aFoo bBar", "aBar"]), table("aBar bFoo"));
    }

    #[test]
    fn one_name_has_one_letter() {
        assert_eq!(
            merged(Some("aX"), &["aX bFoo", "aX cFoo"]),
            table("aX bFoo")
        );
        assert_eq!(
            merged(Some("aX"), &["aX bFoo", "aX bFoo"]),
            table("aX bFoo")
        );
    }

    #[test]
    fn the_bases_letters_stay() {
        // A side that has given a letter away does not take it from the others.
        assert_eq!(
            merged(Some("aFoo"), &["aBar", "aFoo cX"]),
            table("aFoo bBar cX")
        );
        // Dropped by one side, while the other changed the table too: kept. Dropped by both: gone.
        assert_eq!(
            merged(Some("aFoo bX"), &["bX", "aFoo bX cY"]),
            table("aFoo bX cY")
        );
        assert_eq!(merged(Some("aFoo bX"), &["bX", "bX"]), table("bX"));
    }

    #[test]
    fn one_side_alone_decides_what_it_changed() {
        for table_of_one in ["aX bFoo", "bX", "", "aY bX"] {
            assert_eq!(
                merged(Some("aX"), &[table_of_one, "aX"]),
                table(table_of_one)
            );
        }
        assert_eq!(merged(Some("aX"), &["aX", "aX"]), table("aX"));
    }

    #[test]
    fn spellings_of_one_name_share_a_letter() {
        let base = Some("aX");
        assert_eq!(merged(base, &["aX bWork", "aX bwork"]), table("aX bWork"));
        assert_eq!(
            merged(base, &["aX bOther cWork", "aX bwork"]),
            table("aX bOther cWork")
        );
        assert_eq!(merged(base, &["aX bWORK", "ax cY"]), table("aX bWORK cY"));
        assert_eq!(letter(&table("aX bWork"), b"wORK"), Some(b'b'));
        // A table that tells them apart is not ours to mend.
        assert_eq!(
            merged(base, &["aX bWork cwork", "aX"]),
            table("aX bWork cwork")
        );
        assert_eq!(letter(&table("bWork cwork"), b"work"), Some(b'c'));
        assert!(!is_reassigned(&table("aX"), &[&table("ax")]));
    }

    #[test]
    fn the_twenty_seventh_name_is_dropped_and_said() {
        let full: Table = (0..26).map(|at| (at, vec![b'N', b'a' + at])).collect();
        let all = merge(
            Some(&full),
            &[&full, &full],
            &BTreeSet::from([b"More".to_vec()]),
        );
        assert_eq!(all.table, full);
        assert_eq!(all.dropped, BTreeSet::from([b"More".to_vec()]));
        assert_eq!(letter(&all.table, b"More"), None);
    }

    #[test]
    fn what_moved_is_said() {
        let (left, right) = (table("aFoo"), table("aBar"));
        let all = merge(None, &[&left, &right], &BTreeSet::new());
        assert_eq!(all.moved, BTreeSet::from([b"Foo".to_vec()]));
    }

    #[test]
    fn a_letter_without_a_name_stays_while_it_is_free() {
        let none = table("");
        let unnamed = name(&none, b'c');
        assert_eq!(letter(&none, &unnamed), Some(b'c'));
        assert_eq!(letter(&table("cFoo"), &unnamed), None);
    }

    #[test]
    fn a_letter_given_away_is_noticed() {
        assert!(is_reassigned(&table("aX"), &[&table("aX"), &table("aY")]));
        assert!(!is_reassigned(
            &table("aX"),
            &[&table("bY"), &table("aX bY")]
        ));
    }
}
