//! Packs from peers: fetched, which is what their refs name and we lack, over a connection that the caller has opened; or pushed by them.
//!
//! Rules:
//! - A fetch's connection speaks protocol V1, where the server names its refs at once: one exchange less than V2.
//! - What breaks off, is damaged, or was pushed and is incomplete, nobody ever sees ([`super::incoming`]). A fetched pack is not asked whether it is complete, but nor is it ever
//!   removed; whoever uses what its refs name reads all of it first.
//! - No ref is touched: what came has to be checked first. Until then the pack has a `.keep`, which goes with [`Received`].
//! - The git library syncs nothing. Pack and index are synced before anybody can see them, and the directory before anybody can refer to what they hold.
//! - A peer may claim any size for an object. Memory is taken up to [`crate::limits::OBJECT_MAX`], not more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead;
use std::sync::atomic::AtomicBool;

use gix_protocol::fetch::{self, RefMap, Shallow, Tags, negotiate, refmap};
use gix_transport::client::blocking_io::Transport;

use super::hash::{from_gix, gix_kind, to_gix};
use super::incoming::Incoming;
use super::pack::install;
use super::{HistoryError, Repo, durable};
use crate::maildir::Oid;

/// What a fetch or a push brought. The pack is protected from `git gc` until this is dropped.
#[derive(Debug, Default)]
pub struct Received {
    /// The refs that were asked for, as the server has them.
    pub refs: BTreeMap<String, Oid>,
    /// Objects of the pack; 0 where we had all.
    pub objects: u32,
    _keep: Option<install::Keep>,
}

impl Received {
    pub(super) fn new(objects: u32, keep: Option<install::Keep>) -> Self {
        Self {
            refs: BTreeMap::new(),
            objects,
            _keep: keep,
        }
    }
}

impl Repo {
    /// Fetches what the server's refs need, of those that `wanted` picks by their full names. All objects are durable when it returns.
    ///
    /// # Errors
    /// [`HistoryError::Git`] where the connection breaks or the pack is damaged, I/O errors.
    pub fn fetch<T: Transport>(
        &self,
        transport: &mut T,
        handshake: &mut gix_protocol::Handshake,
        wanted: &dyn Fn(&str) -> bool,
        interrupt: &AtomicBool,
    ) -> Result<Received, HistoryError> {
        let mut refs = BTreeMap::new();
        let mut mappings = Vec::new();
        for advertised in handshake.refs.iter().flatten() {
            let (name, id, _) = advertised.unpack();
            let (Ok(name), Some(id)) = (std::str::from_utf8(name), id) else {
                continue;
            };
            if id.kind() == gix_kind(self.kind()) && wanted(name) {
                refs.insert(name.to_owned(), from_gix(id));
                mappings.push(refmap::Mapping {
                    remote: refmap::Source::Ref(advertised.clone()),
                    local: None,
                    spec_index: refmap::SpecIndex::ExplicitInRemote(0),
                });
            }
        }
        let mut git = self.git();
        // These look at the disk, so that what peers pushed meanwhile is known; the look-ups that follow do not.
        for id in refs.values() {
            let _ = git.has_object(to_gix(*id));
        }
        git.objects.refresh_never();
        let map = RefMap {
            mappings,
            object_hash: gix_kind(self.kind()),
            ..RefMap::default()
        };
        let mut graph = git.revision_graph(None);
        let mut bargain = Bargain {
            git: &git,
            map: &map,
            graph: &mut graph,
            negotiator: gix::negotiate::Algorithm::Consecutive.into_negotiator(),
        };
        let mut taken = None;
        let outcome = gix_protocol::fetch(
            &mut bargain,
            |pack, progress, interrupt| {
                let pack = Incoming::take(self, pack, progress, interrupt);
                taken = Some(pack.map_err(gix::Error::from_error)?);
                Ok(true)
            },
            gix::progress::Discard,
            interrupt,
            fetch::Context {
                handshake,
                transport,
                user_agent: (
                    "agent",
                    Some(concat!("mailbraid/", env!("CARGO_PKG_VERSION")).to_owned()),
                ),
                trace_packetlines: false,
            },
            fetch::Options {
                shallow_file: git.shallow_file().map_err(HistoryError::git("fetch"))?,
                shallow: &Shallow::NoChange,
                tags: Tags::None,
                reject_shallow_remote: true,
            },
        );
        let outcome = outcome.map_err(HistoryError::git_in("the fetch failed", self.path()))?;
        if outcome.is_none() {
            // Nothing was asked for, and the server waits for a word. If it does not hear it, it will notice that we are gone.
            let _ = gix_protocol::indicate_end_of_interaction(transport, false);
        }
        let mut received = match taken {
            Some(pack) => pack.admit()?,
            None => Received::default(),
        };
        received.refs = refs;
        Ok(received)
    }

    /// Takes a pack that a peer pushes, which may be thin. Nobody sees it before [`Incoming::admit`].
    ///
    /// # Errors
    /// [`HistoryError::Git`] where it breaks off, is damaged, or lacks the base of a delta; I/O errors.
    pub fn take_pack(&self, pack: &mut dyn BufRead) -> Result<Incoming, HistoryError> {
        let never = AtomicBool::new(false);
        Incoming::take(self, pack, &mut gix::progress::Discard, &never)
    }

    /// Makes packs durable that other processes (`git receive-pack`) have put here since the last call with the same `known`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn sync_packs(
        &self,
        known: &mut std::collections::HashSet<std::ffi::OsString>,
    ) -> Result<(), HistoryError> {
        let dir = self.pack_dir();
        let listing = std::fs::read_dir(&dir).map_err(HistoryError::io("list", &dir))?;
        let mut present = std::collections::HashSet::new();
        let mut any = false;
        for entry in listing {
            let entry = entry.map_err(HistoryError::io("list", &dir))?;
            let name = entry.file_name();
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|ext| ext == "pack" || ext == "idx")
            {
                if !known.contains(&name) {
                    match File::open(&path).and_then(|file| file.sync_all()) {
                        Ok(()) => any = true,
                        // Merged away meanwhile, into a pack that is synced.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(HistoryError::io("sync", &path)(error)),
                    }
                }
                present.insert(name);
            }
        }
        if any {
            durable::sync_dir(&dir)?;
        }
        *known = present;
        Ok(())
    }
}

/// What both sides have and need: git's own algorithm, over the refs of this repository.
struct Bargain<'a, 'b> {
    git: &'a gix::Repository,
    map: &'a RefMap,
    graph: &'a mut gix::negotiate::Graph<'b, 'b>,
    negotiator: Box<dyn gix::negotiate::Negotiator>,
}

impl fetch::Negotiate for Bargain<'_, '_> {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<negotiate::Action> {
        negotiate::mark_complete_and_common_ref(
            &self.git.objects,
            &self.git.refs,
            || Ok(std::iter::empty::<(gix::refs::file::Store, gix::OdbHandle)>()),
            &mut *self.negotiator,
            self.graph,
            self.map,
            &Shallow::NoChange,
            |_| false,
        )
    }

    fn add_wants(&mut self, arguments: &mut fetch::Arguments, known: &[bool]) -> bool {
        negotiate::add_wants(
            &self.git.objects,
            arguments,
            self.map,
            known,
            &Shallow::NoChange,
            |_| false,
        )
    }

    fn one_round(
        &mut self,
        state: &mut negotiate::one_round::State,
        arguments: &mut fetch::Arguments,
        previous: Option<&fetch::Response>,
    ) -> gix::Result<(negotiate::Round, bool)> {
        negotiate::one_round(
            &mut *self.negotiator,
            self.graph,
            state,
            arguments,
            previous,
        )
    }
}
