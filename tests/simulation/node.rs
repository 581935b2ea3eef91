//! A node of the simulation: its live tree, what of it is durable, its head, the heads it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use mailbraid::maildir::{Oid, Op, TreePath};
use mailbraid::merge::rest::{Action, Lines, Next, Turns, View};
use mailbraid::merge::{Conflict, World, braid};

use super::client::{self, Client};
use crate::merge_laws::text;
use crate::merge_laws::world::{Dir, Memory};

pub struct Node {
    pub name: String,
    pub live: Rc<Dir>,
    pub head: Option<Oid>,
    committed: Rc<Dir>,
    /// Operations since the last commit, and whether they are durable.
    pending: Vec<(Op, bool)>,
    pub peers: BTreeMap<String, Oid>,
    turns: Turns,
    pub client: Client,
    /// Seconds by which its clock is off.
    pub skew: i64,
    /// Braids that it made.
    pub braids: usize,
    /// Mail in folders that its braids united: moved, as far as anybody can tell.
    pub united: Vec<Oid>,
    /// Mail that its braids took along with a renamed folder, and the folder's GUID.
    pub followed: Vec<(Oid, Vec<u8>)>,
}

struct Graph<'a>(&'a Memory);

impl Lines for Graph<'_> {
    type Error = std::convert::Infallible;

    fn is_ancestor(&self, commit: Oid, of: Oid) -> Result<bool, Self::Error> {
        Ok(self.0.is_ancestor(commit, of))
    }

    fn has_news(&self, head: Oid, own: Oid) -> Result<bool, Self::Error> {
        Ok(self.0.has_news(head, own))
    }
}

/// Where each message of a tree is: its folder, and the folder's GUID.
fn places(root: &Rc<Dir>) -> Vec<(Oid, TreePath, Option<Vec<u8>>)> {
    let mut folders = Vec::new();
    client::list(root, &TreePath::root(), &mut folders);
    let mut found = Vec::new();
    for (path, dir) in folders {
        let guid = dir.facts.as_ref().and_then(|facts| facts.guid.clone());
        for part in ["cur", "new"] {
            let files = dir.dirs[part.as_bytes()].files.values();
            found.extend(files.map(|(oid, _)| (*oid, path.clone(), guid.clone())));
        }
    }
    found
}

/// Tells what happens, where one seed is run.
pub fn trace(what: impl FnOnce() -> String) {
    static ON: OnceLock<bool> = OnceLock::new();
    if *ON.get_or_init(|| std::env::var_os("MAILBRAID_SEED").is_some()) {
        println!("{}", what());
    }
}

impl Node {
    pub fn new(name: String, skew: i64) -> Self {
        Self {
            name,
            live: Rc::default(),
            head: None,
            committed: Rc::default(),
            pending: Vec::new(),
            peers: BTreeMap::new(),
            turns: Turns::default(),
            client: Client::default(),
            skew,
            braids: 0,
            united: Vec::new(),
            followed: Vec::new(),
        }
    }

    /// A program's operation, acknowledged; `durable` if it outlives a crash.
    pub fn apply(&mut self, op: Op, durable: bool) {
        trace(|| format!("{}: {op:?}", self.name));
        Rc::make_mut(&mut self.live).apply(&op);
        self.pending.push((op, durable));
    }

    /// Commits what is pending.
    pub fn commit(&mut self, memory: &mut Memory, now: i64) {
        if self.pending.is_empty() && self.head.is_some() {
            return;
        }
        let tree = memory.write(&mut self.live);
        let text = format!("{} {}", self.name, self.pending.len());
        let parents: Vec<Oid> = self.head.into_iter().collect();
        let commit = memory.commit(tree, &parents, now + self.skew, text.as_bytes());
        trace(|| format!("{}: commits {commit:?} on {:?}", self.name, self.head));
        self.pending.clear();
        self.head = Some(commit);
        self.committed = Rc::clone(&self.live);
    }

    /// Killed and started again: what was not durable is gone, and what was known of others.
    pub fn restart(&mut self) {
        let kept = self
            .pending
            .iter()
            .rposition(|(_, durable)| *durable)
            .map_or(0, |at| at + 1);
        self.pending.truncate(kept);
        self.live = Rc::clone(&self.committed);
        for (op, _) in &self.pending {
            Rc::make_mut(&mut self.live).apply(op);
        }
        self.peers.clear();
        self.turns = Turns::default();
    }

    /// All heads that it knows, its own too: what it tells others.
    pub fn heads(&self) -> BTreeMap<String, Oid> {
        let mut heads = self.peers.clone();
        heads.extend(self.head.map(|head| (self.name.clone(), head)));
        heads
    }

    /// Hears of heads.
    pub fn hear(&mut self, memory: &Memory, heads: &BTreeMap<String, Oid>) {
        for (name, &head) in heads {
            if *name == self.name && self.head.is_some_and(|own| memory.is_ancestor(head, own)) {
                continue;
            }
            let known = self.peers.entry(name.clone()).or_insert(head);
            if memory.is_ancestor(*known, head) {
                *known = head;
            }
        }
    }

    /// Does what the rule says, until it says to wait. Gives what it did last.
    pub fn act(
        &mut self,
        memory: &mut Memory,
        now: Duration,
        clock: i64,
        jitter: u32,
    ) -> Result<(), String> {
        loop {
            if !self.pending.is_empty() {
                self.commit(memory, clock);
            }
            let view = View {
                name: &self.name,
                own: self.head,
                peers: &self.peers,
            };
            let Ok(next) = self.turns.next(&Graph(memory), &view, now, jitter);
            match next {
                Next::At(_) | Next::Do(Action::Rest | Action::Wait { .. }) => return Ok(()),
                Next::Do(Action::FastForward(head)) => self.switch(memory, head)?,
                Next::Do(Action::Braid(heads)) => self.braid(memory, &heads)?,
            }
        }
    }

    /// Braids heads, of which one is its own or an ancestor of its own, and moves there.
    pub fn braid(&mut self, memory: &mut Memory, heads: &[Oid]) -> Result<(), String> {
        self.braids += 1;
        trace(|| {
            let Ok(bases) = memory.merge_bases(&heads[..1], &heads[1..2]);
            let merged = braid(memory, &bases).unwrap();
            let tree = merged.map_or(String::new(), |merged| text::write(memory, merged.tree));
            format!(
                "{}: to braid {heads:?} against {bases:?}\n{tree}",
                self.name
            )
        });
        let merged = braid(memory, heads).map_err(|error| format!("{error}"))?;
        let merged = merged.ok_or("heads, but no braid")?;
        if let [head] = merged.parents.as_slice() {
            return self.switch(memory, *head);
        }
        let root = memory.dir(merged.tree);
        for conflict in &merged.conflicts {
            if let Conflict::FoldersUnited { folder } = conflict
                && let Some(dir) = root.at(folder)
            {
                let parts = ["cur", "new"]
                    .iter()
                    .filter_map(|part| dir.dirs.get(part.as_bytes()));
                self.united.extend(
                    parts
                        .flat_map(|part| part.files.values())
                        .map(|(oid, _)| *oid),
                );
            }
        }
        let before = merged
            .parents
            .iter()
            .flat_map(|&parent| places(&memory.dir(memory.get(parent).tree)));
        let before: BTreeSet<(Oid, TreePath)> = before.map(|(oid, path, _)| (oid, path)).collect();
        for (oid, path, guid) in places(&root) {
            if !before.contains(&(oid, path)) {
                self.followed.extend(guid.map(|guid| (oid, guid)));
            }
        }
        let head = memory.commit(
            merged.tree,
            &merged.parents,
            merged.time,
            merged.message().as_bytes(),
        );
        self.switch(memory, head)
    }

    /// Moves to a head.
    fn switch(&mut self, memory: &Memory, head: Oid) -> Result<(), String> {
        let Ok(tree) = memory.tree(head);
        trace(|| {
            format!(
                "{}: from {:?} to {:?} of {:?}\n{}",
                self.name,
                self.head,
                head,
                memory.get(head).parents,
                text::write(memory, tree)
            )
        });
        self.head = Some(head);
        self.live = memory.dir(tree);
        self.committed = Rc::clone(&self.live);
        self.client.look(&self.live)
    }
}
