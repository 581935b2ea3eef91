//! What happens in the repository's refs and config: peers' pushes, an administrator's changes.
//!
//! The kernel tells (inotify, by `notify`), and every word of it has one answer: look at everything. So an overflow, a `git pack-refs`, a directory that
//! came too late to be watched cost a look, not a head; and a slow look at an interval finds what no word was said of.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, select};
use log::warn;
use notify::{EventKind, RecursiveMode, Watcher as _};

use super::Shared;
use crate::awake;
use crate::limits;

/// The thread's body.
pub(super) fn run(shared: &Arc<Shared>, stop: &Receiver<()>) {
    let (tell, told) = crossbeam_channel::bounded(1);
    let repo = shared.store.repo().path().to_owned();
    let refs = repo.join("refs");
    let watched = {
        let refs = refs.clone();
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters = match &event {
                Ok(event) => {
                    event.need_rescan()
                        || (!matches!(event.kind, EventKind::Access(_))
                            && event.paths.iter().any(|path| matters(&refs, path)))
                }
                Err(_) => true,
            };
            if matters {
                awake::touch();
                // Full: somebody is about to look anyway.
                let _ = tell.try_send(());
            }
        })
    };
    let watcher = watched.and_then(|mut watcher| {
        watcher.watch(&refs, RecursiveMode::Recursive)?;
        watcher.watch(&repo, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    if let Err(error) = &watcher {
        warn!(
            "the kernel does not watch {} ({error}): pushes are found at a look every {:?}; raise fs.inotify.max_user_instances",
            repo.display(),
            limits::REFS_LOOK
        );
    }
    let mut said = Vec::new();
    let mut progress = std::collections::BTreeMap::new();
    loop {
        // Peers first: a node that comes back to a long backlog pushes and fetches while it checks.
        shared.follow_config(&mut said);
        let moved = shared.heads.look();
        shared.call_back(&moved);
        shared.tell_progress(&mut progress);
        select! {
            recv(told) -> word => if word.is_err() {
                // No watcher.
                if stop.recv_timeout(limits::REFS_LOOK).is_ok() {
                    return;
                }
            },
            recv(stop) -> _ => return,
            default(limits::REFS_LOOK) => {}
        }
    }
}

/// Our own head moves all the time, and locks come and go.
fn matters(refs: &Path, path: &Path) -> bool {
    if path.extension().is_some_and(|ext| ext == "lock") {
        return false;
    }
    match path.strip_prefix(refs) {
        Ok(below) => below.starts_with("mailbraid"),
        Err(_) => path
            .file_name()
            .is_some_and(|name| name == "config" || name == "packed-refs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_commits_wake_nobody() {
        let refs = Path::new("/r/refs");
        for path in [
            "/r/refs/mailbraid/peers/b",
            "/r/refs/mailbraid",
            "/r/packed-refs",
            "/r/config",
        ] {
            assert!(matters(refs, Path::new(path)), "{path}");
        }
        for path in [
            "/r/refs/heads/mail",
            "/r/refs/mailbraid/peers/b.lock",
            "/r/config.lock",
            "/r/objects",
        ] {
            assert!(!matters(refs, Path::new(path)), "{path}");
        }
    }
}
