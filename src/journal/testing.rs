//! What the tests of this module share: operations of every kind, and journals in a temporary directory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::maildir::{Attrs, Content, MailboxFacts, Offer, Oid, Op, TreePath};

/// A property test's configuration: its seed is printed where it fails, and taken from `MAILBRAID_SEED` where that is set.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let seed = std::env::var("MAILBRAID_SEED").ok();
    let seed = seed.map_or_else(rand_seed, |text| {
        text.parse().expect("MAILBRAID_SEED is a number")
    });
    eprintln!("MAILBRAID_SEED={seed}");
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn rand_seed() -> u64 {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .expect("random bytes");
    u64::from_le_bytes(seed)
}

fn any_path() -> impl Strategy<Value = TreePath> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(TreePath::new)
}

fn any_map() -> impl Strategy<Value = BTreeMap<u8, Vec<u8>>> {
    proptest::collection::btree_map(
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 0..20),
        0..4,
    )
}

fn any_attrs() -> impl Strategy<Value = Attrs> {
    (any::<Option<u32>>(), any::<i64>(), any::<u64>(), any_map()).prop_map(
        |(uid, mtime, size, ext)| Attrs {
            uid,
            mtime,
            size,
            ext,
        },
    )
}

fn any_oid() -> impl Strategy<Value = Oid> {
    (any::<[u8; 32]>(), any::<bool>()).prop_map(|(raw, long)| {
        Oid::from_bytes(if long { &raw } else { &raw[..20] }).expect("20 or 32 bytes")
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Content::Inline),
        1 => Just(Content::Spilled),
        1 => Just(Content::Existing),
    ]
}

fn any_facts() -> impl Strategy<Value = MailboxFacts> {
    let guid = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..33));
    let offer = proptest::option::of((any::<u32>(), proptest::collection::vec(any::<u8>(), 0..33)));
    (
        any::<u32>(),
        any::<u32>(),
        guid,
        offer,
        any_map(),
        any::<u32>(),
        any_map(),
        proptest::collection::vec(any::<u8>(), 0..9),
    )
        .prop_map(
            |(uid_validity, uid_next, guid, offer, keywords, uid_validity_issued, ext, unknown)| {
                MailboxFacts {
                    uid_validity,
                    uid_next,
                    guid,
                    offer: offer.map(|(uid_validity, guid)| Offer { uid_validity, guid }),
                    keywords,
                    uid_validity_issued,
                    ext,
                    unknown,
                }
            },
        )
}

/// An operation of any kind with any bytes in it.
pub(super) fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (any_path(), any_oid(), any_content(), any_attrs()).prop_map(|(path, oid, content, attrs)| Op::Put {
            path, oid, content, attrs,
        }),
        1 => (any_path(), any_path()).prop_map(|(from, to)| Op::Rename { from, to }),
        1 => any_path().prop_map(|path| Op::Remove { path }),
        1 => any_path().prop_map(|path| Op::Mkdir { path }),
        1 => (any_path(), any_facts()).prop_map(|(path, facts)| Op::MkFolder { path, facts }),
        1 => any_path().prop_map(|path| Op::Rmdir { path }),
        1 => (any_path(), any_attrs()).prop_map(|(path, attrs)| Op::SetAttrs { path, attrs }),
        1 => (any_path(), any_facts()).prop_map(|(folder, facts)| Op::SetMailbox { folder, facts }),
    ]
}

/// A delivery of `len` bytes that tells its number.
pub(super) fn delivery(number: u64, len: usize) -> Op {
    let content: Vec<u8> = format!("mail {number}\n")
        .bytes()
        .cycle()
        .take(len)
        .collect();
    Op::Put {
        path: TreePath::new(format!("u/new/{number}.M1P1.vm")),
        oid: Oid::from_bytes(&[number as u8; 20]).expect("20 bytes"),
        attrs: Attrs {
            uid: None,
            mtime: number as i64,
            size: len as u64,
            ext: BTreeMap::new(),
        },
        content: Content::Inline(content),
    }
}

/// An operation without content that tells its number.
pub(super) fn flag(number: u64) -> Op {
    Op::Rename {
        from: TreePath::new(format!("u/cur/{number}.M1P1.vm:2,")),
        to: TreePath::new(format!("u/cur/{number}.M1P1.vm:2,S")),
    }
}
