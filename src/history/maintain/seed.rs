//! A small pack beside one large: what the next lone commit finds its trees' last versions in.
//!
//! A lone commit is a pack of its own, with an index of 1 KiB and its trees whole, until maintenance at rest makes one of the small packs, and deltas of the
//! trees. A large pack is not written anew for it. So where all packs had become one (a geometric merge, `git gc`), the first mail afterwards cost three times
//! as much as those that followed. The trees that the head's commit has changed are put into a small pack of their own therefore: what changed last is
//! likely what changes next, and a pack to merge with is there in any case. The large pack keeps them too, and the next merge of both drops the copies.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::history::hash::ObjectKind;
use crate::history::pack::encode::{self, Deflate, Packed};
use crate::history::pack::install::PackFile;
use crate::history::{HistoryError, Reader, Repo, tree};
use crate::limits;
use crate::maildir::Oid;

/// Plants one, durably; whether there was anything to plant.
pub(super) fn plant(repo: &Repo, dir: &Path) -> Result<bool, HistoryError> {
    let Some(head) = repo.head()? else {
        return Ok(false);
    };
    let reader = repo.reader();
    let mut raw = Vec::new();
    reader.any(head, &mut raw)?;
    let commit = reader.commit(head)?;
    let parent = match commit.parents.first() {
        Some(parent) => Some(reader.commit(*parent)?.tree),
        None => None,
    };
    let mut objects = vec![(ObjectKind::Commit, head, raw)];
    changed(&reader, parent, commit.tree, &mut objects)?;
    write(repo, dir, &objects)?;
    Ok(true)
}

type Object = (ObjectKind, Oid, Vec<u8>);

/// The trees that differ from those of `old` at the same place, from the root down, as many as a seed has.
fn changed(
    reader: &Reader,
    old: Option<Oid>,
    new: Oid,
    objects: &mut Vec<Object>,
) -> Result<(), HistoryError> {
    let kind = reader.kind();
    let (mut todo, mut seen) = (vec![(old, new)], HashSet::new());
    while let Some((old, new)) = todo.pop() {
        if objects.len() > limits::SEED_TREES || !seen.insert(new) {
            continue;
        }
        let mut raw = Vec::new();
        reader.tree(new, &mut raw)?;
        if let Some(old) = old {
            let mut before = Vec::new();
            reader.tree(old, &mut before)?;
            let dirs = |raw| {
                tree::entries(raw, kind)
                    .map_while(Result::ok)
                    .filter(|entry| entry.dir)
            };
            let known: HashMap<&[u8], Oid> = dirs(&before)
                .map(|entry| (entry.name, entry.oid()))
                .collect();
            for entry in dirs(&raw) {
                match known.get(entry.name) {
                    Some(was) if *was != entry.oid() => todo.push((Some(*was), entry.oid())),
                    _ => {}
                }
            }
        }
        objects.push((ObjectKind::Tree, new, raw));
    }
    Ok(())
}

fn write(repo: &Repo, dir: &Path, objects: &[Object]) -> Result<(), HistoryError> {
    let mut pack = PackFile::create(dir, repo.kind(), objects.len() as u32)?;
    // A pack that is older than its name is known for one that maintenance has made.
    pack.set_modified(SystemTime::now() - Duration::from_secs(2));
    let mut deflate = Deflate::new(limits::TREE_LEVEL);
    let (mut entries, mut buffer) = (Vec::with_capacity(objects.len()), Vec::new());
    for (kind, oid, content) in objects {
        buffer.clear();
        encode::head(&mut buffer, *kind, content.len() as u64);
        deflate.append(&mut buffer, content);
        entries.push(Packed {
            oid: *oid,
            crc: crc32fast::hash(&buffer),
            offset: pack.at(),
        });
        pack.write(&buffer)?;
    }
    pack.install(&mut entries, false)?;
    Ok(())
}
