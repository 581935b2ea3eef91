//! Crashes: of the process, and of the power, on a simulated disk that forgets what was not synced, at every write of a run.

mod crash;
mod disk;
mod filesystem;
mod journal;
mod kill;
mod labels;
mod store;
