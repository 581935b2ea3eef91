//! How a command speaks to a running daemon: a Unix socket in the store, one request and one reply a connection.
//!
//! ```text
//! status                →  {"node":"a","head":…}      a JSON object on one line
//! flush                 →  {}                         once all acknowledged operations are committed
//! flush peers           →  {}                         … and pushed
//! anything that failed  →  {"error":"one line"}
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use log::warn;
use serde_json::{Value, json};

use crate::limits;
use crate::store::{Layout, Lock};

/// Answers one request.
pub type Handler = dyn Fn(&str) -> Result<Value, String> + Send + Sync;

/// Serves requests in a thread of its own until the process ends.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(path: &Path, handler: Box<Handler>) -> std::io::Result<()> {
    // The store's lock is ours, so whoever made it is gone.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    let handler: std::sync::Arc<Handler> = handler.into();
    std::thread::Builder::new()
        .name("mb-control".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let handler = std::sync::Arc::clone(&handler);
                // A flush may wait long; others are served meanwhile.
                let served = std::thread::Builder::new()
                    .name("mb-request".to_owned())
                    .spawn(move || answer(stream, &*handler));
                if let Err(error) = served {
                    warn!("control: {error}");
                }
            }
        })?;
    Ok(())
}

fn answer(mut stream: UnixStream, handler: &Handler) {
    let mut request = String::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let read = BufReader::new((&stream).take(limits::CONTROL_LINE)).read_line(&mut request);
    if read.is_err() {
        return;
    }
    let reply = handler(request.trim()).unwrap_or_else(|why| json!({ "error": why }));
    let _ = writeln!(stream, "{reply}");
}

/// Whether a daemon answers requests at this socket.
#[must_use]
pub fn is_served(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Waits until nobody holds a store any more: its daemon is stopping, or still starting. `false` as soon as the holder is `at_work`, or after
/// [`limits::HOLDER_WAIT`].
#[must_use]
pub fn wait_released(layout: &Layout, at_work: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limits::HOLDER_WAIT;
    while Lock::holder(layout).is_some() {
        if at_work() || Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(limits::HOLDER_POLL);
    }
    true
}

/// Asks the daemon of a store; `None` where none runs.
///
/// # Errors
/// What the daemon answered, in one line.
pub fn ask(path: &Path, request: &str) -> Result<Option<Value>, String> {
    let Ok(mut stream) = UnixStream::connect(path) else {
        return Ok(None);
    };
    let mut reply = String::new();
    let asked = writeln!(stream, "{request}").and_then(|()| stream.read_to_string(&mut reply));
    if let Err(error) = asked {
        return Err(format!("the daemon does not answer: {error}"));
    }
    let reply: Value = serde_json::from_str(reply.trim())
        .map_err(|_| "the daemon ended before it answered; see its log".to_owned())?;
    match reply.get("error").and_then(Value::as_str) {
        Some(why) => Err(why.to_owned()),
        None => Ok(Some(reply)),
    }
}
