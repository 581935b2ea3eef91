//! Packs, written by ourselves: entries ([`encode`]), the index ([`index`]), deltas of trees ([`delta`]), and how a pack comes into the
//! repository ([`install`]).
//!
//! Formats: git's `gitformat-pack`, pack version 2 and index version 2.

pub(super) mod delta;
pub(super) mod encode;
pub(super) mod index;
pub(super) mod install;
