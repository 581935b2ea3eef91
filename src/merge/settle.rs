//! Settles each folder of the merged tree: which entities are one folder now, its facts, the UIDs and names of its messages.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::conflict::Conflict;
use super::entities::{Entity, Id};
use super::facts;
use super::flags::Marks;
use super::keywords;
use super::messages::{Out, three_way};
use super::names;
use super::slots::{Place, Slot, SlotId};
use super::uids::{self, Claim, View};
use crate::maildir::{Attrs, MailboxFacts, Oid, TreePath, hidden, name};

/// A message where it is after the merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub(super) folder: Rc<TreePath>,
    pub(super) place: Place,
    pub(super) name: Vec<u8>,
    pub(super) oid: Oid,
    pub(super) attrs: Attrs,
    pub(super) slot: SlotId,
}

impl Message {
    pub(super) fn path(&self) -> TreePath {
        self.folder.join(self.place.name()).join(&self.name)
    }
}

/// A folder after the merge.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: TreePath,
    pub(super) facts: Option<MailboxFacts>,
    /// It was deleted on one side, and is back only as a directory of others: without facts.
    pub(super) is_bare: bool,
    pub(super) messages: Vec<Message>,
}

/// What is known before a folder is settled.
pub(super) struct Group<'a> {
    pub(super) path: TreePath,
    /// The entities that are this folder now, by their keys.
    pub(super) members: Vec<Id>,
    /// Those of them that have messages.
    pub(super) mailed: BTreeSet<Id>,
    /// Its messages.
    pub(super) outs: Vec<Out>,
    pub(super) entities: &'a [Entity],
    pub(super) slots: &'a [Slot],
    /// The greatest UID among the messages of a folder that differ, on each side.
    pub(super) highest: &'a BTreeMap<Id, [u32; 2]>,
}

/// A message, or several that turned out to be one, with its UID in each view.
struct Candidate {
    out: Out,
    uids: Vec<Option<u32>>,
    derived: bool,
}

impl Group<'_> {
    /// Settles it. `deleted` tells the UIDNEXT of a folder on a side that has deleted it, if it is known.
    pub(super) fn settle<E>(
        mut self,
        conflicts: &mut Vec<Conflict>,
        mut deleted: impl FnMut(usize, u32) -> Result<Option<u32>, E>,
    ) -> Result<Folder, E> {
        let (views, at) = self.views(&mut deleted)?;
        let outs = std::mem::take(&mut self.outs);
        let mut candidates = candidates(outs, &views, &at);
        self.tell_apart(&mut candidates, conflicts);
        let claims: Vec<Claim> = candidates.iter().map(Candidate::claim).collect();
        let given = uids::rule_u(&views, &claims);
        self.tell_uids(&views, &given, conflicts);

        let mut wanted = BTreeSet::new();
        for candidate in &candidates {
            let shown = candidate.out.shown.iter().flat_map(Marks::keywords);
            let all = candidate.out.marks.keywords().chain(shown);
            wanted.extend(all.map(<[u8]>::to_vec));
        }
        let base = match self.members.as_slice() {
            [one] => self.entities[*one].facts.base.as_ref(),
            _ => None,
        };
        let sides: Vec<&MailboxFacts> = self
            .members
            .iter()
            .filter(|&&id| !self.is_bare(id))
            .flat_map(|&id| self.entities[id].facts.sides.iter().flatten())
            .collect();
        let settled = facts::merge(base, &sides, given.view, &wanted);
        let none = keywords::Table::new();
        let table = settled.as_ref().map_or(&none, |(facts, _)| &facts.keywords);
        if let Some((_, words)) = &settled {
            let folder = || self.path.clone();
            conflicts.extend(words.moved.iter().map(|name| Conflict::KeywordMoved {
                folder: folder(),
                name: name.clone(),
            }));
            conflicts.extend(words.dropped.iter().map(|name| Conflict::KeywordDropped {
                folder: folder(),
                name: name.clone(),
            }));
        }
        let folder = Rc::new(self.path.clone());
        let mut messages = Vec::with_capacity(candidates.len());
        for (candidate, uid) in candidates.into_iter().zip(given.uids) {
            let mut out = candidate.out;
            let letters = out.letters(table);
            let name = names::render(&out, &self.slots[out.slot], &letters);
            messages.push(Message {
                folder: Rc::clone(&folder),
                place: out.place,
                name,
                oid: out.oid,
                attrs: Attrs { uid, ..out.attrs },
                slot: out.slot,
            });
        }
        Ok(Folder {
            path: self.path.clone(),
            is_bare: self.members.iter().all(|&id| self.is_bare(id)),
            facts: settled.map(|(facts, _)| facts),
            messages,
        })
    }

    /// Whether a member was deleted on one side and is back only as a directory of others.
    fn is_bare(&self, id: Id) -> bool {
        let entity = &self.entities[id];
        entity.base.is_some()
            && entity.sides.iter().any(Option::is_none)
            && !self.mailed.contains(&id)
    }

    /// All views of the folder, and the first of each member's two.
    fn views<E>(
        &self,
        deleted: &mut impl FnMut(usize, u32) -> Result<Option<u32>, E>,
    ) -> Result<(Vec<View>, BTreeMap<Id, usize>), E> {
        let mut views = Vec::new();
        let mut at = BTreeMap::new();
        for &id in &self.members {
            at.insert(id, views.len());
            for side in 0..2 {
                let mut view = View::default();
                if let Some(facts) = &self.entities[id].facts.sides[side]
                    && !self.is_bare(id)
                {
                    view.validity = facts.uid_validity;
                    view.next = facts.uid_next;
                }
                // A server may have given UIDs without saying UIDNEXT yet.
                let highest = self.highest.get(&id).map_or(0, |highest| highest[side]);
                view.next = view.next.max(highest.saturating_add(1));
                views.push(view);
            }
        }
        let validity = views.iter().map(|view| view.validity).max().unwrap_or(0);
        for &id in &self.members {
            for side in 0..2 {
                if validity > 0
                    && views[at[&id] + side].validity != validity
                    && self.may_have_had(id, validity)
                {
                    let next = deleted(side, validity)?;
                    views.extend(next.map(|next| View { validity, next }));
                }
            }
        }
        Ok((views, at))
    }

    /// Whether a side that does not have the folder under this UIDVALIDITY may have had it since the base. That it is new on the other side is no proof
    /// against it: the other side may have got it from a third. Only what was issued after the base can be known to nobody else.
    fn may_have_had(&self, id: Id, validity: u32) -> bool {
        if self.entities[0].base.is_none() || self.is_bare(id) {
            return false;
        }
        let had = &self.entities[id].facts.base;
        if had.as_ref().is_some_and(|facts| {
            let offered = facts.offer.as_ref().map(|offer| offer.uid_validity);
            facts.uid_validity == validity || offered == Some(validity)
        }) {
            return true;
        }
        let mut issued = 0;
        let mut at = id;
        loop {
            let entity = &self.entities[at];
            if let Some(facts) = &entity.facts.base {
                issued = issued.max(facts.uid_validity_issued);
            }
            if at == 0 {
                break;
            }
            at = entity.parents[usize::from(entity.sides[0].is_none())];
        }
        issued == 0 || validity <= issued
    }

    /// Gives messages of one identity different names; what is the same message becomes one.
    fn tell_apart(&self, candidates: &mut Vec<Candidate>, conflicts: &mut Vec<Conflict>) {
        let mut all = std::mem::take(candidates);
        all.sort_by(|a, b| a.key().cmp(&b.key()));
        candidates.reserve(all.len());
        let mut renamed = Vec::new();
        for mut candidate in all {
            let (is_taken, is_same) = match candidates.last() {
                Some(last) => {
                    let (last, own) = (last.key(), candidate.key());
                    (last.0 == own.0, last == own)
                }
                None => (false, false),
            };
            match candidates.last_mut() {
                Some(last) if is_same => last.join(candidate),
                _ if !is_taken => candidates.push(candidate),
                _ => {
                    candidate.out.unique = names::derive(&candidate.out.unique, candidate.out.oid);
                    candidate.derived = true;
                    renamed.push(candidate);
                }
            }
        }
        for candidate in renamed {
            let path = self
                .path
                .join(candidate.out.place.name())
                .join(&candidate.out.unique);
            conflicts.push(Conflict::SameName { path });
            let key = candidate.key();
            match candidates.iter_mut().find(|known| known.key() == key) {
                Some(known) => known.join(candidate),
                None => candidates.push(candidate),
            }
        }
    }

    fn tell_uids(&self, views: &[View], given: &uids::Given, conflicts: &mut Vec<Conflict>) {
        // Where one side did nothing in the folder, all is as the other has it.
        let acted = |side: usize| {
            let mut members = self.members.iter().map(|&id| &self.entities[id]);
            members.any(|entity| entity.sides[side] != entity.base)
        };
        if !acted(0) || !acted(1) {
            return;
        }
        let loses = |view: &View| view.validity != 0 && view.validity != given.view.validity;
        if views.iter().any(loses) {
            conflicts.push(Conflict::UidValidity {
                folder: self.path.clone(),
                kept: given.view.validity,
            });
        }
        if !given.renumbered.is_empty() {
            conflicts.push(Conflict::Renumbered {
                folder: self.path.clone(),
                count: given.renumbered.len(),
            });
        }
    }
}

impl Out {
    /// The letters of its name. Keywords that wait become an attribute, unless the name shows the same.
    fn letters(&mut self, table: &keywords::Table) -> Vec<u8> {
        let write = |marks: &Marks| marks.write(|name| keywords::letter(table, name));
        let own = write(&self.marks);
        let Some(shown) = &self.shown else {
            return own;
        };
        let (waiting, flags): (Vec<u8>, Vec<u8>) =
            own.into_iter().partition(u8::is_ascii_lowercase);
        let mut letters = write(shown);
        letters.retain(u8::is_ascii_lowercase);
        if letters != waiting {
            self.attrs.ext.insert(hidden::KEYWORDS, waiting);
        }
        letters.extend(flags);
        letters.sort_unstable();
        letters
    }
}

/// All messages of a folder, with their UIDs in its views; `at` tells the first of each member's two.
fn candidates(outs: Vec<Out>, views: &[View], at: &BTreeMap<Id, usize>) -> Vec<Candidate> {
    let all = outs.into_iter().map(|out| {
        let mut uids = vec![None; views.len()];
        if let Some(&first) = at.get(&out.folder) {
            uids[first] = out.uids[0];
            uids[first + 1] = out.uids[1];
        }
        Candidate {
            out,
            uids,
            derived: false,
        }
    });
    all.collect()
}

impl Candidate {
    fn key(&self) -> (Cow<'_, [u8]>, Oid) {
        (name::identity(&self.out.unique), self.out.oid)
    }

    fn claim(&self) -> Claim<'_> {
        let out = &self.out;
        let time = name::delivery_time(&out.unique).unwrap_or(out.attrs.mtime);
        Claim {
            uids: &self.uids,
            order: (time, out.oid, &out.unique),
        }
    }

    /// The same message, come by two ways.
    fn join(&mut self, other: Self) {
        let out = &mut self.out;
        if out.shown.is_some() || other.out.shown.is_some() {
            let [own, others] =
                [&*out, &other.out].map(|out| out.shown.as_ref().unwrap_or(&out.marks));
            out.shown = Some(Marks::merge(None, own, others));
        }
        out.marks = Marks::merge(None, &out.marks, &other.out.marks);
        out.place = out.place.min(other.out.place);
        out.attrs.mtime = three_way(None, out.attrs.mtime, other.out.attrs.mtime);
        for (own, others) in self.uids.iter_mut().zip(other.uids) {
            *own = (*own).max(others);
        }
    }
}
