//! The hidden repository: what plain git says about it, and what it costs.

mod alike;
mod concurrent;
mod crash;
mod git_agrees;
mod reach;
mod size;
mod support;
