//! A uidlist that was synced as Dovecot syncs it: a crash may tear the file, never the UIDs.

use std::fs::{self, File};

use crate::support::mounted::{Mounted, deliver};

#[test]
fn a_torn_uidlist_is_made_anew_with_the_same_uids() {
    let mut mounted = Mounted::new();
    let u = mounted.maildir("u");
    let list =
        "3 V1000 N10 G00112233445566778899aabbccddeeff\n3 :1.M1.vm\n5 :2.M2.vm\n9 :3.M3.vm\n";
    for name in ["1.M1.vm", "2.M2.vm", "3.M3.vm"] {
        deliver(&u, name, name.as_bytes()).expect("delivered");
    }
    fs::write(u.join("dovecot-uidlist.tmp"), list).expect("written");
    let tmp = File::open(u.join("dovecot-uidlist.tmp")).expect("opened");
    tmp.sync_all().expect("synced");
    fs::rename(u.join("dovecot-uidlist.tmp"), u.join("dovecot-uidlist")).expect("renamed");
    for torn in [
        vec![0; list.len()],
        list.as_bytes()[..60].to_vec(),
        Vec::new(),
    ] {
        mounted.kill();
        fs::write(mounted.store().join("local/tree/u/dovecot-uidlist"), &torn).expect("torn");
        mounted.mount();
        let shown = fs::read_to_string(u.join("dovecot-uidlist")).expect("read");
        assert_eq!(shown, list, "after {torn:?}");
    }
    mounted.fsck();
}
