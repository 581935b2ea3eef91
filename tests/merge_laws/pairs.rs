//! Pairs of the table's rows that meet on one message, and groups of three.

use mailbraid::merge::{Conflict, braid};

use super::text::{self, expect, expect_after};
use super::world::Memory;

/// What kinds of conflict were told.
fn kinds(conflicts: &[Conflict]) -> Vec<String> {
    let names = conflicts.iter().map(|conflict| format!("{conflict:?}"));
    names
        .map(|text| text.split([' ', '{']).next().unwrap().to_owned())
        .collect()
}

/// Braids three heads on one base, in every order that ids can give them, and returns the trees that come of it.
fn three(base: &str, heads: [&str; 3]) -> std::collections::BTreeSet<String> {
    let braided = (0..48_u32).map(|salt| {
        let mut memory = Memory::default();
        let mut commit = |tree: &str, parents: &[_]| {
            let tree = text::read(&mut memory, tree);
            memory.commit(tree, parents, 0, &salt.to_le_bytes())
        };
        let base = commit(base, &[]);
        let heads = heads.map(|head| commit(head, &[base]));
        let merged = braid(&mut memory, &heads).unwrap().unwrap();
        text::write(&memory, merged.tree)
    });
    braided.collect()
}

/// All of them hold a line that starts so.
#[track_caller]
fn all_have(trees: &std::collections::BTreeSet<String>, line: &str) {
    for tree in trees {
        assert!(
            tree.lines().any(|have| have.starts_with(line)),
            "no {line} in\n{tree}"
        );
    }
}

/// None of them holds this.
#[track_caller]
fn none_has(trees: &std::collections::BTreeSet<String>, text: &str) {
    for tree in trees {
        assert!(!tree.contains(text), "{text} in\n{tree}");
    }
}

const XY: &str = "X/ 9/6 g
    X/cur/m1:2, 1
    Y/ 8/3 h";

// Move.

#[test]
fn move_and_expunge() {
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         Y/ 8/3 h",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
    );
    assert_eq!(kinds(&told), ["MovedAndExpunged"]);
}

#[test]
fn move_and_flag_and_expunge() {
    let trees = three(
        XY,
        [
            "X/ 9/6 g
             Y/ 8/4 h
             Y/cur/m1:2, 3",
            "X/ 9/6 g
             X/cur/m1:2,F 1
             Y/ 8/3 h",
            "X/ 9/6 g
             Y/ 8/3 h",
        ],
    );
    all_have(&trees, "Y/cur/m1:2,");
    none_has(&trees, "X/cur/m1");
}

#[test]
fn flag_and_expunge_of_two_heads_and_nothing_of_a_third() {
    let trees = three(
        XY,
        [
            "X/ 9/6 g
             X/cur/m1:2,F 1
             Y/ 8/3 h",
            "X/ 9/6 g
             Y/ 8/3 h",
            "X/ 9/6 g
             X/cur/m1:2, 1
             Y/ 8/4 h",
        ],
    );
    none_has(&trees, "m1");
}

#[test]
fn expunge_by_one_of_three_heads_wins() {
    let still = "X/ 9/7 g
        X/cur/m1:2, 1
        X/cur/m6:2, 6";
    let other = "X/ 9/6 g
        X/cur/m1:2,S 1";
    let trees = three("X/ 9/6 g\nX/cur/m1:2, 1", ["X/ 9/6 g", still, other]);
    none_has(&trees, "m1");
    all_have(&trees, "X/cur/m6:2, 6");
}

#[test]
fn undelete_by_one_of_three_heads_wins_over_expunge() {
    let trees = three(
        "X/ 9/6 g\nX/cur/m1:2,T 1",
        [
            "X/ 9/6 g",
            "X/ 9/6 g\nX/cur/m1:2, 1",
            "X/ 9/7 g\nX/cur/m1:2,T 1\nX/cur/m6:2, 6",
        ],
    );
    all_have(&trees, "X/cur/m1:2,");
}

#[test]
fn undelete_and_move() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2,ST 1
         Y/ 8/3 h",
        "X/ 9/6 g
         X/cur/m1:2,S 1
         Y/ 8/3 h",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,ST 3",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,S 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn undelete_and_flag() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2,T 1",
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "X/ 9/6 g
         X/cur/m1:2,FT 1",
        "X/ 9/6 g
         X/cur/m1:2,F 1",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn undelete_with_a_flag_and_expunge() {
    let told = expect(
        "X/ 9/6 g aFoo
         X/cur/m1:2,T 1",
        "X/ 9/6 g aFoo bBar
         X/cur/m1:2,Fab 1",
        "X/ 9/6 g aFoo",
        "X/ 9/7 g aFoo bBar
         X/cur/m1:2,Fab 6",
    );
    assert_eq!(kinds(&told), ["Undeleted", "Renumbered"]);
}

#[test]
fn new_to_cur_and_flag() {
    let told = expect(
        "X/ 9/6 g
         X/new/m1 1",
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "X/ 9/6 g
         X/cur/m1:2,F 1",
        "X/ 9/6 g
         X/cur/m1:2,F 1",
    );
    assert!(told.is_empty(), "{told:?}");
    let told = expect(
        "X/ 9/6 g
         X/new/m1 1",
        "X/ 9/6 g
         X/cur/m1:2,S 1",
        "X/ 9/6 g
         X/new/m1:2,F 1",
        "X/ 9/6 g
         X/cur/m1:2,FS 1",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn new_to_cur_and_expunge() {
    let told = expect(
        "X/ 9/6 g
         X/new/m1 1",
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "X/ 9/6 g",
        "X/ 9/6 g",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn new_to_cur_and_move() {
    let told = expect(
        "X/ 9/6 g
         X/new/m1 1
         Y/ 8/3 h",
        "X/ 9/6 g
         X/cur/m1:2,S 1
         Y/ 8/3 h",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,S 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn new_to_cur_on_one_side_and_uid_on_the_other() {
    let told = expect(
        "X/ 9/6 g
         X/new/m1",
        "X/ 9/6 g
         X/cur/m1:2,S",
        "X/ 9/7 g
         X/new/m1 6",
        "X/ 9/7 g
         X/cur/m1:2,S 6",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn both_move_to_one_place() {
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,S 3",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,F 3",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,FS 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn both_move_to_one_place_and_other_uids() {
    // 4 is what both can take: the left has not given it.
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         Y/ 8/5 h
         Y/cur/m1:2, 4
         Y/cur/m3:2, 3",
        "X/ 9/6 g
         Y/ 8/6 h
         Y/cur/m1:2, 4
         Y/cur/m3:2, 5",
    );
    assert_eq!(kinds(&told), ["Renumbered"]);
}

#[test]
fn copy_and_expunge() {
    let told = expect(
        XY,
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         Y/ 8/3 h",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn copy_and_flag() {
    // A copy is another message: the flag stays with the first.
    let told = expect(
        XY,
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         Y/ 8/3 h",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         Y/ 8/4 h
         Y/cur/m1:2, 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn move_and_same_name_in_the_target() {
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,S 3",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         Y/ 8/4 h
         Y/cur/m1:2, 3 =other",
        "X/ 9/6 g
         Y/ 8/6 h
         Y/cur/m1,D=af9f0f6c7ffa:2,FS 5 =m1
         Y/cur/m1:2, 4 =other",
    );
    assert_eq!(kinds(&told), ["SameName", "Renumbered"]);
}

#[test]
fn moved_there_and_back_on_one_side_is_a_new_arrival() {
    let told = expect(
        XY,
        "X/ 9/7 g
         X/cur/m1:2, 6
         Y/ 8/4 h",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         Y/ 8/3 h",
        "X/ 9/7 g
         X/cur/m1:2,F 6
         Y/ 8/4 h",
    );
    assert_eq!(kinds(&told), ["Renumbered"]);
}

// Same name.

#[test]
fn same_name_and_flag() {
    // Written anew in place: a flag follows, as it follows a move.
    let told = expect(
        "X/ 9/7 g
         X/cur/m1:2, 6 =one",
        "X/ 9/7 g
         X/cur/m1:2,F 6 =one",
        "X/ 9/8 g
         X/cur/m1:2, 7 =two",
        "X/ 9/8 g
         X/cur/m1:2,F 7 =two",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn same_name_and_expunge() {
    let told = expect(
        "X/ 9/7 g
         X/cur/m1:2, 6 =one",
        "X/ 9/7 g",
        "X/ 9/8 g
         X/cur/m1:2, 7 =two",
        "X/ 9/8 g
         X/cur/m1:2, 7 =two",
    );
    assert_eq!(kinds(&told), ["MovedAndExpunged"]);
}

#[test]
fn same_name_in_new_and_cur() {
    let told = expect(
        "X/ 9/6 g",
        "X/ 9/7 g
         X/new/m1 6 =one",
        "X/ 9/7 g
         X/cur/m1:2,S 6 =two",
        "X/ 9/9 g
         X/cur/m1:2,S 7 =two
         X/new/m1,D=fcfe6d95e74b 8 =one",
    );
    assert_eq!(kinds(&told), ["SameName", "Renumbered"]);
}

// Keywords.

#[test]
fn letter_clash_and_flag() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "X/ 9/6 g aFoo
         X/cur/m1:2,Fa 1",
        "X/ 9/6 g aBar
         X/cur/m1:2,Sa 1",
        "X/ 9/6 g aBar bFoo
         X/cur/m1:2,FSab 1",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
}

#[test]
fn letter_clash_and_expunge() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1
         X/cur/m2:2, 2",
        "X/ 9/6 g aFoo
         X/cur/m1:2,a 1
         X/cur/m2:2,a 2",
        "X/ 9/6 g aBar
         X/cur/m2:2,a 2",
        "X/ 9/6 g aBar bFoo
         X/cur/m2:2,ab 2",
    );
    assert_eq!(kinds(&told), ["FlaggedAndExpunged", "KeywordMoved"]);
}

#[test]
fn letter_reassigned_and_messages_nobody_touched() {
    // The right gave the letter to another keyword once no message had it; the left still uses it.
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2,a 1
         X/cur/m2:2, 2",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2,a 1
         X/cur/m2:2,b 2",
        "X/ 9/6 g aBar
         X/cur/m1:2, 1
         X/cur/m2:2,a 2",
        "X/ 9/6 g aOld bFoo cBar
         X/cur/m1:2, 1
         X/cur/m2:2,bc 2",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
}

#[test]
fn keyword_set_on_one_side_and_cleared_on_the_other() {
    let told = expect(
        "X/ 9/6 g aFoo bBar
         X/cur/m1:2,a 1",
        "X/ 9/6 g aFoo bBar
         X/cur/m1:2,ab 1",
        "X/ 9/6 g aFoo bBar
         X/cur/m1:2, 1",
        "X/ 9/6 g aFoo bBar
         X/cur/m1:2,b 1",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn keywords_that_wait_are_merged_by_name() {
    // Courier's on the left, Dovecot's on the right.
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2,a 1",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2,a 1 k=ab",
        "X/ 9/6 g aOld bBar
         X/cur/m1:2,Sb 1",
        "X/ 9/6 g aOld bBar cFoo
         X/cur/m1:2,Sb 1 k=bc",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
}

#[test]
fn keywords_that_wait_on_both_sides() {
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2, 1 k=a",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2, 1 k=ab",
        "X/ 9/6 g aOld bBar
         X/cur/m1:2,F 1 k=b",
        "X/ 9/6 g aOld bBar cFoo
         X/cur/m1:2,F 1 k=bc",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
    // All taken away on one side, none of them there on the other.
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2,a 1",
        "X/ 9/6 g aOld
         X/cur/m1:2,a 1 k=",
        "X/ 9/6 g aOld
         X/cur/m1:2,Sa 1",
        "X/ 9/6 g aOld
         X/cur/m1:2,Sa 1 k=",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn keywords_that_were_written_out_on_one_side_wait_no_more() {
    let told = expect(
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2, 1 k=a",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2,a 1",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2, 1 k=ab",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2,ab 1",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn keywords_that_wait_follow_a_move() {
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2, 1
         Y/ 8/3 h aOld",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2, 1 k=b
         Y/ 8/3 h aOld",
        "X/ 9/6 g aOld
         Y/ 8/4 h aOld
         Y/cur/m1:2,S 3",
        "X/ 9/6 g aOld bFoo
         Y/ 8/4 h aOld bFoo
         Y/cur/m1:2,S 3 k=b",
    );
    assert!(told.is_empty(), "{told:?}");
}

// Folders.

#[test]
fn folder_deleted_and_a_message_moved_into_it() {
    let told = expect_after(
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/3 h
         Y/cur/m2:2, 2",
        "X/ 9/6 g
         X/cur/m1:2,F 1",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3
         Y/cur/m2:2, 2",
        Some(3),
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,F 3",
    );
    assert_eq!(kinds(&told), ["FolderReturned"]);
}

#[test]
fn folder_deleted_and_a_message_moved_out_of_it() {
    let told = expect_after(
        XY,
        "Y/ 8/3 h",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,S 3",
        Some(6),
        "Y/ 8/4 h
         Y/cur/m1:2,S 3",
    );
    assert_eq!(kinds(&told), ["MovedAndExpunged"]);
}

#[test]
fn folder_deleted_and_a_message_flagged_in_it() {
    let told = expect_after(
        XY,
        "Y/ 8/3 h",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         Y/ 8/3 h",
        Some(6),
        "Y/ 8/3 h",
    );
    assert_eq!(kinds(&told), ["FlaggedAndExpunged"]);
}

#[test]
fn folder_deleted_and_a_message_undeleted_in_it() {
    let told = expect_after(
        "X/ 9/6 g
         X/cur/m1:2,T 1
         X/cur/m2:2, 2
         Y/ 8/3 h",
        "Y/ 8/3 h",
        "X/ 9/6 g
         X/cur/m1:2, 1
         X/cur/m2:2, 2
         Y/ 8/3 h",
        Some(6),
        "X/ 9/7 g
         X/cur/m1:2, 6
         Y/ 8/3 h",
    );
    assert_eq!(kinds(&told), ["FolderReturned", "Undeleted", "Renumbered"]);
}

#[test]
fn folder_renamed_and_deleted() {
    let told = expect_after(
        XY,
        "Z/ 9/6 g
         Z/cur/m1:2, 1
         Y/ 8/3 h",
        "Y/ 8/3 h",
        Some(6),
        "Y/ 8/3 h",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn folder_renamed_with_new_mail_and_deleted() {
    let told = expect_after(
        XY,
        "Z/ 9/7 g
         Z/cur/m1:2, 1
         Z/new/m6 6
         Y/ 8/3 h",
        "Y/ 8/3 h",
        Some(6),
        "Z/ 9/7 g
         Z/new/m6 6
         Y/ 8/3 h",
    );
    assert_eq!(kinds(&told), ["FolderReturned"]);
}

#[test]
fn folder_renamed_twice() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "Y/ 9/6 g
         Y/cur/m1:2,F 1",
        "Z/ 9/7 g
         Z/cur/m1:2,S 1
         Z/new/m6 6",
        "Y/ 9/7 g
         Y/cur/m1:2,FS 1
         Y/new/m6 6",
    );
    assert_eq!(kinds(&told), ["FolderRenamedTwice"]);
}

#[test]
fn two_folders_renamed_to_one_name() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/3 h
         Y/cur/m2:2, 1",
        "Z/ 9/6 g
         Z/cur/m1:2, 1
         Y/ 8/3 h
         Y/cur/m2:2,F 1",
        "X/ 9/6 g
         X/cur/m1:2,S 1
         Z/ 8/3 h
         Z/cur/m2:2, 1",
        "Z/ 9/7 g
         Z/cur/m1:2,S 1
         Z/cur/m2:2,F 6",
    );
    assert_eq!(kinds(&told), ["FoldersUnited", "UidValidity"]);
}

#[test]
fn folders_renamed_crosswise() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/3 h
         Y/cur/m2:2, 1",
        "Y/ 9/6 g
         Y/cur/m1:2, 1
         X/ 8/3 h
         X/cur/m2:2, 1",
        "X/ 9/6 g
         X/cur/m1:2,S 1
         Y/ 8/3 h
         Y/cur/m2:2,F 1",
        "Y/ 9/6 g
         Y/cur/m1:2,S 1
         X/ 8/3 h
         X/cur/m2:2,F 1",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn folders_moved_into_each_other() {
    let told = expect(
        "X/ 9/6 g
         Y/ 8/3 h",
        "Y/ 8/3 h
         Y/X/ 9/6 g
         Y/X/new/m1",
        "X/ 9/6 g
         X/Y/ 8/3 h
         X/Y/new/m2",
        "X/ 9/6 g
         X/Y/ 8/3 h
         X/Y/new/m2
         X/new/m1",
    );
    assert_eq!(kinds(&told), ["FolderCycle"]);
}

#[test]
fn folder_renamed_and_a_message_moved_into_it() {
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         Z/ 8/3 h",
        "X/ 9/6 g
         Z/ 8/4 h
         Z/cur/m1:2,F 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn folder_renamed_and_a_message_moved_out_of_it() {
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "Z/ 9/6 g
         Z/cur/m1:2,F 1
         Y/ 8/3 h",
        "Z/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,F 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn folder_renamed_and_a_message_expunged_in_it() {
    let told = expect(
        XY,
        "X/ 9/6 g
         Y/ 8/3 h",
        "Z/ 9/6 g
         Z/cur/m1:2,F 1
         Y/ 8/3 h",
        "Z/ 9/6 g
         Y/ 8/3 h",
    );
    assert_eq!(kinds(&told), ["FlaggedAndExpunged"]);
}

#[test]
fn folder_renamed_and_another_made_in_its_place() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "Z/ 9/6 g
         Z/cur/m1:2, 1
         X/ 12/2 j
         X/cur/m7:2, 1",
        "X/ 9/6 g
         X/cur/m1:2,F 1",
        "Z/ 9/6 g
         Z/cur/m1:2,F 1
         X/ 12/2 j
         X/cur/m7:2, 1",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn folder_made_twice_with_one_message_in_both() {
    let told = expect(
        "Y/ 8/3 h",
        "Y/ 8/3 h
         X/ 11/3 i
         X/cur/m1:2,S 1",
        "Y/ 8/3 h
         X/ 10/2 j
         X/cur/m1:2,F 1",
        "Y/ 8/3 h
         X/ 11/3 i
         X/cur/m1:2,FS 1",
    );
    assert_eq!(kinds(&told), ["UidValidity"]);
}

#[test]
fn folder_made_twice_with_keywords() {
    let told = expect(
        "Y/ 8/3 h",
        "Y/ 8/3 h
         X/ 11/2 i aFoo
         X/cur/m1:2,a 1",
        "Y/ 8/3 h
         X/ 10/2 j aBar
         X/cur/m2:2,a 1",
        "Y/ 8/3 h
         X/ 11/3 i aBar bFoo
         X/cur/m1:2,b 1
         X/cur/m2:2,a 2",
    );
    assert_eq!(kinds(&told), ["UidValidity", "KeywordMoved"]);
}

#[test]
fn folder_made_anew_after_it_was_deleted_and_mail_that_arrived_in_the_old_one() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "X/ 12/1 j",
        "X/ 9/7 g
         X/cur/m1:2,F 1
         X/new/m6 6",
        "X/ 12/2 j
         X/new/m6 1",
    );
    assert_eq!(kinds(&told), ["UidValidity", "FlaggedAndExpunged"]);
}

#[test]
fn subscription_and_folder_rename() {
    // Subscriptions are names: they do not follow.
    let told = expect(
        "X/ 9/6 g
         subscriptions =X| @5",
        "Z/ 9/6 g
         subscriptions =Z| @6",
        "X/ 9/6 g
         subscriptions =X|Y| @6",
        "Z/ 9/6 g
         subscriptions =Y|Z| @6",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn dates_and_fields_are_merged_against_the_base() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1 @5",
        "X/ 9/6 g
         X/cur/m1:2,S 1 @5",
        "X/ 9/6 g
         X/cur/m1:2, 1 @7",
        "X/ 9/6 g
         X/cur/m1:2,S 1 @7",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn new_uids_follow_the_time_of_delivery() {
    let told = expect(
        "X/ 9/6 g",
        "X/ 9/7 g
         X/cur/a:2, 6 @9",
        "X/ 9/7 g
         X/cur/b:2, 6 @5",
        "X/ 9/9 g
         X/cur/a:2, 8 @9
         X/cur/b:2, 7 @5",
    );
    assert_eq!(kinds(&told), ["Renumbered"]);
}

#[test]
fn a_uid_counts_though_uidnext_does_not_say_so_yet() {
    let told = expect(
        "X/ 9/6 g",
        "X/ 9/6 g
         X/cur/a:2, 6",
        "X/ 9/7 g
         X/cur/b:2, 6",
        "X/ 9/9 g
         X/cur/a:2, 7
         X/cur/b:2, 8",
    );
    assert_eq!(kinds(&told), ["Renumbered"]);
}

#[test]
fn letter_reassigned_under_a_message_that_carries_it() {
    // What nobody touched reads differently on the right: it is rewritten as the right reads it.
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2,a 1
         X/cur/m2:2, 2",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2,a 1
         X/cur/m2:2,b 2",
        "X/ 9/6 g aBar
         X/cur/m1:2,a 1
         X/cur/m2:2, 2",
        "X/ 9/6 g aOld bFoo cBar
         X/cur/m1:2,c 1
         X/cur/m2:2,b 2",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
}

#[test]
fn each_side_removes_another_copy() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2, 3",
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/4 h",
        "X/ 9/7 g
         X/cur/m1:2, 6
         Y/ 8/4 h",
    );
    assert_eq!(kinds(&told), ["LastCopy"]);
}

#[test]
fn two_copies_that_come_to_one_folder_are_one_message() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2,S 1
         Y/ 8/3 h
         Y/cur/m1:2,F 1",
        "Z/ 9/6 g
         Z/cur/m1:2,S 1
         Y/ 8/3 h
         Y/cur/m1:2,F 1",
        "X/ 9/6 g
         X/cur/m1:2,S 1
         Z/ 8/3 h
         Z/cur/m1:2,F 1",
        "Z/ 9/6 g
         Z/cur/m1:2,FS 1",
    );
    assert_eq!(kinds(&told), ["FoldersUnited", "UidValidity"]);
}
