//! One test for every row of the design's table of conflicts.

use mailbraid::merge::Conflict;

use super::text::{expect, expect_after};

/// What kinds of conflict were told.
fn kinds(conflicts: &[Conflict]) -> Vec<String> {
    let names = conflicts.iter().map(|conflict| format!("{conflict:?}"));
    names
        .map(|text| text.split([' ', '{']).next().unwrap().to_owned())
        .collect()
}

const BASE: &str = "X/ 9/6 g
    X/cur/m1:2, 1
    X/cur/m2:2,S 2";

#[test]
fn flags_per_letter() {
    let told = expect(
        BASE,
        "X/ 9/6 g
         X/cur/m1:2,F 1
         X/cur/m2:2, 2",
        "X/ 9/6 g
         X/cur/m1:2,RS 1
         X/cur/m2:2,ST 2",
        "X/ 9/6 g
         X/cur/m1:2,FRS 1
         X/cur/m2:2,T 2",
    );
    assert!(told.is_empty());
}

#[test]
fn keywords_by_name() {
    let told = expect(
        "X/ 9/6 g aOld
         X/cur/m1:2,a 1
         X/cur/m2:2, 2",
        "X/ 9/6 g aOld bFoo
         X/cur/m1:2,ab 1
         X/cur/m2:2,b 2",
        "X/ 9/6 g aOld bBar cFoo
         X/cur/m1:2,b 1
         X/cur/m2:2,c 2",
        "X/ 9/6 g aOld bBar cFoo
         X/cur/m1:2,bc 1
         X/cur/m2:2,c 2",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
}

#[test]
fn keywords_that_differ_in_case_are_one() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1",
        "X/ 9/6 g aWork
         X/cur/m1:2,a 1",
        "X/ 9/6 g aOther bwork
         X/cur/m1:2,b 1",
        "X/ 9/6 g aOther bwork
         X/cur/m1:2,b 1",
    );
    assert_eq!(kinds(&told), ["KeywordMoved"]);
}

#[test]
fn expunge_wins_over_a_flag_change() {
    let told = expect(
        BASE,
        "X/ 9/6 g
         X/cur/m2:2,S 2",
        "X/ 9/6 g
         X/cur/m1:2,F 1
         X/cur/m2:2,S 2",
        "X/ 9/6 g
         X/cur/m2:2,S 2",
    );
    assert_eq!(kinds(&told), ["FlaggedAndExpunged"]);
}

#[test]
fn an_undeleted_message_is_kept_with_a_new_uid() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2,ST 1",
        "X/ 9/6 g",
        "X/ 9/6 g
         X/cur/m1:2,S 1",
        "X/ 9/7 g
         X/cur/m1:2,S 6",
    );
    assert_eq!(kinds(&told), ["Undeleted", "Renumbered"]);
}

#[test]
fn same_unique_name_other_content() {
    let told = expect(
        "X/ 9/6 g",
        "X/ 9/7 g
         X/cur/m1:2,S 6 =one",
        "X/ 9/7 g
         X/cur/m1:2, 6 =two",
        "X/ 9/9 g
         X/cur/m1,D=fcfe6d95e74b:2,S 8 =one
         X/cur/m1:2, 7 =two",
    );
    assert_eq!(kinds(&told), ["SameName", "Renumbered"]);
}

#[test]
fn a_flag_change_follows_a_moved_message() {
    let told = expect(
        "X/ 9/6 g aFoo
         X/cur/m1:2,a 1
         Y/ 8/3 h aOld",
        "X/ 9/6 g aFoo
         Y/ 8/4 h aOld bFoo
         Y/cur/m1:2,b 3",
        "X/ 9/6 g aFoo bBar
         X/cur/m1:2,Sb 1
         Y/ 8/3 h aOld",
        "X/ 9/6 g aFoo bBar
         Y/ 8/4 h aOld bFoo cBar
         Y/cur/m1:2,Sc 3",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn moved_by_both_stays_in_both_places() {
    let told = expect(
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/3 h
         Z/ 7/3 i",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,S 3
         Z/ 7/3 i",
        "X/ 9/6 g
         Y/ 8/3 h
         Z/ 7/4 i
         Z/cur/m1:2,F 3",
        "X/ 9/6 g
         Y/ 8/4 h
         Y/cur/m1:2,FS 3
         Z/ 7/4 i
         Z/cur/m1:2,FS 3",
    );
    assert_eq!(kinds(&told), ["MovedTwice", "MovedTwice"]);
}

#[test]
fn cur_wins_over_new() {
    let told = expect(
        "X/ 9/6 g
         X/new/m1
         X/new/m2",
        "X/ 9/7 g
         X/cur/m1:2, 6
         X/new/m2",
        "X/ 9/7 g
         X/new/m1 6
         X/cur/m2:2,S",
        "X/ 9/7 g
         X/cur/m1:2, 6
         X/cur/m2:2,S",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_deleted_folder_returns_with_only_the_new_mail() {
    let told = expect_after(
        "X/ 9/6 g
         X/cur/m1:2, 1
         Y/ 8/3 h",
        "Y/ 8/3 h",
        "X/ 9/7 g
         X/cur/m1:2,S 1
         X/new/m6 6
         Y/ 8/3 h",
        Some(6),
        "X/ 9/7 g
         X/new/m6 6
         Y/ 8/3 h",
    );
    assert_eq!(kinds(&told), ["FolderReturned", "FlaggedAndExpunged"]);
}

#[test]
fn a_folder_created_twice_keeps_the_greater_uidvalidity() {
    let told = expect(
        "Y/ 8/3 h",
        "Y/ 8/3 h
         X/ 11/3 i
         X/cur/m1:2, 1
         X/cur/m2:2, 2",
        "Y/ 8/3 h
         X/ 10/2 j
         X/cur/m3:2, 1",
        "Y/ 8/3 h
         X/ 11/4 i
         X/cur/m1:2, 1
         X/cur/m2:2, 2
         X/cur/m3:2, 3",
    );
    assert_eq!(kinds(&told), ["UidValidity"]);
}

#[test]
fn changes_follow_a_renamed_folder() {
    let told = expect(
        BASE,
        "Z/ 9/6 g
         Z/cur/m1:2, 1
         Z/cur/m2:2,S 2",
        "X/ 9/7 g
         X/cur/m1:2,F 1
         X/new/m6 6",
        "Z/ 9/7 g
         Z/cur/m1:2,F 1
         Z/new/m6 6",
    );
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn subscriptions_by_name() {
    let told = expect(
        "subscriptions =INBOX|Old| @5",
        "subscriptions =INBOX|Old|Foo| @6",
        "subscriptions =INBOX|Bar| @7",
        "subscriptions =INBOX|Bar|Foo| @7",
    );
    assert!(told.is_empty(), "{told:?}");
    // Without a base all names stay.
    expect(
        "none",
        "courierimapsubscribed =INBOX.a| @6",
        "courierimapsubscribed =INBOX.b| @6",
        "courierimapsubscribed =INBOX.a|INBOX.b| @6",
    );
}

#[test]
fn another_file_takes_the_later_change() {
    let told = expect(
        "X/ dir
         X/.dovecot.sieve =old @5",
        "X/ dir
         X/.dovecot.sieve =left @9",
        "X/ dir
         X/.dovecot.sieve =right @7",
        "X/ dir
         X/.dovecot.sieve =left @9",
    );
    assert_eq!(kinds(&told), ["FileChangedTwice"]);
    let told = expect("s =old @5", "", "s =right @7", "s =right @7");
    assert_eq!(kinds(&told), ["FileChangedAndDeleted"]);
}
