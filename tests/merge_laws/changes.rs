//! Property: the changes from one tree to another, applied to the one, give the other. Folders move, swap places and are changed at once; messages change flags and
//! places.

use std::rc::Rc;

use mailbraid::maildir::{Attrs, Change, EntryKind, MailboxFacts, Oid, TreePath};
use mailbraid::merge::changes;

use super::world::{Dir, Memory};
use crate::simulation::random::Random;

fn seeds() -> Vec<u64> {
    match std::env::var("MAILBRAID_SEED") {
        Ok(seed) => vec![seed.parse().expect("MAILBRAID_SEED is a number")],
        Err(_) => (1..=3_000).collect(),
    }
}

/// A random directory. Few names and few GUIDs, so that two trees meet in both.
fn random_dir(random: &mut Random, memory: &mut Memory, depth: usize) -> Dir {
    let mut dir = Dir::default();
    if !random.one_in(3) {
        dir.facts = Some(MailboxFacts {
            uid_validity: random.below(4) as u32,
            uid_next: 1 + random.below(3) as u32,
            guid: (!random.one_in(3)).then(|| vec![b'0' + random.below(5) as u8; 32]),
            ..MailboxFacts::default()
        });
    }
    if random.one_in(3) {
        let oid = memory.put_blob(&[random.below(3) as u8]);
        dir.files
            .insert(b"subscriptions".to_vec(), (oid, Attrs::default()));
    }
    for place in ["cur", "new"] {
        if random.one_in(4) {
            continue;
        }
        let mut messages = Dir::default();
        for _ in 0..random.below(9) {
            let number = random.below(8);
            let flags = ["", ":2,", ":2,S", ":2,FS"][random.below(4)];
            let oid = memory.put_blob(&[number as u8, random.one_in(6).into()]);
            let attrs = Attrs {
                uid: (!random.one_in(3)).then(|| 1 + number as u32),
                mtime: random.below(2) as i64,
                ..Attrs::default()
            };
            let name = format!("{number}.M{number}.vm{flags}");
            messages.files.insert(name.into_bytes(), (oid, attrs));
        }
        dir.dirs.insert(place.into(), Rc::new(messages));
    }
    if depth > 0 {
        for name in ["a", "b", "c"] {
            if random.one_in(2) {
                let below = random_dir(random, memory, depth - 1);
                dir.dirs.insert(name.into(), Rc::new(below));
            }
        }
    }
    dir
}

fn at_mut<'a>(dir: &'a mut Dir, path: &TreePath) -> &'a mut Dir {
    path.components().fold(dir, |dir, part| {
        let below = dir.dirs.get_mut(part);
        Rc::make_mut(below.unwrap_or_else(|| panic!("{path}: no such directory")))
    })
}

/// What a change does to a tree by value; panics where it does not fit. Returns the trees that directories are said to have in the end.
fn apply(dir: &mut Dir, change: &Change, memory: &Memory, said: &mut Vec<(TreePath, Oid)>) {
    let split = |path: &TreePath| (path.parent().expect("not the root"), path.name().to_vec());
    match change {
        Change::Put { path, oid, attrs } => {
            let (parent, name) = split(path);
            let parent = at_mut(dir, &parent);
            assert!(!parent.dirs.contains_key(&name), "{path}: a directory");
            parent.files.insert(name, (*oid, attrs.clone()));
        }
        Change::Rename {
            from,
            to,
            oid,
            kind,
        } => {
            let ((from_dir, from_name), (to_dir, to_name)) = (split(from), split(to));
            let source = at_mut(dir, &from_dir);
            let (file, moved) = (
                source.files.remove(&from_name),
                source.dirs.remove(&from_name),
            );
            let target = at_mut(dir, &to_dir);
            assert!(!target.dirs.contains_key(&to_name), "{to}: a directory");
            match (file, moved, kind) {
                (Some((old, _)), None, EntryKind::File(attrs)) => {
                    assert_eq!(old, *oid, "{from}");
                    target.files.insert(to_name, (old, attrs.clone()));
                }
                (None, Some(moved), EntryKind::Dir) => {
                    assert!(!target.files.contains_key(&to_name), "{to}: a file");
                    target.dirs.insert(to_name, moved);
                }
                other => panic!("{from}: {other:?}"),
            }
        }
        Change::Remove { path } => {
            let (parent, name) = split(path);
            let gone = at_mut(dir, &parent).files.remove(&name);
            assert!(gone.is_some(), "{path}: nothing to remove");
        }
        Change::RemoveDir { path } => {
            let (parent, name) = split(path);
            let gone = at_mut(dir, &parent).dirs.remove(&name);
            assert!(gone.is_some(), "{path}: nothing to remove");
        }
        Change::Mkdir { path, tree } => {
            let (parent, name) = split(path);
            let below = memory.dir(*tree);
            let before = at_mut(dir, &parent).dirs.insert(name, below);
            assert!(before.is_none(), "{path}: it exists already");
        }
        Change::SetAttrs { path, attrs } => {
            let (parent, name) = split(path);
            let file = at_mut(dir, &parent).files.get_mut(&name);
            file.unwrap_or_else(|| panic!("{path}: no such file")).1 = attrs.clone();
        }
        Change::SetMailbox { folder, facts } => at_mut(dir, folder).facts = Some(facts.clone()),
        Change::Retree { path, tree } => said.push((path.clone(), *tree)),
    }
}

/// All that a directory holds, without what is only remembered of it.
fn plain(dir: &Dir, path: &TreePath, found: &mut Vec<String>) {
    found.push(format!("{path}: {:?}", dir.facts));
    for (name, file) in &dir.files {
        found.push(format!("{}: {file:?}", path.join(name)));
    }
    for (name, below) in &dir.dirs {
        plain(below, &path.join(name), found);
    }
}

fn listed(dir: &Dir) -> Vec<String> {
    let mut found = Vec::new();
    plain(dir, &TreePath::root(), &mut found);
    found
}

fn check(memory: &mut Memory, old: Dir, new: Dir) -> Vec<Change> {
    let (mut old, mut new) = (Rc::new(old), Rc::new(new));
    let (from, to) = (memory.write(&mut old), memory.write(&mut new));
    let list = changes(&*memory, Some(from), Some(to)).unwrap();
    let mut shown = (*old).clone();
    let mut said = Vec::new();
    for change in &list {
        apply(&mut shown, change, memory, &mut said);
    }
    assert_eq!(listed(&shown), listed(&new), "{list:#?}");
    for (path, tree) in said {
        let dir = new.at(&path).expect("it is there");
        assert_eq!(memory.write(&mut Rc::new(dir.clone())), tree, "{path}");
    }
    if from == to {
        assert!(list.is_empty());
    }
    list
}

#[test]
fn changes_make_one_tree_the_other() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let mut memory = Memory::default();
        let old = random_dir(&mut random, &mut memory, 2);
        let mut new = if random.one_in(2) {
            random_dir(&mut random, &mut memory, 2)
        } else {
            old.clone()
        };
        // Folders change places, whole or with what differs.
        for _ in 0..random.below(4) {
            let names = [&b"a"[..], b"b", b"c"];
            let (one, two) = (names[random.below(3)], names[random.below(3)]);
            let (first, second) = (new.dirs.remove(one), new.dirs.remove(two));
            new.dirs.extend(first.map(|dir| (two.to_vec(), dir)));
            new.dirs.extend(second.map(|dir| (one.to_vec(), dir)));
        }
        // Nothing takes facts away, but a folder is made anew without; the mount point never is.
        if new.facts.is_none() {
            new.facts.clone_from(&old.facts);
        }
        println!("MAILBRAID_SEED={seed}");
        check(&mut memory, old, new);
    }
}

#[allow(clippy::field_reassign_with_default)] // one field is the world's own
fn folder(memory: &mut Memory, guid: u8, names: &[&str]) -> Rc<Dir> {
    let mut cur = Dir::default();
    for name in names {
        let oid = memory.put_blob(name.split(':').next().unwrap_or("").as_bytes());
        cur.files
            .insert(name.as_bytes().to_vec(), (oid, Attrs::default()));
    }
    let mut dir = Dir::default();
    dir.facts = Some(MailboxFacts {
        uid_validity: 1,
        uid_next: 1,
        guid: Some(vec![guid; 32]),
        ..MailboxFacts::default()
    });
    dir.dirs.insert(b"cur".to_vec(), Rc::new(cur));
    Rc::new(dir)
}

#[test]
fn a_flag_change_is_one_rename() {
    let mut memory = Memory::default();
    let mut old = Dir::default();
    let many: Vec<String> = (0..200).map(|number| format!("{number}.vm:2,")).collect();
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    old.dirs
        .insert(b"u".to_vec(), folder(&mut memory, b'1', &names));
    let mut new = old.clone();
    names[7] = "7.vm:2,S";
    new.dirs
        .insert(b"u".to_vec(), folder(&mut memory, b'1', &names));
    let list = check(&mut memory, old, new);
    let others = list
        .iter()
        .filter(|change| !matches!(change, Change::Retree { .. }));
    assert!(matches!(
        others.collect::<Vec<_>>()[..],
        [Change::Rename { .. }]
    ));
}

#[test]
fn folders_that_change_places_are_moved() {
    let mut memory = Memory::default();
    let (mut old, mut new) = (Dir::default(), Dir::default());
    old.dirs
        .insert(b"a".to_vec(), folder(&mut memory, b'1', &["1.vm"]));
    old.dirs
        .insert(b"b".to_vec(), folder(&mut memory, b'2', &["2.vm"]));
    new.dirs
        .insert(b"a".to_vec(), folder(&mut memory, b'2', &["2.vm:2,S"]));
    new.dirs
        .insert(b"b".to_vec(), folder(&mut memory, b'1', &["1.vm"]));
    let list = check(&mut memory, old, new);
    let is_move = |change: &&Change| {
        matches!(
            change,
            Change::Rename {
                kind: EntryKind::Dir,
                ..
            }
        )
    };
    assert_eq!(list.iter().filter(is_move).count(), 3, "{list:?}");
    let ends = |change: &Change| matches!(change, Change::RemoveDir { .. } | Change::Mkdir { .. });
    assert!(!list.iter().any(ends), "{list:?}");
}

/// The same folder, made on two nodes: who delivers into it is not to find it gone.
#[test]
fn a_folder_that_becomes_another_stays() {
    let mut memory = Memory::default();
    let (mut old, mut new) = (Dir::default(), Dir::default());
    old.dirs
        .insert(b"a".to_vec(), folder(&mut memory, b'1', &["1.vm"]));
    new.dirs
        .insert(b"a".to_vec(), folder(&mut memory, b'2', &["1.vm", "2.vm"]));
    let list = check(&mut memory, old, new);
    let stays = |change: &Change| {
        matches!(
            change,
            Change::Put { .. } | Change::SetMailbox { .. } | Change::Retree { .. }
        )
    };
    assert!(list.iter().all(stays), "{list:?}");
}
