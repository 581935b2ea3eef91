//! Whose turn it is to take the next request.
//!
//! The problem: the kernel gives each request to the thread that has waited longest. With four threads each request wakes another one, on whatever processor, with nothing of the mount in its
//! caches: a thousand messages were expunged at 30,000 a second, and at 43,000 by a mount of one thread. But one thread that reads from the disk or waits for a sync keeps
//! everybody waiting, and one that waits for something that only another request can end would wait for ever.
//!
//! So of the threads that serve, one takes requests (on large machines some, see [`most`]) and the others rest, and **who is about to wait calls another one first** ([`wait`]). Rules:
//!
//! - A thread rests only where another one takes requests: each is counted from the end of its first request on, and one that has served none waits in the kernel anyway.
//! - What waits under [`wait`] is what may take long: the disk, a sync, room in the journal. What is not under it must not wait for another request.
//! - A thread that ends, with the mount or by a panic, calls all that rest: each finds the end of the mount by itself, or serves on.
//! - Threads that serve no requests pass through [`wait`] as if it were not there.
//!
//! Rejected: one thread; a fixed pair, of which each wakes in turn (as slow as four); threads that rest in `poll` on the device, which each request would wake.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Threads that take turns.
#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
    called: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that wait for a request, or serve one without waiting.
    takers: usize,
    /// Threads that rest.
    resting: usize,
    /// Of these, how many are called and have not woken up yet. They count as takers.
    called: usize,
}

thread_local! {
    /// What this thread takes turns with, from its first request on.
    static OWN: RefCell<Option<Member>> = const { RefCell::new(None) };
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// A thread among others. Its end is the thread's.
struct Member(Arc<Turns>);

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.takers -= 1;
        state.takers += state.resting - state.called;
        state.called = state.resting;
        self.0.called.notify_all();
    }
}

/// How many threads take requests at once: one for four processors. One serves 100,000 requests a second and more.
#[must_use]
pub fn most() -> usize {
    thread::available_parallelism().map_or(1, |processors| (processors.get() / 4).max(1))
}

impl Turns {
    /// `most`: so many threads take requests at once.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            called: Condvar::new(),
            most,
        })
    }

    /// The calling thread has served a request. Returns when it is to take another one.
    pub fn served(self: &Arc<Self>) {
        let is_new = OWN.with_borrow(Option::is_none);
        let mut state = self.state.lock();
        if is_new {
            OWN.set(Some(Member(Arc::clone(self))));
            state.takers += 1;
        }
        if state.takers <= self.most || thread::panicking() {
            return;
        }
        state.takers -= 1;
        state.resting += 1;
        while state.called == 0 {
            self.called.wait(&mut state);
        }
        state.called -= 1;
        state.resting -= 1;
    }

    fn leave(&self) {
        let mut state = self.state.lock();
        state.takers -= 1;
        if state.takers < self.most && state.resting > state.called {
            state.called += 1;
            state.takers += 1;
            self.called.notify_one();
        }
    }
}

/// Does what may wait. Where the calling thread serves requests, another one takes the next request meanwhile.
pub fn wait<T>(what: impl FnOnce() -> T) -> T {
    let turns = OWN.with_borrow(|own| own.as_ref().map(|member| Arc::clone(&member.0)));
    match turns {
        Some(turns) if !WAITS.get() => {
            turns.leave();
            WAITS.set(true);
            let _back = Back(turns);
            what()
        }
        _ => what(),
    }
}

/// Counts the thread as a taker again, however its wait ends.
struct Back(Arc<Turns>);

impl Drop for Back {
    fn drop(&mut self) {
        WAITS.set(false);
        self.0.state.lock().takers += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread::ThreadId;

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    type Request = Box<dyn FnOnce() + Send>;

    /// Four threads that serve what is sent, as those of a mount do. They end with the sender.
    fn serving(most: usize) -> (Sender<Request>, Arc<Turns>, Vec<thread::JoinHandle<()>>) {
        let (kernel, requests): (_, Receiver<Request>) = unbounded();
        let turns = Turns::new(most);
        let threads = (0..4).map(|_| {
            let (requests, turns) = (requests.clone(), Arc::clone(&turns));
            thread::spawn(move || {
                for request in requests {
                    request();
                    turns.served();
                }
            })
        });
        let threads = threads.collect();
        (kernel, turns, threads)
    }

    /// Has a request served and says by whom.
    fn ask(kernel: &Sender<Request>) -> ThreadId {
        let (tell, told) = unbounded();
        kernel
            .send(Box::new(move || tell.send(thread::current().id()).unwrap()))
            .unwrap();
        told.recv().unwrap()
    }

    /// Until all but one rest; then who takes requests.
    fn settle(kernel: &Sender<Request>, turns: &Turns) -> ThreadId {
        loop {
            let taker = ask(kernel);
            if turns.state.lock().resting == 3 {
                return taker;
            }
        }
    }

    fn end(kernel: Sender<Request>, threads: Vec<thread::JoinHandle<()>>) -> usize {
        drop(kernel);
        threads
            .into_iter()
            .filter_map(|thread| thread.join().err())
            .count()
    }

    #[test]
    fn one_takes_all_requests_and_all_end_with_the_mount() {
        let (kernel, turns, threads) = serving(1);
        settle(&kernel, &turns);
        let takers: BTreeSet<_> = (0..100).map(|_| format!("{:?}", ask(&kernel))).collect();
        assert_eq!(takers.len(), 1);
        assert_eq!(end(kernel, threads), 0);
        let state = turns.state.lock();
        assert_eq!((state.takers, state.resting, state.called), (0, 0, 0));
    }

    #[test]
    fn whoever_waits_calls_another_one() {
        let (kernel, turns, threads) = serving(1);
        settle(&kernel, &turns);
        let mut gates = Vec::new();
        let (tell, told) = unbounded();
        // All four wait at last, each for a gate of its own.
        for _ in 0..4 {
            let (gate, opened) = unbounded::<()>();
            let tell = tell.clone();
            let request = move || {
                tell.send(thread::current().id()).unwrap();
                // One wait within another is one.
                wait(|| wait(|| opened.recv().unwrap_err()));
            };
            kernel.send(Box::new(request)).unwrap();
            gates.push(gate);
        }
        let waiting: Vec<_> = told.iter().take(4).collect();
        let different: BTreeSet<_> = waiting.iter().map(|id| format!("{id:?}")).collect();
        assert_eq!(different.len(), 4);
        gates.pop();
        ask(&kernel);
        gates.clear();
        settle(&kernel, &turns);
        assert_eq!(turns.state.lock().takers, 1);
        assert_eq!(end(kernel, threads), 0);
    }

    #[test]
    fn a_thread_that_panics_leaves_its_turn_to_others() {
        for waits in [false, true] {
            let (kernel, turns, threads) = serving(1);
            let taker = settle(&kernel, &turns);
            let request = move || {
                if waits {
                    wait(|| panic!("a test"));
                }
                panic!("a test")
            };
            kernel.send(Box::new(request)).unwrap();
            assert_ne!(ask(&kernel), taker);
            assert_eq!(end(kernel, threads), 1);
        }
    }

    #[test]
    fn on_large_machines_more_than_one_takes_requests() {
        let (kernel, turns, threads) = serving(2);
        while turns.state.lock().resting < 2 {
            ask(&kernel);
        }
        assert_eq!(turns.state.lock().takers, 2);
        assert_eq!(end(kernel, threads), 0);
    }

    #[test]
    fn who_serves_no_requests_just_waits() {
        assert_eq!(wait(|| 7), 7);
    }
}
