//! Folders that no server has opened, and the first that does.

use super::*;
use crate::maildir::Offer;

fn offer(tree: &Tree, folder: &str) -> Offer {
    tree.facts(folder).offer.expect("an offer")
}

fn make(tree: &Tree, folder: &str) {
    for path in [
        folder.to_owned(),
        format!("{folder}/cur"),
        format!("{folder}/new"),
        format!("{folder}/tmp"),
    ] {
        let (parent, name) = tree.split(&path);
        tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    }
}

/// What Dovecot finds that opens the folder `u` and changes nothing.
fn opened(tree: &Tree) -> String {
    tree.lock().unwrap();
    let found = tree.read("u/dovecot-uidlist");
    tree.unlink("u/dovecot-uidlist.lock");
    found
}

#[test]
fn a_folder_is_never_recorded_without_its_offer() {
    let tree = Tree::new();
    let records = tree.records();
    let at = |wanted: &dyn Fn(&Op) -> bool| records.iter().position(wanted).unwrap();
    let offered = at(&|op| matches!(op, Op::SetMailbox { facts, .. } if facts.offer.is_some()));
    let made = at(&|op| matches!(op, Op::Mkdir { path } if path.name() == b"cur"));
    assert!(offered < made, "{records:?}");
    assert_eq!(offer(&tree, "u").guid.len(), 32);
    // One that is put together elsewhere, and comes by a rename.
    for path in ["p", "p/x"] {
        let (parent, name) = tree.split(path);
        tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    }
    assert_eq!(tree.facts("p").offer, None);
    tree.rename("p/x", "p/cur");
    let Offer { uid_validity, guid } = offer(&tree, "p");
    assert!(uid_validity > offer(&tree, "u").uid_validity && guid != offer(&tree, "u").guid);
}

#[test]
fn regression_a_subfolder_has_its_offer_with_its_name() {
    let tree = Tree::new();
    tree.records();
    let (parent, name) = tree.split("u/.w");
    tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    let records = tree.records();
    assert!(
        matches!(&records[..], [Op::MkFolder { path, facts }]
            if path.as_bytes() == b"u/.w" && facts.offer == tree.facts("u/.w").offer),
        "{records:?}"
    );
    let (parent, name) = tree.split("u/.w/cur");
    tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    assert!(matches!(&tree.records()[..], [Op::Mkdir { .. }]));
    // Where there is no Maildir a name says nothing.
    for path in ["p", "p/.w"] {
        let (parent, name) = tree.split(path);
        tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    }
    assert_eq!(tree.facts("p/.w").offer, None);
}

#[test]
fn the_first_server_finds_what_is_offered_and_takes_it() {
    let tree = Tree::new();
    let Offer { uid_validity, guid } = offer(&tree, "u");
    tree.deliver("1.a");
    assert!(
        matches!(tree.stat("u/dovecot-uidlist"), Err(FsError::NotFound)),
        "nobody is shown it who does not hold the lock"
    );
    assert_eq!(tree.uid("u/new/1.a"), 0);
    let guid = String::from_utf8(guid).unwrap();
    assert_eq!(opened(&tree), format!("3 V{uid_validity} N1 G{guid}\n"));
    let facts = tree.facts("u");
    assert_eq!((facts.uid_validity, facts.offer), (uid_validity, None));
    assert_eq!(facts.guid, Some(guid.clone().into_bytes()));
    assert_eq!(facts.uid_validity_issued, uid_validity);
    assert_eq!(
        tree.read("u/dovecot-uidvalidity"),
        format!("{uid_validity:08x}")
    );
    // From here on it is a folder like any other.
    tree.deliver("2.b");
    assert_eq!(tree.uid("u/new/2.b"), 1);
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V{uid_validity} N1 G{guid}\n1 :2.b\n")
    );
}

#[test]
fn what_the_first_server_adds_is_read_with_it() {
    let tree = Tree::new();
    tree.deliver("1.a");
    tree.lock().unwrap();
    assert!(tree.read("u/dovecot-uidlist").ends_with('\n'));
    tree.append("u/dovecot-uidlist", "1 :1.a\n");
    tree.unlink("u/dovecot-uidlist.lock");
    assert_eq!((tree.uid("u/new/1.a"), tree.facts("u").uid_next), (1, 2));
}

#[test]
fn courier_finds_it_too() {
    let tree = Tree::new();
    let Offer { uid_validity, guid } = offer(&tree, "u");
    assert!(tree.stat("u/courierimapuiddb").is_err());
    tree.write("u/tmp/lock1", "");
    tree.link("u/tmp/lock1", "u/tmp/courier.lock").unwrap();
    assert_eq!(
        tree.read("u/courierimapuiddb"),
        format!("1 {uid_validity} 1\n")
    );
    tree.unlink("u/tmp/courier.lock");
    assert_eq!(
        tree.read("u/courierimapuiddb"),
        format!("1 {uid_validity} 1\n")
    );
    assert_eq!(tree.facts("u").uid_validity, uid_validity);
    // Dovecot comes later, and makes a GUID where it finds none.
    assert_eq!(tree.facts("u").guid, Some(guid));
}

#[test]
fn a_copied_folder_keeps_its_own_numbers() {
    let tree = Tree::new();
    tree.write("u/cur/1.a:2,", "x");
    tree.write("u/dovecot-uidlist", &format!("3 V9 N3 G{GUID}\n2 :1.a\n"));
    tree.fs.commit_rested(true);
    let facts = tree.facts("u");
    assert_eq!((facts.uid_validity, facts.uid_next), (9, 3));
    assert_eq!(facts.guid, Some(GUID.into()));
    assert_eq!((facts.offer, facts.uid_validity_issued), (None, 0));
}

#[test]
fn a_server_that_is_told_other_numbers_says_so_before_it_lets_go() {
    let tree = Tree::new();
    tree.lock().unwrap();
    tree.read("u/dovecot-uidlist");
    tree.write("u/dovecot-uidlist.tmp", &format!("3 V9 N5 G{GUID}\n"));
    tree.rename("u/dovecot-uidlist.tmp", "u/dovecot-uidlist");
    tree.unlink("u/dovecot-uidlist.lock");
    let facts = tree.facts("u");
    assert_eq!((facts.uid_validity, facts.uid_next), (9, 5));
    assert_eq!(facts.guid, Some(GUID.into()));
    assert!(tree.read("u/dovecot-uidlist").starts_with("3 V9 N5"));
}

#[test]
fn a_folder_made_anew_is_offered_a_greater_number() {
    let tree = Tree::new();
    make(&tree, "u/.w");
    let first = offer(&tree, "u/.w");
    for name in ["cur", "new", "tmp"] {
        let dir = tree.stat("u/.w").unwrap().ino;
        tree.fs.rmdir(dir, name.as_bytes()).unwrap();
    }
    let (parent, name) = tree.split("u/.w");
    tree.fs.rmdir(parent, name.as_bytes()).unwrap();
    make(&tree, "u/.w");
    assert!(offer(&tree, "u/.w").uid_validity > first.uid_validity);
    // What another node issued counts for the whole account.
    tree.write("u/dovecot-uidvalidity.7fffffff", "");
    tree.write("u/x", "");
    tree.rename("u/x", "u/dovecot-uidvalidity.7fffffff");
    make(&tree, "u/.v");
    assert_eq!(offer(&tree, "u/.v").uid_validity, 0x8000_0000);
}
