//! The generated mail is what its table says.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use super::mail::MailGen;
use super::mail::compose::{base64, date};
use super::mail::maildir::write;

#[test]
fn equal_seeds_give_equal_mail_and_others_do_not() {
    let corpus = |seed| {
        MailGen::new(seed)
            .take(40)
            .map(|mail| mail.bytes)
            .collect::<Vec<_>>()
    };
    assert_eq!(corpus(7), corpus(7));
    assert_ne!(corpus(7), corpus(8));
}

#[test]
fn sizes_are_those_the_table_gives() {
    let mut generator = MailGen::new(1);
    let mut sizes: Vec<u64> = (0..20_000).map(|_| generator.size()).collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    let above_inline = sizes.iter().filter(|&&size| size > 65536).count();
    let mean = sizes.iter().sum::<u64>() / sizes.len() as u64;
    assert!((8_000..12_000).contains(&median), "median {median}");
    assert!(
        (2_000..3_500).contains(&above_inline),
        "{above_inline} of 20,000 above 64 KiB"
    );
    assert!((35_000..55_000).contains(&mean), "mean {mean}");
}

#[test]
fn a_mail_meets_the_size_asked_for_and_has_header_and_body() {
    let mut generator = MailGen::new(3);
    for size in [1_100, 3_000, 9_000, 40_000, 200_000, 3_000_000] {
        for _ in 0..6 {
            let mail = generator.mail(size);
            let made = mail.bytes.len() as u64;
            assert!(
                made >= size && made <= size + size / 8 + 4096,
                "asked for {size}, got {made}"
            );
            let blank = mail.bytes.windows(2).position(|two| two == b"\n\n");
            assert!(blank.is_some_and(|at| at > 300));
            assert!(!mail.bytes.contains(&b'\r'));
        }
    }
    assert_eq!(generator.sized(3072).bytes.len(), 3072);
}

#[test]
fn base64_is_that_of_the_rfc() {
    let encode = |text: &str| {
        let mut out = Vec::new();
        base64(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(encode("f"), "Zg==");
    assert_eq!(encode("fo"), "Zm8=");
    assert_eq!(encode("foobar"), "Zm9vYmFy");
}

#[test]
fn dates_are_civil() {
    assert_eq!(date(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 +0000");
    assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
}

#[test]
fn a_maildir_is_written_with_sizes_times_and_flags() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), MailGen::new(5).take(50)).unwrap();
    assert_eq!(written.len(), 50);
    for message in &written {
        let meta = fs::metadata(dir.path().join("cur").join(&message.name)).unwrap();
        assert_eq!(meta.len(), message.size);
        assert!(message.name.contains(&format!(",S={},W=", message.size)));
        let seconds = message
            .name
            .split('.')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap();
        assert_eq!(
            meta.modified().unwrap(),
            UNIX_EPOCH + Duration::from_secs(seconds)
        );
    }
    assert_eq!(fs::read_dir(dir.path().join("cur")).unwrap().count(), 50);
}
