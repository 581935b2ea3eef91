//! Heads of others into our own: what is to be braided, when, and the plan of one braid.
//!
//! The problem: while the merge is computed the mail server goes on, and what it does must neither wait nor be lost. Rules:
//!
//! - A plan is made without any lock, against the head that holds all that the journal has. It is carried out (see [`Attempt`]) under the namespace lock, where it
//!   is seen whether operations have come since. If so they are committed and the plan is made anew; after [`limits::BRAID_TRIES`] such tries the
//!   plan is made under the lock.
//! - **The head is durable before the live tree shows it.** It is moved under the namespace lock, when it is known that no operation has come in
//!   between. So a crash leaves the old head with the old journal or the new head, and no operation was acknowledged on a tree without a durable head.
//! - What is built for a plan that comes to nothing is given up with it.
//! - Heads that cannot be braided (damaged, or no history of ours) are said so once and left alone until others are offered. The node goes on by itself.
//!
//! Rejected: a journal record for the braid. The journal would then hold what is no operation, and recovery would have to merge.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use log::{debug, error};

use super::backing::{Change, Switch};
use super::committer::{Committer, Round};
use super::world::{BraidWorld, GraphLines};
use super::{StoreError, recovery};
use crate::history::{CommitText, Graph, Repo, Weaver};
use crate::journal::Journal;
use crate::limits;
use crate::maildir::Oid;
use crate::merge::commit::IDENTITY;
use crate::merge::rest::{Action, Next, Turns, View};
use crate::merge::{self, MergeError, World as _};

/// What the store thread knows of others' heads.
pub struct Braider {
    node: String,
    repo: Repo,
    graph: Graph,
    heads: BTreeMap<String, Oid>,
    turns: Turns,
    started: Instant,
    /// All heads are ancestors of our own, and no other was offered since.
    at_rest: bool,
    /// Nothing is done before this time.
    not_before: Option<Instant>,
    /// Heads that could not be braided, and why.
    refused: Option<(BTreeMap<String, Oid>, String)>,
    /// Operations came in between this often since the last braid that was done. Heads that come meanwhile do not begin it anew: peers that write
    /// without pause would keep this node apart for ever.
    overtaken: u32,
    task: Option<Task>,
}

/// Heads that are being braided into ours.
#[derive(Default)]
struct Task {
    others: Vec<Oid>,
    /// Since when a server has held a folder.
    held: Option<Instant>,
    plan: Option<Plan>,
}

/// One braid, built and in the repository, and what it changes.
struct Plan {
    own: Option<Oid>,
    head: Oid,
    /// The last operation of this node that the head has beyond our own head; 0 where there is none.
    last: u64,
    weaver: Weaver,
    changes: Vec<Change>,
}

impl Braider {
    /// One that knows no heads yet.
    pub fn new(repo: &Repo, node: String) -> Self {
        Self {
            node,
            repo: repo.clone(),
            graph: Graph::new(repo),
            heads: BTreeMap::new(),
            turns: Turns::default(),
            started: Instant::now(),
            at_rest: true,
            not_before: None,
            refused: None,
            overtaken: 0,
            task: None,
        }
    }

    /// Takes up heads that were offered. Of one name the later one counts.
    pub fn learn(&mut self, offered: BTreeMap<String, Oid>) {
        for (name, head) in offered {
            if let Some(&known) = self.heads.get(&name)
                && (known == head || self.graph.is_ancestor(head, known).unwrap_or(false))
            {
                continue;
            }
            self.heads.insert(name, head);
            self.at_rest = false;
            self.not_before = None;
            self.drop_task();
        }
    }

    /// How long nothing is to be done, if nothing happens.
    pub fn pause(&self) -> Duration {
        match self.not_before {
            _ if self.at_rest => limits::STORE_IDLE,
            Some(time) => time
                .saturating_duration_since(Instant::now())
                .min(limits::STORE_IDLE),
            None => Duration::ZERO,
        }
    }

    /// Whether something is to be braided into `own` now.
    ///
    /// # Errors
    /// Where a commit cannot be read.
    pub fn is_due(&mut self, own: Option<Oid>) -> Result<bool, StoreError> {
        if self.at_rest || self.not_before.is_some_and(|time| time > Instant::now()) {
            return Ok(false);
        }
        if self.task.is_some() {
            return Ok(true);
        }
        if self
            .refused
            .as_ref()
            .is_some_and(|(heads, _)| *heads == self.heads)
        {
            self.at_rest = true;
            return Ok(false);
        }
        let view = View {
            name: &self.node,
            own,
            peers: &self.heads,
        };
        let now = self.started.elapsed();
        let next = self
            .turns
            .next(&GraphLines(&self.graph), &view, now, jitter());
        let others = match next {
            Ok(Next::Do(Action::FastForward(head))) => vec![head],
            Ok(Next::Do(Action::Braid(heads))) => heads,
            Ok(Next::At(time)) => {
                self.not_before = Some(self.started + time);
                return Ok(false);
            }
            Ok(Next::Do(Action::Rest | Action::Wait { .. })) => {
                self.at_rest = true;
                self.refused = None;
                // Ancestors of our head have nothing to say any more.
                self.heads.retain(|_, head| Some(*head) == own);
                return Ok(false);
            }
            Err(failed) => {
                self.refuse(&failed.to_string());
                return Ok(false);
            }
        };
        self.task = Some(Task {
            others,
            ..Task::default()
        });
        Ok(true)
    }

    /// Operations came in between.
    pub fn overtaken(&mut self) {
        self.overtaken += 1;
        if let Some(task) = &mut self.task {
            drop_plan(task);
        }
    }

    /// A server holds a folder: to be tried again in a moment.
    pub fn held(&mut self) {
        if let Some(task) = &mut self.task {
            task.held.get_or_insert_with(Instant::now);
        }
        // What comes meanwhile is planned for without the namespace again.
        self.overtaken = 0;
        self.not_before = Some(Instant::now() + limits::BRAID_LOCK_POLL);
    }

    /// It is done; there may be more.
    pub fn done(&mut self) {
        self.task = None;
        self.overtaken = 0;
        self.not_before = None;
        self.refused = None;
    }

    /// The disk is full: to be tried again.
    pub fn wait_for_room(&mut self) {
        self.drop_task();
        self.not_before = Some(Instant::now() + limits::DISK_FULL_RETRY);
    }

    /// The heads cannot be braided.
    pub fn refuse(&mut self, why: &str) {
        let why = format!("the peers' heads cannot be braided, this node goes on by itself: {why}");
        error!("{why}");
        self.drop_task();
        self.refused = Some((self.heads.clone(), why));
        self.at_rest = true;
    }

    /// Why heads could not be braided, for each node whose head may be to blame.
    pub fn unbraided(&self) -> BTreeMap<String, String> {
        let Some((heads, why)) = &self.refused else {
            return BTreeMap::new();
        };
        let names = heads.keys();
        names.map(|name| (name.clone(), why.clone())).collect()
    }

    fn drop_task(&mut self) {
        if let Some(mut task) = self.task.take() {
            drop_plan(&mut task);
        }
    }

    fn plan(&self, own: Option<Oid>, others: &[Oid]) -> Result<Plan, StoreError> {
        let started = Instant::now();
        debug!("braid begins");
        let mut world = BraidWorld::new(&self.repo, &self.graph)?;
        let all: Vec<Oid> = own.into_iter().chain(others.iter().copied()).collect();
        let braid = merge::braid(&mut world, &all)
            .map_err(cannot)?
            .ok_or_else(|| StoreError::Braid("there is no head".to_owned()))?;
        let (head, tree) = match braid.parents.as_slice() {
            [one] => (*one, world.tree(*one)?),
            parents => {
                let text = CommitText {
                    node: IDENTITY.to_owned(),
                    time: braid.time,
                    message: braid.message().into_bytes(),
                    extra_parents: Vec::new(),
                };
                (world.weaver.commit(braid.tree, parents, &text), braid.tree)
            }
        };
        let old = own.map(|own| world.tree(own)).transpose()?;
        let changes = merge::changes(&world, old, Some(tree)).map_err(cannot)?;
        let mut weaver = world.weaver;
        weaver.install()?;
        debug!(
            "braid ends: {}, {} changes planned in {} ms",
            braid.message().lines().next().unwrap_or("braid"),
            changes.len(),
            started.elapsed().as_millis()
        );
        let last = match own {
            Some(own) => recovery::last_beyond(&self.repo, head, own, &self.node)?,
            None => recovery::last_committed(&self.repo, Some(head), &self.node)?,
        };
        Ok(Plan {
            own,
            head,
            last,
            weaver,
            changes,
        })
    }
}

fn cannot<E: std::fmt::Debug + std::error::Error + Send + Sync + 'static>(
    failed: MergeError<E>,
) -> StoreError {
    StoreError::Braid(failed.to_string())
}

fn drop_plan(task: &mut Task) {
    if let Some(plan) = task.plan.take() {
        plan.weaver.give_up();
    }
}

/// A random number, for waits that are not to be the same on all nodes.
fn jitter() -> u32 {
    let mut raw = [0; 4];
    // Without random numbers nodes may wait equally long, once more.
    let _ = rustix::rand::getrandom(&mut raw, rustix::rand::GetRandomFlags::empty());
    u32::from_le_bytes(raw)
}

/// One try to switch the live tree to a braid.
pub struct Attempt<'a> {
    braider: &'a mut Braider,
    committer: &'a mut Committer,
    journal: &'a Journal,
    /// Rounds that were committed under the lock. The caller tells of them.
    pub rounds: Vec<Round>,
    /// What went wrong, in full.
    pub failed: Option<StoreError>,
}

impl<'a> Attempt<'a> {
    /// A try. The plan is made here unless operations have overtaken it too often.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(
        braider: &'a mut Braider,
        committer: &'a mut Committer,
        journal: &'a Journal,
    ) -> Result<Self, StoreError> {
        let mut attempt = Self {
            braider,
            committer,
            journal,
            rounds: Vec::new(),
            failed: None,
        };
        if !attempt.holds() {
            attempt.prepare()?;
        }
        Ok(attempt)
    }

    /// Whether the plan is made under the lock.
    fn holds(&self) -> bool {
        self.braider.task.is_some() && self.braider.overtaken >= limits::BRAID_TRIES
    }

    /// Makes the plan, unless the one that is there is still good.
    fn prepare(&mut self) -> Result<(), StoreError> {
        let own = self.committer.head();
        let Some(mut task) = self.braider.task.take() else {
            return Ok(());
        };
        if task.plan.as_ref().is_none_or(|plan| plan.own != own) {
            drop_plan(&mut task);
            match self.braider.plan(own, &task.others) {
                Ok(plan) => task.plan = Some(plan),
                Err(failed) => {
                    self.braider.task = Some(task);
                    return Err(failed);
                }
            }
        }
        self.braider.task = Some(task);
        Ok(())
    }

    /// Commits what came in between, where that is to be done under the lock.
    fn catch_up(&mut self) -> Result<bool, StoreError> {
        if !self.holds() {
            return Ok(self.journal.last() <= self.committer.done());
        }
        while self.journal.last() > self.committer.done() {
            self.rounds.push(self.committer.round(self.journal)?);
        }
        match self.prepare() {
            // It is no more than where the plan is made without the lock: what is to be braided is to blame.
            Err(failed) if failed.may_pass() => Err(StoreError::Braid(failed.to_string())),
            done => done.map(|()| true),
        }
    }

    fn publish(&mut self) -> Result<(), StoreError> {
        let Some(plan) = self
            .braider
            .task
            .as_mut()
            .and_then(|task| task.plan.as_mut())
        else {
            return Ok(());
        };
        plan.weaver.publish(plan.head, plan.own)?;
        if plan.last > self.committer.done() {
            // A former life of this node went further.
            self.journal.skip_to(plan.last)?;
        }
        let last = plan.last.max(self.committer.done());
        self.committer.adopt(plan.head, last)
    }

    fn keep<T>(&mut self, outcome: Result<T, StoreError>) -> io::Result<T> {
        outcome.map_err(|failed| {
            let why = io::Error::other(failed.to_string());
            self.failed = Some(failed);
            why
        })
    }
}

impl Switch for Attempt<'_> {
    fn changes(&mut self) -> io::Result<Option<Vec<Change>>> {
        let ready = self.catch_up();
        if !self.keep(ready)? {
            return Ok(None);
        }
        let plan = self
            .braider
            .task
            .as_ref()
            .and_then(|task| task.plan.as_ref());
        Ok(plan.map(|plan| plan.changes.clone()))
    }

    fn heeds_locks(&self) -> bool {
        let task = self.braider.task.as_ref();
        let since = task.and_then(|task| task.held);
        since.is_none_or(|since| since.elapsed() < limits::BRAID_LOCK_WAIT)
    }

    fn commit(&mut self) -> io::Result<()> {
        debug!("application begins");
        let published = self.publish();
        self.keep(published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::InitOptions;
    use crate::maildir::HashKind;

    /// The node `a`, without a commit.
    fn alone() -> (tempfile::TempDir, Braider) {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            kind: HashKind::Sha1,
            node: "a".to_owned(),
        };
        let repo = Repo::init(&dir.path().join("repo.git"), &options).unwrap();
        (dir, Braider::new(&repo, "a".to_owned()))
    }

    #[test]
    fn heads_that_come_do_not_let_a_braid_begin_anew() {
        let (_dir, mut braider) = alone();
        for tries in 1..=limits::BRAID_TRIES {
            let name = format!("b{tries}");
            braider.learn(BTreeMap::from([(name, Oid::null(HashKind::Sha1))]));
            braider.overtaken();
            assert_eq!(braider.overtaken, tries);
        }
        braider.done();
        assert_eq!(braider.overtaken, 0);
    }

    #[test]
    fn heads_that_cannot_be_braided_are_told_of_until_a_braid_is_done() {
        let (_dir, mut braider) = alone();
        let head = Oid::null(HashKind::Sha1);
        braider.learn(BTreeMap::from([("b".to_owned(), head)]));
        assert!(braider.unbraided().is_empty());
        braider.refuse("it is damaged");
        let told = braider.unbraided();
        assert!(told["b"].ends_with("it is damaged"), "{told:?}");
        // It is left alone, and still told of.
        assert!(!braider.is_due(None).unwrap());
        assert_eq!(braider.unbraided(), told);
        braider.done();
        assert!(braider.unbraided().is_empty());
    }
}
