//! A million inputs. Each is a seed input with a few mutations; what the codec makes of it is its *signature* (value or fault, and its
//! rough shape), and an input with a new signature joins the pool of seeds, so that the search goes deeper where there is more to see.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mailbraid::maildir::codec::courier_keywords::{self, KeywordList};
use mailbraid::maildir::codec::courier_subscribed::Subscribed;
use mailbraid::maildir::codec::courier_uiddb::Uiddb;
use mailbraid::maildir::codec::keywords::Keywords;
use mailbraid::maildir::codec::subscriptions::Subscriptions;
use mailbraid::maildir::codec::uidlist::Uidlist;
use mailbraid::maildir::codec::{Malformed, uidvalidity};
use mailbraid::maildir::{hidden, mailbox, name};

use super::generate;
use super::random::Random;

/// Inputs in all, shared out evenly. `MAILBRAID_INPUTS` asks for more.
const INPUTS: usize = 1_200_000;

/// Mutated inputs do not grow beyond this.
const LENGTH_MAX: usize = 600;

struct Target {
    /// Also the folder of `corpus/`.
    name: &'static str,
    /// Decodes, checks what must hold whatever the bytes, and returns the signature.
    check: fn(&[u8]) -> u64,
    /// A valid input.
    generate: fn(&mut Random) -> Vec<u8>,
}

const TARGETS: &[Target] = &[
    Target {
        name: "uidlist",
        check: |input| {
            let whole = Uidlist::parse(input);
            if let Ok(list) = &whole {
                assert!(
                    list.records.is_sorted_by_key(|record| record.uid)
                        && list.uid_next() > list.tail().last_uid
                );
            }
            read_in_two(input, &whole);
            round(&whole, Uidlist::encode, Uidlist::parse, |list| {
                (list.records.len(), list.ext.len(), list.guid.is_some())
            })
        },
        generate: |random| generate::uidlist(random).encode(),
    },
    Target {
        name: "courier_uiddb",
        check: |input| {
            round(&Uiddb::parse(input), Uiddb::encode, Uiddb::parse, |db| {
                db.records.len()
            })
        },
        generate: |random| generate::uiddb(random).encode(),
    },
    Target {
        name: "keywords",
        check: |input| {
            round(
                &Keywords::parse(input),
                Keywords::encode,
                Keywords::parse,
                |keywords| keywords.names.len(),
            )
        },
        generate: |random| generate::keywords(random).encode(),
    },
    Target {
        name: "subscriptions",
        check: |input| {
            let parsed = Subscriptions::parse(input);
            let levels = parsed
                .as_ref()
                .map_or(0, |parsed| parsed.levels(b'.').concat().len());
            round(
                &parsed,
                Subscriptions::encode,
                Subscriptions::parse,
                |parsed| (parsed.version, parsed.names.len(), levels),
            )
        },
        generate: |random| generate::subscriptions(random).encode(),
    },
    Target {
        name: "courier_subscribed",
        check: |input| {
            round(
                &Subscribed::parse(input),
                Subscribed::encode,
                Subscribed::parse,
                |parsed| parsed.names.len(),
            )
        },
        generate: |random| generate::subscribed(random).encode(),
    },
    Target {
        name: "courier_keyword_list",
        check: |input| {
            round(
                &KeywordList::parse(input),
                KeywordList::encode,
                KeywordList::parse,
                |list| list.messages.len(),
            )
        },
        generate: |random| generate::keyword_list(random).encode(),
    },
    Target {
        name: "courier_keyword_update",
        check: |input| {
            let _ = courier_keywords::file_name(input);
            let parsed = courier_keywords::parse_update(input);
            round(
                &parsed,
                courier_keywords::encode_update,
                courier_keywords::parse_update,
                |set| set.len(),
            )
        },
        generate: |random| courier_keywords::encode_update(&generate::keyword_set(random)),
    },
    Target {
        name: "uidvalidity",
        check: |input| {
            if let Some(number) = uidvalidity::parse_companion(input) {
                assert_eq!(
                    uidvalidity::parse_companion(&uidvalidity::companion(number)),
                    Some(number)
                );
            }
            round(
                &uidvalidity::parse(input),
                |number| uidvalidity::encode(*number),
                uidvalidity::parse,
                |number| number.leading_zeros(),
            )
        },
        generate: |random| uidvalidity::encode(random.number()),
    },
    Target {
        name: "hidden",
        check: |input| {
            let decoded = hidden::decode(input);
            if let Ok((visible, attrs)) = &decoded {
                assert_eq!(
                    hidden::encode(visible, attrs),
                    input,
                    "a hidden name is canonical"
                );
                assert!(!visible.is_empty() && !visible.iter().any(|byte| b"/\0".contains(byte)));
            }
            if let Ok(visible) = hidden::decode_plain(input) {
                assert_eq!(
                    hidden::encode_plain(&visible),
                    input,
                    "a hidden name is canonical"
                );
            }
            signature(
                &decoded
                    .map(|(visible, attrs)| {
                        (visible.len() / 4, attrs.uid.is_some(), attrs.ext.len())
                    })
                    .map_err(drop),
            )
        },
        generate: |random| {
            let (name, attrs) = generate::entry(random);
            hidden::encode(&name, &attrs)
        },
    },
    Target {
        name: "mailbox",
        check: |input| {
            let decoded = mailbox::decode(input);
            if let Ok(facts) = &decoded {
                assert_eq!(mailbox::encode(facts), input, "a facts file is canonical");
            }
            signature(
                &decoded
                    .map(|facts| {
                        (
                            facts.keywords.len(),
                            facts.ext.len(),
                            facts.unknown.len() / 8,
                        )
                    })
                    .map_err(|bad| bad.line.min(8)),
            )
        },
        generate: |random| mailbox::encode(&generate::facts(random)),
    },
    Target {
        name: "name",
        check: |input| {
            let (unique, info) = name::split(input);
            assert!(input.starts_with(unique) && name::unique(input) == unique);
            let identity = name::identity(input);
            let flags = name::flags(input);
            for flagged in [
                name::with_flags(unique, flags),
                name::with_flags(&identity, flags),
            ] {
                assert_eq!(
                    name::identity(&flagged),
                    identity,
                    "flags change no identity"
                );
            }
            signature(&(
                info.map(<[u8]>::len),
                identity.len() == unique.len(),
                name::delivery_time(input).is_some(),
                name::claimed_size(input).is_some(),
            ))
        },
        generate: |random| generate::visible_name(random),
    },
];

#[test]
fn no_input_makes_a_codec_panic() {
    let mut random = Random::from_env("no_input_makes_a_codec_panic");
    let inputs: usize = std::env::var("MAILBRAID_INPUTS").map_or(INPUTS, |text| {
        text.parse().expect("MAILBRAID_INPUTS is a number")
    });
    let mut total = 0;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = TARGETS.iter().try_for_each(|target| {
        let count = inputs / TARGETS.len();
        total += count;
        run(target, count, &mut random)
    });
    std::panic::set_hook(hook);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("{total} inputs");
}

#[test]
fn the_corpus_is_read() {
    for target in TARGETS {
        for (file, input) in corpus(target.name) {
            catch_unwind(|| (target.check)(&input)).unwrap_or_else(|_| panic!("{file}"));
        }
    }
}

fn run(target: &Target, count: usize, random: &mut Random) -> Result<(), String> {
    let mut pool: Vec<Vec<u8>> = corpus(target.name)
        .into_iter()
        .map(|(_, input)| input)
        .collect();
    pool.extend((0..50).map(|_| (target.generate)(random)));
    let mut seen = HashSet::new();
    for _ in 0..count {
        let mut input = if random.once_in(16) {
            (target.generate)(random)
        } else {
            random.pick(&pool).clone()
        };
        for _ in 0..random.below(5) {
            mutate(&mut input, &pool, random);
        }
        input.truncate(LENGTH_MAX);
        match catch_unwind(AssertUnwindSafe(|| (target.check)(&input))) {
            Ok(signature) if seen.insert(signature) => pool.push(input),
            Ok(_) => {}
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                return Err(format!(
                    "{}: b\"{}\": {}",
                    target.name,
                    input.escape_ascii(),
                    why.unwrap_or("panicked")
                ));
            }
        }
    }
    eprintln!("{}: {count} inputs, {} signatures", target.name, seen.len());
    Ok(())
}

/// The checks of a codec whose `parse` gave `parsed`: what is parsed comes back from what is encoded.
fn round<T: PartialEq + Debug, S: Hash>(
    parsed: &Result<T, Malformed>,
    encode: impl Fn(&T) -> Vec<u8>,
    parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    shape: impl Fn(&T) -> S,
) -> u64 {
    match parsed {
        Ok(value) => {
            assert_eq!(parse(&encode(value)).as_ref(), Ok(value));
            signature(&(true, shape(value)))
        }
        Err(error) => {
            assert!(error.line > 0);
            signature(&(
                false,
                std::mem::discriminant(&error.fault),
                error.line.min(8),
            ))
        }
    }
}

/// A uidlist read up to a line end in its middle, then its tail, is the uidlist read whole; so is what is wrong with it.
fn read_in_two(input: &[u8], whole: &Result<Uidlist, Malformed>) {
    let middle = input
        .iter()
        .enumerate()
        .skip(input.len() / 2)
        .find(|(_, byte)| **byte == b'\n');
    let Some((at, _)) = middle.filter(|_| input.starts_with(b"3")) else {
        return;
    };
    if let Ok(mut list) = Uidlist::parse(&input[..=at]) {
        let tail = list.parse_tail(&input[at + 1..]);
        assert_eq!(tail.map(|_| list), *whole);
    }
}

fn signature(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn mutate(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "00",
        "25",
        "26",
        "256",
        "4294967294",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "-1",
        "",
    ];
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(12)).min(input.len());
    match random.below(9) {
        0 => input.insert(at, random.next() as u8),
        1 => input.insert(at, *random.pick(b"\0\x01\t\n\r :.,=%/\\~VNG03\xff")),
        2 if at < input.len() => input[at] ^= 1 << random.below(8),
        3 if at < input.len() => input[at] = *random.pick(b"\0\x01\t\n\r :.,=%/\\~VNG03\xff"),
        4 if at < end => drop(input.drain(at..end)),
        5 if at < end => {
            let piece = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        6 => input.truncate(at),
        7 => {
            let other = random.pick(pool);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = input[at..].iter().position(digits).map(|start| at + start) {
                let length = input[start..]
                    .iter()
                    .take_while(|byte| digits(byte))
                    .count();
                input.splice(start..start + length, random.pick(NUMBERS).bytes());
            }
        }
    }
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/codecs/corpus")
        .join(target);
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.expect("the corpus can be listed").path())
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read(&path).expect("the corpus can be read"),
            )
        })
        .collect();
    files.sort();
    files
}
