//! Processors that stay awake while clients are answered.
//!
//! The problem: a request wakes a thread that answers, and the answer wakes the client. Where the other's processor has gone to sleep meanwhile, that takes longer than all else: on a
//! virtual machine of two processors, which leaves to the host at once when it has nothing to do, a byte there and back between two processes took 85 µs, and 5 µs with processors
//! that wait awake; a delivery is seven such requests and a sync, whose interrupt wakes one too. Bare metal has the same in its deeper states, some tens of microseconds.
//!
//! So the kernel is asked to keep them awake, by its interface for that: whoever holds `/dev/cpu_dma_latency` open may write there how many microseconds a processor may take to wake up
//! (`Documentation/power/pm_qos_interface.rst`). At 0 an idle processor waits in a loop for what comes, and is there for others as before. Rules:
//!
//! - **It lasts as long as requests come**, and [`limits::AWAKE_REST`] beyond: a mount that is not used costs nothing, and one that is asked now and then next to nothing. The kernel takes it back
//!   by itself when the process ends, however it ends.
//! - What comes is a request of the kernel, or a head to send to a peer or to take from one: a client at the other end waits for those.
//! - It says that it is there by one atomic addition. Who turns it on and off is a thread of its own, for the kernel's answer to that takes some microseconds too.
//! - Where the device is not there or not for us (a mount by a user), all is as it would be without.
//!
//! Rejected: threads that look for the next request for a while before they sleep. That spares one of two awakenings, and the client's is left; it had no effect in any bench.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};

use log::warn;

use crate::limits;

/// The kernel's interface.
pub const DEVICE: &str = "/dev/cpu_dma_latency";

/// Processors may take no time to wake up: they stay awake.
const NONE: i32 = 0;
/// They may take what they like: the kernel's own default (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`), in microseconds.
const ANY: i32 = 2_000_000_000;

/// This process's own, once there is one.
static OWN: OnceLock<Awake> = OnceLock::new();

/// From now on this process keeps processors awake for what it is [told](touch) of.
///
/// # Errors
/// Where the device is not there or not for this user, or no thread can be started.
pub fn begin() -> io::Result<()> {
    let _ = OWN.set(Awake::start(Path::new(DEVICE))?);
    Ok(())
}

/// A request came, or something that a client may wait for; more is likely to come at once. Nothing happens in a process that has not [begun](begin).
pub fn touch() {
    if let Some(awake) = OWN.get() {
        awake.touch();
    }
}

/// Keeps processors awake as long as it is touched again and again.
struct Awake {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    /// Counts what came.
    touched: AtomicU64,
    /// The thread has something to do, or is told that it has.
    on: AtomicBool,
    stop: AtomicBool,
}

impl Awake {
    /// Opens the device and starts the thread, which ends with this.
    fn start(device: &Path) -> io::Result<Self> {
        let device = OpenOptions::new().write(true).open(device)?;
        let shared = Arc::new(Shared::default());
        let running = thread::Builder::new().name("mb-awake".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                if let Err(error) = shared.run(device) {
                    warn!("{DEVICE}: {error}; processors sleep between requests from now on");
                }
            }
        })?;
        let thread = running.thread().clone();
        Ok(Self { shared, thread })
    }

    /// Something came, and more is likely to come at once.
    fn touch(&self) {
        // In one order with what `run` does before it rests: one of the two sees the other.
        self.shared.touched.fetch_add(1, Ordering::SeqCst);
        if !self.shared.on.load(Ordering::SeqCst) && !self.shared.on.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self, mut device: File) -> io::Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            if !self.on.load(Ordering::SeqCst) {
                thread::park();
                continue;
            }
            device.write_all(&NONE.to_ne_bytes())?;
            let last = self.wait_for_rest();
            device.write_all(&ANY.to_ne_bytes())?;
            self.on.store(false, Ordering::SeqCst);
            if self.touched.load(Ordering::SeqCst) != last {
                self.on.store(true, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    /// Returns what was counted when nothing has come for [`limits::AWAKE_REST`].
    fn wait_for_rest(&self) -> u64 {
        let mut before = self.touched.load(Ordering::SeqCst);
        loop {
            thread::sleep(limits::AWAKE_REST);
            let now = self.touched.load(Ordering::SeqCst);
            if now == before || self.stop.load(Ordering::SeqCst) {
                return now;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// What was written to a file in the device's place.
    fn written(device: &Path) -> Vec<i32> {
        let bytes = std::fs::read(device).unwrap();
        let (words, []) = bytes.as_chunks() else {
            panic!("{bytes:?}");
        };
        words.iter().map(|word| i32::from_ne_bytes(*word)).collect()
    }

    fn wait_for(device: &Path, wanted: &[i32]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while written(device) != wanted {
            assert!(Instant::now() < deadline, "{:?}", written(device));
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn processors_are_kept_awake_from_the_first_touch_until_nothing_comes() {
        let device = tempfile::NamedTempFile::new().unwrap();
        let awake = Awake::start(device.path()).unwrap();
        thread::sleep(4 * limits::AWAKE_REST);
        assert!(written(device.path()).is_empty(), "nobody has come");
        awake.touch();
        wait_for(device.path(), &[NONE, ANY]);
        awake.touch();
        wait_for(device.path(), &[NONE, ANY, NONE, ANY]);
    }

    #[test]
    fn they_stay_awake_while_more_comes() {
        let device = tempfile::NamedTempFile::new().unwrap();
        let awake = Awake::start(device.path()).unwrap();
        let mut touched = Instant::now();
        let end = touched + 20 * limits::AWAKE_REST;
        // Where this thread had to wait for a processor, it is right to have stopped.
        let mut stops = 0;
        while Instant::now() < end {
            stops += usize::from(touched.elapsed() >= limits::AWAKE_REST);
            touched = Instant::now();
            awake.touch();
            assert!(written(device.path()).len() <= 1 + 2 * stops);
        }
    }

    #[test]
    fn without_the_device_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Awake::start(&dir.path().join("none"));
        assert_eq!(missing.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
