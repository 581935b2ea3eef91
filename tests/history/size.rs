//! What one flag change costs in the repository.

use std::sync::atomic::{AtomicBool, Ordering};

use super::support::*;
use mailbraid::history::{Maintenance, Repo, Report, Writer, maintain};
use mailbraid::maildir::HashKind;

/// Bytes of all packs, and of all packs and indices.
fn pack_bytes(store: &Store) -> (u64, u64) {
    let mut sums = (0, 0);
    for entry in std::fs::read_dir(store.repo.path().join("objects/pack")).unwrap() {
        let entry = entry.unwrap();
        let len = entry.metadata().unwrap().len();
        match entry.path().extension().and_then(|ext| ext.to_str()) {
            Some("pack") => sums = (sums.0 + len, sums.1 + len),
            Some("idx") => sums.1 += len,
            other => panic!("{other:?} is left behind"),
        }
    }
    sums
}

fn name(number: usize, flags: &str) -> String {
    let time = 1_795_000_000 + number * 7;
    let micro = number * 7919 % 1_000_000;
    format!(
        "u/cur/{time}.M{micro}P{}.vm,S={}:2,{flags}",
        1000 + number % 977,
        2000 + number % 3001
    )
}

/// Bytes of pack, and of pack and index, for one flag change in a folder of `count` messages, a commit each, after maintenance.
fn flag_change(count: usize, changes: usize) -> (f64, f64) {
    let kind = HashKind::Sha1;
    let store = Store::new(kind);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    for number in 0..count {
        put(&mut writer, kind, name(number, ""), b"a mail\n");
    }
    writer.commit(&text("import", 1_795_400_000)).unwrap();
    writer.flush().unwrap();
    maintain(&store.repo, Maintenance::Full).unwrap();
    let before = pack_bytes(&store);
    for change in 0..changes {
        let number = (change * 7_368_787 + 13) % count;
        let round = change / count;
        let (from, to) = if round.is_multiple_of(2) {
            ("", "S")
        } else {
            ("S", "")
        };
        rename(&mut writer, &name(number, from), &name(number, to));
        let message = format!(
            "flag INBOX +S {}\n\nMailbraid-Node: a\nMailbraid-Seq: {}\n",
            &name(number, "")[6..],
            100_000 + change
        );
        writer
            .commit(&text(&message, 1_795_500_000 + change as i64 * 3))
            .unwrap();
        writer.flush().unwrap();
        let report = maintain(&store.repo, Maintenance::Geometric).unwrap();
        assert!(report.packs_after < 32, "{report:?}");
    }
    let report: Report = maintain(&store.repo, Maintenance::Full).unwrap();
    assert_eq!(report.packs_after, 1);
    let after = pack_bytes(&store);
    store.fsck();
    let each = |after: u64, before: u64| (after - before) as f64 / changes as f64;
    let cost = (each(after.0, before.0), each(after.1, before.1));
    println!(
        "{count} messages: {:.0} bytes of pack, {:.0} with index",
        cost.0, cost.1
    );
    cost
}

/// At most 1 KiB of pack each, and within 1.5 times of one another (pack and index at most 800 bytes).
#[test]
fn a_flag_change_costs_the_same_in_any_folder() {
    let costs: Vec<(f64, f64)> = [1_000, 10_000, 100_000]
        .into_iter()
        .map(|count| flag_change(count, 400))
        .collect();
    for (pack, both) in &costs {
        assert!(*pack <= 1024.0 && *both <= 800.0, "{costs:?}");
    }
    for pick in [|cost: &(f64, f64)| cost.0, |cost: &(f64, f64)| cost.1] {
        let all: Vec<f64> = costs.iter().map(pick).collect();
        let (low, high) = (
            all.iter().copied().fold(f64::MAX, f64::min),
            all.iter().copied().fold(0.0, f64::max),
        );
        assert!(high <= 1.5 * low, "{costs:?}");
    }
}

/// All packs have become one, and it is large: the next lone commit finds a small one to be merged with, and its trees become deltas.
#[test]
fn a_lone_commit_after_a_full_merge_costs_as_the_next_ones_do() {
    let kind = HashKind::Sha1;
    let store = Store::new(kind);
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    let mut noise = crate::bench::mail::rng::Rng::new(3);
    for number in 0..1_000 {
        let content = noise.bytes(700);
        put(&mut writer, kind, name(number, ""), &content);
    }
    writer.commit(&text("import", 1_795_400_000)).unwrap();
    rename(&mut writer, &name(0, ""), &name(0, "S"));
    writer.commit(&text("flag", 1_795_400_001)).unwrap();
    writer.flush().unwrap();
    let rest = |store: &Store| maintain(&store.repo, Maintenance::AtRest).unwrap();
    assert_eq!(rest(&store).packs_after, 2, "one large, one small");
    assert_eq!(rest(&store).packs_after, 2, "it is planted once");
    maintain(&store.repo, Maintenance::Full).unwrap();
    let merged = pack_bytes(&store).1;
    assert_eq!(rest(&store).packs_after, 2, "and again where it was merged");
    let planted = pack_bytes(&store).1 - merged;
    let mut costs = Vec::new();
    for number in 1..5 {
        let before = pack_bytes(&store).1;
        let flags = ["S", "FS", "S", "FS", "S"];
        rename(
            &mut writer,
            &name(0, flags[number - 1]),
            &name(0, flags[number]),
        );
        writer
            .commit(&text("flag", 1_795_400_001 + number as i64))
            .unwrap();
        writer.flush().unwrap();
        assert_eq!(rest(&store).packs_after, 2);
        costs.push(pack_bytes(&store).1 - before);
    }
    println!("{planted} bytes planted; then {costs:?}");
    assert!(costs.iter().all(|cost| *cost <= 800), "{costs:?}");
    assert!(planted <= 8_192, "{planted}");
    store.fsck();
    maintain(&store.repo, Maintenance::Full).unwrap();
    store.fsck();
    let twice = pack_bytes(&store).1 - merged;
    assert!(
        twice < planted,
        "the copies are gone: {twice} bytes, {planted} were planted"
    );
}

/// Two hundred packs of a mail each, as after a daemon's many short lives.
fn many_packs(store: &Store, kind: HashKind) {
    let mut writer = store.writer();
    mkfolder(&mut writer, "u");
    for number in 0..200 {
        put(&mut writer, kind, name(number, ""), b"a mail\n");
        writer
            .commit(&text("deliver", 1_795_400_000 + number as i64))
            .unwrap();
        writer.flush().unwrap();
    }
}

#[test]
fn many_packs_are_merged_in_small_steps() {
    let kind = HashKind::Sha1;
    let store = Store::new(kind);
    many_packs(&store, kind);
    let report = maintain(&store.repo, Maintenance::Geometric).unwrap();
    // 64 three times, and these three once more, with the rest.
    assert_eq!(report.packs_before, 200, "{report:?}");
    assert!(report.merged >= 203, "{report:?}");
    assert_eq!(report.packs_after, 1, "{report:?}");
    store.fsck();
}

/// A node that is killed again and again merges no packs, and its peers go on sending: a mount asked without end whether a mail is there.
#[test]
fn regression_a_look_for_a_mail_ends_while_packs_come() {
    const MOST: usize = 3_000;
    let kind = HashKind::Sha1;
    let store = Store::new(kind);
    many_packs(&store, kind);
    let packs = store.repo.path().join("objects/pack");
    let one = std::fs::read_dir(&packs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .unwrap();
    // Opened anew, as by a mount.
    let repo = Repo::open(store.repo.path()).unwrap();
    let mut writer = Writer::new(&repo, repo.head().unwrap()).unwrap();
    let is_done = AtomicBool::new(false);
    let came = std::thread::scope(|scope| {
        let comes = scope.spawn(|| {
            for number in 0..MOST {
                if is_done.load(Ordering::Relaxed) {
                    return number;
                }
                let new = packs.join(format!("pack-{number:040x}.pack"));
                std::fs::hard_link(&one, &new).unwrap();
                std::fs::hard_link(one.with_extension("idx"), new.with_extension("idx")).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            MOST
        });
        put(&mut writer, kind, name(200, ""), b"another mail\n");
        is_done.store(true, Ordering::Relaxed);
        comes.join().unwrap()
    });
    assert!(came < MOST, "it ended only when no more packs came");
}
