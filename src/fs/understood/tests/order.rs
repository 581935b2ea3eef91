//! The order in which `new` is listed.

use super::*;

#[test]
fn new_is_listed_in_order_of_uids() {
    let tree = opened_by_dovecot();
    for name in ["9.first", "5.second", "7.third"] {
        tree.deliver(name);
    }
    let ino = tree.stat("u/new").unwrap().ino;
    let mut names = Vec::new();
    tree.fs
        .readdir(ino, 0, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            false
        })
        .unwrap();
    assert_eq!(names[2..], ["1.a", "2.b", "9.first", "5.second", "7.third"]);
}

#[test]
fn regression_a_message_that_gets_its_uid_during_a_listing_is_listed_once() {
    let tree = Tree::new();
    for name in ["5.e", "4.d", "3.c"] {
        tree.deliver(name);
    }
    let dir = tree.stat("u/new").unwrap().ino;
    // Up to `most` messages behind a place: their names, and the place of the last.
    let read = |mut place: u64, most: usize| {
        let mut names = Vec::new();
        let listed = tree.fs.readdir(dir, place, &mut |entry| {
            if names.len() == most {
                return true;
            }
            place = entry.place;
            if !entry.name.starts_with(b".") {
                names.push(String::from_utf8_lossy(entry.name).into_owned());
            }
            false
        });
        listed.unwrap();
        (names, place)
    };
    let (mut names, place) = read(0, 1);
    // Another reader comes to the end, so that the listing is sorted again.
    assert_eq!(read(0, 9).0.len(), 3);
    tree.rewrite("3 V9 N4\n1 :3.c\n2 :4.d\n3 :5.e\n");
    assert_eq!(tree.uid("u/new/3.c"), 1);
    names.extend(read(place, 9).0);
    assert_eq!(names, ["5.e", "4.d", "3.c"]);
}
