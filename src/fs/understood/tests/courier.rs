//! One folder, Courier and Dovecot.

use super::*;

#[test]
fn courier_and_dovecot_have_one_folder() {
    let tree = opened_by_dovecot();
    tree.rename("u/new/1.a", "u/cur/1.a:2,");
    assert_eq!(tree.read("u/courierimapuiddb"), "1 9 3\n1 1.a\n");
    // Courier takes what is in new/, and gives it the next UID.
    tree.write("u/tmp/lock1", "");
    tree.link("u/tmp/lock1", "u/tmp/courier.lock").unwrap();
    assert!(
        matches!(tree.lock(), Err(FsError::Exists)),
        "the locks exclude each other"
    );
    tree.rename("u/new/2.b", "u/cur/2.b:2,");
    tree.write("u/tmp/db", "1 9 4\n1 1.a\n3 2.b\n");
    tree.rename("u/tmp/db", "u/courierimapuiddb");
    tree.unlink("u/tmp/courier.lock");
    assert_eq!((tree.uid("u/cur/2.b:2,"), tree.facts("u").uid_next), (3, 4));
    assert_eq!(tree.read("u/courierimapuiddb"), "1 9 4\n1 1.a\n3 2.b\n");
    assert_eq!(
        tree.read("u/dovecot-uidlist"),
        format!("3 V9 N4 G{GUID}\n1 :1.a\n3 :2.b\n")
    );
    tree.lock().unwrap();
    assert!(matches!(
        tree.link("u/tmp/lock1", "u/tmp/courier.lock"),
        Err(FsError::Exists)
    ));
}

#[test]
fn a_folder_that_courier_renames_begins_anew() {
    let tree = Tree::new();
    for path in ["u/.w", "u/.w/cur", "u/.w/new", "u/.w/tmp"] {
        let (parent, name) = tree.split(path);
        tree.fs.mkdir(parent, name.as_bytes()).unwrap();
    }
    tree.write("u/.w/cur/1.a:2,", "x");
    tree.write("u/.w/tmp/db", "1 9 8\n7 1.a\n");
    tree.rename("u/.w/tmp/db", "u/.w/courierimapuiddb");
    assert_eq!(tree.uid("u/.w/cur/1.a:2,"), 7);
    tree.rename("u/.w", "u/.v");
    assert_eq!(tree.read("u/.v/courierimapuiddb"), "1 9 8\n7 1.a\n");
    tree.unlink("u/.v/courierimapuiddb");
    assert_eq!(tree.uid("u/.v/cur/1.a:2,"), 7, "until Courier asks");
    let shown = tree.read("u/.v/courierimapuiddb");
    let facts = tree.facts("u/.v");
    assert_eq!(shown, format!("1 {} 1\n", facts.uid_validity));
    assert!(facts.uid_validity > 9);
    assert_eq!(tree.uid("u/.v/cur/1.a:2,"), 0);
    // One that is lost, and not for a rename, is made anew with the same UIDs.
    tree.write(
        "u/.v/tmp/db",
        &format!("1 {} 2\n1 1.a\n", facts.uid_validity),
    );
    tree.rename("u/.v/tmp/db", "u/.v/courierimapuiddb");
    tree.unlink("u/.v/courierimapuiddb");
    assert!(tree.read("u/.v/courierimapuiddb").ends_with(" 2\n1 1.a\n"));
}

#[test]
fn keywords_are_one_for_both_servers() {
    let tree = opened_by_dovecot();
    tree.rename("u/new/1.a", "u/cur/1.a:2,Sa");
    assert!(tree.stat("u/courierimapkeywords").is_err());
    tree.write("u/dovecot-keywords.lock", "0 $Forwarded\n");
    tree.rename("u/dovecot-keywords.lock", "u/dovecot-keywords");
    assert_eq!(tree.facts("u").keywords[&0], b"$Forwarded");
    assert_eq!(
        tree.read("u/courierimapkeywords/:list"),
        "$Forwarded\n\n1.a:0\n"
    );
    let before = tree.stat("u/dovecot-keywords").unwrap();
    // Courier sets another one, and a flag, under the name it knows; nothing is renamed behind its back.
    tree.write("u/tmp/kw", "$Forwarded\nImportant\n");
    tree.rename("u/tmp/kw", "u/courierimapkeywords/1.a");
    tree.rename("u/cur/1.a:2,Sa", "u/cur/1.a:2,FS");
    assert_eq!(tree.uid("u/cur/1.a:2,FSa"), 1);
    assert_eq!(
        tree.read("u/dovecot-keywords"),
        "0 $Forwarded\n1 Important\n"
    );
    let after = tree.stat("u/dovecot-keywords").unwrap();
    assert!(after.mtime.0 > before.mtime.0 && after.ino != before.ino);
    assert_eq!(
        tree.read("u/courierimapkeywords/:list"),
        "$Forwarded\nImportant\n\n1.a:0 1\n"
    );
    assert!(
        tree.stat("u/courierimapkeywords/1.a").is_err(),
        "the update is in the list"
    );
    assert!(
        !tree.read("u/dovecot-uidlist").contains('k'),
        "our own field is not shown"
    );
    // Dovecot comes: the letters are in the name when it has its lock.
    tree.lock().unwrap();
    assert_eq!(tree.uid("u/cur/1.a:2,FSab"), 1);
    tree.rename("u/cur/1.a:2,FSab", "u/cur/1.a:2,FSb");
    tree.unlink("u/dovecot-uidlist.lock");
    assert_eq!(
        tree.read("u/courierimapkeywords/:list"),
        "Important\n\n1.a:0\n"
    );
}

#[test]
fn courier_deletes_a_message_with_letters() {
    let tree = opened_by_dovecot();
    tree.rename("u/new/1.a", "u/cur/1.a:2,Sa");
    let (folder, name) = tree.split("u/courierimapkeywords");
    tree.fs.mkdir(folder, name.as_bytes()).unwrap();
    tree.rename("u/cur/1.a:2,Sa", "u/cur/1.a:2,ST");
    let ino = tree.stat("u/cur/1.a:2,STa").unwrap().ino;
    assert_eq!(tree.stat("u/cur/1.a:2,ST").unwrap().ino, ino);
    // It thinks better of it, and not.
    tree.rename("u/cur/1.a:2,ST", "u/cur/1.a:2,S");
    tree.rename("u/cur/1.a:2,S", "u/cur/1.a:2,ST");
    assert_eq!(tree.uid("u/cur/1.a:2,STa"), 1);
    tree.unlink("u/cur/1.a:2,ST");
    assert!(tree.stat("u/cur/1.a:2,STa").is_err());
}

#[test]
fn a_courier_that_slept_finds_its_messages() {
    let tree = opened_by_dovecot();
    tree.rename("u/new/1.a", "u/cur/1.a:2,S");
    tree.rename("u/new/2.b", "u/cur/2.b:2,");
    let (parent, _) = tree.split("u/x");
    tree.fs.mkdir(parent, b"courierimapkeywords").unwrap();
    for name in ["1.a", "2.b"] {
        tree.write("u/tmp/kw", "Important\n");
        tree.rename("u/tmp/kw", &format!("u/courierimapkeywords/{name}"));
    }
    tree.lock().unwrap();
    assert_eq!(
        (tree.uid("u/cur/1.a:2,Sa"), tree.uid("u/cur/2.b:2,a")),
        (1, 2)
    );
    assert!(
        tree.stat("u/cur/1.a:2,S").is_err(),
        "Dovecot sees what there is"
    );
    tree.unlink("u/dovecot-uidlist.lock");
    assert_eq!(
        tree.stat("u/cur/1.a:2,S").unwrap().ino,
        tree.stat("u/cur/1.a:2,Sa").unwrap().ino
    );
    tree.rename("u/cur/1.a:2,S", "u/cur/1.a:2,FS");
    assert_eq!(tree.uid("u/cur/1.a:2,FSa"), 1);
    tree.unlink("u/cur/2.b:2,");
    assert!(tree.stat("u/cur/2.b:2,a").is_err());
}

#[test]
fn a_keyword_directory_that_is_there_is_shown_as_it_is() {
    let tree = Tree::new();
    let (folder, name) = tree.split("u/courierimapkeywords");
    tree.fs.mkdir(folder, name.as_bytes()).unwrap();
    // Nothing is known of the folder, as after a mount.
    let ready = tree.fs.make_ready(folder, super::super::Index::KeywordDir);
    assert!(ready.is_ok(), "{ready:?}");
    tree.write("u/courierimapkeywords/x", "");
    assert!(tree.stat("u/courierimapkeywords/x").is_ok());
}

#[test]
fn what_lands_in_new_where_courier_looks_is_its_to_number() {
    let tree = opened_by_dovecot();
    tree.deliver("3.c");
    assert_eq!(tree.uid("u/new/3.c"), 3);
    tree.rename("u/new/3.c", "u/cur/3.c:2,");
    assert_eq!(tree.read("u/courierimapuiddb"), "1 9 4\n3 3.c\n");
    tree.deliver("4.d");
    assert_eq!(tree.uid("u/new/4.d"), 0);
    tree.write("u/tmp/5.e", "x");
    tree.rename("u/tmp/5.e", "u/cur/5.e:2,S");
    assert_eq!(tree.uid("u/cur/5.e:2,S"), 4);
    // Courier's, or Dovecot's, whichever comes first.
    tree.rename("u/new/4.d", "u/cur/4.d:2,");
    tree.write("u/tmp/db", "1 9 6\n3 3.c\n4 5.e\n5 4.d\n");
    tree.rename("u/tmp/db", "u/courierimapuiddb");
    assert_eq!(tree.uid("u/cur/4.d:2,"), 5);
}

#[test]
fn the_kernel_forgets_a_list_that_courier_wrote() {
    struct Told(crossbeam_channel::Sender<(Ino, Vec<u8>)>);
    impl Invalidator for Told {
        fn entry(&self, parent: Ino, name: &[u8]) {
            self.0.send((parent, name.to_vec())).unwrap();
        }
        fn inode(&self, _: Ino) {}
    }
    let tree = opened_by_dovecot();
    let (folder, name) = tree.split("u/courierimapkeywords");
    tree.fs.mkdir(folder, name.as_bytes()).unwrap();
    let (dir, list) = tree.split("u/courierimapkeywords/:list");
    let (sender, told) = crossbeam_channel::unbounded();
    tree.fs.set_invalidator(Arc::new(Told(sender))).unwrap();
    // Under this name the kernel may remember a file for long, and what is renamed keeps its time.
    tree.write("u/tmp/1795853729.M1P2.vm", "Important\n\n");
    tree.rename("u/tmp/1795853729.M1P2.vm", "u/courierimapkeywords/:list");
    let patience = std::time::Duration::from_secs(60);
    while told.recv_timeout(patience).expect("nothing is forgotten") != (dir, list.into()) {}
}
