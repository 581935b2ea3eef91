//! `mailbraid status STORE [--json]`.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Failure, control, open_repo};
use crate::config::{self, Config};
use crate::history::Repo;
use crate::store::{JournalStatus, Layout, PeerStatus, Status, count_packs};

/// Shows the state of a store: the daemon's word, or where none runs what the disk says.
pub fn run(store: &Path, json: bool) -> Result<(), Failure> {
    let repo = open_repo(store)?;
    let layout = Layout::new(store);
    let status: Status = match control::ask(&layout.control(), "status")? {
        Some(value) => serde_json::from_value(value).map_err(|error| {
            format!("the daemon answers what this version does not know: {error}")
        })?,
        None => {
            let node = Config::read(&repo).map_err(|error| error.to_string())?.node;
            let head = repo.head().map_err(|error| error.to_string())?;
            let committed = crate::store::last_committed(&repo, head, &node)
                .map_err(|error| error.to_string())?;
            Status {
                node,
                head: head.map(|id| id.to_string()),
                mountpoint: None,
                poisoned: None,
                journal: JournalStatus {
                    acknowledged: committed,
                    committed,
                },
                packs: count_packs(&layout),
                waiting: None,
                peers: peers(&repo),
            }
        }
    };
    let mut out = std::io::stdout().lock();
    let shown = if json {
        let text = serde_json::to_string(&status).map_err(|error| error.to_string())?;
        writeln!(out, "{text}")
    } else {
        let mounted = status.mountpoint.as_deref().unwrap_or("not mounted");
        writeln!(
            out,
            "node       {}\nhead       {}\nmount      {mounted}\njournal    {} acknowledged, {} committed\npacks      {}",
            status.node,
            status.head.as_deref().unwrap_or("none yet"),
            status.journal.acknowledged,
            status.journal.committed,
            status.packs
        )
        .and_then(|()| match &status.poisoned {
            Some(why) => writeln!(out, "poisoned   {why}"),
            None => Ok(()),
        })
        .and_then(|()| match &status.waiting {
            Some(why) => writeln!(out, "waiting    {why}"),
            None => Ok(()),
        })
        .and_then(|()| status.peers.iter().try_for_each(|peer| show(&mut out, peer)))
    };
    shown.map_err(|error| error.to_string())
}

/// The peers of a store that is not mounted: who they are, and nothing more.
fn peers(repo: &Repo) -> Vec<PeerStatus> {
    let found = config::peers(repo).map(|(peers, _)| peers);
    let peers = found.unwrap_or_default().into_iter();
    peers
        .map(|peer| PeerStatus {
            name: peer.name,
            url: peer.url,
            lag: 0,
            last_contact: None,
            last_error: None,
            refused: None,
            doing: None,
        })
        .collect()
}

fn show(out: &mut impl Write, peer: &PeerStatus) -> io::Result<()> {
    let url = if peer.url.is_empty() {
        "calls us"
    } else {
        &peer.url
    };
    let behind = match peer.lag {
        0 => "level".to_owned(),
        1 => "1 commit behind".to_owned(),
        lag => format!("{lag} commits behind"),
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs() as i64;
    let contact = match peer.last_contact {
        Some(at) => format!("last contact {} s ago", (now - at).max(0)),
        None => "no contact yet".to_owned(),
    };
    writeln!(out, "peer       {} ({url}): {behind}, {contact}", peer.name)?;
    if let Some(doing) = &peer.doing {
        writeln!(out, "           {doing}")?;
    }
    if let Some(why) = &peer.last_error {
        writeln!(out, "           {why}")?;
    }
    if let Some(why) = &peer.refused {
        writeln!(out, "           {why}")?;
    }
    Ok(())
}
