//! A pack that has come from a peer, before anybody can see it.
//!
//! The problem: whoever finds an object in the repository counts on it. The writer does not write a mail that is there already. So a pack that is put into `objects/pack` and
//! removed again, because it is damaged or names what nobody has, would take with it a mail that was delivered meanwhile.
//!
//! Rules, as git's receive-pack has them:
//! - A pack is written into a directory where no reader looks, `REPO/incoming/N`; bases of its deltas are taken from the repository.
//! - It is checked there ([`Incoming::lacks`]), and is removed unless it is admitted. Once admitted it is whole, durable, and never removed by us.
//! - Such a directory belongs to whoever holds the lock on `incoming/N.lock`, the first that is free. The kernel drops the lock with the process. So what is found in a directory
//!   was left by one that was killed: the next owner removes it, and so does the daemon at mount, where a running `serve` keeps its own. (Age would not tell: a pack over a
//!   slow line takes hours. Nor would a process id, in another container.)
//! - Directories stay: a new one for each pack makes what is synced a quarter dearer on ext4.
//! - It may not fill the disk ([`Bounded`]): what the mount has acknowledged needs room for its commit.
//! - Not below `objects`: `git clone` of a path copies whatever is there, and fails over a file that goes meanwhile.
//!
//! Rejected: a second object store over the directory, with `info/alternates`. One pack is looked up in its own index.

mod bounded;

use std::fs::{self, File};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::odb::pack::Bundle;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use bounded::Bounded;

use super::hash::gix_kind;
use super::pack::install;
use super::{HistoryError, Received, Repo, durable};
use crate::limits;

/// A pack in quarantine. Dropped, it is gone.
pub struct Incoming {
    repo: Repo,
    /// `None` where it came without objects.
    pack: Option<Bundle>,
    _place: Place,
}

/// A directory of our own, empty when it is taken and when it is let go.
struct Place {
    dir: PathBuf,
    _lock: File,
}

impl Place {
    fn take(repo: &Repo) -> Result<Self, HistoryError> {
        let home = home(repo);
        // Never synced: what a crash of the machine leaves of it, or does not, is nobody's.
        make(&home)?;
        let mut number = 0;
        loop {
            let at = home.join(format!("{number}.lock"));
            // For writing: locks on NFS want that.
            let lock = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&at);
            let lock = lock.map_err(HistoryError::io("open", &at))?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let dir = home.join(number.to_string());
                    make(&dir)?;
                    clear(&dir);
                    return Ok(Self { dir, _lock: lock });
                }
                Err(Errno::WOULDBLOCK) => number += 1,
                Err(error) => return Err(HistoryError::io("lock", &at)(error.into())),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        clear(&self.dir);
    }
}

impl Incoming {
    /// Stores a pack, which may be thin, with its index. Nothing is synced.
    pub(super) fn take(
        repo: &Repo,
        pack: &mut dyn BufRead,
        progress: &mut dyn gix::progress::DynNestedProgress,
        interrupt: &AtomicBool,
    ) -> Result<Self, HistoryError> {
        let place = Place::take(repo)?;
        let options = gix::odb::pack::bundle::write::Options {
            thread_limit: Some(1),
            alloc_limit_bytes: Some(limits::OBJECT_MAX),
            ..Default::default()
        };
        let mut pack = Bounded::new(pack, || durable::room_left(&place.dir));
        let written = Bundle::write_to_directory(
            &mut pack,
            Some(&place.dir),
            progress,
            interrupt,
            Some(repo.git().objects),
            gix_kind(repo.kind()),
            options,
        );
        let pack = written.and_then(|written| {
            let index = written.index_path;
            index
                .map(|index| Bundle::at(index, gix_kind(repo.kind())))
                .transpose()
        });
        Ok(Self {
            repo: repo.clone(),
            pack: pack.map_err(HistoryError::git_in("the pack is damaged", &place.dir))?,
            _place: place,
        })
    }

    /// Shows the pack to everybody. Durable when it returns; nothing refers to its objects yet.
    ///
    /// # Errors
    /// I/O errors.
    pub fn admit(self) -> Result<Received, HistoryError> {
        let Some(pack) = &self.pack else {
            return Ok(Received::default());
        };
        let stem = pack.index.path().with_extension("");
        let keep = install::move_in(&stem, &self.repo.pack_dir())?;
        Ok(Received::new(pack.index.num_objects(), keep))
    }

    pub(super) fn repo(&self) -> &Repo {
        &self.repo
    }

    pub(super) fn pack(&self) -> Option<&Bundle> {
        self.pack.as_ref()
    }
}

/// Removes what killed processes left.
pub(super) fn sweep(repo: &Repo) {
    let home = home(repo);
    for number in 0.. {
        let lock = File::options()
            .write(true)
            .open(home.join(format!("{number}.lock")));
        let Ok(lock) = lock else {
            return;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            clear(&home.join(number.to_string()));
        }
    }
}

fn home(repo: &Repo) -> PathBuf {
    repo.path().join("incoming")
}

fn make(dir: &Path) -> Result<(), HistoryError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(HistoryError::io("create", dir)(error))
        }
        _ => Ok(()),
    }
}

/// Removes all files in a directory. What cannot be removed is in nobody's way.
fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::history::hash::{ObjectKind, hash_object};
    use crate::history::pack::encode::{self, Deflate, Packed};
    use crate::history::writer::encode_commit;
    use crate::history::{CommitText, InitOptions, Writer, tree};
    use crate::maildir::{Attrs, Content, HashKind, Oid, Op, TreePath};

    const KIND: HashKind = HashKind::Sha1;
    const MAIL: &[u8] = b"Subject: one mail\n\nwhich two sides have\n";
    const OTHER: &[u8] = b"Subject: another\n\nwhich may be missing\n";

    fn repository(dir: &Path) -> Repo {
        let options = InitOptions {
            kind: KIND,
            node: "b".to_owned(),
        };
        Repo::init(&dir.join("repo.git"), &options).unwrap()
    }

    fn text() -> CommitText {
        CommitText {
            node: "a".to_owned(),
            time: 1,
            message: b"x\n".to_vec(),
            extra_parents: Vec::new(),
        }
    }

    /// A pack as a peer sends it: a commit whose tree names two mails, of which it holds one or both. The pack, its objects, the commit first.
    fn sent(whole: bool) -> (Vec<u8>, Vec<Oid>) {
        let mut raw = Vec::new();
        for (name, mail) in [("1.x.a", MAIL), ("2.x.a", OTHER)] {
            let id = hash_object(KIND, ObjectKind::Blob, mail);
            tree::push(&mut raw, false, name.as_bytes(), id.as_bytes());
        }
        let commit = encode_commit(hash_object(KIND, ObjectKind::Tree, &raw), &[], &text());
        let mut objects = vec![
            (ObjectKind::Commit, commit.as_slice()),
            (ObjectKind::Tree, &raw),
            (ObjectKind::Blob, MAIL),
        ];
        if whole {
            objects.push((ObjectKind::Blob, OTHER));
        }
        let (mut body, mut entries, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let mut deflate = Deflate::new(6);
        for (kind, content) in objects {
            let start = body.len();
            let oid = hash_object(KIND, kind, content);
            encode::head(&mut body, kind, content.len() as u64);
            deflate.append(&mut body, content);
            let crc = crc32fast::hash(&body[start..]);
            let offset = (encode::HEADER + start) as u64;
            entries.push(Packed { oid, crc, offset });
            ids.push(oid);
        }
        let dir = tempfile::tempdir().unwrap();
        let made = install::install_bytes(dir.path(), KIND, &body, &mut entries).unwrap();
        (fs::read(made.stem.with_extension("pack")).unwrap(), ids)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_pack_is_seen_by_nobody_before_it_is_admitted() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let other = Repo::open(repo.path()).unwrap();
        for whole in [false, true] {
            let (pack, ids) = sent(whole);
            let taken = repo.take_pack(&mut pack.as_slice()).unwrap();
            let lacking = hash_object(KIND, ObjectKind::Blob, OTHER);
            assert_eq!(
                taken.lacks(ids[0]).unwrap(),
                (!whole).then_some(lacking),
                "{whole}"
            );
            assert_eq!(taken.lacks(lacking).unwrap().is_none(), whole);
            for reader in [repo.reader(), other.reader()] {
                assert!(ids.iter().all(|id| !reader.has(*id)));
            }
            assert_eq!(names(&repo.pack_dir()), [""; 0]);
            if !whole {
                drop(taken);
                assert_eq!(names(&home(&repo).join("0")), [""; 0]);
                continue;
            }
            let received = taken.admit().unwrap();
            assert_eq!(received.objects, 4);
            for reader in [repo.reader(), other.reader()] {
                assert!(ids.iter().all(|id| reader.has(*id)));
            }
            let ends = |names: Vec<String>| -> Vec<String> {
                let ends = names.iter().map(|name| name[name.len() - 4..].to_owned());
                ends.collect()
            };
            assert_eq!(ends(names(&repo.pack_dir())), [".idx", "keep", "pack"]);
            drop(received);
            assert_eq!(ends(names(&repo.pack_dir())), [".idx", "pack"]);
            assert_eq!(names(&home(&repo)), ["0", "0.lock"]);
            assert_eq!(names(&home(&repo).join("0")), [""; 0]);
        }
    }

    #[test]
    fn a_mail_that_an_incomplete_pack_holds_too_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let (pack, ids) = sent(false);
        let taken = repo.take_pack(&mut pack.as_slice()).unwrap();
        let daemon = Repo::open(repo.path()).unwrap();
        let mut writer = Writer::new(&daemon, None).unwrap();
        let path = TreePath::new("1.x.b");
        let op = Op::Put {
            path,
            oid: hash_object(KIND, ObjectKind::Blob, MAIL),
            content: Content::Inline(MAIL.to_vec()),
            attrs: Attrs {
                size: MAIL.len() as u64,
                ..Attrs::default()
            },
        };
        writer.apply(&op, Some(MAIL)).unwrap();
        writer.commit(&text()).unwrap();
        writer.flush().unwrap();
        assert!(taken.lacks(ids[0]).unwrap().is_some());
        drop(taken);
        let reader = Repo::open(repo.path()).unwrap().reader();
        let mail = hash_object(KIND, ObjectKind::Blob, MAIL);
        assert_eq!(reader.blob(mail).unwrap(), MAIL);
    }

    #[test]
    fn what_the_dead_left_goes_and_what_the_living_have_stays() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let (pack, ids) = sent(true);
        let place = |number: &str| home(&repo).join(number);
        let living = repo.take_pack(&mut pack.as_slice()).unwrap();
        // Of two, one was killed.
        drop(repo.take_pack(&mut pack.as_slice()).unwrap());
        let leave = |number| fs::write(place(number).join(".tmpDead"), b"PACK").unwrap();
        leave("1");
        Writer::new(&repo, None).unwrap();
        assert_eq!(names(&place("0")).len(), 3);
        assert_eq!(names(&place("1")), [""; 0]);
        // The next pack is taken in there.
        leave("1");
        let next = repo.take_pack(&mut pack.as_slice()).unwrap();
        assert!(!place("1").join(".tmpDead").exists());
        assert_eq!(names(&place("1")).len(), 3);
        drop(living.admit().unwrap());
        drop(next);
        leave("0");
        Writer::new(&repo, None).unwrap();
        assert_eq!(names(&home(&repo)), ["0", "0.lock", "1", "1.lock"]);
        assert_eq!(names(&place("0")), [""; 0]);
        assert!(repo.reader().blob(ids[3]).is_ok());
    }

    #[test]
    fn a_pack_that_comes_twice_is_there_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path());
        let (pack, ids) = sent(true);
        let take = || repo.take_pack(&mut pack.as_slice()).unwrap();
        let (first, second, third) = (take(), take(), take());
        let first = first.admit().unwrap();
        let at = repo.pack_dir();
        let index = names(&at).into_iter().find(|name| name.ends_with(".idx"));
        let index = at.join(index.unwrap());
        let inode = || fs::metadata(&index).unwrap().ino();
        let before = inode();
        let second = second.admit().unwrap();
        assert_eq!(names(&at).len(), 3);
        assert_eq!(inode(), before, "it was put in place again");
        // One is refused for its ref; the other goes on.
        drop(second);
        assert!(index.with_extension("keep").exists(), "the first one's");
        drop(first);
        drop(third);
        assert_eq!(names(&at).len(), 2);
        let readable = || {
            let reader = Repo::open(repo.path()).unwrap().reader();
            assert_eq!(reader.blob(ids[2]).unwrap(), MAIL);
            assert_eq!(reader.blob(ids[3]).unwrap(), OTHER);
        };
        readable();
        // Of one of this name, half is there.
        for half in ["idx", "pack"] {
            fs::remove_file(index.with_extension(half)).unwrap();
            drop(take().admit().unwrap());
            assert_eq!(names(&at).len(), 2);
            readable();
        }
    }
}
