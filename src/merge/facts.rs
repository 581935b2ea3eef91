//! The merge of a folder's facts, Rule U and keyword tables aside: GUID, issued UIDVALIDITY, fields and lines that only servers understand.

use std::collections::{BTreeMap, BTreeSet};

use super::keywords;
use super::messages::three_way;
use super::uids::View;
use crate::maildir::MailboxFacts;

/// Merges the facts of one folder. `sides` are all that the sides have (more than two where folders were united, and then without a base);
/// `wanted` are keywords that changed messages carry. `None` where no side has facts and none are needed.
pub(super) fn merge(
    base: Option<&MailboxFacts>,
    sides: &[&MailboxFacts],
    given: View,
    wanted: &BTreeSet<Vec<u8>>,
) -> Option<(MailboxFacts, keywords::Merged)> {
    let tables: Vec<_> = sides.iter().map(|facts| &facts.keywords).collect();
    let words = keywords::merge(base.map(|facts| &facts.keywords), &tables, wanted);
    let mut merged = match sides {
        [] if words.table.is_empty() && given.next <= 1 => return None,
        [] => MailboxFacts::default(),
        [one] => (*one).clone(),
        [first, rest @ ..] => rest.iter().fold((*first).clone(), |merged, side| {
            two(base, &merged, side, given.validity)
        }),
    };
    merged.keywords.clone_from(&words.table);
    merged.uid_validity = given.validity;
    // What nobody has taken counts only among its like.
    merged.offer = merged.offer.filter(|_| given.validity == 0);
    // Without UIDs a folder says nothing of the next one.
    if given.validity > 0 || given.next > 1 {
        merged.uid_next = given.next;
    }
    Some((merged, words))
}

fn two(
    base: Option<&MailboxFacts>,
    left: &MailboxFacts,
    right: &MailboxFacts,
    validity: u32,
) -> MailboxFacts {
    // The folder is that of the UIDVALIDITY that stays.
    let guid = match (
        left.uid_validity == validity,
        right.uid_validity == validity,
    ) {
        (true, false) => left.guid.clone(),
        (false, true) => right.guid.clone(),
        _ => three_way(
            base.map(|facts| facts.guid.clone()),
            left.guid.clone(),
            right.guid.clone(),
        ),
    };
    MailboxFacts {
        uid_validity: left.uid_validity.max(right.uid_validity),
        uid_next: left.uid_next.max(right.uid_next),
        guid,
        offer: left.offer.clone().max(right.offer.clone()),
        keywords: BTreeMap::new(),
        uid_validity_issued: left.uid_validity_issued.max(right.uid_validity_issued),
        ext: merge_map(base.map(|facts| &facts.ext), &left.ext, &right.ext),
        unknown: merge_lines(base.map(|facts| facts.unknown.as_slice()), left, right),
    }
}

/// Per key against the base; of two different changes the greater value stays.
pub(super) fn merge_map<K: Ord + Copy, V: Ord + Clone>(
    base: Option<&BTreeMap<K, V>>,
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let keys: BTreeSet<K> = left.keys().chain(right.keys()).copied().collect();
    keys.into_iter()
        .filter_map(|key| {
            let base = base.map(|map| map.get(&key));
            let value = three_way(base, left.get(&key), right.get(&key))?;
            Some((key, value.clone()))
        })
        .collect()
}

/// Lines as a set, against the base.
fn merge_lines(base: Option<&[u8]>, left: &MailboxFacts, right: &MailboxFacts) -> Vec<u8> {
    fn lines(text: &[u8]) -> BTreeSet<&[u8]> {
        let lines = text.split_inclusive(|&byte| byte == b'\n');
        lines.collect()
    }
    let (left, right) = (lines(&left.unknown), lines(&right.unknown));
    let base = base.map(lines).unwrap_or_default();
    left.union(&right)
        .filter(|&line| !base.contains(line) || (left.contains(line) && right.contains(line)))
        .copied()
        .collect::<Vec<_>>()
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::Offer;

    fn facts(validity: u32, guid: &str, unknown: &str) -> MailboxFacts {
        MailboxFacts {
            uid_validity: validity,
            uid_next: 1,
            guid: (!guid.is_empty()).then(|| guid.as_bytes().to_vec()),
            unknown: unknown.as_bytes().to_vec(),
            ..MailboxFacts::default()
        }
    }

    fn merged(
        base: Option<&MailboxFacts>,
        left: &MailboxFacts,
        right: &MailboxFacts,
    ) -> MailboxFacts {
        let given = View {
            validity: left.uid_validity.max(right.uid_validity),
            next: 1,
        };
        let forth = merge(base, &[left, right], given, &BTreeSet::new()).unwrap();
        let back = merge(base, &[right, left], given, &BTreeSet::new()).unwrap();
        assert_eq!(forth, back);
        forth.0
    }

    #[test]
    fn the_guid_is_that_of_the_greater_uidvalidity() {
        let merged = merged(None, &facts(5, "zz", ""), &facts(7, "aa", ""));
        assert_eq!(
            (merged.uid_validity, merged.guid),
            (7, Some(b"aa".to_vec()))
        );
    }

    #[test]
    fn a_folder_that_got_its_guid_on_one_side_keeps_it() {
        let merged = merged(
            Some(&facts(5, "", "")),
            &facts(5, "aa", ""),
            &facts(5, "", ""),
        );
        assert_eq!(merged.guid, Some(b"aa".to_vec()));
    }

    #[test]
    fn unknown_lines_are_a_set() {
        let base = facts(1, "", "a 1\nb 1\n");
        let merged = merged(
            Some(&base),
            &facts(1, "", "b 1\nc 1\n"),
            &facts(1, "", "a 1\nb 1\nd 1\n"),
        );
        assert_eq!(merged.unknown, b"b 1\nc 1\nd 1\n");
    }

    #[test]
    fn of_two_offers_the_greater_stays_until_a_server_has_taken_one() {
        let offered = |uid_validity| MailboxFacts {
            offer: Some(Offer {
                uid_validity,
                guid: format!("g{uid_validity}").into_bytes(),
            }),
            ..facts(0, "", "")
        };
        let made_twice = merged(None, &offered(7), &offered(9));
        assert_eq!(
            (made_twice.uid_validity, made_twice.offer),
            (0, offered(9).offer)
        );
        // An imported folder may be older than the offer that it was made with.
        let base = offered(7);
        let opened = merged(Some(&base), &facts(5, "aa", ""), &base);
        assert_eq!(opened, facts(5, "aa", ""));
    }

    #[test]
    fn no_facts_stay_no_facts() {
        let given = View {
            validity: 0,
            next: 1,
        };
        assert_eq!(merge(None, &[], given, &BTreeSet::new()), None);
    }
}
