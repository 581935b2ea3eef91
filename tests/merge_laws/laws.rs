//! The laws of the merge, a property each, over histories of four nodes whose servers work and whose heads are braided now and then, criss-cross too.

use std::collections::BTreeMap;
use std::rc::Rc;

use mailbraid::maildir::{MailboxFacts, Oid, TreePath};
use mailbraid::merge::{Conflict, World, braid, three_way};

use super::history::{History, Plan, plans};
use super::text;
use super::world::Dir;
use crate::model::runner;

/// Histories that each law is held against.
const CASES: u32 = 400;

/// Runs a law over any history that has heads.
fn law(name: &str, holds: impl Fn(&Plan, &mut History) -> Result<(), String>) {
    runner::run(name, CASES, plans(), |plan| {
        let mut history = History::of(&plan).map_err(|why| format!("{why}\n{plan:?}"))?;
        holds(&plan, &mut history).map_err(|why| format!("{why}\n{plan:?}"))
    });
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, a: &T, b: &T) -> Result<(), String> {
    if a == b {
        return Ok(());
    }
    Err(format!("{what}: {a:?} and {b:?}"))
}

/// The merge of two commits by itself.
fn pair(
    history: &mut History,
    base: Option<Oid>,
    sides: [Oid; 2],
) -> Result<(Oid, Vec<Conflict>), String> {
    let trees = sides.map(|side| history.tree(side));
    let base_tree = base.map(|base| history.tree(base));
    let bases: Vec<Oid> = base.into_iter().collect();
    let memory = &history.memory;
    let merge = three_way(memory, base_tree, trees, &mut |side, validity| {
        memory.uid_next_before(&sides[side..=side], &bases, validity)
    });
    let merge = merge.map_err(|error| format!("{error:?}"))?;
    let Ok(tree) = history.memory.build(Some(trees[merge.side]), &merge.ops);
    Ok((tree, merge.conflicts))
}

#[test]
fn the_same_heads_make_the_same_commit() {
    law("deterministic", |plan, history| {
        let first = history.braid();
        let mut again = History::of(plan)?;
        let second = again.braid();
        same("braids", &first, &second)?;
        same("commits", &history.keep(&first), &again.keep(&second))
    });
}

#[test]
fn the_order_of_heads_does_not_matter() {
    law("symmetric", |_, history| {
        let expected = history.braid();
        let mut heads = history.heads();
        for _ in 0..heads.len() {
            heads.rotate_left(1);
            let turned = braid(&mut history.memory, &heads).unwrap();
            same("turned", &Some(&expected), &turned.as_ref())?;
            let mut back = heads.clone();
            back.reverse();
            back.extend_from_slice(&heads);
            let turned = braid(&mut history.memory, &back).unwrap();
            same("turned and doubled", &Some(&expected), &turned.as_ref())?;
        }
        Ok(())
    });
}

#[test]
fn the_order_of_sides_does_not_matter() {
    law("symmetric sides", |_, history| {
        let heads = history.heads();
        for (at, &left) in heads.iter().enumerate() {
            for &right in &heads[..at] {
                let Ok(bases) = history.memory.merge_bases(&[left], &[right]);
                for base in bases.first().copied().into_iter().map(Some).chain([None]) {
                    let forth = pair(history, base, [left, right])?;
                    let back = pair(history, base, [right, left])?;
                    same("sides", &forth, &back)?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_merged_already_changes_nothing() {
    law("idempotent", |_, history| {
        let merged = history.braid();
        let commit = history.keep(&merged);
        let mut heads = history.heads();
        heads.push(commit);
        let again = braid(&mut history.memory, &heads).unwrap().unwrap();
        same("parents", &again.parents, &vec![commit])?;
        same("trees", &again.tree, &merged.tree)?;
        same("conflicts", &again.conflicts, &Vec::new())?;
        for head in history.heads() {
            let Ok(bases) = history.memory.merge_bases(&[commit], &[head]);
            same("bases", &bases, &vec![head])?;
            let (tree, _) = pair(history, Some(head), [commit, commit])?;
            same("the same twice", &tree, &merged.tree)?;
        }
        Ok(())
    });
}

/// Whether a directory has come to the path of a folder that had a greater UIDVALIDITY. A merge keeps the greater, whatever the sides did.
fn falls(history: &History, base: Oid, head: Oid) -> bool {
    let after = history.memory.dir(history.tree(head));
    let before = history.folders(history.tree(base));
    before.into_iter().any(|(path, dir)| {
        let now = after.at(&path);
        now.is_some_and(|now| facts(now).uid_validity < facts(&dir).uid_validity)
    })
}

#[test]
fn where_one_side_did_nothing_the_other_is_the_merge() {
    law("fast-forward", |_, history| {
        for past in history.past.clone() {
            for (from, &base) in past.iter().enumerate() {
                // What servers did alone. A braid may unite folders, and then the base is none of the head's as a merge sees it.
                let own = past[from + 1..].iter();
                let own = own.take_while(|&&head| history.memory.get(head).parents.len() == 1);
                for head in own.copied().collect::<Vec<Oid>>() {
                    if falls(history, base, head) {
                        continue;
                    }
                    one_sided(history, base, head)?;
                }
            }
        }
        Ok(())
    });
}

fn one_sided(history: &mut History, base: Oid, head: Oid) -> Result<(), String> {
    for sides in [[base, head], [head, base]] {
        let (tree, conflicts) = pair(history, Some(base), sides)?;
        if tree != history.tree(head) {
            let text = |tree| text::write(&history.memory, tree);
            return Err(format!(
                "{}became\n{}and the merge\n{}",
                text(history.tree(base)),
                text(history.tree(head)),
                text(tree)
            ));
        }
        same("conflicts", &conflicts, &Vec::new())?;
    }
    Ok(())
}

#[test]
fn no_message_is_lost_that_nobody_removed() {
    law("nothing lost", |_, history| {
        let merged = history.braid();
        let there = history.mail(merged.tree);
        for (oid, fate) in &history.ledger.fates {
            if fate.removed.is_empty() && !there.contains_key(oid) {
                let content = history.memory.content(*oid);
                return Err(format!("{} is lost", String::from_utf8_lossy(&content)));
            }
        }
        Ok(())
    });
}

#[test]
fn no_message_returns_that_was_expunged() {
    law("nothing returns", |_, history| {
        // As a node does it: folders that this braid unites are mail moved, as in any other.
        let merged = history.come_together()?;
        let there = history.mail(merged);
        for (oid, fate) in &history.ledger.fates {
            if let Some(places) = there.get(oid)
                && !fate.removed.is_empty()
                && !fate.spread
            {
                let content = history.memory.content(*oid);
                let content = String::from_utf8_lossy(&content);
                return Err(format!(
                    "{content} was removed from {:?} and is in {places:?}",
                    fate.removed
                ));
            }
        }
        Ok(())
    });
}

/// What a law says of one folder as a head shows it, and as the merge of all heads does.
type FolderLaw = fn(&Dir, &Dir) -> Result<(), String>;

/// Holds every folder that is the same on a head and in the merge to a law.
fn folder_law(name: &str, holds: FolderLaw) {
    law(name, |_, history| {
        let merged = history.braid();
        let after: BTreeMap<TreePath, Rc<Dir>> = history.folders(merged.tree);
        for head in history.heads() {
            for (path, before) in history.folders(history.tree(head)) {
                let Some(after) = after.get(&path) else {
                    continue;
                };
                if facts(&before).guid == facts(after).guid {
                    holds(&before, after).map_err(|why| format!("{path}: {why}"))?;
                }
            }
        }
        Ok(())
    });
}

fn facts(dir: &Dir) -> MailboxFacts {
    dir.facts.clone().unwrap_or_default()
}

/// Messages by UID: content and INTERNALDATE. Two of one UID are a fault.
fn by_uid(dir: &Dir) -> Result<BTreeMap<u32, (Oid, i64)>, String> {
    let mut found = BTreeMap::new();
    let parts = [b"cur", b"new"];
    let files = parts
        .iter()
        .flat_map(|part| &dir.dirs[part.as_slice()].files);
    for (_, (oid, attrs)) in files {
        if let Some(uid) = attrs.uid
            && found.insert(uid, (*oid, attrs.mtime)).is_some()
        {
            return Err(format!("UID {uid} twice"));
        }
    }
    Ok(found)
}

#[test]
fn no_uid_names_two_messages() {
    folder_law("UIDs name one message", |before, after| {
        if facts(before).uid_validity != facts(after).uid_validity {
            return Ok(());
        }
        let (before, after) = (by_uid(before)?, by_uid(after)?);
        for (uid, message) in before {
            if after.get(&uid).is_some_and(|now| *now != message) {
                return Err(format!("UID {uid} names another message"));
            }
        }
        Ok(())
    });
}

#[test]
fn uidvalidity_and_uidnext_do_not_fall() {
    folder_law("UIDNEXT", |before, after| {
        let (before, after) = (facts(before), facts(after));
        if (after.uid_validity, after.uid_next) < (before.uid_validity, before.uid_next) {
            return Err(format!("{before:?} falls to {after:?}"));
        }
        Ok(())
    });
}

#[test]
fn uids_ascend_in_the_order_of_arrival() {
    folder_law("arrival", |before, after| {
        if facts(before).uid_validity != facts(after).uid_validity {
            return Ok(());
        }
        let next = facts(before).uid_next;
        let (before, now) = (by_uid(before)?, by_uid(after)?);
        for uid in now.keys() {
            if *uid < next && !before.contains_key(uid) {
                return Err(format!("UID {uid} comes after UIDNEXT was {next}"));
            }
            if *uid >= facts(after).uid_next {
                return Err(format!("UID {uid} is not below UIDNEXT"));
            }
        }
        Ok(())
    });
}
