//! A client that looks at every state of a node's mailboxes and holds the server to RFC 9051 §2.3.1.1.
//!
//! What it has seen under a name, a UIDVALIDITY and a UID is the same message for ever: content and INTERNALDATE, also after the folder was deleted. As long as a
//! folder is there (the same mailbox GUID under the same name), UIDVALIDITY and UIDNEXT do not fall, and under one UIDVALIDITY whatever is new has a UID that is not
//! below the UIDNEXT seen before, so UIDs ascend in the order of arrival.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use mailbraid::maildir::{Oid, TreePath, name};

use crate::merge_laws::world::Dir;

/// What identifies a message to a client: content and INTERNALDATE.
type Message = (Oid, i64);

/// A folder as it was seen last.
struct Seen {
    dir: Rc<Dir>,
    guid: Option<Vec<u8>>,
    validity: u32,
    next: u32,
    messages: BTreeMap<u32, Message>,
}

#[derive(Default)]
pub struct Client {
    folders: BTreeMap<TreePath, Seen>,
    known: HashMap<(TreePath, u32, u32), Message>,
}

impl Client {
    /// Looks at all folders; the fault it finds, if any.
    pub fn look(&mut self, root: &Rc<Dir>) -> Result<(), String> {
        let mut folders = Vec::new();
        list(root, &TreePath::root(), &mut folders);
        let mut before = std::mem::take(&mut self.folders);
        for (path, dir) in folders {
            let old = before.remove(&path);
            let seen = match old {
                Some(old) if Rc::ptr_eq(&old.dir, &dir) => old,
                old => self.look_at(&path, &dir, old)?,
            };
            self.folders.insert(path, seen);
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        path: &TreePath,
        dir: &Rc<Dir>,
        old: Option<Seen>,
    ) -> Result<Seen, String> {
        let facts = dir.facts.clone().unwrap_or_default();
        let mut seen = Seen {
            dir: Rc::clone(dir),
            guid: facts.guid,
            validity: facts.uid_validity,
            next: facts.uid_next,
            messages: BTreeMap::new(),
        };
        let mut identities = BTreeMap::new();
        for (visible, (oid, attrs)) in ["cur", "new"]
            .iter()
            .flat_map(|part| &dir.dirs[part.as_bytes()].files)
        {
            let shown = String::from_utf8_lossy(visible);
            if let Some(other) =
                identities.insert(name::identity(visible).into_owned(), shown.clone())
            {
                return Err(format!("{path}: {other} and {shown} are one message"));
            }
            let Some(uid) = attrs.uid else { continue };
            let message = (*oid, attrs.mtime);
            if seen.messages.insert(uid, message).is_some() {
                return Err(format!("{path}: two messages have UID {uid}"));
            }
            if uid >= seen.next {
                return Err(format!(
                    "{path}: UID {uid} is not below UIDNEXT {}",
                    seen.next
                ));
            }
            let known = *self
                .known
                .entry((path.clone(), seen.validity, uid))
                .or_insert(message);
            if known != message {
                return Err(format!(
                    "{path}: UID {uid} of UIDVALIDITY {} names two messages, {shown} last",
                    seen.validity
                ));
            }
        }
        let Some(old) = old.filter(|old| old.guid == seen.guid) else {
            return Ok(seen);
        };
        if (seen.validity, seen.next) < (old.validity, old.next) {
            return Err(format!(
                "{path}: UIDVALIDITY/UIDNEXT fall from {}/{} to {}/{}",
                old.validity, old.next, seen.validity, seen.next
            ));
        }
        if seen.validity == old.validity {
            for uid in seen.messages.keys().take_while(|uid| **uid < old.next) {
                if !old.messages.contains_key(uid) {
                    return Err(format!(
                        "{path}: UID {uid} comes after UIDNEXT was {}",
                        old.next
                    ));
                }
            }
        }
        Ok(seen)
    }
}

/// All folders below a directory.
pub fn list(dir: &Rc<Dir>, path: &TreePath, into: &mut Vec<(TreePath, Rc<Dir>)>) {
    if ["cur", "new", "tmp"]
        .iter()
        .all(|part| dir.dirs.contains_key(part.as_bytes()))
    {
        into.push((path.clone(), Rc::clone(dir)));
    }
    for (name, child) in &dir.dirs {
        if !["cur", "new", "tmp"]
            .iter()
            .any(|part| part.as_bytes() == name.as_slice())
        {
            list(child, &path.join(name), into);
        }
    }
}
