//! Keywords: what `dovecot-keywords` and `courierimapkeywords/` say, as letters in file names and names in the folder's facts.
//!
//! Dovecot writes the letters itself and names them in its file, so its file is the facts. Courier keeps the names of a message's keywords in
//! a file per message and knows no letters:
//! - an update of a message becomes a rename of the message, and a new letter (the lowest free one) for a name that has none;
//! - letters without a name say nothing to Courier, and stay;
//! - when Courier changes a flag it writes a name without letters. [`kept_through_flags`] gives the name that keeps them.

use std::collections::BTreeMap;

use super::{Folder, Message};
use crate::maildir::codec::courier_keywords::{KeywordList, KeywordSet};
use crate::maildir::codec::keywords::{KEYWORDS_MAX, Keywords};
use crate::maildir::codec::{Fault, Malformed};
use crate::maildir::{MailboxFacts, Op, TreePath, name};

/// A `dovecot-keywords` that Dovecot wrote.
#[must_use]
pub fn dovecot(folder: &dyn Folder, keywords: &Keywords) -> Vec<Op> {
    let mut ops = Vec::new();
    set_names(folder, &mut ops, keywords.names.clone());
    ops
}

/// The keywords that Courier wrote of one message, named by its file name up to the last colon. No such message: nothing to do.
///
/// # Errors
/// [`Fault::TooManyKeywords`]
pub fn courier_update(
    folder: &dyn Folder,
    message: &[u8],
    set: &KeywordSet,
) -> Result<Vec<Op>, Malformed> {
    let mut found = folder.with_stem(name::stem(message));
    found.retain(|one| name::courier(one.path.name()) == message);
    update(folder, found.into_iter().map(|one| (one, set)))
}

/// The `:list` that Courier wrote: it replaces the keywords of the messages it lists, and says nothing of others (they may have come since).
///
/// # Errors
/// [`Fault::TooManyKeywords`]
pub fn courier_list(folder: &dyn Folder, list: &KeywordList) -> Result<Vec<Op>, Malformed> {
    let listed = list.messages.iter().flat_map(|(stem, set)| {
        folder
            .with_stem(stem)
            .into_iter()
            .map(move |one| (one, set))
    });
    update(folder, listed)
}

/// The names of a message's keywords, as Courier is to see them.
#[must_use]
pub fn names_of(facts: &MailboxFacts, file_name: &[u8]) -> KeywordSet {
    name::flags(file_name)
        .iter()
        .filter_map(|letter| facts.keywords.get(&letter.checked_sub(b'a')?))
        .cloned()
        .collect()
}

/// The name a message gets where a program that knows no keywords renames it from one set of flags to another, and drops its letters;
/// `None` where nothing is to be kept.
#[must_use]
pub fn kept_through_flags(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let letters = |of| {
        name::flags(of)
            .iter()
            .copied()
            .filter(u8::is_ascii_lowercase)
    };
    let dropped = letters(from).next().is_some() && letters(to).next().is_none();
    (dropped && name::identity(from) == name::identity(to))
        .then(|| name::with_keywords(to, letters(from)))
}

fn update<'a>(
    folder: &dyn Folder,
    changes: impl Iterator<Item = (Message, &'a KeywordSet)>,
) -> Result<Vec<Op>, Malformed> {
    let mut names = folder.facts().keywords.clone();
    let mut renames = Vec::new();
    for (message, set) in changes {
        let from = message.path.name();
        let mut letters: Vec<u8> = name::flags(from)
            .iter()
            .copied()
            .filter(|letter| letter.is_ascii_lowercase() && !names.contains_key(&(letter - b'a')))
            .collect();
        for keyword in set {
            letters.push(b'a' + number_of(&mut names, keyword)?);
        }
        let to = name::with_keywords(from, letters);
        if to != from {
            let dir = message.path.parent().unwrap_or_default();
            renames.push(Op::Rename {
                from: message.path.clone(),
                to: dir.join(&to),
            });
        }
    }
    let mut ops = Vec::new();
    set_names(folder, &mut ops, names);
    ops.extend(renames);
    Ok(ops)
}

/// The number of a keyword, given anew where it has none. IMAP keywords are the same whatever their case.
fn number_of(names: &mut BTreeMap<u8, Vec<u8>>, keyword: &[u8]) -> Result<u8, Malformed> {
    let known = names
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(keyword));
    if let Some((&number, _)) = known {
        return Ok(number);
    }
    let free = (0..KEYWORDS_MAX as u8).find(|number| !names.contains_key(number));
    let number = free.ok_or_else(|| Fault::TooManyKeywords.at(1))?;
    names.insert(number, keyword.to_vec());
    Ok(number)
}

fn set_names(folder: &dyn Folder, ops: &mut Vec<Op>, names: BTreeMap<u8, Vec<u8>>) {
    if names != folder.facts().keywords {
        let folder_path: TreePath = folder.path().clone();
        ops.push(Op::SetMailbox {
            folder: folder_path,
            facts: MailboxFacts {
                keywords: names,
                ..folder.facts().clone()
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Memory;
    use super::*;

    fn set(names: &[&str]) -> KeywordSet {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    fn folder() -> Memory {
        let mut folder = Memory::new(
            9,
            5,
            &[("cur/1.a,S=2:2,Sab", 1), ("cur/2.b:2,", 2), ("new/3.c", 3)],
        );
        folder.facts.keywords = [(0, b"One".to_vec()), (2, b"Three".to_vec())].into();
        folder
    }

    fn names(folder: &Memory) -> Vec<String> {
        folder.uids().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn an_update_by_courier_becomes_letters() {
        let mut folder = folder();
        let ops = courier_update(&folder, b"1.a,S=2", &set(&["three", "Two"])).unwrap();
        folder.apply(&ops);
        assert_eq!(folder.facts.keywords[&1], b"Two");
        // The letter b had no name, and gets the first free one.
        assert_eq!(names(&folder)[0], "1.a,S=2:2,Sbc");
        assert_eq!(
            names_of(&folder.facts, b"1.a,S=2:2,Sbc"),
            set(&["Two", "Three"])
        );
        let ops = courier_update(&folder, b"3.c", &set(&["One"])).unwrap();
        folder.apply(&ops);
        assert_eq!(names(&folder)[2], "3.c:2,a");
        assert_eq!(courier_update(&folder, b"3.c", &set(&["One"])), Ok(vec![]));
        let ops = courier_update(&folder, b"3.c", &set(&[])).unwrap();
        folder.apply(&ops);
        assert_eq!(names(&folder)[2], "3.c:2,");
        assert_eq!(courier_update(&folder, b"none", &set(&["One"])), Ok(vec![]));
    }

    #[test]
    fn a_list_by_courier_speaks_of_those_it_lists() {
        let mut folder = folder();
        let list = KeywordList::parse(b"New\nOne\n\n2.b:0 1\n").unwrap();
        let ops = courier_list(&folder, &list).unwrap();
        folder.apply(&ops);
        assert_eq!(names(&folder), ["1.a,S=2:2,Sab", "2.b:2,ab", "3.c"]);
    }

    #[test]
    fn the_27th_keyword_is_refused() {
        let many: Vec<String> = (0..27).map(|number| format!("k{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let folder = Memory::new(9, 5, &[("cur/2.b:2,", 2)]);
        assert_eq!(
            courier_update(&folder, b"2.b", &set(&many)),
            Err(Fault::TooManyKeywords.at(1))
        );
        assert!(courier_update(&folder, b"2.b", &set(&many[..26])).is_ok());
    }

    #[test]
    fn flags_that_courier_sets_keep_the_letters() {
        assert_eq!(
            kept_through_flags(b"1.a:2,Sab", b"1.a:2,FS"),
            Some(b"1.a:2,FSab".to_vec())
        );
        assert_eq!(kept_through_flags(b"1.a:2,Sab", b"1.a:2,FSa"), None);
        assert_eq!(kept_through_flags(b"1.a:2,S", b"1.a:2,FS"), None);
        assert_eq!(kept_through_flags(b"1.a:2,Sab", b"1.b:2,FS"), None);
    }

    #[test]
    fn what_dovecot_names_is_taken_as_it_is() {
        let mut folder = folder();
        let keywords = Keywords::parse(b"0 Other\n").unwrap();
        let ops = dovecot(&folder, &keywords);
        folder.apply(&ops);
        assert_eq!(folder.facts.keywords, keywords.names);
        assert_eq!(dovecot(&folder, &keywords), []);
    }
}
