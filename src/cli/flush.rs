//! `mailbraid flush STORE [--peers]`.

use std::path::Path;

use super::{Failure, control, open_repo};
use crate::store::{Layout, Lock};

/// Waits until all that was acknowledged is committed, and with `peers` until all peers that can be reached have it.
pub fn run(store: &Path, peers: bool) -> Result<(), Failure> {
    let request = if peers { "flush peers" } else { "flush" };
    open_repo(store)?;
    let layout = Layout::new(store);
    loop {
        if control::ask(&layout.control(), request)?.is_some() {
            return Ok(());
        }
        let socket = layout.control();
        if control::wait_released(&layout, || control::is_served(&socket)) {
            // Not mounted: a stop has committed all, or the next mount will.
            if peers {
                return Err(format!(
                    "{}: only a mounted store speaks with its peers; mount it",
                    store.display()
                ));
            }
            return Ok(());
        }
        if !control::is_served(&socket) {
            let pid = Lock::holder(&layout).unwrap_or_default();
            return Err(format!(
                "{}: process {pid} holds the store and does not answer; see its log",
                store.display()
            ));
        }
    }
}
