//! Mails that hold the same file: stored once, read as they came.

use super::support::*;
use crate::bench::mail::MailGen;
use crate::bench::mail::compose::base64_lines;
use crate::bench::mail::rng::Rng;
use mailbraid::history::{Maintainer, Maintenance, Writer, maintain};
use mailbraid::maildir::{HashKind, Oid};
use std::time::Duration;

/// A file of so many lines, as base64 has it.
fn encoded(rng: &mut Rng, lines: usize) -> Vec<u8> {
    let mut out = Vec::new();
    base64_lines(&rng.bytes(lines * 57), &mut out);
    out
}

fn mail(number: usize, parts: &[&[u8]]) -> Vec<u8> {
    let mut mail = format!(
        "From: a{number}@example.org\nSubject: {number}\nContent-Type: multipart/mixed; boundary=\"b{number}\"\n\nSee below, {number}.\n"
    )
    .into_bytes();
    for part in parts {
        mail.extend_from_slice(
            format!("\n--b{number}\nContent-Transfer-Encoding: base64\n\n").as_bytes(),
        );
        mail.extend_from_slice(part);
    }
    mail.extend_from_slice(format!("\n--b{number}--\n").as_bytes());
    mail
}

/// Delivers it in a commit and a pack of its own.
fn deliver(writer: &mut Writer, kind: HashKind, number: usize, content: &[u8]) -> Oid {
    let at = format!("u/cur/{}.M{number}P1.vm:2,S", 1_795_000_000 + number);
    let oid = put(writer, kind, at, content);
    let time = 1_795_400_000 + number as i64;
    writer.commit(&text("deliver", time)).unwrap();
    writer.flush().unwrap();
    oid
}

/// Bytes of a blob in its pack, and what it is a delta of.
fn stored(store: &Store, oid: Oid) -> (u64, Option<String>) {
    let said = store.git(&[
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objectname) %(objectsize:disk) %(deltabase)",
    ]);
    let line = said
        .lines()
        .find(|line| line.starts_with(&oid.to_string()))
        .expect("the blob is there");
    let mut words = line.split(' ').skip(1);
    let bytes = words.next().unwrap().parse().unwrap();
    let base = words.next().unwrap();
    let is_delta = base.bytes().any(|byte| byte != b'0');
    (bytes, is_delta.then(|| base.to_owned()))
}

#[test]
fn a_file_that_is_sent_again_is_stored_once() {
    for kind in [HashKind::Sha1, HashKind::Sha256] {
        let store = Store::new(kind);
        let mut writer = store.writer();
        mkfolder(&mut writer, "u");
        let mut rng = Rng::new(1);
        let [file, other, third] = [(); 3].map(|()| encoded(&mut rng, 1_500));
        let first = deliver(&mut writer, kind, 0, &mail(0, &[&file]));
        let apart = deliver(&mut writer, kind, 1, &mail(1, &[&other]));
        let mut maintainer = Maintainer::new(&store.repo, Duration::ZERO);
        for number in 2..20 {
            deliver(&mut writer, kind, number, b"Subject: a note\n\nHello.\n");
        }
        maintainer.run(Maintenance::Geometric).unwrap();
        // Into another pack: alone, and beside a file that is new.
        let again = deliver(&mut writer, kind, 20, &mail(20, &[&file]));
        let beside = deliver(&mut writer, kind, 21, &mail(21, &[&third, &file]));
        let last = deliver(&mut writer, kind, 22, &mail(22, &[&third]));
        for number in 23..40 {
            deliver(&mut writer, kind, number, b"Subject: a note\n\nHello.\n");
        }
        maintainer.run(Maintenance::AtRest).unwrap();
        let look = || {
            let (one, base) = stored(&store, apart);
            assert!(one > 80_000 && base.is_none(), "{one} {base:?}");
            // Two files, and what is around them. What was new in a mail that is a delta is known too.
            let all = [first, again, beside, last].map(|oid| stored(&store, oid));
            let bytes: u64 = all.iter().map(|(bytes, _)| bytes).sum();
            assert!(bytes < 2 * one + 4_000, "{all:?}");
            let deltas = all.iter().filter(|(_, base)| base.is_some());
            assert_eq!(deltas.count(), 3, "{all:?}");
            store.fsck();
            let reader = store.repo.reader();
            assert_eq!(reader.blob(beside).unwrap(), mail(21, &[&third, &file]));
            assert_eq!(reader.blob(last).unwrap(), mail(22, &[&third]));
        };
        look();
        // Copied ever after, by one that has not seen them before too.
        maintain(&store.repo, Maintenance::Full).unwrap();
        look();
    }
}

#[test]
fn a_mailbox_of_all_kinds_of_mail_is_as_it_was() {
    let kind = HashKind::Sha1;
    let store = Store::new(kind);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    let mails: Vec<Vec<u8>> = MailGen::new(8).take(600).map(|mail| mail.bytes).collect();
    let mut maintainer = Maintainer::new(&store.repo, Duration::ZERO);
    let mut deltas = 0;
    let mut ids = Vec::new();
    for (number, mail) in mails.iter().enumerate() {
        ids.push(deliver(&mut writer, kind, number, mail));
        if number % 40 == 39 {
            deltas += maintainer.run(Maintenance::Geometric).unwrap().new_deltas;
        }
    }
    deltas += maintainer.run(Maintenance::AtRest).unwrap().new_deltas;
    store.fsck();
    let reader = store.repo.reader();
    for (id, mail) in ids.iter().zip(&mails) {
        assert!(reader.blob(*id).unwrap() == *mail, "{id} has changed");
    }
    let bases = store.git(&[
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objecttype) %(deltabase)",
    ]);
    let is_delta =
        |line: &&str| line.starts_with("blob") && line[5..].bytes().any(|byte| byte != b'0');
    let alike = bases.lines().filter(is_delta).count();
    println!(
        "{deltas} deltas, {alike} of {} mails among them",
        mails.len()
    );
    assert!(alike >= mails.len() / 20, "{alike}");
}
