//! decode∘encode is the identity, for every codec.

use mailbraid::maildir::codec::courier_keywords::{self, KeywordList};
use mailbraid::maildir::codec::courier_subscribed::Subscribed;
use mailbraid::maildir::codec::courier_uiddb::Uiddb;
use mailbraid::maildir::codec::keywords::Keywords;
use mailbraid::maildir::codec::subscriptions::Subscriptions;
use mailbraid::maildir::codec::uidlist::Uidlist;
use mailbraid::maildir::codec::uidvalidity;

use mailbraid::maildir::mailbox;

use super::generate;
use super::random::Random;

const VALUES: usize = 20_000;

#[test]
fn what_is_encoded_is_decoded_again() {
    let mut random = Random::from_env("what_is_encoded_is_decoded_again");
    for _ in 0..VALUES {
        let value = generate::uidlist(&mut random);
        assert_eq!(Uidlist::parse(&value.encode()), Ok(value));
        let value = generate::uiddb(&mut random);
        assert_eq!(Uiddb::parse(&value.encode()), Ok(value));
        let value = generate::keywords(&mut random);
        assert_eq!(Keywords::parse(&value.encode()), Ok(value));
        let value = generate::subscriptions(&mut random);
        assert_eq!(Subscriptions::parse(&value.encode()), Ok(value));
        let value = generate::subscribed(&mut random);
        assert_eq!(Subscribed::parse(&value.encode()), Ok(value));
        let value = generate::keyword_list(&mut random);
        assert_eq!(KeywordList::parse(&value.encode()), Ok(value));
        let value = generate::keyword_set(&mut random);
        assert_eq!(
            courier_keywords::parse_update(&courier_keywords::encode_update(&value)),
            Ok(value)
        );
        let value = generate::facts(&mut random);
        assert_eq!(mailbox::decode(&mailbox::encode(&value)), Ok(value));
        let value = random.number().max(1);
        assert_eq!(uidvalidity::parse(&uidvalidity::encode(value)), Ok(value));
        assert_eq!(
            uidvalidity::parse_companion(&uidvalidity::companion(value)),
            Some(value)
        );
    }
}

#[test]
fn a_uidlist_read_in_pieces_is_the_uidlist_read_whole() {
    let mut random = Random::from_env("a_uidlist_read_in_pieces_is_the_uidlist_read_whole");
    for _ in 0..VALUES {
        let whole = generate::uidlist(&mut random);
        let file = whole.encode();
        let ends: Vec<usize> = (1..=file.len())
            .filter(|&at| file[at - 1] == b'\n')
            .collect();
        let mut read = ends[random.below(ends.len())];
        let mut list = Uidlist::parse(&file[..read]).expect("a head is a file");
        while read < file.len() {
            let left: Vec<usize> = ends.iter().copied().filter(|&end| end > read).collect();
            let end = *random.pick(&left);
            list.parse_tail(&file[read..end])
                .expect("a piece is a tail");
            read = end;
        }
        assert_eq!(list, whole);
    }
}
