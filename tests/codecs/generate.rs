//! Values that the codecs can hold, made at random by the rules in each codec's header.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mailbraid::maildir::{Attrs, MailboxFacts, Offer};

use mailbraid::maildir::codec::courier_keywords::{KeywordList, KeywordSet};
use mailbraid::maildir::codec::courier_subscribed::Subscribed;
use mailbraid::maildir::codec::courier_uiddb::Uiddb;
use mailbraid::maildir::codec::keywords::Keywords;
use mailbraid::maildir::codec::subscriptions::{Subscriptions, Version};
use mailbraid::maildir::codec::uidlist::{Record, Uidlist};

use super::random::Random;

/// Bytes that are not empty and hold none of `but`; what programs write, or anything.
pub fn bytes(random: &mut Random, but: &[u8]) -> Vec<u8> {
    let usual = random.once_in(2);
    let length = 1 + random.below(if usual { 24 } else { 8 });
    let mut made: Vec<u8> = (0..length)
        .map(|_| {
            if usual {
                *random.pick(
                    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,=:_-$% \\/~",
                )
            } else if random.once_in(2) {
                random.next() as u8
            } else {
                *random.pick(b"\0\x01\t\n\r :.,=%/\\~\x7f\x80\xff")
            }
        })
        .filter(|byte| !but.contains(byte))
        .collect();
    if made.is_empty() {
        made.push(b'x');
    }
    made
}

/// A file name as it can stand in an index file.
pub fn file_name(random: &mut Random) -> Vec<u8> {
    if random.once_in(2) {
        let (time, micros) = (random.number(), random.below(1_000_000));
        return format!(
            "{time}.M{micros}P{}.vm,S={}",
            random.below(40_000),
            random.number()
        )
        .into_bytes();
    }
    bytes(random, b"/\0\r\n")
}

fn line(random: &mut Random) -> Vec<u8> {
    bytes(random, b"\0\r\n")
}

fn fields(random: &mut Random, keys: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let count = if random.once_in(3) {
        random.below(4)
    } else {
        0
    };
    (0..count)
        .map(|_| {
            let key = *random.pick(keys);
            let value = if random.once_in(5) {
                Vec::new()
            } else {
                bytes(random, b" \0\r\n")
            };
            (key, value)
        })
        .collect()
}

/// Ascending UIDs, the greatest possible one now and then.
fn uids(random: &mut Random) -> Vec<u32> {
    let count = random.below(8);
    let mut all: BTreeSet<u32> = (0..count)
        .map(|_| random.number().clamp(1, u32::MAX - 1))
        .collect();
    if random.once_in(16) {
        all.insert(u32::MAX - 1);
    }
    all.into_iter().collect()
}

fn nonzero(random: &mut Random) -> u32 {
    random.number().max(1)
}

pub fn uidlist(random: &mut Random) -> Uidlist {
    let header_keys: Vec<u8> = (0..=255)
        .filter(|byte| !b"VNG \0\r\n".contains(byte))
        .collect();
    let record_keys: Vec<u8> = (b'A'..=b'Z').collect();
    Uidlist {
        uid_validity: nonzero(random),
        header_uid_next: nonzero(random),
        guid: random.once_in(2).then(|| {
            (0..32)
                .map(|_| *random.pick(b"0123456789abcdefABCDEF"))
                .collect()
        }),
        ext: fields(random, &header_keys),
        records: uids(random)
            .into_iter()
            .map(|uid| Record {
                uid,
                ext: fields(random, &record_keys),
                name: file_name(random),
            })
            .collect(),
    }
}

pub fn uiddb(random: &mut Random) -> Uiddb {
    Uiddb {
        uid_validity: nonzero(random),
        header_uid_next: nonzero(random),
        records: uids(random)
            .into_iter()
            .map(|uid| (uid, file_name(random)))
            .collect(),
    }
}

pub fn keywords(random: &mut Random) -> Keywords {
    let mut seen = HashSet::new();
    let names = (0..random.below(27))
        .map(|_| (random.below(26) as u8, line(random)))
        .filter(|(_, name)| seen.insert(name.to_ascii_lowercase()))
        .collect();
    Keywords { names }
}

pub fn keyword_set(random: &mut Random) -> KeywordSet {
    (0..random.below(5)).map(|_| line(random)).collect()
}

pub fn keyword_list(random: &mut Random) -> KeywordList {
    let names: Vec<Vec<u8>> = (0..=random.below(30)).map(|_| line(random)).collect();
    let messages = (0..random.below(6))
        .map(|_| {
            let set = (0..=random.below(4))
                .map(|_| random.pick(&names).clone())
                .collect();
            (bytes(random, b"/:\0\r\n"), set)
        })
        .collect();
    KeywordList { messages }
}

pub fn subscribed(random: &mut Random) -> Subscribed {
    let mut seen = HashSet::new();
    let names = (0..random.below(8))
        .map(|_| line(random))
        .filter(|name| seen.insert(name.clone()))
        .collect();
    Subscribed { names }
}

pub fn subscriptions(random: &mut Random) -> Subscriptions {
    let version = *random.pick(&[Version::V1, Version::V2]);
    let mut seen = HashSet::new();
    let names = (0..random.below(8))
        .map(|_| match version {
            Version::V1 => vec![line(random)],
            Version::V2 => (0..=random.below(4))
                .map(|_| {
                    if random.once_in(6) {
                        Vec::new()
                    } else {
                        bytes(random, b"")
                    }
                })
                .collect(),
        })
        // The one name that no line can say.
        .filter(|name: &Vec<Vec<u8>>| name != &[b""])
        .filter(|name| seen.insert(name.clone()))
        .collect();
    Subscriptions { version, names }
}

/// A name as it can stand in a directory, and attributes.
pub fn entry(random: &mut Random) -> (Vec<u8>, Attrs) {
    let name = visible_name(random);
    let attrs = Attrs {
        uid: random.once_in(2).then(|| nonzero(random)),
        mtime: i64::from(random.number())
            * if random.once_in(4) { -1 } else { 1 }
            * if random.once_in(8) { 1 << 31 } else { 1 },
        size: random.next() >> random.below(64),
        ext: (0..random.below(3))
            .map(|_| {
                let value = if random.once_in(5) {
                    Vec::new()
                } else {
                    bytes(random, b"")
                };
                (*random.pick(b"ABGOPSWZ"), value)
            })
            .collect(),
    };
    (name, attrs)
}

/// Any name that a directory can hold, with a liking for those that git treats in its own way.
pub fn visible_name(random: &mut Random) -> Vec<u8> {
    let mut name = match random.below(6) {
        0 => random.pick(NASTY).to_vec(),
        1 => {
            let mut near = random.pick(NASTY).to_vec();
            let at = random.below(near.len());
            match random.below(3) {
                0 => near[at] = *random.pick(b"~.gG%\\: 1\xe2\x80\x8c"),
                1 => near.insert(at, *random.pick(b"~.gG%\\: 1\xe2\x80\x8c")),
                _ => {
                    near.remove(at);
                }
            }
            near
        }
        2 => bytes(random, b"/\0"),
        _ => [file_name(random), b":2,FS".to_vec()].concat(),
    };
    name.retain(|byte| !b"/\0".contains(byte));
    if name.is_empty() || name == b"." || name == b".." {
        name = b"x".to_vec();
    }
    name
}

/// Names that git, HFS+ or NTFS take for something else, or that a trie or a hidden name could be mistaken for.
pub const NASTY: &[&[u8]] = &[
    b".git",
    b".GIT",
    b".git ",
    b".git.",
    b".git::$INDEX",
    b"git~1",
    b"GIT~1",
    b"git~2",
    b".gitmodules",
    b".gitmodules ",
    b".GitModules",
    b"gitmod~1",
    b"gitmod~4",
    b"gi7eba~1",
    b"GI7EBA~9",
    b"g~123456",
    b"gi~12345",
    b"~1234567",
    b"~1",
    b".gitattributes",
    b"gitatt~1",
    b"gi7d29~1",
    b".gitignore",
    b"gitign~1",
    b"gi250a~1",
    b".mailmap",
    b"mailma~1",
    b"maba30~1",
    b"\xe2\x80\x8c.git",
    b".g\xe2\x80\x8cit",
    b".\xe2\x80\x8cgitmodules",
    b"\xef\xbb\xbf.git",
    b"a\\.git",
    b"a\\.gitmodules",
    b"a\\git~1",
    b"a\\..\\b",
    b"\\",
    b"%",
    b"%%",
    b"%,",
    b"%2e",
    b"%,u=1",
    b"%mailbox",
    b"%25",
    b"a",
    b"f",
    b"0",
    b"9",
    b"g",
    b"A",
    b"ab",
    b"...",
    b". ",
    b".. ",
    b" ",
    b"\n",
    b"\xff",
    b"\x7f",
    b"1795466045.M6P1.vm,S=2345:2,S",
    b"1795466045.M6P1.vm%,u=3:2,S",
];

/// A folder's facts.
pub fn facts(random: &mut Random) -> MailboxFacts {
    let all_bytes: Vec<u8> = (0..=255).collect();
    MailboxFacts {
        uid_validity: random.number(),
        uid_next: random.number(),
        guid: random.once_in(2).then(|| bytes(random, b"")),
        offer: random.once_in(4).then(|| Offer {
            uid_validity: random.number(),
            guid: bytes(random, b""),
        }),
        keywords: (0..random.below(4))
            .map(|_| (random.below(26) as u8, bytes(random, b"")))
            .collect(),
        uid_validity_issued: random.number(),
        ext: (0..random.below(4))
            .map(|_| (*random.pick(&all_bytes), bytes(random, b"")))
            .collect(),
        unknown: Vec::new(),
    }
}
