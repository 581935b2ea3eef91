//! Keywords: what `dovecot-keywords` and `courierimapkeywords/` say, as letters of messages and names in the folder's facts.
//!
//! Dovecot writes the letters into file names itself and names them in its file, so its file is the facts. Courier keeps the names of a message's keywords
//! in a file per message, knows no letters, and remembers file names for a whole session: a message renamed behind its back loses its next
//! flag (Courier `imap/fetch.c`, `reflag_filename` does not look whether the rename succeeded). So:
//! - what Courier says of a message becomes letters in the attribute [`hidden::KEYWORDS`], and new letters (the lowest free ones) for new names;
//! - [`written_out`] gives the file name that shows them, for the moment when a server comes that reads file names;
//! - letters without a name say nothing to Courier, and stay;
//! - when Courier changes a flag it writes a name without letters. [`kept_through_flags`] gives the name that keeps them.

use std::collections::BTreeMap;

use super::{Folder, Message};
use crate::maildir::codec::courier_keywords::{KeywordList, KeywordSet};
use crate::maildir::codec::keywords::{KEYWORDS_MAX, Keywords};
use crate::maildir::codec::{Fault, Malformed};
use crate::maildir::{MailboxFacts, Op, TreePath, hidden, name};

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

/// The keyword letters that a message has: those that wait, else those of its name.
#[must_use]
pub fn letters_of(message: &Message) -> Vec<u8> {
    match message.attrs.ext.get(&hidden::KEYWORDS) {
        Some(letters) => letters.clone(),
        None => shown(message.path.name()).collect(),
    }
}

/// The names of a message's keywords, as Courier is to see them.
#[must_use]
pub fn names_of(facts: &MailboxFacts, message: &Message) -> KeywordSet {
    letters_of(message)
        .into_iter()
        .filter_map(|letter| facts.keywords.get(&letter.checked_sub(b'a')?))
        .cloned()
        .collect()
}

/// The file name that shows the letters which wait.
#[must_use]
pub fn written_out(file_name: &[u8], letters: &[u8]) -> Vec<u8> {
    name::with_keywords(
        file_name,
        letters.iter().copied().filter(u8::is_ascii_lowercase),
    )
}

fn shown(file_name: &[u8]) -> impl Iterator<Item = u8> {
    let letters = name::flags(file_name).iter().copied();
    letters.filter(u8::is_ascii_lowercase)
}

/// The name a message gets where a program that knows no keywords renames it from one set of flags to another, and drops its letters;
/// `None` where nothing is to be kept.
#[must_use]
pub fn kept_through_flags(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let dropped = shown(from).next().is_some() && shown(to).next().is_none();
    (dropped && name::identity(from) == name::identity(to))
        .then(|| name::with_keywords(to, shown(from)))
}

fn update<'a>(
    folder: &dyn Folder,
    changes: impl Iterator<Item = (Message, &'a KeywordSet)>,
) -> Result<Vec<Op>, Malformed> {
    let mut names = folder.facts().keywords.clone();
    let mut changed = Vec::new();
    for (message, set) in changes {
        let before = letters_of(&message);
        let nameless = |letter: &u8| !names.contains_key(&letter.wrapping_sub(b'a'));
        let mut letters: Vec<u8> = before.iter().copied().filter(nameless).collect();
        for keyword in set {
            letters.push(b'a' + number_of(&mut names, keyword)?);
        }
        letters.sort_unstable();
        letters.dedup();
        if letters == before {
            continue;
        }
        let Message { path, mut attrs } = message;
        if shown(path.name()).eq(letters.iter().copied()) {
            attrs.ext.remove(&hidden::KEYWORDS);
        } else {
            attrs.ext.insert(hidden::KEYWORDS, letters);
        }
        changed.push(Op::SetAttrs { path, attrs });
    }
    let mut ops = Vec::new();
    set_names(folder, &mut ops, names);
    ops.extend(changed);
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

    fn letters(folder: &Memory) -> Vec<String> {
        let text = |message| String::from_utf8(letters_of(message)).unwrap();
        folder.messages.iter().map(text).collect()
    }

    #[test]
    fn an_update_by_courier_becomes_letters_and_renames_nothing() {
        let mut folder = folder();
        let ops = courier_update(&folder, b"1.a,S=2", &set(&["three", "Two"])).unwrap();
        folder.apply(&ops);
        assert_eq!(folder.facts.keywords[&1], b"Two");
        // The letter b had no name, and gets the first free one.
        assert_eq!(letters(&folder), ["bc", "", ""]);
        assert_eq!(folder.messages[0].path.name(), b"1.a,S=2:2,Sab");
        assert_eq!(written_out(b"1.a,S=2:2,Sab", b"bc"), b"1.a,S=2:2,Sbc");
        assert_eq!(
            names_of(&folder.facts, &folder.messages[0]),
            set(&["Two", "Three"])
        );
        folder.apply(&courier_update(&folder, b"3.c", &set(&["One"])).unwrap());
        assert_eq!(letters(&folder)[2], "a");
        assert_eq!(courier_update(&folder, b"3.c", &set(&["One"])), Ok(vec![]));
        folder.apply(&courier_update(&folder, b"3.c", &set(&[])).unwrap());
        assert!(
            folder.messages[2].attrs.ext.is_empty(),
            "what the name shows needs no attribute"
        );
        assert_eq!(courier_update(&folder, b"none", &set(&["One"])), Ok(vec![]));
        folder.apply(&courier_update(&folder, b"1.a,S=2", &set(&[])).unwrap());
        assert_eq!(letters(&folder)[0], "", "none, whatever the name shows");
    }

    #[test]
    fn a_list_by_courier_speaks_of_those_it_lists() {
        let mut folder = folder();
        let list = KeywordList::parse(b"New\nOne\n\n2.b:0 1\n").unwrap();
        let ops = courier_list(&folder, &list).unwrap();
        folder.apply(&ops);
        assert_eq!(letters(&folder), ["ab", "ab", ""]);
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
